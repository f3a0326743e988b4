//! Paths and versions as people type them.

use std::fmt;
use std::str::FromStr;

/// A path as typed, which can be written into a request.
///
/// Invariant: no empty, `.` or `..` segment, no control characters. Whether the peer likes it is another
/// question; it has the last word on lengths and list elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target(Vec<String>);

impl Target {
    /// The path of a child that has this name, in whatever characters.
    pub(crate) fn child(&self, name: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment(name));
        Self(segments)
    }

    /// As it stands in a request, percent-encoded.
    pub(crate) fn encoded(&self) -> String {
        if self.0.is_empty() {
            return "/".to_owned();
        }
        let mut out = String::new();
        for segment in &self.0 {
            out.push('/');
            out.push_str(&encode(segment));
        }
        out
    }

    /// Everything of the own space.
    pub(crate) fn root() -> Self {
        Self(Vec::new())
    }

    /// What follows a system prefix like `/.sys/log`: nothing for the root.
    pub(crate) fn below(&self, prefix: &str) -> String {
        match self.is_root() {
            true => prefix.to_owned(),
            false => format!("{prefix}{}", self.encoded()),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is everything of a space: the root, or `@alice` alone.
    pub(crate) fn is_whole(&self) -> bool {
        match self.0.as_slice() {
            [] => true,
            [first] => first.starts_with('@') && !first.starts_with("@@"),
            _ => false,
        }
    }

    /// The path inside its space, as events name it.
    pub(crate) fn in_space(&self) -> String {
        let is_space = self.0.first().is_some_and(|first| first.starts_with('@') && !first.starts_with("@@"));
        Self(self.0[usize::from(is_space)..].to_vec()).to_string()
    }

    /// The space that it names, as `@alice` or a key, and the path in it.
    pub(crate) fn split(&self) -> (Option<&str>, Self) {
        match self.0.split_first() {
            Some((first, rest)) if first.starts_with('@') && !first.starts_with("@@") => (Some(&first[1..]), Self(rest.to_vec())),
            _ => (None, self.clone()),
        }
    }

    /// The names that lead here from a path above; none if that is not above.
    pub(crate) fn names_below(&self, above: &Self) -> Vec<String> {
        let below = self.0.strip_prefix(above.0.as_slice()).unwrap_or_default();
        below.iter().map(|segment| if segment.starts_with("@@") { segment[1..].to_owned() } else { segment.clone() }).collect()
    }

    /// The last name, for file names. The root has none.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.last().map(String::as_str)
    }
}

/// A text as it stands in a segment or in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte.into()),
            b'-' | b'.' | b'_' | b'~' | b'@' | b'!' | b'$' | b'*' | b',' | b'(' | b')' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The text form of a name: one that begins with `@` gets a second one, or it would be a list element.
pub(crate) fn segment(name: &str) -> String {
    match name.starts_with('@') {
        true => format!("@{name}"),
        false => name.to_owned(),
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("this is a URL; give only its path, as in /notes/hi".into());
        }
        if text.contains("//") {
            return Err("a path has no empty segments; write one slash, as in /notes/hi".into());
        }
        let inner = text.strip_prefix('/').unwrap_or(text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.is_empty() {
            return match text.is_empty() {
                true => Err("a path looks like /notes/hi; the root is /".into()),
                false => Ok(Self(Vec::new())),
            };
        }
        let segments: Vec<String> = inner.split('/').map(str::to_owned).collect();
        for segment in &segments {
            if matches!(segment.as_str(), "." | "..") {
                return Err(format!("a path cannot contain {segment:?}: it always starts at the root"));
            }
            if let Some(c) = segment.chars().find(|c| c.is_control()) {
                return Err(format!("a path cannot contain {c:?}"));
            }
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_root() {
            true => f.write_str("/"),
            false => self.0.iter().try_for_each(|segment| write!(f, "/{segment}")),
        }
    }
}

/// Versions as typed: `a`, `a,b`, or as a header has them: `"a", "b"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions(Vec<String>);

impl Versions {
    pub(crate) fn new(versions: Vec<String>) -> Self {
        Self(versions)
    }

    /// Reads a header value; rubbish is no version.
    pub(crate) fn of_header(value: &str) -> Self {
        Self(serde_json::from_str(&format!("[{value}]")).unwrap_or_default())
    }

    /// As a header has them: JSON strings, in ASCII.
    pub(crate) fn header(&self) -> String {
        let quoted: Vec<String> = self.0.iter().map(|version| ascii_json(version)).collect();
        quoted.join(", ")
    }

    pub(crate) fn list(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Versions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('"') {
            return match serde_json::from_str(&format!("[{text}]")) {
                Ok(versions) => Ok(Self(versions)),
                Err(_) => Err("versions are quoted strings with commas between, or one without quotes".into()),
            };
        }
        let versions: Vec<String> = text.split(',').map(|version| version.trim().to_owned()).collect();
        match versions.iter().any(String::is_empty) {
            true => Err("a version is missing; `timebus log PATH` lists them".into()),
            false => Ok(Self(versions)),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// A JSON string in which everything outside ASCII is escaped, because headers are ASCII.
fn ascii_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn reads_paths_as_people_type_them() {
        for text in ["/notes/hi", "notes/hi", "/notes/hi/"] {
            assert_eq!(target(text).to_string(), "/notes/hi");
        }
        assert_eq!(target("/").to_string(), "/");
        assert!(target("/").is_root());
        for (text, is_whole) in [("/", true), ("@alice", true), ("/@alice", true), ("@alice/a", false), ("/@@alice", false), ("/a", false)] {
            assert_eq!(target(text).is_whole(), is_whole, "{text}");
        }
        assert_eq!(target("@alice/a b").encoded(), "/@alice/a%20b");
        for bad in ["", "//", "/a//b", "/a/../b", "/.", "/a\nb", "http://localhost:7007/a"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn encodes_what_requests_cannot_hold() {
        assert_eq!(target("/a b/100%/é?#").encoded(), "/a%20b/100%25/%C3%A9%3F%23");
        assert_eq!(target("/").encoded(), "/");
        assert_eq!(target("/").below("/.sys/log"), "/.sys/log");
        assert_eq!(target("/a").below("/.sys/log"), "/.sys/log/a");
    }

    #[test]
    fn names_that_begin_with_an_at_sign_are_escaped() {
        assert_eq!(target("/users").child("@alice").encoded(), "/users/@@alice");
        assert_eq!(target("/").child("a/b").encoded(), "/a%2Fb");
    }

    #[test]
    fn reads_and_writes_versions() {
        for text in ["a,b", "a, b", r#""a", "b""#] {
            let versions: Versions = text.parse().expect("versions");
            assert_eq!(versions.header(), r#""a", "b""#);
        }
        assert_eq!(Versions::of_header(r#""jos\u00e9-1""#).list(), ["josé-1"]);
        assert_eq!(Versions::new(vec!["josé-😀".into()]).header(), r#""jos\u00e9-\ud83d\ude00""#);
        assert!("a,,b".parse::<Versions>().is_err());
        assert!(r#""a" b"#.parse::<Versions>().is_err());
        assert!(Versions::of_header("").list().is_empty());
    }
}
