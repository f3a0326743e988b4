use std::process::Command;

use serde_json::json;

use crate::peer::{Home, Peer};

/// Hosts that are not ours, whatever they resolve to. `PORT` is the port of the peer.
const FOREIGN: [&str; 44] = [
    "evil.com",
    "evil.com:PORT",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "localhost:1",
    "127.0.0.1:1",
    "localhost:0PORT",
    "localhost:+PORT",
    "localhost:PORT ",
    "localhost.:PORT",
    "localhost.evil.com:PORT",
    "evil.com.localhost.:PORT",
    "a.b.localhost:PORT",
    ".localhost:PORT",
    "-.localhost:PORT",
    "LOCALHOST:PORT",
    "Localhost:PORT",
    "127.0.0.2:PORT",
    "127.1:PORT",
    "127.0.1:PORT",
    "2130706433:PORT",
    "0x7f.0.0.1:PORT",
    "0177.0.0.1:PORT",
    "127.0.0.1.:PORT",
    "0.0.0.0:PORT",
    "0:PORT",
    "192.168.0.1:PORT",
    "10.0.0.1:PORT",
    "169.254.169.254:PORT",
    "[::ffff:127.0.0.1]:PORT",
    "[0:0:0:0:0:0:0:1]:PORT",
    "[::]:PORT",
    "[fe80::1]:PORT",
    "::1:PORT",
    "user@localhost:PORT",
    "localhost:PORT@evil.com",
    "localhost:PORT,evil.com",
    "localhost:PORT evil.com",
    "http://localhost:PORT",
    "localhost:PORT/",
    "localhost:PORT#",
    "l\u{f6}calhost:PORT",
    "",
];

#[test]
fn foreign_hosts_are_turned_away_before_anything_else() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let port = peer.address().port().to_string();
    let mut bodies = std::collections::BTreeSet::new();
    for host in FOREIGN.map(|host| host.replace("PORT", &port)) {
        if host.ends_with(' ') {
            // Blanks around a header value are not part of it.
            continue;
        }
        let upgrade =
            [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")];
        for (method, target, more) in [
            ("GET", "/x", vec![]),
            ("OPTIONS", "/x", vec![]),
            ("PUT", "/x", vec![]),
            ("BREW", "/a//b", vec![]),
            ("GET", "/", upgrade.to_vec()),
            ("GET", "/.sys/status", vec![]),
        ] {
            let mut headers = vec![("Host", host.as_str())];
            headers.extend(more);
            let answer = peer.send(method, target, &headers, if method == "PUT" { "2" } else { "" });
            assert_eq!(answer.status, 421, "{method} {target} for {host:?}: {}", answer.text());
            bodies.insert(answer.text());
        }
    }
    assert_eq!(bodies.len(), 1, "every refusal is the same: {bodies:?}");
    assert!(bodies.iter().all(|body| body.len() < 500));
    assert_eq!(peer.value("/x"), json!(1));
}

#[test]
fn unclear_hosts_are_turned_away() {
    let peer = Peer::start();
    let own = peer.authority();
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {own}\r\nHost: evil.com\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        format!("GET http://evil.com/ HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        format!("GET http://{own}/ HTTP/1.1\r\nHost: evil.com\r\n\r\n"),
        format!("CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    ] {
        let mut client = peer.connect();
        client.write(&request);
        let (status, _, _) = client.head().expect("an answer");
        assert!(matches!(status, 400 | 421), "{status} to {request}");
    }
}

#[test]
fn names_of_ours_are_answered() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let port = peer.address().port();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(peer.send("GET", "/x", &[("Host", &format!("{host}:{port}"))], "").status, 200, "{host}");
    }
    peer.send("GET", "/x", &[("Host", &format!("chirp.localhost:{port}"))], "").problem(404);
}

/// Which apps somebody has, also as whom, is not for those who come from elsewhere: by a proxy, or to a port that is open.
#[test]
fn apps_are_for_whoever_sits_at_this_machine() {
    let peer = Peer::start();
    assert_eq!(crate::peers::neighbours::run(peer.home(), &["app", "install", "board", "--yes"]).code, 0);
    let ask = |name: &str, more: &[(&str, &str)]| {
        let host = format!("{name}.localhost:{}", peer.address().port());
        peer.send("GET", "/", &[&[("Host", host.as_str())], more].concat(), "")
    };
    assert_eq!((ask("board", &[]).status, ask("nought", &[]).status), (200, 404));
    let by_proxy = [("X-Forwarded-For", "203.0.113.9")];
    let told = ["board", "nought"].map(|name| ask(name, &by_proxy));
    assert_eq!((told[0].status, told[0].text()), (421, told[1].text()));
    // Where this is a container of it, it comes from elsewhere.
    let net = [&crate::peer::NET[..], &["--host", "localhost"]].concat();
    let inside = Peer::launch_as(Home::new(), &mut Command::new(crate::peer::PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    let host = format!("nought.localhost:{}", inside.address().port());
    assert_eq!(inside.send("GET", "/", &[("Host", &host), by_proxy[0]], "").status, 404);
}

/// A proxy that runs as the owner's user asks for everybody.
#[test]
fn who_comes_by_a_proxy_is_not_the_owner() {
    let peer = Peer::start();
    peer.put("/secret", &json!("mine"));
    let said = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via", "X-Real-IP", "CF-Connecting-IP"];
    for name in said {
        for (method, body) in [("GET", ""), ("PUT", "1")] {
            let answer = peer.send(method, "/secret", &[(name, "for=203.0.113.9")], body);
            assert!(matches!(answer.status, 401 | 403 | 404), "{method} with {name}: {}", answer.status);
        }
    }
    assert_eq!(peer.value("/secret"), "mine");
    // Many say nothing of the kind, or have the name of this machine in `Host`.
    let home = peer.stop();
    let args = ["--no-lan", "--udp", "127.0.0.1:0", "--host", "alice.example:443"];
    let peer = Peer::launch_as(home, &mut Command::new(crate::peer::PROGRAM), &args).unwrap_or_else(|(_, status)| panic!("{status}"));
    let bearer = format!("Bearer {}", peer.token());
    let own = peer.authority();
    for host in ["alice.example", "alice.example:443", &*own] {
        let ask = |target: &str, more: &str| {
            let mut client = peer.connect();
            client.write(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").as_bytes());
            client.answer(false).expect("an answer").status
        };
        for target in ["/secret", "/.sys/status", "/.sys/backup"] {
            assert!(matches!(ask(target, ""), 401 | 403 | 404), "{target} by {host}");
        }
        assert_eq!(ask("/secret", &format!("Authorization: {bearer}\r\n")), 200, "{host}");
    }
}

#[test]
fn another_user_of_this_machine_is_nobody() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root, who could become somebody else");
        return;
    }
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let curl = |user: &str, more: &[&str]| {
        let output = Command::new("setpriv")
            .args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(more)
            .arg(format!("http://{}/x", peer.authority()))
            .output();
        output.ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    match curl("0", &[]) {
        Some(status) if status == "200" => {}
        other => {
            eprintln!("skipped: no setpriv or curl ({other:?})");
            return;
        }
    }
    assert_eq!(curl("65534", &[]).as_deref(), Some("401"));
    assert_eq!(curl("65534", &["-X", "PUT", "-d", "2"]).as_deref(), Some("401"));
    let token = peer.token();
    assert_eq!(curl("65534", &["-H", &format!("Authorization: Bearer {token}")]).as_deref(), Some("200"));
    assert_eq!(peer.value("/x"), json!(1));
}
