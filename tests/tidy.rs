//! What we would otherwise argue about: stray files, long lines, traces of one machine.

use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 160;
const TOP_LEVEL: [&str; 9] = ["Cargo.toml", "Cargo.lock", "README.md", "store", "net", "identity", "apps", "gui", "tests"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folders that no version of the project holds.
fn is_ours(path: &Path) -> bool {
    !matches!(path.file_name().and_then(|name| name.to_str()), Some("target" | ".git" | "node_modules"))
}

/// All files of the project but those of other people.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = entry.path();
            if !is_ours(&path) || path.ends_with("web/vendor") {
                continue;
            }
            if entry.file_type().expect("its type").is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines of text files for which `is_bad` holds.
fn bad_lines(extensions: &[&str], is_bad: impl Fn(&str) -> bool) -> Vec<String> {
    let mut bad = Vec::new();
    for path in files() {
        // Seeds of the fuzzer are data, one a line.
        if path.ends_with("tests/fuzz/src/seeds.rs") {
            continue;
        }
        let is_wanted = path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| extensions.contains(&extension));
        let Some(text) = is_wanted.then(|| std::fs::read_to_string(&path).ok()).flatten() else { continue };
        let name = path.strip_prefix(root()).unwrap_or(&path).display();
        bad.extend(text.lines().enumerate().filter(|(_, line)| is_bad(line)).map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())));
    }
    bad
}

#[test]
fn the_top_level_holds_what_was_agreed() {
    for entry in std::fs::read_dir(root()).expect("the project") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in Unicode");
        let is_agreed = TOP_LEVEL.contains(&name.as_str()) || name.starts_with("LICENSE") || name.starts_with('.') || name == "target";
        assert!(is_agreed, "{name} does not belong at the top level");
    }
}

#[test]
fn no_line_is_too_long() {
    let long = bad_lines(&["rs"], |line| line.chars().count() > COLUMNS_MAX);
    assert!(long.is_empty(), "more than {COLUMNS_MAX} columns:\n{}", long.join("\n"));
}

#[test]
fn modules_have_names() {
    let unnamed: Vec<PathBuf> = files().into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    // Written in pieces, since this file is looked at too.
    let places = [concat!("/", "work/"), concat!("/", "root/")];
    let traces = bad_lines(&["rs", "toml", "md", "js", "css", "html", "json", "sh"], |line| places.iter().any(|place| line.contains(place)));
    assert!(traces.is_empty(), "{}", traces.join("\n"));
}

#[test]
fn nothing_is_put_off() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let put_off = bad_lines(&["rs", "toml", "md", "js", "css", "html"], |line| words.iter().any(|word| line.contains(word)));
    assert!(put_off.is_empty(), "{}", put_off.join("\n"));
}
