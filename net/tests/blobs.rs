//! Blobs between peers over a simulated network: real files and the real exchange, frames that are lost with their
//! link, damaged, or lies.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_net::blobs::exchange::{Exchange, Input, Output};
use timebus_net::blobs::frame::{BlobFrame, Not};
use timebus_net::blobs::pace::Speeds;
use timebus_net::blobs::pieces::Pieces;
use timebus_net::blobs::swarm::{Dice, Kind, Upload};
use timebus_store::blobs::partial::{Partial, PieceError, pieces_of};
use timebus_store::blobs::{BlobHash, Blobs, Limits};

const SPACE: PublicKey = PublicKey::from_bytes([7; 32]);

/// One peer: links are named by the number of the peer on the other side.
struct Node {
    exchange: Exchange,
    blobs: Blobs,
    partial: Option<Arc<Partial>>,
    blamed: Vec<u64>,
    /// Who may not have anything from it.
    denies: Vec<u64>,
    pieces_sent: u32,
    _temp: tempfile::TempDir,
}

type Meddle = Box<dyn FnMut(usize, u64, &mut Vec<u8>)>;

struct World {
    nodes: Vec<Node>,
    queue: VecDeque<(usize, u64, Vec<u8>)>,
    now_ms: u64,
    /// Blobs that the space names.
    named: Vec<BlobHash>,
    /// Sees every frame on its way.
    meddle: Meddle,
}

impl World {
    fn new(count: usize) -> Self {
        let node = |seed: usize| {
            let temp = tempfile::tempdir().expect("a folder");
            let blobs = Blobs::open(&temp.path().join("blobs"), Limits { reserve_bytes: 0, ..Limits::default() }).expect("opens");
            let exchange = Exchange::new(seed as u64 + 1);
            Node { exchange, blobs, partial: None, blamed: Vec::new(), denies: Vec::new(), pieces_sent: 0, _temp: temp }
        };
        Self { nodes: (0..count).map(node).collect(), queue: VecDeque::new(), now_ms: 0, named: Vec::new(), meddle: Box::new(|_, _, _| {}) }
    }

    fn write(&mut self, at: usize, data: &[u8]) -> BlobHash {
        let mut writer = self.nodes[at].blobs.writer().expect("begins");
        writer.write(data).expect("writes");
        let hash = writer.finish().expect("finishes").0;
        self.named.push(hash);
        hash
    }

    fn input(&mut self, at: usize, input: Input) {
        let outputs = self.nodes[at].exchange.handle(self.now_ms, input);
        for output in outputs {
            self.act(at, output);
        }
    }

    fn act(&mut self, at: usize, output: Output) {
        match output {
            Output::Send(link, frame) => {
                if matches!(frame, BlobFrame::Piece { .. }) {
                    self.nodes[at].pieces_sent += 1;
                }
                self.queue.push_back((at, link, frame.encode().to_vec()));
            }
            Output::Look(look) => {
                let node = &self.nodes[at];
                let pieces = pieces_of(look.len) as u32;
                let here = match node.blobs.len_of(&look.hash) {
                    Some(len) if len == look.len => Some(Pieces::all(pieces)),
                    // What is being fetched the exchange knows; the file does not say it yet.
                    _ => Some(Pieces::none(pieces)),
                };
                let have = here.filter(|_| self.named.contains(&look.hash) && !node.denies.contains(&look.link));
                self.input(at, Input::Found { look, have });
            }
            Output::Load { link, hash, id, piece } => {
                let node = &self.nodes[at];
                let slice = match node.blobs.open_blob(hash).expect("the disk works") {
                    Some(blob) => blob.slice(piece).ok(),
                    None => node.partial.as_ref().and_then(|partial| partial.slice(piece).ok()),
                };
                self.input(at, Input::Loaded { link, hash, id, piece, slice: slice.map(Bytes::from) });
            }
            Output::Keep { link, hash, id, piece, slice } => {
                let Some(partial) = &self.nodes[at].partial else { return };
                let good = match partial.put(piece, &slice) {
                    Ok(_) => true,
                    Err(PieceError::Bad { .. }) => false,
                    Err(error) => panic!("{error}"),
                };
                self.input(at, Input::Kept { link, hash, id, piece, good: Some(good) });
            }
            Output::Blame { link, points, .. } => {
                assert!(points >= 64, "as much as it takes to be banned");
                self.nodes[at].blamed.push(link);
                // Who is blamed is not talked to any more.
                self.cut(at, link as usize);
            }
            Output::Grown(_) => {}
        }
    }

    fn cut(&mut self, one: usize, other: usize) {
        self.queue.retain(|(from, to, _)| !(*from == one && *to == other as u64 || *from == other && *to == one as u64));
        self.input(one, Input::Gone(other as u64));
        self.input(other, Input::Gone(one as u64));
    }

    fn fetch(&mut self, at: usize, hash: BlobHash, len: u64, sources: &[u64]) {
        let partial = self.nodes[at].blobs.partial(hash, len).expect("room");
        let have = Pieces::from_bytes(&partial.have(), pieces_of(len) as u32);
        self.nodes[at].partial = Some(partial);
        self.input(at, Input::Fetch { space: SPACE, hash, len, have });
        self.input(at, Input::Sources(hash, SPACE, sources.to_vec()));
    }

    /// Delivers frames until nothing is under way and nobody has anything to do, at most so many.
    fn run(&mut self, frames_max: usize) {
        let mut idle = 0;
        for _ in 0..frames_max {
            if let Some((from, to, mut bytes)) = self.queue.pop_front() {
                idle = 0;
                self.now_ms += 1;
                (self.meddle)(from, to, &mut bytes);
                match BlobFrame::decode(&bytes) {
                    Ok(frame) => self.input(to as usize, Input::Frame(from as u64, frame)),
                    Err(_) => {
                        self.nodes[to as usize].blamed.push(from as u64);
                        self.cut(to as usize, from);
                    }
                }
                continue;
            }
            idle += 1;
            if idle > 400 {
                return;
            }
            self.now_ms += 25;
            for at in 0..self.nodes.len() {
                self.input(at, Input::Timer);
            }
        }
    }

    fn has(&self, at: usize, hash: BlobHash, data: &[u8]) -> bool {
        let blob = self.nodes[at].blobs.open_blob(hash).expect("the disk works");
        blob.is_some_and(|blob| blob.read(0..u64::MAX).expect("good") == data)
    }
}

fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn every_reader_becomes_a_source() {
    let mut world = World::new(6);
    let data = bytes(5_000_000);
    let hash = world.write(0, &data);
    for at in 1..6u64 {
        let others: Vec<u64> = (0..6).filter(|other| *other != at).collect();
        world.fetch(at as usize, hash, data.len() as u64, &others);
    }
    world.run(100_000);
    for at in 1..6 {
        assert!(world.has(at, hash, &data), "peer {at}");
        assert!(world.nodes[at].blamed.is_empty());
    }
    let pieces = pieces_of(data.len() as u64) as u32;
    let sent = world.nodes[0].pieces_sent;
    assert!(sent * 2 <= pieces * 3, "the origin sent {sent} pieces of {pieces}, to five who want it");
}

#[test]
fn readers_who_read_in_order_do_not_all_ask_the_origin_for_the_same() {
    let mut world = World::new(5);
    let data = bytes(4_000_000);
    let hash = world.write(0, &data);
    let pieces = pieces_of(data.len() as u64) as u32;
    for at in 1..5u64 {
        let others: Vec<u64> = (0..5).filter(|other| *other != at).collect();
        world.fetch(at as usize, hash, data.len() as u64, &others);
        let whole = std::iter::once(0..pieces).collect();
        world.input(at as usize, Input::Reads(hash, whole, false));
    }
    world.run(100_000);
    assert!((1..5).all(|at| world.has(at, hash, &data)));
    let sent = world.nodes[0].pieces_sent;
    assert!(sent * 2 <= pieces * 3, "the origin sent {sent} pieces of {pieces}, to four who read from the beginning");
}

#[test]
fn what_is_here_of_it_is_not_fetched_again_and_is_sent_on() {
    let mut world = World::new(3);
    let data = bytes(3_000_000);
    let hash = world.write(0, &data);
    let pieces = pieces_of(3_000_000) as u32;
    world.fetch(1, hash, 3_000_000, &[0]);
    // Until half of it has come; then the origin is gone, and another asks.
    while world.nodes[1].partial.as_ref().is_some_and(|partial| (0..pieces).filter(|piece| partial.has(*piece)).count() < 12) {
        world.run(1);
    }
    world.cut(0, 1);
    world.fetch(2, hash, 3_000_000, &[1]);
    world.run(10_000);
    let here = (0..pieces).filter(|piece| world.nodes[2].partial.as_ref().is_some_and(|partial| partial.has(*piece))).count();
    assert!(here >= 12 && here < pieces as usize, "{here}");
    world.nodes[0].pieces_sent = 0;
    world.input(2, Input::Sources(hash, SPACE, vec![0]));
    world.run(10_000);
    assert!(world.has(2, hash, &data));
    assert!(world.nodes[0].pieces_sent <= pieces - 12, "{}", world.nodes[0].pieces_sent);
}

#[test]
fn sources_that_go_away_are_replaced() {
    let mut world = World::new(4);
    let data = bytes(4_000_000);
    let hash = world.write(0, &data);
    for at in 1..3 {
        world.write(at, &data);
    }
    world.fetch(3, hash, 4_000_000, &[0, 1, 2]);
    world.run(20);
    world.cut(3, 0);
    world.run(20);
    world.cut(3, 2);
    world.run(10_000);
    assert!(world.has(3, hash, &data));
}

#[test]
fn a_thousand_small_blobs_come() {
    let mut world = World::new(2);
    for number in 0..1000usize {
        let data = bytes(number * 37 % 5000);
        let hash = world.write(0, &data);
        world.fetch(1, hash, data.len() as u64, &[0]);
        world.run(12);
        assert!(world.has(1, hash, &data), "blob {number}");
    }
}

#[test]
fn who_may_not_have_it_hears_what_who_asks_for_nothing_hears() {
    let replies = |denies: bool| {
        let mut world = World::new(2);
        let data = bytes(300_000);
        let hash = if denies { world.write(0, &data) } else { BlobHash::from_bytes(*blake3::hash(&data).as_bytes()) };
        world.nodes[0].denies.extend(denies.then_some(1));
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let log = std::rc::Rc::clone(&seen);
        world.meddle = Box::new(move |from, _, bytes| {
            if from == 0 {
                log.borrow_mut().push(bytes.clone());
            }
        });
        world.input(0, Input::Frame(1, BlobFrame::Have { space: SPACE, hash, len: 300_000, asks: true, pieces: vec![] }));
        world.input(0, Input::Frame(1, BlobFrame::Want { hash, id: 1, any_of: vec![(0, 3)] }));
        world.run(500);
        let seen = seen.borrow().clone();
        assert!(!seen.is_empty());
        seen
    };
    assert_eq!(replies(true), replies(false));
}

/// Damages one byte of each piece that one peer sends, and lets the rest come from another one. Who sends what is not of the blob is
/// blamed so much that he is banned, and nothing more comes of him.
fn damaged(at: usize, every: usize) {
    let mut world = World::new(3);
    let data = bytes(400_000);
    let hash = world.write(0, &data);
    world.write(1, &data);
    let changed = std::rc::Rc::new(std::cell::RefCell::new(0));
    let count = std::rc::Rc::clone(&changed);
    world.meddle = Box::new(move |from, _, bytes| {
        if from == 0 && bytes[0] == 34 {
            let at = at * every % bytes.len();
            bytes[at] ^= 1 << (at % 8);
            *count.borrow_mut() += u32::from(at >= CONTENT_AT);
        }
    });
    world.fetch(2, hash, 400_000, &[0, 1]);
    world.run(5_000);
    assert!(world.has(2, hash, &data), "byte {at}");
    assert!(!world.nodes[2].blamed.contains(&1), "byte {at}");
    // What is around the content may make it a frame that nobody asked for.
    assert!(*changed.borrow() <= 1, "byte {at}: he is not talked to any more");
    assert!(*changed.borrow() == 0 || world.nodes[2].blamed.contains(&0), "byte {at}");
}

/// Where the content of a frame with a piece begins, behind its kind, hash, numbers and length.
const CONTENT_AT: usize = 1 + 32 + 1 + 1 + 3;

#[test]
fn damage_is_found_and_the_rest_comes_from_others() {
    for at in (0..60).chain((60..1000).step_by(97)) {
        damaged(at, if at < 60 { 1 } else { 131 });
    }
}

/// The store tries every byte of the content of 1 MiB; here it is those around it, and some of it within whole frames.
#[test]
fn no_byte_of_a_frame_can_be_changed() {
    let mut world = World::new(2);
    let data = bytes(1 << 20);
    let hash = world.write(0, &data);
    let source = world.nodes[0].blobs.open_blob(hash).expect("the disk works").expect("it is here");
    let partial = world.nodes[1].blobs.partial(hash, 1 << 20).expect("room");
    for piece in 0..pieces_of(1 << 20) as u32 {
        let slice = source.slice(piece).expect("good");
        let frame = BlobFrame::Piece { hash, id: 1, piece, slice: slice.clone().into() }.encode();
        let around = frame.len() - slice.len();
        for at in (0..around + 64 * 10).chain((0..frame.len()).step_by(811)) {
            let mut bad = frame.to_vec();
            bad[at] ^= 1 << (at % 8);
            // A frame that is read as another one is about another request, piece or blob, or has another content.
            match BlobFrame::decode(&bad) {
                Ok(BlobFrame::Piece { hash: of, id: 1, piece: number, slice: changed }) if of == hash => {
                    assert!(partial.put(number, &changed).is_err(), "piece {piece}, byte {at}");
                }
                Ok(_) | Err(_) => {}
            }
            assert!(!partial.has(piece), "piece {piece}, byte {at}");
        }
    }
}

#[test]
fn what_nobody_else_has_goes_first_but_nobody_waits_for_ever() {
    let mut exchange = Exchange::new(1);
    let (hash, len) = (BlobHash::from_bytes([9; 32]), 64 * 128 * 1024);
    let have = |pieces: Vec<(u32, u32)>, asks| BlobFrame::Have { space: SPACE, hash, len, asks, pieces };
    for link in [1, 2] {
        let asked = exchange.handle(0, Input::Frame(link, have(vec![], true)));
        let Some(Output::Look(look)) = asked.into_iter().next() else { panic!("it looks") };
        exchange.handle(0, Input::Found { look, have: Some(Pieces::all(64)) });
    }
    let mut loads = VecDeque::new();
    let mut ask = |link: u64, id: u64, any_of: (u32, u32), loads: &mut VecDeque<(u64, u32)>| {
        let done = exchange.handle(0, Input::Frame(link, BlobFrame::Want { hash, id, any_of: vec![any_of] }));
        loads.extend(done.into_iter().filter_map(|output| if let Output::Load { link, piece, .. } = output { Some((link, piece)) } else { None }));
    };
    (0..20).for_each(|id| ask(1, id, (id as u32, id as u32 + 1), &mut loads));
    (0..20).for_each(|id| ask(2, id, (20, 64), &mut loads));
    let mut order = Vec::new();
    let mut now_ms = 0;
    while let Some((link, piece)) = loads.pop_front() {
        order.push(link);
        now_ms += 1;
        let done = exchange.handle(now_ms, Input::Frame(link, have(vec![(piece, piece + 1)], false)));
        loads.extend(done.into_iter().filter_map(|output| if let Output::Load { link, piece, .. } = output { Some((link, piece)) } else { None }));
    }
    assert_eq!(order.len(), 40, "all of it is sent");
    assert!(order[..2].iter().all(|link| *link == 1), "nobody else asked yet");
    let choices = |part: &[u64]| part.iter().filter(|link| **link == 2).count();
    assert_eq!((choices(&order[2..10]), choices(&order[2..22])), (6, 15), "{order:?}");
}

/// A blob of 64 pieces.
const HASH: BlobHash = BlobHash::from_bytes([9; 32]);
const LEN: u64 = 64 * 128 * 1024;

/// An exchange that has it, and is asked for it over these links.
fn asked_by(links: impl Iterator<Item = u64>) -> Exchange {
    let mut exchange = Exchange::new(1);
    for link in links {
        let have = BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: true, pieces: vec![] };
        let Some(Output::Look(look)) = exchange.handle(0, Input::Frame(link, have)).into_iter().next() else { panic!("it looks") };
        exchange.handle(0, Input::Found { look, have: Some(Pieces::all(64)) });
    }
    exchange
}

fn want(link: u64, id: u64, piece: u32) -> Input {
    Input::Frame(link, BlobFrame::Want { hash: HASH, id, any_of: vec![(piece, piece + 1)] })
}

fn has(link: u64, piece: u32) -> Input {
    Input::Frame(link, BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: false, pieces: vec![(piece, piece + 1)] })
}

fn refusals(outputs: &[Output], why: Not) -> Vec<(u64, u64)> {
    let refusal = |output: &Output| match output {
        Output::Send(link, BlobFrame::Not { id, reason, .. }) if *reason == why => Some((*link, *id)),
        _ => None,
    };
    outputs.iter().filter_map(refusal).collect()
}

#[test]
fn who_would_wait_long_is_sent_elsewhere_and_who_is_alone_waits() {
    let mut exchange = asked_by(1..=20);
    // A reader that is alone gets all it asks for, one after the other.
    let mut outputs: Vec<Output> = (0..64).flat_map(|piece| exchange.handle(0, want(1, u64::from(piece), piece))).collect();
    assert!(refusals(&outputs, Not::Busy).is_empty());
    let mut loaded = 0;
    for piece in 0..64 {
        loaded += outputs.iter().filter(|output| matches!(output, Output::Load { link: 1, .. })).count();
        outputs = exchange.handle(1, has(1, piece));
    }
    assert_eq!(loaded, 64);
    // Of twenty that ask at once a few wait, each for its share, and nobody twice.
    let mut exchange = asked_by(1..=20);
    let outputs: Vec<Output> = (0..60).flat_map(|at| exchange.handle(0, want(at % 20 + 1, at / 20, 7))).collect();
    let refused = refusals(&outputs, Not::Busy);
    let served: Vec<u64> = (1..=20).filter(|link| refused.iter().filter(|(refused, _)| refused == link).count() < 3).collect();
    assert!((2..=5).contains(&served.len()) && refused.len() >= 54, "{served:?}, {} refused", refused.len());
    assert!(refusals(&exchange.handle(0, want(20, 99, 8)), Not::Busy).is_empty(), "what nobody else has is waited for");
    // Who asks for much does not keep out who comes later.
    let mut exchange = asked_by(1..=2);
    (0..64).for_each(|piece| drop(exchange.handle(0, want(1, u64::from(piece), piece))));
    assert!(refusals(&exchange.handle(0, want(2, 0, 0)), Not::Busy).is_empty());
    assert_eq!(refusals(&exchange.handle(0, want(1, 64, 0)), Not::Busy), [(1, 64)], "now it has its share and more");
}

#[test]
fn what_a_reader_got_elsewhere_is_not_sent_to_it_any_more() {
    let mut exchange = asked_by(1..=2);
    let mut outputs: Vec<Output> = (0..4).flat_map(|piece| exchange.handle(0, want(1, u64::from(piece) + 10, piece))).collect();
    outputs.extend(exchange.handle(1, has(1, 3)));
    assert_eq!(refusals(&outputs, Not::Elsewhere), [(1, 13)], "it waited behind the others");
    for piece in 0..3 {
        outputs.extend(exchange.handle(2, has(1, piece)));
    }
    let loads = outputs.iter().filter_map(|output| if let Output::Load { piece, .. } = output { Some(*piece) } else { None });
    assert_eq!(loads.collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn who_got_a_piece_tells_the_others_whom_it_was_asked_of() {
    let (hash, len) = (BlobHash::from_bytes([9; 32]), 128 * 1024);
    let mut exchange = Exchange::new(1);
    exchange.handle(0, Input::Fetch { space: SPACE, hash, len, have: Pieces::none(1) });
    exchange.handle(0, Input::Sources(hash, SPACE, vec![1, 2]));
    let wants = |outputs: Vec<Output>| -> Vec<(u64, u64)> {
        let want = |output| if let Output::Send(link, BlobFrame::Want { id, .. }) = output { Some((link, id)) } else { None };
        outputs.into_iter().filter_map(want).collect()
    };
    let have = |link| Input::Frame(link, BlobFrame::Have { space: SPACE, hash, len, asks: false, pieces: vec![(0, 1)] });
    exchange.handle(0, Input::Reads(hash, std::iter::once(0..1).collect(), true));
    let first = wants(exchange.handle(0, have(1)));
    assert_eq!(first.len(), 1);
    assert!(wants(exchange.handle(1, have(2))).is_empty(), "it comes from the first");
    let second = wants(exchange.handle(60_000, Input::Timer));
    assert!(matches!(second[..], [(2, _)]), "the first is late: {second:?}");
    let (link, id) = second[0];
    let told = exchange.handle(60_001, Input::Kept { link, hash, id, piece: 0, good: Some(true) });
    let told: Vec<u64> =
        told.iter().filter_map(|output| if let Output::Send(link, BlobFrame::Have { .. }) = output { Some(*link) } else { None }).collect();
    assert!(told.contains(&1) && told.contains(&2), "{told:?}");
}

#[test]
fn what_a_reader_took_along_when_he_left_is_sent_to_the_next_one_at_once() {
    let all = Pieces::all(8);
    let mut upload = Upload::new(8);
    let mut dice = Dice::new(1);
    for id in 0..8 {
        assert!(upload.wanted(1, id, vec![(0, 8)]));
        let sent = upload.next(1, Kind::Choice, &all, id, &mut dice).and_then(|next| next.piece).expect("nobody has any");
        if id % 2 == 0 {
            upload.reader_has(1, &[(sent, sent + 1)]);
        }
    }
    // What is on its way to one, or there, is not sent to another, who gets it from him.
    assert!(upload.wanted(2, 0, vec![(0, 8)]));
    assert_eq!(upload.next(2, Kind::Choice, &all, 8, &mut dice), None);
    upload.reader_gone(1);
    upload.reader_gone(2);
    for id in 0..8 {
        assert!(upload.wanted(3, id, vec![(0, 8)]));
        assert!(upload.next(3, Kind::Choice, &all, 9, &mut dice).is_some_and(|next| next.piece.is_some()), "piece {id} of 8");
    }
}

#[test]
fn who_never_says_what_came_takes_no_room_from_others() {
    let mut exchange = asked_by(1..=2);
    (0..32).for_each(|id| drop(exchange.handle(0, want(1, id, id as u32))));
    let mut now_ms = 0;
    while now_ms < 10_000 {
        now_ms += 1000;
        assert_eq!(loaded(&exchange.handle(now_ms, Input::Timer)), [], "he is waited for");
    }
    // From then on he gets one piece now and then, and whoever answers all that he asks for.
    let mut loads: VecDeque<(u64, u32)> = (0..20).flat_map(|id| loaded(&exchange.handle(now_ms, want(2, id, 32 + id as u32)))).collect();
    let mut count = [0, 0];
    for _ in 0..4 {
        while let Some((link, piece)) = loads.pop_front() {
            count[link as usize - 1] += 1;
            if link == 2 {
                loads.extend(loaded(&exchange.handle(now_ms, has(2, piece))));
            }
        }
        now_ms += 10_000;
        loads.extend(loaded(&exchange.handle(now_ms, Input::Timer)));
    }
    assert!(count[1] == 20 && count[0] <= 2, "{count:?}");
    // As soon as he says what came he is like all others.
    exchange.handle(now_ms, has(1, 0));
    let all: Vec<_> = (0..32).flat_map(|piece| loaded(&exchange.handle(now_ms, has(1, piece)))).collect();
    assert!(all.len() > 10, "{all:?}");
}

fn loaded(outputs: &[Output]) -> Vec<(u64, u32)> {
    outputs.iter().filter_map(|output| if let Output::Load { link, piece, .. } = output { Some((*link, *piece)) } else { None }).collect()
}

/// An exchange hears what somebody claims, and has these pieces of that.
fn claimed(exchange: &mut Exchange, link: u64, space: PublicKey, hash: BlobHash, len: u64, have: Option<Pieces>) -> Vec<Output> {
    let asked = exchange.handle(0, Input::Frame(link, BlobFrame::Have { space, hash, len, asks: true, pieces: vec![] }));
    let Some(Output::Look(look)) = asked.into_iter().next() else { panic!("it looks") };
    exchange.handle(0, Input::Found { look, have })
}

fn told(outputs: &[Output]) -> Vec<(u64, PublicKey, u64)> {
    let told = |output: &Output| match output {
        Output::Send(link, BlobFrame::Have { space, len, pieces, .. }) if !pieces.is_empty() => Some((*link, *space, *len)),
        _ => None,
    };
    outputs.iter().filter_map(told).collect()
}

#[test]
fn who_claims_another_length_keeps_nobody_out() {
    let mut exchange = Exchange::new(1);
    claimed(&mut exchange, 1, SPACE, HASH, LEN + 1, Some(Pieces::none(65)));
    assert_eq!(told(&claimed(&mut exchange, 2, SPACE, HASH, LEN, Some(Pieces::all(64)))), [(2, SPACE, LEN)]);
    // Nor is what is here given up for a claim.
    assert_eq!(told(&claimed(&mut exchange, 1, SPACE, HASH, LEN + 1, Some(Pieces::none(65)))), []);
    assert_eq!(loaded(&exchange.handle(0, want(2, 1, 7))), [(2, 7)]);
    // What is fetched is the owner's word.
    let mut exchange = Exchange::new(1);
    claimed(&mut exchange, 1, SPACE, HASH, LEN + 1, Some(Pieces::none(65)));
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
    assert_eq!(exchange.transfers().map(|transfer| (transfer.len, transfer.is_fetched)).collect::<Vec<_>>(), [(LEN, true)]);
}

#[test]
fn what_is_claimed_takes_a_bounded_room() {
    let mut exchange = Exchange::new(1);
    let (pieces, len) = (3 << 20, (3 << 20) * 128 * 1024);
    for number in 0..4 {
        let had = claimed(&mut exchange, 1, SPACE, BlobHash::from_bytes([number; 32]), len, Some(Pieces::none(pieces)));
        assert!(matches!(&had[..], [Output::Send(1, BlobFrame::Have { .. })]), "{had:?}");
    }
    let all: u32 = exchange.transfers().map(|transfer| transfer.pieces.1).sum();
    assert_eq!(all, 2 * pieces);
}

#[test]
fn each_is_told_of_the_space_alone_that_he_named() {
    let other = PublicKey::from_bytes([6; 32]);
    let mut exchange = Exchange::new(1);
    claimed(&mut exchange, 1, SPACE, HASH, LEN, Some(Pieces::all(64)));
    assert_eq!(told(&claimed(&mut exchange, 2, other, HASH, LEN, Some(Pieces::all(64)))), [(2, other, LEN)]);
    // Whose right to it went with the first space gets nothing more, and the other does.
    let looks = exchange.handle(0, Input::Restated(Some(SPACE)));
    let [Output::Look(look)] = &looks[..] else { panic!("{looks:?}") };
    assert_eq!(look.link, 1);
    assert_eq!(loaded(&exchange.handle(0, want(1, 1, 3))), [(1, 3)], "until it was looked");
    exchange.handle(0, Input::Found { look: look.clone(), have: None });
    assert_eq!(refusals(&exchange.handle(0, want(1, 2, 4)), Not::Here), [(1, 2)]);
    assert_eq!(loaded(&exchange.handle(0, want(2, 1, 4))), [(2, 4)]);
}

#[test]
fn what_is_not_wanted_any_more_is_taken_back_and_nobody_is_blamed_for_what_still_comes() {
    let mut exchange = Exchange::new(1);
    for round in 0..600 {
        exchange.handle(round, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
        exchange.handle(round, Input::Sources(HASH, SPACE, vec![1]));
        let all = BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: false, pieces: vec![(0, 64)] };
        let asked = exchange.handle(round, Input::Frame(1, all));
        let wants: Vec<_> = asked
            .iter()
            .filter_map(|output| if let Output::Send(1, BlobFrame::Want { id, any_of, .. }) = output { Some((1, *id, any_of[0].0)) } else { None })
            .collect();
        let ended = exchange.handle(round, Input::Enough(HASH));
        assert!(
            wants.len() >= 2 && refusals(&ended, Not::Unwanted) == wants.iter().map(|(link, id, _)| (*link, *id)).collect::<Vec<_>>(),
            "{ended:?}"
        );
        for (link, id, piece) in wants {
            let late = exchange.handle(round, Input::Frame(link, BlobFrame::Piece { hash: HASH, id, piece, slice: bytes::Bytes::new() }));
            assert!(!late.iter().any(|output| matches!(output, Output::Blame { .. })), "round {round}");
        }
    }
    // On the other side what was not sent yet is not sent any more.
    let mut exchange = asked_by(1..=1);
    let sent: Vec<_> = (0..32).flat_map(|id| loaded(&exchange.handle(0, want(1, id, id as u32)))).collect();
    for id in 0..32 {
        exchange.handle(0, Input::Frame(1, BlobFrame::Not { hash: HASH, id, reason: Not::Unwanted }));
    }
    assert!(sent.len() < 32, "the line is full");
    assert_eq!(loaded(&exchange.handle(0, Input::Timer)), []);
    // What comes next is not kept waiting for what was on its way.
    let next: Vec<_> = (0..sent.len() as u64).flat_map(|id| loaded(&exchange.handle(0, want(1, 100 + id, 40 + id as u32)))).collect();
    assert_eq!(next.len(), sent.len());
}

/// What a link answers to whoever asks what it has.
fn answers(exchange: &mut Exchange, now_ms: u64, link: u64, pieces: Vec<(u32, u32)>) -> Vec<Output> {
    exchange.handle(now_ms, Input::Frame(link, BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: false, pieces }))
}

/// The same where it was asked for the sake of a space.
fn answers_for(exchange: &mut Exchange, now_ms: u64, link: u64, space: PublicKey, pieces: Vec<(u32, u32)>) -> Vec<Output> {
    exchange.handle(now_ms, Input::Frame(link, BlobFrame::Have { space, hash: HASH, len: LEN, asks: false, pieces }))
}

/// The links that are asked what they have.
fn asked_what(outputs: &[Output]) -> Vec<u64> {
    let link = |output: &Output| if let Output::Send(link, BlobFrame::Have { asks: true, .. }) = output { Some(*link) } else { None };
    outputs.iter().filter_map(link).collect()
}

/// The pieces that a link is asked for by number.
fn wanted_of(outputs: &[Output], of: u64) -> Vec<(u64, u32)> {
    let want = |output: &Output| match output {
        Output::Send(link, BlobFrame::Want { id, any_of, .. }) if *link == of => Some((*id, any_of[0].0)),
        _ => None,
    };
    outputs.iter().filter_map(want).collect()
}

/// One had no time to look, or had not heard yet that it is named.
#[test]
fn who_had_nothing_is_asked_again_after_a_while() {
    let mut exchange = Exchange::new(1);
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
    let sources = |exchange: &mut Exchange, now_ms| asked_what(&exchange.handle(now_ms, Input::Sources(HASH, SPACE, vec![1, 2])));
    assert_eq!(sources(&mut exchange, 0), [1, 2]);
    answers(&mut exchange, 1, 1, vec![(0, 64)]);
    answers(&mut exchange, 1, 2, Vec::new());
    assert!(sources(&mut exchange, 9000).is_empty());
    assert_eq!(sources(&mut exchange, 10_000), [2], "whoever has it need not say so again");
    assert!(sources(&mut exchange, 11_000).is_empty());
}

/// Two spaces name the same film, and who has it for the sake of one may not read the other.
#[test]
fn each_is_asked_for_the_sake_of_the_space_for_which_he_may_have_it() {
    let other = PublicKey::from_bytes([2; 32]);
    let mut exchange = Exchange::new(1);
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
    let asked = |outputs: &[Output]| -> Vec<(u64, PublicKey)> {
        let ask = |output: &Output| match output {
            Output::Send(link, BlobFrame::Have { space, asks: true, .. }) => Some((*link, *space)),
            _ => None,
        };
        outputs.iter().filter_map(ask).collect()
    };
    assert_eq!(asked(&exchange.handle(0, Input::Sources(HASH, SPACE, vec![1, 2]))), [(1, SPACE), (2, SPACE)]);
    answers(&mut exchange, 1, 1, vec![(0, 64)]);
    answers(&mut exchange, 1, 2, Vec::new());
    let more = exchange.handle(2, Input::Sources(HASH, other, vec![1, 2, 3]));
    assert_eq!(asked(&more), [(2, other), (3, other)], "the first one has it for the sake of the other space");
    assert!(asked(&exchange.handle(3, Input::Sources(HASH, other, vec![1, 2, 3]))).is_empty());
    assert!(asked(&exchange.handle(3, Input::Sources(HASH, SPACE, vec![1, 2]))).is_empty());
    assert_eq!(exchange.given_for(&HASH, 1), [SPACE]);
    // The second one has it for the sake of the other space alone.
    let has = |space: PublicKey, pieces: Vec<(u32, u32)>| BlobFrame::Have { space, hash: HASH, len: LEN, asks: false, pieces };
    assert_eq!(exchange.given_for(&HASH, 2), []);
    exchange.handle(3, Input::Frame(2, has(other, vec![(0, 8)])));
    assert_eq!(exchange.given_for(&HASH, 2), [other]);
    exchange.handle(3, Input::Frame(2, has(SPACE, vec![(8, 9)])));
    assert_eq!(exchange.given_for(&HASH, 2), [other, SPACE], "and now for both");
    exchange.handle(3, Input::Frame(2, has(other, Vec::new())));
    assert_eq!(exchange.given_for(&HASH, 2), [SPACE]);
    let wanted = answers_for(&mut exchange, 4, 3, other, vec![(0, 64)]);
    assert!(!wanted_of(&wanted, 3).is_empty());
    // Who was asked for the sake of one space does not hear of the other one.
    let (id, piece) = wanted_of(&wanted, 3)[0];
    let told = exchange.handle(5, Input::Kept { link: 3, hash: HASH, id, piece, good: Some(true) });
    let named = told.iter().find_map(|output| match output {
        Output::Send(3, BlobFrame::Have { space, .. }) => Some(*space),
        _ => None,
    });
    assert_eq!(named, Some(other));
}

/// It has one piece less than it said, and what else was asked of it is on its way.
#[test]
fn nobody_is_blamed_for_what_comes_after_he_said_that_something_is_not_there() {
    let mut exchange = Exchange::new(1);
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
    for round in 0..600 {
        exchange.handle(round, Input::Sources(HASH, SPACE, vec![1]));
        let asked = wanted_of(&answers(&mut exchange, round, 1, vec![(0, 64)]), 1);
        assert!(asked.len() >= 2, "{asked:?}");
        let gone = exchange.handle(round, Input::Frame(1, BlobFrame::Not { hash: HASH, id: asked[0].0, reason: Not::Here }));
        assert_eq!(refusals(&gone, Not::Unwanted), asked[1..].iter().map(|(id, _)| (1, *id)).collect::<Vec<_>>());
        for (id, piece) in &asked[1..] {
            let late = Input::Frame(1, BlobFrame::Piece { hash: HASH, id: *id, piece: *piece, slice: bytes::Bytes::new() });
            assert!(!exchange.handle(round, late).iter().any(|output| matches!(output, Output::Blame { .. })), "round {round}");
        }
    }
}

/// The length is what somebody says, until the last piece is here.
#[test]
fn the_last_piece_comes_early_and_first_of_all_when_another_length_is_said() {
    let asked = |is_crowded: bool| {
        let (exchange, asked) = wanting_from(&[(1, vec![(0, 64)])], is_crowded);
        (exchange, asked.into_iter().map(|(.., piece)| piece).collect::<Vec<_>>())
    };
    let (_, alone) = asked(false);
    assert_eq!(alone, [0, 63]);
    // Where all want it at once the one who has it is not asked by all of them for the same.
    let (mut exchange, among_others) = asked(true);
    assert!(!among_others.contains(&63), "{among_others:?}");
    let has = vec![(0, 64)];
    let disputed = [exchange.handle(1, Input::Disputed(HASH)), exchange.handle(1, Input::Sources(HASH, SPACE, vec![2]))].concat();
    let more = [disputed, answers(&mut exchange, 2, 2, has)].concat();
    assert!(wants(&more).iter().any(|(_, _, _, piece)| *piece == 63), "{more:?}");
}

/// It says that it has all of a huge film, and that it has not, again and again.
#[test]
fn who_takes_back_what_he_said_is_not_listened_to_for_a_while() {
    let pieces = 1 << 20;
    let len = u64::from(pieces) * 128 * 1024;
    let mut exchange = Exchange::new(1);
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len, have: Pieces::none(pieces) });
    let has = |exchange: &mut Exchange, now_ms: u64, link: u64| {
        exchange.handle(now_ms, Input::Sources(HASH, SPACE, vec![1, 2]));
        let have = BlobFrame::Have { space: SPACE, hash: HASH, len, asks: false, pieces: vec![(0, pieces)] };
        wanted_of(&exchange.handle(now_ms, Input::Frame(link, have)), link)
    };
    let asked = has(&mut exchange, 0, 1);
    assert!(!asked.is_empty());
    exchange.handle(0, Input::Frame(1, BlobFrame::Not { hash: HASH, id: asked[0].0, reason: Not::Here }));
    for now_ms in 1..1000 {
        assert!(has(&mut exchange, now_ms, 1).is_empty(), "it costs nothing");
    }
    assert!(!has(&mut exchange, 1000, 2).is_empty(), "others are none of it");
    assert!(!has(&mut exchange, 10_000, 1).is_empty(), "he may have got it meanwhile");
}

#[test]
fn a_piece_that_is_damaged_here_is_asked_for_again() {
    let mut exchange = Exchange::new(1);
    let have = Pieces::from_bytes(&[0xff; 8], 64);
    let mut have_but_one = have;
    have_but_one.remove(63);
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: have_but_one });
    exchange.handle(0, Input::Sources(HASH, SPACE, vec![1]));
    let asked = wanted_of(&answers(&mut exchange, 0, 1, vec![(0, 64)]), 1);
    assert_eq!(asked.iter().map(|(_, piece)| *piece).collect::<Vec<_>>(), [63]);
    let lost = exchange.handle(1, Input::Lost(HASH, 5));
    assert_eq!(wanted_of(&lost, 1).iter().map(|(_, piece)| *piece).collect::<Vec<_>>(), [5]);
}

/// Rights changed, and a hundred readers are there.
#[test]
fn readers_are_looked_at_anew_a_few_at_a_time() {
    let mut exchange = asked_by(1..=100);
    let looks = |outputs: Vec<Output>| {
        outputs.into_iter().filter_map(|output| if let Output::Look(look) = output { Some(look) } else { None }).collect::<Vec<_>>()
    };
    let mut open: VecDeque<_> = looks(exchange.handle(1, Input::Restated(None))).into();
    assert_eq!(open.len(), 8);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(look) = open.pop_front() {
        assert!(seen.insert(look.link), "{look:?}");
        // One of two may not read it any more.
        let have = (look.link % 2 == 0).then(|| Pieces::none(64));
        let outputs = exchange.handle(1, Input::Found { look, have });
        open.extend(looks(outputs));
    }
    assert_eq!(seen, (1..=100).collect());
    assert_eq!(refusals(&exchange.handle(2, want(1, 7, 0)), Not::Here), [(1, 7)]);
    assert_eq!(refusals(&exchange.handle(2, want(2, 7, 0)), Not::Here), []);
}

/// One gets the whole film, and another one begins to look at its end.
#[test]
fn who_begins_to_read_elsewhere_does_not_wait_for_the_first_one() {
    let mut exchange = Exchange::new(1);
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
    exchange.handle(0, Input::Reads(HASH, vec![0..64, 60..64], false));
    exchange.handle(0, Input::Sources(HASH, SPACE, vec![1]));
    let mut asked: Vec<(u64, u32)> = wanted_of(&answers(&mut exchange, 0, 1, vec![(0, 64)]), 1);
    let mut came = Vec::new();
    while came.len() < 16 {
        let (id, piece) = asked.remove(0);
        came.push(piece);
        let kept = exchange.handle(1, Input::Kept { link: 1, hash: HASH, id, piece, good: Some(true) });
        asked.extend(wanted_of(&kept, 1));
    }
    assert!((0..8).chain(60..64).all(|piece| came.contains(&piece)), "{came:?}");
}

#[test]
fn of_what_is_kept_no_more_those_hear_who_count_on_it() {
    let mut exchange = asked_by(1..=2);
    let sent: Vec<_> = (0..4).flat_map(|id| loaded(&exchange.handle(0, want(1, id, id as u32)))).collect();
    assert_eq!(sent.len(), 2, "the others wait");
    let told = exchange.handle(0, Input::Forget(HASH));
    assert_eq!(refusals(&told, Not::Here), [(1, 0), (2, 0)]);
    assert!(loaded(&told).is_empty() && exchange.transfers().count() == 0);
    assert_eq!(refusals(&exchange.handle(0, want(1, 9, 9)), Not::Here), [(1, 9)]);
    // Nor does what was on its way take room from other blobs.
    let other = BlobHash::from_bytes([8; 32]);
    claimed(&mut exchange, 1, SPACE, other, LEN, Some(Pieces::all(64)));
    let wants = |id| Input::Frame(1, BlobFrame::Want { hash: other, id, any_of: vec![(id as u32, id as u32 + 1)] });
    let sent: Vec<_> = (0..4).flat_map(|id| loaded(&exchange.handle(0, wants(id)))).collect();
    assert_eq!(sent.len(), 2);
}

#[test]
fn pieces_are_given_no_faster_than_the_owner_says_and_all_get_their_share() {
    let mut exchange = asked_by(1..=3);
    exchange.handle(0, Input::Limits(Speeds { up: Some(1_000_000), down: None }));
    // What was sent arrives at once, so nothing but the limit keeps it back.
    let mut loads: VecDeque<(u64, u32)> = VecDeque::new();
    for id in 0..30 {
        (1..=3).for_each(|link| loads.extend(loaded(&exchange.handle(0, Input::Frame(link, choice(id))))));
    }
    let (mut now_ms, mut sent, mut calls) = (0, Vec::new(), 0);
    while sent.len() < 60 {
        while let Some((link, piece)) = loads.pop_front() {
            sent.push((now_ms, link));
            loads.extend(loaded(&exchange.handle(now_ms, has(link, piece))));
        }
        now_ms = exchange.next_ms(now_ms).filter(|at_ms| *at_ms > now_ms).expect("it goes on");
        loads.extend(loaded(&exchange.handle(now_ms, Input::Timer)));
        calls += 1;
    }
    for (count, (at_ms, _)) in sent.iter().enumerate() {
        let bytes = (count as u64 + 1) * 128 * 1024;
        assert!(bytes <= 2 * 128 * 1024 + 250_000 + at_ms * 1000, "{bytes} bytes after {at_ms} ms");
    }
    assert!(now_ms <= 60 * 132, "as fast as it may: {now_ms} ms");
    assert!(calls <= 70, "it is not woken without need: {calls} times");
    for link in 1..=3 {
        assert_eq!(sent.iter().filter(|(_, to)| *to == link).count(), 20, "{sent:?}");
    }
    // Without a limit the rest goes at once.
    let rest = loaded(&exchange.handle(now_ms, Input::Limits(Speeds::default())));
    assert!(rest.len() > 1, "{rest:?}");
}

/// Asks for any piece.
fn choice(id: u64) -> BlobFrame {
    BlobFrame::Want { hash: HASH, id, any_of: vec![(0, 64)] }
}

#[test]
fn who_waits_for_the_limit_is_not_taken_for_silent_nor_the_line_for_full() {
    let mut exchange = asked_by(1..=1);
    exchange.handle(0, Input::Limits(Speeds { up: Some(16_000), down: None }));
    let mut loads: VecDeque<(u64, u32)> = (0..20).flat_map(|id| loaded(&exchange.handle(0, want(1, id, id as u32)))).collect();
    let (mut now_ms, mut count) = (0, 0);
    while count < 20 {
        while let Some((link, piece)) = loads.pop_front() {
            count += 1;
            // He tells a second later, and nobody is blamed meanwhile.
            let told = [exchange.handle(now_ms + 1000, Input::Timer), exchange.handle(now_ms + 1000, has(link, piece))].concat();
            assert!(!told.iter().any(|output| matches!(output, Output::Blame { .. })));
            loads.extend(loaded(&told));
        }
        let Some(next_ms) = exchange.next_ms(now_ms + 1000) else { break };
        now_ms = next_ms.max(now_ms + 1000);
        loads.extend(loaded(&exchange.handle(now_ms, Input::Timer)));
    }
    assert!(count == 20 && (150_000..175_000).contains(&now_ms), "20 pieces at 16 kB a second: {now_ms} ms");
}

/// An exchange that wants blobs of 64 pieces, each of which one source has.
fn wanting(hashes: &[BlobHash], down: Option<u64>) -> (Exchange, Vec<Output>) {
    let mut exchange = Exchange::new(1);
    let mut outputs = exchange.handle(0, Input::Limits(Speeds { up: None, down }));
    for (at, hash) in hashes.iter().enumerate() {
        let link = at as u64 + 1;
        exchange.handle(0, Input::Fetch { space: SPACE, hash: *hash, len: LEN, have: Pieces::none(64) });
        exchange.handle(0, Input::Sources(*hash, SPACE, vec![link]));
        let have = BlobFrame::Have { space: SPACE, hash: *hash, len: LEN, asks: false, pieces: vec![(0, 64)] };
        outputs.extend(exchange.handle(0, Input::Frame(link, have)));
    }
    (exchange, outputs)
}

fn wants(outputs: &[Output]) -> Vec<(u64, BlobHash, u64, u32)> {
    let want = |output: &Output| match output {
        Output::Send(link, BlobFrame::Want { hash, id, any_of }) => Some((*link, *hash, *id, any_of[0].0)),
        _ => None,
    };
    outputs.iter().filter_map(want).collect()
}

#[test]
fn pieces_are_asked_for_no_faster_than_the_owner_says_and_blobs_take_turns() {
    let hashes = [9, 10, 11].map(|number| BlobHash::from_bytes([number; 32]));
    let (mut exchange, outputs) = wanting(&hashes, Some(1_000_000));
    let mut asked: VecDeque<_> = wants(&outputs).into();
    let (mut now_ms, mut count, mut calls, mut pieces) = (0, [0; 3], 0, [0u32; 3]);
    while count.iter().sum::<u32>() < 90 {
        while let Some((link, hash, id, _)) = asked.pop_front() {
            let at = link as usize - 1;
            count[at] += 1;
            let bytes = u64::from(count.iter().sum::<u32>()) * 128 * 1024;
            assert!(bytes <= 2 * 128 * 1024 + 250_000 + now_ms * 1000, "{bytes} bytes after {now_ms} ms");
            // It comes at once.
            let piece = pieces[at];
            pieces[at] += 1;
            asked.extend(wants(&exchange.handle(now_ms, Input::Kept { link, hash, id, piece, good: Some(true) })));
        }
        now_ms = exchange.next_ms(now_ms).filter(|at_ms| *at_ms > now_ms).expect("it goes on");
        asked.extend(wants(&exchange.handle(now_ms, Input::Timer)));
        calls += 1;
    }
    assert!(now_ms <= 90 * 132, "as fast as it may: {now_ms} ms");
    assert!(calls <= 220, "once for each piece, and to tell of it: {calls} times");
    assert!(count.iter().all(|count| (29..=31).contains(count)), "{count:?}");
}

#[test]
fn what_was_asked_for_in_vain_takes_nothing_of_the_limit() {
    let (mut exchange, outputs) = wanting(&[HASH], Some(16_000));
    let [(link, hash, id, _)] = wants(&outputs)[..] else { panic!("{outputs:?}") };
    // The next one may be asked for in eight seconds; but the first does not come.
    assert!(wants(&exchange.handle(4000, Input::Timer)).is_empty());
    let refused = exchange.handle(4000, Input::Frame(link, BlobFrame::Not { hash, id, reason: Not::Busy }));
    let again = [refused, exchange.handle(5000, Input::Timer)].concat();
    assert_eq!(wants(&again).len(), 1, "{again:?}");
    // Nor does what a source was asked for that is gone.
    exchange.handle(5000, Input::Gone(link));
    exchange.handle(5000, Input::Sources(HASH, SPACE, vec![2]));
    let have = BlobFrame::Have { space: SPACE, hash, len: LEN, asks: false, pieces: vec![(0, 64)] };
    let other = exchange.handle(5000, Input::Frame(2, have));
    assert_eq!(wants(&other).len(), 1, "{other:?}");
}

#[test]
fn when_the_limit_goes_more_is_asked_for_at_once() {
    let (mut exchange, outputs) = wanting(&[HASH], Some(16_000));
    let mut asked: VecDeque<_> = wants(&outputs).into();
    let mut now_ms = 0;
    // Each comes when the next one has been asked for: it seems that the source sends one in eight seconds.
    for piece in 0..3 {
        now_ms += 8200;
        asked.extend(wants(&exchange.handle(now_ms, Input::Timer)));
        let (link, hash, id, _) = asked.pop_front().expect("it is asked for");
        asked.extend(wants(&exchange.handle(now_ms + 100, Input::Kept { link, hash, id, piece, good: Some(true) })));
    }
    let freed = exchange.handle(now_ms + 200, Input::Limits(Speeds::default()));
    assert!(asked.len() + wants(&freed).len() >= 2, "two at once: {freed:?}");
}

/// An exchange that wants the blob, from its beginning, of which these links have these pieces; and whom it asks for what, with
/// requests.
fn wanting_from(sources: &[(u64, Vec<(u32, u32)>)], is_crowded: bool) -> (Exchange, Vec<(u64, u64, u32)>) {
    let mut exchange = Exchange::new(1);
    if is_crowded {
        claimed(&mut exchange, 99, SPACE, HASH, LEN, Some(Pieces::none(64)));
    }
    exchange.handle(0, Input::Fetch { space: SPACE, hash: HASH, len: LEN, have: Pieces::none(64) });
    exchange.handle(0, Input::Reads(HASH, std::iter::once(0..64).collect(), !is_crowded));
    exchange.handle(0, Input::Sources(HASH, SPACE, sources.iter().map(|(link, _)| *link).collect()));
    let asked = sources.iter().flat_map(|(link, pieces)| {
        let outputs = answers(&mut exchange, 0, *link, pieces.clone());
        wants(&outputs).into_iter().map(|(link, _, id, piece)| (link, id, piece)).collect::<Vec<_>>()
    });
    let asked = asked.collect();
    (exchange, asked)
}

/// Lets pieces come from those that `answers`, one in `ms` from each, with the timer and something that happens all the time,
/// until `done`; the time when that was.
fn run_until(
    exchange: &mut Exchange,
    mut asked: Vec<(u64, u64, u32)>,
    answers: impl Fn(u64) -> Option<u64>,
    mut done: impl FnMut(&std::collections::BTreeSet<u32>) -> bool,
) -> Option<u64> {
    let (mut here, mut free_ms) = (std::collections::BTreeSet::new(), std::collections::BTreeMap::new());
    let (mut now_ms, mut timer_ms) = (0, exchange.next_ms(0));
    while now_ms < 60_000 {
        if done(&here) {
            return Some(now_ms);
        }
        now_ms += 10;
        let mut outputs = Vec::new();
        if timer_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            outputs.extend(exchange.handle(now_ms, Input::Timer));
        }
        // It is looked for sources again and again; that is not what it is woken for.
        if now_ms % 100 == 0 {
            outputs.extend(exchange.handle(now_ms, Input::Sources(HASH, SPACE, Vec::new())));
        }
        for link in asked.iter().map(|(link, ..)| *link).collect::<std::collections::BTreeSet<_>>() {
            let Some(ms) = answers(link) else { continue };
            if *free_ms.entry(link).or_insert(now_ms + ms) > now_ms {
                continue;
            }
            free_ms.remove(&link);
            let Some(at) = asked.iter().position(|(of, ..)| *of == link) else { continue };
            let (_, id, piece) = asked.remove(at);
            here.insert(piece);
            outputs.extend(exchange.handle(now_ms, Input::Kept { link, hash: HASH, id, piece, good: Some(true) }));
        }
        asked.extend(wants(&outputs).into_iter().map(|(link, _, id, piece)| (link, id, piece)));
        timer_ms = exchange.next_ms(now_ms);
    }
    None
}

#[test]
fn what_one_does_not_send_comes_from_another_whatever_else_happens() {
    let (mut exchange, asked) = wanting_from(&[(1, vec![(0, 64)]), (2, vec![(0, 64)])], false);
    assert!(asked.iter().any(|(link, ..)| *link == 2), "{asked:?}");
    let all_ms = run_until(&mut exchange, asked, |link| (link == 1).then_some(10), |here| here.len() == 64);
    assert!(all_ms.is_some_and(|ms| ms < 8000), "{all_ms:?}");
}

#[test]
fn what_somebody_waits_for_is_asked_of_another_before_what_nobody_waits_for() {
    // The first of them says nothing, and is asked for what is read first.
    let (mut exchange, asked) = wanting_from(&[(2, vec![(0, 64)]), (1, vec![(0, 64)])], false);
    let first: Vec<u32> = asked.iter().filter(|(link, ..)| *link == 2).map(|(.., piece)| *piece).collect();
    assert!(!first.is_empty());
    let mut rest = 0;
    let read_ms = run_until(
        &mut exchange,
        asked,
        |link| (link == 1).then_some(200),
        |here| {
            rest = 64 - here.len();
            first.iter().all(|piece| here.contains(piece))
        },
    );
    assert!(read_ms.is_some_and(|ms| ms < 4000) && rest > 40, "{read_ms:?}, {rest} are missing");
}

#[test]
fn many_sources_that_say_nothing_keep_nobody_waiting_for_long() {
    let mut sources: Vec<_> = (2..12).map(|link| (link, vec![(0, 64)])).collect();
    sources.push((1, vec![(0, 64)]));
    let (mut exchange, asked) = wanting_from(&sources, false);
    let all_ms = run_until(&mut exchange, asked, |link| (link == 1).then_some(50), |here| here.len() == 64);
    assert!(all_ms.is_some_and(|ms| ms < 20_000), "{all_ms:?}");
}

#[test]
fn one_that_claims_nearly_everything_and_sends_nothing_keeps_no_whole_source_idle() {
    // Others want it, too, so that who has everything is spared if who has a part sends.
    let (mut exchange, asked) = wanting_from(&[(2, vec![(0, 63)]), (1, vec![(0, 64)])], true);
    let all_ms = run_until(&mut exchange, asked, |link| (link == 1).then_some(50), |here| here.len() == 64);
    assert!(all_ms.is_some_and(|ms| ms < 20_000), "{all_ms:?}");
}

#[test]
fn a_new_reader_does_not_wait_for_those_who_say_nothing_whatever_they_do_say() {
    let mut exchange = asked_by(1..=3);
    let mut loads: VecDeque<(u64, u32)> = VecDeque::new();
    for link in [1, 2] {
        (0..16).for_each(|id| loads.extend(loaded(&exchange.handle(0, want(link, id, id as u32)))));
    }
    assert_eq!(loads.len(), 2, "the line is full");
    loads.clear();
    (0..8).for_each(|id| loads.extend(loaded(&exchange.handle(100, want(3, id, 40 + id as u32)))));
    let (mut now_ms, mut came) = (100, 0);
    let mut timer_ms = exchange.next_ms(now_ms);
    while now_ms < 30_000 && came < 8 {
        now_ms += 10;
        if timer_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            loads.extend(loaded(&exchange.handle(now_ms, Input::Timer)));
        }
        // They ask what is here, over and over.
        if now_ms % 400 == 0 {
            let asks = BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: true, pieces: vec![] };
            loads.extend(loaded(&exchange.handle(now_ms, Input::Frame(1, asks))));
        }
        while let Some(at) = loads.iter().position(|(link, _)| *link == 3) {
            let (_, piece) = loads.remove(at).expect("it is there");
            came += 1;
            loads.extend(loaded(&exchange.handle(now_ms, has(3, piece))));
        }
        timer_ms = exchange.next_ms(now_ms);
    }
    assert!(came == 8 && now_ms < 5000, "{came} pieces after {now_ms} ms");
}

#[test]
fn those_who_wait_for_what_is_forgotten_hear_of_it() {
    let mut exchange = asked_by(1..=1);
    let sent: Vec<_> = (0..4).flat_map(|id| loaded(&exchange.handle(0, want(1, id, id as u32)))).collect();
    assert_eq!(sent.len(), 2, "the others wait");
    // There is room for 1024, and this one is the oldest; but who waits keeps it.
    let other = |number: u32| BlobHash::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let claim = |exchange: &mut Exchange, number: u32| {
        let asked = BlobFrame::Have { space: SPACE, hash: other(number), len: LEN, asks: true, pieces: vec![] };
        let looks = exchange.handle(u64::from(number) + 1, Input::Frame(2, asked));
        let Some(Output::Look(look)) = looks.into_iter().next() else { panic!("it looks") };
        exchange.handle(u64::from(number) + 1, Input::Found { look, have: Some(Pieces::all(64)) })
    };
    let told: Vec<_> = (0..1100).flat_map(|number| refusals(&claim(&mut exchange, number), Not::Here)).collect();
    assert_eq!((told.len(), exchange.transfers().count()), (0, 1024));
    assert!(exchange.transfers().any(|transfer| transfer.hash == HASH));
    // One that is as large as all together takes all the room.
    let all = claimed(&mut exchange, 3, SPACE, other(5000), (8 << 20) * 128 * 1024, Some(Pieces::none(8 << 20)));
    assert_eq!(refusals(&all, Not::Here), [(1, 2)]);
    // What was on its way takes no room from others any more.
    claimed(&mut exchange, 1, SPACE, HASH, LEN, Some(Pieces::all(64)));
    assert_eq!((0..4).flat_map(|id| loaded(&exchange.handle(2000, want(1, 10 + id, id as u32)))).count(), 2);
}

/// Lengths are what somebody says, and so is what he has. One step for each piece would be eight thousand million of them.
#[test]
fn what_is_claimed_of_huge_blobs_takes_little_time() {
    let mut exchange = Exchange::new(1);
    let (pieces, len) = (4 << 20, (4 << 20) * 128 * 1024);
    claimed(&mut exchange, 1, SPACE, HASH, len, Some(Pieces::none(pieces)));
    let mut one = Pieces::none(pieces);
    one.insert(7);
    claimed(&mut exchange, 1, SPACE, BlobHash::from_bytes([8; 32]), len, Some(one));
    for round in 0..2000 {
        let hash = if round % 2 == 0 { HASH } else { BlobHash::from_bytes([8; 32]) };
        let have = BlobFrame::Have { space: SPACE, hash, len, asks: false, pieces: vec![(0, pieces)] };
        assert!(exchange.handle(0, Input::Frame(1, have)).is_empty());
    }
}
