//! One link: the handshake, its channels, and whose turn it is to send.

use std::collections::BTreeMap;

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::change::Change;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::record::PeerRecord;
use crate::sync::channel::{Channel, Halt, SCAN_MAX, Shared};
use crate::sync::frame::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, Ack, Auth, Close, Code, FEEDS, FRAME_BYTES_MAX, Frame, HOLDINGS, Hello, Lacks, MAJOR, NAME_BYTES_MAX, NOTICES,
    Open, Opened, PRESENCE, PROVIDERS_MAX, Page, RECORDS, Redemption, TEXT_BYTES_MAX, Taking, WEIGHS, Wants,
};
use crate::sync::handshake::{Binding, Prove, Remote, Role, Transcript};
use crate::sync::replica::{Replica, ReplicaError};

mod input;

pub use input::{Config, Counters, End, Fault, Input, Output, RedeemAnswer, Standing, Start, Stored};

/// Most timelines of one link: two for each of some hundred people one follows.
pub const CHANNELS_MAX: usize = 512;
/// Milliseconds until both sides must have proven who they are.
pub const HANDSHAKE_MS: u64 = 10_000;
/// Bytes of small frames that may wait for the transport. Only who makes us answer and does not read gets there.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;
/// Tokens that may be tried on one link, so that nobody tries many.
pub const REDEEMS_MAX: u32 = 10;
/// Channels that the other side may open one after another, and how many more each second: each makes us look at the
/// store.
const OPENS: (u64, u64) = (1024, 10);
/// Needs that the other side may send one after another, and how many more each second. Honest peers need a few after
/// a fork.
const NEEDS: (u64, u64) = (64, 2);
/// Frames of notices that the other side may hand in one after another, and how many more each second: each costs a sync
/// of the disk.
const PUTS: (u64, u64) = (16, 2);
/// Frames of presence that the other side may send one after another, and how many more each second; more are left alone.
const PRESENCES: (u64, u64) = (64, 32);
/// Bytes of small frames that wait, beyond which nothing is told that will be told again soon.
const PASSING_BYTES_MAX: usize = 16 * 1024;
/// Frames of records, and questions for them, that the other side may send one after another, and how many more each
/// second: each costs up to 16 signatures. What is over is dropped; records are sent again.
const RECORD_FRAMES: (u64, u64) = (32, 2);
/// Frames about files that are held, and questions for them, that the other side may send one after another, and how many
/// more each second: each costs up to 256 lookups. What is over is dropped, and asked again later.
const FILE_FRAMES: (u64, u64) = (64, 4);
/// Frames about those of whom nothing is taken, that the other side may send one after another, and how many more each
/// second: each costs up to 64 records or signatures. What is over is dropped, and said again later.
const WEIGH_FRAMES: (u64, u64) = (64, 4);
/// Frames about who feeds whom that the other side may send one after another, and how many more each second: each costs
/// some lookups. Honest peers send five a second for each timeline in which there is much news, and a few when somebody goes.
const FEED_FRAMES: (u64, u64) = (4096, 1024);
/// How often it is found out what the other side has by such a frame, if it is to be sent nothing, and else: that may read much.
const RECKONINGS: [(u64, u64); 2] = [(64, 8), (1024, 64)];
/// What the transport takes before it said so: the handshake.
const WRITABLE_AT_FIRST: u64 = 64 * 1024;

#[derive(Debug)]
enum Stage {
    Hello,
    Auth(Transcript),
    Ready(Remote),
    Ended,
}

/// So many times at once, and some more each second.
struct Allowance {
    burst: u64,
    per_s: u64,
    left: u64,
    /// When it was last filled up.
    filled_ms: u64,
}

impl Allowance {
    fn new((burst, per_s): (u64, u64), now_ms: u64) -> Self {
        Self { burst, per_s, left: burst, filled_ms: now_ms }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let seconds = now_ms.saturating_sub(self.filled_ms) / 1000;
        self.filled_ms += 1000 * seconds;
        self.left = self.left.saturating_add(seconds.saturating_mul(self.per_s)).min(self.burst);
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

/// One link to one peer.
pub struct Session {
    config: Config,
    role: Role,
    binding: Binding,
    nodes: [PublicKey; 2],
    hello: (Hello, Bytes),
    prove: Option<Prove>,
    stage: Stage,
    deadline_ms: u64,
    channels: BTreeMap<u64, Channel>,
    timelines: BTreeMap<TimelineId, u64>,
    /// Timelines to open once the other side is known.
    to_open: Vec<(PublicKey, TimelineId, bool)>,
    next_own: u64,
    last_theirs: u64,
    /// The channel that sent last.
    turn: u64,
    opens: Allowance,
    needs: Allowance,
    puts: Allowance,
    presences: Allowance,
    records: Allowance,
    files: Allowance,
    weighs: Allowance,
    feeds: Allowance,
    reckonings: [Allowance; 2],
    /// Features that the other side named.
    theirs: Vec<u64>,
    redeems: u32,
    redeeming_in: bool,
    redeeming_out: bool,
    timer_ms: Option<u64>,
    shared: Shared,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {} channels)", self.role, self.channels.len())
    }
}

impl Session {
    /// Begins a session, and says what to do first.
    #[must_use]
    pub fn new(start: Start) -> (Self, Vec<Output>) {
        let Start { config, role, binding, node, remote_node, nonce, prove, now_ms } = start;
        let hello = Hello {
            major: MAJOR,
            minor: config.version.0,
            patch: config.version.1,
            features: config.features.clone(),
            frame_bytes_max: FRAME_BYTES_MAX as u64,
            nonce,
        };
        let bytes = Frame::Hello(hello.clone()).encode();
        let mut shared = Shared { writable: WRITABLE_AT_FIRST, now_ms, ..Shared::default() };
        shared.send(bytes.clone());
        let mut session = Self {
            config,
            role,
            binding,
            nodes: [node, remote_node],
            hello: (hello, bytes),
            prove: Some(prove),
            stage: Stage::Hello,
            deadline_ms: now_ms + HANDSHAKE_MS,
            channels: BTreeMap::new(),
            timelines: BTreeMap::new(),
            to_open: Vec::new(),
            next_own: if role == Role::Initiator { 1 } else { 2 },
            last_theirs: 0,
            turn: 0,
            opens: Allowance::new(OPENS, now_ms),
            needs: Allowance::new(NEEDS, now_ms),
            puts: Allowance::new(PUTS, now_ms),
            presences: Allowance::new(PRESENCES, now_ms),
            records: Allowance::new(RECORD_FRAMES, now_ms),
            files: Allowance::new(FILE_FRAMES, now_ms),
            weighs: Allowance::new(WEIGH_FRAMES, now_ms),
            feeds: Allowance::new(FEED_FRAMES, now_ms),
            reckonings: RECKONINGS.map(|allowed| Allowance::new(allowed, now_ms)),
            theirs: Vec::new(),
            redeems: 0,
            redeeming_in: false,
            redeeming_out: false,
            timer_ms: None,
            shared,
        };
        session.set_timer();
        let out = std::mem::take(&mut session.shared.out);
        (session, out)
    }

    /// Takes one input and says what to do about it, in order.
    pub fn handle(&mut self, now_ms: u64, input: Input, replica: &dyn Replica) -> Vec<Output> {
        if matches!(self.stage, Stage::Ended) {
            return Vec::new();
        }
        self.shared.now_ms = now_ms;
        self.shared.scan = SCAN_MAX;
        self.shared.wake = false;
        if let Err((channel, halt)) = self.take(input, replica) {
            self.halt(channel, halt);
        }
        // Each round ends a channel or is the last.
        while let Err((channel, halt)) = self.pump(replica) {
            self.halt(channel, halt);
        }
        if self.shared.control_bytes > CONTROL_BYTES_MAX {
            self.halt(0, Halt::Link(Fault::Flood));
        }
        self.set_timer();
        std::mem::take(&mut self.shared.out)
    }

    /// What went over the link so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// Bytes that wait here: frames for the transport, and changes for what they build on.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shared.control_bytes + self.shared.pending.bytes()
    }

    /// Changes that wait for what they build on.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.pending.len()
    }

    fn take(&mut self, input: Input, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let link = |halt: Halt| (0, halt);
        match input {
            Input::Frame(bytes) => return self.frame(&bytes, replica),
            Input::Open { space, timeline, is_resting } => {
                if self.to_open.len() + self.channels.len() < CHANNELS_MAX {
                    self.to_open.push((space, timeline, is_resting));
                } else {
                    self.shared.out.push(Output::Denied { timeline, code: Code::TooMuch, retry_after_s: 0 });
                }
                self.open_waiting(replica).map_err(|error| link(error.into()))?;
            }
            Input::CloseChannel { timeline, code } => {
                self.to_open.retain(|(_, other, _)| *other != timeline);
                if let Some(number) = self.timelines.get(&timeline).copied() {
                    self.close_channel(number, code);
                }
            }
            Input::Close { code, retry_after_s } => {
                self.shared.say(&Frame::Close(Close { channel: 0, code, retry_after_s, text: String::new() }));
                self.finish(End::Asked(code));
            }
            Input::Stored(stored) => return self.stored(stored, replica),
            Input::Appended { timeline } => self.appended(&timeline, replica).map_err(|error| link(error.into()))?,
            Input::Feed { timeline, wants, is_busy } => self.feed(&timeline, wants, is_busy, replica).map_err(|error| link(error.into()))?,
            Input::Turn { timeline, is_turn, dose } => {
                if let Some(channel) = self.timelines.get(&timeline).and_then(|number| self.channels.get_mut(number)) {
                    channel.turn(is_turn, dose);
                }
            }
            Input::Fetch { timeline, ids } => {
                if let Some(channel) = self.timelines.get(&timeline).and_then(|number| self.channels.get_mut(number)) {
                    channel.fetch(ids);
                }
            }
            Input::Hold { timeline, authors } => {
                let is_agreed = self.is_agreed(WEIGHS);
                let channel = self.timelines.get(&timeline).and_then(|number| self.channels.get_mut(number));
                if let Some(channel) = channel.filter(|it| is_agreed && it.opened) {
                    channel.hold(authors, &mut self.shared);
                }
            }
            Input::Writable { bytes } => self.shared.writable = bytes,
            Input::Timer => {
                if self.shared.now_ms >= self.deadline_ms && !matches!(self.stage, Stage::Ready(_)) {
                    self.end(Code::Protocol, "who you are was not proven in time", End::Timeout);
                }
                let overdue: Vec<(u64, Halt)> =
                    self.channels.values().filter_map(|channel| channel.timer(self.shared.now_ms).err().map(|halt| (channel.number, halt))).collect();
                for (number, halt) in overdue {
                    self.halt(number, halt);
                }
            }
            Input::Redeem { token, device } => {
                if !self.redeeming_out && matches!(self.stage, Stage::Ready(_)) {
                    self.redeeming_out = true;
                    self.shared.say(&Frame::Redeem { token, device });
                } else {
                    let text = "another token is being handed in, or the other side is not known yet".to_owned();
                    let answer = RedeemAnswer { result: Redemption::Busy, space: PublicKey::from_bytes([0; 32]), text };
                    self.shared.out.push(Output::Redeemed(answer));
                }
            }
            Input::RedeemAnswer(RedeemAnswer { result, space, text }) => {
                if std::mem::take(&mut self.redeeming_in) {
                    self.shared.say(&Frame::Redeemed { result, space, text: shortened(text, TEXT_BYTES_MAX) });
                }
            }
            Input::Put { space, notices } => {
                if self.is_agreed(NOTICES) && matches!(self.stage, Stage::Ready(_)) {
                    self.shared.say(&Frame::Put { space, notices });
                }
            }
            Input::Records(records) => self.say_of_records(Frame::Records(records)),
            Input::AskRecords(keys) => self.say_of_records(Frame::AskRecords(keys)),
            Input::AskFiles(space, files) => self.say_of_files(Frame::AskFiles { space, files }),
            Input::Files(space, files) => self.say_of_files(Frame::Files { space, files }),
            Input::Took { space, results } => self.shared.say(&Frame::Took { space, results }),
            Input::Presence { timeline, path, seats } => {
                let channel = self.timelines.get(&timeline).and_then(|number| self.channels.get(number));
                if let Some(channel) = channel.filter(|it| it.opened && it.serves)
                    && self.is_agreed(PRESENCE)
                    && self.shared.control_bytes < PASSING_BYTES_MAX
                {
                    let channel = channel.number;
                    self.shared.say(&Frame::Presence { channel, path, seats });
                }
            }
            Input::Providers { timeline, mut providers } => {
                for provider in &mut providers {
                    provider.addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX);
                    provider.addresses.truncate(ADDRESSES_MAX);
                }
                providers.truncate(PROVIDERS_MAX);
                if let Some(channel) = self.timelines.get(&timeline).and_then(|number| self.channels.get(number)).filter(|it| it.opened) {
                    self.shared.say(&Frame::Providers { channel: channel.number, providers });
                }
            }
        }
        Ok(())
    }

    /// Opens what was to be opened, once the other side is known.
    fn open_waiting(&mut self, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Stage::Ready(remote) = &self.stage else { return Ok(()) };
        for (space, timeline, is_resting) in std::mem::take(&mut self.to_open) {
            if self.timelines.contains_key(&timeline) {
                continue;
            }
            let number = self.next_own;
            self.next_own += 2;
            let window = self.window(&space, &timeline);
            let mode = u8::from(is_resting && self.is_agreed(FEEDS));
            let mut channel = Channel::new(number, space, timeline, remote, window, replica)?;
            channel.is_turn = !self.config.waits_for_turn;
            channel.asks = if mode == 0 { Wants::All } else { Wants::Nothing };
            let holding = channel.holding(replica);
            self.shared.say(&Frame::Open(Open { channel: number, space, timeline, mode, holding, credit: window }));
            self.channels.insert(number, channel);
            self.timelines.insert(timeline, number);
        }
        Ok(())
    }

    /// The credit for a channel that is being opened. Statements are few, and get no more than the least.
    fn window(&self, space: &PublicKey, timeline: &TimelineId) -> u64 {
        let least = self.config.window_bytes;
        if *timeline == TimelineId::named(space, "auth") {
            return least;
        }
        let lent: u64 = self.channels.values().map(|channel| channel.window_in.saturating_sub(least)).sum();
        least + self.config.extra_bytes.saturating_sub(lent) / 2
    }

    fn stored(&mut self, stored: Stored, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let Some(ticket) = self.shared.tickets.remove(&stored.ticket) else { return Ok(()) };
        for change in &ticket.changes {
            self.shared.in_flight.remove(&change.content().id());
        }
        let (Some(channel), Stage::Ready(_)) = (self.channels.get_mut(&ticket.channel), &self.stage) else { return Ok(()) };
        let rights_changed = channel.is_auth && !stored.admitted.is_empty();
        let (space, timeline) = (channel.space, channel.timeline);
        let shared = &mut self.shared;
        let result = channel
            .stored(stored.ticket, ticket.changes, stored, shared, replica)
            .and_then(|()| channel.retry(rights_changed, shared, replica).map_err(Halt::from));
        result.map_err(|halt| (ticket.channel, halt))?;
        if !rights_changed {
            // What was not here when the channel was opened may be served now.
            self.grew(&timeline, replica).map_err(|error| (0, error.into()))?;
        } else {
            self.rights_changed(&space, &timeline, replica).map_err(|error| (0, error.into()))?;
        }
        Ok(())
    }

    /// Statements of a space came: changes that waited for them are tried again, and who may have what is asked anew.
    fn rights_changed(&mut self, space: &PublicKey, timeline: &TimelineId, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Stage::Ready(remote) = &self.stage else { return Ok(()) };
        let mut lost = Vec::new();
        for channel in self.channels.values_mut().filter(|channel| channel.space == *space) {
            if channel.appended(timeline, remote, replica)? {
                lost.push(channel.number);
            }
            channel.retry(true, &mut self.shared, replica)?;
        }
        for number in lost {
            self.close_channel(number, Code::NotHere);
        }
        Ok(())
    }

    fn appended(&mut self, timeline: &TimelineId, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let rights_of: Option<PublicKey> =
            self.channels.values().map(|channel| channel.space).find(|space| TimelineId::named(space, "auth") == *timeline);
        if let Some(space) = rights_of {
            self.rights_changed(&space, timeline, replica)?;
        }
        if let Some(channel) = self.timelines.get(timeline).and_then(|number| self.channels.get_mut(number)) {
            channel.retry(false, &mut self.shared, replica)?;
        }
        self.grew(timeline, replica)
    }

    /// A timeline has grown, or may have: the other side may have more of it, or nothing any longer.
    fn grew(&mut self, timeline: &TimelineId, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Stage::Ready(remote) = &self.stage else { return Ok(()) };
        if let Some(channel) = self.timelines.get(timeline).and_then(|number| self.channels.get_mut(number))
            && channel.appended(timeline, remote, replica)?
        {
            let number = channel.number;
            self.close_channel(number, Code::NotHere);
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &Bytes, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let rule = |text: &'static str| Err((0, Halt::Link(Fault::Rule(text))));
        self.shared.counters.bytes_received += bytes.len() as u64;
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            // Of another major version only this much is known: where its number stands.
            Err(_) if matches!(self.stage, Stage::Hello) && bytes.starts_with(&[0]) && bytes.get(1) != Some(&(MAJOR as u8)) => {
                self.unsupported("another major version of the protocol".to_owned());
                return Ok(());
            }
            Err(error) => return Err((0, Halt::Link(Fault::Frame(error)))),
        };
        match (frame, &self.stage) {
            (Frame::Close(close), _) => self.closed(close),
            (Frame::Hello(hello), Stage::Hello) => return self.hello(hello, bytes),
            (Frame::Auth(auth), Stage::Auth(_)) => return self.auth(auth, replica),
            (_, Stage::Hello | Stage::Auth(_)) => return rule("a frame before both sides were known"),
            (Frame::Hello(_) | Frame::Auth(_), _) => return rule("a second handshake"),
            (Frame::Open(open), Stage::Ready(_)) => return self.opening(open, replica),
            (Frame::Redeem { token, device }, Stage::Ready(remote)) => {
                if self.redeeming_in {
                    return rule("a second token before the first was answered");
                }
                if !remote.keys.contains(&device) {
                    return rule("a token for a device that was not proven");
                }
                self.redeems += 1;
                if self.redeems > REDEEMS_MAX {
                    self.shared.penalty(Fault::Tokens);
                    let space = PublicKey::from_bytes([0; 32]);
                    self.shared.say(&Frame::Redeemed { result: Redemption::Busy, space, text: String::new() });
                } else {
                    self.redeeming_in = true;
                    self.shared.out.push(Output::Redeem { token, device });
                }
            }
            (Frame::Redeemed { result, space, text }, _) => {
                if !std::mem::take(&mut self.redeeming_out) {
                    return rule("an answer to no token");
                }
                self.shared.out.push(Output::Redeemed(RedeemAnswer { result, space, text }));
            }
            (Frame::Records(_) | Frame::AskRecords(_), _) if !self.is_agreed(RECORDS) => return rule("records that were not agreed on"),
            (Frame::Records(_) | Frame::AskRecords(_), _) if !self.records.take(self.shared.now_ms) => {}
            (Frame::Records(records), _) => {
                let all = records.iter().map(|record| PeerRecord::decode(record)).collect::<Result<_, _>>();
                self.shared.out.push(Output::Records(all.map_err(|error| (0, Halt::Link(Fault::Record(error))))?));
            }
            (Frame::AskRecords(keys), _) => self.shared.out.push(Output::AskRecords(keys)),
            (Frame::AskFiles { .. } | Frame::Files { .. }, _) if !self.is_agreed(HOLDINGS) => return rule("files that were not agreed on"),
            (Frame::AskFiles { .. } | Frame::Files { .. }, _) if !self.files.take(self.shared.now_ms) => {}
            (Frame::AskFiles { space, files }, _) => self.shared.out.push(Output::AskFiles(space, files)),
            (Frame::Files { space, files }, _) => self.shared.out.push(Output::Files(space, files)),
            (Frame::Put { space, notices }, _) => return self.put(space, &notices),
            (Frame::Took { space, results }, _) => {
                if !self.is_agreed(NOTICES) {
                    return rule("an answer to no notices");
                }
                self.shared.out.push(Output::Took { space, results });
            }
            (frame, _) => return self.channel_frame(frame, bytes.len() as u64, replica),
        }
        Ok(())
    }

    /// Says what is here of a timeline, and what the other side is to send.
    fn feed(&mut self, timeline: &TimelineId, wants: Wants, is_busy: bool, replica: &dyn Replica) -> Result<(), ReplicaError> {
        if !self.is_agreed(FEEDS) {
            return Ok(());
        }
        let Some(channel) = self.timelines.get(timeline).and_then(|number| self.channels.get(number)).filter(|it| it.opened) else { return Ok(()) };
        let (heads, more, bytes) = channel.stand(replica)?;
        self.shared.say(&Frame::Feed { channel: channel.number, wants, is_busy, more, bytes, heads });
        Ok(())
    }

    /// Whether the other side was sent all that it is to be sent of a timeline, and how many bytes of that are on their way: it
    /// has not dealt with them yet, but still does.
    #[must_use]
    pub fn on_its_way(&self, timeline: &TimelineId, now_ms: u64) -> (bool, u64) {
        self.timelines.get(timeline).and_then(|number| self.channels.get(number)).map_or((false, 0), |channel| channel.on_its_way(now_ms))
    }

    /// The heads that the other side named when a timeline was opened.
    #[must_use]
    pub fn heads_of(&self, timeline: &TimelineId) -> &[ChangeId] {
        self.timelines.get(timeline).and_then(|number| self.channels.get(number)).map_or(&[], Channel::heads)
    }

    fn say_of_records(&mut self, frame: Frame) {
        if self.is_agreed(RECORDS) && matches!(self.stage, Stage::Ready(_)) {
            self.shared.say(&frame);
        }
    }

    fn say_of_files(&mut self, frame: Frame) {
        if self.is_agreed(HOLDINGS) && matches!(self.stage, Stage::Ready(_)) {
            self.shared.say(&frame);
        }
    }

    /// Whether both sides named a feature.
    #[must_use]
    pub fn is_agreed(&self, feature: u64) -> bool {
        self.theirs.contains(&feature) && self.config.features.iter().any(|own| own.id == feature)
    }

    fn put(&mut self, space: PublicKey, notices: &[Bytes]) -> Result<(), (u64, Halt)> {
        if !self.is_agreed(NOTICES) {
            return Err((0, Halt::Link(Fault::Rule("notices that were not agreed on"))));
        }
        let mut all = Vec::with_capacity(notices.len());
        for notice in notices {
            all.push(Change::decode(notice).map_err(|error| (0, Halt::Link(Fault::Change(error))))?);
        }
        if self.puts.take(self.shared.now_ms) {
            self.shared.out.push(Output::Put { space, notices: all });
        } else {
            self.shared.say(&Frame::Took { space, results: all.iter().map(|notice| (notice.content().id(), Taking::Busy)).collect() });
        }
        Ok(())
    }

    fn hello(&mut self, hello: Hello, bytes: &Bytes) -> Result<(), (u64, Halt)> {
        if hello.major != MAJOR {
            self.unsupported(format!("version {} of the protocol", hello.major));
            return Ok(());
        }
        let known = |id: u64| self.config.features.iter().any(|feature| feature.id == id);
        if let Some(feature) = hello.features.iter().find(|feature| feature.required && !known(feature.id)) {
            self.unsupported(format!("feature {}", feature.id));
            return Ok(());
        }
        if hello.frame_bytes_max < FRAME_BYTES_MAX as u64 {
            return Err((0, Halt::Link(Fault::Rule("a frame limit below that of version 1"))));
        }
        if hello.nonce == self.hello.0.nonce {
            return Err((0, Halt::Link(Fault::Rule("our own nonce"))));
        }
        self.theirs = hello.features.iter().map(|feature| feature.id).collect();
        let transcript = Transcript::new(self.role, self.binding, self.nodes, (&self.hello.0, &self.hello.1), (&hello, bytes));
        let mut proofs = self.prove.take().map_or_else(Vec::new, |prove| prove(&transcript.own_message(&self.config.space)));
        proofs.sort_unstable_by_key(|(key, _)| *key);
        let space = self.config.space;
        let name = shortened(std::mem::take(&mut self.config.name), NAME_BYTES_MAX);
        let mut addresses = std::mem::take(&mut self.config.addresses);
        addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX);
        addresses.truncate(ADDRESSES_MAX);
        self.shared.say(&Frame::Auth(Auth { space, proofs, name, addresses }));
        self.stage = Stage::Auth(transcript);
        Ok(())
    }

    fn auth(&mut self, auth: Auth, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let Stage::Auth(transcript) = &self.stage else { return Ok(()) };
        let remote = transcript.check(auth).ok_or((0, Halt::Link(Fault::Proof)))?;
        self.stage = Stage::Ready(remote.clone());
        self.shared.out.push(Output::Ready(remote));
        self.open_waiting(replica).map_err(|error| (0, error.into()))
    }

    fn opening(&mut self, open: Open, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let Stage::Ready(remote) = &self.stage else { return Ok(()) };
        let remote = remote.clone();
        let remote = &remote;
        let number = open.channel;
        let theirs = if self.role == Role::Initiator { 0 } else { 1 };
        if number % 2 != theirs || number <= self.last_theirs {
            return Err((0, Halt::Link(Fault::Rule("a channel number that is not the next of its side"))));
        }
        self.last_theirs = number;
        if !self.opens.take(self.shared.now_ms) {
            return Err((0, Halt::Link(Fault::Flood)));
        }
        let mut wanted = false;
        if let Some(own) = self.timelines.get(&open.timeline).copied() {
            // Both opened it at once: the initiator's channel is the one.
            let stays = self.role == Role::Initiator || self.channels.get(&own).is_none_or(|channel| channel.opened);
            if stays {
                self.refuse_channel(number, Code::Done, 0);
                return Ok(());
            }
            wanted = true;
            self.drop_channel(own);
        }
        let store = |error: ReplicaError| (0, error.into());
        if open.mode > u8::from(self.is_agreed(FEEDS)) {
            self.refuse_channel(number, Code::Unsupported, 0);
        } else if self.channels.len() >= CHANNELS_MAX {
            self.refuse_channel(number, Code::Busy, 60);
        } else if !wanted && !replica.may_sync(remote, &open.space, &open.timeline).map_err(store)? {
            if !open.holding.heads.is_empty() {
                self.shared.out.push(Output::InVain { space: open.space });
            }
            self.refuse_channel(number, Code::NotHere, 0);
        } else {
            let window = self.window(&open.space, &open.timeline);
            let mut channel = Channel::new(number, open.space, open.timeline, remote, window, replica).map_err(store)?;
            let holding = channel.holding(replica);
            channel.is_turn = !self.config.waits_for_turn;
            channel.wants = if open.mode == 0 { Wants::All } else { Wants::Nothing };
            let lacks = channel.meet(open.holding, open.credit, replica).map_err(store)?;
            let wants = channel.wants;
            channel.tell(lacks);
            self.shared.say(&Frame::Opened(Opened { channel: number, holding, credit: window, lacks }));
            self.channels.insert(number, channel);
            self.timelines.insert(open.timeline, number);
            self.shared.out.push(Output::Opened { space: open.space, timeline: open.timeline, by_remote: true, wants, asked: Wants::All });
        }
        Ok(())
    }

    fn refuse_channel(&mut self, channel: u64, code: Code, retry_after_s: u64) {
        self.shared.say(&Frame::Close(Close { channel, code, retry_after_s, text: String::new() }));
    }

    fn channel_frame(&mut self, frame: Frame, bytes: u64, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let number = match &frame {
            Frame::Opened(Opened { channel, .. })
            | Frame::Tips { channel, .. }
            | Frame::Need { channel, .. }
            | Frame::Changes { channel, .. }
            | Frame::Ack(Ack { channel, .. })
            | Frame::Live { channel, .. }
            | Frame::Presence { channel, .. }
            | Frame::Weigh { channel, .. }
            | Frame::Feed { channel, .. }
            | Frame::Providers { channel, .. } => *channel,
            _ => 0,
        };
        let (tells_presence, feeds, weighs) = (self.is_agreed(PRESENCE), self.is_agreed(FEEDS), self.is_agreed(WEIGHS));
        let Some(channel) = self.channels.get_mut(&number) else {
            // It may have been closed while the frame was on its way.
            let own = number % 2 == self.next_own % 2;
            let was = if own { number < self.next_own } else { number <= self.last_theirs };
            return if was { Ok(()) } else { Err((0, Halt::Link(Fault::Rule("a channel that was never opened")))) };
        };
        let shared = &mut self.shared;
        let opened = channel.opened;
        let own = number % 2 == self.next_own % 2;
        let result = match frame {
            Frame::Opened(Opened { holding, credit, lacks, .. }) if !opened && own => channel
                .meet(holding, credit, replica)
                .map(|ours| {
                    channel.told(lacks);
                    channel.tell(ours);
                    if ours == Lacks::Nothing && !channel.is_equal() {
                        shared.say(&Frame::Tips { channel: number, page: Page::LacksNothing, tips: Vec::new() });
                    }
                    let (space, timeline, asked) = (channel.space, channel.timeline, channel.asks);
                    shared.out.push(Output::Opened { space, timeline, by_remote: false, wants: Wants::All, asked });
                })
                .map_err(Halt::from),
            _ if !opened => Err(Halt::Link(Fault::Rule("a frame on a channel that is not open"))),
            Frame::Tips { page, tips, .. } => channel.tips(page, &tips, replica),
            Frame::Need { .. } if !self.needs.take(shared.now_ms) => Err(Halt::Link(Fault::Flood)),
            Frame::Need { ids, have, .. } => channel.needed(&ids, &have, replica),
            Frame::Changes { part, upto, changes, .. } => channel.changes(part, upto, &changes, bytes, shared, replica),
            Frame::Ack(ack) => channel.acked(ack, shared).map(|delivered| {
                let timeline = channel.timeline;
                shared.out.extend(delivered.map(|upto| Output::Delivered { timeline, upto }));
            }),
            Frame::Live { upto, .. } => channel.live(upto),
            Frame::Presence { .. } if !tells_presence => Err(Halt::Link(Fault::Rule("presence that was not agreed on"))),
            Frame::Presence { path, seats, .. } => {
                if channel.serves && self.presences.take(shared.now_ms) {
                    shared.out.push(Output::Presence { timeline: channel.timeline, path, seats });
                }
                Ok(())
            }
            Frame::Weigh { .. } if !weighs => Err(Halt::Link(Fault::Rule("weights that were not agreed on"))),
            Frame::Weigh { .. } if !self.weighs.take(shared.now_ms) => Ok(()),
            Frame::Weigh { authors, ids, heads, .. } => {
                channel.weigh(&authors, &ids, shared, replica).map_err(Halt::from).and_then(|()| channel.weighed(&heads, shared, replica))
            }
            Frame::Feed { .. } if !feeds => Err(Halt::Link(Fault::Rule("what is wanted, which was not agreed on"))),
            Frame::Feed { .. } if !self.feeds.take(shared.now_ms) => Err(Halt::Link(Fault::Flood)),
            Frame::Feed { wants, is_busy, more, bytes, heads, .. } => {
                channel.fed(wants, &heads);
                let standing = Standing { wants, is_busy, bytes, heads, has_more: more };
                shared.out.push(Output::Fed { timeline: channel.timeline, standing });
                // Without it something may be sent that is there already.
                let of = usize::from(wants > Wants::Nothing);
                if self.reckonings[of].take(shared.now_ms) { channel.reckon(more, replica).map_err(Halt::from) } else { Ok(()) }
            }
            Frame::Providers { providers, .. } => {
                shared.out.push(Output::Providers { timeline: channel.timeline, providers });
                Ok(())
            }
            _ => Err(Halt::Link(Fault::Rule("a frame that does not belong here"))),
        };
        result.map_err(|halt| (number, halt))
    }

    /// The other side closes something.
    fn closed(&mut self, close: Close) {
        let Close { channel, code, retry_after_s, text } = close;
        if channel == 0 {
            self.finish(End::Remote { code, retry_after_s, text });
        } else if let Some(channel) = self.drop_channel(channel) {
            let timeline = channel.timeline;
            self.shared.out.push(if channel.opened {
                Output::Closed { timeline, code, retry_after_s }
            } else {
                Output::Denied { timeline, code, retry_after_s }
            });
        }
    }

    /// We close a channel.
    fn close_channel(&mut self, number: u64, code: Code) {
        if let Some(channel) = self.drop_channel(number) {
            self.refuse_channel(number, code, 0);
            self.shared.out.push(Output::Closed { timeline: channel.timeline, code, retry_after_s: 0 });
        }
    }

    fn drop_channel(&mut self, number: u64) -> Option<Channel> {
        let channel = self.channels.remove(&number)?;
        self.timelines.remove(&channel.timeline);
        self.shared.pending.drop_channel(number);
        Some(channel)
    }

    fn halt(&mut self, channel: u64, halt: Halt) {
        match halt {
            Halt::Link(fault) => {
                let code = if matches!(fault, Fault::Flood | Fault::Refused) { Code::TooMuch } else { Code::Protocol };
                let text = fault.to_string();
                self.shared.penalty(fault);
                self.end(code, &text, End::Fault);
            }
            Halt::Channel(code, fault) => {
                if let Some(fault) = fault {
                    self.shared.penalty(fault);
                }
                self.close_channel(channel, code);
            }
            Halt::Store(error) => self.end(Code::Going, "the store cannot be read", End::Store(error)),
        }
    }

    fn unsupported(&mut self, what: String) {
        let text = format!("{what} is not known here");
        self.end(Code::Unsupported, &text, End::Unsupported(what));
    }

    /// Ends the link, and says so.
    fn end(&mut self, code: Code, text: &str, end: End) {
        if matches!(self.stage, Stage::Ended) {
            return;
        }
        self.shared.say(&Frame::Close(Close { channel: 0, code, retry_after_s: 0, text: shortened(text.to_owned(), TEXT_BYTES_MAX) }));
        self.finish(end);
    }

    fn finish(&mut self, end: End) {
        // The last words go out whatever the transport takes; they are bounded.
        while let Some(bytes) = self.shared.control.pop_front() {
            self.shared.send(bytes);
        }
        self.stage = Stage::Ended;
        self.channels.clear();
        self.timelines.clear();
        self.to_open.clear();
        let counters = self.shared.counters;
        let out = std::mem::take(&mut self.shared.out);
        self.shared = Shared { out, counters, ..Shared::default() };
        self.shared.out.push(Output::End(end));
    }

    /// Sends what there is to send, as far as the transport takes it.
    fn pump(&mut self, replica: &dyn Replica) -> Result<(), (u64, Halt)> {
        let shared = &mut self.shared;
        for (number, channel) in &mut self.channels {
            let mut step = || -> Result<(), Halt> {
                channel.settle(shared, replica)?;
                channel.advance(shared, replica)?;
                channel.say_weights(shared, replica)?;
                channel.acknowledge(shared);
                channel.tell_live(shared, replica)?;
                Ok(())
            };
            step().map_err(|halt| (*number, halt))?;
        }
        loop {
            while self.shared.writable > 0
                && let Some(bytes) = self.shared.control.pop_front()
            {
                self.shared.control_bytes -= bytes.len();
                self.shared.send(bytes);
            }
            if self.shared.writable == 0 {
                return Ok(());
            }
            // The most urgent; among equals the next behind the one that sent last.
            let mut best: Option<((_, bool, u64), u64)> = None;
            for (number, channel) in &mut self.channels {
                let class = channel.next_class(&mut self.shared, replica).map_err(|error| (*number, error.into()))?;
                if let Some(class) = class {
                    let rank = (class, *number <= self.turn, *number);
                    if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                        best = Some((rank, *number));
                    }
                }
            }
            let Some((_, number)) = best else { return Ok(()) };
            let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
            self.turn = number;
            channel
                .send_next(&mut self.shared, replica)
                .and_then(|()| channel.tell_live(&mut self.shared, replica))
                .map_err(|error| (number, error.into()))?;
        }
    }

    fn set_timer(&mut self) {
        let handshake = matches!(self.stage, Stage::Hello | Stage::Auth(_)).then_some(self.deadline_ms);
        let wake = (self.shared.wake && self.shared.writable > 0).then_some(self.shared.now_ms);
        let next = self.channels.values().filter_map(Channel::deadline_ms).chain(handshake).chain(wake).min();
        if let Some(at_ms) = next
            && (next != self.timer_ms || wake.is_some())
        {
            self.shared.out.push(Output::SetTimer { at_ms });
        }
        self.timer_ms = next;
    }
}

/// As much of a text as a frame takes.
fn shortened(mut text: String, bytes_max: usize) -> String {
    while text.len() > bytes_max {
        text.pop();
    }
    text
}
