//! Media types, and the choice between them that a client's `Accept` asks for (RFC 9110 §12.5.1).
//!
//! A [`Mime`] is checked and normalised when it is made, so it can be written into a header even
//! if a stranger chose it.

use std::borrow::Cow;
use std::fmt;

/// Bytes of a media type with its parameters. The longest registered ones have about 80; this is
/// what a blob's header stores.
pub const MIME_BYTES_MAX: usize = 255;

/// Ranges read from one `Accept`; later ones are ignored. Browsers send up to 10.
const RANGES_MAX: usize = 64;

/// A media type: `text/plain; charset=utf-8`.
///
/// Invariant: ASCII without control characters; type, subtype and parameter names are lower case
/// tokens and not `*`; at most [`MIME_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mime {
    text: Cow<'static, str>,
    essence_bytes: usize,
}

/// The text is no media type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MimeError {
    /// Not `type/subtype` with `; name=value` behind it.
    #[error("not a media type, as in text/plain; charset=utf-8")]
    Syntax,
    /// More than [`MIME_BYTES_MAX`].
    #[error("media type has {bytes} bytes, more than {MIME_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl Mime {
    /// A value or subtree.
    pub const JSON: Self = Self::known("application/json");
    /// One path and value a line.
    pub const NDJSON: Self = Self::known("application/x-ndjson");
    /// Mergeable text.
    pub const TEXT: Self = Self::known("text/plain; charset=utf-8");
    /// The GUI.
    pub const HTML: Self = Self::known("text/html; charset=utf-8");
    /// A subscription for browsers.
    pub const EVENT_STREAM: Self = Self::known("text/event-stream");
    /// Raw signed changes.
    pub const OPS: Self = Self::known("application/timebus-ops");
    /// Bytes of unknown meaning.
    pub const BYTES: Self = Self::known("application/octet-stream");
    /// What went wrong.
    pub const PROBLEM: Self = Self::known("application/problem+json");

    const fn known(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let mut essence_bytes = 0;
        while essence_bytes < bytes.len() && bytes[essence_bytes] != b';' {
            essence_bytes += 1;
        }
        Self { text: Cow::Borrowed(text), essence_bytes }
    }

    /// Parses a `Content-Type` value and brings it to its one spelling.
    ///
    /// # Errors
    ///
    /// [`MimeError::Syntax`], also for `*/*`, and [`MimeError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, MimeError> {
        if text.len() > MIME_BYTES_MAX {
            return Err(MimeError::TooLong { bytes: text.len() });
        }
        let media = Media::parse(text).ok_or(MimeError::Syntax)?;
        if media.kind == "*" || media.subtype == "*" {
            return Err(MimeError::Syntax);
        }
        let mut out = format!("{}/{}", media.kind, media.subtype);
        let essence_bytes = out.len();
        for (name, value) in &media.parameters {
            out.push_str("; ");
            out.push_str(name);
            out.push('=');
            print_value(&mut out, value);
        }
        if out.len() > MIME_BYTES_MAX {
            return Err(MimeError::TooLong { bytes: out.len() });
        }
        Ok(Self { text: Cow::Owned(out), essence_bytes })
    }

    /// The header value.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The type without its parameters: `text/plain`.
    pub fn essence(&self) -> &str {
        self.text.get(..self.essence_bytes).unwrap_or(&self.text)
    }

    /// The value of a parameter, unquoted. The name is lower case.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let media = Media::parse(&self.text)?;
        let found = media.parameters.into_iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value)
    }
}

impl fmt::Display for Mime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Chooses among what we can send. `None` is 406.
///
/// The client's quality decides, then the more specific range, then our order. Without `Accept`, or
/// with one in which nothing can be read, the first offer wins.
pub fn negotiate<'a>(accept: Option<&str>, offers: &'a [Mime]) -> Option<&'a Mime> {
    let ranges: Vec<Range> = split_outside_quotes(accept.unwrap_or(""), ',').take(RANGES_MAX).filter_map(Range::parse).collect();
    if ranges.is_empty() {
        return offers.first();
    }
    let mut best: Option<(u16, usize, &Mime)> = None;
    for offer in offers {
        let Some(media) = Media::parse(&offer.text) else {
            continue;
        };
        // The most specific range speaks for the offer, so that `text/*, text/html;q=0` works.
        let rank = ranges.iter().filter_map(|range| Some((range.specificity(&media)?, range.quality))).max();
        let Some((specificity, quality)) = rank else {
            continue;
        };
        let better = best.is_none_or(|(q, s, _)| (quality, specificity) > (q, s));
        if quality > 0 && better {
            best = Some((quality, specificity, offer));
        }
    }
    best.map(|(_, _, offer)| offer)
}

/// One member of `Accept`.
struct Range {
    media: Media,
    /// Thousandths.
    quality: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut media = Media::parse(text)?;
        if media.kind == "*" && media.subtype != "*" {
            return None;
        }
        let mut quality = 1000;
        if let Some(at) = media.parameters.iter().position(|(name, _)| name == "q") {
            quality = parse_quality(&media.parameters[at].1)?;
            // What follows q are extensions that nobody ever defined.
            media.parameters.truncate(at);
        }
        Some(Self { media, quality })
    }

    /// How closely this range describes a type, or `None` if it does not.
    fn specificity(&self, offer: &Media) -> Option<usize> {
        let own = &self.media;
        let level = if own.kind == "*" {
            0
        } else if own.kind != offer.kind {
            return None;
        } else if own.subtype == "*" {
            1
        } else if own.subtype == offer.subtype {
            2
        } else {
            return None;
        };
        let all_match = own.parameters.iter().all(|(name, value)| offer.parameters.iter().any(|(n, v)| n == name && v.eq_ignore_ascii_case(value)));
        all_match.then_some(level + own.parameters.len())
    }
}

/// A media type or range, taken apart. Names are lower case, values unquoted.
struct Media {
    kind: String,
    subtype: String,
    parameters: Vec<(String, String)>,
}

impl Media {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = split_outside_quotes(text, ';').map(trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parameters = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            if !is_token(name) {
                return None;
            }
            let value = if is_token(value) { value.to_owned() } else { unquote(value)? };
            parameters.push((name.to_ascii_lowercase(), value));
        }
        Some(Self { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), parameters })
    }
}

/// Reads a quoted string of printable ASCII.
fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(next) = rest.next() {
        let plain = match next {
            '\\' => rest.next()?,
            '"' => return None,
            other => other,
        };
        if !matches!(plain, ' '..='~') {
            return None;
        }
        out.push(plain);
    }
    Some(out)
}

fn print_value(out: &mut String, value: &str) {
    if is_token(value) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for next in value.chars() {
        if next == '"' || next == '\\' {
            out.push('\\');
        }
        out.push(next);
    }
    out.push('"');
}

/// Reads `0`, `0.5`, `1.000` as thousandths.
fn parse_quality(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |next: char| {
        let separates = next == separator && !quoted;
        if escaped {
            escaped = false;
        } else if quoted && next == '\\' {
            escaped = true;
        } else if next == '"' {
            quoted = !quoted;
        }
        separates
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offers() -> Vec<Mime> {
        vec![Mime::JSON, Mime::NDJSON, Mime::TEXT, Mime::HTML, Mime::EVENT_STREAM, Mime::OPS, Mime::parse("image/png").expect("a media type")]
    }

    fn chosen(accept: &str) -> Option<String> {
        negotiate(Some(accept), &offers()).map(|mime| mime.essence().to_owned())
    }

    #[test]
    fn chooses_as_clients_expect() {
        let table = [
            ("*/*", "application/json"),
            ("", "application/json"),
            (",,", "application/json"),
            ("rubbish", "application/json"),
            ("application/json", "application/json"),
            ("APPLICATION/Json", "application/json"),
            ("application/x-ndjson, application/json;q=0.9", "application/x-ndjson"),
            ("application/json;q=0.9, application/x-ndjson", "application/x-ndjson"),
            ("text/event-stream", "text/event-stream"),
            ("application/timebus-ops", "application/timebus-ops"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html"),
            ("image/avif,image/webp,image/png,image/*;q=0.8,*/*;q=0.5", "image/png"),
            ("*/*, text/plain", "text/plain"),
            ("text/*", "text/plain"),
            ("text/*, text/plain;q=0", "text/html"),
            ("*/*;q=0.1, application/json;q=0", "application/x-ndjson"),
            ("text/plain;charset=UTF-8", "text/plain"),
            ("text/plain;charset=latin1, text/html;q=0.1", "text/html"),
            ("text/plain; x=\"a,b;q=0\", text/html;q=0.001", "text/html"),
            ("text/html;q=2, text/plain;q=0.1", "text/plain"),
            ("text/plain;q=0.5;ext=1, text/html;q=0.4", "text/plain"),
            ("*/html, text/plain", "text/plain"),
        ];
        for (accept, expected) in table {
            assert_eq!(chosen(accept).as_deref(), Some(expected), "{accept}");
        }
        assert_eq!(negotiate(None, &offers()), Some(&Mime::JSON));
    }

    #[test]
    fn refuses_when_nothing_fits() {
        assert_eq!(chosen("video/mp4"), None);
        assert_eq!(chosen("*/*;q=0"), None);
        assert_eq!(chosen("text/plain;format=flowed"), None);
        assert_eq!(negotiate(Some("*/*"), &[]), None);
        assert_eq!(negotiate(None, &[]), None);
    }

    #[test]
    fn normalises_media_types() {
        let table = [
            ("Text/PLAIN ;Charset=\"utf-8\"", "text/plain; charset=utf-8"),
            ("a/b;", "a/b"),
            ("a/b; x=\"1 2\"; y=\"\\\"\"", "a/b; x=\"1 2\"; y=\"\\\"\""),
            ("application/http-patches; count=2", "application/http-patches; count=2"),
        ];
        for (text, expected) in table {
            let mime = Mime::parse(text).expect(text);
            assert_eq!(mime.as_str(), expected);
            assert_eq!(Mime::parse(expected), Ok(mime));
        }
        let text = Mime::TEXT;
        assert_eq!(Mime::parse(text.as_str()), Ok(text.clone()));
        assert_eq!(text.essence(), "text/plain");
        assert_eq!(text.parameter("charset").as_deref(), Some("utf-8"));
        assert_eq!(text.parameter("q"), None);
    }

    #[test]
    fn refuses_what_is_no_media_type() {
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "*/*",
            "text/*",
            "a b/c",
            "a/b/c",
            "a/b; x",
            "a/b; =1",
            "a/b; x=",
            "a/b; x=\"",
            "a/b; x=\"a\"b\"",
            "a/b\r\nX: 1",
            "a/b; x=\"\r\n\"",
            "é/b",
        ] {
            assert_eq!(Mime::parse(bad), Err(MimeError::Syntax), "{bad:?}");
        }
        let long = format!("a/{}", "b".repeat(MIME_BYTES_MAX));
        assert_eq!(Mime::parse(&long), Err(MimeError::TooLong { bytes: 257 }));
    }

    proptest! {
        #[test]
        fn no_text_panics(accept in "([a-z*/,;=\"\\\\ q.01]|\\PC){0,60}") {
            let _ = negotiate(Some(&accept), &offers());
            if let Ok(mime) = Mime::parse(&accept) {
                prop_assert!(mime.as_str().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
                prop_assert_eq!(Mime::parse(mime.as_str()), Ok(mime));
            }
        }

        #[test]
        fn what_is_chosen_was_offered(
            accept in "((\\*|text|image)/(\\*|plain|png)(;q=0(\\.[0-9])?)?,){1,5}",
        ) {
            if let Some(mime) = negotiate(Some(&accept), &offers()) {
                prop_assert!(offers().contains(mime));
            }
        }
    }
}
