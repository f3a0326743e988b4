//! Rights that follow a person from a lost device to another one of his, and attempts to have them follow somebody else.

use tempfile::TempDir;
use timebus_identity::{Keys, SecretKey};
use timebus_store::grant::{Actions, Timelines};
use timebus_store::json::{Json, Limits};
use timebus_store::path::Path;
use timebus_store::store::{Config, device_grant, lock_home};
use timebus_store::succession::by_root;
use timebus_store::writer::{Action, Condition, Request};

use super::*;
use crate::community::{self, Rules};
use crate::lists::List;
use crate::whose::tests::{tell, write};

/// A home of somebody.
struct Home {
    folder: TempDir,
    store: Store,
}

impl std::ops::Deref for Home {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

fn open(folder: TempDir) -> Home {
    let lock = lock_home(folder.path()).expect("a free home");
    let store = Store::open(folder.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a store");
    Home { folder, store }
}

/// One for a home, closed to others.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(lock_home(folder.path()).expect("a free home"));
    folder
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// The first home of somebody, whose root key and the next one are these.
fn person(root: u8, next: u8) -> Home {
    let folder = folder();
    Keys::create_from(&folder.path().join("keys"), &secret(root), &secret(next)).expect("new keys");
    open(folder)
}

/// A further home of a person: a device that another one of his names, and that wrote something.
async fn device(of: &Home) -> Home {
    let folder = folder();
    Keys::create_for(&folder.path().join("keys"), &of.space()).expect("new keys");
    let home = open(folder);
    join(of, &home).await;
    home
}

/// Lets a home in as a device, and has it write something.
async fn join(of: &Home, home: &Home) {
    let Op::Grant(grant) = device_grant(&home.device()) else { panic!("a grant") };
    of.state(Statement::Ops(vec![Op::Grant(Grant { depth: 6, ..grant })]), 1).await.expect("granted");
    tell(of, &of.space(), home).await;
    write(home, &of.space(), "/second").await.expect("a device");
    tell(home, &of.space(), of).await;
}

fn wall(to: PublicKey, depth: u8) -> Grant {
    let path = Path::parse("/wall").expect("a path");
    Grant {
        audience: Audience::Key(to),
        scope: timebus_store::auth::mounts::scope_of(&path).expect("names"),
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0 | if depth > 0 { Actions::GRANT.0 } else { 0 }),
        bytes_max: 50_000,
        change_bytes_max: 0,
        not_after_ms: 9_000_000_000_000,
        depth,
        label: "for the party".into(),
    }
}

async fn give(by: &Home, grant: Grant) -> GrantId {
    by.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await.expect("granted")[0]
}

/// What a root key says in a space, at a time: who is a device, and who is none.
async fn root_says(home: &Home, root: &SecretKey, devices: &[PublicKey], none: &[PublicKey], time_ms: u64) {
    let rights = home.rights(&home.space()).expect("the own space");
    let ops = devices.iter().map(device_grant).collect();
    let revoked = rights.grants().filter(|(_, held)| held.is_live() && key_of(held).is_some_and(|key| none.contains(&key)));
    home.say_as_root(root, ops, revoked.map(|(id, _)| *id).collect(), time_ms).await.expect("said");
}

/// Everything that is done when something was stated.
async fn settle(store: &Store) {
    let gone = gone(store);
    give_back(store).await;
    follow(store, &gone).await;
}

/// The keys that have a right in the space of somebody, but his own devices.
fn guests(store: &Store, space: &PublicKey) -> Vec<PublicKey> {
    let rights = store.rights(space).expect("held");
    let mut keys: Vec<PublicKey> =
        rights.grants().filter(|(_, held)| held.is_live() && !held.allows_everything()).filter_map(|(_, held)| key_of(held)).collect();
    keys.sort_unstable();
    keys
}

/// Those of the owner of a home.
fn own_guests(store: &Store) -> Vec<PublicKey> {
    guests(store, &store.space())
}

fn sorted(mut keys: Vec<PublicKey>) -> Vec<PublicKey> {
    keys.sort_unstable();
    keys
}

/// Alice, and Bob with a device that she let in, and whose space she has.
async fn friends(depth: u8) -> (Home, Home, GrantId) {
    let (alice, bob) = (person(1, 2), person(3, 4));
    write(&bob, &bob.space(), "/notes").await.expect("his own");
    let given = give(&alice, wall(bob.device(), depth)).await;
    tell(&bob, &bob.space(), &alice).await;
    (alice, bob, given)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_device_might_do_the_one_that_the_root_names_may_do() {
    let (alice, bob, given) = friends(0).await;
    let new = secret(9).public();
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()]);
    root_says(&bob, &secret(3), &[new], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [new]);
    let rights = alice.rights(&alice.space()).expect("the own space");
    let (_, held) = rights.grants_for(&new).next().expect("granted");
    assert_eq!(held.grant, Grant { label: held.grant.label.clone(), ..wall(new, 0) });
    assert_eq!(before(&rights, held).map(|(id, _)| id), Some(given));
    assert_eq!(&*origin(&rights, held).grant.label, "for the party");
    assert_eq!(super::super::first(&alice, &new), Some(bob.device()), "it is his who took the invite");
    // Once.
    let stated = alice.statements();
    settle(&alice).await;
    assert_eq!(alice.statements(), stated);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_that_the_root_names_it_is_the_latest() {
    let (alice, bob, _) = friends(0).await;
    let [first, latest, other] = [7, 8, 9].map(|n| secret(n).public());
    for (device, time_ms) in [(first, 2), (latest, 4), (other, 3)] {
        root_says(&bob, &secret(3), &[device], &[], time_ms).await;
    }
    root_says(&bob, &secret(3), &[], &[bob.device()], 5).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [latest]);
}

/// A thief has the device, and Bob another one that the lost one had named.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_handed_on_falls_but_what_devices_have_that_the_root_names() {
    let (alice, bob, given) = friends(2).await;
    let other = device(&bob).await;
    tell(&alice, &alice.space(), &bob).await;
    let there = bob.held(&alice.space()).expect("held");
    let [thief, guest] = [7, 8].map(|n| secret(n).public());
    for (key, label) in [(thief, super::super::label(&thief)), (other.device(), super::super::label(&other.device())), (guest, "guest".to_owned())] {
        let handed = Grant { label: label.into(), ..wall(key, 1) };
        bob.state_as(there, given, Statement::Ops(vec![Op::Grant(handed)]), 1).await.expect("handed on");
    }
    tell(&bob, &alice.space(), &alice).await;
    root_says(&bob, &secret(3), &[other.device()], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), sorted(vec![other.device(), other.device(), guest]), "from the lost one, and instead of it");
}

/// Eve says of the devices of others that they are hers, and then that they are not.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_others_have_by_taking_their_devices_out_of_his_own_space() {
    let (alice, bob, _) = friends(0).await;
    let (eve, carol) = (person(5, 6), person(7, 8));
    write(&eve, &eve.space(), "/notes").await.expect("her own");
    // The space of Carol is not here; she wrote as a guest, and her other device did not.
    let quiet = secret(9).public();
    for key in [carol.device(), quiet] {
        give(&alice, wall(key, 0)).await;
    }
    tell(&alice, &alice.space(), &carol).await;
    write(&carol, &alice.space(), "/wall/carol").await.expect("as a guest");
    tell(&carol, &alice.space(), &alice).await;
    let before = own_guests(&alice);
    let others = [bob.device(), carol.device(), quiet, alice.device()];
    root_says(&eve, &secret(5), &others, &[], 2).await;
    root_says(&eve, &secret(5), &[secret(10).public()], &others, 3).await;
    tell(&eve, &eve.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), before);
    // Nor when he has lost it: it goes where his own root says.
    let new = secret(11).public();
    root_says(&bob, &secret(3), &[new], &[bob.device()], 4).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), sorted(vec![new, carol.device(), quiet]));
}

/// Bob says of devices of others that they are his.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_over_to_a_device_of_somebody_else() {
    let (alice, bob, _) = friends(0).await;
    let carol = person(5, 6);
    write(&carol, &carol.space(), "/notes").await.expect("her own");
    tell(&carol, &carol.space(), &alice).await;
    root_says(&bob, &secret(3), &[alice.device(), carol.device()], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_moves_no_rights() {
    // A thief names a device of his own; the root takes out the stolen one.
    let (alice, bob, _) = friends(0).await;
    let thief = device(&bob).await;
    root_says(&bob, &secret(3), &[], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()], "{:?} is named by a device alone", thief.device());
    // He takes out the other one, which the root names.
    let (alice, bob, _) = friends(0).await;
    let phone = device(&bob).await;
    give(&alice, Grant { label: "phone".into(), ..wall(phone.device(), 0) }).await;
    root_says(&bob, &secret(3), &[secret(9).public()], &[], 2).await;
    let grant = bob.rights(&bob.space()).and_then(|rights| rights.device_grant(&phone.device())).expect("a device");
    bob.state(Statement::Revoke { grants: vec![grant], cascade: false, keep: true }, 3).await.expect("taken back");
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), sorted(vec![bob.device(), phone.device()]));
}

/// The words are in two hands, and both take over.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_while_it_is_in_dispute_who_the_root_is() {
    let (alice, bob, _) = friends(0).await;
    let other = device(&bob).await;
    root_says(&bob, &secret(3), &[secret(9).public()], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &other).await;
    let rights = bob.rights(&bob.space()).expect("the own space");
    for (home, after) in [(&bob, 11), (&other, 12)] {
        let succeed = by_root(&rights, &secret(3), &secret(4).public(), &secret(after).public(), None).expect("planned");
        home.say_as_root(&secret(4), vec![Op::Succeed(succeed)], Vec::new(), 3).await.expect("said");
    }
    // Alice hears of all this at once.
    for home in [&other, &bob] {
        tell(home, &bob.space(), &alice).await;
    }
    assert_eq!(alice.rights(&bob.space()).expect("held").disputed().count(), 2);
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_took_back_stays_taken_back() {
    let new = secret(9).public();
    // Before it could move.
    let (alice, bob, given) = friends(0).await;
    alice.state(Statement::Revoke { grants: vec![given], cascade: false, keep: true }, 2).await.expect("taken back");
    root_says(&bob, &secret(3), &[new], &[bob.device()], 3).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert!(own_guests(&alice).is_empty());
    // After it did, and although the root says the same again.
    let (alice, bob, _) = friends(0).await;
    root_says(&bob, &secret(3), &[new], &[bob.device()], 3).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    let moved: Vec<GrantId> = alice.rights(&alice.space()).expect("own").grants_for(&new).map(|(id, _)| id).collect();
    alice.state(Statement::Revoke { grants: moved, cascade: false, keep: true }, 4).await.expect("taken back");
    root_says(&bob, &secret(3), &[new], &[], 5).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert!(own_guests(&alice).is_empty());
    // Whom she blocked she lets do nothing.
    let (alice, bob, _) = friends(0).await;
    lists::set(&alice, List::Blocked, &bob.space(), true).await.expect("blocked");
    root_says(&bob, &secret(3), &[new], &[bob.device()], 3).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()]);
}

/// Both do it without hearing of each other, and on one of them it is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn devices_of_the_owner_agree() {
    for is_taken_back in [false, true] {
        let (alice, bob, _) = friends(0).await;
        let phone = device(&alice).await;
        let new = secret(9).public();
        root_says(&bob, &secret(3), &[new], &[bob.device()], 2).await;
        for home in [&alice, &phone] {
            tell(&bob, &bob.space(), home).await;
            settle(home).await;
            assert_eq!(own_guests(home), [new]);
        }
        if is_taken_back {
            let given: Vec<GrantId> = alice.rights(&alice.space()).expect("own").grants_for(&new).map(|(id, _)| id).collect();
            alice.state(Statement::Revoke { grants: given, cascade: false, keep: true }, 3).await.expect("taken back");
        }
        for _ in 0..2 {
            tell(&alice, &alice.space(), &phone).await;
            tell(&phone, &alice.space(), &alice).await;
            for home in [&alice, &phone] {
                settle(home).await;
            }
        }
        let all = if is_taken_back { vec![] } else { vec![new, new] };
        assert_eq!((own_guests(&alice), own_guests(&phone)), (all.clone(), all), "taken back: {is_taken_back}");
    }
}

/// What the other device gave, with the right to bring guests, this one moves, too, and once.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_moves_what_another_one_gave_with_the_right_to_bring_guests() {
    for is_taken_back in [false, true] {
        let (alice, bob, _) = friends(1).await;
        let phone = device(&alice).await;
        let new = secret(9).public();
        root_says(&bob, &secret(3), &[new], &[bob.device()], 2).await;
        tell(&bob, &bob.space(), &phone).await;
        settle(&phone).await;
        assert_eq!(own_guests(&phone), [new]);
        let mut left = vec![new];
        if is_taken_back {
            let given: Vec<GrantId> = phone.rights(&alice.space()).expect("own").grants_for(&new).map(|(id, _)| id).collect();
            phone.state(Statement::Revoke { grants: given, cascade: false, keep: true }, 3).await.expect("its own");
            left.clear();
        }
        settle(&phone).await;
        assert_eq!(own_guests(&phone), left, "once");
        tell(&phone, &alice.space(), &alice).await;
        tell(&bob, &bob.space(), &alice).await;
        settle(&alice).await;
        assert_eq!(own_guests(&alice), left);
    }
}

/// Alice brought Bob to Carol's.
#[tokio::test(flavor = "multi_thread")]
async fn who_brought_a_guest_moves_what_he_gave_him() {
    let (alice, bob, _) = friends(0).await;
    let carol = person(5, 6);
    let given = give(&carol, wall(alice.device(), 2)).await;
    give(&carol, Grant { label: "carol's own".into(), ..wall(bob.device(), 0) }).await;
    tell(&carol, &carol.space(), &alice).await;
    let there = alice.held(&carol.space()).expect("held");
    alice.state_as(there, given, Statement::Ops(vec![Op::Grant(wall(bob.device(), 1))]), 1).await.expect("handed on");
    let new = secret(9).public();
    root_says(&bob, &secret(3), &[new], &[bob.device()], 2).await;
    for home in [&alice, &carol] {
        tell(&bob, &bob.space(), home).await;
    }
    tell(&alice, &carol.space(), &carol).await;
    settle(&carol).await;
    assert_eq!(own_guests(&carol), sorted(vec![alice.device(), bob.device(), new]), "what Alice gave is for her to move");
    settle(&alice).await;
    assert_eq!(guests(&alice, &carol.space()), sorted(vec![alice.device(), bob.device(), new]), "and what Carol gave, for her");
    tell(&alice, &carol.space(), &carol).await;
    assert_eq!(own_guests(&carol), sorted(vec![alice.device(), new, new]));
}

/// Members are called by their keys there, and Bob goes on in the place that is called by the one of before.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_a_community_goes_over_and_keeps_its_name() {
    let (alice, bob, _) = friends(0).await;
    let (choir, new) = (person(5, 6), secret(9).public());
    let organizes = Grant { depth: 3, ..timebus_store::founding::organizer(&alice.device()) };
    let given = give(&choir, organizes).await;
    let rules = serde_json::to_vec(&Rules::new("choir")).expect("JSON");
    let (path, rules) = (Path::parse("/rules").expect("a path"), Json::parse(&rules, Limits::default()).expect("JSON"));
    let (space, action, condition) = (None, Action::Put(rules), Condition::None);
    let request = Request { space, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
    choir.write(request).await.expect("written");
    tell(&choir, &choir.space(), &alice).await;
    let there = alice.held(&choir.space()).expect("held");
    let asked = Grant { scope: timebus_store::grant::Scope::everything(), bytes_max: 0, ..wall(bob.device(), 1) };
    let membership = community::membership(&alice, &choir.space(), &asked).expect("a community");
    alice.state_as(there, given, Statement::Ops(membership.into_iter().map(Op::Grant).collect()), 1).await.expect("let in");
    let members = |store: &Store| {
        let there = store.held(&choir.space()).expect("held");
        let all = community::members(store, &store.snapshot(), there).expect("read");
        all.into_iter().map(|member| (member.place.to_string(), sorted(member.keys))).collect::<Vec<_>>()
    };
    let place = format!("/members/{}", bob.device());
    assert_eq!(members(&alice).iter().find(|(at, _)| *at == place).map(|(_, keys)| keys.clone()), Some(vec![bob.device()]));
    root_says(&bob, &secret(3), &[new], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(members(&alice).iter().find(|(at, _)| *at == place).map(|(_, keys)| keys.clone()), Some(vec![new]));
    let rights = alice.rights(&choir.space()).expect("held");
    assert!(!rights.grants_for(&bob.device()).any(|(_, held)| held.is_live()) && members(&alice).len() == 3);
    let board = Path::parse(&format!("/board/{}/1", bob.device())).expect("a path");
    for at in [format!("{place}/name"), board.to_string()] {
        assert!(rights.writer_grant(&new, &Path::parse(&at).expect("a path")).is_some(), "{at}");
    }
    settle(&alice).await;
    assert_eq!(members(&alice).len(), 3, "once");
}

/// Eve gives Bob's device, in a community of hers, what she says is the place of another device of his.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_a_member_in_the_place_of_a_key_that_is_not_his() {
    let (bob, eve) = (person(3, 4), person(5, 6));
    let second = device(&bob).await;
    for (key, is_his) in [(secret(66).public(), false), (second.device(), true)] {
        let scope = timebus_store::auth::mounts::scope_of(&Path::parse(&format!("/members/{key}")).expect("a path")).expect("names");
        let place = Grant { scope, bytes_max: 0, not_after_ms: 0, ..wall(key, 1) };
        let given = give(&eve, place.clone()).await;
        let instead = give(&eve, Grant { audience: Audience::Key(bob.device()), label: format!("{INSTEAD}{given}").into(), ..place }).await;
        tell(&eve, &eve.space(), &bob).await;
        let found = community::own_place(&bob, &eve.space()).map(|place| place.to_string());
        assert_eq!(found, is_his.then(|| format!("/members/{key}")));
        eve.state(Statement::Revoke { grants: vec![instead], cascade: false, keep: true }, 2).await.expect("taken back");
    }
}

/// A thief signs with the stolen device in a space of his own that it is one of his, and takes it out there, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_two_spaces_loses_its_rights_and_nobody_gets_them() {
    let (alice, bob, _) = friends(0).await;
    let eve = person(5, 6);
    let stolen = device(&bob).await;
    let key = stolen.device();
    give(&alice, wall(key, 0)).await;
    tell(&bob, &bob.space(), &alice).await;
    // The same device key in a home of her space.
    let Home { folder, store } = stolen;
    store.close();
    for part in std::fs::read_dir(folder.path()).expect("a folder").map(|part| part.expect("read")).filter(|part| part.file_name() != "keys") {
        let is_folder = part.file_type().expect("a type").is_dir();
        if is_folder { std::fs::remove_dir_all(part.path()) } else { std::fs::remove_file(part.path()) }.expect("removed");
    }
    std::fs::copy(eve.folder.path().join("keys/space"), folder.path().join("keys/space")).expect("copied");
    let stolen = open(folder);
    assert_eq!((stolen.device(), stolen.space()), (key, eve.space()));
    join(&eve, &stolen).await;
    root_says(&eve, &secret(5), &[secret(7).public()], &[key], 2).await;
    root_says(&bob, &secret(3), &[secret(9).public()], &[key], 2).await;
    tell(&eve, &eve.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()], "who signs for both is out when either says so");
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert_eq!(own_guests(&alice), [bob.device()]);
}

/// A grant says in its label that it is instead of another one; that of a guest says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_gave_it_says_what_a_grant_is_instead_of() {
    let (alice, bob, given) = friends(1).await;
    tell(&alice, &alice.space(), &bob).await;
    let there = bob.held(&alice.space()).expect("held");
    let [thief, new] = [7, 9].map(|n| secret(n).public());
    let forged = Grant { label: format!("{INSTEAD}{given}").into(), ..wall(thief, 0) };
    bob.state_as(there, given, Statement::Ops(vec![Op::Grant(forged)]), 1).await.expect("handed on");
    tell(&bob, &alice.space(), &alice).await;
    root_says(&bob, &secret(3), &[new], &[bob.device()], 2).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert!(own_guests(&alice).contains(&new), "it does not keep the right one from being given");
}

/// Each device may write as much as the one before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_goes_over_only_so_often() {
    let (alice, bob, _) = friends(0).await;
    // The same two devices lose it and get it back, in turns.
    let other = device(&bob).await;
    let keys = [bob.device(), other.device()];
    for turn in 0..TIMES_MAX {
        let (from, to) = (keys[turn % 2], keys[(turn + 1) % 2]);
        root_says(&bob, &secret(3), &[to], &[from], turn as u64 + 2).await;
        tell(&bob, &bob.space(), &alice).await;
        settle(&alice).await;
        assert_eq!(own_guests(&alice), [to], "turn {turn}");
    }
    root_says(&bob, &secret(3), &[keys[1]], &[keys[0]], 100).await;
    tell(&bob, &bob.space(), &alice).await;
    settle(&alice).await;
    assert!(own_guests(&alice).is_empty());
}
