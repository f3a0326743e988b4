use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::data;
use crate::http::{Client, encode_all};
use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn texts(name: &str) -> Option<Vec<String>> {
    let bytes = data::file(name)?;
    if name.ends_with(".json") {
        return Some(serde_json::from_slice(&bytes).expect("JSON"));
    }
    Some(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

/// Strings that broke other programs, as values and as names.
fn naughty() -> Vec<String> {
    let lists = ["02-social/blns.json", "04-protocol/attack-strings/IntrudersXSS.txt"];
    let mut all: Vec<String> = lists.into_iter().filter_map(texts).flatten().collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn naughty_strings_are_values_like_any_other() {
    let all = naughty();
    let peer = Peer::start();
    let mut client = peer.connect();
    for text in &all {
        let answer = client.send("PUT", "/value", &[JSON], json!({ "s": text, "in": [text] }).to_string());
        assert_eq!(answer.status, 200, "{text:?}: {}", answer.text());
        assert_eq!(client.send("GET", "/value", &[], "").json(), json!({ "s": text, "in": [text] }));
        let plain = client.send("GET", "/value/s", &[("Accept", "text/plain")], "");
        assert_eq!(plain.text(), *text);
    }
}

#[test]
fn naughty_strings_are_names_or_refused() {
    let all = naughty();
    let peer = Peer::start();
    let mut client = peer.connect();
    let mut expected = Map::new();
    let mut refused = 0;
    for (number, text) in all.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        // A first @ is doubled in paths, since @ names list elements.
        let at = if text.starts_with('@') { "@" } else { "" };
        let target = format!("/names/{at}{}", encode_all(text));
        let answer = client.send("PUT", &target, &[JSON], number.to_string());
        match answer.status {
            200 => {
                assert_eq!(client.send("GET", &target, &[], "").json(), json!(number), "{text:?}");
                expected.insert(text.clone(), json!(number));
            }
            status if (400..500).contains(&status) => {
                refused += 1;
                let is_bad =
                    text.len() > 255 || text.contains(['/', '\u{7f}']) || text.chars().any(char::is_control) || [".", ".."].contains(&text.as_str());
                assert!(is_bad, "{text:?} was refused: {}", answer.text());
            }
            status => panic!("{text:?}: {status}"),
        }
    }
    eprintln!("{} names, {refused} refused", all.len());
    if !all.is_empty() {
        assert_eq!(peer.value("/names"), Value::Object(expected.clone()));
        // The same names as members of an object make the same tree.
        peer.put("/object", &Value::Object(expected.clone()));
        assert_eq!(peer.value("/object"), Value::Object(expected));
    }
}

/// What a target names by the rules of the URL standard and ours, worked out without the program's code: `None`
/// if it must be refused.
fn names_of(target: &[u8]) -> Option<Vec<String>> {
    let path = target.strip_prefix(b"/")?;
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let mut names = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        let mut bytes = Vec::new();
        let mut rest = part;
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            if *first == b'%' {
                let hex = std::str::from_utf8(behind.get(..2)?).ok()?;
                if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &behind[2..];
            } else {
                bytes.push(*first);
            }
        }
        let mut name = String::from_utf8(bytes).ok()?;
        if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.chars().any(|c| c < ' ' || c == '\u{7f}') || name.len() > 255
        {
            return None;
        }
        if name.starts_with('@') {
            name = name.strip_prefix('@').filter(|name| name.starts_with('@'))?.to_owned();
        }
        names.push(name);
    }
    Some(names)
}

/// Whether a target has only bytes that URLs may have.
fn is_plain(target: &[u8]) -> bool {
    target.iter().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(byte))
}

/// Puts a number at every target, each below a folder of its own, and compares what is there with what the
/// targets name.
fn no_target_names_anything_else(targets: &[Vec<u8>]) {
    let peer = Peer::start();
    let mut client = peer.connect();
    let mut expected = BTreeMap::new();
    for (number, target) in targets.iter().enumerate() {
        if target.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'?' | b'#')) {
            continue;
        }
        let mut whole = format!("/t{number}/").into_bytes();
        whole.extend_from_slice(target.strip_prefix(b"/").unwrap_or(target));
        let mut request = b"PUT ".to_vec();
        request.extend_from_slice(&whole);
        request.extend_from_slice(
            format!(" HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1", peer.authority()).as_bytes(),
        );
        if !client.try_write(&request) {
            client = peer.connect();
            client.write(&request);
        }
        let shown = String::from_utf8_lossy(&whole).into_owned();
        let names = names_of(&whole).filter(|_| !whole.contains(&b' '));
        let Some(answer) = client.answer(false) else {
            // What is no HTTP at all may end the connection without a word.
            assert!(!is_plain(&whole), "no answer to {shown}");
            client = peer.connect();
            continue;
        };
        if answer.header("content-type").is_none() && answer.status != 200 {
            client = peer.connect();
        }
        match (answer.status, names) {
            (200, Some(names)) => drop(expected.insert(number, names)),
            (200, None) => panic!("{shown:?} was accepted"),
            (status, names) if (400..500).contains(&status) => {
                // HTTP itself refuses some bytes that are not escaped; else only length and depth may be too much.
                assert!(
                    names.is_none_or(|names| !is_plain(&whole) || names.len() > 30 || names.iter().map(String::len).sum::<usize>() > 900),
                    "{shown:?}: {}",
                    answer.text()
                );
            }
            (status, _) => panic!("{shown:?}: {status}"),
        }
    }
    let mut tree = Map::new();
    for (number, names) in &expected {
        let value = names[1..].iter().rev().fold(json!(1), |value, name| Value::Object(Map::from_iter([(name.clone(), value)])));
        tree.insert(format!("t{number}"), value);
    }
    eprintln!("{} targets, {} of them accepted", targets.len(), expected.len());
    if !expected.is_empty() {
        assert_eq!(peer.value("/"), Value::Object(tree));
    }
}

#[test]
fn nothing_climbs_out_of_the_store() {
    let Some(lines) = texts("04-protocol/attack-strings/deep_traversal.txt") else { return };
    let mut targets: Vec<Vec<u8>> = lines.iter().step_by(7).map(|line| line.replace("{FILE}", "etc/passwd").into_bytes()).collect();
    targets.extend(lines.iter().skip(3).step_by(37).map(|line| encode_all(&line.replace("{FILE}", "passwd")).into_bytes()));
    no_target_names_anything_else(&targets);
}

#[test]
fn urls_of_the_web_platform_tests_name_one_key_each() {
    let Some(bytes) = data::file("04-protocol/urltestdata.json.gz") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&bytes).expect("JSON");
    let mut targets: Vec<Vec<u8>> = Vec::new();
    for case in &cases {
        targets.extend(["pathname", "input"].into_iter().filter_map(|name| case[name].as_str()).map(|text| text.as_bytes().to_vec()));
    }
    no_target_names_anything_else(&targets);
}

#[test]
fn percent_encodings_of_one_name_are_one_key() {
    let Some(bytes) = data::file("04-protocol/percent-encoding.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&bytes).expect("JSON");
    let peer = Peer::start();
    for case in cases.iter().filter(|case| case.is_object()) {
        let input = case["input"].as_str().expect("a text");
        for (encoding, output) in case["output"].as_object().expect("outputs") {
            let output = output.as_str().expect("a text");
            let answer = peer.send("PUT", &format!("/e/{}", output.replace('\\', "%5C")), &[JSON], "1");
            if encoding == "utf-8" && !input.chars().any(|c| c < ' ') {
                assert_eq!(answer.status, 200, "{input:?} as {output}");
                assert_eq!(peer.value(&format!("/e/{}", encode_all(input))), json!(1), "{input:?}");
            } else {
                // Other encodings are other bytes: another name if they happen to be UTF-8, else refused.
                assert!(answer.status == 200 || answer.status == 400, "{input:?} as {output}: {}", answer.status);
            }
        }
    }
}

#[test]
fn names_that_look_alike_stay_apart() {
    let Some(bytes) = data::file("04-protocol/unicode-NormalizationTest.txt.gz") else { return };
    let text = String::from_utf8(bytes).expect("text");
    let peer = Peer::start();
    let mut members = Map::new();
    for (number, line) in text.lines().filter(|line| line.contains(';') && !line.starts_with(['#', '@'])).enumerate().step_by(40) {
        for form in line.split(';').take(5) {
            let name: String = form.split(' ').filter_map(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)).collect();
            members.insert(name, json!(number));
        }
    }
    let whole = Value::Object(members);
    peer.put("/forms", &whole);
    assert_eq!(peer.value("/forms"), whole);
    let mut client = peer.connect();
    for (name, value) in whole.as_object().expect("an object").iter().step_by(9) {
        assert_eq!(&client.send("GET", &format!("/forms/{}", encode_all(name)), &[], "").json(), value, "{name:?}");
    }
}

#[test]
fn no_header_breaks_the_peer() {
    let Some(files) = data::archive("04-protocol/structured-field-tests.tar.gz") else { return };
    let peer = Peer::start();
    peer.put("/x", &json!([1, 2, 3]));
    let mut client = peer.connect();
    let mut send = |method: &str, name: &str, value: &str| {
        let once = |client: &mut Client| {
            client.ask(method, "/x", &[(name, value), JSON], if method == "GET" { "" } else { "1" });
            client.answer(false).expect("an answer")
        };
        let answer = once(&mut client);
        assert!(answer.status < 500, "{method} {name}: {value}: {}", answer.status);
        if answer.status == 400 && answer.header("content-type").is_none() {
            client = peer.connect();
        }
    };
    for (path, content) in &files {
        for case in serde_json::from_slice::<Vec<Value>>(content).unwrap_or_else(|error| panic!("{path}: {error}")) {
            let raw: Vec<&str> = case["raw"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
            let value = raw.join(", ");
            if value.contains(['\r', '\n', '\0']) {
                continue;
            }
            for name in [
                "Version",
                "Parents",
                "Signature-Input",
                "Signature",
                "Range",
                "Content-Range",
                "If-Match",
                "If-None-Match",
                "Prefer",
                "Accept",
                "Patches",
            ] {
                for method in ["GET", "PUT"] {
                    send(method, name, &value);
                }
            }
        }
    }
    assert_eq!(peer.send("GET", "/x", &[], "").status, 200);
}
