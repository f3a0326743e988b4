//! What went wrong with a request, for people and for programs: `application/problem+json`
//! (RFC 9457).
//!
//! One shape for HTTP bodies and for the `error` of a websocket frame. `type` is a relative
//! reference: the peer that refused explains the kind under `/.sys/problems/`.

use http::StatusCode;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Members with a meaning of their own; an extra member cannot take their place.
const OWN_MEMBERS: [&str; 5] = ["type", "title", "status", "detail", "fix"];

/// A refusal, with what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The kind in a few words, the same every time.
    pub title: String,
    /// What happened this time.
    pub detail: String,
    /// What to do next, where there is something to do.
    pub fix: Option<String>,
    /// The kind for programs, as in `not-allowed`. Names are part of the interface.
    pub kind: &'static str,
    /// More members: the missing grant, the request to approve.
    pub extra: BTreeMap<String, Value>,
}

impl Problem {
    /// Makes a problem without a fix and without extra members.
    pub fn new(status: StatusCode, kind: &'static str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: detail.into(), fix: None, kind, extra: BTreeMap::new() }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds an extra member. The five standard names are taken and left out of the output.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }

    /// The body, in one line with a line feed behind it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = serde_json::to_vec(self).expect("strings and JSON values always serialise");
        body.push(b'\n');
        body
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format!("/.sys/problems/{}", self.kind))?;
        map.serialize_entry("title", &self.title)?;
        map.serialize_entry("status", &self.status.as_u16())?;
        map.serialize_entry("detail", &self.detail)?;
        if let Some(fix) = &self.fix {
            map.serialize_entry("fix", fix)?;
        }
        for (name, value) in &self.extra {
            if !OWN_MEMBERS.contains(&name.as_str()) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.title, self.detail)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_the_body_of_a_refusal() {
        let problem = Problem::new(StatusCode::FORBIDDEN, "not-allowed", "not allowed", "you may not write /notes")
            .with_fix("ask the owner for a grant")
            .with("grant", "write /notes")
            .with("status", 200);
        assert_eq!(
            String::from_utf8(problem.to_bytes()).as_deref(),
            Ok(concat!(
                r#"{"type":"/.sys/problems/not-allowed","title":"not allowed","status":403,"#,
                r#""detail":"you may not write /notes","fix":"ask the owner for a grant","#,
                r#""grant":"write /notes"}"#,
                "\n"
            ))
        );
        assert_eq!(problem.to_string(), "403 not allowed: you may not write /notes (ask the owner for a grant)");
    }

    #[test]
    fn leaves_out_an_absent_fix() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "absent", "absent", "nothing at /x");
        assert_eq!(problem.to_string(), "404 absent: nothing at /x");
        let json: Value = serde_json::from_slice(&problem.to_bytes()).expect("JSON");
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(4));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_json_object(title in ".*", detail in ".*", name in ".*") {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "malformed", title, detail.clone())
                .with(name, 1);
            let json: Value = serde_json::from_slice(&problem.to_bytes()).expect("JSON");
            prop_assert_eq!(&json["detail"], &Value::from(detail));
            prop_assert_eq!(&json["status"], 400);
        }
    }
}
