//! What is kept apart, seen from the wire: frames to those who may not read it hold nothing of it, and asking for it is
//! answered like asking for what is nowhere.

use std::collections::VecDeque;

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, node_key};
use timebus_net::held::Held;
use timebus_net::sync::{Binding, Config, Input, Output, Role, Session, Start, Stored};
use timebus_store::engine::{Engine, MemoryHome};
use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
use timebus_store::ids::TimelineId;
use timebus_store::json::Json;
use timebus_store::op::{Op, PathStep};
use timebus_store::path::Path;
use timebus_store::pipeline::Refusal;
use timebus_store::store::Store;
use timebus_store::writer::{Action, Condition, Request, Statement};

const CANARY: &str = "kanarienvogel-4711";
const BEGIN_MS: u64 = 1_800_000_000_000;

struct Site {
    engine: Engine,
    device: SecretKey,
    node: PublicKey,
}

impl Site {
    fn new(number: u8) -> Self {
        let key = |n: u8| SecretKey::from_seed([10 * number + n; 32]);
        let mut home = MemoryHome::new(key(0), &key(1), key(2));
        let engine = Engine::open(&mut home, &timebus_store::store::Config::default(), BEGIN_MS).expect("opens");
        Self { engine, node: node_key(&key(2)).public(), device: key(2) }
    }

    fn store(&self) -> Store {
        self.engine.store().clone()
    }

    fn put(&mut self, at: &str, value: &str) {
        let (action, condition) = (Action::Put(Json::String(value.to_owned())), Condition::None);
        let path = Path::parse(at).expect("a path");
        let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: BEGIN_MS, durable: true, may_name: None };
        let store = self.store();
        self.engine.finish(store.write(request)).expect("ends").expect("written");
    }

    fn state(&mut self, statement: Statement) -> Vec<timebus_store::ids::GrantId> {
        let store = self.store();
        self.engine.finish(store.state(statement, BEGIN_MS)).expect("ends").expect("stated")
    }

    fn held(&self) -> Held {
        Held::now(self.engine.store(), [self.device.public().as_bytes()[0]; 16], BEGIN_MS)
    }

    fn session(&self, other: &Self, role: Role) -> (Session, Vec<Output>) {
        let device = SecretKey::from_seed(*self.device.seed());
        Session::new(Start {
            config: Config::new(self.store().space()),
            role,
            binding: Binding([1; 32]),
            node: self.node,
            remote_node: other.node,
            nonce: [if role == Role::Initiator { 1 } else { 2 }; 32],
            prove: Box::new(move |message| vec![(device.public(), device.sign(message))]),
            now_ms: BEGIN_MS,
        })
    }

    fn take(&mut self, ticket: u64, changes: Vec<timebus_identity::Signed<timebus_store::change::Change>>) -> Stored {
        let mut stored = Stored { ticket, ..Stored::default() };
        let good = changes.into_iter().map(|change| change.verify().expect("honest peers sign")).collect();
        let store = self.store();
        let offered = self.engine.finish(async move { store.offer(good).await }).expect("ends").expect("taken");
        stored.admitted.extend(offered.admitted.into_iter().chain(offered.known));
        for refusal in offered.refused {
            match refusal {
                Refusal::Pending { change, missing } => stored.pending.push((change, missing)),
                Refusal::Timeline { change, .. } | Refusal::Rights { change, .. } => stored.pending.push((change, Vec::new())),
                other => stored.refused.push(other.change()),
            }
        }
        stored
    }
}

/// One side asks the other for timelines; answers all that the other sent.
fn ask(asker: &mut Site, keeper: &mut Site, wanted: &[(PublicKey, TimelineId)]) -> Vec<Bytes> {
    let mut link = Link::new(asker, keeper);
    wanted.iter().for_each(|(space, timeline)| link.open(*space, *timeline));
    link.run(&mut [asker, keeper])
}

/// A link between two sites, the first of which asks the second.
struct Link {
    sessions: [Session; 2],
    outputs: VecDeque<(usize, Output)>,
    inputs: VecDeque<(usize, Input)>,
}

impl Link {
    fn new(asker: &Site, keeper: &Site) -> Self {
        let (one, first) = asker.session(keeper, Role::Initiator);
        let (other, second) = keeper.session(asker, Role::Responder);
        let outputs = first.into_iter().map(|output| (0, output)).chain(second.into_iter().map(|output| (1, output))).collect();
        Self { sessions: [one, other], outputs, inputs: [0, 1].map(|side| (side, Input::Writable { bytes: 1 << 26 })).into() }
    }

    fn open(&mut self, space: PublicKey, timeline: TimelineId) {
        self.inputs.push_back((0, Input::Open { space, timeline, is_resting: false }));
    }

    fn arrived(&mut self, side: usize, timeline: TimelineId) {
        self.inputs.push_back((side, Input::Appended { timeline }));
    }

    /// Until nobody has anything to say; answers what the second sent.
    fn run(&mut self, sites: &mut [&mut Site; 2]) -> Vec<Bytes> {
        let mut sent = Vec::new();
        loop {
            while let Some((side, output)) = self.outputs.pop_front() {
                match output {
                    Output::Send(bytes) => {
                        if side == 1 {
                            sent.push(bytes.clone());
                        }
                        self.inputs.push_back((1 - side, Input::Frame(bytes)));
                        self.inputs.push_back((side, Input::Writable { bytes: 1 << 26 }));
                    }
                    Output::Store { ticket, changes, .. } => {
                        let stored = sites[side].take(ticket, changes);
                        self.inputs.push_back((side, Input::Stored(stored)));
                    }
                    Output::Penalty { fault, .. } => panic!("{fault}"),
                    _ => {}
                }
            }
            let Some((side, input)) = self.inputs.pop_front() else { return sent };
            let held = sites[side].held();
            self.outputs.extend(self.sessions[side].handle(BEGIN_MS, input, &held).into_iter().map(|output| (side, output)));
        }
    }
}

fn holds(frames: &[Bytes], word: &str) -> bool {
    frames.iter().any(|frame| frame.windows(word.len()).any(|window| window == word.as_bytes()))
}

fn grant(to: &Site, timelines: Timelines) -> Op {
    Op::Grant(Grant {
        audience: Audience::Key(to.device.public()),
        scope: Scope::everything(),
        timelines,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "".into(),
    })
}

/// Alice with something for all and something kept apart.
fn alice() -> (Site, PublicKey, [TimelineId; 3]) {
    let mut alice = Site::new(1);
    let space = alice.store().space();
    alice.put("/notes", "for all");
    alice.state(Statement::Ops(vec![Op::Mount { path: vec![PathStep::Name("diary".into())], mode: 0, params: Box::default() }]));
    alice.put("/diary/monday", CANARY);
    let diary = alice.store().rights(&space).expect("held").timeline_of(&Path::parse("/diary").expect("a path"));
    (alice, space, [TimelineId::named(&space, "auth"), TimelineId::named(&space, "main"), diary])
}

#[test]
fn no_frame_to_who_may_not_read_it_holds_a_byte_of_it() {
    let (mut alice, space, all) = alice();
    let [auth, main, diary] = all;
    let wanted = all.map(|timeline| (space, timeline));
    let (mut bob, mut carol, mut stranger) = (Site::new(2), Site::new(3), Site::new(4));
    alice.state(Statement::Ops(vec![grant(&bob, Timelines::Main), grant(&carol, Timelines::Only(vec![diary]))]));
    let to_bob = ask(&mut bob, &mut alice, &wanted);
    assert!(holds(&to_bob, "for all") && !holds(&to_bob, CANARY));
    let to_carol = ask(&mut carol, &mut alice, &wanted);
    assert!(holds(&to_carol, CANARY) && !holds(&to_carol, "for all"));
    let to_stranger = ask(&mut stranger, &mut alice, &wanted);
    assert!(!holds(&to_stranger, CANARY) && !holds(&to_stranger, "for all") && !holds(&to_stranger, "diary"));
    // Nor from others who have it.
    let second_hand = ask(&mut bob, &mut carol, &[(space, auth), (space, main), (space, diary)]);
    assert!(!holds(&second_hand, CANARY));
    let second_hand = ask(&mut carol, &mut bob, &[(space, main)]);
    assert!(!holds(&second_hand, "for all"));
    // Who is let in later gets all of it; who is put out gets no more.
    let grants = alice.state(Statement::Ops(vec![grant(&bob, Timelines::Only(vec![diary]))]));
    assert!(holds(&ask(&mut bob, &mut alice, &[(space, auth), (space, diary)]), CANARY));
    alice.state(Statement::Revoke { grants, cascade: true, keep: true });
    alice.put("/diary/tuesday", "spatz-4712");
    assert!(!holds(&ask(&mut bob, &mut alice, &[(space, auth), (space, diary)]), "spatz-4712"));
    assert!(holds(&ask(&mut carol, &mut alice, &[(space, diary)]), "spatz-4712"));
}

#[test]
fn who_was_put_out_learns_that_and_nothing_that_is_stated_later() {
    let (mut alice, space, [auth, main, _]) = alice();
    let (mut bob, mut carol) = (Site::new(2), Site::new(3));
    let given = alice.state(Statement::Ops(vec![grant(&bob, Timelines::Main)]));
    assert!(holds(&ask(&mut bob, &mut alice, &[(space, auth), (space, main)]), "for all"));
    alice.state(Statement::Revoke { grants: given.clone(), cascade: true, keep: true });
    let Op::Grant(later) = grant(&carol, Timelines::Main) else { unreachable!() };
    let later = Op::Grant(Grant { label: CANARY.into(), ..later });
    alice.state(Statement::Ops(vec![later]));
    // Whether he has a cursor or begins anew, and from whomever he asks.
    let mut anew = Site::new(2);
    for asker in [&mut bob, &mut anew] {
        let told = ask(asker, &mut alice, &[(space, auth), (space, main)]);
        assert!(!holds(&told, CANARY), "it was stated when he was out");
        let rights = asker.store().rights(&space).expect("he knows the space");
        assert!(rights.grant(&given[0]).is_some_and(|held| !held.is_live()), "he knows that he is out");
    }
    ask(&mut carol, &mut alice, &[(space, auth), (space, main)]);
    assert!(!holds(&ask(&mut bob, &mut carol, &[(space, auth), (space, main)]), CANARY), "nor from another member");
    // Whoever is let in again hears all.
    alice.state(Statement::Ops(vec![grant(&bob, Timelines::Main)]));
    assert!(holds(&ask(&mut bob, &mut alice, &[(space, auth), (space, main)]), CANARY));
    assert!(bob.store().rights(&space).is_some_and(|rights| rights.is_member(&bob.device.public())));
}

/// Who opens `main` without `auth` hears of no statements; he gets nothing all the same once he is out.
#[test]
fn what_is_written_later_is_for_nobody_who_is_out_by_then_though_his_channel_is_open() {
    let (mut alice, space, [auth, main, _]) = alice();
    let mut bob = Site::new(2);
    let given = alice.state(Statement::Ops(vec![grant(&bob, Timelines::Main)]));
    ask(&mut bob, &mut alice, &[(space, auth)]);
    let mut link = Link::new(&bob, &alice);
    link.open(space, main);
    assert!(holds(&link.run(&mut [&mut bob, &mut alice]), "for all"));
    alice.put("/notes", "still for him");
    link.arrived(1, main);
    assert!(holds(&link.run(&mut [&mut bob, &mut alice]), "still for him"));
    alice.state(Statement::Revoke { grants: given, cascade: true, keep: true });
    alice.put("/notes", CANARY);
    link.arrived(1, main);
    let frames = link.run(&mut [&mut bob, &mut alice]);
    assert!(!holds(&frames, CANARY) && !frames.is_empty(), "he is told that it is over");
}

#[test]
fn what_is_not_for_you_is_answered_in_the_bytes_of_what_is_not_there() {
    let (mut alice, space, [auth, main, diary]) = alice();
    let mut bob = Site::new(2);
    alice.state(Statement::Ops(vec![grant(&bob, Timelines::Main)]));
    let nowhere = TimelineId([9; 32]);
    let nobody = SecretKey::from_seed([99; 32]).public();
    let answers = |asker: &mut Site, alice: &mut Site, wanted| ask(asker, alice, &[wanted]);
    // A member who may not read it, and a stranger who may read nothing.
    let absent = answers(&mut bob, &mut alice, (space, nowhere));
    assert_eq!(answers(&mut bob, &mut alice, (space, diary)), absent);
    let mut stranger = Site::new(4);
    let absent = answers(&mut stranger, &mut alice, (space, nowhere));
    for wanted in [(space, auth), (space, main), (space, diary), (space, TimelineId::named(&space, "drop")), (nobody, nowhere)] {
        assert_eq!(answers(&mut stranger, &mut alice, wanted), absent, "{wanted:?}");
    }
}
