//! `timebus relay` as a person or a service manager runs it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::peer::{DEADLINE, PROGRAM, wait};

fn start(listen: &str) -> (Child, Option<Value>) {
    let mut child = Command::new(PROGRAM)
        .args(["--json", "relay", "--listen", listen])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = mpsc::channel();
    // The thread ends with the process at the latest.
    std::thread::spawn(move || sender.send(lines.next().and_then(Result::ok)));
    let line = receiver.recv_timeout(DEADLINE).expect("a line, or the end");
    (child, line.map(|line| serde_json::from_str(&line).expect("a line of JSON")))
}

#[test]
fn says_where_it_is_and_stops_when_it_is_asked_to() {
    let (mut child, ready) = start("127.0.0.1:0");
    let ready = ready.expect("it starts");
    assert_eq!(ready["ready"], true);
    let authority = ready["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL").to_owned();
    assert_eq!(ready["address"], format!("relay:http://{authority}"));

    let mut stream = TcpStream::connect(&authority).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let (mut second, nothing) = start(&authority);
    assert_eq!(nothing, None);
    assert_eq!(wait(&mut second).and_then(|status| status.code()), Some(1), "the address is taken");
    let mut problem = String::new();
    second.stderr.take().expect("a pipe").read_to_string(&mut problem).expect("text");
    let problem: Value = serde_json::from_str(&problem).expect("an error for programs");
    assert!(problem["error"]["fix"].as_str().is_some_and(|fix| fix.contains("--listen")), "{problem}");

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process lives");
    assert!(wait(&mut child).is_some_and(|status| status.success()), "it ends cleanly");
}
