//! Spaces that only some follow, and people who come by invites.

use std::collections::BTreeSet;

use timebus_identity::{PublicKey, hash};
use timebus_store::auth::Held;
use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment};
use timebus_store::ids::GrantId;
use timebus_store::writer::{Statement, WriteError};

use super::beginning::grant;
use super::{BEGUN_MS, Deed, Offer, World};
use crate::lab::peer::{Invite, answer};
use crate::node::{Event as NodeEvent, LinkId};
use crate::sync::RedeemAnswer;
use crate::sync::frame::Redemption;

impl World {
    /// Plans who invites whom, and when.
    pub(super) fn plan_invites(&mut self) {
        let honest = self.honest();
        let end = self.config.seconds * 1000;
        for number in 0..self.config.invites {
            let owner = honest[self.dice.below(honest.len())];
            let strangers: Vec<usize> =
                (0..self.peers.len()).filter(|peer| self.peers[*peer].space() != self.peers[owner].space() && !self.is_guest(*peer, owner)).collect();
            let mut guests: Vec<usize> = strangers.into_iter().filter(|_| self.dice.percent(60)).collect();
            guests.truncate(4);
            if guests.is_empty() {
                continue;
            }
            let uses_max = 1 + self.dice.below(guests.len()) as u64;
            let digest = hash("lab invite", &[&self.config.seed.to_be_bytes(), &(number as u64).to_be_bytes()]);
            let mut token = [0; 16];
            token.copy_from_slice(&digest[..16]);
            let made_ms = self.dice.between(BEGUN_MS, end);
            let invite = self.offers.len();
            self.at(made_ms, Deed::Invite(invite));
            for guest in guests.iter().copied() {
                // Often several at the same moment.
                let ms = if self.dice.percent(50) { made_ms + 1000 } else { self.dice.between(made_ms, end) };
                self.at(ms.min(end.max(made_ms + 1)), Deed::Join { invite, guest });
            }
            if self.dice.percent(15) {
                let ms = self.dice.between(made_ms, end);
                self.at(ms, Deed::TakeBack(invite));
            }
            self.offers.push(Offer { owner, token, uses_max, guests, takers: Vec::new() });
        }
    }

    /// Whether a peer comes to a space only by an invite.
    pub(super) fn is_guest(&self, peer: usize, owner: usize) -> bool {
        let space = self.peers[owner].space();
        self.offers.iter().any(|offer| self.peers[offer.owner].space() == space && offer.guests.contains(&peer))
    }

    /// Decides whose spaces each peer follows from the beginning.
    pub(super) fn choose_spaces(&mut self, neighbours: &[BTreeSet<usize>]) {
        let count = self.peers.len();
        for (peer, known) in neighbours.iter().enumerate() {
            for other in 0..count {
                let is_own = self.peers[peer].space() == self.peers[other].space();
                // Whoever knows somebody follows him.
                let is_wanted = !self.config.is_partial || known.contains(&other) || self.dice.percent(40);
                if !is_own && is_wanted && !self.is_guest(peer, other) {
                    self.follows[peer].insert(other);
                }
            }
        }
        if self.config.is_partial {
            let text = (0..count).map(|peer| {
                let names: Vec<&str> = self.follows[peer].iter().map(|other| self.peers[*other].name).collect();
                format!("{} follows {}", self.peers[peer].name, names.join(" and "))
            });
            let text = text.collect::<Vec<_>>().join("; ");
            self.tell_story(text);
        }
    }

    /// Who a peer is told has a space: the owner, or somebody who has it from him. Nobody in particular if everybody has
    /// everything.
    pub(super) fn via(&mut self, peer: usize, owner: usize) -> Option<Vec<(PublicKey, Vec<String>)>> {
        if !self.config.is_partial && self.offers.is_empty() {
            return None;
        }
        // Peers with a smaller number are told of the owner by the same rule, so everybody's way ends at him.
        let mut from: Vec<usize> = (0..peer).filter(|other| self.follows[*other].contains(&owner) && self.peers[*other].evil.is_none()).collect();
        from.push(owner);
        let one = from[self.dice.below(from.len())];
        Some(vec![(self.peers[one].node_key(), vec![self.peers[one].name.to_owned()])])
    }

    /// Whether a peer has a space, or should have it by now.
    pub(super) fn is_member(&self, peer: usize, owner: usize) -> bool {
        let space = self.peers[owner].space();
        if self.peers[peer].space() == space || self.follows[peer].contains(&owner) {
            return true;
        }
        // A guest is a member from the moment in which the owner grants him that.
        let is_taking = self.peers[peer].up.as_ref().is_some_and(|up| up.node.book().following.contains_key(&space));
        is_taking && self.is_guest(peer, owner) && self.guests_of(owner).contains(&self.peers[peer].device())
    }

    /// Devices that got a grant by an invite, as the owner knows.
    fn guests_of(&self, owner: usize) -> BTreeSet<PublicKey> {
        let Some(rights) = self.peers[owner].store().and_then(|store| store.rights(&self.peers[owner].space())) else { return BTreeSet::new() };
        let keys = rights.grants().filter(|(_, held)| held.grant.label.starts_with("invite ")).filter_map(|(_, held)| match held.grant.audience {
            Audience::Key(key) => Some(key),
            Audience::Anyone => None,
        });
        keys.collect()
    }

    pub(super) fn invite(&mut self, number: usize) {
        let Offer { owner, token, uses_max, .. } = self.offers[number];
        let may_write = self.dice.percent(70);
        let label = format!("invite {number}");
        self.peers[owner].invites.insert(token, Invite { label, uses_max, may_write, is_revoked: false });
        self.totals.invites += 1;
        let (name, count) = (self.peers[owner].name, self.offers[number].guests.len());
        self.tell_story(format!("{name} makes an invite that {uses_max} of {count} may take"));
    }

    pub(super) fn join(&mut self, number: usize, guest: usize) {
        let Offer { owner, token, .. } = self.offers[number];
        if self.peers[guest].up.is_none() {
            // He does it when his machine runs again.
            if self.peers[guest].evil.is_none() {
                self.at(self.now_ms + 500, Deed::Join { invite: number, guest });
            }
            return;
        }
        self.totals.joins += 1;
        self.offers[number].takers.push(guest);
        let (space, node) = (self.peers[owner].space(), self.peers[owner].node_key());
        let addresses = vec![self.peers[owner].name.to_owned()];
        let (a, b) = (self.peers[guest].name, self.peers[owner].name);
        self.tell_story(format!("{a} takes the invite of {b}"));
        self.tell(guest, NodeEvent::Join { space, node, addresses, token });
        // What the owner wanted is on disk when he is answered.
        let it = &mut self.peers[guest];
        if let Some(up) = &it.up {
            it.book = up.node.book().clone();
        }
    }

    pub(super) fn take_back(&mut self, number: usize) {
        let Offer { owner, token, .. } = self.offers[number];
        if let Some(invite) = self.peers[owner].invites.get_mut(&token) {
            invite.is_revoked = true;
            let name = self.peers[owner].name;
            self.tell_story(format!("{name} takes an invite back"));
        }
    }

    /// Somebody hands in the token of an invite.
    pub(super) fn redeem(&mut self, peer: usize, link: LinkId, token: [u8; 16], device: PublicKey) {
        let invite = self.peers[peer].invites.get(&token).cloned();
        let (space, nobodys) = (self.peers[peer].space(), PublicKey::from_bytes([0; 32]));
        let told = |result, space| NodeEvent::RedeemAnswer { link, answer: RedeemAnswer { result, space, text: String::new() } };
        let (Some(invite), Some(store)) = (invite, self.peers[peer].store()) else {
            return self.tell(peer, told(Redemption::Invalid, nobodys));
        };
        if invite.is_revoked {
            // Who was granted before what it says, and did not hear of it, is told.
            let is_it = |held: &Held| held.is_live() && *held.grant.label == *invite.label && held.grant.audience == Audience::Key(device);
            let is_granted = store.rights(&space).is_some_and(|rights| rights.grants().any(|(_, held)| is_it(held)));
            let (result, space) = if is_granted { (Redemption::Granted, space) } else { (Redemption::Invalid, nobodys) };
            return self.tell(peer, told(result, space));
        }
        let wall = Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true };
        let read = Actions::SYNC.0 | Actions::READ.0;
        let actions = if invite.may_write { Actions(read | Actions::WRITE.0) } else { Actions(read) };
        let grant: Grant = grant(device, wall, actions, &invite.label);
        let time_ms = self.clock(peer);
        let statement = Statement::Redeem { grant, uses_max: invite.uses_max };
        if let Some(up) = &mut self.peers[peer].up {
            up.redeems.push((link, answer(async move { store.state(statement, time_ms).await })));
        }
        self.work(peer);
    }

    pub(super) fn redeemed(&mut self, peer: usize, link: LinkId, result: Result<Vec<GrantId>, WriteError>) {
        let space = self.peers[peer].space();
        let (result, space) = match result {
            Ok(_) => (Redemption::Granted, space),
            Err(WriteError::UsedUp) => (Redemption::Invalid, PublicKey::from_bytes([0; 32])),
            Err(_) => (Redemption::Busy, space),
        };
        self.tell(peer, NodeEvent::RedeemAnswer { link, answer: RedeemAnswer { result, space, text: String::new() } });
    }

    /// No invite was taken more often than it says, nor less often if enough honest people wanted it, and everybody who
    /// took one knows what became of it.
    pub(in crate::lab) fn check_invites(&mut self) {
        for number in 0..self.offers.len() {
            let Offer { owner, token, uses_max, guests, takers } = self.offers[number].clone();
            let Some(invite) = self.peers[owner].invites.get(&token).cloned() else { continue };
            let space = self.peers[owner].space();
            let name = self.peers[owner].name;
            for peer in self.honest().into_iter().filter(|peer| self.is_member(*peer, owner)).collect::<Vec<_>>() {
                let rights = self.peers[peer].store().and_then(|store| store.rights(&space));
                let count = rights.map_or(0, |rights| rights.grants().filter(|(_, held)| *held.grant.label == *invite.label).count() as u64);
                if count > uses_max {
                    let at = self.peers[peer].name;
                    self.problem(format!("an invite of {name} that {uses_max} may take was taken {count} times, as {at} sees it"));
                }
                if peer == owner {
                    self.totals.guests += count;
                    let honest = takers.iter().filter(|taker| self.peers[**taker].evil.is_none()).count() as u64;
                    if !invite.is_revoked && count < uses_max.min(honest) {
                        self.problem(format!("an invite of {name} that {uses_max} may take was taken {count} times, and {honest} wanted it"));
                    }
                }
            }
            let honest: Vec<usize> = guests.into_iter().filter(|guest| self.peers[*guest].evil.is_none()).collect();
            for guest in honest {
                let Some(up) = &self.peers[guest].up else { continue };
                let is_waiting = up.node.space(&space).is_waiting;
                let was_refused = up.node.book().joins.get(&space).is_some_and(|join| join.refused.is_some());
                let is_granted = self.guests_of(owner).contains(&self.peers[guest].device());
                let who = self.peers[guest].name;
                if is_waiting {
                    self.problem(format!("{who} still waits for an answer to an invite of {name}"));
                } else if was_refused
                    && is_granted
                    && self.offers.iter().filter(|offer| offer.owner == owner && offer.guests.contains(&guest)).count() == 1
                {
                    self.problem(format!("{who} was told that an invite of {name} is used up, and has a grant by it"));
                }
            }
        }
    }
}
