use serde_json::{Map, Value};

use crate::data;
use crate::http::{Client, encode};
use crate::peer::Peer;

/// Imports the JSON files of an archive; answers the tree that they make together.
fn import(client: &mut Client, root: &str, files: &[(String, Vec<u8>)]) -> Value {
    let mut whole = Value::Object(Map::new());
    for (path, content) in files {
        let answer =
            client.send("PUT", &format!("/{root}/{}", encode(path)), &[("Content-Type", "application/json"), ("Prefer", "respond-async")], content);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut at = &mut whole;
        for name in path.split('/') {
            at = at.as_object_mut().expect("a folder").entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        *at = serde_json::from_slice(content).expect("JSON");
    }
    whole
}

/// Values without parts, empty containers included.
fn leaves(value: &Value) -> usize {
    match value {
        Value::Object(members) if !members.is_empty() => members.values().map(leaves).sum(),
        Value::Array(items) if !items.is_empty() => items.iter().map(leaves).sum(),
        _ => 1,
    }
}

fn comes_back_identical(archive: &str, root: &str) {
    let Some(files) = data::archive(archive) else { return };
    let peer = Peer::start();
    let mut client = peer.connect();
    let whole = import(&mut client, root, &files);
    // The last write waits for the disk, and so for all before it.
    peer.put("/done", &Value::Bool(true));
    for (path, content) in &files {
        let answer = client.send("GET", &format!("/{root}/{}", encode(path)), &[], "");
        let sent: Value = serde_json::from_slice(content).expect("JSON");
        assert!(data::same(&answer.json(), &sent), "{path} differs");
    }
    let version = client.send("GET", &format!("/{root}"), &[], "").version().to_owned();
    assert!(data::same(&client.send("GET", &format!("/{root}"), &[], "").json(), &whole));
    let count = leaves(&whole);
    eprintln!("{archive}: {} files, {count} leaves", files.len());
    let lines = client.send("GET", &format!("/{root}"), &[("Accept", "application/x-ndjson")], "").text();
    assert_eq!(lines.lines().count(), count);
    assert_eq!(client.send("GET", &format!("/{root}"), &[], "").header("conflicts"), None);
    let peer = peer.restart();
    let answer = peer.send("GET", &format!("/{root}"), &[], "");
    assert!(data::same(&answer.json(), &whole), "it differs after a restart");
    assert_eq!(answer.version(), version);
    // A second import finds nothing to do.
    import(&mut peer.connect(), root, &files);
    assert_eq!(peer.send("GET", &format!("/{root}"), &[], "").version(), version);
}

#[test]
fn the_unicode_locale_data_comes_back_identical() {
    comes_back_identical("03-tree/cldr-core-supplemental.tar.gz", "cldr");
}

#[test]
fn the_browser_compatibility_data_comes_back_identical() {
    comes_back_identical("03-tree/bcd-http-svg-manifests.tar.gz", "bcd");
}
