//! The invites that this peer gave out.
//!
//! Each is a small file that has the hash of its secret, so that whoever reads the disk cannot take it. How often it
//! was taken is not counted there: the grants that came of it carry its id, and the store issues no more of them than
//! it allows, whoever races and whatever crashes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use timebus_identity::{PublicKey, hash, z32};
use timebus_store::auth::mounts::scope_of;
use timebus_store::auth::{Held, Rights};
use timebus_store::grant::{Actions, Audience, Grant, Timelines};
use timebus_store::ids::GrantId;
use timebus_store::json::Json;
use timebus_store::path::{Path, Segment};
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::{Statement, WriteError};

use crate::community;
use crate::devices::instead::origin;
use crate::invite::Role;
use crate::lists::{self, List};
use crate::peer::{Peer, lock};
use crate::sync::Remote;
use crate::who::now_ms;

/// Invites that are kept at once; old ones that cannot be taken any more make room.
const INVITES_MAX: usize = 10_000;
/// Guests of whom the owner's other devices are told.
const TOLD_MAX: usize = 5_000;
/// How often one peer may take invites in a minute.
const TRIES_MAX: u32 = 10;
/// Peers of which that is counted; of others the one that began longest ago is forgotten.
const TRIERS_MAX: usize = 4096;

/// Somebody who took an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The device that got the grant.
    pub device: String,
    /// The space that its owner calls his own.
    pub space: String,
    /// What it calls itself.
    pub name: String,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// An invite that was given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name, which is no secret.
    pub id: String,
    /// What it lets the bearer do.
    pub role: Role,
    /// Where.
    pub path: String,
    /// Whether the path was kept apart when it was made, so that it is all that may be read.
    #[serde(default)]
    pub only: bool,
    /// The space it leads to; the own one if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// How many levels of guests the bearer may bring himself.
    #[serde(default)]
    pub depth: u8,
    /// How many may take it.
    pub uses_max: u64,
    /// Bytes that each of them may write; 0 is no limit.
    pub bytes_max: u64,
    /// Until when it can be taken; Unix milliseconds, 0 for always.
    pub expires_ms: u64,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// For the owner, to remember whom it was for.
    #[serde(default)]
    pub note: String,
    /// Whether it was taken back.
    #[serde(default)]
    pub is_revoked: bool,
    /// Who took it.
    #[serde(default)]
    pub redeemed: Vec<Redeemed>,
}

/// What is wanted of a new invite.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The space it leads to.
    pub space: PublicKey,
    /// How many levels of guests the bearer may bring himself.
    pub depth: u8,
    /// What it lets the bearer do.
    pub role: Role,
    /// Where.
    pub path: Path,
    /// How many may take it.
    pub uses_max: u64,
    /// Bytes that each of them may write; 0 is no limit.
    pub bytes_max: u64,
    /// Until when it can be taken; Unix milliseconds, 0 for always.
    pub expires_ms: u64,
    /// For the owner.
    pub note: String,
}

/// Why a token was not redeemed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// Unknown, used up, expired or taken back; which of them is nobody's business.
    #[error("the invite is used up, expired or was taken back")]
    Invalid,
    /// Too many tries.
    #[error("too many tries, wait a minute")]
    Tries,
    /// The grant could not be written.
    #[error("the inviter could not write the grant: {0}")]
    Write(#[from] WriteError),
}

/// Why an invite cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// Only names can be granted.
    #[error("an invite is for a path of names; {0} leads into a list")]
    Element(Path),
    /// Only who may bring guests himself can invite to a space of somebody else.
    #[error("you may not invite others to {0} of this space: who invited you did not allow it, or allowed less than this")]
    NotOurs(Path),
    /// Too many.
    #[error("{INVITES_MAX} invites can be open at once; take some back with `timebus invites revoke`")]
    Full,
    /// The disk.
    #[error("the invite could not be written")]
    Io(#[from] io::Error),
}

/// All invites of a peer.
#[derive(Debug)]
pub struct Invites {
    folder: PathBuf,
    store: Store,
    records: Mutex<BTreeMap<String, Record>>,
    tries: Mutex<HashMap<PublicKey, (u64, u32)>>,
}

/// The name of the invite with this secret.
fn id_of(token: &[u8; 16]) -> String {
    z32::encode(&hash("invite", &[token])[..16])
}

/// What the names of grants that come of invites begin with.
pub(crate) const INVITE: &str = "invite:";

/// What the grants that come of an invite are called.
fn label(id: &str) -> Box<str> {
    format!("{INVITE}{id}").into()
}

impl Invites {
    /// Reads the invites in a folder; there are none if it does not exist.
    ///
    /// # Errors
    ///
    /// What the system says. A file that is no invite is left alone and reported.
    pub fn open(folder: &FilePath, store: Store) -> io::Result<Self> {
        let mut records = BTreeMap::new();
        let files = match std::fs::read_dir(folder) {
            Ok(files) => files.collect::<Result<Vec<_>, _>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for file in files {
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match serde_json::from_slice::<Record>(&std::fs::read(&path)?) {
                Ok(record) => drop(records.insert(record.id.clone(), record)),
                Err(error) => tracing::warn!(file = %path.display(), %error, "this is no invite"),
            }
        }
        Ok(Self { folder: folder.to_owned(), store, records: Mutex::new(records), tries: Mutex::default() })
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        crate::files::write_whole(&self.folder.join(format!("{}.json", record.id)), &serde_json::to_vec_pretty(record)?)
    }

    /// Makes an invite with this secret, and answers its record once that is on disk.
    ///
    /// # Errors
    ///
    /// [`WishError`].
    pub fn create(&self, wish: &Wish, token: &[u8; 16], now_ms: u64) -> Result<Record, WishError> {
        if wish.path.segments().iter().any(|segment| matches!(segment, Segment::Element(_))) {
            return Err(WishError::Element(wish.path.clone()));
        }
        let record = Record {
            id: id_of(token),
            role: wish.role,
            path: wish.path.to_string(),
            only: self.store.rights(&wish.space).is_some_and(|rights| rights.mount_of(&wish.path).is_some()),
            space: (wish.space != self.store.space()).then(|| wish.space.to_string()),
            depth: wish.depth,
            uses_max: wish.uses_max,
            bytes_max: wish.bytes_max,
            expires_ms: wish.expires_ms,
            created_ms: now_ms,
            note: wish.note.clone(),
            is_revoked: false,
            redeemed: Vec::new(),
        };
        if self.grants(&record, self.store.device()).is_none() {
            return Err(WishError::NotOurs(wish.path.clone()));
        }
        let mut records = lock(&self.records);
        if records.len() >= INVITES_MAX {
            let over = records.values().find(|record| record.is_revoked || is_over(record, now_ms)).map(|record| record.id.clone());
            let over = over.ok_or(WishError::Full)?;
            records.remove(&over);
            let _ = std::fs::remove_file(self.folder.join(format!("{over}.json")));
        }
        self.save(&record)?;
        records.insert(record.id.clone(), record.clone());
        Ok(record)
    }

    /// All invites, the latest first.
    #[must_use]
    pub fn list(&self) -> Vec<Record> {
        let mut all: Vec<Record> = lock(&self.records).values().cloned().collect();
        all.sort_by_key(|record| std::cmp::Reverse(record.created_ms));
        all
    }

    /// How many levels of guests a guest of this device may bring in a space of somebody else.
    #[must_use]
    pub fn depth_left(&self, space: &PublicKey) -> u8 {
        let Some(rights) = self.store.rights(space) else { return 0 };
        let own = Audience::Key(self.store.device());
        let depths = rights.grants().filter(|(_, held)| held.is_live() && held.grant.audience == own).map(|(_, held)| held.grant.depth);
        depths.max().unwrap_or(0).saturating_sub(1)
    }

    /// How an invite is: `open`, `used up`, `expired` or `revoked`.
    #[must_use]
    pub fn state_of(&self, record: &Record, now_ms: u64) -> &'static str {
        match record {
            _ if self.is_taken_back(record) => "revoked",
            _ if self.uses(record) >= record.uses_max => "used up",
            _ if record.expires_ms > 0 && now_ms > record.expires_ms => "expired",
            _ => "open",
        }
    }

    /// Whether an invite was taken back, here or on another device of the owner.
    fn is_taken_back(&self, record: &Record) -> bool {
        record.is_revoked || lists::has(&self.store, List::Invites, &record.id).unwrap_or(false)
    }

    /// Invites that other devices of the owner made, and by which some of these grants came, each with the device that made it: whether
    /// they can still be taken is not known here.
    pub(crate) fn elsewhere_behind<'a>(&self, rights: &Rights, grants: impl IntoIterator<Item = &'a GrantId>) -> BTreeMap<String, PublicKey> {
        let held = grants.into_iter().filter_map(|id| rights.grant(id)).map(|held| origin(rights, held));
        let ours = held.filter(|held| self.is_ours(rights, held) && held.author != self.store.device());
        let made = ours.filter_map(|held| Some((held.grant.label.strip_prefix(INVITE)?.to_owned(), held.author)));
        let records = lock(&self.records);
        let is_new = |id: &String| !records.contains_key(id) && !lists::has(&self.store, List::Invites, id).unwrap_or(true);
        made.filter(|(id, _)| is_new(id)).collect()
    }

    /// Takes an invite back that another device of the owner made: as soon as that one hears of it.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub(crate) async fn revoke_elsewhere(&self, id: &str) -> Result<(), WriteError> {
        lists::put(&self.store, List::Invites, id, Some(BTreeMap::new())).await
    }

    /// The invites that can still be taken and by which some of these grants came, and how often each can.
    pub(crate) fn open_behind<'a>(
        &self,
        space: &PublicKey,
        rights: &Rights,
        grants: impl IntoIterator<Item = &'a GrantId>,
        now_ms: u64,
    ) -> Vec<(Record, u64)> {
        let held = grants.into_iter().filter_map(|id| rights.grant(id)).map(|held| origin(rights, held));
        let labels: BTreeSet<Box<str>> = held.filter(|held| self.is_ours(rights, held)).map(|held| held.grant.label.clone()).collect();
        let mut open = self.list();
        open.retain(|record| self.space_of(record) == *space && labels.contains(&label(&record.id)) && self.state_of(record, now_ms) == "open");
        open.into_iter().map(|record| (record.uses_max.saturating_sub(self.uses(&record)), record)).map(|(left, record)| (record, left)).collect()
    }

    /// How often an invite was taken.
    #[must_use]
    pub fn uses(&self, record: &Record) -> u64 {
        let label = label(&record.id);
        let rights = self.store.rights(&self.space_of(record));
        let counts = |rights: &Rights, id: &GrantId, held: &Held| held.grant.label == label && self.is_ours(rights, held) && rights.was_in_force(id);
        rights.map_or(0, |rights| rights.grants().filter(|(id, held)| counts(&rights, id, held)).count() as u64)
    }

    /// Whether a grant was given by the owner of its space or by a device of this one: guests may call what they give the same.
    fn is_ours(&self, rights: &Rights, held: &Held) -> bool {
        let was_own = |key: &PublicKey| self.store.rights(&self.store.space()).is_some_and(|own| own.was_device(key));
        rights.is_by_owner(held) || held.author == self.store.device() || was_own(&held.author)
    }

    /// Takes an invite back, and with `and_grants` also what was granted by it. Answers it; `None` if it is unknown.
    ///
    /// # Errors
    ///
    /// [`WriteError`] for the grants; the invite itself is taken back then.
    pub async fn revoke(&self, id: &str, and_grants: bool, now_ms: u64) -> Result<Option<Record>, WriteError> {
        let record = {
            let mut records = lock(&self.records);
            let Some(record) = records.get_mut(id) else { return Ok(None) };
            record.is_revoked = true;
            if let Err(error) = self.save(record) {
                tracing::error!(%error, "a revoked invite was not written");
            }
            record.clone()
        };
        let space = self.space_of(&record);
        if and_grants && let Some(rights) = self.store.rights(&space) {
            let label = label(id);
            let is_of_it = |held: &Held| held.is_live() && origin(&rights, held).grant.label == label && self.is_ours(&rights, origin(&rights, held));
            let grants: Vec<GrantId> = rights.grants().filter(|(_, held)| is_of_it(held)).map(|(grant, _)| *grant).collect();
            let parent = grants.first().and_then(|grant| rights.grant(grant)?.parent);
            if !grants.is_empty() {
                self.state(&space, parent, Statement::Revoke { grants, cascade: true, keep: true }, now_ms).await?;
            }
        }
        Ok(Some(record))
    }

    /// The space of whoever took an invite with a device, by its own word if it is the first that says so (`firsts`).
    #[must_use]
    pub fn guest(&self, device: &PublicKey) -> Option<PublicKey> {
        let device = device.to_string();
        let records = lock(&self.records);
        let redeemed = records.values().flat_map(|record| &record.redeemed).find(|redeemed| redeemed.device == device)?;
        let is_first = firsts(records.values()).get(redeemed.space.as_str()) == Some(&device.as_str());
        if is_first { redeemed.space.parse().ok() } else { device.parse().ok() }
    }

    /// The space that an invite leads to.
    #[must_use]
    pub fn space_of(&self, record: &Record) -> PublicKey {
        record.space.as_ref().and_then(|space| space.parse().ok()).unwrap_or_else(|| self.store.space())
    }

    /// Says something in the own space, or in another one in the name of a grant of ours.
    async fn state(&self, space: &PublicKey, under: Option<GrantId>, statement: Statement, now_ms: u64) -> Result<(), WriteError> {
        match (self.store.held(space).filter(|held| !held.is_own()), under) {
            (Some(held), Some(under)) => self.store.state_as(held, under, statement, now_ms).await.map(drop),
            _ => self.store.state(statement, now_ms).await.map(drop),
        }
    }

    /// Gives the bearer of a token what its invite promises. Answers the space that he may enter.
    ///
    /// # Errors
    ///
    /// [`RedeemError`]; nothing was granted then.
    pub async fn redeem(&self, token: [u8; 16], device: PublicKey, remote: &Remote, now_ms: u64) -> Result<PublicKey, RedeemError> {
        let id = id_of(&token);
        // Nobody guesses 128 bits, and whoever tries is no reason to let those wait who need not.
        let record = lock(&self.records).get(&id).cloned().ok_or(RedeemError::Invalid)?;
        if !self.may_try(remote.keys.first().copied().unwrap_or(remote.node), now_ms) {
            return Err(RedeemError::Tries);
        }
        if self.is_taken_back(&record) || is_over(&record, now_ms) {
            // Who was granted before what it says, and did not hear of it, is told.
            return if self.is_granted(&record, device) { Ok(self.space_of(&record)) } else { Err(RedeemError::Invalid) };
        }
        let grants = self.grants(&record, device).ok_or(RedeemError::Invalid)?;
        let space = self.space_of(&record);
        for (grant, under) in grants {
            // Only the first has the label that is counted.
            let uses_max = if grant.label == label(&id) { record.uses_max } else { u64::MAX };
            match self.state(&space, under, Statement::Redeem { grant, uses_max }, now_ms).await {
                Ok(()) => {}
                Err(WriteError::UsedUp) => return Err(RedeemError::Invalid),
                Err(error) => return Err(error.into()),
            }
        }
        let mut records = lock(&self.records);
        if let Some(record) = records.get_mut(&id)
            && !record.redeemed.iter().any(|redeemed| redeemed.device == device.to_string())
        {
            let (whose, name) = (remote.space.to_string(), remote.name.clone());
            record.redeemed.push(Redeemed { device: device.to_string(), space: whose, name, at_ms: now_ms });
            if let Err(error) = self.save(record) {
                tracing::error!(%error, "who took an invite was not written; his grant was");
            }
        }
        Ok(space)
    }

    /// Has the owner's other devices know who took invites of this one, and what he calls himself: else they would know a key. Where
    /// there is no other device nothing is written.
    pub(crate) async fn tell_devices(&self) -> Result<(), WriteError> {
        let store = &self.store;
        let has_more =
            store.rights(&store.space()).is_some_and(|rights| rights.devices().nth(1).is_some() && rights.device_grant(&store.device()).is_some());
        if !has_more || lock(&self.records).values().all(|record| record.redeemed.is_empty()) {
            return Ok(());
        }
        let told = lists::read(store, List::Guests)?.unwrap_or_default();
        let is_new = |redeemed: &&Redeemed| redeemed.device.parse().is_ok_and(|device: PublicKey| !told.contains(&device));
        let new: Vec<Redeemed> = lock(&self.records).values().flat_map(|record| &record.redeemed).filter(is_new).cloned().collect();
        for redeemed in new.into_iter().take(TOLD_MAX.saturating_sub(told.len())) {
            let Ok(device) = redeemed.device.parse::<PublicKey>() else { continue };
            let at = Json::Int(i64::try_from(redeemed.at_ms).unwrap_or(i64::MAX));
            let entry = [("space", Json::String(redeemed.space)), ("name", Json::String(redeemed.name)), ("at", at)];
            lists::put(store, List::Guests, &device, Some(entry.map(|(name, value)| (name.to_owned(), value)).into())).await?;
        }
        Ok(())
    }

    /// Whether a device has what an invite promises.
    fn is_granted(&self, record: &Record, device: PublicKey) -> bool {
        let label = label(&record.id);
        let is_it = |held: &Held| held.is_live() && held.grant.label == label && held.grant.audience == Audience::Key(device);
        self.store.rights(&self.space_of(record)).is_some_and(|rights| rights.grants().any(|(_, held)| is_it(held)))
    }

    fn may_try(&self, who: PublicKey, now_ms: u64) -> bool {
        let mut tries = lock(&self.tries);
        if tries.len() >= TRIERS_MAX && !tries.contains_key(&who) {
            let oldest = tries.iter().min_by_key(|(_, (since, _))| *since).map(|(who, _)| *who);
            oldest.map(|oldest| tries.remove(&oldest));
        }
        let (since, count) = tries.entry(who).or_insert((now_ms, 0));
        if now_ms.saturating_sub(*since) >= 60_000 {
            (*since, *count) = (now_ms, 0);
        }
        *count += 1;
        *count <= TRIES_MAX
    }

    /// What an invite promises to a device, and the grants of ours in whose name it is given; none in the own space, where
    /// this device is the owner's. `None` if it cannot be given, or not any more. The first has the label of the invite.
    fn grants(&self, record: &Record, device: PublicKey) -> Option<Vec<(Grant, Option<GrantId>)>> {
        let path = Path::parse(&record.path).ok()?;
        let space = self.space_of(record);
        let rights = self.store.rights(&space)?;
        // What was promised is given, or nothing: the path may be kept apart now, or no longer.
        let there = rights.timelines_at(&path);
        if record.role != Role::Device && record.only != (there != Timelines::Main) {
            return None;
        }
        let mut actions = Actions::SYNC.0 | Actions::READ.0;
        if record.role == Role::Write {
            actions |= Actions::WRITE.0;
        }
        if record.depth > 0 {
            actions |= Actions::GRANT.0;
        }
        let mut grant = Grant {
            audience: Audience::Key(device),
            scope: scope_of(&path)?,
            timelines: there,
            actions: Actions(actions),
            bytes_max: record.bytes_max,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth: record.depth,
            label: label(&record.id),
        };
        let own = self.store.device();
        if record.role == Role::Member {
            let grants = community::membership(&self.store, &space, &grant)?;
            return grants.into_iter().map(|grant| self.under(&rights, grant)).collect();
        }
        if record.role == Role::Device {
            // It can do what this device can, and add further ones.
            let own = rights.grant(&rights.device_grant(&own)?)?;
            (grant.actions, grant.timelines, grant.depth) = (Actions::ALL, Timelines::All, own.grant.depth.checked_sub(1)?);
        }
        if space == self.store.space() {
            return Some(vec![(grant, None)]);
        }
        self.under(&rights, grant).map(|given| vec![given])
    }

    /// The grant of ours in whose name another can be given in somebody else's space: as much as was promised, or nothing,
    /// since what is handed on is never more than what one has.
    fn under(&self, rights: &Rights, grant: Grant) -> Option<(Grant, Option<GrantId>)> {
        let own = Audience::Key(self.store.device());
        let now = now_ms();
        let ours = rights.grants().filter(|(_, held)| held.is_live() && held.grant.audience == own);
        let ours = ours.filter(|(_, held)| held.grant.actions.contains(Actions::GRANT));
        let ours = ours.filter(|(_, held)| held.grant.not_after_ms == 0 || now <= held.grant.not_after_ms);
        rights.best_first(ours.map(|(id, held)| (*id, held))).into_iter().find_map(|id| {
            let parent = &rights.grant(&id)?.grant;
            let limited = |child: u64, parent: u64| if child == 0 { parent } else { child };
            let grant = Grant {
                bytes_max: limited(grant.bytes_max, parent.bytes_max),
                change_bytes_max: parent.change_bytes_max,
                not_after_ms: parent.not_after_ms,
                ..grant.clone()
            };
            timebus_store::auth::is_narrower(&grant, parent).then_some((grant, Some(id)))
        })
    }
}

/// Whether an invite cannot be taken any more for its age.
fn is_over(record: &Record, now_ms: u64) -> bool {
    record.expires_ms > 0 && now_ms > record.expires_ms
}

/// The invites of this device, also while it has no network, and who took those of the owner's other ones.
pub(crate) fn known(peer: &Peer) -> Vec<Record> {
    let store = peer.store();
    let mut records = match peer.network() {
        Some(network) => network.invites().list(),
        None => Invites::open(&store.home().join("invites"), store.clone()).map(|invites| invites.list()).unwrap_or_default(),
    };
    records.extend(elsewhere(store, &records).ok());
    records
}

/// Who took invites of the owner's other devices, and of none of these, as an invite that nobody can take.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn elsewhere(store: &Store, known: &[Record]) -> Result<Record, StorageError> {
    let known: BTreeSet<&str> = known.iter().flat_map(|record| &record.redeemed).map(|redeemed| redeemed.device.as_str()).collect();
    let said = |entry: &Tree, name: &str| entry.names.get(name)?.writes.first().map(|write| write.value.clone());
    let text = |entry: &Tree, name: &str| if let Some(Value::String(text)) = said(entry, name) { Some(text.to_string()) } else { None };
    let at_ms = |entry: &Tree| if let Some(Value::Int(at)) = said(entry, "at") { u64::try_from(at).unwrap_or(0) } else { 0 };
    let read = |entry: &Tree| Some((text(entry, "space")?, text(entry, "name")?, at_ms(entry)));
    let listed = lists::read_with(store, List::Guests, read)?.unwrap_or_default();
    let redeemed = listed.into_iter().filter_map(|(device, said)| {
        let (space, name, at_ms) = said?;
        let device = device.to_string();
        (!known.contains(device.as_str())).then_some(Redeemed { device, space, name, at_ms })
    });
    Ok(Record {
        id: String::new(),
        role: Role::Read,
        path: "/".to_owned(),
        only: false,
        space: None,
        depth: 0,
        uses_max: 0,
        bytes_max: 0,
        expires_ms: 0,
        created_ms: 0,
        note: String::new(),
        is_revoked: true,
        redeemed: redeemed.collect(),
    })
}

/// The device that first took an invite as one of a space, by that space. Another one that says the same is somebody of his own
/// until the space itself names it, or anybody would take the room and the names of the first.
pub(crate) fn firsts<'a>(records: impl IntoIterator<Item = &'a Record>) -> HashMap<&'a str, &'a str> {
    let mut firsts: HashMap<&str, (u64, &str)> = HashMap::new();
    for redeemed in records.into_iter().flat_map(|record| &record.redeemed) {
        let this = (redeemed.at_ms, redeemed.device.as_str());
        firsts.entry(&redeemed.space).and_modify(|first| *first = this.min(*first)).or_insert(this);
    }
    firsts.into_iter().map(|(space, (_, device))| (space, device)).collect()
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::store::{Config, lock_home};

    use super::*;

    /// What a guest calls himself is known to the owner's other devices, and is nobody else's business.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_took_an_invite_is_known_on_all_devices() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = crate::whose::tests::open(home.path());
        let [bob, phone, space] = [1, 2, 3].map(|n| SecretKey::from_seed([n; 32]).public());
        let invites = Invites::open(&home.path().join("invites"), store.clone()).expect("none yet");
        let redeemed = vec![Redeemed { device: bob.to_string(), space: space.to_string(), name: "bob".to_owned(), at_ms: 7 }];
        let record = Record { id: "i".to_owned(), redeemed: redeemed.clone(), ..elsewhere(&store, &[]).expect("read") };
        lock(&invites.records).insert("i".to_owned(), record);
        invites.tell_devices().await.expect("nothing to do");
        assert!(!lists::is_apart(&store), "there is nobody to tell");
        crate::whose::tests::grant_key(&store, phone, Actions::ALL).await;
        invites.tell_devices().await.expect("written");
        assert!(lists::is_apart(&store));
        assert_eq!(elsewhere(&store, &[]).expect("read").redeemed, redeemed);
        assert_eq!(elsewhere(&store, &invites.list()).expect("read").redeemed, [], "what is known here is not said twice");
        let before = *store.arrivals().borrow();
        invites.tell_devices().await.expect("nothing to do");
        assert_eq!(*store.arrivals().borrow(), before);
        let people = crate::people::tests::of(&store, &[elsewhere(&store, &[]).expect("read")]);
        assert_eq!((people.name(&bob), people.find("bob").expect("one").keys), ("bob".to_owned(), vec![bob]));
    }

    /// Two devices say that they are of one space, of which nothing is known here.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_takes_the_room_of_who_was_there_before() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let [bob, eve, space] = [1, 2, 3].map(|n| SecretKey::from_seed([n; 32]).public());
        let invites = Invites::open(&home.path().join("invites"), store).expect("none yet");
        let redeemed = |device: PublicKey, at_ms| Redeemed { device: device.to_string(), space: space.to_string(), name: "bob".to_owned(), at_ms };
        let record: Record = serde_json::from_value(serde_json::json!({
            "id": "i", "role": "read", "path": "/", "uses_max": 9, "bytes_max": 0, "expires_ms": 0, "created_ms": 1,
            "redeemed": [redeemed(eve, 2), redeemed(bob, 1)],
        }))
        .expect("a record");
        lock(&invites.records).insert("i".to_owned(), record);
        assert_eq!([bob, eve].map(|device| invites.guest(&device)), [Some(space), Some(eve)]);
        assert_eq!(invites.guest(&space), None);
    }

    /// Who lets others in does it by what the owner gave him, not by what a guest did who may take it back.
    #[tokio::test(flavor = "multi_thread")]
    async fn whom_one_lets_in_hangs_on_what_the_owner_gave() {
        use timebus_store::op::Op;
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, gina] = homes.each_ref().map(|home| crate::whose::tests::open(home.path()));
        let grant = |to: PublicKey, depth: u8| Grant {
            audience: Audience::Key(to),
            scope: timebus_store::grant::Scope::everything(),
            timelines: Timelines::Main,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | if depth > 0 { Actions::GRANT.0 } else { 0 }),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth,
            label: "".into(),
        };
        let given = vec![Op::Grant(grant(bob.device(), 6)), Op::Grant(grant(gina.device(), 2))];
        let given = alice.state(Statement::Ops(given), 1).await.expect("granted");
        crate::whose::tests::tell(&alice, &alice.space(), &bob).await;
        let there = bob.held(&alice.space()).expect("held");
        // More of them than one, so that it is not by chance.
        for depth in 2..6 {
            bob.state_as(there, given[0], Statement::Ops(vec![Op::Grant(grant(gina.device(), depth))]), 1).await.expect("granted");
        }
        crate::whose::tests::tell(&bob, &alice.space(), &gina).await;
        let rights = gina.rights(&alice.space()).expect("held");
        let invites = Invites::open(&homes[2].path().join("invites"), gina.clone()).expect("none yet");
        let given_on = invites.under(&rights, grant(alice.device(), 0)).expect("she may");
        assert_eq!(given_on.1, Some(given[1]));
    }
}
