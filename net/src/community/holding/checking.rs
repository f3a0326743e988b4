//! Asks now and then one of those who say that they hold a file to show a piece of it, and says in the community who could not.
//!
//! Whoever has a file asks the others that it is placed with, so a disk that lost it, or somebody who only says that he has it, is found
//! out. Who could not show it twice is told of in the own place there ([`Unshown`]); every member reads that
//! and places the file with one more machine, and he counts again when he shows it to whoever found him out. Nobody loses his part of
//! what is placed by the word of another one, so who tells it of others without a reason makes more copies and nothing else.
//!
//! Deliberately not: who gets the piece from somebody else when he is asked for it is not told from one who has it; who cannot be
//! reached, or says himself that he lacks a file, is no liar.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, random_bytes};
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::{is_slice, pieces_of};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use tokio::time::Instant;

use super::asking::ask;
use super::spaces::files_with_spaces;
use super::{Placed, held_of, placed};
use crate::blobs::shows::Shown;
use crate::blobs::wishes::Wishes;
use crate::community::{Machine, Member, Rules, UNSHOWN_MAX, Unshown, below, keeping, leaf, members, own_place, read_unshown, unshown_text};
use crate::network::{Network, Stopped};
use crate::node::was_there;
use crate::peer::Peer;
use crate::who::now_ms;
use crate::words::{counted, join};

/// How long a piece may take: on the slowest line that counts, with as many others on their way as go before it. Who has no room on his
/// line says so, and who gives something else meanwhile is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who is asked for a piece and shows none has these points, and fewer who says nothing: his line may be slow.
const NOTHING: u32 = 2;
const SILENT: u32 = 1;
/// From so many on it is said: of one time nobody knows whether he was just letting go of it.
const ENOUGH: u32 = 4;
/// Files that a machine could not show, from which on none of its files counts.
const MANY: usize = 3;
/// After a file was not shown it is asked for again each time after so many times the pause of before, up to so many times the first.
const LONGER: u32 = 2;
const LONGEST: u32 = 64;

/// Machines that are told of, and of each those whom it could not show something.
const TOLD_MAX: usize = 64;
const NAMED_MAX: usize = 3;

/// A file that is placed with a machine: the community, the machine, the space that names it, which is the community or that of a member,
/// and which it is.
type Pair = (PublicKey, PublicKey, PublicKey, BlobHash);

/// What is said of a file that could not be shown: which it is, or, in the space of a member, which space that is, since most members
/// have only that.
fn said_of((community, _, space, hash): &Pair) -> BlobHash {
    if space == community { *hash } else { of_space(space) }
}

/// A space in the place of a file.
fn of_space(space: &PublicKey) -> BlobHash {
    BlobHash::from_bytes(*space.as_bytes())
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The piece.
    Good,
    /// Something else, or that it is not there, by one who says that he holds it.
    Nothing,
    /// Nothing at all, by one who is connected, or nothing that says why.
    Silent,
    /// He has no time, is gone, or says himself that he lacks it.
    Unknown,
}

/// A file that was not shown.
#[derive(Debug)]
struct Failing {
    points: u32,
    pause: u32,
    next: Instant,
}

/// Who could not show what.
#[derive(Debug, Default)]
struct Failures {
    all: BTreeMap<Pair, Failing>,
    /// Communities whose own place was read, which says what was so before a restart.
    read: BTreeSet<PublicKey>,
}

impl Failures {
    /// Goes on with what is said in a community, of what is placed there still.
    fn read(&mut self, community: &PublicKey, said: &BTreeSet<Unshown>, placed: &[Pair], now: Instant) {
        if !self.read.insert(*community) {
            return;
        }
        for (node, hash) in said {
            let of = placed.iter().filter(|pair| pair.1 == *node && hash.is_none_or(|hash| hash == said_of(pair)));
            // Of what is said of one file, or of a space, one is asked for: no more is said than was.
            for pair in of.take(if hash.is_some() { 1 } else { MANY }) {
                self.all.insert(*pair, Failing { points: ENOUGH, pause: 1, next: now });
            }
        }
    }

    /// Forgets what is not placed so any more, as far as it was looked at.
    fn retain(&mut self, placed: &BTreeSet<Pair>, looked: &BTreeSet<PublicKey>, communities: &[PublicKey]) {
        self.all.retain(|pair, _| placed.contains(pair) || !looked.contains(&pair.0) && communities.contains(&pair.0));
        self.read.retain(|community| communities.contains(community));
    }

    /// Whom to ask for what: first those again who failed, then anybody.
    fn next(&self, pairs: &[Pair], now: Instant, any: u64) -> Option<Pair> {
        let due = self.all.iter().filter(|(pair, failing)| failing.next <= now && pairs.contains(pair)).min_by_key(|(_, failing)| failing.next);
        if let Some((pair, _)) = due {
            return Some(*pair);
        }
        // Of whom it is known that many are missing there is no more to find out.
        let is_new = |pair: &&Pair| !self.all.contains_key(*pair) && self.of(&pair.0, &pair.1) < MANY;
        let others: Vec<&Pair> = pairs.iter().filter(is_new).collect();
        others.get(usize::try_from(any % others.len().max(1) as u64).ok()?).map(|pair| **pair)
    }

    fn of(&self, community: &PublicKey, node: &PublicKey) -> usize {
        self.all.iter().filter(|((of, by, ..), failing)| of == community && by == node && failing.points >= ENOUGH).count()
    }

    fn note(&mut self, pair: Pair, answer: Answer, now: Instant, every: Duration) {
        let points = match answer {
            Answer::Good => {
                let Some(failing) = self.all.get_mut(&pair) else { return };
                // Who fails again and again has it said more and more seldom: that takes room with all members.
                if failing.points == 0 {
                    failing.pause /= LONGER;
                }
                (failing.points, failing.next) = (0, now + every * failing.pause);
                if failing.pause <= 1 {
                    self.all.remove(&pair);
                }
                return;
            }
            Answer::Nothing => NOTHING,
            Answer::Silent => SILENT,
            Answer::Unknown => {
                self.all.get_mut(&pair).into_iter().for_each(|failing| failing.next = now + every * failing.pause);
                return;
            }
        };
        // What has no room to be said need not be known; what is not to be said makes room.
        let of_community = self.all.iter().filter(|((of, ..), _)| *of == pair.0);
        if !self.all.contains_key(&pair) && of_community.clone().count() >= UNSHOWN_MAX {
            let least = of_community.min_by_key(|(_, failing)| failing.points).filter(|(_, failing)| failing.points < ENOUGH);
            let Some(least) = least.map(|(pair, _)| *pair) else { return };
            self.all.remove(&least);
        }
        let failing = self.all.entry(pair).or_insert(Failing { points: 0, pause: 1, next: now });
        failing.points = failing.points.saturating_add(points);
        if failing.points >= ENOUGH {
            failing.pause = (failing.pause * LONGER).min(LONGEST);
        }
        failing.next = now + every * failing.pause;
    }

    /// What is to be said in a community.
    fn said(&self, community: &PublicKey) -> BTreeSet<Unshown> {
        let failing = self.all.iter().filter(|((of, ..), failing)| of == community && failing.points >= ENOUGH);
        failing.map(|(pair, _)| (pair.1, (self.of(community, &pair.1) < MANY).then_some(said_of(pair)))).collect()
    }
}

/// What machines could not show, as those say who asked them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts(BTreeMap<Unshown, BTreeSet<PublicKey>>);

impl Doubts {
    /// What members say by machines that were there lately: one that is gone takes nothing back. Who says it of more than half of
    /// the others is not believed: it is rather his own line.
    #[must_use]
    pub fn of(rules: &Rules, members: &[Member], own: &PublicKey, now_ms: u64) -> Self {
        Self::among(u64::from(rules.away_h) * 3_600_000, members.iter().flat_map(|member| &member.machines), own, now_ms)
    }

    /// The same of machines.
    pub(crate) fn among<'a>(away_ms: u64, machines: impl Iterator<Item = &'a Machine> + Clone, own: &PublicKey, now_ms: u64) -> Self {
        let mut doubts: BTreeMap<Unshown, BTreeSet<PublicKey>> = BTreeMap::new();
        let machines = || machines.clone();
        let is_there = |machine: &Machine| machine.node == *own || was_there(machine.seen_ms, away_ms, now_ms);
        let mut said: BTreeMap<PublicKey, BTreeSet<Unshown>> = BTreeMap::new();
        for machine in machines().filter(|machine| !machine.unshown.is_empty() && is_there(machine)) {
            for one in &machine.unshown {
                // What a machine says of itself is so, and nobody else says it.
                if one.0 == machine.node {
                    doubts.entry(*one).or_default();
                } else {
                    said.entry(machine.of).or_default().insert(*one);
                }
            }
        }
        if said.is_empty() {
            return Self(doubts);
        }
        let mut storing: BTreeMap<PublicKey, usize> = BTreeMap::new();
        for machine in machines().filter(|machine| machine.stores > 0) {
            *storing.entry(machine.of).or_default() += 1;
        }
        let all: usize = storing.values().sum();
        for (by, unshown) in said {
            let nodes: BTreeSet<&PublicKey> = unshown.iter().map(|(node, _)| node).collect();
            let others = all - storing.get(&by).copied().unwrap_or(0);
            if nodes.len() > (others / 2).max(2) {
                continue;
            }
            for one in unshown {
                doubts.entry(one).or_default().insert(by);
            }
        }
        Self(doubts)
    }

    /// Whether a machine does not count as one that holds a file.
    #[must_use]
    pub fn is_doubted(&self, node: &PublicKey, hash: &BlobHash) -> bool {
        [Some(*hash), None].into_iter().any(|hash| self.0.contains_key(&(*node, hash)))
    }

    /// The same for the files of the space of a member.
    #[must_use]
    pub fn is_doubted_for_space(&self, node: &PublicKey, space: &PublicKey) -> bool {
        self.is_doubted(node, &of_space(space))
    }

    /// Who could not show something, in words, as one of the machines says it.
    #[must_use]
    pub fn told(&self, members: &[Member], own: &PublicKey) -> Vec<Told> {
        let mut told: BTreeMap<PublicKey, (BTreeSet<Option<BlobHash>>, BTreeSet<PublicKey>)> = BTreeMap::new();
        for ((node, hash), by) in &self.0 {
            if told.len() >= TOLD_MAX && node != own && !told.contains_key(node) {
                continue;
            }
            let one = told.entry(*node).or_default();
            one.0.insert(*hash);
            one.1.extend(by);
        }
        let name = |key: &PublicKey| {
            let is_his = |member: &&Member| member.machines.iter().any(|machine| machine.node == *key || machine.of == *key);
            members.iter().find(is_his).map(|member| member.name.clone())
        };
        let one = |(node, (files, by)): (PublicKey, (BTreeSet<Option<BlobHash>>, BTreeSet<PublicKey>))| {
            let (whose, count_by) = (name(&node)?, by.len());
            let mut by: Vec<String> = by.iter().take(NAMED_MAX).filter_map(&name).collect();
            by.sort();
            let count = if files.contains(&None) { None } else { Some(files.len()) };
            let what = count.map_or_else(|| "many files".to_owned(), |count| counted(count, "file"));
            let (by, them) = (join(&by), if count == Some(1) { "it" } else { "them" });
            let says = if count_by == 0 {
                let (who, why) = if node == *own { ("this machine".to_owned(), ", as you paused or cancelled them") } else { (whose, "") };
                format!("{who} does without {what} placed there{why}: others hold them, too")
            } else if node == *own {
                format!(
                    "this machine says it holds {what} and could not show {them} to {by}, so others hold {them}, too: its disk may be broken, \
                     `timebus fsck` looks through it"
                )
            } else {
                format!("{whose} says it holds {what} and could not show {them} to {by}: others hold {them}, too, until {whose} shows {them}")
            };
            Some(Told { node, files: count, by: count_by, is_own: node == *own, says })
        };
        told.into_iter().filter_map(one).collect()
    }
}

/// A machine that could not show what it says it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub node: PublicKey,
    /// How many files; none if it is many.
    pub files: Option<usize>,
    /// How many members say so; none if it says itself that it does without them.
    pub by: usize,
    /// Whether it is this one.
    pub is_own: bool,
    /// All of it in words.
    pub says: String,
}

/// The same for people.
pub(crate) fn told_json(told: &[Told]) -> Serde {
    told.iter().map(|one| json!({"node": one.node.to_string(), "files": one.files, "by": one.by, "you": one.is_own, "says": one.says})).collect()
}

/// What is said in a community of those who could not show what they say they hold.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn doubted(store: &Store, space: Space, own: &PublicKey) -> Result<(Doubts, Vec<Member>), StorageError> {
    let rows = store.snapshot();
    let members = members(store, &rows, space)?;
    let doubts = Rules::of(store, &rows, space)?.map(|rules| Doubts::of(&rules, &members, own, now_ms()));
    Ok((doubts.unwrap_or_default(), members))
}

/// Asks until the peer stops.
pub(super) async fn check(peer: &Peer, network: &Network) {
    let every = peer.config.spot_check_every;
    if every.is_zero() {
        // Nobody would take back what was said before.
        return match take_back(peer, network).await {
            Ok(()) | Err(Stop::Stopped) => {}
            Err(Stop::Failed(error)) => tracing::warn!(%error, "what was said of those who could not show a file was not taken back"),
        };
    }
    let mut failures = Failures::default();
    loop {
        // Not all at once who were started at once.
        let jitter = every.mul_f64(f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX));
        tokio::time::sleep(every / 2 + jitter).await;
        match once(peer, network, &mut failures, every).await {
            Ok(()) => {}
            Err(Stop::Stopped) => return,
            Err(Stop::Failed(error)) => tracing::warn!(%error, "whether others hold what they say was not looked at"),
        }
    }
}

enum Stop {
    Stopped,
    Failed(StorageError),
}

impl From<Stopped> for Stop {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// What this machine has of the files of a community and of its members, each with the space that names it, and what it says there.
struct Looked {
    community: PublicKey,
    place: Option<Path>,
    files: Vec<(PublicKey, Placed)>,
    said: BTreeSet<Unshown>,
    /// What is placed with this machine of the files of the community itself, and the owner paused or cancelled.
    stopped: BTreeSet<Unshown>,
}

/// The files of a community and of its members that are here whole, with others that they are placed with. `space_of` says which
/// spaces machines call their own.
fn look(
    store: &Store,
    wishes: &Wishes,
    (community, own): (&PublicKey, &PublicKey),
    space_of: &BTreeMap<PublicKey, PublicKey>,
) -> Result<Option<Looked>, StorageError> {
    let Some(space) = store.held(community) else { return Ok(None) };
    let rows = store.snapshot();
    let mut files: Vec<(PublicKey, Placed)> = placed(store, &rows, space, own, now_ms())?.into_iter().map(|file| (*community, file)).collect();
    files.extend(files_with_spaces(store, &rows, (community, own), space_of, now_ms())?);
    let is_stopped = |file: &Placed| file.holders.contains(own) && wishes.is_stopped(&file.hash);
    let stopped = files.iter().filter(|(of, file)| of == community && is_stopped(file));
    let stopped = stopped.map(|(of, file)| (*own, Some(said_of(&(*community, *own, *of, file.hash))))).collect();
    let mut here: BTreeSet<(PublicKey, BlobHash)> = BTreeSet::new();
    for of in files.iter().map(|(of, _)| *of).collect::<BTreeSet<_>>() {
        let named = files.iter().filter(|(space, _)| *space == of).map(|(_, file)| file.hash).collect();
        here.extend(held_of(store, &of, named)?.into_iter().map(|hash| (of, hash)));
    }
    files.retain(|(of, file)| here.contains(&(*of, file.hash)) && store.blobs().is_some_and(|blobs| blobs.len_of(&file.hash) == Some(file.len)));
    let (place, said) = said(store, community, own)?;
    Ok(Some(Looked { community: *community, place, files, said, stopped }))
}

/// What this machine says in a community of those who could not show something, and where.
fn said(store: &Store, community: &PublicKey, own: &PublicKey) -> Result<(Option<Path>, BTreeSet<Unshown>), StorageError> {
    let Some(space) = store.held(community) else { return Ok((None, BTreeSet::new())) };
    let place = own_place(store, community).map(|place| below(&place, &["nodes", &own.to_string()]));
    let said = place.as_ref().map(|place| leaf(&store.snapshot(), space, &below(place, &["unshown"]))).transpose()?.flatten();
    Ok((place, said.as_ref().and_then(Serde::as_str).map(read_unshown).unwrap_or_default()))
}

/// Says it in a community.
async fn say(peer: &Peer, community: &PublicKey, place: Path, unshown: &BTreeSet<Unshown>) {
    let Some(space) = peer.store.held(community) else { return };
    let text = if unshown.is_empty() { Serde::Null } else { unshown_text(unshown).into() };
    if let Err(error) = keeping::merge(peer, space, place, &json!({ "unshown": text })).await {
        tracing::warn!(%error, "it could not be said in a community who does not hold what he says");
    }
}

/// Says of nobody any more that he could not show something.
async fn take_back(peer: &Peer, network: &Network) -> Result<(), Stop> {
    let own = network.endpoint().node();
    let communities: Vec<PublicKey> = network.ask(|node| node.book().communities.keys().copied().collect()).await?;
    for community in communities {
        if let (Some(place), unshown) = said(&peer.store, &community, &own).map_err(Stop::Failed)?
            && !unshown.is_empty()
        {
            say(peer, &community, place, &BTreeSet::new()).await;
        }
    }
    Ok(())
}

/// Asks one of them, and says in the communities what is so now.
async fn once(peer: &Peer, network: &Network, failures: &mut Failures, every: Duration) -> Result<(), Stop> {
    let own = network.endpoint().node();
    let (communities, there, mut space_of) = network
        .ask(|node| {
            let communities: Vec<PublicKey> = node.book().communities.keys().copied().collect();
            let there: Vec<PublicKey> = communities.iter().copied().filter(|community| node.is_anybody_there(community)).collect();
            (communities, there, node.spaces_of_machines())
        })
        .await?;
    // Where nobody is there who could be asked, there is nothing to be worked out.
    if there.is_empty() {
        return Ok(());
    }
    let store = peer.store.clone();
    space_of.insert(own, store.space());
    let wishes = network.blobs().wishes().clone();
    let looked = crate::blobs::beside(move || {
        there.iter().map(|community| look(&store, &wishes, (community, &own), &space_of)).collect::<Result<Vec<_>, _>>()
    });
    let looked: Vec<Looked> = looked.await.map_err(|_| Stop::Stopped)?.map_err(Stop::Failed)?.into_iter().flatten().collect();
    let of = |looked: &Looked| {
        let pairs = looked.files.iter().flat_map(|(space, file)| file.holders.iter().map(|node| (looked.community, *node, *space, file.hash)));
        pairs.filter(|pair| pair.1 != own).collect::<Vec<Pair>>()
    };
    let now = Instant::now();
    let mut pairs: Vec<Pair> = Vec::new();
    for looked in &looked {
        let placed = of(looked);
        failures.read(&looked.community, &looked.said, &placed, now);
        pairs.extend(placed);
    }
    failures.retain(&pairs.iter().copied().collect(), &looked.iter().map(|looked| looked.community).collect(), &communities);
    let nodes: BTreeSet<PublicKey> = pairs.iter().map(|pair| pair.1).collect();
    let links: BTreeMap<PublicKey, u64> =
        network.ask(move |node| nodes.into_iter().filter_map(|id| Some((id, node.link_to(&id)?))).collect()).await?;
    pairs.retain(|pair| links.contains_key(&pair.1));
    let is_it = |pair: &Pair, (space, file): &(PublicKey, Placed)| *space == pair.2 && file.hash == pair.3 && file.holders.contains(&pair.1);
    if let Some(pair) = failures.next(&pairs, now, u64::from_le_bytes(random_bytes()))
        && let Some((_, file)) =
            looked.iter().filter(|looked| looked.community == pair.0).flat_map(|looked| &looked.files).find(|file| is_it(&pair, file))
    {
        let answer = shown(network, pair, file, links[&pair.1]).await?;
        if answer != Answer::Good {
            tracing::debug!(node = %pair.1, hash = %pair.3, ?answer, "a file was not shown");
        }
        failures.note(pair, answer, Instant::now(), every);
    }
    for Looked { community, place, said, stopped, .. } in looked {
        let mut now = failures.said(&community);
        let room = UNSHOWN_MAX.saturating_sub(now.len());
        now.extend(stopped.into_iter().take(room));
        if let Some(place) = place.filter(|_| now != said) {
            say(peer, &community, place, &now).await;
        }
    }
    Ok(())
}

/// Asks for any piece of a file whoever says that he holds it.
async fn shown(network: &Network, (_, node, space, hash): Pair, file: &Placed, link: u64) -> Result<Answer, Stop> {
    let asked = Placed { holders: vec![node], ..file.clone() };
    let said = ask(network, &[(space, &asked)], &BTreeSet::from([node])).await?;
    if !said.get(&(node, space)).is_some_and(|files| files.contains(&hash)) {
        return Ok(Answer::Unknown);
    }
    let piece = u64::from_le_bytes(random_bytes()) % pieces_of(file.len);
    let Ok(piece) = u32::try_from(piece) else { return Ok(Answer::Unknown) };
    let shown = network.blobs().show(link, space, (hash, file.len), piece, PATIENCE).await;
    Ok(match shown {
        Some(Shown::Slice(slice)) => {
            let len = file.len;
            let is_good = crate::blobs::beside(move || is_slice(&hash, len, piece, &slice)).await.map_err(|_| Stop::Stopped)?;
            if is_good { Answer::Good } else { Answer::Nothing }
        }
        Some(Shown::Nothing) => Answer::Nothing,
        Some(Shown::Unsaid) => Answer::Silent,
        Some(Shown::Busy) => Answer::Unknown,
        None if network.ask(move |other| other.link_to(&node)).await? == Some(link) => Answer::Silent,
        None => Answer::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::community::placement::Offer;

    const EVERY: Duration = Duration::from_secs(60);

    fn key(number: u8) -> PublicKey {
        timebus_identity::SecretKey::from_seed([number; 32]).public()
    }

    fn pair(node: u8, file: u8) -> Pair {
        (key(1), key(node), key(1), BlobHash::from_bytes([file; 32]))
    }

    /// Most members have nothing of the space of another one, and know only where it is placed.
    #[tokio::test(start_paused = true)]
    async fn of_a_file_of_a_members_space_the_space_is_said() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let of_bob = |file: u8| (key(1), key(2), key(7), BlobHash::from_bytes([file; 32]));
        let pairs = [of_bob(1), of_bob(2), pair(2, 1)];
        failures.note(pairs[0], Answer::Nothing, now, EVERY);
        failures.note(pairs[0], Answer::Nothing, now, EVERY);
        let said = BTreeSet::from([(key(2), Some(of_space(&key(7))))]);
        assert_eq!(failures.said(&key(1)), said);
        // After a start he is asked for files of that space, and counts again when he shows them.
        let mut failures = Failures::default();
        failures.read(&key(1), &said, &pairs, now);
        assert_eq!(failures.said(&key(1)), said);
        pairs[..2].iter().for_each(|pair| failures.note(*pair, Answer::Good, now, EVERY));
        assert!(failures.said(&key(1)).is_empty());
        // Where nobody is to be asked now, nothing is forgotten.
        failures.note(pairs[0], Answer::Nothing, now, EVERY);
        failures.note(pairs[0], Answer::Nothing, now, EVERY);
        failures.retain(&BTreeSet::new(), &BTreeSet::new(), &[key(1)]);
        assert_eq!(failures.said(&key(1)), said);
        failures.retain(&BTreeSet::new(), &BTreeSet::from([key(1)]), &[key(1)]);
        assert!(failures.said(&key(1)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_show_a_file_twice_does_not_count_until_he_shows_it() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let pairs = [pair(2, 1), pair(2, 2), pair(3, 1)];
        failures.note(pairs[0], Answer::Nothing, now, EVERY);
        assert!(failures.said(&key(1)).is_empty(), "he may just have let go of it");
        assert_eq!(failures.next(&pairs, now, 0), Some(pairs[1]), "it is too soon to ask for it again");
        let later = now + EVERY;
        assert_eq!(failures.next(&pairs, later, 0), Some(pairs[0]));
        failures.note(pairs[0], Answer::Unknown, later, EVERY);
        assert!(failures.said(&key(1)).is_empty(), "who has no time has not failed");
        failures.note(pairs[0], Answer::Nothing, later, EVERY);
        let said = BTreeSet::from([(key(2), Some(pairs[0].3))]);
        assert_eq!(failures.said(&key(1)), said);
        assert!(failures.said(&key(9)).is_empty(), "in another community");
        assert_eq!(read_unshown(&unshown_text(&said)), said);
        // He is asked again and again, more and more seldom.
        let mut at = later;
        for pauses in [2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(failures.next(&pairs[..1], at + EVERY * pauses - Duration::from_millis(1), 0), None, "{pauses}");
            at += EVERY * pauses;
            assert_eq!(failures.next(&pairs[..1], at, 0), Some(pairs[0]), "{pauses}");
            failures.note(pairs[0], Answer::Nothing, at, EVERY);
        }
        failures.note(pairs[0], Answer::Good, at, EVERY);
        assert!(failures.said(&key(1)).is_empty());
        // If he goes on showing it, that is forgotten in the end; if not, it is said after a while.
        for pauses in [64, 32, 16, 8, 4, 2] {
            assert_eq!(failures.next(&pairs[..1], at + EVERY * pauses - Duration::from_millis(1), 0), None, "{pauses}");
            at += EVERY * pauses;
            failures.note(pairs[0], Answer::Good, at, EVERY);
        }
        assert!(failures.all.is_empty());
    }

    /// Each time it is said takes room with all members, for ever.
    #[tokio::test(start_paused = true)]
    async fn who_fails_and_shows_it_by_turns_is_told_of_more_and_more_seldom() {
        let (mut failures, mut at) = (Failures::default(), Instant::now());
        let began = at;
        let mut times = 0;
        while at < began + 1440 * EVERY {
            at += EVERY;
            if failures.next(&[pair(2, 1)], at, 0).is_none() {
                continue;
            }
            let before = failures.said(&key(1));
            failures.note(pair(2, 1), if before.is_empty() { Answer::Nothing } else { Answer::Good }, at, EVERY);
            times += usize::from(failures.said(&key(1)) != before);
        }
        assert!((10..40).contains(&times), "{times} times on one day");
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_show_several_files_counts_for_none_and_what_is_not_placed_any_more_is_forgotten() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let pairs: Vec<Pair> = (1..=4).map(|file| pair(2, file)).collect();
        for pair in &pairs[..3] {
            (0..4).for_each(|_| failures.note(*pair, Answer::Silent, now, EVERY));
        }
        assert_eq!(failures.said(&key(1)), BTreeSet::from([(key(2), None)]));
        assert_eq!(failures.next(&pairs, now, 0), None, "of him there is no more to find out");
        // After a restart it goes on with what it said.
        let mut again = Failures::default();
        again.read(&key(1), &BTreeSet::from([(key(2), None)]), &pairs, now);
        assert_eq!(again.said(&key(1)), failures.said(&key(1)));
        again.read(&key(1), &BTreeSet::from([(key(3), None)]), &[pair(3, 1)], now);
        assert_eq!(again.said(&key(1)), failures.said(&key(1)), "it is read once");
        failures.retain(&pairs[1..].iter().copied().collect(), &BTreeSet::from([key(1)]), &[key(1)]);
        assert_eq!(failures.said(&key(1)), [2, 3].map(|file| (key(2), Some(pair(2, file).3))).into());
        // No more is known than there is room to say.
        (0..200).for_each(|file| failures.note(pair(3, file), Answer::Nothing, now, EVERY));
        assert_eq!((failures.all.len(), failures.said(&key(1)).len()), (UNSHOWN_MAX, 2), "those that are said stay");
    }

    fn member(number: u8, unshown: &[Unshown]) -> Member {
        let (node, of, unshown) = (key(number), key(number), unshown.iter().copied().collect());
        let machines = vec![Machine { node, of, stores: 1 << 30, seen_ms: 1, keeps_back: BTreeSet::new(), unshown }];
        Member { place: Path::root(), keys: vec![key(number)], name: format!("m{number}"), is_organizer: false, since_ms: 0, by: None, machines }
    }

    #[test]
    fn a_file_that_was_not_shown_is_placed_with_one_more_and_nobody_loses_his_part() {
        let rules = Rules { replicas: 2, ..Rules::new("choir") };
        let offers: Vec<Offer> = (1..=6).map(|number| Offer { node: key(number), of: key(number), bytes: 1000, weight: 1000 }).collect();
        let file = |number: u8| {
            let (hash, path) = (BlobHash::from_bytes([number; 32]), Path::root());
            Placed { hash, len: 10, path, author: key(9), holders: vec![], unshown: vec![] }
        };
        let at = |members: &[Member]| {
            let mut files: Vec<Placed> = (0..20).map(file).collect();
            super::super::place(&key(1), &rules, (&offers, &Doubts::of(&rules, members, &key(9), 2)), &mut files, |key| *key);
            files
        };
        let members = |unshown: &[Unshown]| (1..=6).map(|number| member(number, if number == 1 { unshown } else { &[] })).collect::<Vec<_>>();
        let before = at(&members(&[]));
        let liar = before[0].holders[0];
        let after = at(&members(&[(liar, Some(before[0].hash))]));
        assert_eq!((&after[0].holders[..2], after[0].holders.len(), &after[0].unshown[..]), (&before[0].holders[..], 3, &[liar][..]));
        assert_eq!((after[0].counted().count(), &after[1..]), (2, &before[1..]), "all others stay where they are");
        let after = at(&members(&[(liar, None)]));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((&after.holders[..2], after.counted().count()), (&before.holders[..], 2));
            assert_eq!(after.holders.len(), if before.holders.contains(&liar) { 3 } else { 2 });
        }
        // Who says it of more than half of the others is not believed.
        let all: Vec<Unshown> = (2..=6).map(|number| (key(number), None)).collect();
        assert_eq!((at(&members(&all)), at(&members(&all[..3]))), (before.clone(), before.clone()));
        assert_ne!(at(&members(&all[..2])), before);
    }

    /// The machine that said it was replaced, or its owner has not started it since.
    #[test]
    fn what_a_machine_said_that_is_gone_does_not_count() {
        let (rules, hour_ms) = (Rules { away_h: 24, ..Rules::new("choir") }, 3_600_000);
        let hash = BlobHash::from_bytes([7; 32]);
        let members = [member(1, &[(key(2), Some(hash))]), member(2, &[]), member(3, &[])];
        let is_doubted = |own: u8, now_ms: u64| Doubts::of(&rules, &members, &key(own), now_ms).is_doubted(&key(2), &hash);
        assert!(is_doubted(3, 23 * hour_ms) && !is_doubted(3, 25 * hour_ms));
        assert!(is_doubted(1, 25 * hour_ms), "what this one says itself counts, whatever it said last");
    }

    #[test]
    fn who_says_himself_that_he_does_without_a_file_is_believed_and_no_liar() {
        let (rules, hash) = (Rules::new("choir"), BlobHash::from_bytes([7; 32]));
        let members = [member(1, &[(key(1), Some(hash))]), member(2, &[]), member(3, &[])];
        let doubts = Doubts::of(&rules, &members, &key(2), 2);
        assert!(doubts.is_doubted(&key(1), &hash) && !doubts.is_doubted(&key(2), &hash));
        let told = doubts.told(&members, &key(2));
        assert_eq!((told.len(), told[0].by, told[0].says.as_str()), (1, 0, "m1 does without 1 file placed there: others hold them, too"));
        assert!(doubts.told(&members, &key(1))[0].says.contains("this machine does without 1 file placed there, as you paused"));
    }

    #[test]
    fn it_is_said_in_words_who_could_not_show_what() {
        let members = [member(1, &[(key(2), Some(BlobHash::from_bytes([7; 32])))]), member(2, &[]), member(3, &[(key(2), None)])];
        let rules = Rules::new("choir");
        let doubts = Doubts::of(&rules, &members[..2], &key(1), 2);
        let told = doubts.told(&members[..2], &key(1));
        assert_eq!((told.len(), told[0].files, told[0].is_own, told[0].by), (1, Some(1), false, 1));
        assert!(told[0].says.starts_with("m2 says it holds 1 file and could not show it to m1"), "{told:?}");
        let told = Doubts::of(&rules, &members, &key(2), 2).told(&members, &key(2));
        assert!(told[0].is_own && told[0].by == 2 && told[0].files.is_none() && told[0].says.contains("to m1 and m3"), "{told:?}");
    }
}
