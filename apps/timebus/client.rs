//! An HTTP client for one peer: the one that runs on this home, or one inside this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, body::Incoming};
use hyper_util::rt::TokioIo;
use timebus_identity::SecretKey;
use timebus_net::peer::PeerConfig;
use timebus_net::signature::{RequestHead, content_digest, sign_request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Context;
use crate::failure::Failure;
use crate::home::Running;
use crate::peer::{Local, try_lock};
use crate::target::Versions;
use crate::value::{Json, items, member, text};

/// How long another process may hold the home, or a starting peer take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Largest answer that is read into memory as one piece; subtrees are streamed and may be larger.
const ANSWER_BYTES_MAX: usize = 1024 * 1024 * 1024;

pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Whether a home may be made by asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Reading from a home that is not there is a mistake.
    MustExist,
    /// Writing begins a new one.
    MayBegin,
}

/// A peer that requests can be sent to.
#[derive(Debug)]
pub(crate) struct Session {
    place: Place,
    proof: Proof,
    /// What request targets begin with: the persona that is asked.
    prefix: String,
}

/// How a client shows who asks.
#[derive(Clone, Debug)]
enum Proof {
    /// By whose socket it is.
    Socket,
    Token(HeaderValue),
    /// By a signature on every request.
    Key(Arc<SecretKey>),
}

#[derive(Debug)]
enum Place {
    Running(Running),
    Here(Local),
}

impl Session {
    /// Finds the running peer of the home, or opens the home in this process.
    pub(crate) async fn open(context: &Context, home: Home) -> anyhow::Result<Self> {
        if home == Home::MustExist && !context.home.exists() {
            let title = format!("there is no timebus home at {}", context.home.folder().display());
            let fix = format!("start one with `{}`, or name another with --home DIR", context.home.command("up"));
            return Err(Failure::refused(title).fix(fix).into());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = try_lock(&context.home)? {
                // Whoever wrote it is gone.
                context.home.clear_running();
                let local = Local::open(&context.home, lock, context.out, PeerConfig { apps: crate::builtin::APPS, ..PeerConfig::default() }).await?;
                return Self { place: Place::Here(local), proof: Proof::Socket, prefix: context.home.prefix() }.about(context).await;
            }
            let running = context.home.running();
            let refused = match running {
                Some(running) => match Self::running(context, &running, deadline).await {
                    Ok(session) => return session.about(context).await,
                    Err(error) => Some((running, error)),
                },
                None => None,
            };
            if Instant::now() > deadline {
                return Err(unreachable(context, refused).into());
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Connects to a peer that should be running, and makes sure that it answers.
    async fn running(context: &Context, running: &Running, deadline: Instant) -> anyhow::Result<Self> {
        let proof = match context.home.token()? {
            Some(token) => Proof::Token(HeaderValue::from_str(&format!("Bearer {}", token.text().as_str()))?),
            None => Proof::Socket,
        };
        let mut session = Self { place: Place::Running(running.clone()), proof, prefix: context.home.prefix() };
        let asked = async {
            let mut client = session.connect().await?;
            client.prefix.clear();
            client.send(Request::get("/.sys")).await?.bytes().await
        };
        match tokio::time::timeout_at(deadline.into(), asked).await {
            Ok(Ok(_)) => Ok(session),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(anyhow::anyhow!("it accepts connections but says nothing")),
        }
    }

    /// Makes sure that the persona is there which requests are about: what is none would be taken for somebody else, and
    /// looked for.
    async fn about(mut self, context: &Context) -> anyhow::Result<Self> {
        let Some(name) = context.home.persona().filter(|_| !self.prefix.is_empty()) else { return Ok(self) };
        let mut client = self.connect().await?;
        client.prefix.clear();
        let all = client.json(Request::get("/.sys/personas")).await?;
        drop(client);
        if items(&all, "personas").iter().any(|persona| text(persona, "name") == Some(name)) {
            return Ok(self);
        }
        self.close().await;
        let failure = match member(&all, "closed").and_then(|closed| text(closed, name)) {
            Some(why) => Failure::refused(format!("the persona {name} could not be opened")).detail(why),
            None => Failure::refused(format!("none of your personas is called {name}")),
        };
        Err(failure.fix("`timebus personas` shows those that you have; `timebus personas new NAME` makes one").into())
    }

    /// The running peer, if that is where requests go.
    pub(crate) fn is_running(&self) -> Option<&Running> {
        match &self.place {
            Place::Running(running) => Some(running),
            Place::Here(_) => None,
        }
    }

    /// One more session with the peer, where one runs: a store that was opened for this one is its alone.
    pub(crate) fn another(&self) -> Option<Self> {
        let running = self.is_running()?.clone();
        Some(Self { place: Place::Running(running), proof: self.proof.clone(), prefix: self.prefix.clone() })
    }

    /// One more connection. Requests on one connection follow each other.
    pub(crate) async fn connect(&mut self) -> anyhow::Result<Client> {
        let proof = self.proof.clone();
        let client = match &mut self.place {
            Place::Here(local) => Client::over(local.connect(), "localhost", proof).await,
            Place::Running(running) => {
                let stream = TcpStream::connect(running.authority()).await.map_err(|error| gone().detail(error))?;
                stream.set_nodelay(true)?;
                // A name that every peer answers to, whatever address it listens on.
                let port = running.authority().rsplit(':').next().unwrap_or_default();
                Client::over(stream, &format!("localhost:{port}"), proof).await
            }
        };
        client.map(|client| Client { prefix: self.prefix.clone(), ..client })
    }

    /// Closes a store that was opened for it.
    pub(crate) async fn close(self) {
        if let Place::Here(local) = self.place {
            local.close().await;
        }
    }
}

/// A connection to a peer in this process.
pub(crate) async fn connect_here(local: &mut Local) -> anyhow::Result<Client> {
    Client::over(local.connect(), "localhost", Proof::Socket).await
}

/// Opens a session with one connection, which is what most verbs need.
pub(crate) async fn open(context: &Context, home: Home) -> anyhow::Result<(Session, Client)> {
    let mut session = Session::open(context, home).await?;
    let client = session.connect().await?;
    Ok((session, client))
}

/// Opens a session with the running peer. What concerns other peers, a command alone cannot do.
pub(crate) async fn open_running(context: &Context) -> anyhow::Result<(Session, Client)> {
    let stopped = || {
        let up = context.home.command("up");
        Failure::unreachable("no peer is running here, and only a running one talks to others")
            .fix(format!("`{up}` in another terminal, then try again"))
    };
    if !context.home.exists() || try_lock(&context.home)?.is_some() {
        return Err(stopped().into());
    }
    let (session, client) = open(context, Home::MustExist).await?;
    if session.is_running().is_none() {
        session.close().await;
        return Err(stopped().into());
    }
    Ok((session, client))
}

fn unreachable(context: &Context, refused: Option<(Running, anyhow::Error)>) -> Failure {
    let home = &context.home;
    match refused {
        Some((running, error)) => Failure::unreachable(format!("the peer of this home does not answer at {}", running.http))
            .detail(Failure::of(&error).detail.unwrap_or_else(|| error.to_string()))
            .fix(format!("`{}` looks into it; its process is {}", home.command("doctor"), running.pid)),
        None => Failure::unreachable(format!("{} is in use by another timebus", home.folder().display()))
            .fix("wait until that command has ended, then try again"),
    }
}

fn gone() -> Failure {
    Failure::unreachable("the peer went away").fix("try again; if it stays away, start it with `timebus up`")
}

/// A request to build.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// `target` is percent-encoded, and may carry a query.
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// The same by HEAD: what it would be answered with, without that.
    pub(crate) fn head(&self) -> Self {
        Self { method: Method::HEAD, body: Bytes::new(), ..self.clone() }
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self::new(Method::POST, target)
    }

    /// Adds a query parameter. The value has no characters that need encoding, or is encoded.
    pub(crate) fn query(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let mark = if self.target.contains('?') { '&' } else { '?' };
        self.target.push_str(&format!("{mark}{name}={value}"));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> anyhow::Result<Self> {
        let value = HeaderValue::from_str(value).with_context(|| format!("{value:?} cannot stand in a header"))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// Adds a header with versions, if there are any to add.
    pub(crate) fn versions(self, name: &'static str, versions: Option<&Versions>) -> anyhow::Result<Self> {
        match versions {
            Some(versions) => self.header(name, &versions.header()),
            None => Ok(self),
        }
    }

    pub(crate) fn body(mut self, mime: &str, body: impl Into<Bytes>) -> anyhow::Result<Self> {
        let value = HeaderValue::from_str(mime).with_context(|| format!("{mime:?} is no media type"))?;
        self.headers.insert(CONTENT_TYPE, value);
        self.body = body.into();
        Ok(self)
    }
}

/// One connection to a peer.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    proof: Proof,
    prefix: String,
}

impl Client {
    /// Connects to a peer anywhere, to ask with a key of one's own. `authority` is host and port.
    pub(crate) async fn with_key(authority: &str, key: &Arc<SecretKey>) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(authority).await.map_err(|error| Failure::unreachable(format!("{authority} does not answer")).detail(error))?;
        stream.set_nodelay(true)?;
        Self::over(stream, authority, Proof::Key(Arc::clone(key))).await
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: &str, proof: Proof) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(io)).await.map_err(|error| gone().detail(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the peer ended");
            }
        });
        Ok(Self { sender, host: HeaderValue::from_str(host)?, proof, prefix: String::new() })
    }

    /// Sends a request. An answer with an error status is a [`Failure`].
    pub(crate) async fn send(&mut self, request: Request) -> anyhow::Result<Answer> {
        let Request { method, target, headers, body } = request;
        let target = format!("{}{target}", self.prefix);
        let content = body.clone();
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().with_context(|| format!("{target} is no request target"))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(hyper::header::HOST, self.host.clone());
        match &self.proof {
            Proof::Socket => {}
            Proof::Token(token) => drop(request.headers_mut().insert(hyper::header::AUTHORIZATION, token.clone())),
            Proof::Key(key) => sign(&mut request, &content, key)?,
        }
        self.sender.ready().await.map_err(|error| gone().detail(error))?;
        let response = self.sender.send_request(request).await.map_err(|error| gone().detail(error))?;
        let (head, body) = response.into_parts();
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body };
        // 309 is how Braid says that a version is not known.
        match answer.status {
            200..300 => Ok(answer),
            status => Err(Failure::of_answer(status, &answer.bytes().await?).into()),
        }
    }

    /// Sends a request and reads the JSON that comes back.
    pub(crate) async fn json(&mut self, request: Request) -> anyhow::Result<Json> {
        let bytes = self.send(request).await?.bytes().await?;
        crate::value::parse(&bytes).context("the peer's answer is not JSON")
    }
}

/// Signs a request that has all its other headers. What never was is signed with it: two requests that are alike within
/// a second would have one signature, which is good only once.
fn sign(request: &mut hyper::Request<Full<Bytes>>, body: &[u8], key: &SecretKey) -> anyhow::Result<()> {
    let random = u128::from_le_bytes(timebus_identity::random_bytes());
    request.headers_mut().insert("request-id", HeaderValue::from_str(&format!("{random:032x}"))?);
    if !body.is_empty() {
        request.headers_mut().insert("content-digest", HeaderValue::from_str(&content_digest(body))?);
    }
    let now_s = i64::try_from(crate::clock::now_ms() / 1000)?;
    let headers = {
        let text = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        let authority = text("host").unwrap_or_default();
        let head = RequestHead {
            method: request.method().as_str(),
            scheme: "http",
            authority: &authority,
            path: request.uri().path(),
            query: request.uri().query(),
            has_body: !body.is_empty(),
            field: &text,
        };
        sign_request(&head, &["request-id"], key.public().as_bytes(), now_s, |base| *key.sign(base).as_bytes())?
    };
    request.headers_mut().insert("signature-input", HeaderValue::from_str(&headers.signature_input)?);
    request.headers_mut().insert("signature", HeaderValue::from_str(&headers.signature)?);
    Ok(())
}

/// An answer with a status of success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What it says about the version of the path.
    pub(crate) fn version(&self) -> Versions {
        Versions::of_header(self.header("version").unwrap_or_default())
    }

    /// Paths in conflict.
    pub(crate) fn conflicts(&self) -> u64 {
        self.header("conflicts").and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// The media type without parameters.
    pub(crate) fn mime(&self) -> &str {
        let mime = self.header("content-type").unwrap_or(JSON);
        mime.split(';').next().unwrap_or_default().trim()
    }

    /// Bytes that will come, if the peer says it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The next piece of the body.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => match frame.map_err(|error| gone().detail(error))?.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
            }
        }
    }

    /// The whole body.
    pub(crate) async fn bytes(mut self) -> anyhow::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Failure::refused("the answer is too large to be held in memory").fix("ask for a smaller subtree").into());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// The body line by line.
    pub(crate) fn lines(self) -> Lines {
        Lines { answer: self, buffer: Vec::new(), read: 0 }
    }
}

/// A body that comes in lines.
#[derive(Debug)]
pub(crate) struct Lines {
    answer: Answer,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out already.
    read: usize,
}

impl Lines {
    /// Whether everything that has come so far was handed out.
    pub(crate) fn is_drained(&self) -> bool {
        self.read == self.buffer.len()
    }

    /// The next line that is not empty, without its end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut searched = self.read;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer[self.read..searched + at].to_vec();
                self.read = searched + at + 1;
                searched = self.read;
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            searched = self.buffer.len();
            match self.answer.next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => {
                    let rest = std::mem::take(&mut self.buffer);
                    return Ok((!rest.trim_ascii().is_empty()).then_some(rest));
                }
            }
        }
    }
}
