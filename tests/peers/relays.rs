//! Relays: public ones are contacted only once the owner said yes, and who takes an invite may use the relay it names.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::neighbours::{invite, join, json as told, poll, run};
use crate::peer::{Home, PROGRAM, Peer};

/// A relay on this machine; it ends when dropped.
struct Relay {
    child: Child,
    url: String,
}

impl Relay {
    fn start() -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--json", "relay", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        Self { child, url: ready["url"].as_str().expect("a URL").to_owned() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(home: Home, net: &[&str]) -> Peer {
    let net = [&["--no-lan", "--udp", "127.0.0.1:0"], net].concat();
    Peer::launch_as(home, &mut Command::new(PROGRAM), &net).unwrap_or_else(|(home, status)| panic!("{status}\n{}", home.log()))
}

fn relays(peer: &Peer) -> Vec<serde_json::Value> {
    peer.value("/.sys/peers")["relays"].as_array().cloned().unwrap_or_default()
}

#[test]
fn public_relays_are_used_once_the_owner_said_yes_and_not_before() {
    let relay = Relay::start();
    let net = ["--public-relay", relay.url.as_str()];
    let alice = start(Home::new(), &net);
    let link = invite(&alice, &[]);
    assert_eq!(alice.value("/.sys/peers")["public"], json!({"possible": true, "allowed": null}), "whoever cannot be asked has not said yes");
    assert_eq!(relays(&alice), Vec::<serde_json::Value>::new());
    let asked = run(alice.home(), &["doctor"]);
    assert!(asked.out.contains("nobody was asked about them yet"), "{asked:?}");

    let names_it = |told: &serde_json::Value| told["addresses"].to_string().contains("relay:http://127.0.0.1");
    let made = told(alice.home(), &["invite", "--public", "yes"]);
    // It waits for the relay, but not for ever.
    if !names_it(&made) {
        poll("the relay is used", || names_it(&alice.value("/.sys/peers")).then_some(()));
        let made = told(alice.home(), &["invite"]);
        assert!(names_it(&made), "{made}");
    }
    let alice = start(alice.stop(), &net);
    poll("the relay is used again", || relays(&alice).iter().any(|relay| relay["connected"] == true).then_some(()));
    // For this run not, whatever was said.
    let alice = start(alice.stop(), &["--no-public"]);
    assert_eq!(alice.value("/.sys/peers")["public"], json!({"possible": false, "allowed": true}));
    assert_eq!(relays(&alice), Vec::<serde_json::Value>::new());
    let alice = start(alice.stop(), &net);
    told(alice.home(), &["invite", "--public", "no"]);
    poll("the relay is left", || relays(&alice).is_empty().then_some(()));
    drop(link);
}

#[test]
fn an_invite_brings_the_permission_for_the_relay_that_it_names() {
    let relay = Relay::start();
    let alice = start(Home::new(), &["--relay", relay.url.as_str()]);
    poll("the relay is there", || relays(&alice).iter().any(|relay| relay["connected"] == true).then_some(()));
    alice.put("/notes/hi", &json!("hello"));
    let link = invite(&alice, &[]);
    let bob = start(Home::new(), &[]);
    join(&bob, &link, "alice");
    let known = std::fs::read_to_string(bob.home().folder().join("peers.json")).expect("the book");
    assert!(known.contains(relay.url.trim_end_matches('/')), "{known}");
}
