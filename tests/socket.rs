//! A websocket for one test.

use std::net::TcpStream;

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use crate::peer::{DEADLINE, Peer};

/// An open websocket.
pub(crate) struct Socket(pub(crate) WebSocket<TcpStream>);

impl Socket {
    /// Opens one as a program of the owner does.
    pub(crate) fn open(peer: &Peer) -> Self {
        Self::try_open(peer, &[]).unwrap_or_else(|status| panic!("the handshake was refused with {status}"))
    }

    /// Opens one with more headers; the status when it is refused.
    pub(crate) fn try_open(peer: &Peer, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        Self::handshake(peer, headers, TcpStream::connect(peer.address()).expect("the peer listens"))
    }

    /// Opens one that takes few bytes at once. The buffer has to be small before there is a connection: made
    /// smaller later it drops what is under way, and TCP needs minutes to say it again.
    pub(crate) fn open_small(peer: &Peer) -> Self {
        use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
        let small = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_recv_buffer_size(&small, 4096).expect("an option");
        connect(&small, &peer.address()).expect("the peer listens");
        Self::handshake(peer, &[], TcpStream::from(small)).unwrap_or_else(|status| panic!("the handshake was refused with {status}"))
    }

    fn handshake(peer: &Peer, headers: &[(&'static str, &str)], stream: TcpStream) -> Result<Self, u16> {
        let mut request = format!("ws://{}/", peer.authority()).into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        match client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    /// Sends a message.
    pub(crate) fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("the peer reads");
    }

    /// The next message; panics when the socket is closed.
    pub(crate) fn hear(&mut self) -> Value {
        self.try_hear().unwrap_or_else(|reason| panic!("the socket was closed: {reason}"))
    }

    /// The next message, or why there is none.
    pub(crate) fn try_hear(&mut self) -> Result<Value, String> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(frame)) => return Err(frame.map_or_else(String::new, |frame| frame.reason.to_string())),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Sends a message and answers the next one with the same id.
    pub(crate) fn request(&mut self, message: &Value) -> Value {
        self.say(message);
        loop {
            let heard = self.hear();
            if heard["id"] == message["id"] {
                return heard;
            }
        }
    }
}
