//! doctor, for the network: why two peers do not talk.

use crate::Context;
use crate::clock::span;
use crate::output::printable;
use crate::standing::{called, is_community, is_waiting, of_peer, of_space, problem, refusal};
use crate::value::{Json, items, member, number, string, text};
use crate::verbs::doctor::{Finding, good, note};
use crate::verbs::peers::is_gone;

pub(super) fn findings(context: &Context, peers: &Json, spaces: &Json, now_ms: u64) -> Vec<Finding> {
    let mut all = vec![addresses(peers)];
    if let Some(problem) = text(peers, "lan_problem") {
        let detail = format!("peers on the local network are not found by themselves: {}", printable(problem));
        all.push(note("lan", detail, "others are still called at the addresses that are known of them"));
    }
    all.extend(items(peers, "relays").iter().map(relay));
    all.extend(public(context, peers));
    all.extend(public_dht(context, peers, now_ms));
    all.extend(clock(peers));
    all.extend(items(peers, "peers").iter().filter(|peer| !is_gone(peer)).map(|peer| one_peer(peer, now_ms)));
    all.extend(items(spaces, "spaces").iter().map(|space| one_space(context, space, now_ms)));
    all
}

fn addresses(peers: &Json) -> Finding {
    let addresses: Vec<&str> = items(peers, "addresses").iter().filter_map(string).collect();
    let is_near = |address: &&str| address.parse::<timebus_net::link::address::Address>().is_ok_and(|address| address.is_loopback());
    match addresses.as_slice() {
        [] => note("net", "this peer is offline: it calls nobody and nobody reaches it", "start it without --offline"),
        all if all.iter().all(is_near) => note(
            "net",
            format!("reached at {}, which is this machine alone", all.join("  ")),
            "connect this machine to a network (and leave --udp away), or use --relay, if others shall reach it",
        ),
        all => good("net", format!("reached at {}", all.join("  "))),
    }
}

/// Whether people from elsewhere can reach this peer, as far as public relays decide that.
fn public(context: &Context, peers: &Json) -> Option<Finding> {
    let state = member(peers, "public")?;
    if member(state, "possible") != Some(&Json::Bool(true)) {
        return None;
    }
    let change = |answer: &str| context.home.command(&format!("invite --public {answer}"));
    Some(match member(state, "allowed") {
        Some(Json::Bool(true)) => good("relay", "public relays are allowed: they see whom you talk to, not what is said"),
        _ if !items(peers, "relays").is_empty() => return None,
        Some(Json::Bool(false)) => note("relay", "public relays are not allowed: only your network and direct addresses work", change("yes")),
        _ => note(
            "relay",
            "public relays are not used; nobody was asked about them yet",
            format!("`{}` if people from elsewhere shall reach you", change("yes")),
        ),
    })
}

/// Whether clocks are so far apart that peers do not believe each other where they are, and whose is wrong.
fn clock(peers: &Json) -> Option<Finding> {
    let clock = member(peers, "clock")?;
    let says = printable(text(clock, "says")?);
    let set = match text(clock, "wrong") {
        Some("own") => "set the clock of this machine, best by turning on network time; if it is right by now, restart this peer",
        Some("theirs") => "tell them to set that clock, best by turning on network time; then they say it again",
        _ => "compare both with a clock that you trust, and set the wrong one, best by turning on network time",
    };
    Some(note("clock", says, set))
}

/// Whether the public DHT, if the owner allows it, says where this peer is, and whether that is of any use.
fn public_dht(context: &Context, peers: &Json, now_ms: u64) -> Option<Finding> {
    let state = member(peers, "public_dht").filter(|state| member(state, "allowed") == Some(&Json::Bool(true)))?;
    let standing = format!("the public DHT is {}", super::find::standing(state, now_ms));
    if text(state, "problem").is_some() {
        return Some(note("dht", standing, "it is tried again by itself; without it peers are found in the other ways"));
    }
    let addresses: Vec<&str> = items(peers, "addresses").iter().filter_map(string).collect();
    if !addresses.iter().any(|address| is_global(address)) {
        let fix = format!("`{}`, or `up --udp` at a port that your router forwards", context.home.command("invite --public yes"));
        return Some(note(
            "dht",
            format!("{standing}\nbut all addresses of yours are of your own network: nobody elsewhere can call you there"),
            fix,
        ));
    }
    Some(good("dht", standing))
}

/// Whether an address is more than one of a machine or a local network.
fn is_global(address: &str) -> bool {
    match address.parse::<std::net::SocketAddr>().map(|address| address.ip().to_canonical()) {
        Ok(std::net::IpAddr::V4(ip)) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        Ok(std::net::IpAddr::V6(ip)) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        Err(_) => true,
    }
}

fn relay(relay: &Json) -> Finding {
    let url = printable(text(relay, "url").unwrap_or("?"));
    match member(relay, "connected") {
        Some(Json::Bool(true)) => good("relay", format!("connected to {url}")),
        _ => {
            let why = text(relay, "problem").map(|why| format!(": {}", printable(why))).unwrap_or_default();
            note("relay", format!("{url} is not connected{why}"), "look whether it runs; until then nobody reaches this peer through it")
        }
    }
}

fn one_peer(peer: &Json, now_ms: u64) -> Finding {
    let state = of_peer(peer, now_ms);
    match text(peer, "state") {
        Some("connected") => good("link", format!("{} by {}", called(peer), printable(text(peer, "way").unwrap_or("?")))),
        Some("unreachable") => {
            let seen = match number(peer, "seen_ms") {
                None | Some(0) => "never met".to_owned(),
                Some(seen) => format!("last seen {} ago", span(now_ms.saturating_sub(seen))),
            };
            let mut detail = vec![format!("{} is {state} ({seen})", called(peer))];
            detail.extend(problem(peer));
            note(
                "link",
                detail.join("\n"),
                "it is called again by itself; if it has moved, an address of now helps: `timebus follow WHO --node KEY --at ADDR`",
            )
        }
        Some("blocked") => note("link", format!("{} is {state}", called(peer)), "`timebus unblock WHO` if that is over"),
        Some("banned") => note("link", format!("{} {state}", called(peer)), "it sent what no honest peer sends; it may need a newer timebus"),
        _ => good("link", format!("{} is {state}", called(peer))),
    }
}

fn one_space(context: &Context, space: &Json, now_ms: u64) -> Finding {
    let mut detail = vec![format!("{}: {}", called(space), of_space(space, now_ms))];
    detail.extend(problem(space));
    let detail = detail.join("\n");
    if refusal(space).is_some() {
        return note("space", detail, "ask its owner for a new invite, and take that");
    }
    if is_waiting(space) {
        return note("space", detail, "its owner's peer has to run and be reached once; nothing to do here");
    }
    if !items(space, "taken_back").is_empty() {
        return note("space", detail, "what is here stays readable; for what is new ask its owner for another invite, or `timebus unfollow`");
    }
    match text(space, "state") {
        Some("live" | "loading" | "connecting") => good("space", detail),
        Some("denied") if is_community(space) => note("space", detail, "it comes from any other member who is connected"),
        Some("denied") => note("space", detail, "ask its owner for an invite"),
        Some("waiting") => note(
            "space",
            detail,
            "what you wrote stays here; its owner sees it with `timebus held`, or lets it in with `timebus limits YOU 1GB` if he said never",
        ),
        Some("unknown") if is_community(space) => note("space", detail, "`timebus invite --to @NAME --can member` lets somebody in"),
        Some("unknown") => note("space", detail, "take an invite, or name a peer that has it: `timebus follow WHO --node KEY --at ADDR`"),
        Some("offline") => note("space", detail, format!("`{}` without --offline", context.home.command("up"))),
        _ => note("space", detail, "what was read before is here; the rest comes when one of those who have it is back"),
    }
}
