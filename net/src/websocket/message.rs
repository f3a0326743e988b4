//! What a message says, member by member.

use std::collections::BTreeMap;

use http::StatusCode;
use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::op::{TEXT_EDITS_MAX, TextEdit};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;

use crate::authority::Verb;
use crate::computed::Source;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::route::{bad_path, locate, not_held};
use crate::target::{Query, SEGMENTS_MAX};
use crate::who::Who;
use crate::window::Window;

/// Members of a message that hold a path.
const VERBS: [&str; 9] = ["watch", "get", "put", "patch", "post", "text", "edit", "inc", "delete"];

/// Longest path of a value that is worked out, and of what goes with it; the longest path of a stored value has 1 024 bytes.
const SOURCE_BYTES_MAX: usize = 4096;

/// Members of a message that are not used yet.
pub(super) struct Fields(pub(super) BTreeMap<String, Json>);

impl Fields {
    pub(super) fn bytes(&self) -> u64 {
        let mut out = Vec::new();
        for (name, value) in &self.0 {
            out.extend_from_slice(name.as_bytes());
            value.write(&mut out);
        }
        out.len() as u64
    }

    pub(super) fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.get(name) {
            Some(Json::String(_)) => match self.0.remove(name) {
                Some(Json::String(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it begins a watch.
    pub(super) fn is_watch(&self) -> bool {
        self.0.contains_key("watch")
    }

    /// The key or petname of the space that the path of the message is in, if it names one.
    pub(super) fn space_named(&self) -> Option<String> {
        let path = VERBS.iter().find_map(|verb| if let Some(Json::String(path)) = self.0.get(*verb) { Some(path) } else { None })?;
        let name = path.strip_prefix("/@")?.split('/').next()?;
        (!name.starts_with('@') && !name.contains('.')).then(|| name.to_owned())
    }

    /// What a message wants to do in the space that it names, and at which path.
    pub(super) fn wanted(&self) -> Result<(Verb, Path), Problem> {
        let wanted = VERBS.iter().find_map(|verb| if let Some(Json::String(path)) = self.0.get(*verb) { Some((*verb, path.as_str())) } else { None });
        let (verb, path) = wanted.unwrap_or(("get", ""));
        let verb = if matches!(verb, "watch" | "get") { Verb::Read } else { Verb::Write };
        let names = path.split('/').skip(2).filter(|name| !name.is_empty());
        Ok((verb, Path::from_text_segments(names).map_err(|error| bad_path(&error))?))
    }

    /// The same message as the persona is asked it that the path begins with.
    pub(super) fn behind_space(mut self) -> Result<Self, Problem> {
        for verb in VERBS {
            if let Some(Json::String(path)) = self.0.get_mut(verb)
                && let Some(rest) = path.strip_prefix("/@")
            {
                *path = rest.find('/').map_or("/", |at| &rest[at..]).to_owned();
                let rest: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
                crate::personas::check(&rest)?;
            }
        }
        Ok(self)
    }

    /// The same message with the space named by its key.
    pub(super) fn with_key(mut self, key: &PublicKey) -> Self {
        for verb in VERBS {
            if let Some(Json::String(path)) = self.0.get_mut(verb)
                && let Some(rest) = path.strip_prefix("/@")
            {
                let rest = rest.find('/').map_or("", |at| &rest[at..]);
                *path = format!("/@{key}{rest}");
            }
        }
        self
    }

    /// The place that a message names, if the caller may do this there.
    pub(super) fn take_path(&mut self, name: &str, peer: &Peer, who: &Who, verb: Verb) -> Result<Option<(Space, Path)>, Problem> {
        let Some(text) = self.take_text(name) else { return Ok(None) };
        // `/@<key>/a` as in a request target, where names need escapes that there are none of here.
        let Some(segments) = text.strip_prefix('/') else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "path", "this is not a path", format!("{text:?} does not begin with a slash")));
        };
        let (space, path) = match segments.strip_suffix('/').unwrap_or(segments) {
            "" => (peer.space(), Path::root()),
            segments => locate(peer, segments.split('/'))?,
        };
        if let Err(problem) = who.may(peer, verb, &space, &path) {
            let around = crate::authority::around(peer, who, &space, &path).filter(|_| verb == Verb::Read);
            return around.map(|space| Some((space, path))).ok_or(problem);
        }
        let space = peer.store().held(&space).ok_or_else(|| not_held(&space.to_string()))?;
        Ok(Some((crate::remote::look(peer, space, &path)?, path)))
    }

    /// The value that is worked out which a message names, if it names one.
    pub(super) fn take_source(&mut self, name: &str, own: &PublicKey) -> Result<Option<Source>, Problem> {
        let Some(Json::String(text)) = self.0.get(name) else { return Ok(None) };
        // The own inbox by its whole name is the same one.
        let text = text.strip_prefix(&format!("/@{own}")).filter(|rest| rest.starts_with("/.drop")).unwrap_or(text);
        let Some(names) = text.strip_prefix("/.").map(|_| &text[1..]) else { return Ok(None) };
        // It is kept as long as the watch, and there may be many.
        let is_long = |member: &Json| matches!(member, Json::String(text) if text.len() > SOURCE_BYTES_MAX);
        if names.split('/').count() > SEGMENTS_MAX || self.0.values().any(is_long) {
            let detail = format!("a path has {SEGMENTS_MAX} names, and it and what goes with it {SOURCE_BYTES_MAX} bytes each");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "path", "this path is too long", detail));
        }
        let names: Vec<String> = names.strip_suffix('/').unwrap_or(names).split('/').map(str::to_owned).collect();
        if Source::beside(&names, &Query::default()).is_none() {
            return Ok(None);
        }
        self.0.remove(name);
        // A page goes on from a version after it lost the socket; of these it is told again what there is.
        self.0.remove("from");
        let query = Query {
            limit: self.take_count("limit")?,
            after: self.take_text("after"),
            who: self.take_text("who"),
            kind: self.take_text("kind"),
            ..Query::default()
        };
        Ok(Source::beside(&names, &query))
    }

    /// `[[position, taken out, put in], …]`.
    pub(super) fn take_edits(&mut self) -> Result<Vec<TextEdit>, Problem> {
        let bad = || {
            Problem::new(StatusCode::BAD_REQUEST, "message", "edits are malformed", "an edit is [position, characters taken out, \"what is put in\"]")
        };
        let Some(Json::Array(items)) = self.0.remove("edits") else { return Err(bad()) };
        if items.len() > TEXT_EDITS_MAX {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "too many edits", format!("{TEXT_EDITS_MAX} fit one message")));
        }
        let edit = |item| match item {
            Json::Array(parts) => match <[Json; 3]>::try_from(parts) {
                Ok([Json::Int(pos), Json::Int(del), Json::String(ins)]) if pos >= 0 && del >= 0 => {
                    Ok(TextEdit { pos: pos as u64, del: del as u64, ins: ins.into() })
                }
                _ => Err(bad()),
            },
            _ => Err(bad()),
        };
        items.into_iter().map(edit).collect()
    }

    pub(super) fn take_count(&mut self, name: &str) -> Result<Option<u32>, Problem> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Json::Int(count)) if u32::try_from(count).is_ok() => Ok(u32::try_from(count).ok()),
            Some(_) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "message", format!("{name} is malformed"), "it is a whole number, at most 4294967295"))
            }
        }
    }

    /// `depth`, `first`, `last`, `limit`, `after` and `before`, as in the query of a GET.
    pub(super) fn take_window(&mut self) -> Result<Option<Window>, Problem> {
        let query = Query {
            depth: self.take_count("depth")?,
            first: self.take_count("first")?,
            last: self.take_count("last")?,
            limit: self.take_count("limit")?,
            after: self.take_name("after")?,
            before: self.take_name("before")?,
            ..Query::default()
        };
        Ok(Window::of(&query))
    }

    /// The name of a member or, in a list, a place.
    fn take_name(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.get(name) {
            Some(Json::Int(_)) => Ok(self.take_count(name)?.map(|place| place.to_string())),
            _ => Ok(self.take_text(name)),
        }
    }

    pub(super) fn take_versions(&mut self, name: &str) -> Result<Option<Vec<String>>, Problem> {
        let bad = || Problem::new(StatusCode::BAD_REQUEST, "versions", format!("{name} is malformed"), "a version is a string or a list of strings");
        match self.0.remove(name) {
            None => Ok(None),
            Some(Json::String(version)) => Ok(Some(vec![version])),
            Some(Json::Array(items)) if items.len() <= crate::versions::IDS_MAX => items
                .into_iter()
                .map(|item| if let Json::String(version) = item { Ok(version) } else { Err(bad()) })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(bad()),
        }
    }

    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "message",
                "the message has a member that is not known",
                format!("{name:?} means nothing here"),
            )),
        }
    }
}
