//! The commands of README.md, run as they stand.
//!
//! Every block fenced as `sh` is run, all of them in one shell, in the order in which they stand, with `timebus` in
//! the PATH and `TIMEBUS_HOME` set to a new home, where a peer runs already: the reader has started one before.
//! `localhost:7007` stands for where that is. Lines that begin with `$ ` are commands, which must succeed
//! (`# exits 4` at the end says otherwise); a `\` at the end goes on in the next line. The other lines are pieces of
//! what the command prints, in that order; `…` stands for anything. A command with `# soon` at its end is run again
//! until it does what it should. Blocks for people to read are fenced as `text`
//! or `console`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::peer::{DEADLINE, PROGRAM, Peer};

struct Step {
    command: String,
    exits: i32,
    prints: Vec<String>,
    is_soon: bool,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    let mut goes_on = false;
    for line in readme.lines() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            is_inside = !is_inside && fence.trim() == "sh";
            continue;
        }
        if !is_inside {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), exits: 0, prints: Vec::new(), is_soon: false });
        } else if let Some(step) = steps.last_mut() {
            if goes_on {
                step.command.push('\n');
                step.command.push_str(line);
            } else if !line.trim().is_empty() {
                step.prints.push(line.trim().to_owned());
            }
        }
        goes_on = line.ends_with('\\');
    }
    for step in &mut steps {
        if let Some(command) = step.command.strip_suffix("# soon") {
            step.command = command.trim_end().to_owned();
            step.is_soon = true;
        }
        if let Some((command, exits)) = step.command.rsplit_once("# exits ") {
            step.exits = exits.trim().parse().expect("an exit code");
            step.command = command.trim_end().to_owned();
        }
    }
    steps
}

/// Whether pieces occur one behind the other.
fn has_in_order(text: &str, pieces: &[String]) -> Result<(), String> {
    let mut rest = text;
    for piece in pieces.iter().flat_map(|line| line.split(['…'])).map(str::trim).filter(|piece| !piece.is_empty()) {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return Err(piece.to_owned()),
        }
    }
    Ok(())
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let steps = std::fs::read_to_string(readme).map(|readme| steps(&readme)).unwrap_or_default();
    if steps.is_empty() {
        eprintln!("skipped: README.md has no commands");
        return;
    }
    let peer = Peer::start();
    let home = peer.home();
    let own = format!("localhost:{}", peer.address().port());
    let folder = home.beside("elsewhere");
    std::fs::create_dir(&folder).expect("a folder");
    let programs = Path::new(PROGRAM).parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh")
        .current_dir(&folder)
        .env("TIMEBUS_HOME", home.folder())
        .env("PATH", format!("{programs}:{path}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a shell");
    let mut input = shell.stdin.take().expect("a pipe");
    let lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut failure = None;
    let (mut number, mut began) = (0, Instant::now());
    while let Some(step) = steps.get(number) {
        writeln!(input, "exec 3>&1\n{{ {}\n}} 2>&1 </dev/null\necho \"@@step {number} $?\"", step.command.replace("localhost:7007", &own))
            .expect("the shell reads");
        let marker = format!("@@step {number} ");
        let mut printed = String::new();
        let exits = loop {
            let Ok(line) = receiver.recv_timeout(DEADLINE) else { break None };
            match line.split_once(&marker) {
                Some((before, exits)) => {
                    printed.push_str(before);
                    break exits.trim().parse::<i32>().ok();
                }
                None => printed.push_str(&(line + "\n")),
            }
        };
        let missing = has_in_order(&printed, &step.prints);
        if step.is_soon && exits.is_some() && (exits != Some(step.exits) || missing.is_err()) && began.elapsed() < DEADLINE {
            continue;
        }
        if exits != Some(step.exits) || missing.is_err() {
            failure = Some(format!("$ {}\n{printed}\nended with {exits:?}; missing: {:?}", step.command, missing.err()));
            break;
        }
        (number, began) = (number + 1, Instant::now());
    }
    // Peers that were started there end with their homes.
    for home in [home.folder(), &folder.join("bob")] {
        let _ = Command::new(PROGRAM).arg("--home").arg(home).arg("down").output();
    }
    drop(input);
    let _ = crate::peer::wait(&mut shell);
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    eprintln!("{} commands", steps.len());
}

#[test]
fn commands_and_what_they_print_are_told_apart() {
    let found = steps("text\n```sh\n$ one \\\n  two\nout … put\n\n$ three  # exits 4\n$ four  # soon\n```\n```text\n$ not this\n```\n");
    assert_eq!(found.len(), 3);
    assert!(found[2].is_soon && found[2].command == "four" && !found[1].is_soon);
    assert_eq!((found[0].command.as_str(), found[0].exits, found[0].prints.as_slice()), ("one \\\n  two", 0, ["out … put".to_owned()].as_slice()));
    assert_eq!((found[1].command.as_str(), found[1].exits), ("three", 4));
    assert_eq!(has_in_order("an out and a put", &found[0].prints), Ok(()));
    assert_eq!(has_in_order("put out", &found[0].prints), Err("put".to_owned()));
}
