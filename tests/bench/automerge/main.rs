//! Two automerge documents with much in common and some changes that only one of them has: what their sync takes.
//!
//! ```text
//! automerge-sync COMMON DIFFERENT...
//! ```
//!
//! Prints a line of JSON for each number of different changes, first for documents that meet for the first time, then
//! for those that kept their sync state.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use automerge::sync::{Message, State, SyncDoc as _};
use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};

/// Writes so many values, each in a change of its own.
fn write(document: &mut AutoCommit, who: &str, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
    for number in first..first + count {
        document.put(ROOT, format!("{who}/{}/{}", number / 1000, number % 1000), format!("value {number}"))?;
        document.commit();
    }
    Ok(())
}

fn bytes_since(document: &mut AutoCommit, heads: &[automerge::ChangeHash]) -> usize {
    document.get_changes(heads).iter().map(|change| change.raw_bytes().len()).sum()
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Result<Vec<usize>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let numbers = numbers?;
    let (common, different) = numbers.split_first().ok_or("automerge-sync COMMON DIFFERENT...")?;
    let mut documents = [AutoCommit::new(), AutoCommit::new()];
    write(&mut documents[0], "common", 0, *common)?;
    documents[1] = documents[0].fork();
    let mut states = [State::new(), State::new()];
    let mut written = 0;
    for again in [false, true] {
        for different in different {
            let half = different / 2;
            let mut missing = 0;
            for (document, who) in documents.iter_mut().zip(["left", "right"]) {
                let heads = document.get_heads();
                write(document, who, written, half)?;
                missing += bytes_since(document, &heads);
            }
            written += half;
            if !again {
                states = [State::new(), State::new()];
            }
            let begun = Instant::now();
            let (mut sent, mut flights, mut last_change) = (0, 0, 0);
            loop {
                let mut flying = Vec::new();
                for (document, state) in documents.iter_mut().zip(&mut states) {
                    flying.push(document.sync().generate_sync_message(state).map(Message::encode));
                }
                if flying.iter().all(Option::is_none) {
                    break;
                }
                flights += 1;
                for (side, message) in flying.into_iter().enumerate() {
                    let Some(message) = message else { continue };
                    sent += message.len();
                    let to = 1 - side;
                    let before = documents[to].get_heads();
                    documents[to].sync().receive_sync_message(&mut states[to], Message::decode(&message)?)?;
                    if documents[to].get_heads() != before {
                        last_change = flights;
                    }
                }
            }
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            assert_eq!(documents[0].get_heads(), documents[1].clone().get_heads(), "both have the same");
            let round_trips = f64::from(last_change) / 2.0;
            writeln!(
                std::io::stdout(),
                "{{\"different\":{different},\"again\":{again},\"missing\":{missing},\"sent\":{sent},\"round_trips\":{round_trips},\"ms\":{ms}}}"
            )?;
        }
    }
    Ok(())
}
