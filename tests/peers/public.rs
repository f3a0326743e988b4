//! The public DHT: nothing is said to it or asked of it before the owner says yes, and then a key alone leads to him.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use mainline::{Dht, RequestFilter, RequestSpecific, ServerSettings};
use serde_json::{Value, json};

use super::neighbours::{json as told, poll, run};
use crate::peer::{Home, PROGRAM, Peer};

/// Ports from which something came, one for each request.
#[derive(Clone, Debug, Default)]
struct Asked(Arc<Mutex<Vec<u16>>>);

impl RequestFilter for Asked {
    fn allow_request(&self, _: &RequestSpecific, from: SocketAddrV4) -> bool {
        self.0.lock().expect("nobody panics").push(from.port());
        true
    }
}

/// The first node of a DHT on this machine, in the place of the public one.
struct FirstNode {
    _dht: Dht,
    address: String,
    asked: Asked,
}

impl FirstNode {
    fn start() -> Self {
        let (asked, free) = (Asked::default(), UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address"));
        let mut node = Dht::builder();
        // One that knows of no other would count all who ask for nodes, and have them asked in turn.
        node.bootstrap(&[free]).bind_address(Ipv4Addr::LOCALHOST).port(free.port()).server_mode();
        node.server_settings(ServerSettings { filter: Box::new(asked.clone()), ..ServerSettings::default() });
        Self { _dht: node.build().expect("a node"), address: free.to_string(), asked }
    }

    fn peer(&self, home: Home, more: &[&str]) -> Peer {
        let net = [&["--no-lan", "--udp", "127.0.0.1:0", "--public-dht", &self.address], more].concat();
        Peer::launch_as(home, &mut Command::new(PROGRAM), &net).unwrap_or_else(|(home, status)| panic!("{status}\n{}", home.log()))
    }

    /// Takes what was asked so far, and says whether it came from these ports alone.
    fn is_asked_only_by(&self, ports: &[u16]) -> bool {
        let own = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        std::mem::take(&mut *self.asked.0.lock().expect("nobody panics")).iter().all(|from| own == Some(*from) || ports.contains(from))
    }
}

fn id(peer: &Peer) -> &str {
    peer.ready["id"].as_str().expect("a key")
}

/// Says yes, and waits until it has been said where that is, under so many keys; where it listens, and the keys.
fn on(home: &Home, persona: &[&str], keys: usize) -> (u16, Vec<String>) {
    let state = told(home, &[persona, &["public-dht", "on"]].concat());
    assert_eq!((&state["allowed"], &state["possible"]), (&json!(true), &json!(true)), "{state}");
    let state = poll("it was said there", || {
        let state = told(home, &[persona, &["public-dht"]].concat());
        (state["said"].as_array().is_some_and(|said| said.len() >= keys)).then_some(state)
    });
    let keys = state["said"].as_array().into_iter().flatten().filter_map(|said| Some(said["key"].as_str()?.to_owned())).collect();
    (port(&state), keys)
}

fn port(state: &Value) -> u16 {
    let listens = state["listens"].as_str().unwrap_or_else(|| panic!("it listens: {state}"));
    listens.parse::<SocketAddrV4>().expect("an address").port()
}

fn way(peer: &Peer, who: &str) -> Value {
    let found = told(peer.home(), &["find", who]);
    found["ways"].as_array().into_iter().flatten().find(|way| way["way"] == "public DHT").cloned().unwrap_or_default()
}

#[test]
fn who_said_yes_is_found_by_his_key_alone_and_before_nothing_is_asked_or_said() {
    let dht = FirstNode::start();
    let (alice, bob) = (dht.peer(Home::new(), &[]), dht.peer(Home::new(), &[]));
    alice.put("/notes/hi", &json!("hello"));
    assert_eq!(run(alice.home(), &["grant", "/", "anyone", "--can", "read"]).code, 0);
    // Bob wants what alice has, and knows nothing of her but the key of her space.
    assert_eq!(run(bob.home(), &["follow", id(&alice), "--as", "alice"]).code, 0);
    assert!(dht.is_asked_only_by(&[]), "nobody said yes");
    let off = way(&bob, id(&alice));
    assert!(off["off"] == true && off["words"].as_str().is_some_and(|words| words.contains("timebus public-dht on")), "{off}");
    for peer in [&alice, &bob] {
        let state = peer.value("/.sys/peers")["public_dht"].clone();
        assert_eq!((&state["possible"], &state["allowed"], &state["listens"]), (&json!(true), &Value::Null, &Value::Null), "{state}");
    }
    assert!(dht.is_asked_only_by(&[]), "nobody said yes");

    let (alices, keys) = on(alice.home(), &[], 2);
    let node = alice.value("/.sys/peers")["node"].as_str().expect("a key").to_owned();
    assert!(keys.contains(&node) && keys.iter().any(|key| key == id(&alice)), "{keys:?}");
    let off = way(&bob, id(&alice));
    assert!(off["off"] == true && off["found"] == false, "{off}");
    assert!(dht.is_asked_only_by(&[alices]), "bob has not said yes");
    assert_eq!(bob.value("/.sys/spaces")["spaces"][0]["state"], "unknown");

    let (bobs, _) = on(bob.home(), &[], 2);
    poll("bob reads what alice has", || {
        let answer = bob.send("GET", "/@alice/notes/hi", &[], "");
        (answer.status == 200 && answer.json() == json!("hello")).then_some(())
    });
    assert_eq!(way(&bob, id(&alice))["found"], true);
    assert!(bob.value("/.sys/peers")["public_dht"]["found_ms"].is_u64());
    assert!(dht.is_asked_only_by(&[alices, bobs]));
    let said = run(bob.home(), &["public-dht"]);
    assert!(said.out.contains("the key of your space, and of this machine") && said.out.contains("see whom you look for"), "{said:?}");
    let asked = run(bob.home(), &["doctor"]);
    assert!(asked.out.contains("all addresses of yours are of your own network"), "{asked:?}");

    // What he said is remembered, and he can take it back, or have it not hold for once.
    let bob = dht.peer(bob.stop(), &["--no-public"]);
    drop(alice.stop());
    dht.is_asked_only_by(&[]);
    let state = bob.value("/.sys/peers")["public_dht"].clone();
    assert_eq!((&state["possible"], &state["allowed"], &state["listens"]), (&json!(false), &json!(true), &Value::Null), "{state}");
    assert!(way(&bob, "@alice")["off"] == true && dht.is_asked_only_by(&[]), "not for this run");
    let bob = dht.peer(bob.stop(), &[]);
    poll("he takes part again", || bob.value("/.sys/peers")["public_dht"]["listens"].is_string().then_some(()));
    let state = told(bob.home(), &["public-dht", "off"]);
    assert_eq!((&state["allowed"], &state["listens"]), (&json!(false), &Value::Null), "at once: {state}");
}

#[test]
fn who_reads_by_a_key_alone_waits_while_it_is_looked_for() {
    let dht = FirstNode::start();
    let (alice, bob) = (dht.peer(Home::new(), &[]), dht.peer(Home::new(), &[]));
    alice.put("/notes/hi", &json!("hello"));
    assert_eq!(run(alice.home(), &["grant", "/", "anyone", "--can", "read"]).code, 0);
    let (path, wait) = (format!("/@{}/notes/hi", id(&alice)), &[("Prefer", "wait=30")]);
    assert_eq!(bob.send("GET", &path, wait, "").status, 404, "nobody is asked");
    on(alice.home(), &[], 2);
    on(bob.home(), &[], 2);
    let carol = dht.peer(Home::new(), &[]);
    on(carol.home(), &[], 2);
    let nobody = timebus_identity::SecretKey::from_seed([7; 32]).public().to_string();
    let answer = carol.send("GET", &format!("/@{nobody}/notes/hi"), wait, "");
    assert_eq!(answer.status, 404, "it was looked for: {}", answer.text());
    // Carol reads it for the first time; that takes as long as it takes.
    let answer = carol.send("GET", &path, wait, "");
    assert_eq!((answer.status, answer.json()), (200, json!("hello")));
}

#[test]
fn a_persona_is_asked_for_itself_and_nothing_that_it_says_names_another() {
    let dht = FirstNode::start();
    let alice = dht.peer(Home::new(), &[]);
    assert_eq!(run(alice.home(), &["personas", "new", "work"]).code, 0);
    let (own, said) = on(alice.home(), &[], 2);
    let work = &["--persona", "work"];
    let state = told(alice.home(), &[&work[..], &["public-dht"]].concat());
    assert_eq!((&state["allowed"], &state["listens"]), (&Value::Null, &Value::Null), "{state}");
    assert!(dht.is_asked_only_by(&[own]));
    let (works, of_work) = on(alice.home(), work, 2);
    assert!(works != own && of_work.iter().all(|key| !said.contains(key)), "{said:?} {of_work:?}");
    assert_eq!(told(alice.home(), &["public-dht", "off"])["allowed"], false);
    assert_eq!(told(alice.home(), &[&work[..], &["public-dht"]].concat())["allowed"], true);
}
