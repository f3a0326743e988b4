//! Members of communities find each other: nodes as they are, on a network that is simulated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, Signed, Verified, hash};
use timebus_net::community::Membership;
use timebus_net::dht::DhtId;
use timebus_net::node::book::{Book, Source};
use timebus_net::node::outbox::Outbox;
use timebus_net::node::{Act, Config, Event, LinkId, Node};
use timebus_net::record::PeerRecord;
use timebus_net::sync::frame::Frame;
use timebus_net::sync::{Binding, Cursor, Past, Remote, Replica, ReplicaError, Role, Tip};
use timebus_store::ids::{ChangeId, TimelineId};

const BEGIN_MS: u64 = 1_800_000_000_000;
/// Bytes that a link takes at once.
const ROOM_BYTES: u64 = 1 << 20;

/// A store without changes, which knows who may read what.
#[derive(Default)]
struct Rights(BTreeMap<PublicKey, BTreeSet<PublicKey>>);

impl Replica for Rights {
    fn incarnation(&self) -> [u8; 16] {
        [1; 16]
    }
    fn may_sync(&self, remote: &Remote, space: &PublicKey, _: &TimelineId) -> Result<bool, ReplicaError> {
        Ok(self.0.get(space).is_some_and(|keys| remote.keys.iter().any(|key| keys.contains(key))))
    }
    fn readable(&self, _: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError> {
        Ok(Vec::new())
    }
    fn statements(&self) -> u64 {
        0
    }
    fn resume(&self, _: &Remote, _: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        Ok(None)
    }
    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        let at = self.0.keys().position(|key| key == space).map(|at| at as u32 * 2);
        Ok(at.map(|at| at + u32::from(*timeline == TimelineId::named(space, "main"))))
    }
    fn heads(&self, _: u32, _: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        Ok(Vec::new())
    }
    fn end(&self, _: u32) -> Result<u64, ReplicaError> {
        Ok(0)
    }
    fn find(&self, _: u32, _: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        Ok(None)
    }
    fn tips(&self, _: u32, _: Option<&Tip>, _: usize) -> Result<Vec<Tip>, ReplicaError> {
        Ok(Vec::new())
    }
    fn bytes(&self, _: u32) -> Result<u64, ReplicaError> {
        Ok(0)
    }
    fn tips_of(&self, _: u32, _: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        Ok(Vec::new())
    }
    fn at(&self, _: u32, _: &PublicKey, _: u64) -> Result<Option<ChangeId>, ReplicaError> {
        Ok(None)
    }
    fn arrivals(&self, _: u32, _: u64, _: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
        Ok(Vec::new())
    }
    fn record(&self, _: u32, _: u64) -> Result<Vec<u8>, ReplicaError> {
        Ok(Vec::new())
    }
    fn past(&self, _: u32, _: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        struct Nothing;
        impl Past for Nothing {
            fn contains(&self, _: u64) -> bool {
                false
            }
            fn first_outside(&self) -> u64 {
                1
            }
        }
        Ok(Box::new(Nothing))
    }
}

fn secret(what: &str, number: usize) -> SecretKey {
    SecretKey::from_seed(hash("finding test", &[what.as_bytes(), &number.to_be_bytes()]))
}

/// One peer: a person with a machine.
struct Person {
    key: SecretKey,
    device: SecretKey,
    node: Node,
    store: Rights,
    address: String,
    /// Those of one side reach each other; `None` is off.
    side: Option<u8>,
    timer_ms: Option<u64>,
}

impl Person {
    fn id(&self) -> PublicKey {
        self.key.public()
    }
}

/// Somewhere between two peers.
enum Mail {
    Tell(usize, Event),
    /// A frame on a link, for the other end than this one.
    Frame(usize, LinkId, Bytes),
    Down(usize, LinkId),
}

struct World {
    now_ms: u64,
    people: Vec<Person>,
    links: BTreeMap<LinkId, (usize, usize)>,
    next_link: LinkId,
    mail: VecDeque<Mail>,
    /// Who asked whom for which space.
    asked: BTreeSet<(usize, usize, PublicKey)>,
}

impl World {
    fn new() -> Self {
        Self { now_ms: BEGIN_MS, people: Vec::new(), links: BTreeMap::new(), next_link: 1, mail: VecDeque::new(), asked: BTreeSet::new() }
    }

    fn add(&mut self) -> usize {
        let number = self.people.len();
        let (key, device) = (secret("node", number), secret("device", number));
        let node = node(&key, &device, number, Book::default());
        let address = format!("10.0.{}.{}:1", number / 200, number % 200);
        self.people.push(Person { key, device, node, store: Rights::default(), address, side: Some(0), timer_ms: None });
        number
    }

    /// Founds a community of these people, of whom the others know nothing but where the first is.
    fn found(&mut self, number: usize, members: &[usize]) -> PublicKey {
        let space = secret("community", number).public();
        let devices: BTreeSet<PublicKey> = members.iter().map(|member| self.people[*member].device.public()).collect();
        let nodes: Vec<PublicKey> = members.iter().map(|member| self.people[*member].id()).collect();
        let (first, address) = (self.people[members[0]].id(), self.people[members[0]].address.clone());
        for member in members {
            self.people[*member].store.0.insert(space, devices.clone());
            let via = if *member == members[0] { Vec::new() } else { vec![(first, vec![address.clone()])] };
            let membership = Membership { name: format!("{member}"), stores: 0, told: false, dht: None, is_new: false };
            self.tell(*member, Event::Follow { space, via });
            self.tell(*member, Event::Community { space, membership: Some(membership) });
            self.tell(*member, Event::Members { space, nodes: nodes.clone() });
        }
        space
    }

    fn tell(&mut self, who: usize, event: Event) {
        let person = &mut self.people[who];
        let acts = person.node.handle(self.now_ms, event, &person.store);
        for act in acts {
            self.act(who, act);
        }
    }

    fn act(&mut self, who: usize, act: Act) {
        match act {
            Act::Send { link, bytes } => {
                self.mail.push_back(Mail::Frame(who, link, bytes));
                self.mail.push_back(Mail::Tell(who, Event::Writable { link, bytes: ROOM_BYTES }));
            }
            Act::Call { node, addresses } => self.call(who, node, &addresses),
            Act::Close { link, .. } => self.mail.push_back(Mail::Down(who, link)),
            Act::Sign(record) => {
                let record = Verified::sign(*record, &self.people[who].key).expect("its own");
                self.mail.push_back(Mail::Tell(who, Event::Signed(Box::new(record))));
            }
            Act::Timer { at_ms } => self.people[who].timer_ms = Some(at_ms),
            _ => {}
        }
    }

    fn call(&mut self, from: usize, node: PublicKey, addresses: &[String]) {
        let side = self.people[from].side;
        let is_there = |person: &Person| person.id() == node && person.side == side && addresses.contains(&person.address);
        let Some(to) = self.people.iter().position(is_there).filter(|_| side.is_some()) else {
            return self.mail.push_back(Mail::Tell(from, Event::NotReached { node, why: "nobody answers".to_owned() }));
        };
        let link = self.next_link;
        self.next_link += 1;
        self.links.insert(link, (from, to));
        for (own, other, role) in [(from, to, Role::Initiator), (to, from, Role::Responder)] {
            let device = SecretKey::from_seed(*self.people[own].device.seed());
            let event = Event::LinkUp {
                called: matches!(role, Role::Initiator).then(|| self.people[other].id()),
                link,
                node: Some(self.people[other].id()),
                role,
                binding: Binding(hash("test link", &[&link.to_be_bytes()])),
                nonce: hash("test nonce", &[&link.to_be_bytes(), &own.to_be_bytes()]),
                prove: Box::new(move |message| vec![(device.public(), device.sign(message))]),
                way: "test".to_owned(),
            };
            self.mail.push_back(Mail::Tell(own, event));
        }
    }

    /// Goes on for so long.
    fn run(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        loop {
            while let Some(mail) = self.mail.pop_front() {
                match mail {
                    // The cable went before the call was answered.
                    Mail::Tell(who, Event::LinkUp { link, node: Some(node), role, .. }) if !self.links.contains_key(&link) => {
                        if role == Role::Initiator {
                            self.tell(who, Event::NotReached { node, why: "the cable".to_owned() });
                        }
                    }
                    Mail::Tell(_, Event::Writable { link, .. }) if !self.links.contains_key(&link) => {}
                    Mail::Tell(who, event) => self.tell(who, event),
                    Mail::Frame(from, link, bytes) => {
                        let Some((one, other)) = self.links.get(&link) else { continue };
                        let to = if *one == from { *other } else { *one };
                        if let Ok(Frame::Open(open)) = Frame::decode(&bytes) {
                            self.asked.insert((from, to, open.space));
                        }
                        self.tell(to, Event::Frame { link, bytes });
                    }
                    Mail::Down(from, link) => {
                        let Some((one, other)) = self.links.remove(&link) else { continue };
                        self.tell(if one == from { other } else { one }, Event::LinkDown { link, why: "closed".to_owned() });
                    }
                }
            }
            let next = self.people.iter().enumerate().filter_map(|(who, person)| Some((person.timer_ms?, who))).min();
            let Some((at_ms, who)) = next.filter(|(at_ms, _)| *at_ms <= end_ms) else { break };
            self.now_ms = self.now_ms.max(at_ms);
            self.people[who].timer_ms = None;
            self.tell(who, Event::Timer);
        }
        self.now_ms = end_ms;
    }

    /// Moves people to a side of a network that is cut, or off it.
    fn put(&mut self, who: &[usize], side: Option<u8>) {
        for person in who {
            self.people[*person].side = side;
        }
        let is_cut = |people: &[Person], (one, other): &(usize, usize)| people[*one].side.is_none() || people[*one].side != people[*other].side;
        let cut: Vec<(LinkId, (usize, usize))> =
            self.links.iter().filter(|(_, ends)| is_cut(&self.people, ends)).map(|(link, ends)| (*link, *ends)).collect();
        for (link, (one, other)) in cut {
            self.links.remove(&link);
            for end in [one, other] {
                self.tell(end, Event::LinkDown { link, why: "the cable".to_owned() });
            }
        }
    }

    /// Somebody has another address from now on, which he knows himself.
    fn move_to(&mut self, who: usize, address: &str) {
        self.people[who].address = address.to_owned();
        self.tell(who, Event::Addresses(vec![address.to_owned()]));
    }

    fn start(&mut self) {
        for who in 0..self.people.len() {
            let address = self.people[who].address.clone();
            self.tell(who, Event::Addresses(vec![address]));
        }
    }

    /// Where somebody is, as far as somebody else knows by that one's own word.
    fn found_at(&self, by: usize, whom: usize) -> Option<String> {
        let found = self.people[by].node.find(&self.people[whom].id());
        found.records.first().and_then(|record| record.addresses.first().cloned())
    }

    /// Pairs of members of whom the first does not know where the second is.
    fn lost(&self, communities: &[Vec<usize>]) -> Vec<(usize, usize)> {
        let mut lost = Vec::new();
        for members in communities {
            for (by, whom) in members.iter().flat_map(|by| members.iter().map(move |whom| (*by, *whom))) {
                if by != whom && self.found_at(by, whom).as_deref() != Some(self.people[whom].address.as_str()) {
                    lost.push((by, whom));
                }
            }
        }
        lost
    }
}

fn node(key: &SecretKey, device: &SecretKey, number: usize, book: Book) -> Node {
    let config = Config {
        node: key.public(),
        space: secret("space", number).public(),
        device: device.public(),
        name: format!("person {number}"),
        is_offline: false,
        links_max: 64,
        has_feeds: true,
    };
    Node::new(config, book, Outbox::default())
}

/// Five communities of twenty, and one person of each who is in the next one, too.
fn five_of_twenty() -> (World, Vec<Vec<usize>>) {
    let mut world = World::new();
    let mut communities: Vec<Vec<usize>> = (0..5).map(|_| (0..20).map(|_| world.add()).collect()).collect();
    let both: Vec<usize> = communities.iter().map(|members| members[7]).collect();
    for (at, person) in both.iter().enumerate() {
        communities[(at + 1) % 5].push(*person);
    }
    world.start();
    for (number, members) in communities.iter().enumerate() {
        world.found(number, members);
    }
    (world, communities)
}

const MINUTE_MS: u64 = 60_000;

#[test]
fn every_member_is_found_by_every_member_through_partitions_and_churn() {
    let (mut world, communities) = five_of_twenty();
    world.run(2 * MINUTE_MS);
    assert_eq!(world.lost(&communities), []);
    // They are not all connected with each other: most was heard from others.
    assert!(world.links.len() < 5 * 20 * 19 / 2, "{} links", world.links.len());
    // Nobody hears where somebody is with whom he has nothing in common.
    let strangers = communities[0].iter().flat_map(|by| communities[2].iter().map(move |whom| (*by, *whom)));
    let strangers: Vec<_> = strangers.filter(|(by, whom)| by != whom && world.found_at(*by, *whom).is_some()).collect();
    let in_common = |by: &usize, whom: &usize| communities.iter().any(|members| members.contains(by) && members.contains(whom));
    assert!(strangers.iter().all(|(by, whom)| in_common(by, whom)), "{strangers:?}");

    // The network falls apart. On both sides people move, and some are off.
    let halves: (Vec<usize>, Vec<usize>) = (0..world.people.len()).partition(|who| who % 2 == 0);
    world.put(&halves.1, Some(1));
    for who in [3, 10, 24, 45, 61, 62, 80, 99] {
        world.move_to(who, &format!("10.9.0.{who}:1"));
    }
    world.put(&[5, 26, 68], None);
    world.run(10 * MINUTE_MS);
    world.put(&halves.1, Some(0));
    world.put(&[26, 68], None);
    world.move_to(5, "10.9.1.5:1");
    world.put(&[5], Some(0));
    world.run(15 * MINUTE_MS);
    // Who is off is known by his last word.
    let lost: Vec<_> = world.lost(&communities).into_iter().filter(|(by, _)| ![26, 68].contains(by)).collect();
    assert_eq!(lost, []);
    // Who comes back late learns of all that happened meanwhile.
    world.put(&[26, 68], Some(0));
    world.run(10 * MINUTE_MS);
    assert_eq!(world.lost(&communities), []);
}

#[test]
fn members_tell_of_one_who_is_away_also_those_who_come_later() {
    let (mut world, communities) = five_of_twenty();
    let (away, late) = (communities[1][4], communities[1][11]);
    world.put(&[late], None);
    world.run(2 * MINUTE_MS);
    world.put(&[away], None);
    world.run(10 * MINUTE_MS);
    world.put(&[late], Some(0));
    // He knew of nobody but the first, and calls him once in five minutes by now.
    world.run(10 * MINUTE_MS);
    assert_eq!(world.found_at(late, away).as_deref(), Some(world.people[away].address.as_str()));
}

#[test]
fn poisoned_and_old_records_are_refused() {
    let (mut world, communities) = five_of_twenty();
    world.run(2 * MINUTE_MS);
    let members = &communities[3];
    // A member who lies, and one who is linked to him.
    let (link, ends) = world.links.iter().find(|(_, (one, other))| members.contains(one) && members.contains(other)).expect("a link");
    let (link, (evil, victim)) = (*link, *ends);
    let whom = *members.iter().find(|who| **who != evil && **who != victim).expect("a third");
    let record = world.people[victim].node.find(&world.people[whom].id()).records[0].clone();
    let frame = |record: &Signed<PeerRecord>| Frame::Records(vec![PeerRecord::encode(record).into()]).encode();
    let signed = |content: PeerRecord, key: &SecretKey| {
        let verified = Verified::sign(content, key).expect("its own");
        PeerRecord::decode(&PeerRecord::encode_verified(&verified)).expect("reads")
    };
    // One that was true once.
    let old = PeerRecord { seq: 1, addresses: vec!["6.6.6.6:6".to_owned()], ..record.clone().into_inner() };
    let old = signed(old, &secret("node", whom));
    world.tell(victim, Event::Frame { link, bytes: frame(&old) });
    // One of somebody whom nobody asked for.
    let stranger = secret("node", 5000);
    let own = PeerRecord { node: stranger.public(), space: stranger.public(), seq: world.now_ms, ..record.clone().into_inner() };
    world.tell(victim, Event::Frame { link, bytes: frame(&signed(own, &stranger)) });
    // One from a time that has not come.
    let ahead = PeerRecord { seq: world.now_ms * 2, addresses: vec!["6.6.6.6:6".to_owned()], ..record.clone().into_inner() };
    world.tell(victim, Event::Frame { link, bytes: frame(&signed(ahead, &secret("node", whom))) });
    world.run(MINUTE_MS);
    assert!(world.links.contains_key(&link), "none of this proves ill will");
    // And one that he made up.
    let forged = PeerRecord { seq: world.now_ms, addresses: vec!["6.6.6.6:6".to_owned()], ..record.clone().into_inner() };
    let forged = Signed::new(forged, *record.signature());
    world.tell(victim, Event::Frame { link, bytes: frame(&forged) });
    world.run(MINUTE_MS);
    assert!(!world.links.contains_key(&link), "who forges is not talked to");
    assert!(world.people[victim].node.find(&stranger.public()).records.is_empty());
    for by in members.iter().filter(|by| **by != whom) {
        assert_eq!(world.found_at(*by, whom).as_deref(), Some(world.people[whom].address.as_str()), "{by}");
    }
}

#[test]
fn what_the_public_dht_says_is_checked_and_leads_to_whom_the_owner_wants() {
    let mut world = World::new();
    let (bob, alice) = (world.add(), world.add());
    world.start();
    let space = secret("space", alice).public();
    let key = secret("node", alice);
    let said = |seq: u64, address: &str, of: PublicKey| {
        let addresses = vec![address.to_owned()];
        let content = PeerRecord { node: key.public(), space: of, seq, addresses, mirrors: vec![], inbox: vec![], communities: vec![] };
        let verified = Verified::sign(content, &key).expect("her own");
        PeerRecord::decode(&PeerRecord::encode_verified(&verified)).expect("reads")
    };
    let learned = |record: Signed<PeerRecord>| Event::Learned { dht: DhtId::Public, record: Box::new(record) };
    assert_eq!(world.people[bob].node.sought(true), []);
    world.tell(bob, Event::Follow { space, via: Vec::new() });
    assert_eq!(world.people[bob].node.sought(true), [space], "of whom nothing is known");
    // What nobody signed leads nowhere.
    let address = world.people[alice].address.clone();
    let true_one = said(world.now_ms, &address, space);
    let forged = Signed::new(said(world.now_ms, "6.6.6.6:6", space).content().clone(), *true_one.signature());
    world.tell(bob, learned(forged));
    assert!(world.people[bob].node.find(&space).records.is_empty());
    // What she said leads to her, also after one that only names her machine.
    world.tell(bob, learned(said(1, "6.6.6.6:6", space)));
    world.tell(bob, learned(true_one));
    world.run(MINUTE_MS);
    assert_eq!(world.found_at(bob, alice), Some(address.clone()));
    assert_eq!(world.links.len(), 1, "she is called");
    // She is gone: what was true once does not come back, and nothing of a time that has not come is taken.
    world.put(&[alice], None);
    world.run(MINUTE_MS);
    assert!(world.people[bob].node.sought(true).contains(&key.public()), "who is not reached is looked for");
    for seq in [1, BEGIN_MS - 5, BEGIN_MS * 2] {
        world.tell(bob, learned(said(seq, "6.6.6.6:6", space)));
    }
    assert_eq!(world.found_at(bob, alice), Some(address));
    // Who is blocked is not looked for, and not heard of.
    for who in [space, key.public()] {
        world.tell(bob, Event::Block { who, is_blocked: true });
    }
    assert_eq!(world.people[bob].node.sought(true), []);
    let seq = world.now_ms;
    world.tell(bob, learned(said(seq, "6.6.6.6:6", space)));
    assert_ne!(world.found_at(bob, alice).as_deref(), Some("6.6.6.6:6"));
}

#[test]
fn who_is_only_read_is_looked_for_in_the_public_dht_too() {
    let mut world = World::new();
    let (bob, alice) = (world.add(), world.add());
    world.start();
    world.run(1000);
    let (space, node) = (secret("space", alice).public(), world.people[alice].id());
    world.tell(bob, Event::Visit { space });
    assert_eq!(world.people[bob].node.sought(true), [space]);
    let record = world.people[alice].node.find(&node).records[0].clone();
    let record = PeerRecord::decode(&PeerRecord::encode_verified(&record)).expect("reads");
    world.tell(bob, Event::Learned { dht: DhtId::Public, record: Box::new(record) });
    world.run(MINUTE_MS);
    assert_eq!(world.links.len(), 1, "she is called");
    // The own one is never asked for.
    let own = secret("space", bob).public();
    world.tell(bob, Event::Visit { space: own });
    assert!(!world.people[bob].node.sought(true).contains(&own));
}

/// Alice follows a space that names her and Bob. He calls her, and so does Mallory.
fn called_by_two() -> (World, [usize; 3], PublicKey) {
    let mut world = World::new();
    let people = [(); 3].map(|()| world.add());
    let [alice, bob, mallory] = people;
    world.start();
    let space = secret("club", 1).public();
    let named = [alice, bob].map(|who| world.people[who].device.public()).into();
    world.people[alice].store.0.insert(space, named);
    world.tell(alice, Event::Follow { space, via: Vec::new() });
    let (node, addresses) = (world.people[alice].id(), vec![world.people[alice].address.clone()]);
    for caller in [bob, mallory] {
        world.tell(caller, Event::Call { node, addresses: addresses.clone() });
    }
    world.run(1000);
    assert_eq!(world.links.len(), 2);
    (world, people, space)
}

#[test]
fn a_space_is_asked_of_those_whom_it_names_and_of_no_others() {
    let (world, [alice, bob, _], space) = called_by_two();
    let asked: Vec<_> = world.asked.iter().filter(|(.., of)| *of == space).map(|(from, to, _)| (*from, *to)).collect();
    assert_eq!(asked, [(alice, bob)]);
}

/// He guesses what she follows. Who asks for it and has nothing of it hears no more than that it is not here.
#[test]
fn who_asks_for_a_space_learns_nothing_of_who_wants_it() {
    let (mut world, [alice, _, mallory], space) = called_by_two();
    let (node, addresses) = (world.people[alice].id(), vec![world.people[alice].address.clone()]);
    world.tell(mallory, Event::Follow { space, via: vec![(node, addresses)] });
    world.run(MINUTE_MS);
    let between = |from: usize, to: usize| world.asked.contains(&(from, to, space));
    assert_eq!((between(mallory, alice), between(alice, mallory)), (true, false));
}

/// Alice follows a space of which nothing is here. Mallory calls her, says in his record that he is of that space, and has another
/// stranger say the same.
#[test]
fn who_calls_is_known_no_better_by_his_own_word_or_that_of_a_stranger() {
    let (mut world, [alice, bob, mallory], _) = called_by_two();
    let space = secret("elsewhere", 1).public();
    world.tell(alice, Event::Follow { space, via: Vec::new() });
    let record_of = |world: &World, seq: u64, node: usize| {
        let addresses = vec![world.people[node].address.clone()];
        let key = secret("node", node);
        let content = PeerRecord { node: key.public(), space, seq, addresses, mirrors: vec![], inbox: vec![], communities: vec![] };
        Frame::Records(vec![PeerRecord::encode_verified(&Verified::sign(content, &key).expect("his own")).into()]).encode()
    };
    let link_with = |world: &World, who: usize| {
        let is_between = |(one, other): &(usize, usize)| [(alice, who), (who, alice)].contains(&(*one, *other));
        *world.links.iter().find(|(_, ends)| is_between(ends)).expect("a link").0
    };
    let standing = |world: &World, who: usize| {
        let (book, id) = (world.people[alice].node.book(), world.people[who].id());
        (book.contacts[&id].source, book.following[&space].via.contains(&id))
    };
    for (seq, teller) in [mallory, bob].into_iter().enumerate() {
        let (link, bytes) = (link_with(&world, teller), record_of(&world, world.now_ms + seq as u64, mallory));
        world.tell(alice, Event::Frame { link, bytes });
        world.run(1000);
        assert_eq!(standing(&world, mallory), (Source::Came, false), "{teller}");
    }
    // What somebody says whom she called herself counts.
    let (node, addresses) = (world.people[bob].id(), vec![world.people[bob].address.clone()]);
    world.tell(alice, Event::Call { node, addresses });
    let (link, bytes) = (link_with(&world, bob), record_of(&world, world.now_ms, mallory));
    world.tell(alice, Event::Frame { link, bytes });
    assert_eq!(standing(&world, mallory), (Source::Introduced, true));
}
