//! Snapshots: what is read is what was written, and no bytes do harm.

use timebus_store::text::{Budget, SnapshotError, TextObject};

use crate::dags::random_history;
use crate::dice::{Dice, setting};
use crate::history::History;
use crate::traces::{TRACES, replay, trace};

/// A hash that fits, as somebody has who can write to the disk.
fn seal(bytes: &mut [u8]) {
    let hash = *blake3::hash(&bytes[33..]).as_bytes();
    bytes[1..33].copy_from_slice(&hash);
}

#[test]
fn a_text_read_back_goes_on_as_if_it_had_never_been_away() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let history = random_history(&mut dice);
        let cut = dice.below(history.said.len() + 1);
        let straight: Vec<usize> = (0..history.said.len()).collect();
        let before = history.deliver(&straight[..cut], 3);
        let bytes = before.encode();
        let mut object = TextObject::decode(&bytes).expect("our own bytes");
        assert!(object.encode() == bytes, "seed {seed}");
        assert_eq!(TextObject::text_of_snapshot(&bytes).expect("our own bytes"), before.text(), "seed {seed}");
        assert_eq!(object.version(), before.version(), "seed {seed}");
        let mut whole = before.clone();
        for number in &straight[cut..] {
            assert_eq!(history.admit(&mut object, *number), history.admit(&mut whole, *number), "seed {seed}");
            assert_eq!(object.merge(&mut Budget::unlimited()), whole.merge(&mut Budget::unlimited()), "seed {seed}");
        }
        assert_eq!(object.text(), whole.text(), "seed {seed}");
        assert_eq!(object.version(), whole.version(), "seed {seed}");
    }
}

#[test]
fn recorded_sessions_survive_a_snapshot() {
    for name in TRACES {
        let Some(trace) = trace(name) else { return };
        let object = replay(&trace);
        let bytes = object.encode();
        let back = TextObject::decode(&bytes).expect("our own bytes");
        assert!(back.text() == trace.end && back.version() == object.version() && back.encode() == bytes, "{name}");
    }
}

#[test]
fn changed_bytes_are_refused_and_with_a_fitting_hash_do_no_harm() {
    let mut refused = 0;
    let rounds = setting("TIMEBUS_MUTATIONS", 3000);
    for seed in 0..rounds {
        let mut dice = Dice::new(seed);
        let history: History = random_history(&mut dice);
        let numbers: Vec<usize> = (0..history.said.len()).collect();
        let cut = numbers.len() / 2;
        let mut bytes = history.deliver(&numbers[..cut], 2).encode();
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => bytes[at] = dice.any() as u8,
                1 => bytes[at] ^= 1 << dice.below(8),
                2 => bytes.truncate(at.max(34)),
                _ => bytes.insert(at, dice.any() as u8),
            }
        }
        match TextObject::decode(&bytes) {
            Ok(object) => assert_eq!(object.encode(), bytes, "seed {seed}: only what was not changed passes"),
            Err(SnapshotError::Damaged | SnapshotError::Version { .. } | SnapshotError::Malformed(_)) => {}
            Err(other) => panic!("{other}"),
        }
        bytes[0] = 1;
        seal(&mut bytes);
        let Ok(mut object) = TextObject::decode(&bytes) else {
            refused += 1;
            continue;
        };
        // Whatever it says now, using it ends without a panic.
        for number in &numbers[cut..] {
            let _ = history.admit(&mut object, *number);
            object.merge(&mut Budget::steps(100_000));
        }
        for said in &history.said {
            let version = [(said.op.change, 1)];
            let _ = object.text_at(&version, &mut Budget::steps(100_000));
            let _ = object.patches_since(&version, &mut Budget::steps(100_000));
        }
        object.set_effective(&[(history.said[0].op.change, false)]);
        object.resume(&mut Budget::steps(100_000));
        let _ = object.encode();
    }
    assert!(refused > rounds / 10, "most changes break a rule: {refused}");
}
