//! Spaces of others: what is asked of them is fetched, and how they are is told.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::{Held, Rights};
use timebus_store::grant::{Actions, Audience};
use timebus_store::ids::TimelineId;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;

use crate::authority::{Verb, around, not_on_card};
use crate::body::Body;
use crate::node::{SpaceState, SpaceStatus};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::route::bad_path;
use crate::sys::network::find_space_for;
use crate::who::{Who, text};

/// How long a reader waits for what is on its way, unless he says otherwise with `Prefer: wait=`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait that may be asked for.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// The space and path of a request that its caller may make, and how the space is here if it is somebody else's.
pub(crate) async fn reach(
    peer: &Peer,
    head: &HeaderMap,
    segments: &[String],
    who: &Who,
    verb: Verb,
) -> Result<(Space, Path, Option<SpaceState>), Problem> {
    let name = segments.first().and_then(|first| first.strip_prefix('@')).filter(|name| !name.starts_with('@') && !name.contains('.'));
    // What the owner calls others is for him to know. To everybody else such a name is a key that he has nothing of.
    let rest = if name.is_some() { &segments[1..] } else { segments };
    let path = Path::from_text_segments(rest.iter().map(String::as_str)).map_err(|error| bad_path(&error))?;
    let key = match name {
        Some(name) if may_fetch(who) => space_of(peer, who, name, verb, &path).await?,
        Some(name) => name.parse().unwrap_or_else(|_| PublicKey::from_bytes([0; 32])),
        None => peer.space(),
    };
    let around = match who.may(peer, verb, &key, &path) {
        Err(problem) => Some(around(peer, who, &key, &path).filter(|_| verb == Verb::Read).ok_or(problem)?),
        Ok(()) => None,
    };
    let (space, state) = reach_space(peer, key, patience(head), may_fetch(who)).await?;
    let space = match around.map_or_else(|| look(peer, space, &path), Ok) {
        Err(problem) if may_fetch(who) => return Err(crate::over::explain(peer, peer.store().at(space, &path), &path, problem).await),
        found => found?,
    };
    // Of what was never given nothing is here, which is another thing than that there is nothing.
    let is_data = path.segments().first().is_none_or(|first| !first.to_string().starts_with('.'));
    if let Some(state @ SpaceState::Denied) = &state
        && verb == Verb::Read
        && is_data
        && timebus_store::tips::heads(&*peer.store().snapshot(), space.main()).is_ok_and(|heads| heads.is_empty())
    {
        let problem = problem(&human_name(&key), state);
        return Err(if may_fetch(who) { crate::over::explain(peer, space, &path, problem).await } else { problem });
    }
    Ok((space, path, state))
}

/// The space of a name, for whoever wants to do something at a path there. An app that may do that in no space of others, or in some
/// alone that its card names, is told of all others the same: it hears of nobody whether he is known here, or another identity of the owner.
///
/// # Errors
///
/// As [`find_space_for`]; 403 for such an app.
pub(crate) async fn space_of(peer: &Peer, who: &Who, name: &str, verb: Verb, path: &Path) -> Result<PublicKey, Problem> {
    let Who::App(app) = who else { return find_space_for(peer, who, name).await };
    if app.allows_others(verb, path) {
        return find_space_for(peer, who, name).await;
    }
    let found = find_space_for(peer, who, name).await.ok();
    found.filter(|key| app.allows(verb, key, &peer.space(), path)).ok_or_else(|| not_on_card(app, verb, path))
}

/// Whether what is not here is fetched for a caller, and whether he may use the owner's names for others.
pub(crate) fn may_fetch(who: &Who) -> bool {
    who.is_owner() || matches!(who, Who::App(_))
}

/// A space, fetched if that is wanted and it is not here or may be old; and how it is here if it is somebody else's.
pub(crate) async fn reach_space(peer: &Peer, key: PublicKey, patience: Duration, fetch: bool) -> Result<(Space, Option<SpaceState>), Problem> {
    if key == peer.space() {
        return Ok((peer.store().own(), None));
    }
    let Some(network) = peer.network() else {
        let held = peer.store().held(&key);
        let space = held.ok_or_else(|| problem(&key.to_string(), &SpaceState::Offline))?;
        return Ok((space, Some(SpaceState::Offline)));
    };
    let gone = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closing", "the peer is stopping", "ask again when it runs");
    let name = human_name(&key);
    // The owner names his other identities otherwise. To everybody else they are what any key is.
    let key = if peer.is_family(&key) { stand_in(peer, &key) } else { key };
    let now = by_rights(peer.store(), network.ask(move |node| node.space(&key)).await.map_err(gone)?);
    // What is followed is here and new. What is not is fetched when the owner reads it, and for nobody else.
    let is_ready = matches!(now.state, SpaceState::Live { .. }) || (now.is_followed && peer.store().held(&key).is_some());
    let SpaceStatus { state, .. } = if is_ready || !fetch { now } else { by_rights(peer.store(), network.visit(key, patience).await.map_err(gone)?) };
    match peer.store().held(&key) {
        Some(space) => Ok((space, Some(state))),
        None => Err(problem(&name, &state)),
    }
}

/// The key by which another identity of the owner's is looked for where somebody else than he asks for it: one that is nobody's, so that
/// no other peer hears of that, and always the same, also after a start, so that what becomes of it
/// is what becomes of any.
pub(crate) fn stand_in(peer: &Peer, space: &PublicKey) -> PublicKey {
    PublicKey::from_bytes(timebus_identity::hash("stand-in", &[peer.token.as_bytes(), space.as_bytes()]))
}

/// How a space is, as far as what is stated there does not tell more. Whom its owner gives nothing any more may be connected
/// with others like him, and have all that they have.
pub(crate) fn by_rights(store: &Store, status: SpaceStatus) -> SpaceStatus {
    let Ok(key) = status.space.parse::<PublicKey>() else { return status };
    // Others who were given nothing either have as much of it as is here.
    let is_here = |held: Space| timebus_store::tips::heads(&*store.snapshot(), held.auth()).is_ok_and(|heads| !heads.is_empty());
    let Some(rights) = store.rights(&key).filter(|_| store.held(&key).is_some_and(is_here)) else {
        let is_bare = matches!(status.state, SpaceState::Live { .. }) && !status.is_waiting;
        let state = if status.is_refused { SpaceState::Denied } else { SpaceState::Loading };
        return if is_bare { SpaceStatus { state, from: None, ..status } } else { status };
    };
    let (device, now_ms) = (store.device(), crate::who::now_ms());
    let is_own = |(_, held): (_, &Held)| held.grant.audience == Audience::Key(device);
    let mut all = std::iter::once(TimelineId::named(&key, "main")).chain(rights.shown().map(|mount| mount.timeline));
    let may_read = rights.device_grant(&device).is_some() || all.any(|timeline| rights.may_fetch(&device, &timeline, now_ms));
    // Whoever was let in just now may not have heard of it.
    let is_known = match status.state {
        SpaceState::Live { .. } => true,
        SpaceState::Loading | SpaceState::Connecting => rights.grants_for(&device).any(is_own),
        _ => false,
    };
    if !status.is_waiting && is_known && !may_read {
        return SpaceStatus { state: SpaceState::Denied, from: None, ..status };
    }
    without_readers_of_less(&rights, status, now_ms)
}

/// The same without those who are connected and may not have it themselves: all that they have is here, as they have nothing.
fn without_readers_of_less(rights: &Rights, mut status: SpaceStatus, now_ms: u64) -> SpaceStatus {
    let may_have = |key: &PublicKey, timeline: &TimelineId| rights.device_grant(key).is_some() || rights.may_fetch(key, timeline, now_ms);
    let givers = &mut status.givers;
    givers.all.retain(|giver| givers.needed.iter().all(|timeline| giver.keys.iter().any(|key| may_have(key, timeline))));
    status.from = crate::node::from(&givers.all);
    let live = givers.all.iter().filter(|giver| giver.is_level).count();
    status.state = match status.state {
        SpaceState::Live { .. } if live > 0 => SpaceState::Live { peers: live },
        SpaceState::Live { .. } | SpaceState::Loading if givers.all.is_empty() => givers.without.clone(),
        SpaceState::Live { .. } => SpaceState::Loading,
        state => state,
    };
    status
}

/// The answer about what is missing of a space of somebody else, if that is not given to us any more.
pub(crate) async fn denied(peer: &Peer, space: PublicKey) -> Option<Problem> {
    let network = peer.network().filter(|_| space != peer.space())?;
    let status = by_rights(peer.store(), network.ask(move |node| node.space(&space)).await.ok()?);
    matches!(status.state, SpaceState::Denied).then(|| problem(&human_name(&space), &status.state))
}

/// The space with the timeline that a path is in. If that is kept apart from what may be read, and nothing of it is here,
/// this says so.
pub(crate) fn look(peer: &Peer, space: Space, path: &Path) -> Result<Space, Problem> {
    let store = peer.store();
    let at = store.at(space, path);
    if at == space.unmounted() || space.is_own() {
        return Ok(at);
    }
    let timeline = store.timeline(at);
    let may = |rights: &timebus_store::auth::Rights| {
        rights.device_grant(&store.device()).is_some() || !rights.may(&store.device(), Actions::READ, &timeline, crate::who::now_ms()).is_empty()
    };
    let was_here = || timebus_store::tips::heads(&*store.snapshot(), at.main()).is_ok_and(|heads| !heads.is_empty());
    if store.rights(&space.key).is_some_and(|rights| may(&rights)) || was_here() {
        return Ok(at);
    }
    let detail = format!("{path} of {} is kept apart, and nobody has let you read it", human_name(&space.key));
    Err(Problem::new(StatusCode::FORBIDDEN, "denied", "you may not see this", detail).with_fix("ask the owner for an invite to this path"))
}

/// Keeps a space open for somebody who watches it, until the guard is dropped.
pub(crate) fn stay(peer: &Peer, space: PublicKey) -> Option<Stay> {
    let network = peer.network()?.clone();
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(crate::node::VISIT_MS / 2)).await;
            if network.tell(crate::node::Event::Visit { space }).await.is_err() {
                return;
            }
        }
    });
    Some(Stay(task.abort_handle()))
}

/// A space is kept open while this is held.
pub(crate) struct Stay(tokio::task::AbortHandle);

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The answer, with the space of its stream kept open for as long as somebody reads it.
pub(crate) fn keep_open(peer: &Peer, space: PublicKey, mut response: Response<Body>) -> Response<Body> {
    use futures_util::StreamExt as _;
    if let Body::Stream(stream) = std::mem::replace(response.body_mut(), Body::empty()) {
        let stay = stay(peer, space);
        let stream = stream.map(move |bytes| {
            let _held = &stay;
            bytes
        });
        *response.body_mut() = Body::Stream(Box::pin(stream));
    }
    response
}

pub(crate) fn patience(head: &HeaderMap) -> Duration {
    let wait = text(head, "prefer").and_then(|prefer| {
        prefer.split(',').find_map(|part| part.trim().strip_prefix("wait=")).and_then(|seconds| seconds.trim().parse::<u64>().ok())
    });
    wait.map_or(PATIENCE, Duration::from_secs).min(PATIENCE_MAX)
}

/// Says in the answer how the space is here, so that "not there" and "not here yet" are two things.
pub(crate) fn mark(response: Response<Body>, state: &SpaceState, name: &str) -> Response<Body> {
    let mut response = response;
    if response.status() == StatusCode::NOT_FOUND && matches!(state, SpaceState::Loading | SpaceState::Connecting | SpaceState::Denied) {
        response = crate::body::refuse(&problem(name, state));
    }
    let word = match state {
        SpaceState::Live { .. } => "live",
        SpaceState::Loading => "loading",
        SpaceState::Connecting => "connecting",
        SpaceState::Waiting => "waiting",
        SpaceState::Denied => "denied",
        SpaceState::Unreachable { .. } => "unreachable",
        SpaceState::Unknown => "unknown",
        SpaceState::Offline => "offline",
    };
    response.headers_mut().insert("timebus-space", HeaderValue::from_static(word));
    response
}

/// Why nothing of a space can be shown.
fn problem(name: &str, state: &SpaceState) -> Problem {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match state {
        SpaceState::Live { .. } => Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", format!("the space of {name} is empty")),
        SpaceState::Loading => Problem::new(unavailable, "loading", "this is on its way", format!("the space of {name} is being fetched"))
            .with_fix("ask again in a moment, or send `Prefer: wait=30`"),
        SpaceState::Connecting => {
            Problem::new(unavailable, "connecting", "this is on its way", format!("who has the space of {name} is being called"))
                .with_fix("ask again in a moment, or send `Prefer: wait=30`")
        }
        SpaceState::Waiting => {
            Problem::new(unavailable, "waiting", "this waits for its owner", format!("{name} has to accept what you wrote before more is exchanged"))
                .with_fix("ask the owner to answer your request: `timebus held` shows it there")
        }
        SpaceState::Denied => {
            Problem::new(StatusCode::FORBIDDEN, "denied", "you may not see this", format!("who has the space of {name} does not give it to us"))
                .with_fix("ask the owner for an invite")
        }
        SpaceState::Unreachable { seen_ms, next_try_ms, problem } => {
            let now = crate::who::now_ms();
            let seen = match seen_ms {
                0 => "never met".to_owned(),
                seen => format!("last seen {} ago", ago(now.saturating_sub(*seen))),
            };
            let next = ago(next_try_ms.saturating_sub(now));
            let because = if problem.is_empty() { String::new() } else { format!(": {problem}") };
            let detail = format!("nobody who has the space of {name} can be reached ({seen}, next try in {next}){because}");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "unreachable", "nobody who has this can be reached", detail)
                .with_fix("`timebus doctor` says why two peers do not talk")
        }
        SpaceState::Unknown => {
            Problem::new(StatusCode::NOT_FOUND, "space", "this space is not held here", format!("nobody is known who has the space of {name}"))
                .with_fix("take an invite of its owner with `timebus join`, or follow it with an address")
        }
        SpaceState::Offline => Problem::new(unavailable, "offline", "this peer is offline", format!("the space of {name} is not here"))
            .with_fix("start the peer without --offline"),
    }
}

/// A span of time for people.
fn ago(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}
