//! Accounts of those who have this peer write over HTTP: guests who sign their requests, and apps of the owner. How often they ask,
//! how much was written for them, and how much more may be.

use std::collections::BTreeMap;

use timebus_identity::PublicKey;
use timebus_store::store::Store;

use super::pools::together_max;
use super::{Author, Cost, HTTP, Held, Ledger, Relation, Settings, State, UNSAVED_BYTES_MAX, Used, group, held_id, make_way, sponsors};
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
        let Payer::Key(key) = payer else { return Hosts::default() };
        let is_known = lock(&self.state).settings.limits.contains_key(&payer.name());
        let members = store.rights(space).filter(|_| !is_known).map_or_else(Vec::new, |rights| sponsors(&rights, key));
        let person = crate::whose::spaces_of(store, key, false).first().copied();
        Hosts { members, group: Some(PublicKey::from_bytes(group(store, key))).filter(|_| !is_known), person }
    }

    /// Asks whether there is room for bytes that this peer is to write for somebody who is not the owner, who shares the room of
    /// these hosts.
    ///
    /// # Errors
    ///
    /// The id of the request to the owner, when there is no room for them.
    pub fn room_for(&self, payer: &Payer, hosts: &Hosts, bytes: u64, now_ms: u64) -> Result<(), String> {
        self.demand(payer, hosts, bytes, false, false, now_ms)
    }

    /// Counts bytes of values that this peer wrote for him.
    pub fn count(&self, payer: &Payer, hosts: &Hosts, bytes: u64) {
        let mut state = lock(&self.state);
        let State { settings, unsaved_bytes, .. } = &mut *state;
        settings.count(&payer.name(), hosts, bytes, true);
        *unsaved_bytes = unsaved_bytes.saturating_add(bytes);
        if payer.relation() != Relation::App || *unsaved_bytes > UNSAVED_BYTES_MAX {
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
        self.demand(payer, hosts, bytes, false, true, now_ms)
    }

    /// Bytes of values that this peer wrote for somebody so far.
    #[must_use]
    pub fn values_for(&self, payer: &Payer) -> u64 {
        lock(&self.state).settings.guest_values.get(&payer.name()).copied().unwrap_or(0)
    }

    /// Counts a file that he brings; or only asks whether there is room for it, before any of it is taken.
    ///
    /// # Errors
    ///
    /// As [`Ledger::room_for`].
    pub fn charge_file(&self, payer: &Payer, hosts: &Hosts, bytes: u64, counts: bool, now_ms: u64) -> Result<(), String> {
        self.demand(payer, hosts, bytes, true, counts, now_ms)
    }

    /// Bytes that this peer may still write for somebody who is not the owner.
    #[must_use]
    pub fn room(&self, payer: &Payer, hosts: &Hosts) -> u64 {
        room(&lock(&self.state).settings, payer, hosts)
    }

    /// What was counted of a file that is not kept after all counts no more.
    pub fn give_back_file(&self, payer: &Payer, hosts: &Hosts, bytes: u64) {
        let mut state = lock(&self.state);
        let settings = &mut state.settings;
        if let Some(written) = settings.guests.get_mut(&payer.name()) {
            *written = written.saturating_sub(bytes);
        }
        for host in &hosts.members {
            if let Some(together) = settings.paid_together.get_mut(&host.to_string()) {
                together.take(Used::values(bytes));
            }
        }
        self.save(settings);
    }

    fn demand(&self, payer: &Payer, hosts: &Hosts, bytes: u64, is_file: bool, counts: bool, now_ms: u64) -> Result<(), String> {
        let mut state = lock(&self.state);
        let State { settings, unsaved_bytes, .. } = &mut *state;
        let who = payer.name();
        let used = settings.guests.get(&who).copied().unwrap_or(0);
        let relation = payer.relation();
        let is_never = is_never(settings, payer, hosts);
        let is_over = is_never || bytes > room(settings, payer, hosts);
        let id = match payer {
            Payer::Key(key) => held_id(key.as_bytes(), HTTP),
            Payer::App(_) => held_id(who.as_bytes(), HTTP),
        };
        if !is_over && !counts {
            return Ok(());
        }
        if !is_over {
            settings.count(&who, hosts, bytes, false);
        } else if !is_never
            && let counted = hosts.members.first().or(hosts.group.as_ref()).map_or_else(|| who.clone(), ToString::to_string)
            && (settings.held.contains_key(&id) || make_way(&mut settings.held, &counted, true))
        {
            let timeline = HTTP.to_owned();
            let (files, file_bytes) = if is_file { (1, bytes) } else { (0, 0) };
            let bytes = used.saturating_add(bytes);
            let held = Held {
                who: who.clone(),
                author: who,
                counted,
                timeline,
                relation,
                changes: 1,
                bytes,
                files,
                file_bytes,
                is_whole: true,
                upto: 0,
                since_ms: now_ms,
            };
            settings.held.insert(id.clone(), held);
        }
        *unsaved_bytes = unsaved_bytes.saturating_add(bytes);
        if is_over || relation != Relation::App || *unsaved_bytes > UNSAVED_BYTES_MAX {
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

/// Whether nothing more of somebody is wanted.
fn is_never(settings: &Settings, payer: &Payer, hosts: &Hosts) -> bool {
    settings.never.contains(&payer.name()) || hosts.person.is_some_and(|person| settings.never.contains(&person.to_string()))
}

/// Bytes that this peer may still write for somebody.
fn room(settings: &Settings, payer: &Payer, hosts: &Hosts) -> u64 {
    if is_never(settings, payer, hosts) {
        return 0;
    }
    let who = payer.name();
    let used = settings.guests.get(&who).copied().unwrap_or(0);
    let of_person = hosts.person.and_then(|person| settings.limits.get(&person.to_string()));
    let bytes_max = settings.limits.get(&who).or(of_person).copied().unwrap_or(payer.relation().bytes_max());
    bytes_max.saturating_sub(used).min(guest_room(settings, &hosts.members))
}

/// Bytes that may still be written for those whom these members let in: as many as one of them has room for.
fn guest_room(settings: &Settings, hosts: &[PublicKey]) -> u64 {
    let room = |host: &PublicKey| {
        let used = settings.paid_together.get(&host.to_string()).copied().unwrap_or_default().all;
        together_max(settings, &Author { person: *host, relation: Relation::Invited }).saturating_sub(used)
    };
    hosts.iter().map(room).max().unwrap_or(u64::MAX)
}
