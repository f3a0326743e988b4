//! Inboxes: bounded whatever strangers do, the same whatever arrives when, and nothing that anybody else stands on.

#[path = "support/dice.rs"]
#[allow(dead_code, reason = "every test binary has its own copy and uses what it needs")]
mod dice;
#[path = "support/home.rs"]
mod home;

use dice::Dice;
use home::folder;
use timebus_identity::{PublicKey, SecretKey, Signable as _, Signed, Verified};
use timebus_store::change::{Body, Change};
use timebus_store::inbox::{Inbox, LeaveError, Limits, PERSON_BYTES_MAX, Truth};
use timebus_store::json::Json;
use timebus_store::notice::{Left, Notice, NoticeError, Pointer};
use timebus_store::op::Op;
use timebus_store::path::Path;

fn key(n: u32) -> SecretKey {
    SecretKey::from_seed(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn owner() -> PublicKey {
    key(0).public()
}

fn pointer(space: PublicKey, path: &str) -> Pointer {
    Pointer { space, path: Path::parse(path).expect("a path") }
}

fn notice(author: &SecretKey, kind: &str, target: &str, words: usize) -> Notice {
    let body = (words > 0).then(|| Json::String("x".repeat(words)));
    Notice { kind: kind.into(), target: pointer(owner(), target), source: pointer(author.public(), "/mine"), body }
}

fn signed(author: &SecretKey, change: Change) -> Verified<Change> {
    let signature = author.sign(&change.signing_message());
    Signed::new(change, signature).verify().expect("signed")
}

fn leave(author: &SecretKey, notice: &Notice, clock: u64, is_gone: bool) -> Verified<Change> {
    signed(author, notice.change(author.public(), clock, 1, is_gone).expect("a change"))
}

fn open(folder: &std::path::Path, limits: Limits) -> Inbox {
    Inbox::open(folder, owner(), limits).expect("opens")
}

fn targets(inbox: &Inbox) -> Vec<String> {
    inbox.list().iter().map(|kept| format!("{} {} {}", kept.author, kept.notice.kind, kept.notice.target.path)).collect()
}

#[test]
fn a_slot_is_filled_again_taken_back_and_never_goes_back() {
    let home = folder();
    let inbox = open(home.path(), Limits::default());
    let bob = key(1);
    let like = notice(&bob, "like", "/post", 0);
    let words = notice(&bob, "like", "/post", 100);
    assert_eq!(like.slot(), words.slot());
    let first = leave(&bob, &like, 10, false);
    assert!(inbox.leave(std::slice::from_ref(&first), 5)[0].is_ok());
    let bytes = inbox.size().0;
    assert!(inbox.leave(&[leave(&bob, &words, 11, false)], 6)[0].is_ok());
    assert_eq!(inbox.list().len(), 1);
    assert!(inbox.size().0 > bytes && inbox.size().0 < bytes + 200, "what was there is freed");
    // What was before comes again, as from another peer: nothing changes.
    assert!(inbox.leave(std::slice::from_ref(&first), 7)[0].is_ok());
    assert_eq!(inbox.list()[0].notice, words);
    inbox.leave(&[leave(&bob, &words, 12, true)], 8);
    assert_eq!((inbox.list().len(), inbox.json(&[])), (0, Some(Json::Object(Default::default()))));
    inbox.leave(&[first], 9);
    assert_eq!(inbox.list().len(), 0, "and is not brought back by what was before");
    inbox.leave(&[leave(&bob, &like, 13, false)], 10);
    drop(inbox);
    let inbox = open(home.path(), Limits::default());
    let kept = &inbox.list()[0];
    assert_eq!((&kept.notice, kept.at_ms, kept.author), (&like, 10, bob.public()));
    let shown = inbox.json(&[&bob.public().to_string(), &like.slot(), "kind"]);
    assert_eq!(shown, Some(Json::String("like".into())));
}

#[test]
fn what_is_no_notice_for_this_inbox_is_refused() {
    let home = folder();
    let inbox = open(home.path(), Limits::default());
    let bob = key(1);
    let good = notice(&bob, "like", "/post", 0);
    let change = good.change(bob.public(), 1, 1, false).expect("a change");
    let with = |edit: &dyn Fn(&mut timebus_store::change::Header, &mut Body)| {
        let (mut header, mut body) = (change.header().clone(), Body::decode(change.body_bytes()).expect("a body"));
        edit(&mut header, &mut body);
        let bytes: std::sync::Arc<[u8]> = body.encode().into();
        header.body_len = bytes.len() as u64;
        header.body_root = *blake3::hash(&bytes).as_bytes();
        signed(&bob, Change::new(header, bytes).expect("fits"))
    };
    let elsewhere = Notice { target: pointer(key(9).public(), "/post"), ..good.clone() };
    let in_alien_slot = |_: &mut timebus_store::change::Header, body: &mut Body| {
        if let Op::Set { path, .. } = &mut body.ops[0] {
            path[2] = timebus_store::op::PathStep::Name("y".repeat(26).into());
        }
    };
    let in_alien_folder = |_: &mut timebus_store::change::Header, body: &mut Body| {
        if let Op::Set { path, .. } = &mut body.ops[0] {
            path[1] = timebus_store::op::PathStep::Name(key(2).public().to_string().into());
        }
    };
    let bad = [
        with(&|header, _| header.kind = timebus_store::change::Kind::Data),
        with(&|header, _| header.timeline = timebus_store::ids::TimelineId::named(&owner(), "main")),
        with(&|header, _| header.parents = vec![timebus_store::ids::ChangeId([1; 32])]),
        with(&|_, body| body.ops.push(body.ops[0].clone())),
        with(&|_, body| body.label = Some("name".into())),
        with(&in_alien_slot),
        with(&in_alien_folder),
        leave(&bob, &elsewhere, 1, false),
        leave(&bob, &notice(&bob, "like", "/post", 4096), 1, false),
    ];
    for (number, result) in inbox.leave(&bad, 1).into_iter().enumerate() {
        assert!(matches!(result, Err(LeaveError::Notice(_))), "{number}: {result:?}");
    }
    assert!(matches!(Left::check(&owner(), &leave(&bob, &elsewhere, 1, false)), Err(NoticeError::Change)));
    assert!(inbox.list().is_empty() && !home.path().join("00000001.log").exists());
    assert!(inbox.leave(&[with(&|_, _| {})], 1)[0].is_ok());
    inbox.close(true).expect("closed");
    assert!(matches!(inbox.leave(&[leave(&key(3), &notice(&key(3), "like", "/post", 0), 1, false)], 1)[0], Err(LeaveError::Closed)));
    assert!(open(home.path(), Limits::default()).is_closed());
}

#[test]
fn one_sender_has_so_much_room_and_empties_it_himself() {
    let home = folder();
    let inbox = open(home.path(), Limits { sender_bytes_max: 8 * 1024, ..Limits::default() });
    let bob = key(1);
    let post = |n: u32| notice(&bob, "reply", &format!("/post/{n}"), 1500);
    let results: Vec<bool> = (0..8).map(|n| inbox.leave(&[leave(&bob, &post(n), 1, false)], 1)[0].is_ok()).collect();
    let kept = results.iter().filter(|is_kept| **is_kept).count();
    assert!((3..=4).contains(&kept), "{results:?}");
    assert!(inbox.leave(&[leave(&key(2), &notice(&key(2), "like", "/post", 0), 1, false)], 1)[0].is_ok(), "others have their own");
    inbox.leave(&[leave(&bob, &post(0), 2, true)], 2);
    assert!(inbox.leave(&[leave(&bob, &post(9), 1, false)], 3)[0].is_ok(), "what is taken back is room again");
}

#[test]
fn what_is_thrown_out_is_not_on_disk_any_more() {
    let home = folder();
    let inbox = open(home.path(), Limits::default());
    let (bob, carol) = (key(1), key(2));
    inbox.leave(&[leave(&bob, &notice(&bob, "reply", "/a", 3000), 1, false), leave(&carol, &notice(&carol, "like", "/a", 0), 1, false)], 1);
    assert_eq!(inbox.throw_out(|author, _, _| *author == bob.public()).expect("thrown out"), 1);
    let file = std::fs::read(home.path().join("00000001.log")).expect("a file");
    assert!(!file.windows(64).any(|window| window == [b'x'; 64]));
    inbox.leave(&[leave(&carol, &notice(&carol, "like", "/b", 0), 1, false)], 2);
    drop(inbox);
    let inbox = open(home.path(), Limits::default());
    assert_eq!(inbox.list().iter().map(|kept| kept.notice.target.path.to_string()).collect::<Vec<_>>(), ["/a", "/b"]);
    // A record that was being written when the power went is cut off.
    drop(inbox);
    let file = home.path().join("00000001.log");
    let bytes = std::fs::read(&file).expect("a file");
    std::fs::write(&file, &bytes[..bytes.len() - 5]).expect("written");
    let inbox = open(home.path(), Limits::default());
    assert_eq!(inbox.list().len(), 1);
    inbox.leave(&[leave(&carol, &notice(&carol, "like", "/c", 0), 1, false)], 3);
    drop(inbox);
    assert_eq!(open(home.path(), Limits::default()).list().len(), 2);
}

/// What several peers that hold one inbox were handed in other orders, and twice, is the same on all of them.
#[test]
fn any_order_of_delivery_gives_the_same_inbox() {
    for seed in 0..30 {
        let mut dice = Dice::new(seed);
        let mut all = Vec::new();
        for _ in 0..60 {
            let author = key(1 + dice.below(4) as u32);
            let notice = notice(&author, ["like", "reply"][dice.below(2)], ["/a", "/b", "/c"][dice.below(3)], dice.below(40));
            all.push(leave(&author, &notice, 1 + dice.below(12) as u64, dice.below(4) == 0));
        }
        let mut seen: Option<Vec<String>> = None;
        for _ in 0..4 {
            let home = folder();
            let inbox = open(home.path(), Limits::default());
            dice.shuffle(&mut all);
            inbox.leave(&all, 1);
            inbox.leave(&all[..20], 2);
            let mut found = targets(&inbox);
            found.sort();
            drop(inbox);
            let mut again = targets(&open(home.path(), Limits::default()));
            again.sort();
            assert_eq!(found, again, "world {seed}, after a restart");
            assert_eq!(*seen.get_or_insert(found.clone()), found, "world {seed}");
        }
    }
}

fn strangers(count: u32) {
    let home = folder();
    let limits = Limits { bytes_max: 1024 * 1024, ..Limits::default() };
    let inbox = open(home.path(), limits);
    for n in (0..count).step_by(64) {
        let batch: Vec<_> = (n..(n + 64).min(count))
            .map(|n| {
                let author = key(10 + n);
                leave(&author, &notice(&author, "like", "/post", 200), 1, false)
            })
            .collect();
        assert!(inbox.leave(&batch, u64::from(n)).iter().all(Result::is_ok));
        let (bytes, _) = inbox.size();
        assert!(bytes <= limits.bytes_max, "{bytes} bytes are live after {n}");
        assert!(inbox.file_bytes() <= 3 * limits.bytes_max + 1024 * 1024, "{} bytes are on disk after {n}", inbox.file_bytes());
    }
    let all = inbox.list();
    assert_eq!(all.last().map(|kept| kept.author), Some(key(10 + count - 1).public()), "the latest are there");
    assert!(all.len() < count as usize, "the oldest are not");
}

/// Strangers fill it, and of three notices the oldest is known to be true and the second not to be.
#[test]
fn what_is_known_to_be_a_lie_goes_first_and_what_is_true_stays() {
    let home = folder();
    let inbox = open(home.path(), Limits { bytes_max: 64 * 1024, ..Limits::default() });
    let mut all = Vec::new();
    for n in 0..40u32 {
        let author = key(10 + n);
        let notice = notice(&author, "like", "/post", 200);
        assert!(inbox.leave(&[leave(&author, &notice, 1, false)], u64::from(n))[0].is_ok());
        all.push((author.public(), notice.slot()));
    }
    let is_here = |at: usize| inbox.list().iter().any(|kept| kept.author == all[at].0);
    inbox.judge(&all[0].0, &all[0].1, Truth::Confirmed, 7);
    // What was found out before more of the space came, and is told only now.
    inbox.judge(&all[0].0, &all[0].1, Truth::Refuted, 6);
    assert_eq!(inbox.list()[0].truth, Truth::Confirmed);
    inbox.judge(&all[39].0, &all[39].1, Truth::Refuted, 7);
    let mut next = 50;
    while (0..40).all(is_here) {
        let author = key(next);
        assert!(inbox.leave(&[leave(&author, &notice(&author, "like", "/post", 200), 1, false)], 50)[0].is_ok());
        next += 1;
    }
    assert!(!is_here(39) && (0..39).all(is_here), "the lie went, and nothing else");
    for n in next..next + 400 {
        let author = key(n);
        assert!(inbox.leave(&[leave(&author, &notice(&author, "like", "/post", 200), 1, false)], 60)[0].is_ok());
    }
    assert!(is_here(0) && !(1..39).any(is_here));
}

/// Somebody who is followed names many devices, and each leaves as many notices as it may, all of them true.
#[test]
fn what_one_person_says_by_many_devices_pushes_out_nobody() {
    let home = folder();
    let inbox = open(home.path(), Limits { bytes_max: 4 * PERSON_BYTES_MAX, ..Limits::default() });
    let leave_true = |device: &SecretKey, person: PublicKey, target: &str| {
        let said = Notice { source: pointer(person, "/mine"), ..notice(device, "reply", target, 1500) };
        if inbox.leave(&[leave(device, &said, 1, false)], 1)[0].is_ok() {
            inbox.judge(&device.public(), &said.slot(), Truth::Confirmed, 1);
        }
    };
    let (bob, mallory) = (key(1), key(2));
    for n in 0..5 {
        leave_true(&bob, bob.public(), &format!("/post/{n}"));
    }
    for device in 10..42 {
        for n in 0..40 {
            leave_true(&key(device), mallory.public(), &format!("/post/{n}"));
        }
    }
    // Strangers come, and what he says beyond his share makes way for them.
    for n in 100..100 + 4 * PERSON_BYTES_MAX as u32 / 1900 {
        inbox.leave(&[leave(&key(n), &notice(&key(n), "reply", "/post", 1500), 1, false)], 2);
    }
    let of = |person: &SecretKey| inbox.list().iter().filter(|kept| kept.notice.source.space == person.public()).count() as u64;
    assert_eq!(of(&bob), 5);
    assert!((100..=PERSON_BYTES_MAX / 1500).contains(&of(&mallory)), "{}", of(&mallory));
    // What goes of it frees his share.
    inbox.throw_out(|_, _, notice| notice.is_some_and(|notice| notice.source.space == mallory.public())).expect("thrown out");
    leave_true(&key(60), mallory.public(), "/post/new");
    for n in 2000..2000 + 4 * PERSON_BYTES_MAX as u32 / 1900 {
        inbox.leave(&[leave(&key(n), &notice(&key(n), "reply", "/post", 1500), 1, false)], 3);
    }
    assert_eq!((of(&bob), of(&mallory)), (5, 1));
}

#[test]
fn strangers_fill_no_more_than_the_inbox() {
    strangers(4_000);
}

/// `cargo test --release -p timebus-store --test inbox -- --ignored`
#[test]
#[ignore = "a hundred thousand signatures take minutes without optimization"]
fn a_hundred_thousand_strangers_fill_no_more_than_the_inbox() {
    strangers(100_000);
}
