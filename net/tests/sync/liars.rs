//! Peers that lie: a store that says what is not so, among honest peers, and frames made by hand.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey};
use timebus_net::sync::frame::{Ack, Close, Code, FRAME_BYTES_MAX, Feature, Frame, Hello, Holding, Lacks, Open, Opened, Page, Part, Redemption};
use timebus_net::sync::{
    Binding, CONTROL_BYTES_MAX, Config, Cursor, End, Fault, Input, Output, Past, REDEEMS_MAX, RedeemAnswer, Remote, Replica, ReplicaError, Role,
    Session, Start, Tip,
};
use timebus_store::change::Change;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::dag::{Author, Place, change};
use crate::dice::{Dice, for_seeds};
use crate::sim::Net;
use crate::toy::Toy;
use crate::worlds::{trouble, world, write, write_forking};

/// A store that says now and then what is not so.
pub(crate) struct Lying<'a> {
    toy: &'a Toy,
    dice: RefCell<&'a mut Dice>,
}

impl<'a> Lying<'a> {
    pub(crate) fn new(toy: &'a Toy, dice: &'a mut Dice) -> Self {
        Self { toy, dice: RefCell::new(dice) }
    }

    fn lies(&self, percent: u64) -> bool {
        self.dice.borrow_mut().percent(percent)
    }

    fn id(&self) -> ChangeId {
        ChangeId(self.dice.borrow_mut().bytes())
    }
}

impl Replica for Lying<'_> {
    fn incarnation(&self) -> [u8; 16] {
        self.toy.incarnation
    }

    fn may_sync(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError> {
        self.toy.may_sync(remote, space, timeline)
    }

    fn readable(&self, space: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError> {
        self.toy.readable(space)
    }

    fn statements(&self) -> u64 {
        self.toy.statements()
    }

    fn resume(&self, remote: &Remote, timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        if self.lies(50) {
            let upto = self.dice.borrow_mut().any() % 100;
            let incarnation = if self.lies(50) { [1; 16] } else { remote.keys[0].as_bytes()[..16].try_into().expect("16 bytes") };
            return Ok(Some(Cursor { incarnation, upto }));
        }
        self.toy.resume(remote, timeline)
    }

    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        self.toy.local(space, timeline)
    }

    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        let mut heads = self.toy.heads(t, max)?;
        if self.lies(50) {
            heads.pop();
        }
        if self.lies(50) {
            heads.push(self.id());
        }
        Ok(heads)
    }

    fn end(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(if self.lies(30) { 0 } else { self.toy.end(t)? })
    }

    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        Ok(if self.lies(10) { None } else { self.toy.find(t, id)? })
    }

    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError> {
        let mut tips = self.toy.tips(t, after, max)?;
        for tip in &mut tips {
            if self.lies(40) {
                tip.id = self.id();
            }
            if self.lies(40) {
                tip.seq = 1 + self.dice.borrow_mut().any() % 200;
            }
        }
        tips.sort();
        tips.dedup();
        Ok(tips)
    }

    fn bytes(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(if self.lies(30) { self.dice.borrow_mut().any() } else { self.toy.bytes(t)? })
    }

    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        self.toy.tips_of(t, author)
    }

    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError> {
        Replica::at(self.toy, t, author, seq)
    }

    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
        let mut rows = self.toy.arrivals(t, from, max)?;
        // Withholds some, whatever builds on them.
        rows.retain(|_| !self.lies(20));
        Ok(rows)
    }

    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError> {
        let mut record = self.toy.record(t, a)?;
        // Without a check of signatures, a changed header would be a change of somebody else.
        if self.toy.strict && self.lies(5) {
            let at = self.dice.borrow_mut().below(record.len());
            record[at] ^= 1;
        }
        Ok(record)
    }

    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        self.toy.past(t, changes)
    }
}

/// Honest peers that stay connected among themselves, and a liar who is connected to some of them.
fn among_liars(seed: u64, strict: bool, writer: fn(&mut Net, usize)) {
    let mut net = world(seed, writer);
    let honest: Vec<usize> = (0..net.peers.len()).collect();
    let liar = net.add_peer();
    net.peers[liar].lies = Some(Dice::new(seed));
    for peer in &honest {
        if *peer == 0 || net.dice.percent(50) {
            let sides = if net.dice.percent(50) { [liar, *peer] } else { [*peer, liar] };
            let link = net.add_link(sides, 20);
            net.links[link].opens = [true, true];
        }
    }
    net.peers.iter_mut().for_each(|peer| peer.toy.strict = strict);
    for _ in 0..20 {
        writer(&mut net, liar);
    }
    let healed = trouble(&mut net);
    net.run(healed + 120_000);
    // What the liar has to himself, somebody may have got and somebody may not, but not for long.
    assert_eq!(net.all_equal(&honest), Ok(()));
}

#[test]
fn honest_peers_converge_beside_a_liar() {
    for_seeds("liars", 60, |seed| among_liars(seed, false, write));
}

#[test]
fn honest_peers_converge_beside_a_liar_and_forks() {
    for_seeds("forking liars", 60, |seed| among_liars(seed, false, write_forking));
}

/// As above, with real signatures, some of which the liar spoils.
#[test]
fn honest_peers_converge_beside_a_liar_who_spoils_changes() {
    for_seeds("spoilers", 8, |seed| {
        let mut net = Net::new(seed, 1, write);
        let (a, b, liar) = (net.add_peer(), net.add_peer(), net.add_peer());
        net.peers.iter_mut().for_each(|peer| peer.toy.strict = true);
        net.peers[liar].lies = Some(Dice::new(seed));
        for peers in [[a, b], [liar, a], [b, liar]] {
            net.add_link(peers, 10);
        }
        for peer in [a, b, liar] {
            (0..15).for_each(|_| write(&mut net, peer));
        }
        let healed = trouble(&mut net);
        net.run(healed + 120_000);
        assert_eq!(net.all_equal(&[a, b]), Ok(()));
    });
}

/// An honest session, with frames made by hand on the other side.
struct Victim {
    toy: Toy,
    session: Session,
    now_ms: u64,
    space: PublicKey,
    main: TimelineId,
    sent: VecDeque<Frame>,
    /// As they were sent.
    raw: Vec<Bytes>,
    faults: Vec<Fault>,
    points: u32,
    outputs: Vec<Output>,
    ended: Option<End>,
    timer_ms: u64,
    most_held: usize,
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

fn start(role: Role, number: u8, other: u8) -> Start {
    let node = |number| PublicKey::from_bytes([number; 32]);
    Start {
        config: Config::new(secret(number).public()),
        role,
        binding: Binding([5; 32]),
        node: node(number),
        remote_node: node(other),
        nonce: [number; 32],
        prove: Box::new(move |message| vec![(secret(number).public(), secret(number).sign(message))]),
        now_ms: 0,
    }
}

const ATTACKER: u8 = 2;

impl Victim {
    /// Before the handshake.
    fn fresh() -> Self {
        let space = PublicKey::from_bytes([77; 32]);
        let (session, out) = Session::new(start(Role::Responder, 1, ATTACKER));
        let mut victim = Self {
            toy: Toy::new(secret(1).public(), 1),
            session,
            now_ms: 0,
            space,
            main: TimelineId::named(&space, "main"),
            sent: VecDeque::new(),
            raw: Vec::new(),
            faults: Vec::new(),
            points: 0,
            outputs: Vec::new(),
            ended: None,
            timer_ms: 0,
            most_held: 0,
        };
        victim.apply(out);
        victim
    }

    /// Behind an honest handshake, with so many changes in `main`.
    fn new(changes: usize) -> Self {
        let mut victim = Self::fresh();
        for _ in 0..changes {
            victim.toy.write(&Author::pretended(9), victim.main, None, None, vec![1; 200]);
        }
        let (mut attacker, out) = Session::new(start(Role::Initiator, ATTACKER, 1));
        let toy = Toy::new(secret(ATTACKER).public(), ATTACKER);
        let mut out: Vec<Output> = out;
        for _ in 0..2 {
            let raw = std::mem::take(&mut victim.raw);
            for output in std::mem::take(&mut out) {
                if let Output::Send(bytes) = output {
                    victim.input(Input::Frame(bytes));
                }
            }
            out.extend(raw.into_iter().flat_map(|bytes| attacker.handle(0, Input::Frame(bytes), &toy)));
        }
        for output in out {
            if let Output::Send(bytes) = output {
                victim.input(Input::Frame(bytes));
            }
        }
        assert!(victim.outputs.iter().any(|output| matches!(output, Output::Ready(_))), "{:?}", victim.faults);
        victim.sent.clear();
        victim
    }

    fn input(&mut self, input: Input) {
        let out = self.session.handle(self.now_ms, input, &self.toy);
        self.most_held = self.most_held.max(self.session.held_bytes());
        self.apply(out);
    }

    fn apply(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(bytes) => {
                    self.sent.push_back(Frame::decode(&bytes).expect("a frame"));
                    self.raw.push(bytes);
                }
                Output::Store { ticket, changes, .. } => {
                    let stored = self.toy.store(ticket, changes);
                    self.input(Input::Stored(stored));
                }
                Output::Penalty { points, fault } => {
                    self.points += points;
                    self.faults.push(fault);
                }
                Output::End(end) => self.ended = Some(end),
                Output::SetTimer { at_ms } => self.timer_ms = at_ms,
                other => self.outputs.push(other),
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        self.input(Input::Frame(frame.encode()));
    }

    fn read(&mut self) {
        self.input(Input::Writable { bytes: 1 << 20 });
    }

    fn open(&mut self, channel: u64, heads: Vec<ChangeId>, credit: u64) {
        let holding = Holding { heads, incarnation: [9; 16], end: 1, ..Holding::default() };
        let (space, timeline) = (self.space, self.main);
        self.take(&Frame::Open(Open { channel, space, timeline, mode: 0, holding, credit }));
        self.read();
    }

    /// Waits until the session asks for it.
    fn wait(&mut self) {
        self.now_ms = self.now_ms.max(self.timer_ms);
        self.input(Input::Timer);
        self.read();
    }

    fn changes(&mut self, part: Part, changes: Vec<Vec<u8>>) {
        self.take(&Frame::Changes { channel: 1, part, upto: 0, changes: changes.into_iter().map(Bytes::from).collect() });
        self.read();
    }

    fn closed(&self, channel: u64) -> Option<Code> {
        self.sent.iter().find_map(|frame| match frame {
            Frame::Close(Close { channel: number, code, .. }) if *number == channel => Some(*code),
            _ => None,
        })
    }
}

/// A change on top of one that nobody has.
fn orphan(timeline: TimelineId, number: u64) -> Vec<u8> {
    let mut id = [0xaa; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let place = Place { id: ChangeId(id), seq: 1, lamport: 1 };
    change(&Author::pretended(3), timeline, None, &[place], number.to_be_bytes().to_vec())
}

#[test]
fn malformed_frames_end_the_link() {
    let long = vec![6; FRAME_BYTES_MAX + 1];
    for bytes in [&b""[..], b"\x0d", b"\x08\x01", b"\x08\x01\x80\x00", b"\x06\x01\x00\x00\xff\xff\xff\x0f", &long] {
        let mut victim = Victim::new(3);
        victim.input(Input::Frame(Bytes::copy_from_slice(bytes)));
        assert_eq!((victim.points, victim.closed(0)), (64, Some(Code::Protocol)));
        assert!(matches!(victim.ended, Some(End::Fault)));
        // Nothing is heard any more.
        victim.open(1, Vec::new(), 0);
        assert!(victim.closed(1).is_none() && victim.points == 64);
    }
}

#[test]
fn broken_rules_end_the_link() {
    let live = Frame::Live { channel: 1, upto: 0 };
    let opened = |frames: Vec<Frame>| [vec![open_frame(1)], frames].concat();
    let ack = |bytes| Frame::Ack(Ack { channel: 1, bytes, durable: 0, upto: 0 });
    let durable = |durable| Frame::Ack(Ack { channel: 1, bytes: 0, durable, upto: 0 });
    let answer = Frame::Changes { channel: 1, part: Part::AnswerEnds, upto: 0, changes: Vec::new() };
    let tips = Frame::Tips { channel: 1, page: Page::Last, tips: Vec::new() };
    let need = Frame::Need { channel: 1, ids: vec![ChangeId([1; 32])], have: Vec::new() };
    let cases = [
        vec![live.clone()],
        vec![open_frame(2)],
        vec![open_frame(3), open_frame(1)],
        opened(vec![ack(1 << 40)]),
        opened(vec![durable(4)]),
        opened(vec![durable(u64::MAX)]),
        opened(vec![answer]),
        opened(vec![tips.clone(), tips]),
        opened(vec![Frame::Live { channel: 1, upto: 9 }, Frame::Live { channel: 1, upto: 8 }]),
        opened(vec![Frame::Opened(Opened { channel: 1, holding: Holding::default(), credit: 0, lacks: Lacks::Nothing })]),
        vec![Frame::Redeemed { result: Redemption::Granted, space: secret(1).public(), text: String::new() }],
        vec![Frame::Redeem { token: [0; 16], device: secret(40).public() }],
    ];
    for frames in cases {
        let mut victim = Victim::new(3);
        // Blocked, so that an answer to a Need stays open.
        frames.iter().for_each(|frame| victim.take(frame));
        assert_eq!((victim.points, victim.closed(0)), (64, Some(Code::Protocol)), "{frames:?}");
    }
    let mut victim = Victim::new(3);
    victim.input(Input::Writable { bytes: 0 });
    opened(vec![need.clone(), need]).iter().for_each(|frame| victim.take(frame));
    assert_eq!(victim.points, 64);
}

/// Somebody of whom nothing is known is asked for a space that is wanted here. What he says to have of it is told to nobody.
#[test]
fn who_may_not_have_it_has_nothing_of_it() {
    let says = |may_have: bool, durable: u64| {
        let mut victim = Victim::new(3);
        if !may_have {
            victim.toy.banned.insert(secret(ATTACKER).public());
        }
        let (space, timeline) = (victim.space, victim.main);
        victim.input(Input::Open { space, timeline, is_resting: false });
        victim.read();
        let channel = victim.sent.iter().find_map(|frame| if let Frame::Open(open) = frame { Some(open.channel) } else { None }).expect("it asks");
        let holding = Holding { incarnation: [9; 16], ..Holding::default() };
        victim.take(&Frame::Opened(Opened { channel, holding, credit: 1 << 20, lacks: Lacks::Nothing }));
        victim.read();
        victim.take(&Frame::Ack(Ack { channel, bytes: 0, durable, upto: 0 }));
        let told = victim.outputs.iter().any(|output| matches!(output, Output::Delivered { .. }));
        (told, victim.points)
    };
    assert_eq!((says(true, 3), says(false, 0)), ((true, 0), (false, 0)));
    assert_eq!((says(false, 1), says(false, u64::MAX), says(true, 4)), ((false, 64), (false, 64), (false, 64)));
}

fn open_frame(channel: u64) -> Frame {
    let space = PublicKey::from_bytes([77; 32]);
    let timeline = TimelineId::named(&space, "main");
    Frame::Open(Open { channel, space, timeline, mode: 0, holding: Holding::default(), credit: 1 << 20 })
}

#[test]
fn who_sends_more_than_there_is_credit_for_is_blamed() {
    let mut victim = Victim::new(1);
    victim.open(1, Vec::new(), 1 << 20);
    let main = victim.main;
    let large = |n: u8| Bytes::from(change(&Author::pretended(3), main, None, &[], vec![n; 150_000]));
    let frame = |n| Frame::Changes { channel: 1, part: Part::Stream, upto: 0, changes: vec![large(n)] };
    // Nothing is stored, so nothing is given back.
    let input = |n| Input::Frame(frame(n).encode());
    let first = victim.session.handle(0, input(1), &victim.toy);
    assert!(first.iter().all(|output| matches!(output, Output::Store { .. } | Output::SetTimer { .. })), "{first:?}");
    let second = victim.session.handle(0, input(2), &victim.toy);
    assert!(second.iter().any(|output| matches!(output, Output::Penalty { points: 64, .. })), "{second:?}");
}

#[test]
fn nothing_is_taken_before_the_handshake() {
    for frame in [open_frame(1), Frame::Live { channel: 1, upto: 0 }] {
        let mut victim = Victim::fresh();
        victim.take(&frame);
        assert_eq!(victim.points, 64);
    }
}

/// Everything that was ever said in one session is worth nothing in another one.
#[test]
fn recorded_frames_are_of_no_use() {
    let mut net = Net::new(1, 2, write);
    let (a, b) = (net.add_peer(), net.add_peer());
    let link = net.add_link([a, b], 1);
    net.links[link].record = Some(Vec::new());
    (0..10).for_each(|_| write(&mut net, a));
    net.at(1000, crate::sim::Deed::Connect(link));
    net.run(5000);
    assert_eq!(net.all_equal(&[a, b]), Ok(()));
    let record = net.links[link].record.take().expect("recorded");
    for side in 0..2 {
        let frames: Vec<&Bytes> = record.iter().filter(|(from, _)| *from == side).map(|(_, bytes)| bytes).collect();
        let mut victim = Victim::fresh();
        frames.iter().for_each(|bytes| victim.input(Input::Frame(Bytes::clone(bytes))));
        assert!(matches!(victim.faults[..], [Fault::Proof]), "{:?}", victim.faults);
        // One by one, behind a handshake of one's own.
        for bytes in frames.iter().skip(2) {
            let mut victim = Victim::new(3);
            victim.input(Input::Frame(Bytes::clone(bytes)));
            assert!(victim.toy.ids(&victim.main).len() == 3);
        }
    }
}

/// A proof holds for one connection, one role and one pair of peers.
#[test]
fn a_proof_does_not_hold_elsewhere() {
    let attempts: [fn(&mut Start); 5] = [
        |_| {},
        |start| start.binding = Binding([6; 32]),
        |start| start.remote_node = PublicKey::from_bytes([8; 32]),
        |start| start.node = PublicKey::from_bytes([8; 32]),
        |start| start.config.space = secret(50).public(),
    ];
    for (number, alter) in attempts.into_iter().enumerate() {
        let mut victim = Victim::fresh();
        let mut begin = start(Role::Initiator, ATTACKER, 1);
        alter(&mut begin);
        let (mut other, out) = Session::new(begin);
        let toy = Toy::new(secret(ATTACKER).public(), 2);
        let mut frames: Vec<Bytes> = sends(out);
        frames.extend(sends(other.handle(0, Input::Frame(victim.raw[0].clone()), &toy)));
        if number == 4 {
            // Another space than the one that was signed for.
            let Ok(Frame::Auth(mut auth)) = Frame::decode(&frames[1]) else { panic!("an Auth") };
            auth.space = secret(51).public();
            frames[1] = Frame::Auth(auth).encode();
        }
        frames.into_iter().for_each(|bytes| victim.input(Input::Frame(bytes)));
        let is_ready = victim.outputs.iter().any(|output| matches!(output, Output::Ready(_)));
        assert_eq!((is_ready, victim.points), if number == 0 { (true, 0) } else { (false, 64) }, "attempt {number}");
    }
    // On a websocket, where no node keys tell the sides apart: what the victim signed, said back.
    let zeros = PublicKey::from_bytes([0; 32]);
    let (session, out) = Session::new(Start { node: zeros, remote_node: zeros, ..start(Role::Responder, 1, 0) });
    let mut victim = Victim { session, ..Victim::fresh() };
    victim.raw.clear();
    victim.apply(out);
    let hello = Hello { major: 1, minor: 0, patch: 0, features: Vec::new(), frame_bytes_max: FRAME_BYTES_MAX as u64, nonce: [2; 32] };
    victim.take(&Frame::Hello(hello));
    let own = victim.raw.last().cloned().expect("an Auth");
    victim.input(Input::Frame(own));
    assert!(matches!(victim.faults[..], [Fault::Proof]), "{:?}", victim.faults);
    // What the victim itself says first, said back.
    let mut victim = Victim::fresh();
    let echo = victim.raw[0].clone();
    victim.input(Input::Frame(echo));
    assert_eq!(victim.points, 64);
}

fn sends(out: Vec<Output>) -> Vec<Bytes> {
    out.into_iter().filter_map(|output| if let Output::Send(bytes) = output { Some(bytes) } else { None }).collect()
}

#[test]
fn versions_and_features_that_are_not_known_are_named() {
    let hello = Hello { major: 1, minor: 7, patch: 7, features: Vec::new(), frame_bytes_max: FRAME_BYTES_MAX as u64, nonce: [3; 32] };
    let feature = |required| vec![Feature { id: 12, required }];
    let cases = [
        (Hello { features: feature(false), ..hello.clone() }, None),
        (Hello { features: feature(true), ..hello.clone() }, Some("feature 12")),
        (Hello { major: 2, ..hello.clone() }, Some("version 2 of the protocol")),
    ];
    for (hello, refused) in cases {
        let mut victim = Victim::fresh();
        victim.take(&Frame::Hello(hello));
        let what = if let Some(End::Unsupported(what)) = &victim.ended { Some(what.as_str()) } else { None };
        assert_eq!((what, victim.points), (refused, 0));
        assert_eq!(victim.closed(0), refused.map(|_| Code::Unsupported));
    }
    let mut victim = Victim::fresh();
    victim.input(Input::Frame(Bytes::from_static(b"\x00\x02 another format altogether")));
    assert!(matches!(victim.ended, Some(End::Unsupported(_))));
}

#[test]
fn who_says_nothing_is_dropped() {
    let mut victim = Victim::fresh();
    victim.wait();
    assert!(matches!(victim.ended, Some(End::Timeout)));
}

/// The same bytes whether a timeline is unknown or not for this peer.
#[test]
fn unknown_and_denied_look_the_same() {
    let mut denied = Victim::new(3);
    denied.toy.banned.insert(secret(ATTACKER).public());
    denied.open(1, Vec::new(), 1 << 20);
    let mut unknown = Victim::new(0);
    unknown.open(1, Vec::new(), 1 << 20);
    let last = |victim: &Victim| victim.raw.last().cloned();
    assert_eq!(last(&denied), last(&unknown));
    assert_eq!(denied.closed(1), Some(Code::NotHere));
}

#[test]
fn orphans_do_not_pile_up() {
    let mut victim = Victim::new(1);
    victim.open(1, Vec::new(), 1 << 20);
    let mut number = 0;
    while victim.closed(1).is_none() && number < 1_000_000 {
        let orphans = (0..100).map(|n| orphan(victim.main, number + n)).collect();
        victim.changes(Part::Stream, orphans);
        assert!(victim.session.pending() <= 256);
        number += 100;
    }
    assert!(number < 10_000, "{number} orphans were taken");
    assert!(victim.most_held < 512 * 1024, "{} bytes were held", victim.most_held);
    assert!(victim.points >= 16 && victim.session.pending() == 0);
    // Others go on: what comes on another channel is taken.
    victim.sent.clear();
    victim.open(3, Vec::new(), 1 << 20);
    assert!(matches!(victim.sent.front(), Some(Frame::Opened(_))));
}

#[test]
fn who_withholds_what_is_needed_is_left() {
    let mut victim = Victim::new(1);
    victim.open(1, Vec::new(), 1 << 20);
    victim.changes(Part::Stream, vec![orphan(victim.main, 1)]);
    assert!(victim.sent.iter().any(|frame| matches!(frame, Frame::Need { .. })));
    victim.wait();
    assert_eq!((victim.points, victim.closed(1)), (8, Some(Code::NotFound)));
    assert_eq!(victim.session.pending(), 0);
}

#[test]
fn heads_that_nobody_has_are_asked_for_three_times() {
    let mut victim = Victim::new(1);
    victim.open(1, vec![ChangeId([8; 32])], 1 << 20);
    victim.take(&Frame::Live { channel: 1, upto: 1 });
    for strike in 1..=3 {
        assert_eq!(victim.sent.iter().filter(|frame| matches!(frame, Frame::Need { .. })).count(), strike);
        victim.changes(Part::AnswerEnds, Vec::new());
        assert_eq!(victim.points, 8 * strike as u32);
    }
    assert_eq!(victim.closed(1), Some(Code::NotFound));
}

#[test]
fn without_credit_one_frame_goes_out() {
    for credit in [0, 1] {
        let mut victim = Victim::new(2000);
        victim.open(1, Vec::new(), credit);
        let changes = |victim: &Victim| victim.sent.iter().filter(|frame| matches!(frame, Frame::Changes { .. })).count();
        assert_eq!(changes(&victim), 1);
        for _ in 0..100 {
            victim.take(&Frame::Ack(Ack { channel: 1, bytes: 1, durable: 0, upto: 0 }));
            victim.read();
        }
        assert_eq!(changes(&victim), 1, "no frame is made for single bytes");
        assert_eq!(victim.session.counters().changes_sent, 1);
        victim.wait();
        assert_eq!(victim.closed(1), Some(Code::Busy));
    }
}

/// A cursor counts only for the log it names: another one has other changes under the same numbers.
#[test]
fn a_cursor_of_another_log_is_worth_nothing() {
    let sent = |cursor: Cursor| {
        let mut victim = Victim::new(3);
        let holding = Holding { heads: vec![ChangeId([8; 32])], incarnation: [9; 16], end: 1, cursor: Some(cursor), ..Holding::default() };
        let (space, timeline) = (victim.space, victim.main);
        victim.take(&Frame::Open(Open { channel: 1, space, timeline, mode: 0, holding, credit: 1 << 20 }));
        victim.read();
        victim.session.counters().changes_sent
    };
    assert_eq!(sent(Cursor { incarnation: [1; 16], upto: 2 }), 1);
    assert_eq!(sent(Cursor { incarnation: [2; 16], upto: 2 }), 0, "it waits for tips");
    assert_eq!(sent(Cursor { incarnation: [1; 16], upto: 4 }), 0, "behind the end, as after a restored backup");
}

/// Questions are answered one at a time, and no faster than the asker takes the answers.
#[test]
fn a_flood_of_needs_costs_no_memory() {
    let mut victim = Victim::new(2000);
    let heads: Vec<ChangeId> = victim.toy.ids(&victim.main).into_iter().take(1).collect();
    victim.open(1, Vec::new(), 64 * 1024);
    let mut sent = 0;
    for _ in 0..1000 {
        victim.take(&Frame::Need { channel: 1, ids: heads.clone(), have: Vec::new() });
        victim.read();
        sent = victim.raw.iter().map(Bytes::len).sum::<usize>();
    }
    assert_eq!(victim.points, 64, "it asks again before it was answered");
    assert!(sent < 256 * 1024, "{sent} bytes");
}

/// Who takes every answer at once and asks again makes us read the store again and again.
#[test]
fn who_asks_without_end_is_dropped() {
    let mut victim = Victim::new(5);
    let heads: Vec<ChangeId> = victim.toy.ids(&victim.main).into_iter().take(1).collect();
    victim.open(1, Vec::new(), 1 << 20);
    let mut asked = 0;
    while victim.ended.is_none() && asked < 10_000 {
        victim.take(&Frame::Need { channel: 1, ids: heads.clone(), have: Vec::new() });
        victim.read();
        asked += 1;
    }
    assert!(asked < 100 && victim.points == 16, "{asked} times");
    let mut victim = Victim::new(5);
    let mut channel = 1;
    while victim.ended.is_none() && channel < 100_000 {
        victim.open(channel, Vec::new(), 0);
        victim.take(&Frame::Close(Close { channel, code: Code::Done, retry_after_s: 0, text: String::new() }));
        channel += 2;
    }
    assert!(channel < 4096 && victim.points == 16);
}

/// Any frames in any order: nothing panics, little is held, and what is here is only what can be admitted.
#[test]
fn noise_does_no_harm() {
    for_seeds("noise", 150, |seed| {
        let mut dice = Dice::new(seed);
        let mut victim = Victim::new(dice.below(30));
        let main = victim.main;
        let known: Vec<ChangeId> = victim.toy.ids(&main).into_iter().collect();
        let ids = |dice: &mut Dice, max: usize| {
            let mut ids: Vec<ChangeId> = (0..1 + dice.below(max))
                .map(|_| if known.is_empty() || dice.percent(30) { ChangeId(dice.bytes()) } else { known[dice.below(known.len())] })
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let mut channel = 1;
        victim.open(1, ids(&mut dice, 3), 1 << 16);
        for _ in 0..200 {
            let upto = dice.any() % 50;
            let frame = match dice.below(12) {
                0 => {
                    channel += 2;
                    let holding = Holding { heads: ids(&mut dice, 5), more: dice.percent(20), incarnation: [1; 16], end: upto, cursor: None };
                    let cursor = dice.percent(50).then(|| Cursor { incarnation: [1; 16], upto: dice.any() % 40 });
                    let (space, credit) = (victim.space, dice.any() % 100_000);
                    Frame::Open(Open { channel, space, timeline: main, mode: 0, holding: Holding { cursor, ..holding }, credit })
                }
                1 | 2 => {
                    let author = |dice: &mut Dice| PublicKey::from_bytes([[9, 3][dice.below(2)]; 32]);
                    let mut tips: Vec<Tip> =
                        ids(&mut dice, 4).into_iter().map(|id| Tip { author: author(&mut dice), seq: 1 + dice.any() % 40, id }).collect();
                    tips.sort_unstable();
                    Frame::Tips { channel, page: if dice.percent(50) { Page::More } else { Page::Last }, tips }
                }
                3 | 4 => Frame::Need { channel, ids: ids(&mut dice, 4), have: ids(&mut dice, 4) },
                5..=7 => {
                    let part = [Part::Stream, Part::Stream, Part::Answer, Part::AnswerEnds][dice.below(4)];
                    let count = 1 + dice.below(5);
                    let records: Vec<Vec<u8>> = (0..count)
                        .map(|_| match dice.below(3) {
                            0 => orphan(main, dice.any() % 20),
                            1 => change(&Author::pretended(3), main, None, &[], vec![dice.any() as u8]),
                            _ => change(&Author::pretended(3), main, None, &[], crate::toy::REFUSED_BODY.to_vec()),
                        })
                        .collect();
                    Frame::Changes { channel, part, upto, changes: records.into_iter().map(Bytes::from).collect() }
                }
                8 => Frame::Ack(Ack { channel, bytes: dice.any() % 3000, durable: upto, upto }),
                9 => Frame::Live { channel, upto },
                10 => Frame::Close(Close { channel, code: Code::Done, retry_after_s: 0, text: String::new() }),
                _ => Frame::Redeem { token: [1; 16], device: secret(ATTACKER).public() },
            };
            let mut bytes = frame.encode().to_vec();
            if dice.percent(5) {
                let at = dice.below(bytes.len());
                bytes[at] = dice.any() as u8;
            }
            victim.input(Input::Frame(bytes.into()));
            if dice.percent(50) {
                victim.input(Input::Writable { bytes: dice.any() % 100_000 });
            }
            if victim.ended.is_some() {
                // One broken rule ends it; the next one tries its luck from there.
                let toy = std::mem::replace(&mut victim.toy, Toy::new(secret(1).public(), 1));
                assert!(victim.points >= 16, "{:?}", victim.ended);
                victim = Victim::new(0);
                victim.toy = toy;
                channel = 1;
                victim.open(1, ids(&mut dice, 3), 1 << 16);
            }
            assert!(victim.most_held < 64 * 1024, "{} bytes are held", victim.most_held);
        }
        let log = victim.toy.log(&main).map_or(0, |log| log.entries.len());
        assert!(log <= 30 + 256, "{log} changes");
    });
}

#[test]
fn bad_signatures_count() {
    let mut victim = Victim::new(1);
    victim.toy.strict = true;
    victim.open(1, Vec::new(), 1 << 20);
    let main = victim.main;
    let bad = |n: u8| change(&Author::pretended(4), main, None, &[], vec![n; 10]);
    victim.changes(Part::Stream, (0..10).map(bad).collect());
    assert_eq!(victim.points, 10);
    assert!(victim.outputs.iter().any(|output| matches!(output, Output::Resume { cursor: None, .. })), "they are offered again another time");
    // The same again costs nothing and is not asked for.
    victim.changes(Part::Stream, (0..10).map(bad).collect());
    assert_eq!(victim.points, 10);
    victim.changes(Part::Stream, (10..64).map(bad).collect());
    assert_eq!(victim.points, 64);
    let good = change(&Author::real(4), main, None, &[], vec![1; 10]);
    victim.changes(Part::Stream, vec![good]);
    assert_eq!(victim.toy.ids(&main).len(), 2);
}

#[test]
fn changes_that_are_not_what_they_say_end_the_link() {
    let main = Victim::new(0).main;
    let mut spoiled = orphan(main, 1);
    *spoiled.last_mut().expect("a body") ^= 1;
    let elsewhere = change(&Author::pretended(3), TimelineId([1; 32]), None, &[], Vec::new());
    for bad in [spoiled, elsewhere, vec![0; 10], Vec::new()] {
        let mut victim = Victim::new(1);
        victim.open(1, Vec::new(), 1 << 20);
        victim.changes(Part::Stream, vec![bad]);
        assert_eq!(victim.points, 64);
    }
}

#[test]
fn who_asks_and_does_not_read_is_dropped() {
    let mut victim = Victim::new(1);
    victim.input(Input::Writable { bytes: 0 });
    let mut channel = 1;
    while victim.ended.is_none() && channel < 1_000_000 {
        victim.take(&open_frame(channel));
        victim.take(&Frame::Close(Close { channel, code: Code::Done, retry_after_s: 0, text: String::new() }));
        channel += 2;
    }
    assert!(victim.most_held <= CONTROL_BYTES_MAX + 4096, "{} bytes were held", victim.most_held);
    assert!(matches!(victim.ended, Some(End::Fault)));
}

#[test]
fn tokens_are_tried_a_few_times_only() {
    let mut victim = Victim::new(0);
    for n in 0..20 {
        victim.take(&Frame::Redeem { token: [n; 16], device: secret(ATTACKER).public() });
        let answer = RedeemAnswer { result: Redemption::Invalid, space: PublicKey::from_bytes([0; 32]), text: String::new() };
        victim.input(Input::RedeemAnswer(answer));
    }
    let asked = victim.outputs.iter().filter(|output| matches!(output, Output::Redeem { .. })).count();
    assert_eq!(asked as u32, REDEEMS_MAX);
    let answers = |wanted| victim.sent.iter().filter(|frame| matches!(frame, Frame::Redeemed { result, .. } if *result == wanted)).count();
    assert_eq!((answers(Redemption::Invalid), answers(Redemption::Busy)), (10, 10));
    assert!(victim.points >= 64);
}

/// What builds on something that was refused is refused too, and neither is asked for again.
#[test]
fn refused_changes_are_not_asked_for_again() {
    let mut victim = Victim::new(1);
    victim.open(1, Vec::new(), 1 << 20);
    let author = Author::pretended(4);
    let first = change(&author, victim.main, None, &[], crate::toy::REFUSED_BODY.to_vec());
    let id = Change::decode(&first).expect("a change").content().id();
    let above = change(&author, victim.main, Some(Place { id, seq: 1, lamport: 1 }), &[], vec![1]);
    victim.changes(Part::Stream, vec![first, above]);
    assert_eq!((victim.points, victim.session.pending(), victim.session.counters().refused), (0, 0, 2));
    assert!(!victim.sent.iter().any(|frame| matches!(frame, Frame::Need { .. })));
    victim.take(&Frame::Live { channel: 1, upto: 2 });
    assert!(victim.outputs.iter().any(|output| matches!(output, Output::CaughtUp { complete: false, .. })));
}
