//! Every target, for a moment: its corpus as it is, and inputs made from it, the same ones in every run.
//!
//! A failure prints the input; kept as a file in the corpus it is tried first from then on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use timebus_fuzz::mutate::{Dice, mutate};
use timebus_fuzz::{TARGETS, find, seeds};

fn corpus_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus_folder().join(name);
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&path).expect("readable")))
        .collect();
    files.sort();
    files
}

fn run(name: &str) {
    let target = find(name).expect("a target");
    let try_one = |input: &[u8], what: &str| match catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        Ok(accepted) => u64::from(accepted),
        Err(panic) => {
            eprintln!("target {name}, {what}: {:?}", String::from_utf8_lossy(input));
            eprintln!("in hex: {}", input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            resume_unwind(panic);
        }
    };
    let files = corpus(name);
    for (file, input) in &files {
        let accepted = try_one(input, file);
        assert!(accepted == 1 || !file.starts_with("good-"), "{name}/{file} is refused");
    }
    let inputs: Vec<Vec<u8>> = files.into_iter().map(|(_, input)| input).collect();
    let factor = std::env::var("TIMEBUS_FUZZ_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let count = u64::from(target.inputs) * factor;
    let begun = std::time::Instant::now();
    let accepted: u64 = (0..count).map(|seed| try_one(&mutate(&mut Dice::new(seed), &inputs, target.words), &format!("seed {seed}"))).sum();
    eprintln!("{name}: {accepted} of {count} inputs accepted, {:?}", begun.elapsed());
    // A target that sees only refusals checks nothing.
    assert!(accepted * 200 > count, "only {accepted} of {count} inputs are accepted");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn no_target_is_forgotten() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    header body change value rows key log frame blob_frame record path target json json_patch splice merge_patch versions range patches
    etag byte_range accept host signature recovery identity wire
}

/// What encoders write today is what they wrote when the corpus was made.
#[test]
fn the_seeds_are_in_the_corpus() {
    for target in TARGETS {
        for (name, bytes) in seeds::of(target.name) {
            let file = corpus_folder().join(target.name).join(&name);
            let found = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; see write_the_seeds", file.display()));
            assert_eq!(found, bytes, "{} says something else; did a format change?", file.display());
        }
    }
}

/// `cargo test -p timebus-fuzz write_the_seeds -- --ignored` after adding seeds or changing a format.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_seeds() {
    for target in TARGETS {
        let folder = corpus_folder().join(target.name);
        std::fs::create_dir_all(&folder).expect("created");
        for (name, bytes) in seeds::of(target.name) {
            std::fs::write(folder.join(name), bytes).expect("written");
        }
    }
}
