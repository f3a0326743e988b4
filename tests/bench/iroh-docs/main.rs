//! Two replicas of an iroh document with much in common and some entries that only one of them has: what their sync
//! takes.
//!
//! ```text
//! iroh-docs-sync COMMON DIFFERENT...
//! ```
//!
//! Prints a line of JSON for each number of different entries. Replicas remember nothing of each other, so every meeting
//! is a first one. Entries hold the hash of their value, as always there; the values are not sent.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use iroh_docs::store::Store;
use iroh_docs::sync::SyncOutcome;
use iroh_docs::{Author, NamespaceId, NamespaceSecret};

type Failure = Box<dyn Error>;

struct Site {
    store: Store,
    namespace: NamespaceId,
    author: Author,
}

/// What a meeting took.
#[derive(Default)]
struct Meeting {
    sent: usize,
    /// Flights of messages until the last that brought something.
    flights: usize,
}

impl Site {
    fn new(secret: &NamespaceSecret, number: u8) -> Result<Self, Failure> {
        let mut store = Store::memory();
        store.new_replica(secret.clone())?;
        let author = Author::from_bytes(&[number; 32]);
        store.import_author(author.clone())?;
        Ok(Self { store, namespace: secret.id(), author })
    }

    /// Writes so many values, each in an entry of its own. Answers how long they are, signed.
    async fn write(&mut self, who: &str, first: usize, count: usize) -> Result<usize, Failure> {
        let key = |number: usize| format!("{who}/{}/{}", number / 1000, number % 1000);
        let mut replica = self.store.open_replica(&self.namespace)?;
        for number in first..first + count {
            replica.hash_and_insert(key(number), &self.author, format!("value {number}")).await?;
        }
        drop(replica);
        self.store.close_replica(self.namespace);
        let mut bytes = 0;
        for number in first..first + count {
            let entry = self.store.get_exact(self.namespace, self.author.id(), key(number), false)?.ok_or("an entry is missing")?;
            bytes += postcard::to_stdvec(&entry)?.len();
        }
        Ok(bytes)
    }
}

/// Lets two replicas meet, the first asking.
async fn meet(sites: &mut [Site; 2]) -> Result<Meeting, Failure> {
    let [one, other] = sites;
    let mut replicas = [one.store.open_replica(&one.namespace)?, other.store.open_replica(&other.namespace)?];
    let mut outcomes = [SyncOutcome::default(), SyncOutcome::default()];
    let mut meeting = Meeting::default();
    let mut message = Some(replicas[0].sync_initial_message()?);
    let mut to = 1;
    let mut number = 0;
    while let Some(flying) = message {
        meeting.sent += postcard::to_stdvec(&flying)?.len();
        number += 1;
        let before = outcomes[to].num_recv;
        message = replicas[to].sync_process_message(flying, [0; 32], &mut outcomes[to]).await?;
        if outcomes[to].num_recv > before {
            meeting.flights = number;
        }
        to = 1 - to;
    }
    drop(replicas);
    for site in sites {
        site.store.close_replica(site.namespace);
    }
    Ok(meeting)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let numbers: Result<Vec<usize>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let numbers = numbers?;
    let (common, different) = numbers.split_first().ok_or("iroh-docs-sync COMMON DIFFERENT...")?;
    let secret = NamespaceSecret::from_bytes(&[7; 32]);
    let mut sites = [Site::new(&secret, 1)?, Site::new(&secret, 2)?];
    sites[0].write("common", 0, *common).await?;
    meet(&mut sites).await?;
    let mut written = 0;
    for different in different {
        let half = different / 2;
        let mut missing = 0;
        for (site, who) in sites.iter_mut().zip(["left", "right"]) {
            missing += site.write(who, written, half).await?;
        }
        written += half;
        let begun = Instant::now();
        let Meeting { sent, flights } = meet(&mut sites).await?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let again = meet(&mut sites).await?;
        assert_eq!(again.flights, 0, "both have the same");
        let round_trips = flights as f64 / 2.0;
        writeln!(
            std::io::stdout(),
            "{{\"different\":{different},\"again\":false,\"missing\":{missing},\"sent\":{sent},\"round_trips\":{round_trips},\"ms\":{ms}}}"
        )?;
    }
    Ok(())
}
