//! Which `Host` values are ours.
//!
//! A web page can point its own name at 127.0.0.1 and talk to us as if we were its server (DNS
//! rebinding). What it cannot do is make a browser send one of our names in `Host`. So the
//! authority is compared, byte for byte and with its port, to a short list before anything else
//! happens; everything else is 421 (threats.md H1).
//!
//! Deliberately not: normalising. Upper case, trailing dots and other spellings of an address are
//! names that browsers do not send for our links, so they are not ours. That there is exactly one
//! `Host` header and that an absolute-form target is refused is checked by the server.

/// Bytes of a DNS name (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Bytes of a DNS label (RFC 1035 §2.3.4); a 52-character space key fits.
const LABEL_BYTES_MAX: usize = 63;

/// The authorities this peer answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostList {
    /// Full authorities of the root origin, port included where one is sent.
    roots: Vec<String>,
    /// What follows the label of an app origin: `.localhost:7007`.
    app_suffixes: Vec<String>,
    /// Whether names were configured, by which others reach this peer.
    is_reached: bool,
    is_local: bool,
}

/// Which kind of origin a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// The peer itself: API and GUI.
    Root,
    /// An app's or space's own origin: the label before `.localhost`.
    App(String),
}

/// Why a configured name cannot be a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a host name; write example.org, example.org:443 or [2001:db8::1]")]
pub struct HostNameError {
    /// What was configured.
    pub name: String,
}

impl HostList {
    /// Makes the list for a peer that listens on `port`.
    ///
    /// A configured name stands for itself with our port. A configured `name:port` is a public
    /// port, as of a reverse proxy; with port 80 or 443 the name without a port is ours too, since
    /// browsers leave those out. If `port` is 80, that holds for all names.
    ///
    /// # Errors
    ///
    /// [`HostNameError`] for a name that no `Host` header can carry.
    pub fn new(port: u16, configured: &[String]) -> Result<Self, HostNameError> {
        let mut list =
            Self { roots: Vec::new(), app_suffixes: vec![format!(".localhost:{port}")], is_reached: !configured.is_empty(), is_local: false };
        if port == 80 {
            list.app_suffixes.push(".localhost".to_owned());
        }
        for name in ["localhost", "127.0.0.1", "[::1]"] {
            list.add_root(name, port, port == 80);
        }
        for entry in configured {
            let name = entry.to_ascii_lowercase();
            let (name, public) = split_port(&name);
            let public = public.map(|digits| digits.parse::<u16>().ok().filter(|&port| port != 0));
            list.is_local |= name == "localhost";
            if !is_name(name) || public == Some(None) {
                return Err(HostNameError { name: entry.clone() });
            }
            match public.flatten() {
                Some(public) => list.add_root(name, public, public == 80 || public == 443),
                None => list.add_root(name, port, port == 80),
            }
        }
        Ok(list)
    }

    /// Says whether an authority is ours, and which origin it names. `None` is 421.
    pub fn check(&self, authority: &str) -> Option<HostKind> {
        if self.roots.iter().any(|root| root == authority) {
            return Some(HostKind::Root);
        }
        let label = self.app_suffixes.iter().find_map(|suffix| authority.strip_suffix(suffix.as_str()))?;
        is_label(label).then(|| HostKind::App(label.to_owned()))
    }

    /// Whether others reach this peer by a name, and so maybe through a proxy that speaks for all of them.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached
    }

    /// Whether who comes from elsewhere sits at this machine all the same, as where this is a container of it: its owner said that
    /// `localhost` is a name by which others reach it.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The same for a port that belongs to one app.
    pub fn check_app(authority: &str, port: u16, alias: &str) -> Option<HostKind> {
        let is_ours = ["localhost", "127.0.0.1"].iter().any(|name| authority == format!("{name}:{port}"));
        is_ours.then(|| HostKind::App(alias.to_owned()))
    }

    fn add_root(&mut self, name: &str, port: u16, port_is_left_out: bool) {
        self.roots.push(format!("{name}:{port}"));
        if port_is_left_out {
            self.roots.push(name.to_owned());
        }
    }
}

/// Splits `name:port`, leaving the colons of a bracketed IPv6 address alone.
pub(crate) fn split_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (entry, None),
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    if let Some(inner) = name.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(port: u16, configured: &[&str]) -> HostList {
        let configured: Vec<String> = configured.iter().map(|&name| name.into()).collect();
        HostList::new(port, &configured).expect("legal names")
    }

    #[test]
    fn answers_to_its_own_names() {
        let hosts = list(7007, &["Example.org", "pub.example:443", "[2001:db8::1]"]);
        for root in ["localhost:7007", "127.0.0.1:7007", "[::1]:7007", "example.org:7007", "pub.example:443", "pub.example", "[2001:db8::1]:7007"] {
            assert_eq!(hosts.check(root), Some(HostKind::Root), "{root}");
        }
        let space = "y".repeat(52);
        for app in ["chirp", "a-2", &space] {
            let kind = hosts.check(&format!("{app}.localhost:7007"));
            assert_eq!(kind, Some(HostKind::App(app.to_owned())));
        }
    }

    #[test]
    fn on_port_80_browsers_leave_the_port_out() {
        let hosts = list(80, &["example.org"]);
        for name in ["localhost", "localhost:80", "127.0.0.1", "[::1]", "example.org"] {
            assert_eq!(hosts.check(name), Some(HostKind::Root), "{name}");
        }
        assert_eq!(hosts.check("chirp.localhost"), Some(HostKind::App("chirp".into())));
        assert_eq!(hosts.check("localhost:7007"), None);
    }

    /// The table of threats.md H1.
    #[test]
    fn refuses_every_other_host() {
        let hosts = list(7007, &["example.org", "pub.example:443"]);
        let long_label = format!("{}.localhost:7007", "a".repeat(64));
        let bad = [
            "",
            ":7007",
            "evil.com",
            "evil.com:7007",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "example.org",
            "chirp.localhost",
            "localhost:",
            "localhost:7008",
            "localhost:80",
            "localhost:07007",
            "localhost:7007:7007",
            "localhost:+7007",
            "Localhost:7007",
            "LOCALHOST:7007",
            "Chirp.localhost:7007",
            "localhost.:7007",
            "chirp.localhost.:7007",
            "0.0.0.0:7007",
            "127.0.0.2:7007",
            "127.1:7007",
            "2130706433:7007",
            "0x7f000001:7007",
            "0177.0.0.1:7007",
            "192.168.0.1:7007",
            "[::]:7007",
            "[::ffff:127.0.0.1]:7007",
            "[0:0:0:0:0:0:0:1]:7007",
            "[::1%25lo]:7007",
            "::1:7007",
            "user@localhost:7007",
            "localhost:7007@evil.com",
            "evil.com#localhost:7007",
            "http://localhost:7007",
            "http://localhost:7007/",
            "localhost:7007/",
            "localhost:7007, localhost:7007",
            "localhost:7007,evil.com",
            " localhost:7007",
            "localhost:7007 ",
            "localhost:7007\0",
            "localhost\t:7007",
            ".localhost:7007",
            "-a.localhost:7007",
            "a-.localhost:7007",
            "a_b.localhost:7007",
            "a.b.localhost:7007",
            "*.localhost:7007",
            "xlocalhost:7007",
            "localhost.evil.com:7007",
            "evil.com.localhost:7007",
            "l%6fcalhost:7007",
            "locаlhost:7007", // a Cyrillic а
            "café.localhost:7007",
            "sub.example.org:7007",
            "pub.example:7007",
            &long_label,
        ];
        assert!(bad.len() >= 40);
        for authority in bad {
            assert_eq!(hosts.check(authority), None, "{authority:?}");
        }
    }

    #[test]
    fn refuses_configured_nonsense() {
        for name in ["", "*", "*.example.org", "a b", "x:0", "x:", "x:99999", "::1", "[::1", "é"] {
            assert!(HostList::new(7007, &[name.to_owned()]).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn only_listed_forms_pass(
            authority in "([a-c.:\\[\\]@-]|localhost|127\\.0\\.0\\.1|:7007){0,6}",
        ) {
            let hosts = list(7007, &[]);
            match hosts.check(&authority) {
                None => {}
                Some(HostKind::Root) => prop_assert!(
                    ["localhost:7007", "127.0.0.1:7007", "[::1]:7007"].contains(&authority.as_str())
                ),
                Some(HostKind::App(label)) => {
                    prop_assert!(!label.contains('.'));
                    prop_assert_eq!(format!("{label}.localhost:7007"), authority);
                }
            }
        }
    }
}
