//! Texts and counters in the store: made, edited, merged, looked back at.
//!
//! `TIMEBUS_WORLDS=2000` makes more worlds, `TIMEBUS_SEED=17` begins at another one.

#[path = "texts/counters.rs"]
mod counters;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;
#[path = "texts/liars.rs"]
mod liars;
#[path = "texts/merging.rs"]
mod merging;
#[path = "texts/peers.rs"]
mod peers;
#[path = "texts/traces.rs"]
mod traces;
#[path = "texts/writing.rs"]
mod writing;

use home::{path, request};
use timebus_identity::{PublicKey, Verified};
use timebus_store::change::Change;
use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
use timebus_store::json::Pos;
use timebus_store::op::{Op, TextEdit};
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::tree::Tree;
use timebus_store::value::{Mime, Value};
use timebus_store::writer::{Action, Request, Statement, TextEdits, WriteError, Written, verify_all};

/// All changes of a space, as another store sends them.
fn changes(store: &Store, space: &PublicKey) -> Vec<Verified<Change>> {
    let space = store.held(space).expect("held");
    let rows = store.snapshot();
    let mut signed = Vec::new();
    for t in [space.auth(), space.main()] {
        for change in store.changes(&rows, t, 0) {
            let (_, own) = change.expect("change");
            let record = store.log().read(own.place).expect("record");
            signed.push(Change::decode(&record.payload).expect("a change"));
        }
    }
    verify_all(signed).expect("signed")
}

async fn send(from: &Store, space: &PublicKey, to: &Store) {
    let offered = to.offer(changes(from, space)).await.expect("taken");
    assert!(offered.refused.is_empty(), "{:?}", offered.refused);
}

/// Lets another store write everywhere in this one's space, and gives it what is there. Answers the space as it holds it.
async fn share(owner: &Store, with: &Store) -> Space {
    let grant = Grant {
        audience: Audience::Key(with.device()),
        scope: Scope::everything(),
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "".into(),
    };
    owner.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await.expect("granted");
    send(owner, &owner.space(), with).await;
    with.held(&owner.space()).expect("held")
}

fn put_text(at: &str, text: &str) -> Request {
    request(at, Action::PutText { mime: Mime::plain_text(), text: text.to_owned() })
}

fn edit(pos: u64, del: u64, ins: &str) -> TextEdit {
    TextEdit { pos, del, ins: ins.into() }
}

fn edit_text(at: &str, edits: &[TextEdit]) -> Request {
    request(at, Action::EditText(TextEdits::Sequence(edits.to_vec())))
}

fn ranges(at: &str, ranges: &[(u64, u64, &str)]) -> Request {
    let ranges = ranges.iter().map(|(start, end, ins)| (Pos::FromStart(*start), Pos::FromStart(*end), (*ins).to_owned()));
    request(at, Action::EditText(TextEdits::Ranges(ranges.collect())))
}

/// As somebody says it who counts the events of his session, and says what he edited.
fn named(label: &str, parents: &[&str], request: Request) -> Request {
    Request { label: Some(label.to_owned()), parents: Some(parents.iter().map(|name| (*name).to_owned()).collect()), ..request }
}

async fn write(store: &Store, request: Request) -> Written {
    store.write(request).await.expect("written")
}

async fn refused(store: &Store, request: Request) -> WriteError {
    store.write(request).await.expect_err("refused")
}

fn shown(tree: &Tree) -> Option<String> {
    match tree.writes.first().map(|write| &write.value) {
        Some(Value::Text { content: Some(content), .. }) => Some(content.text.clone()),
        _ => None,
    }
}

fn text_in(store: &Store, space: Space, at: &str) -> Option<String> {
    shown(&store.read(&store.snapshot(), space, &path(at)).expect("read").tree)
}

fn text(store: &Store, at: &str) -> Option<String> {
    text_in(store, store.own(), at)
}

fn text_at(store: &Store, at: &str, versions: &[&str]) -> Option<String> {
    let versions: Vec<String> = versions.iter().map(|name| (*name).to_owned()).collect();
    shown(&store.read_at(&store.snapshot(), store.own(), &path(at), &versions).expect("read"))
}

fn version(store: &Store, at: &str) -> Vec<String> {
    store.version(&store.snapshot(), store.own(), &path(at)).expect("read")
}
