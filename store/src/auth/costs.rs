//! What guests cost who say as much as they can.

use std::time::{Duration, Instant};

use timebus_identity::{PublicKey, SecretKey};

use super::*;
use crate::change::Kind;

fn key(n: u8) -> PublicKey {
    SecretKey::from_seed([n; 32]).public()
}

fn grant(to: PublicKey, depth: u8) -> Op {
    let (audience, scope, timelines) = (Audience::Key(to), Scope::everything(), Timelines::Main);
    let actions = Actions(Actions::READ.0 | Actions::WRITE.0 | if depth > 0 { Actions::GRANT.0 } else { 0 });
    let (bytes_max, change_bytes_max, not_after_ms) = (0, 0, 0);
    Op::Grant(Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label: "".into() })
}

fn revoke(grant: GrantId) -> Op {
    Op::Revoke(Revoke { grant, cascade: false, keep: Vec::new() })
}

/// A space into which its root let some guests, who may bring guests.
struct Talk {
    rights: Rights,
    said: u64,
    guests: Vec<(PublicKey, GrantId)>,
    tips: HashMap<PublicKey, ChangeId>,
}

impl Talk {
    fn new(guests: u8) -> Self {
        let mut talk = Self { rights: Rights::new(key(1)), said: 0, guests: Vec::new(), tips: HashMap::new() };
        let first = talk.say(key(1), None, vec![Op::Genesis(Genesis { next: None, guardians: None })]);
        talk.tips.extend((0..guests).map(|n| (key(10 + n), first)));
        for n in 0..guests {
            let change = talk.say(key(1), None, vec![grant(key(10 + n), 2)]);
            talk.guests.push((key(10 + n), OpId { change, index: 0 }.grant()));
        }
        talk
    }

    fn say(&mut self, author: PublicKey, cap: Option<GrantId>, ops: Vec<Op>) -> ChangeId {
        self.said += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.said.to_be_bytes());
        let header = Header {
            kind: Kind::Auth,
            timeline: TimelineId::named(&key(1), "auth"),
            author,
            seq: self.said,
            prev: self.tips.get(&author).copied(),
            cap,
            parents: Vec::new(),
            lamport: self.said,
            time_ms: 1,
            cum: 1,
            body_len: 1,
            body_root: [0; 32],
            encryption: None,
        };
        self.rights.learn(ChangeId(id), &header, &Body { ops, ..Body::default() });
        self.tips.insert(author, ChangeId(id));
        ChangeId(id)
    }

    /// Each guest, so many times: gives something and takes it back, and takes back what is none of his.
    fn go_on(&mut self, times: u64) {
        for _ in 0..times {
            for (guest, cap) in self.guests.clone() {
                let change = self.say(guest, Some(cap), vec![grant(key(9), 0)]);
                self.say(guest, Some(cap), vec![revoke(OpId { change, index: 0 }.grant())]);
                self.say(guest, Some(cap), vec![revoke(GrantId([7; 32]))]);
            }
        }
    }
}

#[test]
fn what_is_kept_of_pasts_grows_with_what_is_said_and_no_faster() {
    let mut talk = Talk::new(4);
    let mut kept = Vec::new();
    for _ in 0..3 {
        talk.go_on(200);
        kept.push(talk.rights.dag.kept_bytes());
    }
    assert!(kept[2] < 64 * 1024, "bits for all that was said before would be {}: {kept:?}", 7200 * 7200 / 16);
    let dead = talk.rights.grants().filter(|(_, held)| !held.is_live()).count();
    assert_eq!((dead, talk.rights.grants().count()), (2400, 2404));
    assert_eq!(talk.rights.revocations().iter().filter(|revocation| revocation.is_effective()).count(), 2400);
}

/// Run it with `--ignored --nocapture`, optimized or not: twice as much said has to take about twice as long.
#[test]
#[ignore = "prints how the cost of statements grows"]
fn twice_as_many_statements_cost_twice_as_much() {
    let took = |times: u64| {
        let mut talk = Talk::new(4);
        let start = Instant::now();
        talk.go_on(times);
        (start.elapsed(), talk.rights.dag.kept_bytes())
    };
    let mut before: Option<(Duration, usize)> = None;
    for times in [500, 1000, 2000] {
        let (time, bytes) = took(times);
        let ratio = before.map_or(0.0, |(before, _)| time.as_secs_f64() / before.as_secs_f64());
        #[expect(clippy::print_stdout, reason = "it is there to be looked at")]
        {
            println!("{} statements: {time:?}, {bytes} bytes of pasts, {ratio:.1} times the one before", times * 12);
        }
        before = Some((time, bytes));
    }
}
