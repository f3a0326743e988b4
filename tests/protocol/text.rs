//! Texts over Braid-HTTP, as simpleton and dt clients need them.

use std::io::BufReader;

use serde_json::{Value, json};

use crate::braid::{RawBody, RawUpdate, apply_text, read_raw};
use crate::data;
use crate::http::{Answer, Client, Headers, OwnedBody, print_versions};
use crate::peer::Peer;

const SIMPLETON: (&str, &str) = ("Merge-Type", "simpleton");
const DT: (&str, &str) = ("Merge-Type", "dt");

/// Vectors that are sent through HTTP; `TIMEBUS_FULL=1` takes all of them.
const VECTORS: usize = 12;

fn digest(text: &str) -> String {
    timebus_net::signature::content_digest(text.as_bytes())
}

/// A write of one range.
fn edit(client: &mut Client, path: &str, (version, parents): (&str, &str), range: &str, content: &str, more: &[(&str, &str)]) -> Answer {
    let range = format!("text {range}");
    let headers: Vec<_> = [("Version", version), ("Parents", parents), ("Content-Range", &*range)].into_iter().chain(more.iter().copied()).collect();
    client.send("PUT", path, &headers, content)
}

/// A subscription to a text.
struct Stream {
    head: Headers,
    updates: BufReader<OwnedBody>,
}

impl Stream {
    fn open(peer: &Peer, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers: Vec<_> = [("Subscribe", "true")].into_iter().chain(headers.iter().copied()).collect();
        let (status, head, updates) = peer.connect().stream("GET", path, &headers);
        assert_eq!(status, 209);
        Self { head, updates }
    }

    fn next(&mut self) -> RawUpdate {
        read_raw(&mut self.updates).expect("the stream goes on")
    }
}

#[test]
fn a_text_that_nobody_has_written_is_empty_to_who_edits_texts() {
    let peer = Peer::start();
    let mut client = peer.connect();
    client.send("GET", "/t", &[], "").problem(404);
    for kind in [SIMPLETON, DT] {
        let answer = client.send("GET", "/t", &[kind], "");
        assert_eq!((answer.status, answer.text().as_str(), answer.header("version")), (200, "", Some("")));
        assert_eq!(answer.header("merge-type"), Some(kind.1));
        assert_eq!(client.send("HEAD", "/t", &[kind], "").header("merge-type"), Some(kind.1));
        let mut stream = Stream::open(&peer, "/t", &[kind]);
        assert_eq!(stream.head.one("merge-type"), Some(kind.1));
        let first = stream.next();
        assert_eq!((first.status, first.version, first.parents, first.body), (200, vec![], vec![], RawBody::Whole(vec![])));
    }
    peer.put("/json", &json!({"a": 1}));
    client.send("GET", "/json", &[SIMPLETON], "").problem(406);
    client.send("GET", "/json", &[SIMPLETON, ("Subscribe", "true")], "").problem(406);
    assert_eq!(client.send("HEAD", "/json", &[DT], "").header("merge-type"), None);
}

#[test]
fn a_text_says_what_clients_look_for() {
    let peer = Peer::start();
    let mut client = peer.connect();
    assert_eq!(client.send("PUT", "/t", &[SIMPLETON, ("Version", "\"a-4\""), ("Parents", "")], "h\u{e9}llo").status, 200);
    for method in ["GET", "HEAD"] {
        let answer = client.send(method, "/t", &[], "");
        for (name, value) in [
            ("merge-type", "simpleton"),
            ("accept-subscribe", "true"),
            ("version", "\"a-4\""),
            ("content-type", "text/plain; charset=utf-8"),
            ("repr-digest", &*digest("h\u{e9}llo")),
            ("content-length", "6"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {name}");
        }
        assert_eq!(client.send(method, "/t", &[DT], "").header("merge-type"), Some("dt"));
    }
    // Every event is a version. What is read as JSON has another representation.
    let old = client.send("GET", "/t", &[("Version", "\"a-1\"")], "");
    assert_eq!((old.text().as_str(), old.version(), old.header("current-version")), ("h\u{e9}", "\"a-1\"", Some("\"a-4\"")));
    assert_eq!(client.send("GET", "/t", &[("Accept", "application/json")], "").header("repr-digest"), None);
    let mut stream = Stream::open(&peer, "/t", &[SIMPLETON]);
    let first = stream.next();
    assert_eq!((first.version, first.parents, first.body), (vec!["a-4".to_owned()], vec![], RawBody::Whole("h\u{e9}llo".into())));
    assert_eq!(first.headers.one("repr-digest"), Some(&*digest("h\u{e9}llo")));
}

#[test]
fn who_merges_simply_has_one_line_of_time() {
    let peer = Peer::start();
    let mut client = peer.connect();
    edit(&mut client, "/t", ("\"a-4\"", ""), "[0:0]", "hello", &[]);
    let mut mine = Stream::open(&peer, "/t", &[SIMPLETON, ("Peer", "\"b\"")]);
    let mut theirs = Stream::open(&peer, "/t", &[SIMPLETON, ("Peer", "other")]);
    let (mut text, mut other) = (apply_text("", &mine.next().body), apply_text("", &theirs.next().body));
    // Upon all there is: nobody else is in between, so the writer hears nothing.
    assert_eq!(edit(&mut client, "/t", ("\"b-0\"", "\"a-4\""), "[5:5]", "!", &[("Peer", "b")]).versions(), ["b-0"]);
    text.push('!');
    // Upon what the writer had, while others went on: the writer is sent what that changes, from its own version on.
    edit(&mut client, "/t", ("\"c-6\"", "\"b-0\""), "[0:0]", "\u{1f600} So: ", &[]);
    let update = mine.next();
    assert_eq!((&update.version, &update.parents), (&vec!["c-6".to_owned()], &vec!["b-0".to_owned()]));
    let before = text.clone();
    text = apply_text(&text, &update.body);
    assert_eq!(text, "\u{1f600} So: hello!");
    assert_eq!(edit(&mut client, "/t", ("\"b-3\"", "\"b-0\""), "[5:6]", "??", &[("Peer", "b")]).versions(), ["b-3", "c-6"]);
    let own = before.replace('!', "??");
    let rebase = mine.next();
    assert_eq!((&rebase.version, &rebase.parents), (&vec!["b-3".to_owned(), "c-6".into()], &vec!["b-3".to_owned()]));
    text = apply_text(&own, &rebase.body);
    assert_eq!(text, "\u{1f600} So: hello??");
    assert_eq!(rebase.headers.one("repr-digest"), Some(&*digest(&text)));
    // Everybody else has the same, in steps that fit together.
    let mut at = vec!["a-4".to_owned()];
    while other != text {
        let update = theirs.next();
        assert_eq!(update.parents, at);
        (other, at) = (apply_text(&other, &update.body), update.version);
    }
    // Coming back.
    for (parents, had) in [("\"a-4\"", "hello"), ("\"b-3\"", &*own), ("\"b-3\", \"c-6\"", &*text), ("\"a-1\"", "he")] {
        let mut back = Stream::open(&peer, "/t", &[SIMPLETON, ("Parents", parents)]);
        assert_eq!(back.head.one("current-version"), Some("\"b-3\", \"c-6\""));
        if had != text {
            let update = back.next();
            assert_eq!(print_versions(&update.parents), parents);
            assert_eq!(apply_text(had, &update.body), text);
        }
        edit(&mut client, "/other", ("\"x-0\"", ""), "[0:0]", "x", &[]);
        drop(back);
    }
    // What is deleted is empty, and goes on when somebody writes anew.
    client.send("DELETE", "/t", &[], "");
    let gone = mine.next();
    assert_eq!((apply_text(&text, &gone.body), gone.parents), (String::new(), rebase.version));
    client.send("PUT", "/t", &[("Content-Type", "text/markdown")], "# new");
    let new = mine.next();
    assert_eq!((apply_text("", &new.body), new.parents), ("# new".to_owned(), gone.version));
}

#[test]
fn what_was_written_before_the_subscription_came_is_where_its_writer_is() {
    let peer = Peer::start();
    let mut client = peer.connect();
    edit(&mut client, "/t", ("\"a-4\"", ""), "[0:0]", "hello", &[]);
    edit(&mut client, "/t", ("\"c-1\"", "\"a-4\""), "[0:0]", "> ", &[]);
    edit(&mut client, "/t", ("\"b-1\"", "\"a-4\""), "[5:5]", "!?", &[("Peer", "b")]);
    // Its subscription names what it had when it was sent; its writes went by another connection and were faster.
    let begun = |headers: &[(&str, &str)]| Stream::open(&peer, "/t", &[&[SIMPLETON, ("Peer", "b")], headers].concat());
    let tip = vec!["b-1".to_owned(), "c-1".into()];
    for (had, parents) in [("", vec![]), ("hello", vec!["a-4".to_owned()]), ("> hello", vec!["c-1".to_owned()])] {
        let names = print_versions(&parents);
        let mut stream = if parents.is_empty() { begun(&[]) } else { begun(&[("Parents", &names)]) };
        for (had, parents) in [(had, parents), ("hello!?", vec!["b-1".to_owned()])] {
            let update = stream.next();
            assert_eq!((&update.version, &update.parents), (&tip, &parents));
            assert_eq!(apply_text(had, &update.body), "> hello!?");
        }
    }
    // Who has what he wrote is told once.
    let mut told = begun(&[("Parents", "\"b-1\"")]);
    assert_eq!(told.next().parents, ["b-1"]);
    let mut whole = begun(&[("Parents", "\"b-1\", \"c-1\"")]);
    edit(&mut client, "/t", ("\"c-2\"", "\"b-1\", \"c-1\""), "[0:0]", ">", &[]);
    for stream in [&mut told, &mut whole] {
        assert_eq!(stream.next().parents, tip);
    }
}

#[test]
fn a_digest_of_edits_is_checked_before_they_are_made() {
    let peer = Peer::start();
    let mut client = peer.connect();
    edit(&mut client, "/t", ("\"a-4\"", ""), "[0:0]", "hello", &[]);
    // Somebody was faster, which is no mistake of the writer.
    edit(&mut client, "/t", ("\"c-0\"", "\"a-4\""), "[0:0]", "x", &[]);
    edit(&mut client, "/t", ("\"b-0\"", "\"a-4\""), "[5:5]", "!", &[("Repr-Digest", &digest("xhello!"))]).problem(550);
    assert_eq!(client.send("GET", "/t", &[], "").text(), "xhello");
    assert_eq!(edit(&mut client, "/t", ("\"b-0\"", "\"a-4\""), "[5:5]", "!", &[("Repr-Digest", &digest("hello!"))]).status, 200);
    let two = "Content-Length: 1\r\nContent-Range: text [-1:-0]\r\n\r\n?\r\n\r\nContent-Length: 0\r\nContent-Range: text [0:1]\r\n\r\n";
    let headers = |digest: &str| vec![("Patches".to_owned(), "2".to_owned()), ("Repr-Digest".into(), digest.to_owned())];
    for (wanted, status) in [("xhello?", 550), ("hello?", 200)] {
        let headers = headers(&digest(wanted));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(client.send("PUT", "/t", &headers, two).status, status, "{wanted}");
    }
    assert_eq!(client.send("GET", "/t", &[], "").text(), "hello?");
}

#[test]
fn numbers_may_leave_gaps_and_overlap_but_not_lie() {
    let peer = Peer::start();
    let mut client = peer.connect();
    // The first one says 11 and has three events.
    assert_eq!(edit(&mut client, "/t", ("\"hi-11\"", ""), "[0:0]", "abc", &[DT]).status, 200);
    assert_eq!(client.send("GET", "/t", &[("Version", "\"hi-9\"")], "").text(), "a");
    assert_eq!(client.send("GET", "/t", &[("Version", "\"hi-8\"")], "").status, 309);
    // The same with more at its end: only that is new.
    assert_eq!(edit(&mut client, "/t", ("\"hi-13\"", ""), "[0:0]", "abcde", &[DT]).status, 200);
    assert_eq!(client.send("GET", "/t", &[], "").text(), "abcde");
    assert_eq!(edit(&mut client, "/t", ("\"hi-13\"", ""), "[0:0]", "abcde", &[DT]).status, 200);
    // Something else under known names, and a number that is too low.
    edit(&mut client, "/t", ("\"hi-13\"", ""), "[0:0]", "abXde", &[DT]).problem(409);
    edit(&mut client, "/t", ("\"low-1\"", "\"hi-13\""), "[0:0]", "three", &[DT]).problem(400);
    edit(&mut client, "/t", ("\"far-0\"", "\"hi-13\""), "[6:6]", "x", &[DT]).problem(416);
    assert_eq!(client.send("GET", "/t", &[], "").text(), "abcde");
    // Deletions are numbered from the end of their range.
    assert_eq!(edit(&mut client, "/t", ("\"d-3\"", "\"hi-13\""), "[1:5]", "", &[DT]).status, 200);
    assert_eq!(client.send("GET", "/t", &[("Version", "\"d-0\"")], "").text(), "abcd");
}

/// A vector: updates, and what they lead to.
fn vectors() -> Option<Vec<Value>> {
    let all: Vec<Value> = serde_json::from_slice(&data::file("01-editing-traces/dt-vectors-even.json.gz")?).expect("JSON");
    let count = if crate::peer::is_full_run() { all.len() } else { VECTORS };
    Some(all.into_iter().take(count).collect())
}

fn ids(json: &Value) -> Vec<String> {
    json.as_array().expect("ids").iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// Sends an update as stock clients do.
fn send(client: &mut Client, path: &str, version: &[String], parents: &[String], patches: &[(String, Vec<u8>)]) {
    let (version, parents, count) = (print_versions(version), print_versions(parents), patches.len().to_string());
    let mut headers = vec![("Version", version.as_str()), ("Parents", &parents), DT];
    let mut body = Vec::new();
    if let [(range, content)] = patches {
        headers.push(("Content-Range", range));
        body.extend_from_slice(content);
    } else {
        headers.push(("Patches", &count));
        for (range, content) in patches {
            body.extend_from_slice(format!("content-length: {}\r\ncontent-range: {range}\r\n\r\n", content.len()).as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n\r\n");
        }
    }
    let answer = client.send("PUT", path, &headers, body);
    assert_eq!(answer.status, 200, "{version} on {parents}: {}", answer.text());
}

#[test]
fn golden_vectors_come_out_the_same_over_http() {
    let Some(vectors) = vectors() else { return };
    let peer = Peer::start();
    let mut client = peer.connect();
    for (number, vector) in vectors.iter().enumerate() {
        let (path, copy) = (format!("/v/{number}"), format!("/copy/{number}"));
        // A client that merges itself listens from the beginning, one that does not as well.
        let mut live = Stream::open(&peer, &path, &[DT]);
        assert_eq!(live.next().body, RawBody::Whole(vec![]));
        let mut simple = Stream::open(&peer, &path, &[SIMPLETON]);
        let updates = vector["updates"].as_array().expect("updates");
        for update in updates {
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            let patches: Vec<_> = update["patches"].as_array().expect("patches").iter().collect();
            let patches: Vec<_> =
                patches.iter().map(|patch| (format!("text {}", text(&patch["range"])), text(&patch["content"]).into_bytes())).collect();
            send(&mut client, &path, &ids(&update["version"]), &ids(&update["parents"]), &patches);
        }
        let tip = client.send("GET", &path, &[], "");
        assert_eq!(tip.text(), vector["tip_text"].as_str().expect("a text"), "vector {number}");
        assert_eq!(tip.versions(), ids(&vector["tip_version"]), "vector {number}");
        for (update, wanted) in updates.iter().zip(vector["text_at"].as_array().expect("texts")) {
            let version = print_versions(&ids(&update["version"]));
            let then = client.send("GET", &path, &[("Version", &version)], "").text();
            assert_eq!(then, wanted.as_str().expect("a text"), "vector {number} at {version}");
            // From there to now: once, and then the end of the stream.
            let since = client.send("GET", &path, &[("Parents", &version)], "");
            assert_eq!(since.status, 209);
            let mut stream = &since.body[..];
            assert_eq!(apply_text(&then, &read_raw(&mut stream).expect("an update").body), tip.text());
            assert!(read_raw(&mut stream).is_none());
        }
        let mut seen = String::new();
        let mut at = vec![];
        while at != tip.versions() {
            let update = simple.next();
            assert_eq!(update.parents, at);
            (seen, at) = (apply_text(&seen, &update.body), update.version);
        }
        assert_eq!(seen, tip.text());
        // The events as they were made, from both streams, build the same text elsewhere.
        let mut back = Stream::open(&peer, &path, &[DT]);
        assert_eq!(back.next().body, RawBody::Whole(vec![]));
        let mut told = Vec::new();
        for (stream, to) in [(&mut live, &copy), (&mut back, &format!("{copy}-again"))] {
            while client.send("GET", to, &[DT], "").text() != tip.text() {
                let update = stream.next();
                let RawBody::Patches(patches) = &update.body else { panic!("{update:?} is no run") };
                assert_eq!(patches.len(), 1, "each run by itself");
                send(&mut client, to, &update.version, &update.parents, patches);
                told.push(update.version);
            }
        }
        assert!(told.len() >= 2 * updates.len());
    }
}

#[test]
fn who_merges_is_not_sent_its_own() {
    let peer = Peer::start();
    let mut client = peer.connect();
    let mut mine = Stream::open(&peer, "/t", &[DT, ("Peer", "me")]);
    assert_eq!(mine.next().version, Vec::<String>::new());
    edit(&mut client, "/t", ("\"me-4\"", ""), "[0:0]", "hello", &[DT, ("Peer", "\"me\"")]);
    edit(&mut client, "/t", ("\"you-1\"", "\"me-1\""), "[1:2]", "a", &[DT, ("Peer", "you")]);
    let (deleted, inserted) = (mine.next(), mine.next());
    assert_eq!((deleted.version, deleted.parents), (vec!["you-0".to_owned()], vec!["me-1".to_owned()]));
    assert_eq!(deleted.body, RawBody::Patches(vec![("text [1:2]".to_owned(), vec![])]));
    assert_eq!((inserted.version, inserted.parents), (vec!["you-1".to_owned()], vec!["you-0".to_owned()]));
    assert_eq!(client.send("GET", "/t", &[], "").text(), "hallo");
    // Coming back with everything, and with a part.
    let mut back = Stream::open(&peer, "/t", &[DT, ("Parents", "\"me-4\", \"you-0\"")]);
    assert_eq!(back.next().version, ["you-1"]);
    let unknown = client.send("GET", "/t", &[DT, ("Subscribe", "true"), ("Parents", "\"me-9\"")], "");
    assert_eq!((unknown.status, unknown.versions()), (309, vec!["me-9".to_owned()]));
}
