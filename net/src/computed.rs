//! Values that are worked out and not stored, read and watched like others: what is stated about rights, `/.auth` of a
//! space.
//!
//! A watcher gets a snapshot, and then what differs whenever rights are stated. The version of such a value is a tag of
//! its content.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value as Serde, json};
use timebus_store::auth::Rights;
use timebus_store::grant::{Audience, Timelines};
use timebus_store::json::write_string;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;

use crate::accept::Mime;
use crate::authority::{Verb, is_statements};
use crate::body::Body;
use crate::patches::{self, UpdateBody, write_deleted, write_update};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::read::{insert, multiresponse};
use crate::route::Ask;
use crate::versions::print_versions;
use crate::watch::{Form, RECHECK, stream_form, write_event};
use crate::who::Who;
use crate::words::{action_words, scope_path};

/// Places in which two values differ; with more of them, all is told again.
const EDITS_MAX: usize = 512;

/// A value that is worked out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// What is stated about rights in a space.
    Auth(Space),
}

impl Source {
    /// The value that is worked out at a path of a space, if one is.
    pub(crate) fn at(space: Space, path: &Path) -> Option<Self> {
        is_statements(path).then_some(Self::Auth(space))
    }

    /// Whether somebody may see it.
    pub(crate) fn may(&self, peer: &Peer, who: &Who, path: &Path) -> Result<(), Problem> {
        match self {
            Self::Auth(space) => who.may(peer, Verb::Read, &space.key, path),
        }
    }

    fn value(&self, peer: &Peer) -> Serde {
        match self {
            Self::Auth(space) => peer.store().rights(&space.key).map_or(Serde::Null, |rights| statements(&rights)),
        }
    }

    /// Names that lead to the value.
    fn depth(&self) -> usize {
        match self {
            Self::Auth(_) => 1,
        }
    }

    /// What is at a path; `None` where nothing is.
    pub(crate) fn read(&self, peer: &Peer, path: &Path) -> Option<Serde> {
        let mut value = self.value(peer);
        for segment in path.segments().iter().skip(self.depth()) {
            let Segment::Name(name) = segment else { return None };
            value = value.get_mut(&**name)?.take();
        }
        Some(value)
    }
}

/// What is stated about rights in a space.
pub(crate) fn statements(rights: &Rights) -> Serde {
    let mut grants = Map::new();
    for (id, held) in rights.grants() {
        let grant = &held.grant;
        let timelines = match &grant.timelines {
            Timelines::Main => json!("main"),
            Timelines::All => json!("all"),
            Timelines::Only(ids) => ids.iter().map(ToString::to_string).collect(),
        };
        let value = json!({
            "for": match &grant.audience { Audience::Anyone => "anyone".to_owned(), Audience::Key(key) => key.to_string() },
            "can": action_words(grant.actions),
            "path": scope_path(&grant.scope),
            "deep": grant.scope.deep,
            "timelines": timelines,
            "bytes_max": grant.bytes_max,
            "change_bytes_max": grant.change_bytes_max,
            "not_after_ms": grant.not_after_ms,
            "depth": grant.depth,
            "label": &*grant.label,
            "by": held.author.to_string(),
            "parent": held.parent.map(|parent| parent.to_string()),
            "time_ms": held.time_ms,
            "live": held.is_live(),
        });
        grants.insert(id.to_string(), value);
    }
    let mut revocations = Map::new();
    for one in rights.revocations() {
        let value = json!({
            "grant": one.revoke.grant.to_string(),
            "cascade": one.revoke.cascade,
            "keep": one.revoke.keep.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "by": one.author.to_string(),
            "issuer": one.issuer.map(|issuer| issuer.to_string()),
            "time_ms": one.time_ms,
            "effective": one.is_effective(),
        });
        revocations.insert(one.op.to_string(), value);
    }
    let mut roots = Map::new();
    for state in rights.root_states() {
        let value = json!({
            "key": state.root.to_string(),
            "first": state.from.is_none(),
            "guardians": state.plan.guardians.as_ref().map(|(needed, keys)| {
                json!({"needed": needed, "keys": keys.iter().map(ToString::to_string).collect::<Vec<_>>()})
            }),
            "prepared": state.plan.next.is_some(),
        });
        roots.insert(timebus_identity::z32::encode(&state.id), value);
    }
    let disputed: Vec<String> = rights.disputed().map(|state| state.root.to_string()).collect();
    json!({"root": rights.root().to_string(), "disputed": disputed, "roots": roots, "grants": grants, "revocations": revocations})
}

fn tag(value: &Option<Serde>) -> String {
    let text = value.as_ref().map(ToString::to_string).unwrap_or_default();
    timebus_store::writer::version_tag(&[text])
}

/// Answers a GET or HEAD.
pub(crate) fn get(ask: &Ask, source: &Source) -> Result<Response<Body>, Problem> {
    source.may(&ask.peer, &ask.who, &ask.path)?;
    let value = source.read(&ask.peer, &ask.path);
    answer(&ask.path, value)
}

fn answer(path: &Path, value: Option<Serde>) -> Result<Response<Body>, Problem> {
    let version = [tag(&value)];
    let value = value.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", format!("nothing is at {path}")))?;
    let mut response = Response::new(Body::ready(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("accept-subscribe", HeaderValue::from_static("true"));
    insert(headers, "version", &print_versions(&version));
    Ok(response)
}

/// Answers a GET with a stream.
pub(crate) fn subscribe(ask: &Ask, source: Source) -> Result<Response<Body>, Problem> {
    let form = stream_form(&ask.head.headers);
    let watch = Computed::start(&ask.peer, &ask.who, source, ask.path.clone(), form)?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform, no-store"));
    match form {
        Form::Events => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))),
        Form::Lines | Form::Watch(_) => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))),
        Form::Braid => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/http-history"));
            headers.insert("subscribe", HeaderValue::from_static("true"));
            *response.status_mut() = multiresponse();
        }
    }
    let stopped = ask.peer.stop.subscribe();
    let changed = ask.peer.store().restatements();
    let stream = futures_util::stream::unfold((watch, stopped, changed, false), move |(mut watch, mut stopped, mut changed, is_over)| async move {
        loop {
            if is_over || *stopped.borrow() {
                return None;
            }
            changed.borrow_and_update();
            match watch.take() {
                Ok(Some(bytes)) => return Some((bytes, (watch, stopped, changed, false))),
                Ok(None) => {}
                Err(problem) => {
                    let farewell = watch.farewell(&problem);
                    return (!farewell.is_empty()).then_some((farewell, (watch, stopped, changed, true)));
                }
            }
            let changes = async { drop(tokio::time::timeout(RECHECK, changed.changed()).await) };
            tokio::select! {
                () = changes => {}
                _ = stopped.changed() => {}
            }
        }
    });
    *response.body_mut() = Body::Stream(Box::pin(stream));
    Ok(response)
}

/// Somebody who watches such a value.
pub(crate) struct Computed {
    peer: Peer,
    who: Who,
    source: Source,
    path: Path,
    form: Form,
    /// What was told last.
    told: Option<Option<Serde>>,
}

impl Computed {
    /// Begins; the first thing to take is a snapshot.
    pub(crate) fn start(peer: &Peer, who: &Who, source: Source, path: Path, form: Form) -> Result<Self, Problem> {
        source.may(peer, who, &path)?;
        Ok(Self { peer: peer.clone(), who: who.clone(), source, path, form, told: None })
    }

    /// What a watcher is told last.
    pub(crate) fn farewell(&self, problem: &Problem) -> Bytes {
        crate::watch::farewell(self.form, problem)
    }

    /// What is new, if anything is.
    ///
    /// # Errors
    ///
    /// Why there is nothing more to come.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, Problem> {
        self.source.may(&self.peer, &self.who, &self.path)?;
        let now = self.source.read(&self.peer, &self.path);
        let mut out = Vec::new();
        match &self.told {
            Some(told) if *told == now => return Ok(None),
            Some(told) => {
                let mut edits = Vec::new();
                differ(&self.path.to_string(), told.as_ref(), now.as_ref(), &mut edits);
                if self.form == Form::Braid || edits.len() > EDITS_MAX {
                    self.snapshot(&now, &mut out);
                } else {
                    let version = [tag(&now)];
                    let parents = [tag(told)];
                    for (path, value) in edits {
                        write_event(self.form, Some(&version[..]), &mut out, |out| {
                            out.extend_from_slice(if value.is_some() { b"\"put\":" } else { b"\"delete\":" });
                            write_string(&path, out);
                            if let Some(value) = value {
                                out.extend_from_slice(b",\"value\":");
                                out.extend_from_slice(value.to_string().as_bytes());
                            }
                            out.extend_from_slice(format!(",\"version\":[\"{}\"],\"parents\":[\"{}\"]", version[0], parents[0]).as_bytes());
                        });
                    }
                }
            }
            None => {
                self.snapshot(&now, &mut out);
                if self.form != Form::Braid {
                    let version = [tag(&now)];
                    write_event(self.form, Some(&version[..]), &mut out, |out| {
                        out.extend_from_slice(format!("\"caught_up\":true,\"version\":[\"{}\"]", version[0]).as_bytes());
                    });
                }
            }
        }
        self.told = Some(now);
        Ok(Some(out.into()))
    }

    fn snapshot(&self, now: &Option<Serde>, out: &mut Vec<u8>) {
        let version = [tag(now)];
        match (self.form, now) {
            (Form::Braid, Some(value)) => write_update(
                out,
                &patches::Update {
                    version: &version,
                    parents: &[],
                    repr_sha256: None,
                    body: UpdateBody::Snapshot { content_type: &Mime::JSON, content: value.to_string().as_bytes() },
                },
            ),
            (Form::Braid, None) => write_deleted(out, &version, &[], b"null"),
            (form, _) => write_event(form, Some(&version[..]), out, |out| {
                out.extend_from_slice(b"\"snapshot\":");
                out.extend_from_slice(now.as_ref().unwrap_or(&Serde::Null).to_string().as_bytes());
                if now.is_none() {
                    out.extend_from_slice(b",\"absent\":true");
                }
                out.extend_from_slice(format!(",\"version\":[\"{}\"]", version[0]).as_bytes());
            }),
        }
    }
}

/// Puts and deletes that lead from one value to another.
fn differ(path: &str, before: Option<&Serde>, after: Option<&Serde>, out: &mut Vec<(String, Option<Serde>)>) {
    match (before, after) {
        (Some(Serde::Object(before)), Some(Serde::Object(after))) => {
            let path = path.trim_end_matches('/');
            for (name, old) in before {
                differ(&format!("{path}/{name}"), Some(old), after.get(name), out);
            }
            for (name, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                out.push((format!("{path}/{name}"), Some(new.clone())));
            }
        }
        (before, after) if before == after => {}
        (_, after) => out.push((path.to_owned(), after.cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_lead_from_one_value_to_the_other() {
        let mut edits = Vec::new();
        let (before, after) = (json!({"a": 1, "b": {"c": 2, "d": 3}, "e": []}), json!({"a": 1, "b": {"c": 4, "f": null}, "e": [1]}));
        differ("/.auth", Some(&before), Some(&after), &mut edits);
        edits.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [("/.auth/b/c", Some(json!(4))), ("/.auth/b/d", None), ("/.auth/b/f", Some(Serde::Null)), ("/.auth/e", Some(json!([1])))];
        assert_eq!(edits, expected.map(|(path, value)| (path.to_owned(), value)));
    }
}
