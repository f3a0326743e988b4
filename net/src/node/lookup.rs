//! Finding each other: what this peer says about itself, what it tells of others, and whom it asks when somebody cannot be
//! reached where he was.
//!
//! Looked in is, in this order: the address book with what invites said, the own network (the endpoint does that on
//! every call), and then what the peers that one is connected to know.

use timebus_identity::{PublicKey, Signed, Verified};

use super::book::{Contact, Source};
use super::introductions::VIA_MAX;
use super::records::Taken;
use super::{Act, Node, believable, core, id_of, speaks_for};
use crate::record::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, NODES_MAX, PeerRecord};
use crate::sync::frame::{ASKED_MAX, RECORDS, RECORDS_OF_FRAME_MAX};
use crate::sync::{Input, Remote, Replica};

use super::LinkId;

/// What a record costs that its peer did not sign.
const FORGED_POINTS: u32 = 64;

/// What is known of where somebody is.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Peers by that key, or of that space, as the book has them.
    pub contacts: Vec<(PublicKey, Contact, bool)>,
    /// Their own words.
    pub records: Vec<Verified<PeerRecord>>,
    /// How many peers can be asked for more.
    pub asked: usize,
}

impl Node {
    /// What is known of where somebody is, by his space or node key.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Found {
        let is_meant = |id: &PublicKey, contact: &Contact| id == key || contact.space == Some(*key);
        let contacts = self.book.contacts.iter().filter(|(id, contact)| is_meant(id, contact));
        Found {
            contacts: contacts.map(|(id, contact)| (*id, contact.clone(), self.is_linked(id))).collect(),
            records: self.records_of(key).cloned().collect(),
            asked: self.askable().len(),
        }
    }

    fn records_of(&self, key: &PublicKey) -> impl Iterator<Item = &Verified<PeerRecord>> {
        let of_space = self.book.records.of_space(*key).filter(move |record| record.node != *key);
        self.book.records.of(key).into_iter().chain(of_space)
    }

    /// Has this peer's own record signed, if what it says is not what is so any more.
    pub(super) fn renew_record(&self, now_ms: u64, acts: &mut Vec<Act>) {
        let addresses: Vec<String> =
            believable(&self.addresses).into_iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() && self.book.records.of(&self.config.node).is_none() {
            return;
        }
        let is_device = |contact: &Contact| contact.source == Source::Device || contact.space == Some(self.config.space);
        let devices =
            self.book.contacts.iter().filter(|(id, contact)| is_device(contact) && !contact.addresses.is_empty() && **id != self.config.node);
        let mirrors: Vec<PublicKey> = devices.map(|(id, _)| *id).take(NODES_MAX - 1).collect();
        let mut inbox = mirrors.clone();
        inbox.push(self.config.node);
        inbox.sort_unstable();
        let own = PeerRecord { node: self.config.node, space: self.config.space, seq: 1, addresses, mirrors, inbox, communities: Vec::new() };
        acts.extend(self.book.records.next_own(own, now_ms).map(|record| Act::Sign(Box::new(record))));
    }

    /// The own record was signed: all who are connected hear of it.
    pub(super) fn own_record(&mut self, record: Verified<PeerRecord>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let seq = record.seq;
        if record.node != self.config.node || self.book.records.take(record, now_ms.max(seq), |_| false) != Taken::New {
            return;
        }
        acts.push(Act::Save);
        let agreed: Vec<LinkId> = self.links.iter().filter(|(_, linked)| linked.session.is_agreed(RECORDS)).map(|(link, _)| *link).collect();
        for link in agreed {
            self.tell_own_record(link, now_ms, store, acts);
        }
    }

    fn tell_own_record(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let own = self.book.records.of(&self.config.node).map(PeerRecord::encode_verified);
        if let Some(own) = own {
            self.drive(link, Input::Records(vec![own.into()]), now_ms, store, acts);
        }
    }

    /// The other side of a link is known: it hears where this peer is, and is asked for those that are not reached.
    pub(super) fn exchange_records(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.renew_record(now_ms, acts);
        self.tell_own_record(link, now_ms, store, acts);
        if !self.askable().contains(&link) {
            return;
        }
        let mut keys: Vec<PublicKey> = self.callees();
        keys.retain(|id| self.calls.get(id).is_some_and(|call| call.problem.is_some()));
        let is_reached = |space: &PublicKey| self.links.values().any(|linked| linked.channels.values().any(|channel| channel.space == *space));
        keys.extend(self.book.following.keys().filter(|space| !is_reached(space)));
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(ASKED_MAX);
        if !keys.is_empty() {
            self.drive(link, Input::AskRecords(keys), now_ms, store, acts);
        }
    }

    /// Links to peers that are asked where others are: not those that came by themselves, who would learn whom one looks for.
    fn askable(&self) -> Vec<LinkId> {
        let is_known = |id: &PublicKey| self.book.contacts.get(id).is_some_and(|contact| contact.source > Source::Came);
        let of = |(link, linked): (&LinkId, &super::Linked)| {
            let id = id_of(linked.remote.as_ref()?, linked.node);
            (linked.session.is_agreed(RECORDS) && is_known(&id)).then_some(*link)
        };
        self.links.iter().filter_map(of).collect()
    }

    /// Asks who is connected where somebody is.
    pub(super) fn ask_around(&mut self, key: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        for link in self.askable() {
            self.drive(link, Input::AskRecords(vec![key]), now_ms, store, acts);
        }
    }

    /// Somebody asks where others are: he hears of those whom he may know of.
    pub(super) fn answer_records(&mut self, link: LinkId, keys: &[PublicKey], now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(remote) = self.links.get(&link).and_then(|linked| linked.remote.clone()) else { return };
        let known = keys.iter().flat_map(|key| self.records_of(key));
        let told: Vec<_> = known.filter(|record| self.may_know(&remote, record, store)).take(RECORDS_OF_FRAME_MAX).collect();
        let told: Vec<bytes::Bytes> = told.into_iter().map(|record| PeerRecord::encode_verified(record).into()).collect();
        if !told.is_empty() {
            self.drive(link, Input::Records(told), now_ms, store, acts);
        }
    }

    /// Whether somebody may hear where another is: both read one space, as far as is known here.
    fn may_know(&self, remote: &Remote, record: &PeerRecord, store: &dyn Replica) -> bool {
        if record.node == self.config.node || speaks_for(remote, &record.space, store) {
            return true;
        }
        let reads = |space: &PublicKey| {
            let follow = self.book.following.get(space).is_some_and(|follow| follow.via.contains(&record.node));
            let guest = *space == self.config.space && self.book.contacts.get(&record.node).is_some_and(|contact| contact.source == Source::Guest);
            let live = || {
                let mut theirs = self.links.values().filter(|linked| linked.node == Some(record.node));
                theirs.any(|linked| linked.channels.values().any(|channel| channel.space == *space))
            };
            record.space == *space || follow || guest || live()
        };
        self.wanted().iter().any(|space| reads(space) && store.may_sync(remote, space, &core(space)[0]).unwrap_or(false))
    }

    /// Records have come.
    pub(super) fn records_came(&mut self, link: LinkId, records: Vec<Signed<PeerRecord>>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let sender = self.links.get(&link).and_then(|linked| linked.node);
        for record in records {
            let (node, space) = (record.content().node, record.content().space);
            let is_known = self.book.contacts.contains_key(&node);
            let is_followed = self.book.following.contains_key(&space);
            // Of strangers one hears only from themselves.
            let is_wanted = is_known || is_followed || sender == Some(node) || self.book.petnames.contains_key(&space);
            if node == self.config.node || self.is_blocked(&node) || self.book.blocked.contains(&space) || !is_wanted {
                continue;
            }
            let Ok(record) = record.verify() else {
                return self.blame(link, FORGED_POINTS, "a record that its peer did not sign", now_ms, store, acts);
            };
            let addresses = believable(&record.addresses);
            let contacts = &self.book.contacts;
            let taken = self.book.records.take(record, now_ms, |node| contacts.get(node).is_none_or(|contact| contact.source == Source::Came));
            match taken {
                Taken::New => {
                    if let Some(follow) = self.book.following.get_mut(&space)
                        && !follow.via.contains(&node)
                        && follow.via.len() < VIA_MAX
                    {
                        follow.via.push(node);
                    }
                    if is_known || is_followed {
                        self.book.meet(node, Source::Introduced, &addresses, now_ms);
                        if let Some(call) = self.calls.get_mut(&node).filter(|call| !call.is_calling) {
                            (call.next_ms, call.attempts) = (now_ms, 0);
                        }
                    }
                    acts.extend([Act::Save, Act::Changed]);
                }
                // Who has an old one gets the new one.
                Taken::Old if sender != Some(node) => self.answer_records(link, &[node], now_ms, store, acts),
                Taken::Old | Taken::Known | Taken::Ahead => {}
            }
        }
    }
}
