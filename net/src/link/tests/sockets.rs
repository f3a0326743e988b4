//! Which sockets there are, and finding others on a network of our own. Both need a process of their own: this test
//! binary again, with one of the ignored tests below.

use std::process::{Command, Output};

use super::*;

/// Runs an ignored test of this file in a process of its own, behind `wrapper`.
fn run_alone(name: &str, wrapper: &[&str]) -> Output {
    let program = std::env::current_exe().expect("this test");
    let name = format!("link::tests::sockets::{name}");
    let mut words: Vec<std::ffi::OsString> = wrapper.iter().map(Into::into).collect();
    words.push(program.into());
    words.extend(["--exact", &name, "--ignored", "--nocapture"].map(Into::into));
    Command::new(&words[0]).args(&words[1..]).output().expect("it runs")
}

fn check(output: &Output) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// How many sockets this process has.
fn sockets() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux");
    files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn offline_there_is_no_socket() {
    if !std::path::Path::new("/proc/self/fd").exists() {
        eprintln!("skipped: needs Linux");
        return;
    }
    check(&run_alone("alone_offline", &[]));
}

#[tokio::test]
#[ignore = "run by offline_there_is_no_socket"]
async fn alone_offline() {
    let before = sockets();
    let place = Place::with(EndpointConfig { is_offline: true, ..config() }).await;
    let nobody = SecretKey::generate().public();
    for address in ["127.0.0.1:9", "ws://127.0.0.1:9", "relay:http://127.0.0.1:9"] {
        let address: Address = address.parse().expect("an address");
        assert_eq!(place.endpoint.dial(Some(&nobody), &[address]).await.err(), Some(DialError::Offline));
    }
    assert_eq!((sockets(), place.endpoint.sockets().len(), place.endpoint.addresses().len()), (before, 0, 0));
    // The count can tell: without `is_offline` there are some.
    let online = Place::new().await;
    assert!(sockets() > before);
    drop(online);
}

/// A network namespace with an interface of its own, gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Option<Self> {
        let namespace = Self(format!("timebus-{}", std::process::id()));
        let ip = |words: &str| Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success());
        let name = &namespace.0;
        let is_made = ip(&format!("netns add {name}"))
            && ip(&format!("-n {name} link set lo up"))
            && ip(&format!("-n {name} link add tb0 type veth peer name tb1"))
            && ip(&format!("-n {name} addr add 10.77.0.1/24 dev tb0"))
            && ip(&format!("-n {name} link set tb0 up"))
            && ip(&format!("-n {name} link set tb1 up"))
            && ip(&format!("-n {name} route add 224.0.0.0/4 dev tb0"));
        is_made.then_some(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn peers_on_one_network_find_each_other() {
    let Some(namespace) = Namespace::new() else {
        eprintln!("skipped: needs root, and the program ip");
        return;
    };
    check(&run_alone("alone_on_a_network", &["ip", "netns", "exec", &namespace.0]));
}

#[tokio::test]
#[ignore = "run by peers_on_one_network_find_each_other"]
async fn alone_on_a_network() {
    let config = || EndpointConfig { lan: Some("timebus-test".to_owned()), ..EndpointConfig::default() };
    let (one, mut two) = (Place::with(config()).await, Place::with(config()).await);
    assert_eq!(one.endpoint.lan_problem(), None);
    let began = std::time::Instant::now();
    let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &[])).await.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("found after {:?}", began.elapsed());
    here.send(b"hello".to_vec()).await.expect("a new link");
    assert_eq!(receive(&mut two.accept().await).await, b"hello");
    assert!(matches!(here.way(), Way::Lan(_)), "{}", here.way());
    // A hint that is out of date does not keep it from being found.
    drop(here);
    let three = Place::with(config()).await;
    let stale: Address = "10.77.0.99:9".parse().expect("an address");
    let here = soon(three.endpoint.dial(Some(&two.endpoint.node()), &[stale])).await.unwrap_or_else(|error| panic!("{error}"));
    here.send(b"again".to_vec()).await.expect("a new link");
    assert_eq!(receive(&mut two.accept().await).await, b"again");
    // Who uses another name is in another community.
    let stranger = Place::with(EndpointConfig { lan: Some("timebus-other".to_owned()), dial_timeout: Duration::from_secs(3), ..config() }).await;
    let missed = soon(stranger.endpoint.dial(Some(&two.endpoint.node()), &[])).await;
    assert!(missed.is_err(), "{missed:?}");
}
