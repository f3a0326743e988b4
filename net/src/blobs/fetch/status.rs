//! What is got and given, as people see it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Actor, Stuck};
use crate::blobs::exchange::LinkId;

/// After how long without a piece it is told who has the rest, and not how fast it comes.
const QUIET: Duration = Duration::from_secs(5);
/// How long a file is told of that nobody takes any more.
const GIVEN_FOR: Duration = Duration::from_secs(60);

/// A blob that others have or want, as people see it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    hash: String,
    space: String,
    bytes_total: u64,
    bytes_here: u64,
    is_fetched: bool,
    bytes_per_s: u64,
    sources: Vec<SourceStatus>,
    /// How many wait for it here.
    waiting: usize,
    readers: usize,
    /// Bytes that others were given, ever.
    bytes_given: u64,
    given_per_s: u64,
    /// Who was given what by this link, while it is talked about, and how much he has.
    given_to: Vec<ReaderStatus>,
    /// For how long nothing came.
    quiet_ms: u64,
    /// How long the rest takes as fast as it comes now, if anything does.
    left_ms: Option<u64>,
    problem: Option<String>,
    text: String,
}

/// A file that came from others, all of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Came {
    pub(super) hash: String,
    pub(super) space: String,
    pub(super) bytes_total: u64,
    /// From whom which of it came since it was asked for last.
    pub(super) sources: Vec<SourceStatus>,
    /// How long that took.
    pub(super) took_ms: u64,
    /// When it was whole; Unix milliseconds.
    pub(super) at_ms: u64,
}

impl Came {
    /// Which blob.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }
}

impl Status {
    /// Which blob.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether it is being fetched.
    pub(crate) fn is_fetched(&self) -> bool {
        self.is_fetched
    }
}

/// Somebody to whom bytes of a blob went.
#[derive(Clone, Debug, Serialize)]
struct ReaderStatus {
    name: String,
    bytes: u64,
    /// How much of it he says that he has, from whomever.
    has_bytes: u64,
}

/// Somebody from whom bytes of a blob came.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SourceStatus {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// What others call a set of sources: "carol and 3 others".
pub(crate) fn named(sources: &[String]) -> String {
    match sources {
        [] => "nobody yet".to_owned(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [one, rest @ ..] => format!("{one} and {} others", rest.len()),
    }
}

/// From whom something comes, and how fast, in words.
fn coming(sources: &[SourceStatus], bytes_per_s: u64) -> String {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    // At first nothing was measured.
    let speed = if bytes_per_s > 0 { format!(", {}/s", crate::words::size(bytes_per_s)) } else { String::new() };
    format!("from {}{speed}", named(&names))
}

/// The same where nothing came for a while: who has the rest, or that nobody does.
fn stalled(sources: &[SourceStatus], quiet: Duration, have_rest: &[String]) -> String {
    let since = format!("nothing came for {} s", quiet.as_secs());
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    match (have_rest, names.as_slice()) {
        ([], []) => "nobody who is there has it".to_owned(),
        ([], names) => format!("{since}: nobody who is there has the rest; some came from {}", named(names)),
        (have_rest, _) => format!("{since} from {}, who may have the rest", named(have_rest)),
    }
}

impl Actor {
    /// Bytes by who is at the other end, the most first: one after the other he may have had several links.
    pub(super) fn by_name(&self, of: &BTreeMap<LinkId, u64>) -> Vec<SourceStatus> {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for (link, bytes) in of {
            *all.entry(self.names.get(link).map_or("somebody", String::as_str)).or_default() += bytes;
        }
        let mut all: Vec<SourceStatus> = all.into_iter().map(|(name, bytes)| SourceStatus { name: name.to_owned(), bytes }).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.bytes));
        all
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let mut found: Vec<Status> = self
            .exchange
            .transfers()
            .filter(|transfer| {
                let giving = self.giving.get(&transfer.hash);
                let is_given = || giving.is_some_and(|giving| giving.last.elapsed() < GIVEN_FOR);
                // Who has all of it takes nothing, nor does who has nothing and got nothing here: he asked while it could not be read, and
                // has it from others since.
                let takes = |(link, bytes): &(LinkId, u64)| {
                    *bytes < transfer.len && (*bytes > 0 || giving.is_some_and(|giving| giving.to.contains_key(link)))
                };
                transfer.is_fetched || transfer.readers.iter().any(takes) || is_given()
            })
            .map(|transfer| {
                let fetching = self.fetches.get(&transfer.hash);
                let giving = self.giving.get(&transfer.hash);
                let sources = fetching.map_or_else(Vec::new, |fetching| self.by_name(&fetching.bytes_from));
                let bytes_per_s = fetching.map_or(0, |fetching| fetching.speed.now());
                let quiet = fetching.map_or(Duration::ZERO, |fetching| fetching.last.elapsed());
                let lacks = transfer.len.saturating_sub(transfer.bytes_here);
                let text = match fetching {
                    None => String::new(),
                    Some(_) if quiet < QUIET + self.turn.wait() => coming(&sources, bytes_per_s),
                    Some(_) => {
                        let have_rest = self.exchange.sources_of(&transfer.hash);
                        let have_rest: Vec<String> = have_rest.iter().filter_map(|link| self.names.get(link).cloned()).collect();
                        stalled(&sources, quiet, &have_rest)
                    }
                };
                let had = |link: &LinkId| giving.and_then(|giving| giving.had.get(link)).copied().unwrap_or(0);
                let has = |link: &LinkId| transfer.readers.iter().find(|(reader, _)| reader == link).map_or_else(|| had(link), |(_, bytes)| *bytes);
                let mut given_to: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
                for (link, bytes) in giving.iter().flat_map(|giving| &giving.to) {
                    let one = given_to.entry(self.names.get(link).map_or("somebody", String::as_str)).or_default();
                    *one = (one.0 + bytes, one.1.max(has(link)));
                }
                let mut given_to: Vec<ReaderStatus> =
                    given_to.into_iter().map(|(name, (bytes, has_bytes))| ReaderStatus { name: name.to_owned(), bytes, has_bytes }).collect();
                given_to.sort_by_key(|one| std::cmp::Reverse(one.bytes));
                Status {
                    hash: transfer.hash.to_string(),
                    space: transfer.space.to_string(),
                    bytes_total: transfer.len,
                    bytes_here: transfer.bytes_here,
                    is_fetched: transfer.is_fetched,
                    bytes_per_s,
                    waiting: fetching.map_or(0, |fetching| fetching.handles.len()),
                    readers: transfer.readers.len(),
                    bytes_given: self.given.of(&transfer.hash),
                    given_per_s: giving.map_or(0, |giving| giving.speed.now()),
                    given_to,
                    quiet_ms: quiet.as_millis() as u64,
                    left_ms: lacks.saturating_mul(1000).checked_div(bytes_per_s).filter(|_| quiet < QUIET + self.turn.wait()),
                    problem: fetching.and_then(|fetching| fetching.progress.borrow().problem.as_ref().map(Stuck::to_string)),
                    text,
                    sources,
                }
            })
            .collect();
        found.sort_by(|one, other| one.hash.cmp(&other.hash));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_brings_something_is_counted() {
        let sources: Vec<SourceStatus> = (0..20).map(|number| SourceStatus { name: format!("peer{number}"), bytes: 1 }).collect();
        assert_eq!(coming(&sources, 1500), "from peer0 and 19 others, 1.5 kB/s");
        assert_eq!([coming(&sources[..1], 0), coming(&[], 0)], ["from peer0", "from nobody yet"], "nothing was measured");
    }

    #[test]
    fn whoever_waits_is_told_who_has_the_rest() {
        let sources = ["bob", "carol"].map(|name| SourceStatus { name: name.to_owned(), bytes: 1 });
        let (quiet, dave) = (Duration::from_millis(23_500), ["dave".to_owned()]);
        assert_eq!(stalled(&[], quiet, &[]), "nobody who is there has it");
        assert_eq!(stalled(&sources, quiet, &[]), "nothing came for 23 s: nobody who is there has the rest; some came from bob and carol");
        assert_eq!(stalled(&sources, quiet, &dave), "nothing came for 23 s from dave, who may have the rest");
    }
}
