//! Texts and counters, as curl, a Braid client and a page meet them.

use serde_json::json;

use crate::http::read_headers;
use crate::peer::Peer;
use crate::socket::Socket;

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn read_content(headers: &crate::http::Headers, stream: &mut impl std::io::BufRead) -> Part {
    let length = headers.one("content-length").expect("a length").parse().expect("a number");
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("content");
    (headers.one("content-range").map(str::to_owned), String::from_utf8(bytes).expect("text"))
}

/// A range, and what stands there now; without a range the whole text.
type Part = (Option<String>, String);

/// One patch or snapshot of a stream: version, parents, range and content.
fn read_update(stream: &mut impl std::io::BufRead) -> (Vec<String>, Vec<String>, Vec<Part>) {
    let mut line = String::new();
    while line.trim().is_empty() {
        line.clear();
        assert!(stream.read_line(&mut line).expect("bytes") > 0, "the stream goes on");
    }
    assert!(line.starts_with("HTTP 200"), "{line}");
    let headers = read_headers(stream);
    let parts = match headers.one("patches").map(|count| count.parse::<usize>().expect("a number")) {
        None => vec![read_content(&headers, stream)],
        Some(count) => (0..count)
            .map(|_| {
                while matches!(stream.fill_buf().expect("bytes").first(), Some(b'\r' | b'\n')) {
                    stream.consume(1);
                }
                let headers = read_headers(stream);
                read_content(&headers, stream)
            })
            .collect(),
    };
    (headers.versions("version").expect("a version"), headers.versions("parents").expect("parents"), parts)
}

#[test]
fn ranges_of_the_version_that_was_seen_are_merged() {
    let peer = Peer::start();
    let made = peer.send("PUT", "/doc", &[TEXT, ("Version", "\"alice-4\""), ("Parents", "")], "hello");
    assert_eq!((made.status, made.version()), (200, "\"alice-4\""));
    let seen = ("Parents", "\"alice-4\"");
    let answer = peer.send("PUT", "/doc", &[("Content-Range", "text [5:5]"), seen, ("Version", "\"bob-6\"")], " world!");
    assert_eq!((answer.status, answer.version()), (200, "\"bob-6\""));
    let two = "Content-Length: 1\r\nContent-Range: text [0:1]\r\n\r\nJ\r\n\r\nContent-Length: 1\r\nContent-Range: text [-0:-0]\r\n\r\n?\r\n";
    let answer = peer.send("PATCH", "/doc", &[("Patches", "2"), seen, ("Version", "\"carol-2\"")], two);
    assert_eq!((answer.status, answer.version()), (200, "\"bob-6\", \"carol-2\""), "{}", answer.text());
    let whole = peer.send("GET", "/doc", &[], "");
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(["Jello world!?", "Jello? world!"].contains(&whole.text().as_str()), "{}", whole.text());
    assert_eq!(peer.send("GET", "/doc", &[("Version", "\"bob-2\"")], "").text(), "hello wo");
    assert_eq!(peer.send("GET", "/doc", &[("Accept", "application/json")], "").json(), json!(whole.text()));
    assert_eq!(peer.value("/"), json!({"doc": whole.text()}));
    // Said again, said differently, and of versions that nobody knows.
    let again = peer.send("PUT", "/doc", &[("Content-Range", "text [5:5]"), seen, ("Version", "\"bob-6\"")], " world!");
    assert_eq!((again.status, again.version()), (200, "\"bob-6\", \"carol-2\""));
    peer.send("PUT", "/doc", &[("Content-Range", "text [5:5]"), seen, ("Version", "\"bob-6\"")], " WORLD!").problem(409);
    let unknown = peer.send("PUT", "/doc", &[("Content-Range", "text [0:0]"), ("Parents", "\"bob-9\"")], "x");
    assert_eq!((unknown.status, unknown.version()), (309, "\"bob-9\""));
    peer.send("PUT", "/doc", &[("Content-Range", "text [9:9]"), seen], "x").problem(416);
    peer.send("PUT", "/doc", &[("Content-Range", "text [0:0]"), seen, ("Version", "\"dave-0\"")], "xyz").problem(400);
    peer.put("/number", &json!(7));
    peer.send("PATCH", "/number", &[("Content-Range", "text [0:0]")], "x").problem(409);
    // What changed since a version, as ranges of it.
    let since = peer.send("GET", "/doc", &[seen], "");
    assert_eq!(since.status, 209);
    let (version, parents, parts) = read_update(&mut &*since.body);
    assert_eq!((version, parents), (vec!["bob-6".to_owned(), "carol-2".to_owned()], vec!["alice-4".to_owned()]));
    assert_eq!(parts[0], (Some("text [0:1]".to_owned()), "J".to_owned()));
}

/// The longest text that there may be, from one who has time to wait, and read at once.
#[test]
fn the_longest_text_is_there_at_once_and_takes_a_few_times_its_size() {
    const TIMES_MAX: u64 = 24;
    let peer = Peer::start();
    peer.send("PUT", "/small", &[TEXT], "hello");
    let before = peer.resident_bytes();
    let text: String = (0..2_000_000).map(|number| format!("{number:07}\n")).collect();
    assert_eq!(peer.send("PUT", "/long", &[TEXT], &text).status, 200);
    let (written, shown) = (peer.peak_bytes() - before, peer.send("GET", "/long", &[], ""));
    assert!(shown.body == text.as_bytes(), "{} of {} bytes", shown.body.len(), text.len());
    assert!(written < TIMES_MAX * text.len() as u64, "{written} bytes for a text of {}", text.len());
    // So does an edit in the middle of it.
    assert_eq!(peer.send("PATCH", "/long", &[("Content-Range", "text [8000000:8000001]")], "x").status, 200);
    let edited = peer.peak_bytes() - before;
    assert!(edited < TIMES_MAX * text.len() as u64, "{edited} bytes for a text of {}", text.len());
}

#[test]
fn a_braid_client_follows_a_text_by_its_ranges() {
    let peer = Peer::start();
    peer.send("PUT", "/doc", &[("Content-Type", "text/markdown"), ("Version", "\"alice-4\"")], "hello");
    let (status, headers, mut stream) = peer.connect().stream("GET", "/doc", &[("Subscribe", "true")]);
    assert_eq!((status, headers.one("repr-type")), (209, Some("text/markdown; charset=utf-8")));
    assert_eq!(read_update(&mut stream), (vec!["alice-4".to_owned()], vec![], vec![(None, "hello".to_owned())]));
    peer.send("PUT", "/doc", &[("Content-Range", "text [0:1]"), ("Parents", "\"alice-4\""), ("Version", "\"bob-1\"")], "J");
    let patch = |range: &str, content: &str| (Some(format!("text {range}")), content.to_owned());
    assert_eq!(read_update(&mut stream), (vec!["bob-1".to_owned()], vec!["alice-4".to_owned()], vec![patch("[0:1]", "J")]));
    // Made on an older version; what is told fits the one that was told before.
    peer.send("PUT", "/doc", &[("Content-Range", "text [5:5]"), ("Parents", "\"alice-4\""), ("Version", "\"carol-0\"")], "\u{1f98a}");
    let both = vec!["bob-1".to_owned(), "carol-0".to_owned()];
    assert_eq!(read_update(&mut stream), (both.clone(), vec!["bob-1".to_owned()], vec![patch("[5:5]", "\u{1f98a}")]));
    let (_, _, mut later) = peer.connect().stream("GET", "/doc", &[("Subscribe", "true"), ("Parents", "\"alice-2\"")]);
    let (version, parents, parts) = read_update(&mut later);
    assert_eq!((version, parents), (both, vec!["alice-2".to_owned()]));
    assert_eq!(parts, [patch("[0:1]", "J"), patch("[3:3]", "lo\u{1f98a}")]);
    // Another value, which is no text.
    peer.put("/doc", &json!({"a": 1}));
    let (_, _, parts) = read_update(&mut stream);
    assert_eq!(parts, [(None, "{\"a\":1}".to_owned())]);
}

#[test]
fn pages_edit_over_the_websocket() {
    let peer = Peer::start();
    let mut ann = Socket::open(&peer);
    let mut ben = Socket::open(&peer);
    let made = ann.request(&json!({"id": 1, "text": "/doc", "value": "hello", "type": "text/markdown"}));
    assert_eq!(made["ok"], true, "{made}");
    ben.say(&json!({"id": 1, "watch": "/"}));
    while ben.hear()["caught_up"] != true {}
    let edit = |id: u32, edits: serde_json::Value| json!({"id": id, "edit": "/doc", "edits": edits, "parents": made["version"]});
    assert_eq!(ann.request(&edit(2, json!([[5, 0, "!"], [0, 1, "J"]])))["ok"], true);
    let told = ben.hear();
    assert_eq!((&told["edit"], &told["edits"]), (&json!("/doc"), &json!([[5, 0, "!"], [0, 1, "J"]])), "{told}");
    let late = ann.request(&edit(3, json!([[5, 0, " world"]])));
    assert_eq!(late["ok"], true, "{late}");
    let told = ben.hear();
    assert_eq!(told["version"], late["version"]);
    assert!(["Jello! world", "Jello world!"].contains(&peer.send("GET", "/doc", &[], "").text().as_str()));
    for (message, status) in [
        (edit(4, json!([[99, 0, "x"]])), 416),
        (edit(5, json!([[0, 0]])), 400),
        (json!({"id": 6, "edit": "/doc"}), 400),
        (json!({"id": 7, "text": "/x", "value": 7}), 400),
        (json!({"id": 8, "inc": "/doc"}), 409),
    ] {
        let answer = ann.request(&message);
        assert_eq!(answer["error"]["status"], status, "{message}: {answer}");
    }
    assert_eq!(ann.request(&json!({"id": 9, "inc": "/likes", "by": 3}))["ok"], true);
    assert_eq!(peer.value("/likes"), json!(3));
}

#[test]
fn counters_add_up() {
    let peer = Peer::start();
    for (query, expected) in [("inc=1", 1), ("inc=41", 42), ("inc=-2", 40)] {
        let answer = peer.send("POST", &format!("/n?{query}"), &[], "");
        assert_eq!((answer.status, answer.json()), (200, json!(expected)), "{query}");
    }
    for _ in 0..2 {
        assert_eq!(peer.send("POST", "/n?inc=5", &[("Version", "\"click-1\"")], "").json(), json!(45));
    }
    peer.send("PUT", "/n?inc=5", &[], "1").problem(400);
    peer.put("/o", &json!({"a": 1}));
    peer.send("POST", "/o?inc=5", &[], "").problem(409);
}
