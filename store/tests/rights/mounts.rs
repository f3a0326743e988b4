//! Timelines that are mounted at paths, one story each.

use timebus_identity::PublicKey;
use timebus_store::auth::Rights;
use timebus_store::grant::{Actions, Grant, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::op::{Op, PathStep};
use timebus_store::path::Path;

use crate::dice::Dice;
use crate::script::{Script, given, revoke};
use crate::world::{all, key};

const ROOT: usize = 100;

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn mount(at: &str) -> Op {
    let steps = at.split('/').filter(|name| !name.is_empty()).map(|name| PathStep::Name(name.into())).collect();
    Op::Mount { path: steps, mode: 0, params: Box::default() }
}

fn script() -> (Script, PublicKey) {
    (Script::new(key(ROOT)), key(ROOT))
}

/// The timeline that the first op of a change mounts.
fn made(change: ChangeId) -> TimelineId {
    TimelineId::mounted(&key(ROOT), &timebus_store::ids::OpId { change, index: 0 })
}

fn shown(rights: &Rights, at: &str) -> Option<TimelineId> {
    rights.mount_of(&path(at)).map(|mount| mount.timeline)
}

#[test]
fn a_path_is_in_the_timeline_that_is_mounted_nearest_above_it() {
    let (mut script, root) = script();
    let outer = script.say(root, None, &[], vec![mount("/diary")]);
    let inner = script.say(root, None, &[outer], vec![mount("/diary/2026/secret")]);
    script.in_any_order(|rights| {
        for (at, timeline) in [
            ("/", None),
            ("/diaries", None),
            ("/diary", Some(made(outer))),
            ("/diary/2026", Some(made(outer))),
            ("/diary/2026/secret", Some(made(inner))),
            ("/diary/2026/secret/deep/down", Some(made(inner))),
            ("/diary/2026/secrets", Some(made(outer))),
        ] {
            assert_eq!(shown(rights, at), timeline, "{at}");
        }
        let below: Vec<String> = rights.mounts_below(&path("/diary")).map(|mount| mount.path.to_string()).collect();
        assert_eq!(below, ["/diary/2026/secret"]);
        assert_eq!(rights.timelines_at(&path("/diary/x")), Timelines::Only(vec![made(outer)]));
        assert_eq!(rights.timelines_at(&path("/x")), Timelines::Main);
    });
}

#[test]
fn of_two_at_one_path_all_see_the_same_and_the_other_one_comes_back() {
    let (mut script, root) = script();
    let first = script.say(root, None, &[], vec![mount("/diary")]);
    let second = script.say(root, None, &[], vec![mount("/diary")]);
    script.in_any_order(|rights| {
        assert_eq!(shown(rights, "/diary"), Some(made(first.max(second))));
        assert_eq!(rights.mounts().count(), 2, "both exist, and what was written in either stays");
    });
    script.say(root, None, &[first, second], vec![revoke(given(first.max(second)))]);
    script.in_any_order(|rights| assert_eq!(shown(rights, "/diary"), Some(made(first.min(second)))));
}

#[test]
fn only_who_may_do_everything_there_mounts_and_takes_back() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let table = Scope { segments: vec![ScopeSegment::Name("table".into())], deep: true };
    let (second, bob) = script.grant(root, None, &[first], Grant { scope: table, ..all(key(2)) });
    let (third, carol) = script.grant(root, None, &[second], Grant { timelines: Timelines::Main, ..all(key(3)) });
    let (fourth, dave) = script.grant(root, None, &[third], Grant { actions: Actions(Actions::ALL.0 & !Actions::GRANT.0), ..all(key(4)) });
    let on = [fourth];
    let at_table = script.say(key(2), Some(bob), &on, vec![mount("/table/private")]);
    // Outside of one's scope, in a timeline that is not one's own, without the right to grant, and where the system is.
    script.say(key(2), Some(bob), &on, vec![mount("/chair")]);
    script.say(key(3), Some(carol), &on, vec![mount("/carol")]);
    script.say(key(4), Some(dave), &on, vec![mount("/dave")]);
    script.say(key(1), Some(alice), &on, vec![mount("/.sys/x"), mount("/")]);
    let modes = [1, 2, 9].map(|mode| Op::Mount { path: vec![PathStep::Name("mode".into())], mode, params: Box::default() });
    script.say(key(1), Some(alice), &on, modes.to_vec());
    let diary = script.say(key(1), Some(alice), &on, vec![mount("/diary")]);
    // Who may not mount there takes nothing back there either.
    script.say(key(2), Some(bob), &[diary, at_table], vec![revoke(given(diary))]);
    script.say(key(3), Some(carol), &[diary, at_table], vec![revoke(given(diary)), revoke(given(at_table))]);
    script.in_any_order(|rights| {
        let all: Vec<String> = rights.shown().map(|mount| mount.path.to_string()).collect();
        assert_eq!(all, ["/diary", "/table/private"]);
    });
    script.say(key(1), Some(alice), &[diary, at_table], vec![revoke(given(at_table))]);
    script.in_any_order(|rights| assert_eq!((shown(rights, "/table/private"), shown(rights, "/diary")), (None, Some(made(diary)))));
}

#[test]
fn what_a_removed_admin_mounted_stays_if_it_had_been_seen() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let seen = script.say(key(1), Some(alice), &[first], vec![mount("/seen")]);
    script.say(root, None, &[seen], vec![revoke(alice)]);
    script.say(key(1), Some(alice), &[first], vec![mount("/late")]);
    script.in_any_order(|rights| {
        assert_eq!(shown(rights, "/seen"), Some(made(seen)));
        assert_eq!(shown(rights, "/late"), None);
        assert_eq!(rights.mounts().count(), 2, "that it exists is not undone");
    });
}

/// Resolution against its definition: of all mounts in force the one with the longest path that is above, and of those
/// at one path the greatest stamp.
#[test]
fn any_mounts_in_any_order_resolve_as_defined() {
    let names = ["/a", "/a/b", "/a/b/c", "/a/c", "/b", "/b/a", "/ab"];
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let (mut script, root) = script();
        let mut alive: Vec<(String, ChangeId)> = Vec::new();
        for _ in 0..=dice.below(12) {
            let on = script.heads();
            if dice.below(4) == 0 && !alive.is_empty() {
                let (_, gone) = alive.swap_remove(dice.below(alive.len()));
                script.say(root, None, &on, vec![revoke(given(gone))]);
            } else {
                let at = names[dice.below(names.len())];
                alive.push((at.to_owned(), script.say(root, None, &on, vec![mount(at)])));
            }
        }
        script.in_any_order(|rights| {
            for at in names.iter().chain(&["/", "/a/b/c/d", "/c", "/ab/c"]) {
                let above = alive.iter().filter(|(mounted, _)| path(mounted).contains(&path(at)));
                let nearest = above.max_by_key(|(mounted, change)| (mounted.len(), *change)).map(|(_, change)| made(*change));
                assert_eq!(shown(rights, at), nearest, "{at} in world {seed}");
            }
        });
    }
}
