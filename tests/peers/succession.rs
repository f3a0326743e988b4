//! New roots: after a theft, after a loss, named by guardians, and named twice.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::devices::second;
use super::neighbours::{Run, invite, join, json as verb, pair, poll, program, run, until_value};
use crate::peer::{Home, NET, PROGRAM, Peer};

const OPS: (&str, &str) = ("Accept", "application/timebus-ops");

/// Runs a verb that reads words.
pub(super) fn typed(home: &Home, args: &[&str], words: &str) -> Run {
    let mut command = program(home, args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    // Who refuses before it has read them hangs up.
    let _ = child.stdin.take().expect("a pipe").write_all(words.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Run { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub(super) fn told(ran: &Run) -> Value {
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error} in {ran:?}"))
}

pub(super) fn words(said: &Value) -> String {
    let words: Vec<&str> = said["words"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
    assert_eq!(words.len(), 48, "{said}");
    words.join(" ")
}

fn id(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("an id").to_owned()
}

/// Where a peer can be called.
pub(super) fn place(peer: &Peer) -> (String, String) {
    let address = peer.value("/.sys/peers")["addresses"][0].as_str().expect("an address").to_owned();
    (peer.ready["node"].as_str().expect("a node").to_owned(), address)
}

fn until_root(peer: &Peer, space: &str, root: &Value) {
    until_value(peer, &format!("/@{space}/.auth/root"), root);
}

/// Carries all changes of a space from one peer to another by hand.
pub(super) fn carry(from: &Peer, to: &Peer, space: &str) -> Value {
    let changes = from.send("GET", &format!("/@{space}"), &[OPS], "").body;
    to.send("POST", &format!("/@{space}"), &[("Content-Type", "application/timebus-ops")], changes).json()
}

/// Alice's laptop is stolen with everything on it; her words are on paper and her phone is in her pocket.
#[test]
fn a_stolen_device_is_out_and_cannot_take_over() {
    let (laptop, bob) = pair();
    let space = id(&laptop);
    let stolen = verb(laptop.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let home = laptop.stop();
    let kit = words(&verb(&home, &["kit"]));
    assert_eq!(typed(&home, &["kit", "--confirm"], &kit).code, 0);
    let laptop = Peer::start_in(home);
    laptop.put("/notes/before", &json!(1));
    let phone = second(&laptop);
    assert_eq!(phone.value("/notes/before"), 1);
    until_value(&bob, "/@alice/notes/before", &json!(1));
    let laptop = laptop.stop();
    // The thief has the laptop, and every key on it.
    for home in [&laptop, phone.home()] {
        assert!(!home.folder().join("keys/root.key").exists() && !home.folder().join("keys/next.key").exists());
    }
    let mut guess: Vec<&str> = kit.split(' ').collect();
    guess.swap(0, 30);
    assert_eq!(typed(&laptop, &["rotate"], &guess.join(" ")).code, 1);
    let other = words(&verb(&somebody(), &["kit"]));
    let refused = typed(&laptop, &["rotate"], &other);
    assert!(refused.code == 1 && refused.err.contains("no root of this space had these two keys"), "{refused:?}");
    assert_eq!(run(&laptop, &["put", "/notes/evil", "1"]).code, 0, "he does not know yet");
    // Alice takes it out, on her phone.
    let running = typed(phone.home(), &["rotate"], &kit);
    assert!(running.code == 1 && running.err.contains("down"), "{running:?}");
    let phone = phone.stop();
    let rotated = told(&typed(&phone, &["--json", "rotate", "--without", &stolen[..10]], &kit));
    assert_eq!((&rotated["rotated"], &rotated["without"]), (&json!(true), &json!([stolen])), "{rotated}");
    assert_eq!(rotated["id"], space.as_str(), "the space stays what it is");
    let fresh = words(&rotated);
    assert_ne!(fresh, kit);
    let phone = Peer::start_in(phone);
    let (node, address) = place(&phone);
    verb(bob.home(), &["follow", &space, "--node", &node, "--at", &address]);
    until_root(&bob, &space, &rotated["root"]);
    assert_eq!(verb(phone.home(), &["devices"])["devices"].as_array().map(Vec::len), Some(1));
    phone.put("/notes/after", &json!(2));
    until_value(&bob, "/@alice/notes", &json!({"after": 2, "before": 1}));
    // What the thief wrote meanwhile counts nowhere, however it is brought.
    let started = Peer::launch_as(laptop, &mut Command::new(PROGRAM), &["--offline"]);
    let laptop = started.unwrap_or_else(|(home, _)| panic!("{}", home.log()));
    assert_eq!(laptop.value("/notes"), json!({"before": 1, "evil": 1}));
    assert!(carry(&laptop, &phone, &space)["admitted"].as_u64().is_some_and(|count| count > 0));
    // Bob may have got it from the phone meanwhile.
    assert_eq!(carry(&laptop, &bob, &space)["refused"], json!([]));
    for (peer, at) in [(&phone, "/notes".to_owned()), (&bob, format!("/@{space}/notes"))] {
        assert_eq!(peer.value(&at), json!({"after": 2, "before": 1}));
    }
    carry(&phone, &laptop, &space);
    let refused = laptop.send("PUT", "/notes/more", &[("Content-Type", "application/json")], "1").problem(403);
    assert!(refused["title"].is_string(), "{refused}");
    let late = laptop.stop();
    let refused = typed(&late, &["rotate"], &kit);
    assert!(refused.code == 1, "the old words are good for nothing: {refused:?}");
}

/// The home of somebody else.
fn somebody() -> Home {
    Peer::start().stop()
}

/// The machine is gone, and a friend has the space. With the first words, and with those of a later root.
#[test]
fn words_bring_a_space_back_on_a_new_machine() {
    for is_rotated in [false, true] {
        let (alice, bob) = pair();
        let space = id(&alice);
        alice.put("/notes", &json!("mine"));
        until_value(&bob, "/@alice/notes", &json!("mine"));
        let mut home = alice.stop();
        let mut kit = words(&verb(&home, &["kit"]));
        if is_rotated {
            let rotated = verb(&home, &["rotate"]);
            kit = words(&rotated);
            let alice = Peer::start_in(home);
            until_root(&bob, &space, &rotated["root"]);
            home = alice.stop();
        }
        drop(home);
        let (node, address) = place(&bob);
        let home = Home::new();
        let mut args = vec!["--json", "recover", "--node", &node, "--at", &address];
        args.extend(NET);
        if is_rotated {
            args.extend(["--space", &space]);
        }
        let recovered = told(&typed(&home, &args, &kit));
        assert_eq!((&recovered["result"], &recovered["id"]), (&json!("connected"), &json!(space)), "{recovered}");
        let taken = typed(&home, &["recover", "--by-guardians", "--space", &space], "");
        assert!(taken.code == 1 && taken.err.contains("a home here already"), "{taken:?}");
        let alice = Peer::start_in(home);
        until_value(&alice, "/notes", &json!("mine"));
        alice.put("/notes", &json!("mine again"));
        until_value(&bob, "/@alice/notes", &json!("mine again"));
        // The same words bring the key back to this disk when it has left it, and no others do.
        let home = alice.stop();
        assert_eq!(typed(&home, &["kit", "--confirm"], &kit).code, 0);
        assert_eq!(told(&typed(&home, &["--json", "recover"], &kit))["result"], "here");
        assert!(home.folder().join("keys/root.key").exists());
        let other = words(&verb(&somebody(), &["kit"]));
        let refused = typed(&home, &["recover"], &other);
        assert!(refused.code == 1 && refused.err.contains("not of the root"), "{refused:?}");
    }
}

/// Alice, and friends of hers who hold her space.
fn friends(count: usize) -> (Peer, Vec<Peer>) {
    let alice = Peer::start();
    alice.put("/notes", &json!("mine"));
    let friends: Vec<Peer> = (0..count).map(|_| Peer::start()).collect();
    for friend in &friends {
        join(friend, &invite(&alice, &[]), "alice");
        until_value(friend, "/@alice/notes", &json!("mine"));
    }
    (alice, friends)
}

/// Names guardians, and waits until they know.
fn name_guardians(alice: Peer, friends: &[Peer], needed: &str) -> (Peer, Value) {
    let home = alice.stop();
    let mut args = vec!["rotate".to_owned(), "--needed".to_owned(), needed.to_owned()];
    args.extend(friends.iter().flat_map(|friend| ["--guardian".to_owned(), id(friend)]));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let rotated = verb(&home, &args);
    assert_eq!(rotated["guardians"].as_array().map(Vec::len), Some(friends.len()), "{rotated}");
    let alice = Peer::start_in(home);
    for friend in friends {
        until_root(friend, &id(&alice), &rotated["root"]);
        let listed = verb(friend.home(), &["guardians"]);
        assert_eq!(listed["of"][0]["space"], id(&alice).as_str(), "{listed}");
    }
    (alice, rotated)
}

/// A new home that asks for a space, and what it gives to guardians.
fn ask(space: &str, friend: &Peer) -> (Home, Value) {
    let (node, address) = place(friend);
    let home = Home::new();
    let mut args = vec!["--json", "recover", "--by-guardians", "--space", space, "--node", &node, "--at", &address];
    args.extend(NET);
    let asked = told(&typed(&home, &args, ""));
    words(&asked);
    (home, asked)
}

fn agree(friend: &Peer, asked: &Value) -> String {
    let request = asked["request"].as_str().expect("a request");
    let agreed = verb(friend.home(), &["guardians", "agree", request, "--yes"]);
    assert_eq!(agreed["root_name"], asked["root_name"], "{agreed}");
    agreed["answer"].as_str().expect("an answer").to_owned()
}

#[test]
fn guardians_bring_a_space_back_of_which_everything_was_lost() {
    let (alice, friends) = friends(3);
    let space = id(&alice);
    let (alice, _) = name_guardians(alice, &friends, "2");
    let listed = verb(alice.home(), &["guardians"]);
    assert_eq!((&listed["needed"], listed["guardians"].as_array().map(Vec::len)), (&json!(2), Some(3)), "{listed}");
    drop(alice.stop());
    let (home, asked) = ask(&space, &friends[0]);
    let request = asked["request"].as_str().expect("a request");
    // Nobody agrees by accident, nor who is no guardian.
    let shown = run(friends[0].home(), &["guardians", "agree", request]);
    for part in ["root_name", "say"] {
        assert!(shown.code == 2 && shown.err.contains(asked[part].as_str().expect("text")), "{part}: {shown:?}");
    }
    assert!(!shown.err.contains("agreed to another root"), "{shown:?}");
    let stranger = Peer::start();
    assert_eq!(run(stranger.home(), &["guardians", "agree", request, "--yes"]).code, 1);
    let cut = run(friends[0].home(), &["guardians", "agree", &request[..request.len() - 1], "--yes"]);
    assert!(cut.code != 0 && cut.err.contains("copy the whole text"), "{cut:?}");
    let answers = [agree(&friends[0], &asked), agree(&friends[1], &asked)];
    // Somebody changed the request on its way to Carol, so that it is for a key of his; and she did not ask for the words.
    let (_other, changed) = ask(&space, &friends[0]);
    assert_ne!(asked["say"], changed["say"]);
    let shown = run(friends[1].home(), &["guardians", "agree", changed["request"].as_str().expect("a request")]);
    assert!(
        shown.err.contains("agreed to another root of this space before") && shown.err.contains(asked["root_name"].as_str().expect("a name")),
        "{shown:?}"
    );
    let odd = run(&home, &["recover", "--answer", &answers[0], "--answer", &agree(&friends[1], &changed)]);
    let carol = verb(friends[1].home(), &["devices"])["devices"][0]["key_name"].as_str().expect("a name").to_owned();
    for part in [&carol, "to another request", asked["say"].as_str().expect("words")] {
        assert!(odd.code == 1 && odd.err.contains(part), "{part} is missing in {odd:?}");
    }
    let few = run(&home, &["recover", "--answer", &answers[0]]);
    assert!(few.code == 1 && few.err.contains("2 guardians have to agree"), "{few:?}");
    let early = run(&home, &["recover", "--answer", &answers[0], "--answer", &answers[1]]);
    assert!(early.code == 1 && early.err.contains("not here yet"), "{early:?}");
    // One guardian gives it what is stated, so that it can say that it is the root, and nothing else: two have to agree to that.
    let peer = Peer::start_in(home);
    poll("it knows who has to agree", || (verb(peer.home(), &["guardians"])["needed"] == 2).then_some(()));
    peer.send("GET", "/notes", &[], "").problem(404);
    peer.send("PUT", "/notes", &[("Content-Type", "application/json")], "1").problem(403);
    let home = peer.stop();
    let recovered = verb(&home, &["recover", "--answer", &answers[0], "--answer", &answers[1]]);
    assert_eq!((&recovered["result"], &recovered["root"]), (&json!("root"), &asked["root"]), "{recovered}");
    let alice = Peer::start_in(home);
    until_value(&alice, "/notes", &json!("mine"));
    alice.put("/notes", &json!("mine again"));
    until_value(&friends[0], "/@alice/notes", &json!("mine again"));
    until_root(&friends[0], &space, &asked["root"]);
}

/// Two people talk one guardian each into agreeing. Nothing is decided by chance: it is frozen, shown, and the words decide.
#[test]
fn two_new_roots_freeze_a_space_until_the_words_decide() {
    let (alice, friends) = friends(2);
    let space = id(&alice);
    let (alice, rotated) = name_guardians(alice, &friends, "1");
    let alice = alice.stop();
    // Both agree before either is known to be the root: else the second would follow the first.
    let asked: Vec<(Home, Value, String)> = friends
        .iter()
        .map(|friend| {
            let (home, asked) = ask(&space, friend);
            let answer = agree(friend, &asked);
            (home, asked, answer)
        })
        .collect();
    let mut taken = Vec::new();
    for ((home, asked, answer), friend) in asked.into_iter().zip(&friends) {
        let peer = Peer::start_in(home);
        poll("it knows who has to agree", || (verb(peer.home(), &["guardians"])["needed"] == 1).then_some(()));
        let home = peer.stop();
        verb(&home, &["recover", "--answer", &answer]);
        let peer = Peer::start_in(home);
        poll("the guardian knows of the root", || {
            let roots = friend.value(&format!("/@{space}/.auth/roots"));
            roots.as_object()?.values().any(|root| root["key"] == asked["root"]).then_some(())
        });
        drop(peer.stop());
        taken.push(asked["root"].clone());
    }
    let (bob, carol) = (&friends[0], &friends[1]);
    carry(carol, bob, &space);
    until_root(bob, &space, &rotated["root"]);
    let shown = verb(bob.home(), &["guardians"]);
    let disputed = &shown["disputed"][0];
    let mut roots: Vec<&Value> = disputed["roots"].as_array().expect("a list").iter().collect();
    let mut expected: Vec<&Value> = taken.iter().collect();
    roots.sort_by_key(|root| root.to_string());
    expected.sort_by_key(|root| root.to_string());
    assert_eq!((roots, &disputed["space"]), (expected, &json!(space)), "{shown}");
    assert!(run(bob.home(), &["guardians"]).out.contains("in dispute"));
    assert_eq!(disputed["decided_by"], "words", "{shown}");
    assert_eq!(bob.value("/@alice/notes"), "mine", "what was granted before goes on");
    // Alice has her words, and her keys are on this disk.
    let decided = verb(&alice, &["rotate"]);
    let alice = Peer::start_in(alice);
    carry(&alice, bob, &space);
    until_root(bob, &space, &decided["root"]);
    assert_eq!(verb(bob.home(), &["guardians"])["disputed"], json!([]));
    poll("alice knows of it", || {
        carry(bob, &alice, &space);
        (alice.value("/.auth/disputed") == json!([]) && alice.value("/.auth/root") == decided["root"]).then_some(())
    });
}

/// Somebody saw the sheet of before. On it are the old root and the next one: he makes words of that and of a key of his own.
#[test]
fn an_old_sheet_brings_nothing_back_after_a_rotation() {
    let (alice, bob) = pair();
    let (space, home) = (id(&alice), alice.stop());
    let old = words(&verb(&home, &["kit"]));
    let rotated = verb(&home, &["rotate"]);
    let told = run(&home, &["kit"]).out;
    assert!(words(&rotated).split(' ').all(|word| told.contains(word)), "{told}");
    let alice = Peer::start_in(home);
    until_root(&bob, &space, &rotated["root"]);
    let (node, address) = place(&bob);
    let half = |words: &str| words.split(' ').skip(24).collect::<Vec<_>>().join(" ");
    let made = format!("{} {}", half(&old), half(&words(&verb(&somebody(), &["kit"]))));
    let thief = Home::new();
    let args = [&["recover", "--space", &space, "--node", &node, "--at", &address, "--without", "all"], &NET[..]].concat();
    let refused = typed(&thief, &args, &made);
    assert!(refused.code == 1 && refused.err.contains("does not give"), "{refused:?}");
    alice.put("/notes", &json!("mine"));
    until_value(&bob, "/@alice/notes", &json!("mine"));
}

/// Two roots are made with the words of one sheet: on the laptop, and on the phone, which did not know of it. No words decide that,
/// and nobody is given new ones that would be worth nothing. Guardians whom there were decide it.
#[test]
fn two_roots_by_one_sheet_freeze_a_space_until_guardians_decide() {
    for is_guarded in [false, true] {
        let (alice, friends) = friends(1);
        let (space, bob) = (id(&alice), &friends[0]);
        let (alice, kit) = match is_guarded {
            true => {
                let (alice, rotated) = name_guardians(alice, &friends, "1");
                (alice, words(&rotated))
            }
            false => {
                let home = alice.stop();
                let kit = words(&verb(&home, &["kit"]));
                (Peer::start_in(home), kit)
            }
        };
        let phone = second(&alice).stop();
        let home = alice.stop();
        let mine = words(&verb(&home, &["rotate"]));
        told(&typed(&phone, &["--json", "rotate"], &kit));
        let (alice, phone) = (Peer::start_in(home), Peer::start_in(phone));
        let decided_by = if is_guarded { "guardians" } else { "nobody" };
        poll("it is in dispute", || {
            carry(&phone, &alice, &space);
            (verb(alice.home(), &["guardians"])["disputed"][0]["decided_by"] == decided_by).then_some(())
        });
        carry(&alice, bob, &space);
        let home = alice.stop();
        let next = if is_guarded { "recover --by-guardians --space" } else { "recover --by-friends" };
        for args in [&["rotate"][..], &["kit"], &["kit", "--confirm"]] {
            let refused = typed(&home, args, &mine);
            assert!(refused.code == 1 && refused.out.is_empty(), "{args:?}: {refused:?}");
            for part in ["in dispute", "worth nothing", next] {
                assert!(refused.err.contains(part), "{args:?}: {part} is missing in {}", refused.err);
            }
        }
        assert!(home.folder().join("keys/root.key").exists());
        if !is_guarded {
            continue;
        }
        let (new, asked) = ask(&space, bob);
        let answer = agree(bob, &asked);
        let peer = Peer::start_in(new);
        poll("it knows who has to agree", || (verb(peer.home(), &["guardians"])["needed"] == 1).then_some(()));
        let new = peer.stop();
        verb(&new, &["recover", "--answer", &answer]);
        let _alice = Peer::start_in(new);
        until_root(bob, &space, &asked["root"]);
        assert_eq!(verb(bob.home(), &["guardians"])["disputed"], json!([]));
    }
}

/// The root took over on the laptop. The phone's keys know nothing of that, but its space does.
#[test]
fn words_are_those_of_the_root_that_the_space_has_now_wherever_it_took_over() {
    let laptop = Peer::start();
    let phone = second(&laptop);
    let space = id(&laptop);
    let home = laptop.stop();
    let old = words(&verb(&home, &["kit"]));
    let rotated = verb(&home, &["rotate"]);
    let _laptop = Peer::start_in(home);
    until_root(&phone, &space, &rotated["root"]);
    let phone = phone.stop();
    let refused = typed(&phone, &["kit", "--recover"], &old);
    assert!(refused.code == 1 && refused.err.contains("not of the root that this space has now"), "{refused:?}");
    assert!(!phone.folder().join("keys/root.key").exists());
    assert_eq!(told(&typed(&phone, &["--json", "kit", "--recover"], &words(&rotated)))["id"], space.as_str());
    assert!(phone.folder().join("keys/root.key").exists());
}

/// Bob is Alice's guardian by a device that he loses. Nobody could agree, and nobody said so.
#[test]
fn a_guardian_whose_device_is_gone_is_told_of() {
    let (alice, mut friends) = friends(1);
    let bob = friends.pop().expect("one");
    assert_eq!(join(&alice, &invite(&bob, &[]), "bob")["result"], "connected");
    let (alice, _) = name_guardians(alice, std::slice::from_ref(&bob), "1");
    let phone = second(&bob);
    let listed = verb(alice.home(), &["guardians"]);
    assert_eq!(listed["guardians"][0]["is_gone"], false, "{listed}");
    let old = verb(bob.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let home = bob.stop();
    let kit = words(&verb(&home, &["kit"]));
    assert_eq!(typed(&home, &["kit", "--confirm"], &kit).code, 0);
    let home = phone.stop();
    told(&typed(&home, &["--json", "rotate", "--without", &old[..10]], &kit));
    let phone = Peer::start_in(home);
    let (node, address) = place(&phone);
    verb(alice.home(), &["follow", &id(&phone), "--node", &node, "--at", &address]);
    poll("alice knows", || (verb(alice.home(), &["guardians"])["guardians"][0]["is_gone"] == true).then_some(()));
    let shown = run(alice.home(), &["guardians"]);
    assert!(shown.out.contains("a device of before") && shown.err.contains("names all anew"), "{shown:?}");
    assert!(run(alice.home(), &["doctor"]).out.contains("cannot agree"));
    poll("and so does he", || (verb(phone.home(), &["guardians"])["of"][0]["is_gone"] == true).then_some(()));
    assert!(run(phone.home(), &["guardians"]).out.contains("were a guardian of"));
    assert!(run(phone.home(), &["doctor"]).out.contains("by a device that is yours no more"));
}

/// Whoever types the words of before a rotation gets a home that is nobody's, and is told so.
#[test]
fn words_of_before_a_rotation_bring_nothing_back_and_say_so() {
    let (alice, bob) = pair();
    let (space, home) = (id(&alice), alice.stop());
    let old = words(&verb(&home, &["kit"]));
    let rotated = verb(&home, &["rotate"]);
    let sheet = run(&home, &["kit"]).out;
    assert!(sheet.contains("the KEY of `timebus recover --space KEY`"), "{sheet}");
    let alice = Peer::start_in(home);
    until_root(&bob, &space, &rotated["root"]);
    let (node, address) = place(&bob);
    let new = Home::new();
    let refused = typed(&new, &[&["recover", "--node", &node, "--at", &address], &NET[..]].concat(), &old);
    assert!(refused.code == 1 && refused.out.is_empty(), "{refused:?}");
    for part in ["does not give", "words of before `timebus rotate`", "the line \"space\" of their sheet"] {
        assert!(refused.err.contains(part), "{part} is missing in {}", refused.err);
    }
    let right = Home::new();
    let back = typed(&right, &[&["recover", "--space", &space, "--node", &node, "--at", &address], &NET[..]].concat(), &words(&rotated));
    assert!(back.code == 0 && back.out.contains("is a device of"), "{back:?}");
    drop(alice);
}
