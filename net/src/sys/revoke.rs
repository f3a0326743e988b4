//! Taking rights back: from somebody with all his devices, from one of them, or one grant.
//!
//! A person is thrown out with every key that is his, as far as that is known here, and with what his devices handed on to each
//! other: one that kept its rights would give them to the others again. Whom he let in stays, unless that is wanted otherwise,
//! and is named, as it is not his decision who that was.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::{Held, Hidden, Rights};
use timebus_store::grant::{Actions, Audience, Scope};
use timebus_store::ids::GrantId;
use timebus_store::path::Path;
use timebus_store::writer::Statement;

use self::written::Written;
use super::rights::{changes, describe, hidden_words, is_since, no_authority, place_of, rights_of, scope_at};
use crate::blobs::beside;
use crate::devices::{is_handed_on, kin, names, with_devices};
use crate::peer::Peer;
use crate::people::{People, Person};
use crate::problem::Problem;
use crate::route::{storage_problem, write_problem};
use crate::sys::network::{bad, read};
use crate::who::now_ms;
use crate::words::{action_words, moment, scope_words};

mod written;

/// Grants and people that words about a revocation name; more are counted.
const STILL_MAX: usize = 5;

/// Takes back what somebody has, or says what that would do.
pub(super) async fn revoke(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        /// A grant, the beginning of its id, or whoever has some.
        what: String,
        #[serde(default)]
        path: String,
        #[serde(default)]
        cascade: bool,
        #[serde(default = "yes")]
        keep: bool,
        #[serde(default)]
        preview: bool,
        /// Whether nobody is to come any more by the invites by which he came.
        #[serde(default)]
        with_invite: bool,
    }
    fn yes() -> bool {
        true
    }
    let Wanted { what, path, cascade, keep, preview, with_invite } = read(body)?;
    let (space, path) = place_of(peer, &path).await?;
    let rights = rights_of(peer, space)?;
    let people = People::now(peer).await;
    let named: Vec<GrantId> = rights.grants().map(|(id, _)| *id).filter(|id| what.len() >= 6 && id.to_string().starts_with(&what)).collect();
    // What the owner calls somebody goes before the beginning of an id: those come of what others say.
    let is_called = people.is_called(&what);
    let mut taken = match named.as_slice() {
        [one] if !is_called => Taken::one(&people, &rights, one),
        [_, _, ..] if !is_called => return Err(bad(format!("several grants begin with {what}; write more of the id"))),
        _ => match Taken::of(&people, &rights, &what, &path) {
            Err(problem) if !keep => return Err(already_taken(&people, &rights, &Taken::before(&people, &rights, &what, &path)?).unwrap_or(problem)),
            taken => taken?,
        },
    };
    if !keep
        && !taken.grants.iter().any(|id| rights.is_live(id))
        && let Some(problem) = already_taken(&people, &rights, &taken)
    {
        return Err(problem);
    }
    let device = peer.store().device();
    let is_own = |id: &GrantId| rights.grant(id).is_some_and(|held| held.grant.audience == Audience::Key(device));
    if taken.keys.contains(&device)
        && let Some(own) = taken.grants.iter().find(|id| is_own(id))
    {
        return Err(bad(format!("{own} is this device's own right; use `timebus devices remove` on another device")));
    }
    // What somebody handed on to this device is no reason to keep him.
    taken.grants.retain(|id| !is_own(id));
    let targets: Vec<GrantId> = taken.grants.iter().copied().collect();
    let plan = peer.store().preview_revoke(space, &targets, cascade, keep).map_err(|error| match error {
        timebus_store::writer::WriteError::NoAuthority { .. } => no_authority(peer, &rights, &people, &path),
        other => write_problem(&other),
    })?;
    let gone: BTreeSet<GrantId> = plan.dead.iter().copied().collect();
    let dead: Vec<Serde> = plan.dead.iter().filter_map(|id| describe(&people, &rights, id)).collect();
    let stay = taken.stay(&rights, &gone);
    let still = taken.still(&rights, &gone);
    let mut says = taken.says(&people, &rights, &gone);
    says.extend(taken.says_left(&people, &rights, &stay, &still));
    if plan.dead.is_empty() {
        says.push("nothing changes: these grants are not in force".to_owned());
    }
    let hidden = plan.hidden.len();
    let loses = |actions: u8| plan.dead.iter().filter_map(|id| rights.grant(id)).any(|held| held.grant.actions.contains(Actions(actions)));
    if loses(Actions::READ.0) {
        says.push("nothing new comes to them; what they have fetched is on their machines and stays there".to_owned());
    }
    says.push(match (hidden, plan.kept) {
        (0, _) if !loses(Actions::WRITE.0) => String::new(),
        (0, _) => {
            let verb = if preview { "would be" } else { "is" };
            format!(
                "no change {verb} hidden: what they wrote there so far stays; what they write from now on, or have written and nobody here has \
                 seen, is hidden"
            )
        }
        (hidden, kept) => {
            let paths: BTreeSet<String> = plan.hidden.iter().flat_map(|one| &one.paths).map(ToString::to_string).collect();
            let first: Vec<String> = paths.iter().take(5).cloned().collect();
            let more = if paths.len() > 5 { format!(" and {} more", paths.len() - 5) } else { String::new() };
            let stays = if kept > 0 { format!("; {} of theirs stay", crate::words::counted(kept, "change")) } else { String::new() };
            let verb = if preview { "would be" } else { "are" };
            let hidden = crate::words::counted(hidden, "change");
            format!("{hidden} {verb} hidden for everybody, at {}{more}{stays}", crate::words::join(&first))
        }
    });
    says.retain(|line| !line.is_empty());
    let (of, keys) = (peer.clone(), taken.keys.clone());
    let written = beside(move || Written::of(&of, space, &keys, &path)).await?.map_err(|error| storage_problem(&error))?;
    says.extend(written.says(&people, &taken.name));
    // Whoever took a link has it.
    let invites = peer.network().map(|network| network.invites());
    let open = invites.map_or_else(Vec::new, |invites| invites.open_behind(&space.key, &rights, taken.grants.iter().chain(&plan.dead), now_ms()));
    for (record, left) in &open {
        let (id, times) = (&record.id, if *left == 1 { "once more".to_owned() } else { format!("{left} times more") });
        says.push(match (with_invite, preview) {
            (false, _) => {
                format!("the invite {id} by which {} came can be taken {times}, and he has the link: `timebus invites revoke {id}`", taken.name)
            }
            (true, true) => format!("the invite {id} by which {} came would be taken back, too", taken.name),
            (true, false) => format!("the invite {id} by which {} came is taken back, too", taken.name),
        });
    }
    let behind = taken.grants.iter().chain(&plan.dead);
    let elsewhere = invites.filter(|_| space.is_own()).map_or_else(BTreeMap::new, |invites| invites.elsewhere_behind(&rights, behind));
    for (id, device) in &elsewhere {
        let there = names::called(peer.store(), device);
        says.push(match (with_invite, preview) {
            (false, _) => format!("the invite {id} by which {} came was made on {there}: take it back there, if it can still be taken", taken.name),
            (true, true) => {
                format!("the invite {id} by which {} came would be taken back, too, when {there}, which made it, hears of it", taken.name)
            }
            (true, false) => format!("the invite {id} by which {} came is taken back, too, when {there}, which made it, hears of it", taken.name),
        });
    }
    if let Some(invites) = invites.filter(|_| with_invite && !preview) {
        for (record, _) in &open {
            invites.revoke(&record.id, false, now_ms()).await.map_err(|error| write_problem(&error))?;
        }
        for id in elsewhere.keys() {
            invites.revoke_elsewhere(id).await.map_err(|error| write_problem(&error))?;
        }
    }
    if !preview && !plan.dead.is_empty() {
        let mut known = BTreeSet::new();
        let mut grants = taken.grants.clone();
        // What a device handed on while this was looked at was seen before it is said, and would stay.
        while !grants.is_empty() {
            let statement = Statement::Revoke { grants: grants.iter().copied().collect(), cascade, keep };
            peer.store().state_in(Some(space), statement, now_ms()).await.map_err(|error| write_problem(&error))?;
            known.append(&mut grants);
            grants = with_devices(&*rights_of(peer, space)?, known.iter().copied()).difference(&known).copied().collect();
            grants.retain(|id| !is_own(id));
        }
    }
    let shown = |key: &PublicKey| json!({"key": key.to_string(), "device": human_name(key), "name": people.name(key)});
    Ok(json!({
        "preview": preview,
        "who": taken.name,
        "revoked": targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "dead": dead,
        "devices": taken.devices(&rights, &gone).iter().map(shown).collect::<Vec<_>>(),
        "stay": holders(&rights, &stay).iter().map(shown).collect::<Vec<_>>(),
        "still": still.iter().filter_map(|id| describe(&people, &rights, id)).collect::<Vec<_>>(),
        "hidden": hidden,
        "kept": plan.kept,
        "invites": open.iter().map(|(record, _)| record.id.as_str()).chain(elsewhere.keys().map(String::as_str)).collect::<Vec<_>>(),
        "changes": changes(&people, &rights, &plan.hidden),
        "written_for": written.describe(&people),
        "written_for_total": written.total,
        "says": says,
    }))
}

/// That what is to be hidden with a right was kept when that was taken back, which is for good: everybody goes by what was said then.
fn already_taken(people: &People, rights: &Rights, taken: &Taken) -> Option<Problem> {
    let by = |hidden: &Hidden| if let Hidden::Revoked { by, .. } = hidden { Some(by.change) } else { None };
    let all = || taken.grants.iter().flat_map(|id| rights.hidden_by(id).into_iter().map(|hidden| (*id, hidden)));
    let (id, hidden) = all().find(|(_, hidden)| by(hidden).is_some())?;
    let said: BTreeSet<_> = all().filter_map(|(_, hidden)| by(&hidden)).collect();
    let keeps = rights.keepers().any(|keeper| said.contains(&keeper.op.change));
    let because = match rights.grant(&id).filter(|held| is_since(&hidden, held.grant.not_after_ms)) {
        Some(held) => format!("it ended on {}", moment(held.grant.not_after_ms)),
        None => hidden_words(people, &hidden),
    };
    let name = &taken.name;
    let (what, fix) = match keeps {
        true => (
            format!("and what {name} had written by then was kept, for good"),
            "remove what should not stay: `timebus log` shows who wrote what, `timebus undo PATH VERSION` and `timebus rm PATH` take it away",
        ),
        false => (
            format!("and what {name} wrote by it and nobody had gone on with is hidden since then"),
            "`timebus quarantine` lists what is hidden; what shows was gone on with, and `timebus rm PATH` takes it away",
        ),
    };
    let detail = format!("the right of {name} is none any more: {because}, {what}");
    Some(Problem::new(StatusCode::CONFLICT, "taken-back", "that was taken back already", detail).with_fix(fix))
}

/// What is taken back, and from whom.
struct Taken {
    name: String,
    /// The keys of whoever it is, and of his the ones that are meant.
    all: BTreeSet<PublicKey>,
    keys: BTreeSet<PublicKey>,
    /// What these have, and what was handed on from that to other devices.
    grants: BTreeSet<GrantId>,
}

impl Taken {
    /// One grant.
    fn one(people: &People, rights: &Rights, id: &GrantId) -> Self {
        let held = rights.grant(id);
        let key = held.and_then(holder);
        let keys: BTreeSet<PublicKey> = key.into_iter().collect();
        let all = key.map_or_else(BTreeSet::new, |key| everything_of(people, rights, &key));
        let name = held.map_or_else(|| "nobody".to_owned(), |held| people.audience(&held.grant.audience));
        Self { name, all, keys, grants: with_devices(rights, [*id]) }
    }

    /// What somebody had at and below a path, and has no more.
    fn before(people: &People, rights: &Rights, who: &str, path: &Path) -> Result<Self, Problem> {
        let person = meant(people, rights, who)?;
        let all: BTreeSet<PublicKey> = person.keys.iter().flat_map(|key| everything_of(people, rights, key)).collect();
        let at = scope_at(path)?;
        let had = |held: &Held| !held.is_live() && at.includes(&held.scope()) && holder(held).is_some_and(|key| all.contains(&key));
        let grants = rights.grants().filter(|(_, held)| had(held)).map(|(id, _)| *id).collect();
        Ok(Self { name: person.name, keys: all.clone(), all, grants })
    }

    /// What somebody has at and below a path, or one of his devices.
    fn of(people: &People, rights: &Rights, who: &str, path: &Path) -> Result<Self, Problem> {
        let person = meant(people, rights, who)?;
        let is_device = |key: &PublicKey| rights.grants_for(key).any(|(_, held)| is_handed_on(held) && holder(held) == Some(*key));
        let is_whole = match person.space {
            Some(_) => people.is_whole(&person),
            None => !person.keys.iter().any(is_device),
        };
        let everything: BTreeSet<PublicKey> = person.keys.iter().flat_map(|key| everything_of(people, rights, key)).collect();
        let keys = if is_whole { everything.clone() } else { person.keys.iter().copied().collect() };
        let at = scope_at(path)?;
        let is_his = |held: &Held| match &held.grant.audience {
            Audience::Anyone => person.is_anyone,
            Audience::Key(key) => keys.contains(key),
        };
        let own: Vec<(&GrantId, Scope)> =
            rights.grants().filter(|(_, held)| held.is_live() && is_his(held)).map(|(id, held)| (id, held.scope())).collect();
        let inside: Vec<GrantId> = own.iter().filter(|(_, scope)| at.includes(scope)).map(|(id, _)| **id).collect();
        if !inside.is_empty() {
            return Ok(Self { name: person.name, all: everything, keys, grants: with_devices(rights, inside) });
        }
        let none = |detail: String| Problem::new(StatusCode::NOT_FOUND, "grant", "there is nothing to take back", detail);
        match own.iter().find(|(_, scope)| scope.includes(&at)) {
            Some((id, scope)) => Err(none(format!("{} has no grant for {path} alone, but one {}", person.name, scope_words(scope)))
                .with_fix(format!("take that one back (timebus revoke {id}), then grant anew what should stay"))),
            None => Err(none(format!("{} has no right at {path} that is in force", person.name))
                .with_fix("`timebus grants` lists what was granted; what a person can read may also be granted to anyone")),
        }
    }

    /// The devices that lose something, of those that are meant.
    fn devices(&self, rights: &Rights, dead: &BTreeSet<GrantId>) -> BTreeSet<PublicKey> {
        holders(rights, dead.iter().filter(|id| self.grants.contains(*id)))
    }

    /// Grants of others that were handed on from these and stay in force.
    fn stay(&self, rights: &Rights, dead: &BTreeSet<GrantId>) -> Vec<GrantId> {
        let is_below = |id: &GrantId| {
            let mut at = rights.grant(id).and_then(|held| held.parent);
            while let Some(parent) = at.filter(|parent| !self.grants.contains(parent)) {
                at = rights.grant(&parent).and_then(|held| held.parent);
            }
            at.is_some()
        };
        let left = rights.grants().filter(|(id, held)| held.is_live() && !dead.contains(*id) && is_below(id));
        left.filter(|(_, held)| holder(held).is_none_or(|key| !self.all.contains(&key))).map(|(id, _)| *id).collect()
    }

    /// What whoever it is may do all the same.
    fn still(&self, rights: &Rights, dead: &BTreeSet<GrantId>) -> Vec<GrantId> {
        let is_his = |held: &Held| holder(held).is_some_and(|key| self.all.contains(&key));
        rights.grants().filter(|(id, held)| held.is_live() && !dead.contains(*id) && is_his(held)).map(|(id, _)| *id).collect()
    }

    fn says(&self, people: &People, rights: &Rights, dead: &BTreeSet<GrantId>) -> Vec<String> {
        let mut says = Vec::new();
        for (id, held) in dead.iter().filter_map(|id| Some((id, rights.grant(id)?))) {
            let (who, handed) = match self.grants.contains(id) {
                true => (self.name.clone(), ""),
                false => (people.audience(&held.grant.audience), " (handed on)"),
            };
            let line =
                format!("{who} may no longer {} {}{handed}", crate::words::join(&action_words(held.grant.actions)), scope_words(&held.scope()));
            if !says.contains(&line) {
                says.push(line);
            }
        }
        let devices: Vec<String> = self.devices(rights, dead).iter().map(human_name).collect();
        if devices.len() > 1 || devices.iter().any(|device| *device != self.name) {
            says.push(format!("that is so for {}: {}", crate::words::counted(devices.len(), "device"), crate::words::join(&devices)));
        }
        says
    }

    /// What is not taken back, and how that would be.
    fn says_left(&self, people: &People, rights: &Rights, stay: &[GrantId], still: &[GrantId]) -> Vec<String> {
        let mut says = Vec::new();
        for (id, one) in still.iter().take(STILL_MAX).filter_map(|id| Some((id, describe(people, rights, id)?))) {
            says.push(format!(
                "still {}, by another grant: `timebus revoke {}`",
                one["says"].as_str().unwrap_or("?"),
                crate::words::short(&id.to_string())
            ));
        }
        if still.len() > STILL_MAX {
            says.push(format!("and {} more, as `timebus grants` shows", crate::words::counted(still.len() - STILL_MAX, "grant")));
        }
        // Whoever gave this to a device of his own can do so again.
        let is_given =
            |held: &&Held| is_handed_on(held) && !self.keys.contains(&held.author) && held.parent.is_some_and(|parent| rights.is_live(&parent));
        let mut givers: Vec<PublicKey> = self.grants.iter().filter_map(|id| rights.grant(id)).filter(is_given).map(|held| held.author).collect();
        givers.retain(|giver| {
            !rights.devices().any(|own| own == *giver) && !self.grants.iter().any(|id| rights.grant(id).and_then(holder) == Some(*giver))
        });
        if let Some(giver) = givers.first() {
            let name = people.name(giver);
            says.push(format!(
                "{name} gave this to a device of his own, and may do so again: `timebus revoke {}` takes it from all of his devices",
                crate::words::quoted(&name)
            ));
        }
        let guests: BTreeSet<String> = stay.iter().filter_map(|id| rights.grant(id)).map(|held| people.audience(&held.grant.audience)).collect();
        if !guests.is_empty() {
            let first: Vec<String> = guests.iter().take(STILL_MAX).cloned().collect();
            let more = if guests.len() > STILL_MAX { format!(" and {} more", guests.len() - STILL_MAX) } else { String::new() };
            says.push(format!(
                "{}{more} came in by way of {} and stay, unless what they have is taken back, too",
                crate::words::join(&first),
                self.name
            ));
        }
        says
    }
}

/// The key that a grant is for.
fn holder(held: &Held) -> Option<PublicKey> {
    match held.grant.audience {
        Audience::Key(key) => Some(key),
        Audience::Anyone => None,
    }
}

fn holders<'a>(rights: &Rights, grants: impl IntoIterator<Item = &'a GrantId>) -> BTreeSet<PublicKey> {
    grants.into_iter().filter_map(|id| rights.grant(id)).filter_map(holder).collect()
}

/// All keys of whoever has a key.
fn everything_of(people: &People, rights: &Rights, key: &PublicKey) -> BTreeSet<PublicKey> {
    let mut keys = vec![*key];
    if let Some(space) = people.space_of(key) {
        keys.extend(people.find(&space.to_string()).map(|person| person.keys).unwrap_or_default());
        keys.extend(people.who_say_they_are(&space).chain(people.former(&space)));
    }
    kin(rights, &keys)
}

/// Whom a name means: somebody who is known, or a device that has a grant and is called so, as `timebus grants` prints it.
pub(super) fn meant(people: &People, rights: &Rights, who: &str) -> Result<Person, Problem> {
    match people.find(who) {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => named_in(people, rights, who).ok_or(problem),
        found => found,
    }
}

/// The one key with a grant that is called so, or begins so: a device of somebody of whom nothing else is known.
fn named_in(people: &People, rights: &Rights, who: &str) -> Option<Person> {
    let name = who.strip_prefix('@').unwrap_or(who);
    let fits = |key: &PublicKey| human_name(key) == name || (name.len() >= 4 && key.to_string().starts_with(name));
    let found: BTreeSet<PublicKey> = rights.grants().filter_map(|(_, held)| holder(held)).filter(fits).collect();
    match Vec::from_iter(found)[..] {
        [key] => Some(Person { name: people.name(&key), space: None, keys: vec![key], is_anyone: false }),
        _ => None,
    }
}
