//! Two peers that meet: their real nodes and stores, with every frame handed from one to the other by this process.
//!
//! Nothing is lost and no time passes but what is counted: in one *flight* everything that both sides have sent
//! reaches the other.

use std::collections::VecDeque;

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, Signed, Verified, hash, node_key};
use timebus_net::held::Held;
use timebus_net::node::book::Book;
use timebus_net::node::{Act, Config, Event, LinkId, Node};
use timebus_net::sync::{Binding, RedeemAnswer, Role, Stored};
use timebus_store::change::Change;
use timebus_store::engine::Engine;
use timebus_store::pipeline::Refusal;
use timebus_store::store::Store;
use timebus_store::writer::Offered;

/// Any time; only differences count.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// What a link takes at once: more than is ever on the way, so that only the protocol says when something is sent.
const ROOM_BYTES: u64 = 64 * 1024 * 1024;
/// Before each frame there is its length.
const LENGTH_BYTES: u64 = 4;
/// Flights of one meeting; peers that need more keep each other busy for ever.
const FLIGHTS_MAX: u64 = 100_000;
/// Hello and Auth.
const HANDSHAKE_FLIGHTS: u64 = 2;

/// A store that takes changes of others.
pub(crate) trait Takes {
    /// For reading.
    fn store(&self) -> &Store;
    /// Checks nothing, admits, makes durable.
    fn offer(&mut self, changes: Vec<Verified<Change>>) -> Offered;
}

impl Takes for Engine {
    fn store(&self) -> &Store {
        Engine::store(self)
    }

    fn offer(&mut self, changes: Vec<Verified<Change>>) -> Offered {
        let store = Engine::store(self).clone();
        let offered = self.finish(async move { store.offer(changes).await });
        offered.expect("the engine answers").expect("the disk in memory takes everything")
    }
}

/// A peer without sockets.
pub(crate) struct Site<T> {
    pub(crate) keeps: T,
    device: SecretKey,
    pub(crate) node: Node,
}

/// What a meeting took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// From the first request to the last change that was stored, in flights: a round trip is two.
    pub(crate) flights: u64,
    /// Of all frames of both sides with their lengths, and how many these were.
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    /// Changes that one side had not.
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
}

/// A node that has met nobody and wants nothing.
pub(crate) fn newcomer(space: PublicKey, device: &SecretKey) -> Node {
    Node::new(config(space, device), Book::default(), timebus_net::node::outbox::Outbox::default())
}

impl<T: Takes> Site<T> {
    /// A peer that has met nobody and wants nothing.
    pub(crate) fn new(keeps: T, device: &SecretKey) -> Self {
        let device = SecretKey::from_seed(*device.seed());
        let node = newcomer(keeps.store().space(), &device);
        Self { keeps, device, node }
    }

    /// Wants a space, which these peers have.
    pub(crate) fn follow(&mut self, space: PublicKey, via: &[PublicKey]) {
        let via = via.iter().map(|node| (*node, Vec::new())).collect();
        // It is not called for it: meetings are arranged.
        self.handle(BEGIN_MS, Event::Follow { space, via });
    }

    /// What it is called by.
    pub(crate) fn node_key(&self) -> PublicKey {
        node_key(&self.device).public()
    }

    pub(crate) fn store(&self) -> &Store {
        self.keeps.store()
    }

    fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Act> {
        let mut incarnation = [0; 16];
        incarnation.copy_from_slice(&self.device.public().as_bytes()[..16]);
        let held = Held::now(self.keeps.store(), incarnation, now_ms);
        self.node.handle(now_ms, event, &held)
    }

    fn take(&mut self, ticket: u64, changes: Vec<Signed<Change>>, cost: &mut Cost) -> Stored {
        let mut stored = Stored { ticket, ..Stored::default() };
        let mut good = Vec::with_capacity(changes.len());
        for change in changes {
            let id = change.content().id();
            match change.verify() {
                Ok(change) => good.push(change),
                Err(_) => stored.bad_signatures.push(id),
            }
        }
        let offered = self.keeps.offer(good);
        cost.admitted += offered.admitted.len() as u64;
        stored.admitted = offered.admitted;
        stored.admitted.extend(offered.known);
        for refusal in offered.refused {
            match refusal {
                Refusal::Pending { change, missing } => stored.pending.push((change, missing)),
                other => stored.refused.push(other.change()),
            }
        }
        cost.refused += (stored.refused.len() + stored.bad_signatures.len()) as u64;
        stored
    }
}

fn config(space: PublicKey, device: &SecretKey) -> Config {
    Config {
        node: node_key(device).public(),
        space,
        device: device.public(),
        name: String::new(),
        is_offline: false,
        links_max: 256,
        has_feeds: true,
    }
}

/// Connects two peers, the first of which calls, until nothing is left to say, and takes the link down.
/// `number` tells one meeting from another.
pub(crate) fn meet<T: Takes>(one: &mut Site<T>, other: &mut Site<T>, number: LinkId) -> Cost {
    let mut cost = Cost::default();
    // Far enough apart that nobody remembers having been turned away.
    let mut now_ms = BEGIN_MS + 1_000_000 * number;
    let sites = [one, other];
    let keys = [sites[0].node_key(), sites[1].node_key()];
    let mut flying: [VecDeque<Bytes>; 2] = Default::default();
    let binding = Binding(hash("meeting", &[&number.to_be_bytes()]));
    for side in 0..2 {
        let device = SecretKey::from_seed(*sites[side].device.seed());
        let up = Event::LinkUp {
            link: number,
            node: Some(keys[1 - side]),
            called: (side == 0).then_some(keys[1]),
            role: if side == 0 { Role::Initiator } else { Role::Responder },
            binding,
            nonce: hash("nonce", &[&number.to_be_bytes(), &[side as u8]]),
            prove: Box::new(move |message| vec![(device.public(), device.sign(message))]),
            way: "a meeting".to_owned(),
        };
        perform(sites[side], now_ms, up, number, &mut flying[side], &mut cost);
    }
    let mut flight = 0;
    let mut last_stored = 0;
    while flying.iter().any(|queue| !queue.is_empty()) {
        flight += 1;
        now_ms += 1;
        assert!(flight < FLIGHTS_MAX, "the peers keep each other busy for ever");
        let arriving = std::mem::take(&mut flying);
        for (from, frames) in arriving.into_iter().enumerate() {
            let to = 1 - from;
            let admitted = cost.admitted;
            for bytes in frames {
                cost.frames += 1;
                cost.bytes += LENGTH_BYTES + bytes.len() as u64;
                perform(sites[to], now_ms, Event::Frame { link: number, bytes }, number, &mut flying[to], &mut cost);
            }
            perform(sites[from], now_ms, Event::Writable { link: number, bytes: ROOM_BYTES }, number, &mut flying[from], &mut cost);
            if cost.admitted > admitted {
                last_stored = flight;
            }
        }
    }
    for site in sites {
        perform(site, now_ms, Event::LinkDown { link: number, why: String::new() }, number, &mut VecDeque::new(), &mut cost);
    }
    cost.flights = u64::saturating_sub(last_stored, HANDSHAKE_FLIGHTS);
    cost
}

/// Tells a peer something and does what it says, until it says no more.
fn perform<T: Takes>(site: &mut Site<T>, now_ms: u64, event: Event, link: LinkId, sent: &mut VecDeque<Bytes>, cost: &mut Cost) {
    let mut events = VecDeque::from([event]);
    while let Some(event) = events.pop_front() {
        for act in site.handle(now_ms, event) {
            match act {
                Act::Send { bytes, .. } => sent.push_back(bytes),
                Act::Store { ticket, changes, .. } => {
                    let stored = site.take(ticket, changes, cost);
                    events.extend([Event::Stored { link, stored }, Event::Arrived]);
                }
                Act::Redeem { .. } => {
                    let answer = RedeemAnswer {
                        result: timebus_net::sync::frame::Redemption::Invalid,
                        space: PublicKey::from_bytes([0; 32]),
                        text: String::new(),
                    };
                    events.push_back(Event::RedeemAnswer { link, answer });
                }
                Act::Close { text, code, .. } => assert_eq!(code, 0, "a link of honest peers was closed: {text}"),
                // Who meets whom is arranged, and nobody waits.
                Act::Call { .. }
                | Act::Notices { .. }
                | Act::Sign(_)
                | Act::Save
                | Act::SaveOutbox
                | Act::Timer { .. }
                | Act::Changed
                | Act::Stand { .. }
                | Act::Fetched { .. }
                | Act::Weigh { .. }
                | Act::Presence(_)
                | Act::AskFiles { .. }
                | Act::Files { .. } => {}
            }
        }
    }
}
