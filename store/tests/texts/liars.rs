//! Authors who write two chains at once, under the same names: whoever has both shows the same.

use super::*;
use crate::dice::{Dice, setting};
use crate::peers::{Peers, deliver, deliver_as_they_are, twin};

/// What a peer shows, also of what does not count.
fn shown(peers: &Peers, me: usize) -> (Option<String>, Vec<String>, Vec<String>) {
    let peer = &peers.0[me];
    let store = peer.engine.store();
    let text = store.text(&store.snapshot(), peer.space, &path("/doc")).expect("read").expect("a text");
    assert_eq!(Some(text.text()), peers.text(me, "/doc"), "rows and ops say the same");
    let mut names: Vec<String> = text
        .version()
        .iter()
        .filter_map(|(change, event)| text.event_name(change, *event))
        .map(|name| format!("{}-{}", name.agent, name.seq))
        .collect();
    names.sort();
    (peers.text(me, "/doc"), store.version(&store.snapshot(), peer.space, &path("/doc")).expect("read"), names)
}

/// A liar's two copies each type to another honest peer, who goes on from there, before either hears of the other.
fn lie(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut peers = Peers::new(3);
    let (alice, bob, liar) = (0, 1, 2);
    peers.write(alice, named("alice-4", &[], put_text("/doc", "begin")));
    peers.hear(liar);
    peers.write(liar, named("liar-0", &["alice-4"], edit_text("/doc", &[edit(5, 0, "!")])));
    let twin = twin(&peers.0[liar]);
    let other = peers.add(twin);
    for who in [alice, bob, other] {
        peers.hear(who);
    }
    let mut names = [String::from("liar-0"), String::from("liar-0")];
    for round in 0..1 + dice.below(4) {
        for (side, me) in [liar, other].into_iter().enumerate() {
            // The same names, or some of them; not the same edits.
            let word = ["x", "yy", "z\u{1f98a}z"][dice.below(3)];
            let ins = format!("{word}{side}");
            let chars = peers.text(me, "/doc").expect("a text").chars().count();
            let label = format!("liar-{}", 10 * (round + 1) + dice.below(3));
            let edits = [edit(dice.below(chars + 1) as u64, 0, &ins)];
            peers.write(me, named(&label, &[&names[side]], edit_text("/doc", &edits)));
            names[side] = label;
        }
    }
    // Each honest one believes the copy that he knows, and builds on it.
    for (honest, side) in [(alice, liar), (bob, other)] {
        let said = peers.0[side].made.clone();
        deliver(&mut peers.0[honest], said);
        let text = peers.text(honest, "/doc").expect("a text");
        assert!(text.contains(if side == liar { '0' } else { '1' }), "{text}");
        peers.write(honest, edit_text("/doc", &[edit(0, 0, if honest == alice { "A" } else { "B" })]));
    }
    peers.meet();
    let expected = shown(&peers, alice);
    let text = expected.0.clone().expect("a text");
    assert!(["A", "B", "0", "1"].iter().all(|word| text.contains(word)), "seed {seed}: what the honest saw is kept: {text}");
    for me in [bob, liar, other] {
        assert_eq!(shown(&peers, me), expected, "seed {seed}, as peer {me} sees it");
    }
    // Whoever comes later gets it in any order, and sees the same, also from the log alone.
    for late in 0..3 {
        let home = timebus_store::engine::MemoryHome::new(
            timebus_identity::SecretKey::from_seed([60 + late; 32]),
            &timebus_identity::SecretKey::from_seed([61; 32]),
            timebus_identity::SecretKey::from_seed([70 + late; 32]),
        );
        let me = peers.add(home);
        let mut all: Vec<_> = peers.0.iter().flat_map(|peer| peer.made.clone()).collect();
        dice.shuffle(&mut all);
        deliver_as_they_are(&mut peers.0[me], all);
        assert_eq!(shown(&peers, me), expected, "seed {seed}, as somebody late sees it");
    }
}

#[test]
fn everybody_shows_the_same_of_an_author_who_signs_two_chains() {
    let first = setting("TIMEBUS_SEED", 0);
    for seed in first..first + setting("TIMEBUS_WORLDS", 12) {
        lie(seed);
    }
}
