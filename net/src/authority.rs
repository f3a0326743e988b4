//! What somebody may do: the one question that every route, subscription and message asks.
//!
//! The owner may do everything here. Another key may do what its live grants allow: read in the own space and in held ones, and
//! write in the own one. What is written for somebody is signed by this device, so nobody writes that way where this device is
//! itself a guest, or where the owner's own word counts ([`OWN_WORDS`]). Who does not say who he is may read what is open to
//! anyone; an app, what its card said. A refusal names the grant that is
//! missing, and is the same for what is not there, not held here, and not for the caller's eyes.

use http::StatusCode;
use serde_json::json;
use timebus_identity::PublicKey;
use timebus_store::auth::{OWN_WORDS, Rights};
use timebus_store::grant::{Actions, Audience, Scope, ScopeSegment};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;

use crate::app_token::AppScope;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::who::{Who, now_ms};

/// What somebody wants to do at a path, and at all paths below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read or watch values.
    Read,
    /// Change values.
    Write,
    /// Give rights on.
    Grant,
    /// Take plain members' rights back, and decide what strangers left.
    Moderate,
}

impl Verb {
    /// As people write it: `--can read`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Grant => "admin",
            Self::Moderate => "moderate",
        }
    }

    /// From what people write.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Grant, Self::Moderate].into_iter().find(|verb| verb.word() == word)
    }

    /// What a grant has to allow for it.
    #[must_use]
    pub fn actions(self) -> Actions {
        match self {
            Self::Read => Actions::READ,
            Self::Write => Actions::WRITE,
            Self::Grant => Actions::GRANT,
            Self::Moderate => Actions::MODERATE,
        }
    }
}

impl Who {
    /// Whether the caller may do something at a path of a space and below it. The space need not be held here.
    ///
    /// # Errors
    ///
    /// The answer to the caller: 401 if he should say who he is, 403 with the grant that is missing.
    pub(crate) fn may(&self, peer: &Peer, verb: Verb, space: &PublicKey, path: &Path) -> Result<(), Problem> {
        let allowed = |key: Option<&PublicKey>| peer.store().rights(space).is_some_and(|rights| is_allowed(&rights, key, verb, path));
        let is_for_others = matches!(self, Self::Signed { is_owner: false, .. }) && verb == Verb::Write;
        if is_for_others && *space != peer.space() && allowed(self.guest().as_ref()) {
            return Err(not_here(space));
        }
        if is_for_others && let Some(own) = own_word_at(path) {
            let is_device = self.guest().is_some_and(|key| is_other_device(peer, &key));
            return Err(if is_device { not_by_this_device(own, path) } else { own_word(own, path) });
        }
        match self {
            Self::Owner => Ok(()),
            Self::Signed { is_owner: true, .. } => Ok(()),
            Self::Signed { signer, .. } => {
                let key = PublicKey::from_bytes(*signer.key());
                if allowed(Some(&key)) && !crate::lists::is_blocked(peer.store(), &key) {
                    Ok(())
                } else {
                    Err(no_grant(peer, &key, verb, space, path))
                }
            }
            Self::App(app) if *space == peer.space() && is_owners_word(path) => Err(not_on_card(app, verb, path)),
            Self::App(app) if app.allows(verb, space, &peer.space(), path) => Ok(()),
            Self::App(app) => Err(not_on_card(app, verb, path)),
            Self::Anyone if verb == Verb::Read && allowed(None) => Ok(()),
            Self::Anyone => Err(unknown(verb, path)),
        }
    }

    /// The same for reading values of one timeline: for whoever is not to know what is kept apart from it, that is no other path.
    ///
    /// # Errors
    ///
    /// As [`Who::may`].
    pub(crate) fn may_look(&self, peer: &Peer, space: Space, path: &Path) -> Result<(), Problem> {
        match self.may(peer, Verb::Read, &space.key, path) {
            Err(_) if around(peer, self, &space.key, path) == Some(space) => Ok(()),
            may => may,
        }
    }

    /// Whether the caller may use a part of `/.sys`, given by its name and what follows.
    ///
    /// # Errors
    ///
    /// As [`Who::may`].
    pub(crate) fn may_sys(&self, peer: &Peer, verb: Verb, part: &[String]) -> Result<(), Problem> {
        // What is asked about, as in `/.sys/refs/@key/x`, is no part of the system.
        let part = part.iter().map(String::as_str).take_while(|name| !name.starts_with('@'));
        let path = || Path::from_text_segments(std::iter::once(".sys").chain(part.clone())).unwrap_or_else(|_| Path::root());
        match self {
            Self::Owner | Self::Signed { is_owner: true, .. } => Ok(()),
            Self::App(app) if app.allows_sys(verb, &path()) => Ok(()),
            // A page may say of its own writes whether anybody else has them; where, is asked of whoever looks.
            Self::App(_) if verb == Verb::Read && part.clone().next() == Some("synced") => Ok(()),
            Self::App(app) => Err(not_on_card(app, verb, &path())),
            Self::Signed { signer, .. } => {
                let key = PublicKey::from_bytes(*signer.key());
                if may_keep(peer, &key, verb, part.clone().next().unwrap_or_default()) {
                    return Ok(());
                }
                let detail = match is_other_device(peer, &key) {
                    true => format!("/.sys is for whoever has the keys or the token of this machine, and {key} is another device of its owner's"),
                    false => format!("/.sys is for the owner of this peer, and {key} is none of the owner's keys"),
                };
                Err(Problem::new(StatusCode::FORBIDDEN, "rights", "you may not do this", detail))
            }
            Self::Anyone => Err(who_are_you("/.sys is for the owner of this peer")),
        }
    }
}

/// What no app says in the owner's space, whatever its card says, or asks for: whom he knows by which name, follows and blocks, and who he
/// says that his friends are now.
const OWNERS_WORDS: [&[&str]; 2] = [&["lists"], &["profile", "vouched"]];

/// These paths.
pub(crate) fn owners_words() -> impl Iterator<Item = Path> {
    OWNERS_WORDS.into_iter().filter_map(|names| Path::from_text_segments(names.iter().copied()).ok())
}

/// Whether a path is at or below one of these.
pub(crate) fn is_owners_word(path: &Path) -> bool {
    owners_words().any(|word| word.contains(path))
}

/// The space with the timeline around a path that is kept apart, for a stranger who may read around it. Whom the owner let in knows
/// which paths are kept apart. A stranger finds there what is there for him at every other path: what that timeline has, which is
/// nothing, or where the owner shows that something is there.
pub(crate) fn around(peer: &Peer, who: &Who, space: &PublicKey, path: &Path) -> Option<Space> {
    let key = match who {
        Who::Anyone => None,
        Who::Signed { is_owner: false, .. } => Some(who.guest().filter(|key| !crate::lists::is_blocked(peer.store(), key))?),
        _ => return None,
    };
    let store = peer.store();
    let (held, rights) = (store.held(space)?, store.rights(space)?);
    let outside = rights.mount_of(path)?.path.parent()?;
    let at = store.at(held, &outside);
    let may = |path: &Path| rights.grant_covering(key.as_ref(), Actions::READ, &store.timeline(at), path, now_ms()).is_some();
    (!rights.is_party(key.as_ref(), now_ms()) && may(path)).then_some(at)
}

/// The name of those that writing at a path touches.
pub(crate) fn own_word_at(path: &Path) -> Option<&'static str> {
    OWN_WORDS.into_iter().find(|own| is_in_touch(own, path))
}

/// Whether writing at a path touches what is at and below a name.
fn is_in_touch(name: &str, path: &Path) -> bool {
    path.segments().first().is_none_or(|first| matches!(first, Segment::Name(first) if **first == *name))
}

fn own_word(own: &str, path: &Path) -> Problem {
    let detail = format!("what this peer writes for you at {path} would be signed by its owner, and what is below /{own} is the owner's own word");
    let fix = if path.is_root() { "name the path below that you mean" } else { "write with a peer of your own, which signs as you" };
    Problem::new(StatusCode::FORBIDDEN, "rights", "you may not write here over HTTP", detail).with_fix(fix)
}

/// Whether a key that is not the owner's here is of another device of the same owner, which has a peer of its own.
fn is_other_device(peer: &Peer, key: &PublicKey) -> bool {
    peer.store().rights(&peer.space()).is_some_and(|rights| rights.device_grant(key).is_some())
}

/// The answer to another device of the owner's, which over HTTP is a guest.
fn not_by_this_device(own: &str, path: &Path) -> Problem {
    let detail = format!("what this peer writes for another device at {path} would be signed by this one, and nothing below /{own} is written so");
    let fix = if path.is_root() { "name the path below that you mean" } else { "write with the peer of your own device, which signs as itself" };
    Problem::new(StatusCode::FORBIDDEN, "rights", "you may not write here over HTTP", detail).with_fix(fix)
}

fn not_here(space: &PublicKey) -> Problem {
    let detail = format!("what this peer writes for you in {space} would be signed by its owner, who is a guest there as you are");
    Problem::new(StatusCode::FORBIDDEN, "rights", "you may not write into the space of somebody else here", detail)
        .with_fix("write with a peer of your own, or ask the peer of the owner of that space")
}

/// Parts of `/.sys` that a keeper reads: how a peer is, and nothing about what is in it.
const KEEPERS_READ: [&str; 8] = ["", "status", "metrics", "peers", "spaces", "devices", "tips", "kept"];
/// Parts of `/.sys` that a keeper writes: to stop it, so that whatever watches over it starts it anew, and to have it take nothing
/// new before that.
const KEEPERS_WRITE: [&str; 2] = ["down", "quiet"];

/// Whether a key may use a part of `/.sys` because it was made a keeper of this peer.
pub(crate) fn may_keep(peer: &Peer, key: &PublicKey, verb: Verb, part: &str) -> bool {
    is_keeper_of(peer, key, verb, part) && !crate::lists::is_blocked(peer.store(), key)
}

/// The same if the owner has not blocked him.
pub(crate) fn is_keeper_of(peer: &Peer, key: &PublicKey, verb: Verb, part: &str) -> bool {
    let parts: &[&str] = if verb == Verb::Read { &KEEPERS_READ } else { &KEEPERS_WRITE };
    parts.contains(&part) && peer.store().rights(&peer.space()).is_some_and(|rights| is_keeper(&rights, key))
}

/// Whether a key was made a keeper of the peers of a space: by an admin grant at `/.sys` itself, which the owner gave. One at the
/// root does not make one: it is for people who look after the data. Nor do they make keepers of themselves or others.
fn is_keeper(rights: &Rights, key: &PublicKey) -> bool {
    let is_there = |scope: &Scope| matches!(scope.segments.as_slice(), [ScopeSegment::Name(name)] if &**name == ".sys");
    rights.grants().any(|(_, held)| {
        let grant = &held.grant;
        let is_over = grant.not_after_ms > 0 && now_ms() > grant.not_after_ms;
        let is_its = held.is_live() && !is_over && grant.audience == Audience::Key(*key) && rights.is_by_owner(held);
        is_its && grant.actions.contains(Actions::GRANT) && is_there(&held.scope())
    })
}

/// Whether what is stated in a space lets a key, or anyone, do something to a subtree.
fn is_allowed(rights: &Rights, key: Option<&PublicKey>, verb: Verb, path: &Path) -> bool {
    if key.is_some_and(|key| rights.root() == *key) {
        return true;
    }
    // Whoever has any right in a space has to be able to know which ones there are.
    if verb == Verb::Read && is_statements(path) {
        return rights.is_party(key, now_ms());
    }
    rights.grant_covering(key, verb.actions(), &rights.timeline_of(path), path, now_ms()).is_some()
}

/// Whether a path holds what is stated about rights.
pub(crate) fn is_statements(path: &Path) -> bool {
    matches!(path.segments().first(), Some(Segment::Name(name)) if &**name == ".auth")
}

fn no_grant(peer: &Peer, key: &PublicKey, verb: Verb, space: &PublicKey, path: &Path) -> Problem {
    let word = verb.word();
    let shown = if *space == peer.space() { path.to_string() } else { format!("/@{space}{path}") };
    let detail = format!("no grant lets the key {key} {} {shown}", verb_phrase(verb));
    Problem::new(StatusCode::FORBIDDEN, "rights", format!("you may not {} here", verb_phrase(verb)), detail)
        .with_fix(format!("ask the owner of the space for it: timebus grant {} {key} --can {word}", crate::words::quoted(&path.to_string())))
        .with("missing", json!({"can": word, "path": path.to_string(), "space": space.to_string(), "for": key.to_string()}))
}

fn verb_phrase(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "read",
        Verb::Write => "write",
        Verb::Grant => "give rights at",
        Verb::Moderate => "moderate",
    }
}

/// The answer to an app whose card does not say that.
pub(crate) fn not_on_card(app: &AppScope, verb: Verb, path: &Path) -> Problem {
    let detail = format!("the app {} was not allowed to {} {path} when it was installed", app.app(), verb_phrase(verb));
    Problem::new(StatusCode::FORBIDDEN, "rights", format!("this app may not {} here", verb_phrase(verb)), detail)
        .with_fix("the app asks for it in its app.json; the owner agrees when it is installed again")
        .with("missing", json!({"can": verb.word(), "path": path.to_string(), "app": app.app()}))
}

fn unknown(verb: Verb, path: &Path) -> Problem {
    who_are_you(&format!("nobody in particular may {} {path}", verb_phrase(verb)))
        .with("missing", json!({"can": verb.word(), "path": path.to_string(), "for": "anyone"}))
}

/// The answer to those who did not say who they are.
pub(crate) fn who_are_you(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "who", "who are you?", detail).with_fix(
        "send `Authorization: Bearer <token>` (`timebus id --token` prints the owner's), or sign the request (RFC 9421) with a key that has a grant",
    )
}

#[cfg(test)]
mod tests {
    use timebus_identity::{SecretKey, Token};
    use timebus_store::grant::{Audience, Grant, Scope, ScopeSegment, Timelines};
    use timebus_store::ids::TimelineId;
    use timebus_store::op::Op;
    use timebus_store::store::{Config, Store, lock_home};
    use timebus_store::writer::Statement;

    use super::*;
    use crate::app_token::{Allowance, AppSpace};
    use crate::host::HostKind;
    use crate::peer::PeerConfig;
    use crate::signature::Signer;
    use crate::who::check_token;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    fn grant(audience: Audience, at: &str, actions: u8) -> Op {
        let names = at.split('/').filter(|name| !name.is_empty()).map(|name| ScopeSegment::Name(name.into()));
        let scope = Scope { segments: names.collect(), deep: true };
        let (bytes_max, change_bytes_max, not_after_ms, depth) = (0, 0, 0, 0);
        let actions = Actions(actions);
        Op::Grant(Grant { audience, scope, timelines: Timelines::Main, actions, bytes_max, change_bytes_max, not_after_ms, depth, label: "".into() })
    }

    fn signed(key: PublicKey) -> Who {
        Who::Signed { signer: Signer::of(*key.as_bytes()), is_owner: false }
    }

    async fn peer() -> (Peer, tempfile::TempDir) {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        (Peer::new(store, Token::generate(), PeerConfig::default()), home)
    }

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    const SYNC: u8 = 1;
    const READ: u8 = 2;
    const WRITE: u8 = 4;

    #[tokio::test]
    async fn everybody_may_what_was_granted_and_nothing_else() {
        let (peer, _home) = peer().await;
        let (member, reader, stranger) = (key(1), key(2), key(3));
        let ops = vec![
            grant(Audience::Key(member), "/table", SYNC | READ | WRITE),
            grant(Audience::Key(reader), "/photos", READ),
            grant(Audience::Anyone, "/public", READ),
            grant(Audience::Anyone, "/open", SYNC | READ),
        ];
        let grants = peer.store().state(Statement::Ops(ops), 1).await.expect("stated");
        let own = peer.space();
        let elsewhere = key(9);
        let may = |who: &Who, verb, space, at: &str| who.may(&peer, verb, space, &path(at));
        let table: &[(Who, Verb, &PublicKey, &str, bool)] = &[
            (Who::Owner, Verb::Write, &own, "/x", true),
            (Who::Owner, Verb::Write, &elsewhere, "/x", true),
            (signed(member), Verb::Write, &own, "/table", true),
            (signed(member), Verb::Write, &own, "/table/a/b", true),
            (signed(member), Verb::Write, &own, "/", false),
            (signed(member), Verb::Write, &own, "/tables", false),
            // Who fetches the timeline has all of it anyway.
            (signed(member), Verb::Read, &own, "/", true),
            (signed(member), Verb::Grant, &own, "/table", false),
            (signed(member), Verb::Write, &elsewhere, "/table", false),
            (signed(reader), Verb::Read, &own, "/photos/1", true),
            (signed(reader), Verb::Read, &own, "/", false),
            (signed(reader), Verb::Read, &own, "/public/x", true),
            (signed(reader), Verb::Read, &own, "/.auth", true),
            (signed(stranger), Verb::Read, &own, "/public", true),
            (signed(stranger), Verb::Read, &own, "/photos", false),
            (Who::Anyone, Verb::Read, &own, "/public/x", true),
            (Who::Anyone, Verb::Read, &own, "/open/x", true),
            // A public corner does not make everything public.
            (Who::Anyone, Verb::Read, &own, "/", false),
            (Who::Anyone, Verb::Write, &own, "/public", false),
            (Who::Anyone, Verb::Read, &elsewhere, "/public", false),
        ];
        for (who, verb, space, at, expected) in table {
            assert_eq!(may(who, *verb, space, at).is_ok(), *expected, "{who:?} {verb:?} {at}");
        }
        let main = TimelineId::named(&own, "main");
        let rights = peer.store().rights(&own).expect("held");
        let fetch = [member, reader, stranger].map(|key| rights.may_fetch(&key, &main, 1));
        assert_eq!(fetch, [true, false, false], "who reads one path by HTTP fetches nothing");
        // What is missing is named, in the same words whether the space is held here or not.
        let refused = |space| may(&signed(stranger), Verb::Read, space, "/photos").expect_err("refused");
        assert_eq!(refused(&own).extra["missing"]["can"], "read");
        let blank = |problem: Problem, space: &PublicKey| {
            let text = String::from_utf8(problem.to_bytes()).expect("text");
            text.replace(&format!("/@{space}"), "").replace(&space.to_string(), "")
        };
        let held = key(8);
        assert_eq!(blank(refused(&elsewhere), &elsewhere), blank(refused(&held), &held));
        assert_eq!(blank(refused(&own), &own), blank(refused(&held), &held));
        let revoke = Statement::Revoke { grants: vec![grants[0]], cascade: false, keep: true };
        peer.store().state(revoke, 2).await.expect("stated");
        assert!(may(&signed(member), Verb::Write, &own, "/table").is_err());
        assert!(may(&signed(member), Verb::Read, &own, "/").is_err());
    }

    /// Bob may bring guests. He names himself a keeper, and opens to everybody what is not his.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_guest_gives_himself_or_everybody_counts_for_nothing() {
        use crate::whose::tests::{open, tell};

        let (peer, _home) = peer().await;
        let bobs = tempfile::tempdir().expect("a temporary folder");
        let bob = open(bobs.path());
        let (store, own) = (peer.store(), peer.space());
        let depth = |op: Op, depth: u8| match op {
            Op::Grant(grant) => Op::Grant(Grant { depth, ..grant }),
            other => other,
        };
        let all = SYNC | READ | WRITE | Actions::GRANT.0;
        let given = depth(grant(Audience::Key(bob.device()), "/", all), 3);
        let given = store.state(Statement::Ops(vec![given]), 1).await.expect("stated");
        tell(store, &own, &bob).await;
        let there = bob.held(&own).expect("held");
        let his = vec![
            grant(Audience::Key(bob.device()), "/.sys", SYNC | READ | Actions::GRANT.0),
            grant(Audience::Anyone, "/table", SYNC | READ | WRITE),
            grant(Audience::Anyone, "/", SYNC | READ),
        ];
        bob.state_as(there, given[0], Statement::Ops(his), 1).await.expect("stated");
        tell(&bob, &own, store).await;
        let rights = store.rights(&own).expect("held");
        assert_eq!(rights.grants().filter(|(_, held)| held.is_live() && held.parent == Some(given[0])).count(), 3, "all of it is in force");
        assert!(!may_keep(&peer, &bob.device(), Verb::Read, "peers") && !may_keep(&peer, &bob.device(), Verb::Write, "down"));
        let main = TimelineId::named(&own, "main");
        assert!(!rights.may_fetch(&key(9), &main, 1) && rights.may_fetch(&bob.device(), &main, 1));
        for at in ["/", "/table", "/.auth"] {
            assert!(Who::Anyone.may(&peer, Verb::Read, &own, &path(at)).is_err(), "{at}");
            assert!(signed(key(9)).may(&peer, Verb::Read, &own, &path(at)).is_err(), "{at}");
        }
        assert!(Who::Anyone.may(&peer, Verb::Write, &own, &path("/table")).is_err());
        // The owner himself lets nobody write whom he does not name, and a public corner shows nothing of who may what.
        let public =
            vec![grant(Audience::Anyone, "/corner", READ | WRITE), grant(Audience::Key(bob.device()), "/.sys", SYNC | READ | Actions::GRANT.0)];
        store.state(Statement::Ops(public), 1).await.expect("stated");
        assert!(Who::Anyone.may(&peer, Verb::Read, &own, &path("/corner")).is_ok());
        assert!(Who::Anyone.may(&peer, Verb::Write, &own, &path("/corner")).is_err());
        assert!(Who::Anyone.may(&peer, Verb::Read, &own, &path("/.auth")).is_err());
        assert!(may_keep(&peer, &bob.device(), Verb::Write, "down"), "whom the owner names is a keeper");
        for (is_blocked, expected) in [(true, false), (false, true)] {
            crate::lists::set(store, crate::lists::List::Blocked, &bob.device(), is_blocked).await.expect("said");
            let may = [(Verb::Read, "peers"), (Verb::Write, "down")].map(|(verb, part)| may_keep(&peer, &bob.device(), verb, part));
            assert_eq!(may, [expected; 2], "blocked: {is_blocked}");
        }
        store.state(Statement::Ops(vec![grant(Audience::Anyone, "/", SYNC | READ)]), 1).await.expect("stated");
        assert!(Who::Anyone.may(&peer, Verb::Read, &own, &path("/.auth")).is_ok(), "who fetches it all has that, too");
        assert!(store.rights(&own).expect("held").may_fetch(&key(9), &main, 1));
    }

    /// What this peer writes for a guest it signs: Bob would speak as its owner, and where the owner is a guest as he is.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_is_not_written_for_where_the_owners_word_counts() {
        use crate::whose::tests::{grant_key, open, tell};

        let (peer, _home) = peer().await;
        let home = tempfile::tempdir().expect("a temporary folder");
        let carol = open(home.path());
        let (bob, own) = (key(5), peer.space());
        for (owner, to) in [(peer.store(), bob), (&carol, bob), (&carol, peer.store().device())] {
            grant_key(owner, to, Actions(SYNC | READ | WRITE)).await;
        }
        tell(&carol, &carol.space(), peer.store()).await;
        let may = |verb, space: &PublicKey, at: &str| signed(bob).may(&peer, verb, space, &path(at));
        for (at, expected) in [("/table", true), ("/profiles", true), ("/", false), ("/profile", false), ("/profile/vouched/x", false)] {
            assert_eq!(may(Verb::Write, &own, at).is_ok(), expected, "{at}");
        }
        assert!(may(Verb::Write, &own, "/lists/blocked").is_err() && may(Verb::Write, &own, "/.apps/x").is_err());
        assert!(may(Verb::Read, &own, "/profile").is_ok() && may(Verb::Read, &carol.space(), "/wall").is_ok());
        let refused = may(Verb::Write, &carol.space(), "/wall").expect_err("refused");
        assert!(refused.detail.contains("signed by its owner"), "{refused:?}");
        assert!(Who::Owner.may(&peer, Verb::Write, &carol.space(), &path("/wall")).is_ok());
    }

    #[tokio::test]
    async fn an_app_may_what_its_card_said_at_its_own_origin() {
        let (peer, _home) = peer().await;
        let own = peer.space();
        let other = key(9);
        let mail = |space, at: &str, verbs: &[Verb]| Allowance { space, path: path(at), verbs: verbs.to_vec() };
        let allowances = vec![mail(AppSpace::One(own), "/chirp", &[Verb::Read, Verb::Write]), mail(AppSpace::Others, "/chirp", &[Verb::Read])];
        let token = Token::generate();
        let scope = AppScope::new("chirp".to_owned(), allowances, vec![(path("/.sys/refs"), vec![Verb::Read])]);
        assert!(peer.app_tokens().insert(&token, std::sync::Arc::new(scope)));
        let text = token.text();
        let (root, its, others) = (HostKind::Root, HostKind::App("chirp".to_owned()), HostKind::App("board".to_owned()));
        for (kind, is_page, expected) in
            [(&its, true, true), (&its, false, true), (&others, true, false), (&others, false, false), (&root, true, false), (&root, false, true)]
        {
            assert_eq!(check_token(&peer, &text, kind, is_page).is_ok(), expected, "{kind:?} {is_page}");
            assert_eq!(check_token(&peer, &peer.token.text(), kind, is_page).is_ok(), *kind == root, "the owner's token at {kind:?}");
        }
        let app = check_token(&peer, &text, &its, true).expect("known");
        for (verb, space, at, expected) in [
            (Verb::Write, &own, "/chirp/posts", true),
            (Verb::Write, &own, "/chirps", false),
            (Verb::Write, &own, "/", false),
            (Verb::Read, &other, "/chirp", true),
            (Verb::Write, &other, "/chirp", false),
            (Verb::Read, &own, "/mail", false),
        ] {
            assert_eq!(app.may(&peer, verb, space, &path(at)).is_ok(), expected, "{verb:?} {at}");
        }
        let refs = ["refs".to_owned(), "x".to_owned()];
        assert!(app.may_sys(&peer, Verb::Read, &refs).is_ok() && app.may_sys(&peer, Verb::Write, &refs).is_err());
        assert!(app.may_sys(&peer, Verb::Read, &["status".to_owned()]).is_err());
        peer.app_tokens().remove("chirp");
        assert!(app.may(&peer, Verb::Read, &own, &path("/chirp")).is_err(), "what is open ends too");
        assert!(check_token(&peer, &text, &its, true).is_err());
    }
}
