//! One origin and one token per app: what a page may do, and what no other page may.

use serde_json::{Value, json};

use crate::http::Answer;
use crate::peer::{Home, Peer};
use crate::peers::neighbours::run;
use crate::socket::Socket;

/// An app that wants two folders, of oneself and of others, and to know who is here.
const WANTS: &str = r#"[{"path":"/boards","may":["read","write"],"why":"boards"},{"path":"/boards","of":"others","may":["read"]},
    {"path":"/.sys/spaces","may":["read"]}]"#;

/// Writes an app into a folder beside a home.
pub(crate) fn folder(home: &Home, name: &str, wants: &str, page: &str) -> String {
    let folder = home.beside(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let manifest = format!(r#"{{"name":"{name}","title":"The {name}","about":"For a test","wants":{wants}}}"#);
    std::fs::write(folder.join("app.json"), manifest).expect("written");
    std::fs::write(folder.join("index.html"), page).expect("written");
    folder.display().to_string()
}

/// Installs an app from a folder; answers what the program says of it.
pub(crate) fn install(peer: &Peer, folder: &str) -> Value {
    let ran = run(peer.home(), &["--json", "app", "install", folder, "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(ran.out.lines().last().unwrap_or_default()).expect("JSON")
}

/// An origin of an app, as its pages ask it.
pub(crate) struct Origin<'a> {
    peer: &'a Peer,
    pub(crate) host: String,
    pub(crate) origin: String,
}

impl<'a> Origin<'a> {
    pub(crate) fn new(peer: &'a Peer, alias: &str) -> Self {
        let host = format!("{alias}.localhost:{}", peer.address().port());
        Self { peer, origin: format!("http://{host}"), host }
    }

    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("Host", self.host.as_str())];
        all.extend(headers);
        self.peer.send(method, target, &all, body)
    }

    /// What a page of it gets.
    pub(crate) fn token(&self) -> String {
        let answer = self.ask("POST", "/.sys/token", &[("Origin", &self.origin), ("Sec-Fetch-Site", "same-origin")], "{}");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Asks as a page with a token.
    pub(crate) fn page(&self, token: &str, method: &str, target: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let kind = ("Content-Type", "application/json");
        self.ask(method, target, &[("Authorization", &bearer), ("Origin", &self.origin), ("Sec-Fetch-Site", "same-origin"), kind], body)
    }
}

fn me(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("a key").to_owned()
}

#[test]
fn a_page_gets_its_token_and_no_other_page_does() {
    let peer = Peer::start();
    install(&peer, &folder(peer.home(), "board", WANTS, "<p>hi"));
    let app = Origin::new(&peer, "board");
    assert!(!app.token().is_empty());
    let other = format!("http://other.localhost:{}", peer.address().port());
    let root = format!("http://localhost:{}", peer.address().port());
    for origin in ["http://evil.com", "null", &other, &root, "http://board.localhost", "https://evil.com#http://board.localhost"] {
        app.ask("POST", "/.sys/token", &[("Origin", origin)], "{}").problem(403);
    }
    app.ask("POST", "/.sys/token", &[], "{}").problem(403);
    for site in ["cross-site", "same-site"] {
        app.ask("POST", "/.sys/token", &[("Origin", &app.origin), ("Sec-Fetch-Site", site)], "{}").problem(403);
    }
    assert_ne!(app.ask("GET", "/.sys/token", &[("Origin", &app.origin)], "").status, 200);
    peer.send("POST", "/.sys/token", &[("Origin", &format!("http://{}", peer.authority()))], "{}").problem(401);
    let nobody = Origin::new(&peer, "nobody");
    nobody.ask("POST", "/.sys/token", &[("Origin", &nobody.origin)], "{}").problem(404);
}

#[test]
fn a_token_does_what_the_card_said_and_nothing_else() {
    let peer = Peer::start();
    peer.put("/notes", &json!("secret"));
    install(&peer, &folder(peer.home(), "board", WANTS, "<p>hi"));
    let (app, me) = (Origin::new(&peer, "board"), me(&peer));
    let token = app.token();
    assert_eq!(app.page(&token, "PUT", &format!("/@{me}/boards/a"), r#"{"title":"A"}"#).status, 200);
    assert_eq!(app.page(&token, "GET", &format!("/@{me}/boards"), "").json(), json!({"a": {"title": "A"}}));
    assert_eq!(app.page(&token, "GET", "/.sys/app", "").json()["me"], json!(me));
    assert_eq!(app.page(&token, "GET", "/.sys/spaces", "").status, 200);
    let beyond = ["/notes", "", "/boardsx", "/.apps", "/.auth", "/.drop"];
    for path in beyond {
        for (method, body) in [("GET", ""), ("PUT", "1"), ("PATCH", "{}"), ("POST", "1"), ("DELETE", "")] {
            let answer = app.page(&token, method, &format!("/@{me}{path}"), body);
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
        }
    }
    for (method, part) in [
        ("GET", "status"),
        ("GET", "log"),
        ("GET", "peers"),
        ("GET", "backup"),
        ("POST", "login-code"),
        ("POST", "down"),
        ("POST", "spaces"),
        ("GET", "apps"),
        ("POST", "apps/install"),
        ("POST", "follow"),
        ("GET", &format!("log/@{me}/boards")),
    ] {
        let answer = app.page(&token, method, &format!("/.sys/{part}"), "{}");
        assert_eq!(answer.status, 403, "{method} {part}: {}", answer.text());
    }
    app.ask("GET", &format!("/@{me}/boards"), &[("Origin", &app.origin)], "").problem(401);
    assert_eq!(peer.value("/notes"), json!("secret"));
}

#[test]
fn a_token_is_good_at_its_own_origin_alone() {
    let peer = Peer::start();
    for name in ["one", "two"] {
        install(&peer, &folder(peer.home(), name, WANTS, "<p>hi"));
    }
    let (one, two, me) = (Origin::new(&peer, "one"), Origin::new(&peer, "two"), me(&peer));
    let (first, second) = (one.token(), two.token());
    assert_ne!(first, second);
    let target = format!("/@{me}/boards");
    for (origin, token) in [(&one, &second), (&two, &first), (&one, &peer.token())] {
        origin.page(token, "GET", &target, "").problem(403);
        origin.page(token, "PUT", &target, "1").problem(403);
    }
    // At the peer's own origin a page with an app's token is nobody's.
    let root = format!("http://{}", peer.authority());
    let answer = peer.send("GET", "/boards", &[("Authorization", &format!("Bearer {first}")), ("Origin", &root)], "");
    answer.problem(403);
    // A page of another origin that got hold of a token is still another origin.
    let answer = one.ask("GET", &target, &[("Authorization", &format!("Bearer {first}")), ("Origin", "http://evil.com")], "");
    answer.problem(403);
}

#[test]
fn a_socket_is_the_apps_and_ends_with_it() {
    let peer = Peer::start();
    for name in ["one", "two"] {
        install(&peer, &folder(peer.home(), name, WANTS, "<p>hi"));
    }
    let (one, two, me) = (Origin::new(&peer, "one"), Origin::new(&peer, "two"), me(&peer));
    let protocol = ("sec-websocket-protocol", "timebus.v1");
    let page = |origin: &Origin<'_>, from: &str| Socket::try_open(&peer, &[("host", &origin.host), ("origin", from), protocol]);
    assert_eq!(page(&one, &two.origin).err(), Some(403));
    assert_eq!(page(&one, "http://evil.com").err(), Some(403));
    let mut wrong = page(&one, &one.origin).expect("a socket");
    wrong.say(&json!({"auth": two.token()}));
    assert_eq!(wrong.hear()["error"]["status"], 403);
    let mut right = page(&one, &one.origin).expect("a socket");
    right.say(&json!({"auth": one.token()}));
    assert_eq!(right.hear(), json!({"auth": true}));
    assert_eq!(right.request(&json!({"id": 1, "put": format!("/@{me}/boards/a"), "value": 1}))["ok"], true);
    assert_eq!(right.request(&json!({"id": 2, "get": format!("/@{me}/notes")}))["error"]["status"], 403);
    assert_eq!(right.request(&json!({"id": 3, "watch": format!("/@{me}")}))["error"]["status"], 403);
    assert_eq!(right.request(&json!({"id": 4, "watch": format!("/@{me}/boards")}))["snapshot"], json!({"a": 1}));
    let removed = run(peer.home(), &["app", "remove", "one"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    let closed = (0..4).map(|_| right.hear()).find(|heard| heard.get("closed").is_some()).expect("an end");
    assert_eq!((&closed["id"], &closed["closed"]), (&json!(4), &json!("revoked")), "{closed}");
    assert_eq!(right.request(&json!({"id": 5, "get": format!("/@{me}/boards/a")}))["error"]["status"], 403);
    assert_eq!(peer.value("/boards/a"), json!(1), "what it wrote stays");
}

/// Threats H6 and H7: every answer of an app's origin says what may run there.
#[test]
fn every_answer_of_an_apps_origin_is_guarded() {
    let peer = Peer::start();
    peer.send("PUT", "/boards/evil", &[("Content-Type", "text/html")], "<script>alert(1)</script>");
    install(&peer, &folder(peer.home(), "board", WANTS, "<script>f()</script><style>p{}</style>"));
    let (app, me) = (Origin::new(&peer, "board"), me(&peer));
    let token = app.token();
    let html = [("Accept", "text/html"), ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Site", "none")];
    let mut answers = vec![app.page(&token, "GET", &format!("/@{me}/boards/evil"), ""), app.page(&token, "GET", "/.sys/app", "")];
    for target in
        ["/", "/sdk.js", "/sdk/wire.js", "/app.json", "/nothing.js", "/a/place", "/.sys/status", "/.gui/main.js", "/notes", "/%zz", "/favicon.ico"]
    {
        answers.push(app.ask("GET", target, &[], ""));
        answers.push(app.ask("GET", target, &html, ""));
    }
    answers.push(app.ask("OPTIONS", "/", &[("Origin", "http://evil.com"), ("Access-Control-Request-Method", "PUT")], ""));
    for answer in &answers {
        let has = |name: &str, value: &str| assert_eq!(answer.header(name), Some(value), "{answer:?}");
        has("x-content-type-options", "nosniff");
        has("cross-origin-resource-policy", "same-origin");
        has("cross-origin-opener-policy", "same-origin");
        has("origin-agent-cluster", "?1");
        has("referrer-policy", "no-referrer");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("frame-ancestors 'none'") || policy.contains("sandbox"), "{answer:?}");
        assert!(!policy.contains("unsafe"), "{answer:?}");
        assert!(answer.headers.0.iter().all(|(name, _)| !name.starts_with("access-control-") && name != "set-cookie"), "{answer:?}");
    }
    let page = app.ask("GET", "/", &html, "");
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(
        policy.starts_with("default-src 'self'; script-src 'self' 'sha256-GcEEE0IkDzIP5EQ6DXZaDPORqT5RTBELX8Fyzyg9yvo='; style-src 'self' 'sha256-"),
        "{policy}"
    );
    // Nothing of the peer's own pages, and nothing of the owner's values, is of an app's origin.
    assert_eq!(app.ask("GET", "/.gui/main.js", &[], "").status, 404);
    assert_eq!(app.ask("GET", "/boards", &[], "").status, 404);
    assert_ne!(app.ask("GET", &format!("/@{me}/boards/evil"), &html, "").status, 200, "an address alone gives no right");
    for method in ["PUT", "POST", "DELETE"] {
        app.ask(method, "/index.html", &[], "x").problem(405);
    }
}

/// Anybody may read it, and it says that it is a script: it is of the origin of the page, and the page's policy lets that run.
#[test]
fn what_people_stored_is_no_script_of_a_page() {
    let peer = Peer::start();
    let folder = folder(peer.home(), "board", WANTS, "<script src='app.js'></script>");
    std::fs::write(format!("{folder}/app.js"), "1").expect("written");
    install(&peer, &folder);
    let app = Origin::new(&peer, "board");
    for (name, kind) in [("evil.js", "text/javascript"), ("evil.css", "text/css"), ("cat.png", "image/png")] {
        assert!(peer.send("PUT", &format!("/public/{name}"), &[("Content-Type", kind)], "alert(1)").status < 300);
    }
    assert_eq!(run(peer.home(), &["grant", "/public", "anyone", "--can", "read"]).code, 0);
    let me = me(&peer);
    let as_page = |dest: &'static str| [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", dest)];
    let kind = |answer: &Answer| answer.header("content-type").unwrap_or_default().to_owned();
    for space in [format!("/@{me}"), format!("/%40{me}")] {
        let at = |name: &str| format!("{space}/public/{name}");
        for dest in ["script", "style", "worker", "serviceworker"] {
            app.ask("GET", &at("evil.js"), &as_page(dest), "").problem(403);
            peer.send("GET", &format!("{}?view=raw", at("evil.js")), &as_page(dest), "").problem(403);
            peer.send("GET", "/public/evil.css?view=raw", &as_page(dest), "").problem(403);
        }
        // Where a browser does not say what for, it is not called a script; to programs it is what it is.
        for name in ["evil.js", "evil.css"] {
            let answer = app.ask("GET", &at(name), &[], "");
            assert_eq!((answer.status, kind(&answer).as_str()), (200, "application/octet-stream"), "{name}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
        let picture = app.ask("GET", &at("cat.png"), &as_page("image"), "");
        assert_eq!((picture.status, kind(&picture).as_str()), (200, "image/png"));
    }
    assert!(kind(&peer.send("GET", "/public/evil.js?view=raw", &[], "")).starts_with("text/javascript"));
    // What was installed runs.
    for name in ["/app.js", "/sdk.js"] {
        let answer = app.ask("GET", name, &as_page("script"), "");
        assert_eq!((answer.status, kind(&answer).contains("javascript")), (200, true), "{name}");
    }
    let page = peer.send("GET", "/", &[("Accept", "text/html")], "").text().to_owned();
    let script = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a script").to_owned();
    assert_eq!(peer.send("GET", &script, &as_page("script"), "").status, 200, "{script}");
}

#[test]
fn an_app_can_have_a_port_of_its_own_for_browsers_that_know_no_localhost_names() {
    let peer = Peer::start();
    install(&peer, &folder(peer.home(), "board", WANTS, "<p>mine"));
    let opened = run(peer.home(), &["--json", "app", "open", "board", "--port"]);
    assert_eq!(opened.code, 0, "{opened:?}");
    let opened: Value = serde_json::from_str(&opened.out).expect("JSON");
    let url = opened["url"].as_str().expect("an address");
    let authority = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a host").0.to_owned();
    let port: u16 = authority.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let ask = |method: &str, target: &str, headers: &[(&str, &str)]| {
        let mut client = crate::http::Client::connect(([127, 0, 0, 1], port).into());
        client.send(method, target, headers, "{}")
    };
    let page = ask("GET", "/", &[("Host", &authority)]);
    assert_eq!(page.text(), "<p>mine");
    let origin = format!("http://{authority}");
    assert_eq!(ask("POST", "/.sys/token", &[("Host", &authority), ("Origin", &origin)]).status, 200);
    for host in ["evil.com", &format!("board.localhost:{port}"), &peer.authority(), "localhost"] {
        assert_eq!(ask("GET", "/", &[("Host", host)]).status, 421, "{host}");
    }
    // The peer itself is not there.
    assert_eq!(ask("GET", "/.sys/status", &[("Host", &authority)]).status, 401);
    let peer = peer.restart();
    let apps = peer.send("GET", "/.sys/apps", &[], "").json();
    assert_eq!(apps["apps"][0]["port_url"], json!(format!("http://localhost:{port}/")), "it keeps its port, so that it keeps its origin");
    assert_eq!(ask("GET", "/", &[("Host", &authority)]).status, 200);
}

/// What an app writes as its owner has a limit that is the app's own.
#[test]
fn an_app_that_writes_more_than_it_may_has_to_wait_for_the_owner() {
    let peer = Peer::start();
    let source = folder(peer.home(), "board", WANTS, "<p>board</p>");
    install(&peer, &source);
    let ran = |args: &[&str]| {
        let ran = run(peer.home(), args);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out
    };
    let unknown = run(peer.home(), &["limits", "app:chirp", "1MB"]);
    assert!(unknown.code == 1 && unknown.err.contains("app ls"), "{unknown:?}");
    ran(&["limits", "app:board", "10kB"]);
    let origin = Origin::new(&peer, "board");
    let token = origin.token();
    let space = peer.ready["id"].as_str().expect("an id");
    let put = |name: &str, bytes: usize| origin.page(&token, "PUT", &format!("/@{space}/boards/{name}"), &json!("x".repeat(bytes)).to_string());
    assert!(put("small", 4000).status < 300);
    let refused = put("large", 8000).problem(413);
    let id = refused["request"].as_str().expect("a request").to_owned();
    assert!(refused["fix"].as_str().is_some_and(|fix| fix.contains(&id)), "{refused}");
    // The websocket knows the same budget.
    let mut socket = Socket::try_open(&peer, &[("authorization", &format!("Bearer {token}"))]).expect("it opens");
    let large = json!({"id": 1, "put": format!("/@{space}/boards/large"), "value": "x".repeat(8000)});
    assert_eq!(socket.request(&large)["error"]["status"], 413);
    assert_eq!(peer.value("/boards").as_object().map(serde_json::Map::len), Some(1), "nothing of it was written");
    // The owner himself has none, and sees what it costs.
    peer.put("/boards/mine", &json!("x".repeat(20_000)));
    assert!(ran(&["held"]).contains("the app board"));
    for verb in ["top", "limits"] {
        let told = ran(&[verb]);
        let line = told.lines().find(|line| line.contains("board (app)")).unwrap_or_else(|| panic!("{told}"));
        assert!(line.contains("9.77 KiB") || line.contains("10"), "{line}");
    }
    // A file is asked for by what its head says, and nothing of it is taken before he has said yes.
    let mut begun = peer.connect();
    let head = format!(
        "PUT /@{space}/boards/film HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: video/mp4\r\nContent-Length: 31000000000\r\n\r\n",
        peer.authority()
    );
    begun.write(head);
    assert_eq!(begun.answer(false).expect("an answer").problem(413)["request"], id.as_str());
    assert!(ran(&["held"]).contains("the app board: 31 GB in 1 file"), "{}", ran(&["held"]));
    // Nor is more of one that does not say how long it is.
    let mut begun = peer.connect();
    begun.write(format!(
        "PUT /@{space}/boards/film HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n",
        peer.authority()
    ));
    for _ in 0..40 {
        begun.try_write(format!("4000\r\n{}\r\n", "x".repeat(0x4000)).as_bytes());
    }
    begun.try_write(b"0\r\n\r\n");
    assert_eq!(begun.answer(false).expect("an answer").problem(413)["title"], "this is more than you may keep here");
    ran(&["allow", &id, "up", "to", "100kB"]);
    assert!(put("large", 8000).status < 300);
    assert_eq!(socket.request(&json!({"id": 2, "put": format!("/@{space}/boards/other"), "value": "x".repeat(8000)}))["ok"], true);
    let costs = peer.value("/.sys/costs");
    let board = costs["costs"].as_array().and_then(|all| all.iter().find(|cost| cost["key"] == "app:board")).cloned().expect("a cost");
    assert!(board["bytes"].as_u64().is_some_and(|bytes| bytes > 20_000) && board["requests"].as_u64() > Some(3), "{board}");
    assert_eq!(board["bytes_max"], 100_000);
}

/// Whom an app follows all devices of the owner follow from then on, and look for.
#[test]
fn an_app_follows_as_many_as_it_has_room_for() {
    let peer = Peer::start();
    let wants = r#"[{"path":"/.sys/follow","may":["write"]},{"path":"/.sys/mute","may":["write"]}]"#;
    install(&peer, &folder(peer.home(), "board", wants, "<p>hi"));
    assert_eq!(run(peer.home(), &["limits", "app:board", "600kB"]).code, 0);
    let app = Origin::new(&peer, "board");
    let token = app.token();
    let follow = |number: u8| {
        let who = timebus_identity::SecretKey::from_seed([number; 32]).public().to_string();
        app.page(&token, "POST", "/.sys/follow", &json!({ "who": who }).to_string())
    };
    assert_eq!([1, 1, 1, 2, 2].map(|number| follow(number).status), [200; 5], "whom it follows already costs nothing");
    let refused = follow(3).problem(413);
    let id = refused["request"].as_str().expect("a request");
    assert!(run(peer.home(), &["held"]).out.contains("the app board"), "its owner is asked");
    let cost = || {
        let costs = peer.value("/.sys/costs");
        let all = costs["costs"].as_array().cloned().unwrap_or_default();
        all.iter().find(|cost| cost["key"] == "app:board").and_then(|cost| cost["bytes"].as_u64()).expect("a cost")
    };
    let before = cost();
    let who = timebus_identity::SecretKey::from_seed([4; 32]).public().to_string();
    assert_eq!(app.page(&token, "POST", "/.sys/mute", &json!({ "who": who }).to_string()).status, 200);
    assert!(cost() > before, "what is written for it counts");
    // Of nobody it hears by guessing what he is called.
    assert_eq!(run(peer.home(), &["follow", &who, "--as", "bobby"]).code, 0);
    for guess in ["bobby", "nobody", &who[..6]] {
        app.page(&token, "POST", "/.sys/mute", &json!({ "who": guess, "muted": false }).to_string()).problem(404);
    }
    assert_eq!(run(peer.home(), &["allow", id, "up", "to", "2MB"]).code, 0);
    assert_eq!(follow(3).status, 200);
}

/// An app that may see who points at what sees nothing of what is kept apart and not on its card.
#[test]
fn what_is_kept_apart_is_told_to_no_app_as_a_reference() {
    let peer = Peer::start();
    assert_eq!(run(peer.home(), &["private", "/diary"]).code, 0);
    let target = format!("/@{}/boards/1", me(&peer));
    for place in ["/diary/secret", "/open/note"] {
        peer.put(place, &json!({"kind": "reply", "target": target, "body": "a word"}));
    }
    peer.put("/boards/2", &json!({"kind": "reply", "target": target, "body": "of its own"}));
    let wants = r#"[{"path":"/boards","may":["read"]},{"path":"/.sys/refs","may":["read"]}]"#;
    install(&peer, &folder(peer.home(), "board", wants, "<p>hi"));
    let app = Origin::new(&peer, "board");
    let told = app.page(&app.token(), "GET", "/.sys/refs/boards/1", "");
    assert_eq!(told.status, 200, "{}", told.text());
    let sources = |refs: &Value| -> Vec<Value> { refs["refs"].as_array().expect("refs").iter().map(|one| one["source"].clone()).collect() };
    let mut told_of = sources(&told.json());
    told_of.sort_by_key(ToString::to_string);
    assert_eq!(told_of, ["boards/2", "open/note"].map(|path| json!(format!("/@{}/{path}", me(&peer)))), "{}", told.text());
    assert_eq!(told.json()["counts"], json!({"reply": 2}));
    // What stands at a path that it may not read is for nobody who asks who points where.
    let bodies = |refs: &Value| -> Vec<Value> { refs["refs"].as_array().expect("refs").iter().filter_map(|one| one.get("body").cloned()).collect() };
    assert_eq!(bodies(&told.json()), [json!("of its own")], "{}", told.text());
    let all = peer.value("/.sys/refs/boards/1");
    assert_eq!((sources(&all).len(), bodies(&all).len()), (3, 3), "the owner is told of all");
}

/// Two apps call their sessions alike. Which is whose is known by what was signed, so also when the index is made anew.
#[test]
fn what_an_app_says_again_counts_once_also_with_a_new_index() {
    let mut peer = Peer::start();
    for name in ["one", "two"] {
        install(&peer, &folder(peer.home(), name, WANTS, "<p>hi"));
    }
    let me = me(&peer);
    let say = |peer: &Peer, app: &str, path: &str, kind: &str, headers: &[(&str, &str)], body: &str| {
        let app = Origin::new(peer, app);
        let bearer = format!("Bearer {}", app.token());
        let own = [("Authorization", bearer.as_str()), ("Origin", &app.origin), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", kind)];
        let answer = app.ask("PUT", &format!("/@{me}/boards/{path}"), &[&own[..], headers].concat(), body);
        assert!(answer.status < 300, "{}", answer.text());
        answer.header("version").unwrap_or_default().to_owned()
    };
    let edit = |peer: &Peer, app: &str, version: &str, parents: &str, range: &str, body: &str| {
        say(peer, app, "doc", "text/plain", &[("Version", version), ("Parents", parents), ("Content-Range", range)], body)
    };
    let first = |peer: &Peer| {
        say(peer, "one", "doc", "text/plain", &[("Version", "\"sess-4\"")], "hello");
        let beside = edit(peer, "two", "\"sess-5\"", "\"sess-4\"", "text [5:5]", "?");
        edit(peer, "one", "\"sess-6\"", "\"sess-4\"", "text [0:1]", "J");
        say(peer, "two", "value", "application/json", &[("Version", "\"v-1\"")], "1");
        beside
    };
    let beside = first(&peer);
    assert!(beside.contains('~') && !beside.contains("sess-5"), "{beside}");
    peer.put("/boards/value", &json!(2));
    let shown = json!({"doc": "Jello?", "value": 2});
    assert_eq!(peer.value("/boards"), shown);
    let changes = |peer: &Peer| peer.send("GET", "/boards", &[("Accept", "application/timebus-ops")], "").body.len();
    let before = changes(&peer);
    for is_lost in [false, true] {
        let home = peer.stop();
        if is_lost {
            std::fs::remove_dir_all(home.folder().join("index")).expect("the index");
        }
        peer = Peer::start_in(home);
        first(&peer);
        assert_eq!((peer.value("/boards"), changes(&peer)), (shown.clone(), before), "said again, index lost: {is_lost}");
    }
    // And both go on as what they were.
    let version = edit(&peer, "one", "\"sess-7\"", "\"sess-6\"", "text [5:5]", "!");
    assert!(version.contains("sess-7"), "{version}");
    edit(&peer, "two", "\"sess-6\"", "\"sess-5\"", "text [6:6]", "?");
    let text = peer.value("/boards")["doc"].clone();
    assert!(text.as_str().is_some_and(|text| text.starts_with("Jello") && text.matches('?').count() == 2 && text.contains('!')), "{text}");
}

/// What an app hears of a space that it may do nothing in is the same whoever's it is: somebody's who is known here, another identity of
/// the owner's, or nobody's.
#[test]
fn an_app_hears_of_nobody_whom_its_card_does_not_name() {
    let (peer, bob) = (Peer::start(), Peer::start());
    crate::peers::neighbours::join(&peer, &crate::peers::neighbours::invite(&bob, &[]), "bobby");
    crate::peers::neighbours::until_space(&peer, "bobby", "live");
    let persona = crate::peers::neighbours::json(peer.home(), &["personas", "new", "work"])["id"].as_str().expect("a key").to_owned();
    let nobody = timebus_identity::SecretKey::from_seed([9; 32]).public().to_string();
    let plain = r#"[{"path":"/boards","may":["read","write"],"why":"boards"}]"#;
    let social = r#"[{"path":"/boards","of":"others","may":["read"]}]"#;
    for (name, wants, of_boards) in [("plain", plain, false), ("social", social, true)] {
        install(&peer, &folder(peer.home(), name, wants, "<p>hi"));
        let app = Origin::new(&peer, name);
        let token = app.token();
        let mut socket = Socket::try_open(&peer, &[("authorization", &format!("Bearer {token}"))]).expect("it opens");
        for path in ["/secret/x", "/boards/x"] {
            let mut hear = |space: &str| {
                let ask = |method: &str, target: String| {
                    let answer = app.page(&token, method, &target, "");
                    (answer.status, answer.text().replace(space, "SPACE"))
                };
                let written = app.page(&token, "PUT", &format!("/@{space}{path}"), "1");
                let at_socket = socket.request(&json!({"id": 1, "get": format!("/@{space}{path}")})).to_string().replace(space, "SPACE");
                let inbox = ask("POST", format!("/@{space}/.drop"));
                let (read, synced) = (ask("GET", format!("/@{space}{path}")), ask("GET", format!("/.sys/synced/@{space}{path}")));
                (read, inbox, (written.status, written.text().replace(space, "SPACE")), at_socket, synced)
            };
            let of_nobody = hear(&nobody);
            assert_eq!(
                (of_nobody.0.0, of_nobody.1.0, of_nobody.2.0),
                (if of_boards && path == "/boards/x" { 404 } else { 403 }, 403, 403),
                "{of_nobody:?}"
            );
            let is_told = of_boards && path == "/boards/x";
            for space in [&*persona, bob.ready["id"].as_str().expect("a key"), "bobby", "nobodyhere", "work"] {
                let of_other = hear(space);
                assert_eq!((&of_other.1, &of_other.2), (&of_nobody.1, &of_nobody.2), "{name} {path} {space}");
                if !is_told {
                    assert_eq!(of_other, of_nobody, "{name} {path} {space}");
                }
            }
        }
    }
}

/// Whom the owner knows, and who he says that they are now, no app says for him, whatever it may do around that.
#[test]
fn an_app_does_not_speak_for_the_owner_of_his_friends() {
    let peer = Peer::start();
    install(&peer, &folder(peer.home(), "chat", r#"[{"path":"/profile","may":["read","write"],"why":"your name"}]"#, "<p>hi"));
    let app = Origin::new(&peer, "chat");
    let token = app.token();
    let me = me(&peer);
    let [bob, eve] = [3, 4].map(|seed| timebus_identity::SecretKey::from_seed([seed; 32]).public().to_string());
    let vouched = format!("/profile/vouched/{bob}");
    let ask = |method: &str, path: &str, body: &str| app.page(&token, method, &format!("/@{me}{path}"), body);
    assert_eq!(ask("PUT", "/profile/name", "\"Ada\"").status, 200);
    ask("PUT", &vouched, &json!(eve).to_string()).problem(403);
    ask("PUT", "/profile", &json!({"vouched": {&bob: &eve}}).to_string()).problem(403);
    assert_eq!(peer.send("GET", &vouched, &[], "").status, 404);
    peer.put(&vouched, &json!(eve));
    for (method, body) in [("PUT", json!({"name": "Eve"})), ("DELETE", json!(null))] {
        ask(method, "/profile", &body.to_string()).problem(403);
    }
    ask("DELETE", &vouched, "").problem(403);
    for kind in ["text/plain", "text/markdown", "video/mp4"] {
        let bearer = format!("Bearer {token}");
        let put = [("Authorization", &*bearer), ("Origin", &app.origin), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", kind)];
        app.ask("PUT", &format!("/@{me}/profile"), &put, "gone").problem(403);
    }
    let bearer = format!("Bearer {token}");
    let patch =
        [("Authorization", &*bearer), ("Origin", &app.origin), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/merge-patch+json")];
    assert_eq!(app.ask("PATCH", &format!("/@{me}/profile"), &patch, r#"{"name":"Ada L.","bio":"x"}"#).status, 200);
    app.ask("PATCH", &format!("/@{me}/profile"), &patch, &json!({"vouched": null}).to_string()).problem(403);
    assert_eq!(peer.value("/profile"), json!({"name": "Ada L.", "bio": "x", "vouched": {&bob: &eve}}));
    for path in ["/lists", "/lists/moved", "/profile/vouched"] {
        let wants = format!(r#"[{{"path":"{path}","may":["read"],"why":"x"}}]"#);
        let ran = run(peer.home(), &["app", "install", &folder(peer.home(), "spy", &wants, "<p>hi"), "--yes"]);
        assert!(ran.code != 0 && ran.err.contains("for him to say"), "{path}: {ran:?}");
    }
}
