//! Several stores: whatever order changes come in, all show the same.

use std::collections::BTreeSet;

use timebus_store::grant::Revoke;
use timebus_store::ids::GrantId;
use timebus_store::json::Json;
use timebus_store::pipeline::Refusal;
use timebus_store::writer::{Action, Request};

use super::*;
use crate::dice::{Dice, setting};
use crate::home::{folder, open};

#[tokio::test(flavor = "multi_thread")]
async fn two_who_begin_a_text_at_once_share_it() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let space = share(&alice, &bob).await;
    write(&alice, put_text("/doc", "alice was here")).await;
    write(&bob, Request { space: Some(space), ..put_text("/doc", "bob was here") }).await;
    send(&bob, &alice.space(), &alice).await;
    send(&alice, &alice.space(), &bob).await;
    let merged = text(&alice, "/doc").expect("a text");
    assert!(merged.contains("alice was here") && merged.contains("bob was here"), "{merged}");
    assert_eq!(text_in(&bob, space, "/doc"), Some(merged.clone()));
    assert_eq!(alice.read(&alice.snapshot(), alice.own(), &path("/doc")).expect("read").tree.conflicts(), 0);
    // Both go on, and only then hear of each other.
    write(&alice, edit_text("/doc", &[edit(0, 0, ">")])).await;
    write(&bob, Request { space: Some(space), ..edit_text("/doc", &[edit(merged.chars().count() as u64, 0, "<")]) }).await;
    send(&bob, &alice.space(), &alice).await;
    send(&alice, &alice.space(), &bob).await;
    assert_eq!(text(&alice, "/doc"), Some(format!(">{merged}<")));
    assert_eq!(text_in(&bob, space, "/doc"), Some(format!(">{merged}<")));
}

/// Does something at random to a few texts and counters, as one of several writers.
async fn act(store: &Store, space: Space, dice: &mut Dice, versions: &mut Vec<Vec<String>>, session: &str) {
    let at = ["/a", "/a", "/b", "/c/d"][dice.below(4)];
    let now = text_in(store, space, at);
    let chars = now.as_ref().map_or(0, |text| text.chars().count());
    let word = ["x", "yz", "\u{1f98a}", "hello "][dice.below(4)].to_owned();
    let action = match dice.below(12) {
        0 => Action::Delete,
        1 => Action::Inc(dice.below(5) as i64 - 2),
        2 => Action::Put(Json::String(format!("{}{word}", now.clone().unwrap_or_default()))),
        3 => Action::PutText { mime: Mime::plain_text(), text: format!("{word}{}", now.clone().unwrap_or_default()) },
        4 => Action::Undo { version: None },
        _ => {
            let pos = dice.below(chars + 1) as u64;
            let del = dice.below(3).min(chars - pos as usize) as u64;
            Action::EditText(TextEdits::Sequence(vec![edit(pos, del, &word)]))
        }
    };
    let at = if matches!(action, Action::Inc(_)) { "/n" } else { at };
    // Now and then on top of something older, as a page that was asleep.
    let parents = if dice.percent(25) { dice.pick(versions).cloned() } else { None };
    let label = (dice.percent(30) && now.is_some() && matches!(action, Action::EditText(_))).then(|| {
        let next = store.text(&store.snapshot(), space, &path(at)).expect("read").map_or(0, |text| text.next_seq(session));
        format!("{session}-{}", next + 9)
    });
    let asked = Request { space: Some(space), parents, label, ..request(at, action) };
    // Some of it makes no sense where it is asked, and is refused.
    if let Ok(written) = store.write(asked).await {
        versions.push(written.version);
    }
}

/// Everything that is shown.
fn dump(store: &Store, space: Space) -> String {
    let rows = store.snapshot();
    let reading = store.read(&rows, space, &path("/")).expect("read");
    let mut out = Vec::new();
    reading.tree.write_json(timebus_store::tree::Show { space: &space.key, all: true }, &mut out);
    let mut out = String::from_utf8(out).expect("text");
    for at in ["/a", "/b", "/c/d", "/n", "/"] {
        let version = store.version(&rows, space, &path(at)).expect("read");
        out.push_str(&format!("\n{at} {version:?}"));
        if let Some(text) = store.text(&rows, space, &path(at)).expect("read") {
            assert_eq!(Some(text.text()), text_in(store, space, at), "rows and ops say the same");
            let names: Vec<String> = text
                .version()
                .iter()
                .filter_map(|(change, event)| text.event_name(change, *event))
                .map(|name| format!("{}-{}", name.agent, name.seq))
                .collect();
            out.push_str(&format!(" {names:?}"));
        }
    }
    out
}

/// Offers changes in an order, again and again, until all of them are in.
async fn deliver(store: &Store, changes: &[Verified<Change>], dice: &mut Dice) {
    let mut waiting: Vec<Verified<Change>> = changes.to_vec();
    dice.shuffle(&mut waiting);
    while !waiting.is_empty() {
        let batch = 1 + dice.below(8);
        let offered: Vec<Verified<Change>> = waiting.drain(..batch.min(waiting.len())).collect();
        let answer = store.offer(offered.clone()).await.expect("the disk works");
        let refused: BTreeSet<_> = answer
            .refused
            .into_iter()
            .map(|refusal| match refusal {
                Refusal::Pending { change, .. } | Refusal::Rights { change, .. } | Refusal::Timeline { change, .. } => change,
                other => panic!("an admissible change was refused: {other:?}"),
            })
            .collect();
        waiting.extend(offered.into_iter().filter(|change| refused.contains(&change.id())));
    }
}

async fn check_world(seed: u64) {
    let mut dice = Dice::new(seed);
    let homes = [folder(), folder(), folder()];
    let stores: Vec<Store> = homes.iter().map(|home| open(home.path())).collect();
    let owner = &stores[0];
    let mut spaces = vec![owner.own()];
    for other in &stores[1..] {
        spaces.push(share(owner, other).await);
    }
    let mut versions = Vec::new();
    let mut revoked = false;
    for step in 0..40 {
        let who = dice.below(3);
        act(&stores[who], spaces[who], &mut dice, &mut versions, ["ann", "ben", "cid"][who]).await;
        if dice.percent(25) {
            let (from, to) = (dice.below(3), dice.below(3));
            if from != to {
                let _ = stores[to].offer(changes(&stores[from], &owner.space())).await;
            }
        }
        if step == 30 && dice.percent(50) && !revoked {
            // Somebody's right is taken back while the others may not have seen all that he wrote.
            let gone: Option<GrantId> = owner.rights(&owner.space()).expect("held").writer_grant(&stores[2].device(), &path("/a"));
            if let Some(grant) = gone {
                owner.state(Statement::Ops(vec![Op::Revoke(Revoke { grant, cascade: false, keep: vec![] })]), 1).await.expect("revoked");
                revoked = true;
            }
        }
    }
    for _ in 0..2 {
        for from in 0..3 {
            for to in 0..3 {
                if from != to {
                    send(&stores[from], &owner.space(), &stores[to]).await;
                }
            }
        }
    }
    let expected = dump(owner, owner.own());
    for (store, space) in stores.iter().zip(&spaces).skip(1) {
        assert_eq!(dump(store, *space), expected, "world {seed}");
    }
    let all = changes(owner, &owner.space());
    for order in 0..2 {
        let home = folder();
        let mut fresh = open(home.path());
        deliver(&fresh, &all, &mut dice).await;
        assert_eq!(dump(&fresh, fresh.held(&owner.space()).expect("held")), expected, "world {seed}, order {order}");
        for index in ["as it was", "gone"] {
            fresh.close();
            if index == "gone" {
                std::fs::remove_dir_all(home.path().join("index")).expect("removed");
            }
            fresh = open(home.path());
            assert_eq!(dump(&fresh, fresh.held(&owner.space()).expect("held")), expected, "world {seed}, order {order}, index {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_stores_show_the_same_whatever_the_order() {
    let first = setting("TIMEBUS_SEED", 0);
    for seed in first..first + setting("TIMEBUS_WORLDS", 12) {
        check_world(seed).await;
    }
}

/// Somebody makes a text that is slow to merge: it is parked, what it held goes on to show, and nothing else waits.
#[test]
fn a_text_over_its_budget_is_parked_and_comes_back_while_others_go_on() {
    use timebus_store::engine::{Engine, MemoryHome, Step};
    use timebus_store::store::Config;
    let seed = |number: u8| timebus_identity::SecretKey::from_seed([number; 32]);
    let mut home = MemoryHome::new(crate::home::root(), &seed(2), seed(9));
    let config = Config { text_steps_max: 400, ..crate::home::config() };
    let mut engine = Engine::open(&mut home, &config, 1).expect("opens");
    let store = engine.store().clone();
    let content = |store: &Store| match store
        .read(&store.snapshot(), store.own(), &path("/slow"))
        .expect("read")
        .tree
        .writes
        .first()
        .map(|write| write.value.clone())
    {
        Some(Value::Text { content: Some(content), .. }) => content,
        other => panic!("{other:?}"),
    };
    engine.finish(store.write(named("zero-9", &[], put_text("/slow", "0123456789")))).expect("answered").expect("written");
    // Many branches of one version, each of many edits at scattered places: there is no cut.
    let mut was_parked = false;
    for branch in 0..16u32 {
        let mut parent = "zero-9".to_owned();
        for step in 0..12u64 {
            let label = format!("b{branch}-{step}");
            let asked = named(&label, &[&parent], edit_text("/slow", &[edit(step * 7 % 10, 0, "y")]));
            engine.finish(store.write(asked)).expect("answered").expect("written");
            parent = label;
            if content(&store).parked {
                was_parked = true;
                // Others are not held up, and nobody sees half a merge.
                let before = content(&store).text.clone();
                engine.finish(store.write(put_text("/beside", &format!("{branch} {step}")))).expect("answered").expect("written");
                assert_eq!(text(&store, "/beside"), Some(format!("{branch} {step}")));
                assert!(content(&store).text.len() >= before.len());
            }
        }
    }
    assert!(was_parked, "400 steps are too few for this");
    while engine.step() != Step::Idle {}
    let all = content(&store);
    assert_eq!((all.parked, all.text.len()), (false, 10 + 16 * 12), "all of it is there in the end");
    let object = store.text(&store.snapshot(), store.own(), &path("/slow")).expect("read").expect("a text");
    assert_eq!(object.text(), all.text);
    drop((engine, store));
    home.lose_tables();
    let mut engine = Engine::open(&mut home, &config, 1).expect("opens");
    engine.settle();
    let store = engine.store().clone();
    assert_eq!(content(&store).text, all.text, "the same from the log alone");
}

/// The parts of a large edit have their effect when the last of them is there; by then the text may have been written as a
/// whole with edits in it that came after the first part.
#[test]
fn a_run_that_was_long_on_its_way_is_all_in_the_text() {
    let mut peers = crate::peers::Peers::new(3);
    for _ in 0..timebus_store::objects::TAIL_OPS_MAX + 20 {
        peers.write(0, edit_text("/doc", &[edit(0, 0, "y")]));
    }
    peers.write(1, put_text("/doc", &"long ".repeat(300_000)));
    let run = peers.0[1].made.clone();
    assert!(run.len() > 1, "it is several changes");
    let others = peers.0[0].made.clone();
    for changes in [&run[..1], &others, &run[1..]] {
        crate::peers::deliver_as_they_are(&mut peers.0[2], changes.to_vec());
    }
    peers.meet();
    let all = peers.text(0, "/doc").expect("a text");
    assert_eq!(all.len(), 5 * 300_000 + timebus_store::objects::TAIL_OPS_MAX + 20);
    for me in [1, 2] {
        assert!(peers.text(me, "/doc").as_ref() == Some(&all), "as {me} sees it");
    }
    let space = peers.0[2].space;
    let store = peers.0[2].engine.store().clone();
    let object = store.text(&store.snapshot(), space, &path("/doc")).expect("read").expect("a text");
    assert!(object.text() == all, "with all of its ops");
}
