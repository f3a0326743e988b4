//! Values that are worked out and not stored, read and watched like others: what is stated about rights, `/.auth` of a
//! space; the inbox, `/.drop`; and every part of `/.sys` that is JSON.
//!
//! A watcher gets a snapshot, and then what differs whenever something changed that such values are made of. The version of
//! such a value is a tag of its content.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::select_all;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value as Serde, json};
use timebus_store::auth::Rights;
use timebus_store::grant::{Audience, Timelines};
use timebus_store::json::write_string;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use tokio::time::Instant;

use crate::accept::Mime;
use crate::authority::{Verb, is_statements};
use crate::body::Body;
use crate::patches::{self, UpdateBody, write_deleted, write_update};
use crate::peer::{Of, Peer};
use crate::problem::Problem;
use crate::read::{insert, multiresponse};
use crate::route::page_origin;
use crate::target::Query;
use crate::versions::print_versions;
use crate::watch::{Form, MORE, RECHECK, farewell, stream_form, write_event};
use crate::who::{Who, text};
use crate::words::{action_words, scope_path};

/// Places in which two values differ; with more of them, all is told again.
const EDITS_MAX: usize = 512;
/// Shortest time between two looks at one value, so that a busy store is not looked through for every change.
const PAUSE: Duration = Duration::from_millis(30);
/// Looking takes one part in so many of the time at most.
const SHARE: u32 = 10;

/// A value that is worked out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// What is stated about rights in a space, at a path that begins with `.auth`.
    Auth(Space, Path),
    /// Notices that were left here: all, or below the names of a sender and a slot.
    Drop(Vec<String>),
    /// A part of the system, by the names behind `.sys`.
    Sys(Vec<String>, Query),
}

impl Source {
    /// The value that is worked out at a path of a space, if one is.
    pub(crate) fn at(space: Space, path: &Path) -> Option<Self> {
        is_statements(path).then(|| Self::Auth(space, path.clone()))
    }

    /// The value that is worked out at a path outside of all spaces.
    pub(crate) fn beside(segments: &[String], query: &Query) -> Option<Self> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            ".sys" => Some(Self::Sys(rest.to_vec(), query.clone())),
            ".drop" => Some(Self::Drop(rest.to_vec())),
            _ => None,
        }
    }

    fn path(&self) -> String {
        let names = |names: &[String]| names.iter().map(|name| format!("/{name}")).collect::<String>();
        match self {
            Self::Auth(_, path) => path.to_string(),
            Self::Drop(rest) => format!("/.drop{}", names(rest)),
            Self::Sys(rest, _) => format!("/.sys{}", names(rest)),
        }
    }

    /// What is there for somebody now; `None` where nothing is.
    ///
    /// # Errors
    ///
    /// He may not see it, or it cannot be worked out.
    pub(crate) async fn read(&self, peer: &Peer, who: &Who) -> Result<Option<Serde>, Problem> {
        match self {
            Self::Auth(space, path) => {
                who.may(peer, Verb::Read, &space.key, path)?;
                let mut value = peer.store().rights(&space.key).map_or(Serde::Null, |rights| statements(&rights));
                for segment in path.segments().iter().skip(1) {
                    let Segment::Name(name) = segment else { return Ok(None) };
                    let Some(below) = value.get_mut(&**name) else { return Ok(None) };
                    value = below.take();
                }
                Ok(Some(value))
            }
            Self::Drop(rest) => crate::drop::left(peer, who, rest).await,
            Self::Sys(rest, query) => {
                who.may_sys(peer, Verb::Read, rest)?;
                let (head, ()) = http::Request::new(()).into_parts();
                let response = match crate::sys::act(peer, who, &head, rest, query, &Bytes::new()).await {
                    Err(problem) if problem.status == StatusCode::NOT_FOUND && problem.kind == "absent" => return Ok(None),
                    response => response?,
                };
                if response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
                    let detail = format!("{} is not JSON", self.path());
                    return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "stream", "this cannot be watched", detail).with_fix("read it with a GET"));
                }
                let bytes = response.into_body().collect().await.map_err(|error| crate::sys::network::bad(error.to_string()))?.to_bytes();
                serde_json::from_slice(&bytes).map(Some).map_err(|error| crate::sys::network::bad(error.to_string()))
            }
        }
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

/// Whether a request is for a stream.
pub(crate) fn is_stream(head: &http::request::Parts) -> bool {
    let headers = &head.headers;
    head.method == Method::GET
        && (headers.contains_key("subscribe") || text(headers, header::ACCEPT).is_some_and(|accept| accept.starts_with("text/event-stream")))
}

/// Answers a GET or HEAD.
pub(crate) async fn get(peer: &Peer, who: &Who, source: &Source) -> Result<Response<Body>, Problem> {
    let value = source.read(peer, who).await?;
    let version = [tag(&value)];
    let absent = || Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", format!("nothing is at {}", source.path()));
    let value = value.ok_or_else(absent)?;
    let mut response = Response::new(Body::ready(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("accept-subscribe", HeaderValue::from_static("true"));
    insert(headers, "version", &print_versions(&version));
    Ok(response)
}

/// Answers a GET with a stream.
pub(crate) async fn subscribe(peer: &Peer, who: &Who, head: &http::request::Parts, source: Source) -> Result<Response<Body>, Problem> {
    let form = stream_form(&head.headers);
    let counted = page_origin(head).map(|origin| peer.count_origin(Of::Subscriptions, &origin)).transpose()?;
    let watch = Computed::start(peer, who, source, form).await?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform, no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    match form {
        Form::Events => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))),
        Form::Lines | Form::Watch(_) => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))),
        Form::Braid => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/http-history"));
            headers.insert("subscribe", HeaderValue::from_static("true"));
            *response.status_mut() = multiresponse();
        }
    }
    *response.body_mut() = Body::Stream(Box::pin(watch.stream())).holding(counted);
    Ok(response)
}

/// Somebody who watches such a value.
pub(crate) struct Computed {
    peer: Peer,
    who: Who,
    source: Source,
    form: Form,
    wakes: Vec<tokio::sync::watch::Receiver<u64>>,
    /// What was seen last, and whether the watcher was told yet.
    now: Option<Serde>,
    told: Told,
    /// Before this it is not looked again.
    rests_until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Now,
    /// That there is nothing more to come.
    End,
}

impl Computed {
    /// Begins; the first thing of the stream is a snapshot.
    ///
    /// # Errors
    ///
    /// The value cannot be read.
    pub(crate) async fn start(peer: &Peer, who: &Who, source: Source, form: Form) -> Result<Self, Problem> {
        let store = peer.store();
        let mut wakes = vec![store.restatements()];
        if !matches!(source, Source::Auth(..)) {
            wakes.extend([store.arrivals(), peer.inbox()?.changes()]);
            wakes.extend(peer.network().map(|network| network.changed()));
        }
        // What comes from here on wakes it.
        for wake in &mut wakes {
            wake.borrow_and_update();
        }
        let now = source.read(peer, who).await?;
        let rests_until = Instant::now() + PAUSE;
        Ok(Self { peer: peer.clone(), who: who.clone(), source, form, wakes, now, told: Told::Nothing, rests_until })
    }

    /// The snapshot, and then what is new whenever something is.
    pub(crate) fn stream(self) -> impl Stream<Item = Bytes> + Send {
        let stop = self.peer.stop.subscribe();
        futures_util::stream::unfold((self, stop), |(mut watch, mut stop)| async move {
            let news = tokio::select! {
                news = watch.news() => news?,
                _ = stop.wait_for(|stops| *stops) => return None,
            };
            Some((news, (watch, stop)))
        })
    }

    async fn news(&mut self) -> Option<Bytes> {
        match self.told {
            Told::Nothing => {
                self.told = Told::Now;
                let mut out = Vec::new();
                write_snapshot(self.form, &self.now, &mut out);
                if self.form != Form::Braid {
                    let version = [tag(&self.now)];
                    write_event(self.form, Some(&version[..]), &mut out, |out| {
                        out.extend_from_slice(format!("\"caught_up\":true,\"version\":[\"{}\"]", version[0]).as_bytes());
                    });
                }
                return Some(out.into());
            }
            Told::Now => {}
            Told::End => return None,
        }
        loop {
            let changes = select_all(self.wakes.iter_mut().map(|wake| Box::pin(wake.changed())));
            // Rights may also end by themselves.
            drop(tokio::time::timeout(RECHECK, changes).await);
            tokio::time::sleep_until(self.rests_until).await;
            for wake in &mut self.wakes {
                wake.borrow_and_update();
            }
            let begun = Instant::now();
            let read = self.source.read(&self.peer, &self.who).await;
            self.rests_until = Instant::now() + PAUSE.max(begun.elapsed() * SHARE);
            match read {
                Ok(value) if value == self.now => {}
                Ok(value) => {
                    let before = std::mem::replace(&mut self.now, value);
                    let mut out = Vec::new();
                    write_difference(self.form, &self.source.path(), &before, &self.now, &mut out);
                    return Some(out.into());
                }
                Err(problem) => {
                    self.told = Told::End;
                    let last = farewell(self.form, &problem);
                    return (!last.is_empty()).then_some(last);
                }
            }
        }
    }
}

/// Writes what leads from one value at a path to another.
fn write_difference(form: Form, path: &str, before: &Option<Serde>, now: &Option<Serde>, out: &mut Vec<u8>) {
    let mut edits = Vec::new();
    differ(&mut Vec::new(), before.as_ref(), now.as_ref(), &mut edits);
    if form == Form::Braid || edits.len() > EDITS_MAX {
        return write_snapshot(form, now, out);
    }
    let (version, parents) = ([tag(now)], [tag(before)]);
    let last = edits.len().saturating_sub(1);
    for (number, (steps, value)) in edits.into_iter().enumerate() {
        // Who goes on from here goes on behind the last of them.
        write_event(form, (number == last).then_some(&version[..]), out, |out| {
            out.extend_from_slice(if value.is_some() { b"\"put\":" } else { b"\"delete\":" });
            let below: String = steps.iter().map(|name| format!("/{name}")).collect();
            write_string(&format!("{path}{below}"), out);
            if steps.iter().any(|name| name.is_empty() || name.contains('/')) {
                out.extend_from_slice(format!(",\"at\":{}", json!(steps)).as_bytes());
            }
            if let Some(value) = value {
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(value.to_string().as_bytes());
            }
            out.extend_from_slice(format!(",\"version\":[\"{}\"],\"parents\":[\"{}\"]", version[0], parents[0]).as_bytes());
            if number < last {
                out.extend_from_slice(MORE);
            }
        });
    }
}

fn write_snapshot(form: Form, now: &Option<Serde>, out: &mut Vec<u8>) {
    let version = [tag(now)];
    match (form, now) {
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
        (form, now) => write_event(form, Some(&version[..]), out, |out| {
            out.extend_from_slice(b"\"snapshot\":");
            out.extend_from_slice(now.as_ref().unwrap_or(&Serde::Null).to_string().as_bytes());
            if now.is_none() {
                out.extend_from_slice(b",\"absent\":true");
            }
            out.extend_from_slice(format!(",\"version\":[\"{}\"]", version[0]).as_bytes());
        }),
    }
}

/// Puts and deletes that lead from one value to another: the names on the way to a place, and what is there then.
type Edit = (Vec<String>, Option<Serde>);

fn differ(steps: &mut Vec<String>, before: Option<&Serde>, after: Option<&Serde>, out: &mut Vec<Edit>) {
    match (before, after) {
        (Some(Serde::Object(before)), Some(Serde::Object(after))) => {
            let added = after.keys().filter(|name| !before.contains_key(*name));
            for name in before.keys().chain(added) {
                steps.push(name.clone());
                differ(steps, before.get(name), after.get(name), out);
                steps.pop();
            }
        }
        (before, after) if before == after => {}
        (_, after) => out.push((steps.clone(), after.cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_lead_from_one_value_to_the_other() {
        let mut edits = Vec::new();
        let (before, after) = (json!({"a": 1, "b": {"c": 2, "d": 3}, "e": []}), json!({"a": 1, "b": {"c": 4, "f": null}, "e": [1]}));
        differ(&mut Vec::new(), Some(&before), Some(&after), &mut edits);
        edits.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [(vec!["b", "c"], Some(json!(4))), (vec!["b", "d"], None), (vec!["b", "f"], Some(Serde::Null)), (vec!["e"], Some(json!([1])))];
        assert_eq!(edits, expected.map(|(steps, value)| (steps.into_iter().map(str::to_owned).collect(), value)));
    }
    fn told(form: Form, before: Option<Serde>, now: Option<Serde>) -> String {
        let mut out = Vec::new();
        write_difference(form, "/.drop", &before, &now, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn only_the_last_of_several_edits_completes_the_version() {
        let (before, now) = (Some(json!({"a": 1, "b/c": 2, "d": 3})), Some(json!({"a": 2, "b/c": 3})));
        let lines = told(Form::Lines, before.clone(), now.clone());
        let events: Vec<Serde> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let (version, parents) = (json!([tag(&now)]), json!([tag(&before)]));
        assert_eq!(
            events,
            [
                json!({"put": "/.drop/a", "value": 2, "version": version, "parents": parents, "more": true}),
                json!({"put": "/.drop/b/c", "at": ["b/c"], "value": 3, "version": version, "parents": parents, "more": true}),
                json!({"delete": "/.drop/d", "version": version, "parents": parents}),
            ]
        );
        // Who is cut off in between has to hear all of it again.
        let events = told(Form::Events, before, now.clone());
        assert_eq!(events.matches("id: ").count(), 1, "{events}");
        assert!(events.rsplit("\n\n").nth(1).is_some_and(|last| last.starts_with(&format!("id: {}\n", tag(&now)))), "{events}");
    }

    #[test]
    fn what_differs_much_or_has_gone_is_told_as_a_whole() {
        let many = |number: usize| Some((0..number).map(|name| (name.to_string(), json!(name))).collect::<Serde>());
        assert_eq!(told(Form::Lines, Some(json!({})), many(EDITS_MAX)).lines().count(), EDITS_MAX);
        let whole = told(Form::Lines, Some(json!({})), many(EDITS_MAX + 1));
        assert!(whole.starts_with("{\"snapshot\":{") && whole.lines().count() == 1, "{whole}");
        let mut out = Vec::new();
        write_snapshot(Form::Lines, &None, &mut out);
        let gone: Serde = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(gone, json!({"snapshot": null, "absent": true, "version": [tag(&None)]}));
    }
}
