//! What members and admins try, one story each.

use timebus_identity::PublicKey;
use timebus_store::auth::{CapError, Hidden, Lack};
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, GrantId, TimelineId};
use timebus_store::op::Op;
use timebus_store::path::Path;

use crate::script::{Script, given, revoke};
use crate::world::{all, key};

const ROOT: usize = 100;

fn below(name: &str) -> Scope {
    Scope { segments: vec![ScopeSegment::Name(name.into())], deep: true }
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn script() -> (Script, PublicKey) {
    (Script::new(key(ROOT)), key(ROOT))
}

#[test]
fn two_admins_cannot_throw_each_other_out() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let (second, bob) = script.grant(root, None, &[first], all(key(2)));
    let on = [first, second];
    script.say(key(1), Some(alice), &on, vec![revoke(bob)]);
    script.say(key(2), Some(bob), &on, vec![revoke(alice)]);
    // Nor by one who stands lower, nor each himself.
    let (third, carol) = script.grant(key(1), Some(alice), &on, Grant { depth: 3, ..all(key(3)) });
    script.say(key(3), Some(carol), &[third], vec![revoke(alice), revoke(bob), revoke(carol)]);
    script.in_any_order(|rights| {
        assert!(rights.is_live(&alice) && rights.is_live(&bob) && rights.is_live(&carol));
        assert!(rights.revocations().iter().all(|one| !one.is_effective()));
    });
}

#[test]
fn what_a_removed_admin_dates_back_has_no_effect() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let (seen, bob) = script.grant(key(1), Some(alice), &[first], Grant { depth: 3, ..all(key(2)) });
    let (_, carol) = script.grant(key(1), Some(alice), &[first], Grant { depth: 3, ..all(key(3)) });
    let early = script.say(key(1), Some(alice), &[seen], vec![revoke(carol)]);
    script.say(root, None, &[seen, early], vec![revoke(alice)]);
    // Now Alice knows, and goes on as if it were yesterday.
    let (_, backdated) = script.grant(key(1), Some(alice), &[first], Grant { depth: 3, ..all(key(4)) });
    script.say(key(1), Some(alice), &[first, seen], vec![revoke(bob)]);
    script.in_any_order(|rights| {
        assert!(!rights.is_live(&alice));
        assert!(rights.is_live(&bob), "what she did before stays, and what she revokes later does not count");
        assert!(!rights.is_live(&carol), "her revocation had been seen");
        assert!(!rights.is_live(&backdated));
        assert!(matches!(rights.hidden_by(&backdated)[..], [Hidden::Revoked { author, named, .. }] if author == root && named == alice));
    });
}

#[test]
fn a_cascade_takes_all_that_was_handed_on() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let (seen, bob) = script.grant(key(1), Some(alice), &[first], Grant { depth: 3, ..all(key(2)) });
    let (last, carol) = script.grant(key(2), Some(bob), &[seen], Grant { depth: 2, ..all(key(3)) });
    script.say(root, None, &[last], vec![Op::Revoke(Revoke { grant: alice, cascade: true, keep: vec![] })]);
    script.in_any_order(|rights| assert!([alice, bob, carol].iter().all(|id| !rights.is_live(id))));
}

#[test]
fn a_moderator_removes_plain_members_of_his_scope_only() {
    let (mut script, root) = script();
    let plain = |who: usize, scope: Scope| Grant { scope, actions: Actions(1 | 2 | 4), depth: 0, ..all(key(who)) };
    let (first, moderator) = script.grant(root, None, &[], Grant { scope: below("a"), actions: Actions::MODERATE, ..all(key(1)) });
    let (_, inside) = script.grant(root, None, &[], plain(2, below("a")));
    let (_, outside) = script.grant(root, None, &[], plain(3, below("b")));
    let (_, wider) = script.grant(root, None, &[], plain(4, Scope::everything()));
    let (_, admin) = script.grant(root, None, &[], Grant { actions: Actions(4 | 8), scope: below("a"), ..all(key(5)) });
    let on = script.heads();
    script.say(key(1), Some(moderator), &on, vec![revoke(inside), revoke(outside), revoke(wider), revoke(admin)]);
    let void = script.say(key(1), Some(moderator), &[first], vec![Op::Grant(plain(6, below("a")))]);
    script.in_any_order(|rights| {
        assert!(!rights.is_live(&inside));
        assert!(rights.is_live(&outside) && rights.is_live(&wider) && rights.is_live(&admin));
        assert!(rights.grant(&given(void)).is_none(), "who may moderate may not grant");
    });
}

#[test]
fn what_a_moderator_keeps_is_kept_in_his_scope_only() {
    let (mut script, root) = script();
    let kept = ChangeId([9; 32]);
    let timelines = || Timelines::Main;
    let moderator = Grant { scope: below("a"), timelines: timelines(), actions: Actions::MODERATE, ..all(key(1)) };
    let (first, moderator) = script.grant(root, None, &[], moderator);
    let (_, plain) = script.grant(root, None, &[], Grant { scope: below("a"), timelines: timelines(), actions: Actions::WRITE, ..all(key(2)) });
    let (_, other) = script.grant(root, None, &[], Grant { scope: below("b"), actions: Actions::WRITE, ..all(key(3)) });
    let keep = |grant| Op::Revoke(Revoke { grant, cascade: false, keep: vec![kept] });
    script.say(key(1), Some(moderator), &[first], vec![keep(plain), keep(other)]);
    script.in_any_order(|rights| {
        let keepers: Vec<_> = rights.keepers().collect();
        assert_eq!(keepers.len(), 1, "a revocation without authority keeps nothing");
        assert_eq!((keepers[0].keep, &keepers[0].scopes[..], keepers[0].timelines), (&[kept][..], &[below("a")][..], &Timelines::Main));
    });
}

/// Found while comparing scopes as they are written: whoever had his own folder with the right to hand it on could
/// have given away everybody's.
#[test]
fn ones_own_folder_is_not_everybodys() {
    let (mut script, root) = script();
    let own = Scope { segments: vec![ScopeSegment::Name("home".into()), ScopeSegment::Author], deep: true };
    let (first, alice) = script.grant(root, None, &[], Grant { scope: own.clone(), ..all(key(1)) });
    let (stolen, _) = script.grant(key(1), Some(alice), &[first], Grant { scope: own.clone(), depth: 2, ..all(key(2)) });
    let (shared, _) = script.grant(key(1), Some(alice), &[first], Grant { scope: own.of_author(&key(1)), depth: 2, ..all(key(2)) });
    let (_, other) = script.grant(root, None, &[], Grant { scope: own, actions: Actions::WRITE, ..all(key(3)) });
    script.say(key(1), Some(alice), &[first], vec![revoke(other)]);
    script.in_any_order(|rights| {
        assert!(rights.grant(&given(stolen)).is_none());
        assert!(rights.is_live(&given(shared)));
        assert!(rights.is_live(&other), "her scope is her own folder, not that of others");
    });
}

#[test]
fn reading_ends_with_the_grant_and_writing_is_admitted_for_ever() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], Grant { not_after_ms: 100, ..all(key(1)) });
    let main = TimelineId::named(&root, "main");
    assert_eq!(script.rights.may(&key(1), Actions::READ, &main, 100).grants.len(), 1);
    assert!(script.rights.may(&key(1), Actions::READ, &main, 101).is_empty());
    assert!(script.rights.may(&key(2), Actions::READ, &main, 0).is_empty());
    assert!(script.rights.may(&root, Actions::ALL, &main, 101).root);
    assert_eq!(script.rights.writer_grant(&key(1), &path("/a")), Some(alice));
    assert!(script.rights.rooted(&key(1), Some(&alice)) && script.rights.rooted(&root, None));
    script.say(root, None, &[first], vec![revoke(alice)]);
    assert!(script.rights.may(&key(1), Actions::READ, &main, 100).is_empty());
    assert_eq!(script.rights.writer_grant(&key(1), &path("/a")), None);
    assert!(!script.rights.rooted(&key(1), Some(&alice)));
    script.try_say(key(1), Some(alice), &[], vec![]).expect("admission does not ask whether a grant is live");
    assert!(matches!(script.try_say(key(2), Some(alice), &[], vec![]), Err(CapError::Audience(_))));
}

#[test]
fn the_best_grant_is_taken() {
    let (mut script, root) = script();
    let plain = |to: usize, scope: Scope, bytes_max| Grant { scope, bytes_max, actions: Actions(1 | 2 | 4), depth: 2, ..all(key(to)) };
    let (chief, admin) = script.grant(root, None, &[], all(key(2)));
    let (let_in, guest) = script.grant(root, None, &[], Grant { actions: Actions(1 | 2 | 4 | 8), ..all(key(3)) });
    // Of the owner himself, of his device, and of a guest who may bring guests.
    let (_, narrow) = script.grant(root, None, &[], plain(1, below("a"), 0));
    let (_, limited) = script.grant(root, None, &[], plain(1, Scope::everything(), 1000));
    let (_, wide) = script.grant(key(2), Some(admin), &[chief], plain(1, Scope::everything(), 0));
    let (_, bobs) = script.grant(key(3), Some(guest), &[let_in], plain(1, Scope::everything(), 0));
    let (_, only_bobs) = script.grant(key(3), Some(guest), &[let_in], plain(4, Scope::everything(), 0));
    script.in_any_order(|rights| {
        assert_eq!(rights.guest_grants(&key(1), &path("/a/b")), [narrow, limited, wide, bobs], "what has no limit before what has one");
        assert_eq!(rights.guest_grants(&key(1), &path("/")), [limited, wide, bobs], "what a guest gives comes last");
        assert_eq!(rights.guest_grants(&key(4), &path("/")), [only_bobs]);
        assert_eq!(rights.writer_grant(&key(1), &path("/a/b")), Some(narrow));
        let main = TimelineId::named(&rights.root(), "main");
        let may: Vec<GrantId> = rights.may(&key(1), Actions::WRITE, &main, 0).grants.iter().map(|(id, _)| *id).collect();
        assert_eq!(may, [narrow, limited, wide, bobs]);
        assert_eq!(rights.grant_covering(Some(&key(1)), Actions::WRITE, &main, &path("/a"), 0), Some(narrow));
    });
}

/// A guest may bring whom he names, and open nothing to everybody.
#[test]
fn a_guest_opens_nothing_to_everybody_and_why_says_so() {
    let (mut script, root) = script();
    let main = TimelineId::named(&root, "main");
    let (let_in, guest) = script.grant(root, None, &[], Grant { actions: Actions(2 | 8), ..all(key(3)) });
    let open = Grant { audience: Audience::Anyone, actions: Actions::READ, depth: 0, ..all(key(2)) };
    script.grant(key(3), Some(guest), &[let_in], open);
    assert!(script.rights.may(&key(9), Actions::READ, &main, 0).is_empty());
    let no = script.rights.explain(&key(9), Actions::READ, (&main, 0), &path("/"), 0);
    assert_eq!((no.allowed, &no.ways[0].lacks[..]), (false, &[Lack::ForEverybody][..]));
}

#[test]
fn why_knows_what_is_used_up_and_what_can_be_handed_on_no_further() {
    let (mut script, root) = script();
    let main = TimelineId::named(&root, "main");
    script.grant(root, None, &[], Grant { bytes_max: 2000, depth: 0, ..all(key(1)) });
    let lacks = |actions, written| script.rights.explain(&key(1), actions, (&main, written), &path("/"), 0).ways[0].lacks.clone();
    assert_eq!(lacks(Actions::WRITE, 1400), []);
    assert_eq!(lacks(Actions::WRITE, 1500), [Lack::UsedUp { max: 2000, written: 1500 }], "there is no room for the smallest change");
    assert_eq!(lacks(Actions::READ, 1500), []);
    assert_eq!(lacks(Actions::GRANT, 0), [Lack::Depth]);
}

#[test]
fn why_names_the_chain_and_what_is_missing() {
    let (mut script, root) = script();
    let main = TimelineId::named(&root, "main");
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let (second, bob) = script.grant(key(1), Some(alice), &[first], Grant { scope: below("a"), actions: Actions(2 | 4), depth: 0, ..all(key(2)) });
    let anyone = Grant { audience: Audience::Anyone, actions: Actions::READ, scope: below("b"), depth: 0, ..all(key(2)) };
    let (_, public) = script.grant(root, None, &[], anyone);
    let yes = script.rights.explain(&key(2), Actions::WRITE, (&main, 0), &path("/a/b"), 0);
    assert!(yes.allowed && !yes.root);
    assert_eq!((&yes.ways[0].links, &yes.ways[0].lacks), (&vec![alice, bob], &vec![]));
    let no = script.rights.explain(&key(2), Actions::WRITE, (&main, 0), &path("/b"), 0);
    assert!(!no.allowed);
    assert!(no.ways.iter().any(|way| way.links == [alice, bob] && way.lacks == [Lack::Path(below("a"))]));
    assert!(no.ways.iter().any(|way| way.links == [public] && way.lacks == [Lack::Actions(Actions::WRITE)]));
    script.say(root, None, &[second], vec![Op::Revoke(Revoke { grant: alice, cascade: true, keep: vec![] })]);
    let gone = script.rights.explain(&key(2), Actions::WRITE, (&main, 0), &path("/a"), 0);
    let way = gone.ways.iter().find(|way| way.links == [alice, bob]).expect("it is told of");
    assert!(matches!(way.lacks[..], [Lack::Hidden(Hidden::Revoked { named, .. })] if named == alice));
    assert!(script.rights.explain(&key(9), Actions::READ, (&main, 0), &path("/b/c"), 0).allowed, "by the grant for anyone");
    assert!(script.rights.explain(&root, Actions::ALL, (&main, 0), &path("/"), 0).root);
}

#[test]
fn statements_say_what_they_changed_for_others() {
    let (mut script, root) = script();
    let (first, alice) = script.grant(root, None, &[], all(key(1)));
    let (second, bob) = script.grant(key(1), Some(alice), &[first], Grant { depth: 3, ..all(key(2)) });
    let (third, carol) = script.grant(key(2), Some(bob), &[second], Grant { depth: 2, ..all(key(3)) });
    let before = script.rights.clone();
    // Bob revokes Carol; the root removes Bob without having seen that, so Carol is back.
    script.say(key(2), Some(bob), &[third], vec![revoke(carol)]);
    assert!(!script.rights.is_live(&carol));
    let id = ChangeId([77; 32]);
    let header = timebus_store::change::Header {
        author: root,
        cap: None,
        ..{
            let statement = crate::oracle::Statement { id, author: root, cap: None, deps: vec![], ops: vec![] };
            crate::world::header(&root, &statement, vec![third])
        }
    };
    let body = timebus_store::change::Body { ops: vec![revoke(bob)], ..Default::default() };
    let changed = script.rights.learn(id, &header, &body);
    assert_eq!((changed.live, changed.dead, changed.kept, changed.root), (vec![carol], vec![bob], false, false));
    assert!(before.is_live(&carol));
}
