//! Where a peer can be called, as short texts: `192.168.1.7:7007`, `relay:https://relay.example/`, `wss://peer.example`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use iroh::RelayUrl;

/// Bytes of an address.
pub const ADDRESS_BYTES_MAX: usize = 128;

/// Where a peer can be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A UDP socket, where iroh listens.
    Direct(SocketAddr),
    /// A relay that the peer is at.
    Relay(RelayUrl),
    /// A websocket of the peer, at any path.
    Websocket(WebsocketAddress),
}

/// A host whose websocket is a peer's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebsocketAddress {
    is_tls: bool,
    /// Lower case, in brackets if it is an IPv6 address.
    host: Box<str>,
    port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nobody writes addresses of such a length.
    #[error("an address of {bytes} bytes; {ADDRESS_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is something else.
    #[error("{text:?} is no address; write 192.168.1.7:7007, relay:https://relay.example or wss://peer.example")]
    Unknown {
        /// The text.
        text: String,
    },
    /// Others could read along.
    #[error("{text:?} would send everything in the clear; write wss://, or ws:// for this machine alone")]
    InTheClear {
        /// The text.
        text: String,
    },
}

impl Address {
    /// Whether it can only be reached from the machine it is on.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Direct(address) => address.ip().to_canonical().is_loopback(),
            Self::Relay(url) => url.host_str().is_some_and(is_loopback_host),
            Self::Websocket(address) => is_loopback_host(&address.host),
        }
    }
}

impl WebsocketAddress {
    /// Whether there is TLS below the websocket.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host's name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the `Host` header says: the name, and the port if it is not the one of the scheme.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.is_tls { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    fn parse(text: &str, is_tls: bool, rest: &str) -> Result<Self, AddressError> {
        let unknown = || AddressError::Unknown { text: text.to_owned() };
        let authority = rest.strip_suffix('/').unwrap_or(rest).to_ascii_lowercase();
        let (host, port) = crate::host::split_port(&authority);
        if !crate::host::is_name(host) {
            return Err(unknown());
        }
        let port = match port {
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            // No sign and no leading zero, which u16 would take.
            Some(digits) if digits.starts_with(|first: char| ('1'..='9').contains(&first)) => digits.parse().map_err(|_| unknown())?,
            Some(_) => return Err(unknown()),
        };
        if !is_tls && !is_loopback_host(host) {
            return Err(AddressError::InTheClear { text: text.to_owned() });
        }
        Ok(Self { is_tls, host: host.into(), port })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong { bytes: text.len() });
        }
        let unknown = || AddressError::Unknown { text: text.to_owned() };
        if let Some(url) = text.strip_prefix("relay:") {
            let url: RelayUrl = url.parse().map_err(|_| unknown())?;
            let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
            let address = Self::Relay(url.clone());
            let is_good = is_plain && matches!(url.scheme(), "https" | "http") && url.has_host() && address.to_string().len() <= ADDRESS_BYTES_MAX;
            return if is_good { Ok(address) } else { Err(unknown()) };
        }
        if let Some(rest) = text.strip_prefix("wss://") {
            return WebsocketAddress::parse(text, true, rest).map(Self::Websocket);
        }
        if let Some(rest) = text.strip_prefix("ws://") {
            return WebsocketAddress::parse(text, false, rest).map(Self::Websocket);
        }
        let address: SocketAddr = text.parse().map_err(|_| unknown())?;
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() { Err(unknown()) } else { Ok(Self::Direct(address)) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => address.fmt(f),
            Self::Relay(url) => write!(f, "relay:{url}"),
            Self::Websocket(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for WebsocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "wss" } else { "ws" }, self.authority())
    }
}

/// Whether a host in a URL is this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "192.168.1.7:7007",
            "[2001:db8::1]:7007",
            "relay:https://relay.example/",
            "relay:http://127.0.0.1:3340/",
            "ws://localhost:7007",
            "ws://127.0.0.1",
            "ws://[::1]:7007",
            "wss://peer.example",
            "wss://peer.example:8443",
            "wss://[2001:db8::1]:8443",
        ] {
            let address: Address = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(address.to_string(), text);
        }
        for (text, canonical) in [
            ("wss://Peer.Example:443/", "wss://peer.example"),
            ("ws://localhost:80/", "ws://localhost"),
            ("relay:https://Relay.Example", "relay:https://relay.example/"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()).as_deref(), Ok(canonical));
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        let long = format!("wss://{}.example", "a".repeat(ADDRESS_BYTES_MAX));
        let long_when_written = format!("relay:https://relay.example/{}", "é".repeat(40));
        for text in [
            "",
            "192.168.1.7",
            "192.168.1.7:0",
            "0.0.0.0:7007",
            "224.0.0.251:5353",
            "peer.example:7007",
            "relay:",
            "relay:relay.example",
            "relay:ftp://relay.example",
            "relay:https://user@relay.example",
            "relay:https://relay.example/?a",
            "http://peer.example",
            "wss://",
            "wss://peer.example/path",
            "wss://user@peer.example",
            "wss://peer.example:0",
            "wss://peer.example:+1",
            "wss://peer.example:99999",
            "wss://peer.example?x",
            " wss://peer.example",
            &long,
            &long_when_written,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sends_nothing_in_the_clear_but_to_this_machine() {
        for text in ["ws://peer.example", "ws://192.168.1.7:7007", "ws://localhost.evil.example", "ws://127.0.0.2"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::InTheClear { text: text.to_owned() }));
        }
    }

    proptest! {
        #[test]
        fn what_it_accepts_it_writes_and_reads_again(text in "(relay:|wss?://|)(https://|http://|)[a-z0-9.:\\[\\]/@?-]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                let written = address.to_string();
                prop_assert!(written.len() <= ADDRESS_BYTES_MAX);
                prop_assert_eq!(written.parse::<Address>(), Ok(address));
            }
        }
    }
}
