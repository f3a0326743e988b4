//! One subscriber, whatever the wire.

use std::io::{BufRead as _, BufReader};
use std::time::Instant;

use serde_json::{Value, json};

use crate::braid::{apply, apply_event, read_update};
use crate::http::{OwnedBody, print_versions};
use crate::peer::{DEADLINE, Peer};
use crate::socket::Socket;

/// The ways to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Braid,
    Events,
    Lines,
    Socket,
}

pub(super) const FORMS: [Form; 4] = [Form::Braid, Form::Events, Form::Lines, Form::Socket];

enum Wire {
    Stream(BufReader<OwnedBody>),
    Socket(Box<Socket>),
}

/// A subscriber that keeps what it was told.
pub(super) struct Watcher {
    form: Form,
    path: String,
    /// What it looks through, as in a request target.
    query: String,
    wire: Wire,
    /// What it has.
    pub(super) state: Option<Value>,
    /// Of which version that is.
    pub(super) version: Vec<String>,
    /// How often it was sent everything.
    pub(super) snapshots: usize,
    /// How often it was told that it fell behind.
    pub(super) behind: usize,
    /// Updates, snapshots not counted.
    pub(super) updates: usize,
    id: Option<String>,
}

impl Watcher {
    /// Begins with nothing.
    pub(super) fn start(peer: &Peer, target: &str, form: Form) -> Self {
        let mut watcher = Self::open(peer, target, form, None);
        let current = peer.send("GET", target, &[], "").versions();
        watcher.step();
        assert_eq!(watcher.snapshots, 1, "a snapshot comes first");
        if form != Form::Braid {
            watcher.caught_up();
        }
        assert_eq!(watcher.version, current);
        watcher
    }

    /// Goes on from a version that it has.
    pub(super) fn resume(peer: &Peer, target: &str, form: Form, version: &[String], state: Option<Value>) -> Self {
        let mut watcher = Self::open(peer, target, form, Some(version));
        watcher.state = state;
        watcher.version = version.to_vec();
        watcher
    }

    /// Asks for everything, or for what follows a version.
    pub(super) fn open(peer: &Peer, target: &str, form: Form, from: Option<&[String]>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let wire = if form == Form::Socket {
            let mut socket = Socket::open(peer);
            let mut message = json!({"id": 7, "watch": path});
            if let Some(from) = from {
                message["from"] = json!(from);
            }
            for (name, value) in query.split('&').filter_map(|parameter| parameter.split_once('=')) {
                message[name] = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
            }
            socket.say(&message);
            Wire::Socket(Box::new(socket))
        } else {
            let versions = from.map(print_versions);
            let id = from.map(|from| from.join(" "));
            let mut headers = vec![("Subscribe", "true")];
            match form {
                Form::Events => {
                    headers = vec![("Accept", "text/event-stream")];
                    headers.extend(id.iter().map(|id| ("Last-Event-ID", id.as_str())));
                }
                Form::Lines => headers.push(("Accept", "application/x-ndjson")),
                _ => {}
            }
            if form != Form::Events {
                headers.extend(versions.iter().map(|versions| ("Parents", versions.as_str())));
            }
            let (status, head, stream) = peer.connect().stream("GET", target, &headers);
            let kind = head.one("content-type").expect("a type");
            match form {
                Form::Braid => assert_eq!((status, kind, head.one("subscribe")), (209, "application/http-history", Some("true"))),
                Form::Events => assert_eq!((status, kind), (200, "text/event-stream")),
                _ => assert_eq!((status, kind), (200, "application/x-ndjson")),
            }
            assert!(head.one("cache-control").is_some_and(|cache| cache.contains("no-cache") && cache.contains("no-transform")));
            Wire::Stream(stream)
        };
        Self {
            form,
            path: path.to_owned(),
            query: query.to_owned(),
            wire,
            state: None,
            version: Vec::new(),
            snapshots: 0,
            behind: 0,
            updates: 0,
            id: None,
        }
    }

    /// Lets the kernel keep little for it, so that not reading shows at once.
    pub(super) fn with_little_room(self) -> Self {
        let socket = match &self.wire {
            Wire::Stream(stream) => stream.get_ref().socket(),
            Wire::Socket(socket) => socket.0.get_ref(),
        };
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, 64 * 1024).expect("an option");
        self
    }

    /// How it subscribed.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The next JSON message.
    fn message(&mut self) -> Value {
        let began = Instant::now();
        loop {
            // Signs of life would let it wait for ever.
            assert!(began.elapsed() < DEADLINE, "{:?} of {} waits in vain at {:?}", self.form, self.path, self.version);
            let line = match &mut self.wire {
                Wire::Socket(socket) => return socket.hear(),
                Wire::Stream(stream) => {
                    let mut line = String::new();
                    assert_ne!(stream.read_line(&mut line).expect("a line"), 0, "the stream ended");
                    line
                }
            };
            let line = line.trim_end();
            match self.form {
                Form::Lines if !line.is_empty() => return serde_json::from_str(line).expect("JSON"),
                Form::Events => {
                    if let Some(id) = line.strip_prefix("id:") {
                        self.id = Some(id.trim().to_owned());
                    } else if let Some(data) = line.strip_prefix("data: ") {
                        return serde_json::from_str(data).expect("JSON");
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes one whole update, or one snapshot.
    pub(super) fn step(&mut self) {
        if self.form == Form::Braid {
            let Wire::Stream(stream) = &mut self.wire else { unreachable!("Braid is a stream") };
            let update = read_update(stream).expect("an update");
            let is_whole = update.parents.is_empty() && !matches!(update.body, crate::braid::Body::Patches(_));
            if is_whole {
                self.snapshots += 1;
            } else {
                assert_eq!(update.parents, self.version, "{} builds on another version", self.path);
                self.updates += 1;
            }
            apply(&mut self.state, &update);
            self.version = update.version;
            return;
        }
        let before = self.version.clone();
        loop {
            let message = self.message();
            assert!(message.get("error").is_none(), "{message}");
            if self.form == Form::Socket {
                assert_eq!(message["id"], 7, "{message}");
            }
            let names =
                |name: &str| -> Vec<String> { serde_json::from_value(message[name].clone()).unwrap_or_else(|_| panic!("no {name} in {message}")) };
            if message.get("caught_up").is_some() {
                self.id = None;
                self.version = names("version");
                return;
            }
            if message.get("behind").is_some() {
                self.id = None;
                self.behind += 1;
                continue;
            }
            if message.get("snapshot").is_some() {
                self.snapshots += 1;
            } else {
                assert_eq!(names("parents"), before, "{} builds on another version: {message}", self.path);
            }
            apply_event(&mut self.state, &self.path, &message);
            if message["more"] != true {
                self.updates += usize::from(message.get("snapshot").is_none());
                self.version = names("version");
                if self.form == Form::Events {
                    assert_eq!(self.id.take(), Some(self.version.join(" ")), "{message}");
                }
                return;
            }
            // Whoever loses the connection here has to come back with the version before.
            assert_eq!(self.id.take(), None, "{message}");
        }
    }

    /// Waits for the word that it has all there was.
    pub(super) fn caught_up(&mut self) {
        while self.message().get("caught_up").is_none() {}
        self.id = None;
    }

    /// Goes on until it has a version.
    pub(super) fn until(&mut self, version: &[String]) {
        while self.version != version {
            self.step();
        }
    }

    /// Goes on until it has what the peer shows. A change that does not show is not told.
    pub(super) fn settle(&mut self, peer: &Peer) {
        let answer = peer.send("GET", &format!("{}?{}", self.path, self.query), &[], "");
        let expected = (answer.status == 200).then(|| answer.json());
        while self.state != expected {
            self.step();
        }
    }

    /// Goes on until it has what the peer has, and compares.
    pub(super) fn follow(&mut self, peer: &Peer, after: &str) {
        let answer = peer.send("GET", &self.path, &[], "");
        self.until(&answer.versions());
        let expected = (answer.status == 200).then(|| answer.json());
        assert_eq!(self.state, expected, "{:?} of {} after {after}", self.form, self.path);
    }
}
