//! One store: what requests do, and what is seen of them.

use timebus_store::json::{Json, Pos};
use timebus_store::text::NoEffect;
use timebus_store::update::Edit;
use timebus_store::writer::{Action, Asker, MayName, Request, TextEdits, TextError, WriteError};

use super::*;
use crate::home::{after, folder, get, json, open, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_edited_by_whoever_puts_another_one() {
    let home = folder();
    let store = open(home.path());
    let first = write(&store, put_text("/notes/hi", "hello world")).await;
    assert_eq!(text(&store, "/notes/hi").as_deref(), Some("hello world"));
    assert_eq!(get(&store, "/notes"), Some(json(r#"{"hi":"hello world"}"#)), "inside of JSON it is a string");
    let second = write(&store, put_text("/notes/hi", "hello brave world")).await;
    put(&store, "/notes/hi", &json(r#""hello brave new world""#)).await;
    put(&store, "/notes", &json(r#"{"hi":"Hello brave new world"}"#)).await;
    let last = write(&store, request("/notes", Action::Merge(json(r#"{"hi":"Hello, brave new world"}"#)))).await;
    assert_eq!(text(&store, "/notes/hi").as_deref(), Some("Hello, brave new world"), "it stays a text");
    assert_eq!(last.version.len(), 1);
    let newest = version(&store, "/notes/hi");
    assert!(newest[0].ends_with("-23"), "{newest:?}: the last of its session's events");
    let object = store.text(&store.snapshot(), store.own(), &path("/notes/hi")).expect("read").expect("a text");
    assert_eq!(object.op_count(), 5, "each of them was an edit");
    // The same again changes nothing.
    assert_eq!(write(&store, put_text("/notes/hi", "Hello, brave new world")).await.change, None);
    assert_eq!(text_at(&store, "/notes/hi", &[&first.version[0]]).as_deref(), Some("hello world"));
    assert_eq!(text_at(&store, "/notes/hi", &[&second.version[0]]).as_deref(), Some("hello brave world"));
    let past = store.read_at(&store.snapshot(), store.own(), &path("/"), &first.version).expect("read");
    assert_eq!(past.to_json(&store.space()), Some(json(r#"{"notes":{"hi":"hello world"}}"#)));
    // From the tables as they are, and from the log alone.
    drop(store);
    for index in ["as it was", "gone"] {
        if index == "gone" {
            std::fs::remove_dir_all(home.path().join("index")).expect("removed");
        }
        let store = open(home.path());
        assert_eq!(text(&store, "/notes/hi").as_deref(), Some("Hello, brave new world"), "{index}");
        assert_eq!(version(&store, "/notes/hi"), newest, "{index}");
        assert_eq!(text_at(&store, "/notes/hi", &[&first.version[0]]).as_deref(), Some("hello world"), "{index}");
        store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_count_their_events_are_known_by_them() {
    let home = folder();
    let store = open(home.path());
    let hello = named("alice-4", &[], put_text("/doc", "hello"));
    assert_eq!(write(&store, hello.clone()).await.version, ["alice-4"]);
    assert_eq!(
        write(&store, hello).await.change,
        store.text(&store.snapshot(), store.own(), &path("/doc")).expect("read").and_then(|text| text.find_event("alice", 4)).map(|event| event.0)
    );
    // Two people edit the same version; the ranges are those of the text that they saw.
    let alice = write(&store, named("alice-6", &["alice-4"], ranges("/doc", &[(0, 1, "J")]))).await;
    assert_eq!(alice.version, ["alice-6"]);
    let bob = write(&store, named("bob-5", &["alice-4"], ranges("/doc", &[(5, 5, " world")]))).await;
    assert_eq!(bob.version, ["alice-6", "bob-5"]);
    assert_eq!(text(&store, "/doc").as_deref(), Some("Jello world"));
    // Every event is a version, also those inside of an edit.
    assert_eq!(text_at(&store, "/doc", &["bob-2"]).as_deref(), Some("hello wo"));
    assert_eq!(text_at(&store, "/doc", &["alice-5"]).as_deref(), Some("ello"));
    assert_eq!(text_at(&store, "/doc", &["alice-1"]).as_deref(), Some("he"));
    assert_eq!(text_at(&store, "/doc", &["alice-6", "bob-1"]).as_deref(), Some("Jello w"));
    // Said again, nothing happens; said partly again, the rest does; said differently, it is refused.
    let again = write(&store, named("bob-5", &["alice-4"], ranges("/doc", &[(5, 5, " world")]))).await;
    assert_eq!((again.version, text(&store, "/doc").as_deref()), (vec!["alice-6".to_owned(), "bob-5".to_owned()], Some("Jello world")));
    let longer = write(&store, named("bob-6", &["alice-4"], ranges("/doc", &[(5, 5, " world!")]))).await;
    assert_eq!((longer.version, text(&store, "/doc").as_deref()), (vec!["alice-6".to_owned(), "bob-6".to_owned()], Some("Jello world!")));
    let other = refused(&store, named("bob-5", &["alice-4"], ranges("/doc", &[(5, 5, " other")]))).await;
    assert!(matches!(other, WriteError::LabelTaken(label) if label == "bob-5"));
    // On top of both, and of a version inside of an edit.
    let both = write(&store, named("carol-0", &["alice-6", "bob-6"], ranges("/doc", &[(0, 0, ">")]))).await;
    assert_eq!(both.version, ["carol-0"]);
    write(&store, named("dave-1", &["bob-2"], ranges("/doc", &[(8, 8, "XY")]))).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some(">Jello world!XY"), "who comes later in the order of names goes behind");
    for (label, parents, expected) in [("eve-0", "bob-9", "bob-9"), ("eve-0", "nobody-0", "nobody-0")] {
        let unknown = refused(&store, named(label, &[parents], ranges("/doc", &[(0, 0, "x")]))).await;
        assert!(matches!(&unknown, WriteError::UnknownVersion(missing) if *missing == [expected]), "{unknown:?}");
    }
    let beyond = refused(&store, named("eve-0", &["alice-4"], ranges("/doc", &[(6, 6, "x")]))).await;
    assert!(matches!(beyond, WriteError::Text(TextError::Range { chars: 5 })), "{beyond:?}");
    let low = refused(&store, named("eve-1", &["alice-4"], ranges("/doc", &[(0, 0, "xyz")]))).await;
    assert!(matches!(low, WriteError::Text(TextError::TooFewEvents { events: 3, .. })), "{low:?}");
    let itself = refused(&store, named("bob-9", &["alice-4"], ranges("/doc", &[(0, 0, "x")]))).await;
    assert!(matches!(itself, WriteError::Text(TextError::Refused { reason: NoEffect::OwnRule, .. })), "{itself:?}");
}

/// Two who write by one peer, one of whom takes the session of the other for his.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_whoever_began_it() {
    let home = folder();
    let store = open(home.path());
    let [ann, eve] = ["ann", "eve"].map(|name| Some(MayName { asker: Asker::of("key", name.as_bytes()), ..MayName::default() }));
    let by = |who: &Option<MayName>, request: Request| Request { may_name: who.clone(), ..request };
    write(&store, by(&ann, named("sess-4", &[], put_text("/doc", "hello")))).await;
    let eves = by(&eve, named("sess-5", &["sess-4"], ranges("/doc", &[(5, 5, "?")])));
    let taken = write(&store, eves).await;
    assert!(taken.version.iter().all(|version| version != "sess-5" && version.starts_with('~')), "{:?}", taken.version);
    let anns = by(&ann, named("sess-5", &["sess-4"], ranges("/doc", &[(0, 1, "J")])));
    assert!(matches!(refused(&store, anns).await, WriteError::LabelTaken(_)), "two events are not numbered by one");
    write(&store, by(&ann, named("sess-6", &["sess-4"], ranges("/doc", &[(0, 1, "J")])))).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("Jello?"));
}

/// Whose a session is, and what was said in it, is known by what was signed alone.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_others_go_on_when_the_index_is_made_anew() {
    let home = folder();
    let [ann, eve] = ["ann", "eve"].map(|name| Some(MayName { asker: Asker::of("key", name.as_bytes()), ..MayName::default() }));
    let by = |who: &Option<MayName>, request: Request| Request { may_name: who.clone(), ..request };
    let hello = by(&ann, named("sess-4", &[], put_text("/doc", "hello")));
    let eves = by(&eve, named("sess-5", &["sess-4"], ranges("/doc", &[(5, 5, "?")])));
    let anns = by(&ann, named("sess-6", &["sess-4"], ranges("/doc", &[(0, 1, "J")])));
    let owners = named("sess-7", &["sess-4"], ranges("/doc", &[(1, 1, "-")]));
    let said = [&hello, &eves, &anns, &owners];
    let mut changes = Vec::new();
    let store = open(home.path());
    for request in said {
        changes.push(write(&store, request.clone()).await.change);
    }
    let shown = text(&store, "/doc");
    let names = version(&store, "/doc");
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    for (request, change) in said.into_iter().zip(&changes) {
        let again = write(&store, request.clone()).await;
        assert!(again.change.is_none() || again.change == *change, "{:?}", request.label);
    }
    assert_eq!((text(&store, "/doc"), version(&store, "/doc")), (shown, names), "each of them counted once");
    let goes_on = by(&ann, named("sess-7", &["sess-6"], ranges("/doc", &[(5, 5, "!")])));
    assert!(write(&store, goes_on).await.version.contains(&"sess-7".to_owned()), "it is her session still");
    let goes_on = by(&eve, named("sess-6", &["sess-5"], ranges("/doc", &[(6, 6, "?")])));
    let version = write(&store, goes_on).await.version;
    assert!(version.iter().any(|name| name.starts_with('~')), "{version:?}");
    let text = text(&store, "/doc").unwrap_or_default();
    assert_eq!(text.matches('?').count(), 2, "{text}");
}

/// What a device calls its session in the text at a path.
fn own_session(device: &PublicKey, at: &str) -> String {
    let hash = timebus_identity::hash("text session", &[device.as_bytes(), &path(at).key()]);
    timebus_identity::z32::encode(&hash)[..12].to_owned()
}

/// Another peer signs what it likes, also under the name of a session that is used here.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_sign_under_the_name_of_a_session_keeps_nobody_from_going_on() {
    let homes = [folder(), folder()];
    let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
    let theirs = share(&alice, &bob).await;
    let there = |request: Request| Request { space: Some(theirs), ..request };
    write(&bob, there(named("sess-4", &[], put_text("/doc", "hello")))).await;
    let far = format!("{}-{}", own_session(&alice.device(), "/own"), u64::MAX - 1);
    write(&bob, there(named(&far, &[], put_text("/own", "two")))).await;
    send(&bob, &alice.space(), &alice).await;
    // The same is known, whoever signed it, and a client that comes back by another peer sends nothing twice.
    assert_eq!(write(&alice, named("sess-4", &[], put_text("/doc", "hello"))).await.version, ["sess-4"]);
    let other = named("sess-3", &[], ranges("/doc", &[(0, 0, "Yes.")]));
    write(&alice, other).await;
    assert_eq!(text(&alice, "/doc").as_ref().map(String::len), Some(9), "both are there");
    write(&alice, put_text("/own", "three")).await;
    assert_eq!(text(&alice, "/own").as_deref(), Some("three"));
    send(&alice, &alice.space(), &bob).await;
    for at in ["/doc", "/own"] {
        assert_eq!(text_in(&bob, theirs, at), text(&alice, at), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_may_be_used_in_several_texts() {
    let home = folder();
    let store = open(home.path());
    for doc in ["/a", "/b"] {
        assert_eq!(write(&store, named("alice-1", &[], put_text(doc, "hi"))).await.version, ["alice-1"], "{doc}");
        assert_eq!(version(&store, doc), ["alice-1"]);
        write(&store, named("alice-2", &["alice-1"], ranges(doc, &[(2, 2, "!")]))).await;
    }
    assert_eq!(text(&store, "/b").as_deref(), Some("hi!"));
    assert_eq!(text_at(&store, "/b", &["alice-1"]).as_deref(), Some("hi"));
    assert_eq!(version(&store, "/b"), ["alice-2"]);
    let whole = version(&store, "/");
    assert_eq!(
        store.read_at(&store.snapshot(), store.own(), &path("/"), &whole).expect("known").to_json(&store.space()),
        Some(json(r#"{"a":"hi!","b":"hi!"}"#))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_without_a_name_are_brought_to_the_newest_version() {
    let home = folder();
    let store = open(home.path());
    let old = write(&store, put_text("/doc", "one two")).await.version;
    write(&store, put_text("/doc", "zero one two")).await;
    let late = Request { parents: Some(old.clone()), ..ranges("/doc", &[(7, 7, " three")]) };
    write(&store, late).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("zero one two three"));
    // A whole text, as JSON or as text, is compared with what its writer had seen.
    write(&store, after(&old, "/doc", Action::Put(Json::String("one TWO".into())))).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("zero one TWO three"));
    write(&store, Request { parents: Some(old), ..put_text("/doc", "ONE two") }).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("zero ONE TWO three"));
    let end = Action::EditText(TextEdits::Ranges(vec![(Pos::FromEnd(0), Pos::FromEnd(0), "!".to_owned())]));
    write(&store, request("/doc", end)).await;
    write(&store, edit_text("/doc", &[edit(0, 5, ""), edit(0, 0, "\u{1f98a} ")])).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("\u{1f98a} ONE TWO three!"));
    // A whole text that is said again under its name, after others have edited it.
    let named = |text: &str| Request { label: Some("page-7-abc".to_owned()), ..put_text("/doc", text) };
    write(&store, named("whole")).await;
    write(&store, edit_text("/doc", &[edit(5, 0, " thing")])).await;
    write(&store, named("whole")).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("whole thing"));
    assert!(matches!(refused(&store, named("other")).await, WriteError::LabelTaken(_)));
    let overlapping = refused(&store, ranges("/doc", &[(0, 3, "a"), (2, 4, "b")])).await;
    assert!(matches!(overlapping, WriteError::Text(TextError::Range { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_made_again_is_another_one() {
    let home = folder();
    let store = open(home.path());
    let old = write(&store, put_text("/doc", "old")).await;
    write(&store, request("/doc", Action::Delete)).await;
    assert_eq!(text(&store, "/doc"), None);
    write(&store, edit_text("/doc", &[edit(0, 0, "new")])).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("new"));
    assert_eq!(store.text(&store.snapshot(), store.own(), &path("/doc")).expect("read").expect("a text").op_count(), 1);
    assert_eq!(text_at(&store, "/doc", &[&old.version[0]]).as_deref(), Some("old"));
    // Another kind of text is another text, and JSON that is no string replaces it.
    write(&store, request("/doc", Action::PutText { mime: Mime::markdown(), text: "# new".into() })).await;
    let tree = store.read(&store.snapshot(), store.own(), &path("/doc")).expect("read").tree;
    assert!(matches!(&tree.writes[..], [write] if matches!(&write.value, Value::Text { mime, .. } if *mime == Mime::markdown())));
    put(&store, "/doc", &json("7")).await;
    assert_eq!(get(&store, "/doc"), Some(json("7")));
    let no_text = refused(&store, edit_text("/doc", &[edit(0, 0, "x")])).await;
    assert!(matches!(no_text, WriteError::Text(TextError::NotAText(_))), "{no_text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_takes_back_what_one_edit_did_and_no_more() {
    let home = folder();
    let store = open(home.path());
    write(&store, put_text("/doc", "a b c")).await;
    let middle = write(&store, put_text("/doc", "a BIG c")).await;
    write(&store, put_text("/doc", "say: a BIG c!")).await;
    write(&store, request("/doc", Action::Undo { version: middle.version.first().cloned() })).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("say: a b c!"));
    write(&store, request("/doc", Action::Undo { version: None })).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("say: a BIG c!"), "undo can be undone");
    write(&store, request("/doc", Action::Delete)).await;
    write(&store, request("/doc", Action::Undo { version: None })).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("say: a BIG c!"));
    write(&store, edit_text("/doc", &[edit(0, 5, "")])).await;
    assert_eq!(text(&store, "/doc").as_deref(), Some("a BIG c!"));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_runs_and_many_edits_are_written_together_now_and_then() {
    let home = folder();
    let store = open(home.path());
    let long = "0123456789abcdef".repeat(150_000);
    write(&store, put_text("/long", &long)).await;
    assert_eq!(text(&store, "/long").as_deref(), Some(long.as_str()));
    let mut expected = String::new();
    for number in 0..700u32 {
        let letter = char::from(b'a' + (number % 26) as u8);
        let pos = u64::from(number * 7 % (number + 1));
        write(&store, Request { durable: false, ..edit_text("/typed", &[edit(pos, 0, &letter.to_string())]) }).await;
        expected.insert(pos as usize, letter);
    }
    store.fence().await.expect("durable");
    assert_eq!(text(&store, "/typed").as_deref(), Some(expected.as_str()));
    let crashed = folder();
    crate::home::copy(home.path(), crashed.path(), &["lock"]);
    drop(store);
    for place in [home.path(), crashed.path()] {
        let store = open(place);
        assert_eq!(text(&store, "/typed").as_deref(), Some(expected.as_str()));
        assert_eq!(text(&store, "/long").as_deref(), Some(long.as_str()));
        write(&store, edit_text("/typed", &[edit(0, 700, "gone")])).await;
        assert_eq!(text(&store, "/typed").as_deref(), Some("gone"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_the_edits() {
    let home = folder();
    let store = open(home.path());
    write(&store, named("alice-10", &[], put_text("/doc", "hello world"))).await;
    let feed = store.feed(store.own(), &path("/doc"));
    write(&store, named("alice-11", &["alice-10"], ranges("/doc", &[(11, 11, "!")]))).await;
    write(&store, named("bob-10", &["alice-10"], ranges("/doc", &[(0, 5, "HELLO")]))).await;
    let timebus_store::feed::Next::Entries(entries) = feed.from(0, 10) else { panic!("nothing is lost") };
    let told: Vec<_> = entries.iter().map(|entry| (entry.version.to_vec(), entry.update.patches.clone().expect("patches"))).collect();
    assert_eq!(told.len(), 2);
    let edits = |at: usize| match &told[at].1[..] {
        [patch] => match &patch.edit {
            Edit::Text(edits) => edits.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!((edits(0), &told[0].0[..]), (vec![edit(11, 0, "!")], &["alice-11".into()][..]));
    assert_eq!((edits(1), &told[1].0[..]), (vec![edit(0, 5, "HELLO")], &["alice-11".into(), "bob-10".into()][..]));
}
