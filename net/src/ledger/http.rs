//! Accounts of those who have this peer write over HTTP: guests who sign their requests, and apps of the owner. How often they ask,
//! how much was written for them, and how much more may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;

use timebus_identity::PublicKey;
use timebus_store::ids::TimelineId;
use timebus_store::store::Store;

use super::pools::{is_unknown, together_max};
use super::{Author, Cost, HTTP, Held, Ledger, Relation, Settings, State, UNSAVED_BYTES_MAX, Used, group, held_id, keys_of, make_way, sponsors};
use crate::peer::lock;

/// Requests at once and each second, of one key that is not the owner's.
const REQUESTS_BURST: f64 = 200.0;
const REQUESTS_PER_S: f64 = 50.0;
/// The same of an app, whose page begins with many: it watches what hundreds of people write.
const APP_REQUESTS_BURST: f64 = 5000.0;
const APP_REQUESTS_PER_S: f64 = 1000.0;
/// Keys whose requests are counted; the one that was quiet longest is forgotten.
const CALLERS_MAX: usize = 4096;

/// Who has this peer do something, and is not its owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// Somebody who signs with a key.
    Key(PublicKey),
    /// An app of the owner, by its name here.
    App(String),
}

impl Payer {
    /// What an app is called where keys are told apart from apps.
    const APP: &str = "app:";

    /// By what he is called in settings: `app:chirp` or a key.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Key(key) => key.to_string(),
            Self::App(alias) => format!("{}{alias}", Self::APP),
        }
    }

    /// From [`Payer::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix(Self::APP) {
            Some(alias) => Some(Self::App(alias.to_owned())),
            None => name.parse().ok().map(Self::Key),
        }
    }

    /// As what he is known to those who ask the owner for room.
    fn held_id(&self) -> String {
        match self {
            Self::Key(key) => held_id(key.as_bytes(), HTTP),
            Self::App(_) => held_id(self.name().as_bytes(), HTTP),
        }
    }

    /// What counts for the quotas of his grants in a timeline; an app has none.
    fn quota(&self, timeline: &TimelineId) -> Option<String> {
        if let Self::Key(key) = self { Some(quota(key, timeline)) } else { None }
    }

    fn relation(&self) -> Relation {
        match self {
            // Whoever may write here was granted that by name.
            Self::Key(_) => Relation::Invited,
            Self::App(_) => Relation::App,
        }
    }

    /// Requests at once, and each second.
    fn pace(&self) -> (f64, f64) {
        match self {
            Self::Key(_) => (REQUESTS_BURST, REQUESTS_PER_S),
            Self::App(_) => (APP_REQUESTS_BURST, APP_REQUESTS_PER_S),
        }
    }
}

/// Those who let in somebody who has this peer write.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// The members of the space who did, whose room he shares; none if its owner did.
    pub members: Vec<PublicKey>,
    /// With whom he shares the places of what waits for the owner.
    pub group: Option<PublicKey>,
    /// Whose device he is, if that is known: what the owner said of him is for all of them.
    pub person: Option<PublicKey>,
    /// The keys of that person, who have one room together.
    pub keys: BTreeSet<PublicKey>,
}

/// For what bytes that somebody brings are counted.
#[derive(Clone, Copy, Debug)]
enum Counts<'a> {
    /// For nothing: it is asked whether there is room.
    Not,
    /// For what he may keep here.
    Room,
    /// And for the quotas of his grants in a timeline.
    Quotas(&'a TimelineId),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    tokens: f64,
    at_ms: u64,
    pub(super) requests: u64,
}

impl Ledger {
    /// Counts a request of somebody who is not the owner. `Err` has the milliseconds after which there is room for one.
    ///
    /// # Errors
    ///
    /// When he asks too often.
    pub fn request(&self, who: &Payer, now_ms: u64) -> Result<(), u64> {
        let mut state = lock(&self.state);
        if state.callers.len() >= CALLERS_MAX && !state.callers.contains_key(who) {
            let quiet = state.callers.iter().min_by_key(|(_, caller)| caller.at_ms).map(|(who, _)| who.clone());
            if let Some(quiet) = quiet {
                state.callers.remove(&quiet);
            }
        }
        let (burst, per_s) = who.pace();
        let caller = state.callers.entry(who.clone()).or_insert(Caller { tokens: burst, at_ms: now_ms, requests: 0 });
        let since_s = now_ms.saturating_sub(caller.at_ms) as f64 / 1000.0;
        caller.tokens = (caller.tokens + since_s * per_s).min(burst);
        caller.at_ms = now_ms;
        caller.requests += 1;
        if caller.tokens < 1.0 {
            return Err(((1.0 - caller.tokens) / per_s * 1000.0).ceil() as u64);
        }
        caller.tokens -= 1.0;
        Ok(())
    }

    /// Those whose room somebody shares who has this peer write in a space.
    pub fn hosts(&self, store: &Store, space: &PublicKey, payer: &Payer) -> Hosts {
        let is_known = lock(&self.state).settings.limits.contains_key(&payer.name());
        hosts_of(store, space, payer, is_known)
    }

    /// Asks whether there is room for bytes that this peer is to write for somebody who is not the owner, who shares the room of
    /// these hosts.
    ///
    /// # Errors
    ///
    /// The id of the request to the owner, when there is no room for them.
    pub fn room_for(&self, payer: &Payer, hosts: &Hosts, bytes: u64, now_ms: u64) -> Result<(), String> {
        self.demand(payer, hosts, bytes, false, Counts::Not, now_ms)
    }

    /// Counts bytes of values that this peer wrote for him in a timeline.
    pub fn count(&self, payer: &Payer, hosts: &Hosts, timeline: &TimelineId, bytes: u64) {
        let mut state = lock(&self.state);
        let State { settings, unsaved_bytes, .. } = &mut *state;
        settings.count(&payer.name(), hosts, bytes, payer.quota(timeline));
        let was_asked = forget(settings, payer, hosts, bytes);
        *unsaved_bytes = unsaved_bytes.saturating_add(bytes);
        if was_asked || payer.relation() != Relation::App || *unsaved_bytes > UNSAVED_BYTES_MAX {
            *unsaved_bytes = 0;
            self.save(settings);
        }
    }

    /// Counts bytes that he brings.
    ///
    /// # Errors
    ///
    /// As [`Ledger::room_for`].
    pub fn charge(&self, payer: &Payer, hosts: &Hosts, bytes: u64, now_ms: u64) -> Result<(), String> {
        self.demand(payer, hosts, bytes, false, Counts::Room, now_ms)
    }

    /// Bytes that this peer wrote for a key in a timeline of a space of its own so far, which count for the quotas of its grants there.
    #[must_use]
    pub fn quota_used(&self, key: &PublicKey, space: &PublicKey, timeline: &TimelineId) -> u64 {
        let state = lock(&self.state);
        let used = |name: &str| state.settings.guest_values.get(name).copied().unwrap_or(0);
        let before = if *timeline == TimelineId::named(space, "main") { used(&key.to_string()) } else { 0 };
        used(&quota(key, timeline)).saturating_add(before)
    }

    /// Asks whether there is room for a file that he wants to bring, before any of it is taken.
    ///
    /// # Errors
    ///
    /// As [`Ledger::room_for`].
    pub fn ask_file(&self, payer: &Payer, hosts: &Hosts, bytes: u64, now_ms: u64) -> Result<(), String> {
        self.demand(payer, hosts, bytes, true, Counts::Not, now_ms)
    }

    /// Counts a file that he brings to a path of a timeline.
    ///
    /// # Errors
    ///
    /// As [`Ledger::room_for`].
    pub fn charge_file(&self, payer: &Payer, hosts: &Hosts, timeline: &TimelineId, bytes: u64, now_ms: u64) -> Result<(), String> {
        self.demand(payer, hosts, bytes, true, Counts::Quotas(timeline), now_ms)
    }

    /// While that is held no other file is counted.
    pub(crate) fn one_file(&self) -> MutexGuard<'_, ()> {
        lock(&self.files)
    }

    /// Bytes that this peer may still write for somebody who is not the owner.
    #[must_use]
    pub fn room(&self, payer: &Payer, hosts: &Hosts) -> u64 {
        room(&lock(&self.state).settings, payer, hosts)
    }

    /// What was counted of a file that is not kept after all counts no more.
    pub fn give_back_file(&self, payer: &Payer, hosts: &Hosts, timeline: &TimelineId, bytes: u64) {
        let mut state = lock(&self.state);
        let settings = &mut state.settings;
        if let Some(written) = settings.guests.get_mut(&payer.name()) {
            *written = written.saturating_sub(bytes);
        }
        if let Some(values) = payer.quota(timeline).and_then(|quota| settings.guest_values.get_mut(&quota)) {
            *values = values.saturating_sub(bytes);
        }
        for host in &hosts.members {
            if let Some(together) = settings.paid_together.get_mut(&host.to_string()) {
                together.take(Used::values(bytes));
            }
        }
        self.save(settings);
    }

    fn demand(&self, payer: &Payer, hosts: &Hosts, bytes: u64, is_file: bool, counts: Counts<'_>, now_ms: u64) -> Result<(), String> {
        let mut state = lock(&self.state);
        let State { settings, unsaved_bytes, .. } = &mut *state;
        let (who, id) = (payer.name(), payer.held_id());
        let mut was_asked = false;
        let relation = payer.relation();
        let is_never = is_never(settings, payer, hosts);
        let is_over = is_never || bytes > room(settings, payer, hosts);
        let quota = match counts {
            Counts::Not if !is_over => return Ok(()),
            Counts::Not | Counts::Room => None,
            Counts::Quotas(timeline) => payer.quota(timeline),
        };
        if !is_over {
            settings.count(&who, hosts, bytes, quota);
            was_asked = forget(settings, payer, hosts, bytes);
        } else if !is_never
            && let counted = hosts.members.first().or(hosts.group.as_ref()).map_or_else(|| who.clone(), ToString::to_string)
            && (settings.held.contains_key(&id) || make_way(&mut settings.held, &counted, true))
        {
            let timeline = HTTP.to_owned();
            let (files, file_bytes) = if is_file { (1, bytes) } else { (0, 0) };
            let used = used(settings, payer, hosts);
            let held = Held {
                who: who.clone(),
                author: who,
                counted,
                timeline,
                relation,
                changes: 1,
                bytes,
                used,
                files,
                file_bytes,
                is_whole: true,
                upto: 0,
                since_ms: now_ms,
            };
            settings.held.insert(id.clone(), held);
        }
        *unsaved_bytes = unsaved_bytes.saturating_add(bytes);
        if is_over || was_asked || relation != Relation::App || *unsaved_bytes > UNSAVED_BYTES_MAX {
            *unsaved_bytes = 0;
            self.save(settings);
        }
        if is_over { Err(id) } else { Ok(()) }
    }

    /// Bytes that this peer wrote for somebody who is not the owner.
    pub(crate) fn wrote_for(&self, who: &Payer) -> u64 {
        lock(&self.state).settings.guests.get(&who.name()).copied().unwrap_or(0)
    }

    /// What every app costs that wrote or asked anything, by its name here.
    #[must_use]
    pub fn app_costs(&self) -> BTreeMap<String, Cost> {
        let mut all: BTreeMap<String, Cost> = BTreeMap::new();
        let state = lock(&self.state);
        for (who, bytes) in &state.settings.guests {
            if let Some(Payer::App(alias)) = Payer::parse(who) {
                all.entry(alias).or_default().bytes = *bytes;
            }
        }
        for (who, caller) in &state.callers {
            if let Payer::App(alias) = who {
                all.entry(alias.clone()).or_default().requests = caller.requests;
            }
        }
        all
    }
}

/// See [`Ledger::hosts`]; whether the owner said how much just this key may keep here is known.
fn hosts_of(store: &Store, space: &PublicKey, payer: &Payer, is_known: bool) -> Hosts {
    let Payer::Key(key) = payer else { return Hosts::default() };
    let members = store.rights(space).filter(|_| !is_known).map_or_else(Vec::new, |rights| sponsors(&rights, key));
    let person = crate::whose::spaces_of(store, key, false).first().copied();
    let keys = person.map_or_else(BTreeSet::new, |person| keys_of(store, &person).into_iter().collect());
    Hosts { members, group: Some(PublicKey::from_bytes(group(store, key))).filter(|_| !is_known), person, keys }
}

/// What was written over HTTP for whoever asks the owner for more, and how much he may have of his own: nothing as long as he shares a
/// room with others.
pub(super) fn account(settings: &Settings, store: &Store, held: &Held) -> (u64, u64) {
    match Payer::parse(&held.who) {
        Some(payer) if held.is_http() => {
            let hosts = hosts_of(store, &store.space(), &payer, settings.limits.contains_key(&held.who));
            let max = if hosts.members.is_empty() { bytes_max(settings, &payer, &hosts) } else { 0 };
            (used(settings, &payer, &hosts), max)
        }
        Some(Payer::Key(person)) if is_unknown(settings, &Author { person, relation: held.relation }) => (0, 0),
        _ => (0, settings.limits.get(&held.who).copied().unwrap_or(held.relation.bytes_max())),
    }
}

/// Under what is counted how much was written for a key in a timeline.
fn quota(key: &PublicKey, timeline: &TimelineId) -> String {
    format!("{key} {timeline}")
}

/// What was brought now, or has room by now, has to be asked for no longer. Answers whether it was.
fn forget(settings: &mut Settings, payer: &Payer, hosts: &Hosts, brought: u64) -> bool {
    let (id, room) = (payer.held_id(), room(settings, payer, hosts));
    let is_settled = settings.held.get(&id).is_some_and(|held| held.bytes <= brought.max(room));
    is_settled && settings.held.remove(&id).is_some()
}

/// Whether nothing more of somebody is wanted.
fn is_never(settings: &Settings, payer: &Payer, hosts: &Hosts) -> bool {
    settings.never.contains(&payer.name()) || hosts.person.is_some_and(|person| settings.never.contains(&person.to_string()))
}

/// Bytes that this peer may still write for somebody.
fn room(settings: &Settings, payer: &Payer, hosts: &Hosts) -> u64 {
    if is_never(settings, payer, hosts) {
        return 0;
    }
    bytes_max(settings, payer, hosts).saturating_sub(used(settings, payer, hosts)).min(guest_room(settings, &hosts.members))
}

/// Bytes that this peer may write for somebody, and all who have his room.
fn bytes_max(settings: &Settings, payer: &Payer, hosts: &Hosts) -> u64 {
    let of_person = hosts.person.and_then(|person| settings.limits.get(&person.to_string()));
    settings.limits.get(&payer.name()).or(of_person).copied().unwrap_or(payer.relation().bytes_max())
}

/// Bytes that it wrote for them: by all keys of a person, so that who makes himself another one has no more room.
fn used(settings: &Settings, payer: &Payer, hosts: &Hosts) -> u64 {
    let names: BTreeSet<String> = hosts.keys.iter().map(ToString::to_string).chain([payer.name()]).collect();
    names.iter().filter_map(|name| settings.guests.get(name)).fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

/// Bytes that may still be written for those whom these members let in: as many as one of them has room for.
fn guest_room(settings: &Settings, hosts: &[PublicKey]) -> u64 {
    let room = |host: &PublicKey| {
        let used = settings.paid_together.get(&host.to_string()).copied().unwrap_or_default().all;
        together_max(settings, &Author { person: *host, relation: Relation::Invited }).saturating_sub(used)
    };
    hosts.iter().map(room).max().unwrap_or(u64::MAX)
}
