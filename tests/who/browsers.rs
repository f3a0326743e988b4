use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::http::Answer;
use crate::peer::Peer;
use crate::socket::Socket;

/// Also what is answered at once, as it was asked for before.
#[test]
fn every_answer_has_its_policies_however_it_is_made() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    let mut client = peer.connect();
    for _ in 0..3 {
        let answer = client.send("GET", "/x", &[], "");
        assert_eq!(answer.status, 200);
        check_closed(&answer);
    }
    for target in ["/nothing", "/.sys/status", "/.auth", "/%zz"] {
        check_closed(&client.send("GET", target, &[], ""));
    }
}

/// Nobody was granted anything, so nobody is told that he may read.
fn check_closed(answer: &Answer) {
    for (name, _) in &answer.headers.0 {
        assert!(!name.starts_with("access-control-"), "{answer:?}");
    }
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("origin-agent-cluster", "?1"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name} of {answer:?}");
    }
    assert!(answer.header("content-security-policy").is_some_and(|policy| policy.contains("default-src")), "{answer:?}");
}

#[test]
fn a_page_may_write_only_from_our_origin_and_with_the_token() {
    let peer = Peer::start();
    let version = peer.put("/x", &json!({"a": 1}));
    let token = format!("Bearer {}", peer.token());
    let own = format!("http://{}", peer.authority());
    let other_name = format!("http://localhost:{}", peer.address().port());
    let mut client = peer.connect();
    let mut passed = 0;
    for method in ["PUT", "PATCH", "POST", "DELETE", "GET"] {
        for kind in
            [None, Some("application/x-www-form-urlencoded"), Some("text/plain"), Some("application/json"), Some("multipart/form-data; boundary=x")]
        {
            for origin in [None, Some("null"), Some("http://evil.com"), Some(other_name.as_str()), Some(own.as_str()), Some("file://"), Some("")] {
                for site in [None, Some("cross-site"), Some("same-site"), Some("none"), Some("same-origin"), Some("surprise")] {
                    for with_token in [false, true] {
                        let mut headers = vec![("Cookie", "token=1")];
                        // What would change something is refused for another reason, unless it is refused here.
                        headers.push(("If-Match", "\"never\""));
                        headers.extend(kind.map(|kind| ("Content-Type", kind)));
                        headers.extend(origin.map(|origin| ("Origin", origin)));
                        headers.extend(site.map(|site| ("Sec-Fetch-Site", site)));
                        if with_token {
                            headers.push(("Authorization", &token));
                        }
                        let answer = client.send(method, "/x", &headers, if method == "GET" { "" } else { "{\"b\":1}" });
                        check_closed(&answer);
                        let is_ours = matches!(origin, None | Some(_) if origin.is_none_or(|origin| origin == own))
                            && matches!(site, None | Some("none" | "same-origin"));
                        let is_program = origin.is_none() && site.is_none();
                        let may = if with_token { is_ours } else { is_program };
                        let is_refused = matches!(answer.status, 401 | 403);
                        assert_eq!(is_refused, !may, "{method} {headers:?}: {}", answer.status);
                        passed += usize::from(may);
                    }
                }
            }
        }
    }
    assert!(passed > 0);
    for header in [("Referer", "http://evil.com/"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "empty"), ("Origin", &own)] {
        peer.send("PUT", "/x", &[header], "2").problem(401);
    }
    // What Node says of itself makes no browser of it.
    assert_eq!(peer.send("PUT", "/node", &[("Sec-Fetch-Mode", "cors")], "2").status, 200);
    peer.send("PUT", "/node", &[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "cross-site")], "3").problem(401);
    peer.send("PUT", "/x", &[("Authorization", "Bearer nonsense")], "2").problem(401);
    peer.send("PUT", "/x", &[("Authorization", "Basic YTpi")], "2").problem(401);
    peer.send("PUT", &format!("/x?token={}", peer.token()), &[("Origin", &own)], "2");
    assert_eq!(peer.send("GET", "/x", &[], "").versions(), version);
}

#[test]
fn a_preflight_is_granted_nothing() {
    let peer = Peer::start();
    let own = format!("http://{}", peer.authority());
    for origin in ["http://evil.com", "null", &own] {
        let answer = peer.send(
            "OPTIONS",
            "/x",
            &[
                ("Origin", origin),
                ("Access-Control-Request-Method", "PUT"),
                ("Access-Control-Request-Private-Network", "true"),
                ("Access-Control-Request-Headers", "authorization"),
            ],
            "",
        );
        check_closed(&answer);
    }
}

#[test]
fn a_page_opens_a_socket_only_from_our_origin_and_says_its_token_first() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let own = format!("http://{}", peer.authority());
    let protocol = ("sec-websocket-protocol", "timebus.v1");
    for origin in ["http://evil.com", "null", "file://", &format!("http://localhost:{}", peer.address().port()), &format!("https://evil.com#{own}")] {
        assert_eq!(Socket::try_open(&peer, &[("origin", origin), protocol]).err(), Some(403), "{origin}");
        assert_eq!(
            Socket::try_open(&peer, &[("origin", origin), protocol, ("authorization", &format!("Bearer {}", peer.token()))]).err(),
            Some(403),
            "{origin}"
        );
    }
    assert_eq!(Socket::try_open(&peer, &[("sec-fetch-site", "same-origin"), protocol]).err(), Some(403), "a page without an origin");
    assert_eq!(Socket::try_open(&peer, &[("origin", &own), ("sec-fetch-site", "cross-site"), protocol]).err(), Some(403));
    assert_eq!(Socket::try_open(&peer, &[("origin", &own)]).err(), Some(400), "a page has to ask for the protocol");
    let page =
        || Socket::try_open(&peer, &[("origin", &own), ("sec-fetch-site", "same-origin"), protocol]).unwrap_or_else(|status| panic!("{status}"));
    let mut hasty = page();
    hasty.say(&json!({"id": 1, "get": "/x"}));
    let reason = hasty.try_hear().expect_err("an end");
    assert!(reason.contains("auth"), "{reason}");
    let mut wrong = page();
    wrong.say(&json!({"auth": "nonsense"}));
    assert_eq!(wrong.hear()["error"]["status"], 401);
    wrong.say(&json!({"id": 1, "put": "/x", "value": 2}));
    assert!(wrong.try_hear().is_err());
    let mut silent = page();
    let reason = silent.try_hear().expect_err("an end after five seconds");
    assert!(reason.contains("auth"), "{reason}");
    let mut right = page();
    right.say(&json!({"auth": peer.token()}));
    assert_eq!(right.hear(), json!({"auth": true}));
    assert_eq!(right.request(&json!({"id": 1, "get": "/x"}))["value"], 1);
    // A program of the owner needs none of this.
    assert_eq!(Socket::open(&peer).request(&json!({"id": 1, "get": "/x"}))["value"], 1);
    // What Node's own sends, which knows no origin. A browser says an Origin with every websocket, and where the page is from
    // with every request: with either of them it is none.
    let mode = ("sec-fetch-mode", "websocket");
    let mut node = Socket::try_open(&peer, &[mode]).unwrap_or_else(|status| panic!("{status}"));
    assert_eq!(node.request(&json!({"id": 1, "get": "/x"}))["value"], 1);
    for said in [("origin", "http://evil.com"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")] {
        assert_eq!(Socket::try_open(&peer, &[mode, said, protocol]).err(), Some(403), "{said:?}");
        peer.send("PUT", "/x", &[mode, said, ("content-type", "application/json")], "2").problem(401);
    }
    let mut odd = Socket::open(&peer);
    odd.0.send(Message::binary(vec![0, 1, 2])).expect("the peer reads");
    assert!(odd.try_hear().is_err(), "binary frames are for peers");
}

#[test]
fn a_web_origin_has_so_many_subscriptions_over_all_its_connections() {
    let peer = Peer::start();
    let own = format!("http://{}", peer.authority());
    let bearer = format!("Bearer {}", peer.token());
    let page = [("Authorization", bearer.as_str()), ("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")];
    let open = || {
        let protocol = ("sec-websocket-protocol", "timebus.v1");
        let mut socket = Socket::try_open(&peer, &[("origin", &own), protocol]).unwrap_or_else(|status| panic!("{status}"));
        socket.say(&json!({"auth": peer.token()}));
        assert_eq!(socket.hear(), json!({"auth": true}));
        socket
    };
    let watch = |socket: &mut Socket, id: u32| {
        let answer = socket.request(&json!({"id": id, "watch": format!("/{id}")}));
        answer["error"]["status"].as_u64().inspect(|status| assert_eq!(*status, 429))
    };
    let (mut first, mut second) = (open(), open());
    // As many as a socket may have, and all but one that the origin may have besides.
    for id in 0..1024 {
        assert_eq!(watch(&mut first, id), None);
    }
    for id in 1..1024 {
        assert_eq!(watch(&mut second, id), None);
    }
    let (status, _, stream) = peer.connect().stream("GET", "/x", &[&page[..], &[("Subscribe", "true")]].concat());
    assert_eq!(status, 209);
    assert_eq!(watch(&mut second, 2000), Some(429));
    assert_eq!(second.request(&json!({"id": 2000, "watch": "/.sys/held"}))["error"]["status"], 429, "what is worked out counts too");
    let target = [&page[..1], &[("Sec-Fetch-Site", "same-origin"), ("Accept", "text/event-stream")]].concat();
    peer.send("GET", "/x", &target, "").problem(429);
    // A program is none.
    assert_eq!(Socket::open(&peer).request(&json!({"id": 1, "watch": "/x"}))["absent"], true);
    assert_eq!(first.request(&json!({"id": 7, "unwatch": true}))["unwatched"], true);
    assert_eq!(watch(&mut second, 2000), None);
    drop(stream);
}

#[test]
fn what_people_stored_is_shown_but_never_run() {
    let peer = Peer::start();
    let script = "<script>alert(1)</script>";
    for (name, kind) in [
        ("x.html", "text/html"),
        ("x.svg", "image/svg+xml"),
        ("x.js", "text/javascript"),
        ("x.xhtml", "application/xhtml+xml"),
        ("x.pdf", "application/pdf"),
        ("x.mht", "multipart/related"),
    ] {
        let path = format!("/{name}");
        assert_eq!(peer.send("PUT", &path, &[("Content-Type", kind)], script).status, 200, "{name}");
        for target in [path.clone(), format!("{path}?view=raw")] {
            let answer = peer.send("GET", &target, &[], "");
            check_closed(&answer);
            assert_eq!(answer.text(), script);
            assert!(answer.header("content-security-policy").is_some_and(|policy| policy.starts_with("sandbox")), "{answer:?}");
            let is_attachment = answer.header("content-disposition").is_some_and(|how| how.starts_with("attachment"));
            if kind != "multipart/related" {
                assert_eq!(is_attachment, !target.ends_with("view=raw"), "{target}");
            }
        }
        // Whoever goes there gets our page, which shows it.
        let page = peer.send(
            "GET",
            &path,
            &[("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none"), ("Accept", "text/html,*/*")],
            "",
        );
        assert!(!page.text().contains(script), "{}", page.text());
        check_closed(&page);
    }
    // JSON with a script in it is JSON.
    peer.put("/json", &json!(script));
    assert_eq!(peer.send("GET", "/json", &[("Accept", "text/html")], "").header("content-type"), Some("application/json"));
}

#[test]
fn our_own_pages_let_nobody_in() {
    let peer = Peer::start();
    let page = peer.send("GET", "/", &[("Accept", "text/html"), ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Site", "none")], "");
    if page.status == 401 {
        eprintln!("skipped: this peer has no pages");
        return;
    }
    check_closed(&page);
    let policy = page.header("content-security-policy").expect("a policy");
    for rule in ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!(page.header("origin-agent-cluster"), Some("?1"));
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
}
