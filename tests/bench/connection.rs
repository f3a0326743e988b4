//! One connection to a server, one question at a time, with as little work of its own as possible.
//!
//! The HTTP half is the same for every HTTP server, so that what differs is the server.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Larger than any answer we ask for in a hot loop, so that one read gets it whole.
const READ_BYTES: usize = 16 * 1024;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    /// PUTs carry `Prefer: respond-async`: answer before it is on disk.
    HttpAsync,
    Redis,
    /// HTTP, with keys and values in a JSON envelope.
    Etcd,
}

/// Where and how to reach a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
}

impl Endpoint {
    /// Appends the request that writes `value` to `path`.
    pub(crate) fn put_request(self, path: &str, value: &[u8], out: &mut Vec<u8>) {
        let (host, length) = (self.address, value.len());
        let written = match self.protocol {
            protocol @ (Protocol::Http | Protocol::HttpAsync) => {
                let prefer = match protocol {
                    Protocol::HttpAsync => "Prefer: respond-async\r\n",
                    _ => "",
                };
                let head = write!(
                    out,
                    "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
                     {prefer}Content-Length: {length}\r\n\r\n"
                );
                out.extend_from_slice(value);
                head
            }
            Protocol::Redis => {
                let path_bytes = path.len();
                let head = write!(out, "*3\r\n$3\r\nSET\r\n${path_bytes}\r\n{path}\r\n${length}\r\n");
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
                head
            }
            Protocol::Etcd => {
                let (key, value) = (STANDARD.encode(path), STANDARD.encode(value));
                let body = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
                let length = body.len();
                write!(
                    out,
                    "POST /v3/kv/put HTTP/1.1\r\nHost: {host}\r\n\
                     Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                )
            }
        };
        written.expect("writing to a Vec cannot fail");
    }
}

/// An open connection.
pub(crate) struct Connection {
    stream: TcpStream,
    endpoint: Endpoint,
    request: Vec<u8>,
    received: Vec<u8>,
    /// How much of `received` is filled.
    filled: usize,
    body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(endpoint: Endpoint) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(endpoint.address).await.context("could not connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, endpoint, request: Vec::with_capacity(1024), received: vec![0; READ_BYTES], filled: 0, body: Vec::with_capacity(1024) })
    }

    /// Reads the value at `path`.
    ///
    /// # Errors
    ///
    /// Anything but a value, an absent one included.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<&[u8]> {
        self.request.clear();
        match self.endpoint.protocol {
            Protocol::Http | Protocol::HttpAsync => {
                let host = self.endpoint.address;
                write!(self.request, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
            }
            Protocol::Redis => {
                write!(self.request, "*2\r\n$3\r\nGET\r\n${}\r\n{path}\r\n", path.len())?;
            }
            Protocol::Etcd => bail!("reading from etcd is not measured"),
        }
        self.ask().await.with_context(|| format!("GET {path}"))?;
        Ok(&self.body)
    }

    /// Writes `value` to `path` and waits for the answer.
    pub(crate) async fn put(&mut self, path: &str, value: &[u8]) -> anyhow::Result<()> {
        self.request.clear();
        self.endpoint.put_request(path, value, &mut self.request);
        self.ask().await.with_context(|| format!("PUT {path}"))
    }

    /// Sends `requests` that are ready in `bytes` and reads as many answers.
    pub(crate) async fn pipeline(&mut self, bytes: &[u8], requests: usize) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        for _ in 0..requests {
            self.answer().await?;
        }
        Ok(())
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.request).await?;
        self.answer().await
    }

    /// Reads one answer; its body is then in `self.body`.
    async fn answer(&mut self) -> anyhow::Result<()> {
        loop {
            let received = &self.received[..self.filled];
            let end = match self.endpoint.protocol {
                Protocol::Redis => redis_answer(received, &mut self.body)?,
                _ => http_answer(received, &mut self.body)?,
            };
            if let Some(end) = end {
                self.received.copy_within(end..self.filled, 0);
                self.filled -= end;
                return Ok(());
            }
            if self.filled == self.received.len() {
                self.received.resize(self.filled * 2, 0);
            }
            let count = self.stream.read(&mut self.received[self.filled..]).await?;
            ensure!(count > 0, "the server closed the connection");
            self.filled += count;
        }
    }
}

/// Takes one HTTP answer apart; `None` until all of it is there, else where it ends.
fn http_answer(received: &[u8], body: &mut Vec<u8>) -> anyhow::Result<Option<usize>> {
    let Some(head_end) = find(received, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, start) = (&received[..head_end], head_end + 4);
    let status = head.get(9..12).context("answer without a status")?;
    let (mut length, mut chunked) = (None, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if let Some(value) = header(line, b"content-length:") {
            length = Some(number(value, 10).context("bad Content-Length")?);
        } else if header(line, b"transfer-encoding:").is_some() {
            chunked = true;
        }
    }
    body.clear();
    let end = match length {
        _ if chunked => chunks(received, start, body)?,
        None if status == b"204" => Some(start),
        None => bail!("answer {} without a length", String::from_utf8_lossy(head)),
        Some(length) => {
            let whole = received.get(start..start + length);
            whole.map(|bytes| body.extend_from_slice(bytes)).map(|()| start + length)
        }
    };
    if end.is_some() && status[0] != b'2' {
        let (head, body) = (String::from_utf8_lossy(head), String::from_utf8_lossy(body));
        bail!("{}: {body}", head.lines().next().unwrap_or_default());
    }
    Ok(end)
}

/// Joins the chunks that begin at `at`; `None` until the last one is there.
fn chunks(received: &[u8], mut at: usize, body: &mut Vec<u8>) -> anyhow::Result<Option<usize>> {
    loop {
        let Some(line) = find(&received[at..], b"\r\n") else {
            return Ok(None);
        };
        let length = number(&received[at..at + line], 16).context("bad chunk length")?;
        let start = at + line + 2;
        let Some(chunk) = received.get(start..start + length + 2) else {
            return Ok(None);
        };
        body.extend_from_slice(&chunk[..length]);
        at = start + length + 2;
        if length == 0 {
            return Ok(Some(at));
        }
    }
}

/// Takes one Redis answer apart; `None` until all of it is there, else where it ends.
fn redis_answer(received: &[u8], body: &mut Vec<u8>) -> anyhow::Result<Option<usize>> {
    let Some(line) = find(received, b"\r\n") else {
        return Ok(None);
    };
    let start = line + 2;
    match received[0] {
        b'+' | b':' => Ok(Some(start)),
        b'$' if received.starts_with(b"$-1") => bail!("no such key"),
        b'$' => {
            let length = number(&received[1..line], 10).context("bad length")?;
            let Some(bytes) = received.get(start..start + length + 2) else {
                return Ok(None);
            };
            body.clear();
            body.extend_from_slice(&bytes[..length]);
            Ok(Some(start + length + 2))
        }
        _ => bail!("{}", String::from_utf8_lossy(&received[..line])),
    }
}

/// The value of a header line if it is the one named `name`, which ends with a colon.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, value) = line.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// A length in ASCII digits.
pub(crate) fn number(text: &[u8], radix: u32) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// Where `needle` first begins in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
