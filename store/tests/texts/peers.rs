//! Peers in memory that write to one space and hear of each other when they have to: a session of many people, as it was.
//! Every change is signed, written to a log, and verified by whoever takes it; only the disk is missing.

use timebus_identity::SecretKey;
use timebus_store::engine::{Crash, Engine, MemoryHome};

use super::*;
use crate::home::{config, root};

/// One of them.
pub(crate) struct Peer {
    pub(crate) engine: Engine,
    pub(crate) home: MemoryHome,
    /// The space, as it holds it.
    pub(crate) space: Space,
    /// What it wrote, in order.
    pub(crate) made: Vec<Verified<Change>>,
    /// What was written up to here is in `made`.
    seen: u64,
    /// How much each other one wrote that it has heard of.
    heard: Vec<usize>,
}

fn key(number: usize) -> SecretKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretKey::from_seed(seed)
}

/// Waits for something that a peer was asked.
pub(crate) fn finish<T>(engine: &mut Engine, ask: impl AsyncFnOnce(Store) -> T) -> T {
    let store = engine.store().clone();
    engine.finish(ask(store)).expect("answered")
}

/// Everybody. The first one owns the space.
pub(crate) struct Peers(pub(crate) Vec<Peer>);

impl Peers {
    /// So many peers, of whom everybody may write.
    pub(crate) fn new(count: usize) -> Self {
        let mut peers = Self(Vec::new());
        peers.add(MemoryHome::new(root(), &key(1000), key(0)));
        for number in 1..count {
            peers.join(MemoryHome::new(key(2000 + number), &key(1000), key(number)));
        }
        peers
    }

    /// One more peer that may write.
    pub(crate) fn join(&mut self, home: MemoryHome) -> usize {
        let device = home.device().public();
        let grant = Grant {
            audience: Audience::Key(device),
            scope: Scope::everything(),
            timelines: Timelines::Main,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth: 0,
            label: "".into(),
        };
        let owner = &mut self.0[0];
        finish(&mut owner.engine, async |store| store.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await).expect("granted");
        let rights = changes_from(owner.engine.store(), owner.space.auth(), 0).0;
        self.0[1..].iter_mut().for_each(|peer| deliver(peer, rights.clone()));
        self.add(home)
    }

    /// One more peer, which holds what the owner said, and hears nothing yet of what was written.
    pub(crate) fn add(&mut self, mut home: MemoryHome) -> usize {
        let mut engine = Engine::open(&mut home, &config(), 1).expect("opens");
        engine.settle();
        let mut space = engine.store().own();
        if let Some(owner) = self.0.first() {
            let store = owner.engine.store();
            let rights = changes_from(store, owner.space.auth(), 0).0;
            let offered = finish(&mut engine, async |store| store.offer(rights).await).expect("taken");
            assert!(offered.refused.is_empty(), "{:?}", offered.refused);
            space = engine.store().held(&owner.space.key).expect("held");
        }
        self.0.push(Peer { engine, home, space, made: Vec::new(), seen: 0, heard: Vec::new() });
        self.0.len() - 1
    }

    /// Lets one write, and waits until it is in its log.
    pub(crate) fn write(&mut self, me: usize, asked: Request) -> Written {
        let peer = &mut self.0[me];
        let asked = Request { space: Some(peer.space), ..asked };
        let written = finish(&mut peer.engine, async |store| store.write(asked).await).expect("written");
        let (new, end) = changes_from(peer.engine.store(), peer.space.main(), peer.seen + 1);
        let device = peer.home.device().public();
        peer.made.extend(new.into_iter().filter(|change| change.header().author == device));
        peer.seen = end.max(peer.seen);
        written
    }

    /// Lets one hear of all that others wrote.
    pub(crate) fn hear(&mut self, me: usize) {
        let ends: Vec<usize> = self.0.iter().map(|peer| peer.made.len()).collect();
        let heard = std::mem::replace(&mut self.0[me].heard, ends);
        let others = self.0.iter().enumerate().filter(|(from, _)| *from != me);
        let new = others.flat_map(|(from, peer)| peer.made[heard.get(from).copied().unwrap_or(0)..].iter().cloned()).collect();
        deliver(&mut self.0[me], new);
    }

    /// Lets everybody hear of everything.
    pub(crate) fn meet(&mut self) {
        let all: Vec<_> = self.0.iter().flat_map(|peer| peer.made.clone()).collect();
        for peer in &mut self.0 {
            deliver(peer, all.clone());
        }
    }

    /// What one sees at a path.
    pub(crate) fn text(&self, me: usize, at: &str) -> Option<String> {
        text_in(self.0[me].engine.store(), self.0[me].space, at)
    }
}

/// Offers changes, each after those that it stands on.
pub(crate) fn deliver(peer: &mut Peer, mut waiting: Vec<Verified<Change>>) {
    waiting.sort_by_key(|change| change.header().lamport);
    deliver_as_they_are(peer, waiting);
}

/// Offers changes in any order, again and again, until all of them are in.
pub(crate) fn deliver_as_they_are(peer: &mut Peer, mut waiting: Vec<Verified<Change>>) {
    while !waiting.is_empty() {
        let offered = waiting.clone();
        let answer = finish(&mut peer.engine, async |store| store.offer(offered).await).expect("the disk works");
        let refused: std::collections::BTreeSet<_> = answer
            .refused
            .iter()
            .map(|refusal| match refusal {
                timebus_store::pipeline::Refusal::Pending { change, .. } => *change,
                other => panic!("an admissible change was refused: {other:?}"),
            })
            .collect();
        let before = waiting.len();
        waiting.retain(|change| refused.contains(&change.id()));
        assert!(waiting.len() < before, "nothing goes in: {:?}", answer.refused);
    }
}

/// The changes of a timeline from an arrival number on, and the last number.
fn changes_from(store: &Store, t: u32, from: u64) -> (Vec<Verified<Change>>, u64) {
    let rows = store.snapshot();
    let (mut signed, mut end) = (Vec::new(), 0);
    for change in store.changes(&rows, t, from) {
        let (a, own) = change.expect("a change");
        end = a;
        signed.push(Change::decode(&store.log().read(own.place).expect("a record").payload).expect("a change"));
    }
    (verify_all(signed).expect("signed"), end)
}

/// A second copy of a peer's home, which writes in the same chain: what only a liar has.
pub(crate) fn twin(peer: &Peer) -> MemoryHome {
    peer.home.after(Crash { lose: &mut |_| {}, commits_lost: 0 })
}
