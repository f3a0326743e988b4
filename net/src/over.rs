//! What this device might do in a space of somebody else, and may no more. What it may not read any more is here as it was before,
//! and looks like any other: so whoever reads it is told.

use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::auth::{Held, Hidden, Rights};
use timebus_store::grant::{Actions, Audience};
use timebus_store::ids::TimelineId;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;

use crate::body::Body;
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::sys::is_since;
use crate::who::now_ms;
use crate::words::day;

/// The header of answers that are of before: JSON in ASCII, as [`Over::told`] has it.
const HEADER: &str = "timebus-taken-back";

/// A right that this device had, and has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// Who took it back; nobody if it ended when it was to.
    by: Option<PublicKey>,
    /// Unix milliseconds when, as he said.
    at_ms: u64,
}

impl Over {
    /// That this device might read what is in a timeline.
    fn of_reading(store: &Store, space: &PublicKey, rights: &Rights, timeline: &TimelineId) -> Option<Self> {
        let device = store.device();
        let may = rights.device_grant(&device).is_some() || !rights.may(&device, Actions::READ, timeline, now_ms()).is_empty();
        let main = TimelineId::named(space, "main");
        let had = |held: &Held| held.grant.actions.contains(Actions::READ) && held.grant.timelines.contains(timeline, &main);
        if may { None } else { Self::last(rights, &device, had) }
    }

    /// That it might write at a path.
    fn of_writing(store: &Store, space: Space, rights: &Rights, path: &Path) -> Option<Self> {
        let device = store.device();
        let (timeline, main) = (store.timeline(space), TimelineId::named(&space.key, "main"));
        let had = |held: &Held| {
            let grant = &held.grant;
            grant.actions.contains(Actions::WRITE) && grant.timelines.contains(&timeline, &main) && grant.scope.covers(path, &device)
        };
        if rights.writer_grant(&device, path).is_some() { None } else { Self::last(rights, &device, had) }
    }

    /// How the last of those grants ended that a key had.
    fn last(rights: &Rights, device: &PublicKey, had: impl Fn(&Held) -> bool) -> Option<Self> {
        let own = rights.grants_for(device).filter(|(_, held)| held.grant.audience == Audience::Key(*device) && had(held));
        let ends = own.flat_map(|(id, held)| {
            let until = held.grant.not_after_ms;
            let taken = rights.hidden_by(&id).into_iter().filter_map(move |hidden| match hidden {
                // What has ended is taken back by itself, too.
                Hidden::Revoked { .. } if is_since(&hidden, until) => Some(Self { by: None, at_ms: until }),
                Hidden::Revoked { author, time_ms, .. } => Some(Self { by: Some(author), at_ms: time_ms }),
                Hidden::Root { .. } => None,
            });
            let ended = (held.is_live() && until > 0 && now_ms() > until).then_some(Self { by: None, at_ms: until });
            taken.chain(ended)
        });
        ends.max_by_key(|over| over.at_ms)
    }

    /// What it is in words, as far as who is asked knows who is who.
    fn words(&self, people: &People) -> String {
        match &self.by {
            Some(by) => format!("{} took it back on {}", people.name(by), day(self.at_ms)),
            None => format!("your right ended on {}", day(self.at_ms)),
        }
    }

    fn told(&self, people: &People) -> Serde {
        json!({
            "by": self.by.map(|by| by.to_string()),
            "name": self.by.map(|by| people.name(&by)),
            "at_ms": self.at_ms,
            "says": self.words(people),
        })
    }
}

/// What of a space of somebody else this device might read and may no more: paths, and how that came.
pub(crate) fn all(store: &Store, people: &People, space: &PublicKey) -> Vec<Serde> {
    let Some(rights) = store.rights(space).filter(|_| *space != store.space()) else { return Vec::new() };
    let main = (Path::root(), TimelineId::named(space, "main"));
    let apart = rights.shown().map(|mount| (mount.path.clone(), mount.timeline));
    std::iter::once(main)
        .chain(apart)
        .filter_map(|(path, timeline)| {
            let mut told = Over::of_reading(store, space, &rights, &timeline)?.told(people);
            told["path"] = path.to_string().into();
            Some(told)
        })
        .collect()
}

/// The answer about a path of a space, with what its reader has to know of it: that it is of before. Of what was refused, that it was
/// allowed.
pub(crate) async fn mark(
    peer: &Peer,
    space: Space,
    path: &Path,
    answer: Result<Response<Body>, Problem>,
    is_read: bool,
) -> Result<Response<Body>, Problem> {
    let store = peer.store();
    // In the own space only for a device that is one no more.
    let is_out = |rights: &Rights| rights.device_grant(&store.device()).is_none() && crate::sys::is_lost(peer);
    let Some(rights) = store.rights(&space.key).filter(|rights| !space.is_own() || is_out(rights)) else { return answer };
    let over = match is_read {
        true => Over::of_reading(store, &space.key, &rights, &store.timeline(space)),
        false => Over::of_writing(store, space, &rights, path),
    };
    let Some(over) = over else { return answer };
    let people = People::now(peer).await;
    let told = over.told(&people);
    match answer {
        Ok(mut response) => {
            if let Ok(value) = HeaderValue::from_str(&ascii(&told)) {
                response.headers_mut().insert(HEADER, value);
            }
            // Nothing is there, or nothing of it is given: that it was, belongs into what is said of it.
            if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)
                && let Body::Ready(Some(body)) = response.body_mut()
                && let Ok(Serde::Object(mut problem)) = serde_json::from_slice(body)
                && let Some(Serde::String(detail)) = problem.get_mut("detail")
            {
                *detail = format!("{detail}; {}", over.words(&people));
                problem.insert("taken_back".to_owned(), told);
                *body = Serde::Object(problem).to_string().into();
            }
            Ok(response)
        }
        Err(problem) if matches!(problem.kind, "rights" | "denied" | "absent") => {
            let detail = format!("{}; {}", problem.detail, over.words(&people));
            Err(Problem { detail, ..problem }.with("taken_back", told))
        }
        other => other,
    }
}

/// The same about what was refused before it was known where it is.
pub(crate) async fn explain(peer: &Peer, space: Space, path: &Path, problem: Problem) -> Problem {
    match mark(peer, space, path, Err(problem.clone()), true).await {
        Err(problem) => problem,
        Ok(_) => problem,
    }
}

/// JSON for a header.
fn ascii(json: &Serde) -> String {
    let mut out = String::new();
    for character in json.to_string().chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use timebus_store::grant::{Grant, Scope, Timelines};
    use timebus_store::op::Op;
    use timebus_store::writer::Statement;

    use super::*;
    use crate::whose::tests::{open, tell};

    fn grant(to: &Store, until_ms: u64, actions: Actions) -> Op {
        Op::Grant(Grant {
            audience: Audience::Key(to.device()),
            scope: Scope::everything(),
            timelines: Timelines::Main,
            actions,
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: until_ms,
            depth: 0,
            label: "".into(),
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_taken_back_is_told_and_what_was_given_again_is_not() {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [ada, bob] = homes.each_ref().map(|home| open(home.path()));
        let reads = Actions(Actions::SYNC.0 | Actions::READ.0);
        let now = || Over::of_reading(&bob, &ada.space(), &bob.rights(&ada.space()).expect("held"), &TimelineId::named(&ada.space(), "main"));
        let given = ada.state(Statement::Ops(vec![grant(&bob, 0, reads)]), 5).await.expect("granted");
        tell(&ada, &ada.space(), &bob).await;
        assert_eq!(now(), None, "he may");
        ada.state(Statement::Revoke { grants: given, cascade: true, keep: false }, 86_400_000).await.expect("taken back");
        tell(&ada, &ada.space(), &bob).await;
        assert_eq!(now(), Some(Over { by: Some(ada.device()), at_ms: 86_400_000 }));
        assert_eq!(now().expect("over").words(&People::default()), format!("{} took it back on 1970-01-02", People::default().name(&ada.device())));
        ada.state(Statement::Ops(vec![grant(&bob, 1, reads)]), 86_400_001).await.expect("granted");
        tell(&ada, &ada.space(), &bob).await;
        assert_eq!(now().expect("over").by, Some(ada.device()), "what ended long ago is not what came last");
        let until_ms = 2 * 86_400_000;
        let given = ada.state(Statement::Ops(vec![grant(&bob, until_ms, reads)]), 86_400_001).await.expect("granted");
        ada.state(Statement::Revoke { grants: given, cascade: true, keep: true }, until_ms + 86_400_000).await.expect("taken back");
        tell(&ada, &ada.space(), &bob).await;
        assert_eq!(now(), Some(Over { by: None, at_ms: until_ms }), "it ended, and nobody took it from him");
        ada.state(Statement::Ops(vec![grant(&bob, 0, reads)]), 86_400_002).await.expect("granted");
        tell(&ada, &ada.space(), &bob).await;
        assert_eq!(now(), None, "and may again");
        let table = Path::parse("/table").expect("a path");
        let writing = || Over::of_writing(&bob, bob.held(&ada.space()).expect("held"), &bob.rights(&ada.space()).expect("held"), &table);
        assert_eq!(writing(), None, "what he never might is not over");
        ada.state(Statement::Ops(vec![grant(&bob, 2, Actions(reads.0 | Actions::WRITE.0))]), 1).await.expect("granted");
        tell(&ada, &ada.space(), &bob).await;
        assert_eq!(writing(), None, "the writer's grants may have ended: what refuses then says so");
    }

    #[test]
    fn headers_are_ascii() {
        assert_eq!(ascii(&json!({"name": "Zoë 🚌"})), "{\"name\":\"Zo\\u00eb \\ud83d\\ude8c\"}");
    }
}
