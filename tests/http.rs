//! An HTTP/1.1 client that sends exactly what it is told to.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::peer::DEADLINE;

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    authority: String,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// Header fields in the order they came, names in lower case.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The value of a field; panics when it is there twice, which no field of ours may be.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let first = found.next();
        assert_eq!(found.next(), None, "{name} is there twice");
        first
    }

    /// A list of version ids, read as Braid clients do.
    pub(crate) fn versions(&self, name: &str) -> Option<Vec<String>> {
        self.one(name).map(parse_versions)
    }
}

/// Reads a version header as Braid clients do.
pub(crate) fn parse_versions(header: &str) -> Vec<String> {
    serde_json::from_str(&format!("[{header}]")).expect("JSON strings behind commas")
}

/// Writes a version header.
pub(crate) fn print_versions(ids: &[String]) -> String {
    let texts: Vec<String> = ids
        .iter()
        .map(|id| {
            let mut text = String::from('"');
            for unit in id.encode_utf16() {
                match char::from_u32(u32::from(unit)).filter(char::is_ascii) {
                    Some(c @ ('"' | '\\')) => text.extend(['\\', c]),
                    Some(c) if !c.is_control() => text.push(c),
                    _ => text.push_str(&format!("\\u{unit:04x}")),
                }
            }
            text + "\""
        })
        .collect();
    texts.join(", ")
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.one(name)
    }

    /// The `Version` of the answer.
    pub(crate) fn versions(&self) -> Vec<String> {
        self.headers.versions("version").unwrap_or_else(|| panic!("an answer with a version, not {self:?}"))
    }

    /// The same as a header value, to send it back.
    pub(crate) fn version(&self) -> &str {
        self.header("version").unwrap_or_else(|| panic!("an answer with a version, not {self:?}"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Demands the shape that all errors have; answers the body.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "no {member} in {body}");
        }
        assert_eq!(body["status"], status);
        body
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the peer listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self { stream: BufReader::new(stream), authority: address.to_string() }
    }

    /// The socket below, for what this client cannot say.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the peer reads");
    }

    /// Sends bytes to a peer that may have hung up already.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Sends a request without waiting. `Host` is added if no header says it, and `Content-Length` where it belongs.
    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut out = format!("{method} {target} HTTP/1.1\r\n");
        let says = |name: &str| headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        if !says("host") {
            out.push_str(&format!("Host: {}\r\n", self.authority));
        }
        for (name, value) in headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if !says("content-length") && (!body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH")) {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        let mut bytes = out.into_bytes();
        bytes.extend_from_slice(body);
        self.write(bytes);
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.ask(method, target, headers, body);
        self.answer(method == "HEAD").unwrap_or_else(|| panic!("no answer to {method} {target}"))
    }

    /// Reads one answer; `None` when the peer hung up before it.
    pub(crate) fn answer(&mut self, is_head: bool) -> Option<Answer> {
        let (status, reason, headers) = self.head()?;
        let mut body = Vec::new();
        if !is_head && status >= 200 && status != 204 && status != 304 {
            self.body(&headers).read_to_end(&mut body).expect("a whole body");
        }
        Some(Answer { status, reason, headers, body })
    }

    /// Reads the head of an answer; `None` when the peer hung up before it.
    pub(crate) fn head(&mut self) -> Option<(u16, String, Headers)> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let mut parts = line.trim_end().splitn(3, ' ');
        if parts.next() != Some("HTTP/1.1") && line.len() < 9 {
            return None;
        }
        let status = parts.next().and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
        let reason = parts.next().unwrap_or_default().to_owned();
        Some((status, reason, read_headers(&mut self.stream)))
    }

    /// The body behind a head that was just read.
    pub(crate) fn body(&mut self, headers: &Headers) -> Body<'_> {
        let left = if headers.one("transfer-encoding") == Some("chunked") {
            Left::Chunks { in_chunk: 0, first: true }
        } else {
            match headers.one("content-length") {
                Some(length) => Left::Bytes(length.parse().expect("a length")),
                None => Left::UntilClose,
            }
        };
        Body { stream: &mut self.stream, left }
    }

    /// Sends a request and answers its head and the body as it comes, which owns the connection.
    pub(crate) fn stream(mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, Headers, BufReader<OwnedBody>) {
        self.ask(method, target, headers, "");
        let (status, _, headers) = self.head().expect("an answer");
        let left = self.body(&headers).left;
        (status, headers, BufReader::new(OwnedBody { stream: self.stream, left }))
    }

    /// All that comes until the peer hangs up or stays silent until the timeout of the socket; whether it hung up.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return (bytes, true),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return (bytes, false),
                Err(_) => return (bytes, true),
            }
        }
    }
}

/// Reads header fields up to the empty line.
pub(crate) fn read_headers(stream: &mut impl std::io::BufRead) -> Headers {
    let mut headers = Headers::default();
    loop {
        let mut line = String::new();
        // A connection that breaks here leaves a head without an end; what is missing shows in what is asked of it.
        let _ = stream.read_line(&mut line);
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return headers;
        }
        let Some((name, value)) = line.split_once(':') else { return headers };
        headers.0.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks { in_chunk: u64, first: bool },
    UntilClose,
}

/// A body as it comes.
pub(crate) struct Body<'a> {
    stream: &'a mut BufReader<TcpStream>,
    left: Left,
}

/// A body as it comes, with its connection.
pub(crate) struct OwnedBody {
    stream: BufReader<TcpStream>,
    left: Left,
}

impl Read for Body<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        read_body(self.stream, &mut self.left, out)
    }
}

impl OwnedBody {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl Read for OwnedBody {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        read_body(&mut self.stream, &mut self.left, out)
    }
}

fn read_body(stream: &mut BufReader<TcpStream>, left: &mut Left, out: &mut [u8]) -> std::io::Result<usize> {
    let left = match left {
        Left::UntilClose => return stream.read(out),
        Left::Bytes(left) => left,
        Left::Chunks { in_chunk, first } => {
            if *in_chunk == 0 {
                let mut line = String::new();
                if !std::mem::take(first) {
                    stream.read_line(&mut line)?;
                    line.clear();
                }
                stream.read_line(&mut line)?;
                if line.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                *in_chunk = u64::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
                if *in_chunk == 0 {
                    stream.read_line(&mut line)?;
                }
            }
            in_chunk
        }
    };
    if *left == 0 {
        return Ok(0);
    }
    let room = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    let count = stream.read(&mut out[..room])?;
    if count == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    *left -= count as u64;
    Ok(count)
}

/// A path in a request target: what may stand there unescaped does.
pub(crate) fn encode(path: &str) -> String {
    escape(path, b"-._~/!$&'()*+,;=:")
}

/// One name in a request target, with as much escaped as can be.
pub(crate) fn encode_all(name: &str) -> String {
    escape(name, b"")
}

fn escape(text: &str, kept: &[u8]) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() || kept.contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
