//! Counters: what is added at once adds up.

use timebus_store::json::Json;
use timebus_store::writer::{Action, Request, TextError, WriteError};

use super::*;
use crate::home::{folder, get, json, open, put};

fn inc(at: &str, delta: i64) -> Request {
    request(at, Action::Inc(delta))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_at_once_adds_up() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let space = share(&alice, &bob).await;
    // Both begin to count without knowing of each other.
    write(&alice, inc("/likes", 2)).await;
    write(&bob, Request { space: Some(space), ..inc("/likes", 3) }).await;
    for _ in 0..2 {
        send(&alice, &alice.space(), &bob).await;
        send(&bob, &alice.space(), &alice).await;
    }
    assert_eq!(get(&alice, "/likes"), Some(Json::Int(5)));
    write(&alice, inc("/likes", 1)).await;
    let before = version(&alice, "/likes");
    write(&bob, Request { space: Some(space), ..inc("/likes", -10) }).await;
    send(&bob, &alice.space(), &alice).await;
    send(&alice, &alice.space(), &bob).await;
    assert_eq!(get(&alice, "/likes"), Some(Json::Int(-4)));
    assert_eq!(bob.read(&bob.snapshot(), space, &path("/likes")).expect("read").tree.to_json(&alice.space()), Some(Json::Int(-4)));
    let past = alice.read_at(&alice.snapshot(), alice.own(), &path("/likes"), &before).expect("read");
    assert_eq!(past.to_json(&alice.space()), Some(Json::Int(6)));
    drop(alice);
    std::fs::remove_dir_all(alice_home.path().join("index")).expect("removed");
    assert_eq!(get(&open(alice_home.path()), "/likes"), Some(Json::Int(-4)), "from the log alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_is_said_again_counts_once() {
    let home = folder();
    let store = open(home.path());
    let named = |label: &str, delta| Request { label: Some(label.to_owned()), ..inc("/n", delta) };
    for _ in 0..2 {
        write(&store, named("click-1", 1)).await;
    }
    assert_eq!(get(&store, "/n"), Some(Json::Int(1)));
    assert!(matches!(refused(&store, named("click-1", 2)).await, WriteError::LabelTaken(_)));
    // What JSON readers keep exactly is shown; more is counted.
    let most = timebus_store::value::INT_MAX;
    write(&store, inc("/n", most)).await;
    assert_eq!(get(&store, "/n"), Some(Json::Int(most)));
    write(&store, inc("/n", -1)).await;
    assert_eq!(get(&store, "/n"), Some(Json::Int(most)));
    write(&store, request("/n", Action::Undo { version: None })).await;
    write(&store, inc("/n", -most)).await;
    assert_eq!(get(&store, "/n"), Some(Json::Int(1)));
    // A number becomes a counter that begins there; a document that is written with the same number in it leaves it one.
    put(&store, "/stats", &json(r#"{"visits":7,"name":"x"}"#)).await;
    write(&store, inc("/stats/visits", 1)).await;
    put(&store, "/stats", &json(r#"{"visits":8,"name":"y"}"#)).await;
    write(&store, inc("/stats/visits", 1)).await;
    assert_eq!(get(&store, "/stats"), Some(json(r#"{"visits":9,"name":"y"}"#)));
    let name = refused(&store, inc("/stats/name", 1)).await;
    assert!(matches!(name, WriteError::Text(TextError::NotACounter(_))), "{name:?}");
}

/// A set is a map whose keys are its elements.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_set_an_element_that_somebody_adds_outlives_its_removal_by_another() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    put(&alice, "/tags", &json(r#"{"tea":true,"cake":true}"#)).await;
    let space = share(&alice, &bob).await;
    write(&alice, request("/tags/tea", Action::Delete)).await;
    write(&alice, request("/tags/cake", Action::Delete)).await;
    write(&bob, Request { space: Some(space), ..request("/tags/tea", Action::Delete) }).await;
    write(&bob, Request { space: Some(space), ..request("/tags/tea", Action::Put(Json::Bool(true))) }).await;
    send(&bob, &alice.space(), &alice).await;
    assert_eq!(get(&alice, "/tags"), Some(json(r#"{"tea":true}"#)));
}
