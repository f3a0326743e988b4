//! What the sessions say, and what is done about it.

use timebus_identity::PublicKey;

use super::feeds::{Feed, Opened};
use super::introductions::CROWDED_S;
use super::known::World;
use super::lookup::By;
use super::spaces::core;
use super::{Act, Channel, DENIED_FIRST_MS, DENIED_MS, Heard, LinkId, Node, feeds, id_of, speaks_for};
use crate::sync::frame::{Code, FEEDS};
use crate::sync::{End, Input, Output, Replica};

/// Points of penalty that are a ban.
const BAN_POINTS: u32 = 64;
/// How long a ban lasts.
const BAN_MS: u64 = 10 * 60_000;

impl Node {
    /// Hands an input to the session of a link. What one session says is done in the order in which it said it, so what
    /// comes up meanwhile waits until then.
    pub(super) fn drive(&mut self, link: LinkId, input: Input, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.inputs.push_back((link, input));
        if !self.is_performing {
            self.perform(link, Vec::new(), now_ms, store, acts);
        }
    }

    pub(super) fn perform(&mut self, link: LinkId, outputs: Vec<Output>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.is_performing = true;
        self.perform_one(link, outputs, now_ms, store, acts);
        while let Some((link, input)) = self.inputs.pop_front() {
            let Some(linked) = self.links.get_mut(&link) else { continue };
            let outputs = linked.session.handle(now_ms, input, &World { store, book: &self.book, shut: &self.holds.shut });
            self.perform_one(link, outputs, now_ms, store, acts);
        }
        self.is_performing = false;
    }

    fn perform_one(&mut self, link: LinkId, outputs: Vec<Output>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        for output in outputs {
            let Some(linked) = self.links.get_mut(&link) else { return };
            match output {
                Output::Send(bytes) => acts.push(Act::Send { link, bytes }),
                Output::Store { ticket, space, timeline, changes } => {
                    if let Some(feed) = self.feeds.get_mut(&timeline) {
                        feed.came(link, now_ms);
                    }
                    acts.push(Act::Store { link, ticket, space, timeline, changes });
                }
                Output::Ready(remote) => self.ready(link, remote, now_ms, store, acts),
                Output::Redeemed(answer) => self.redeemed(link, &answer, now_ms, store, acts),
                Output::Fed { timeline, standing } => {
                    if let Some(feed) = self.feeds.get_mut(&timeline) {
                        feed.told(link, standing, now_ms, store);
                    }
                }
                Output::Opened { space, timeline, by_remote, wants, asked } => {
                    linked.denied.remove(&timeline);
                    linked.refusals.remove(&timeline);
                    linked.waiting.remove(&timeline);
                    linked.channels.insert(timeline, Channel { space, is_caught_up: false });
                    self.stand(link, store, acts);
                    let Some(linked) = self.links.get(&link) else { return };
                    // Statements are few, and everybody gets them from everybody.
                    if timeline != core(&space)[0] {
                        let place = |node: PublicKey| feeds::order(&timeline, &node);
                        let opened = Opened {
                            agrees: linked.session.is_agreed(FEEDS),
                            place: linked.node.map(place).filter(|other| *other < place(self.config.node)),
                            wants: [wants, asked],
                            heads: linked.session.heads_of(&timeline).to_vec(),
                        };
                        let feed = self.feeds.entry(timeline).or_insert_with(|| Feed::new(space, timeline));
                        feed.opened(link, opened, now_ms, store);
                    }
                    // Some of it may have come over another link since it was asked for.
                    self.drive(link, Input::Appended { timeline }, now_ms, store, acts);
                    self.fetches.retain(|_, (_, until_ms)| *until_ms > now_ms);
                    if let Some((ids, _)) = self.fetches.get(&timeline) {
                        self.drive(link, Input::Fetch { timeline, ids: ids.clone() }, now_ms, store, acts);
                    }
                    if by_remote && self.introduce(link, timeline, now_ms, store, acts) && self.is_crowded(link) {
                        self.drive(link, Input::Close { code: Code::Busy, retry_after_s: CROWDED_S }, now_ms, store, acts);
                    }
                    acts.push(Act::Changed);
                }
                Output::Denied { timeline, code, retry_after_s } => {
                    if let Some(space) = self.space_of(&timeline)
                        && let Some(linked) = self.links.get_mut(&link)
                    {
                        let refusals = linked.refusals.entry(timeline).or_default();
                        let least_ms = if code == Code::NotHere { again_ms(*refusals) } else { DENIED_MS };
                        *refusals = refusals.saturating_add(1);
                        linked.denied.insert(timeline, (space, now_ms + (retry_after_s * 1000).max(least_ms)));
                    }
                    acts.push(Act::Changed);
                }
                Output::InVain { space } => self.asked_in_vain(link, space, now_ms, store, acts),
                Output::Closed { timeline, retry_after_s, code } => {
                    if code == Code::TooMuch {
                        linked.waiting.insert(timeline);
                    }
                    if let Some(feed) = self.feeds.get_mut(&timeline) {
                        feed.closed(link);
                    }
                    if let Some(channel) = linked.channels.remove(&timeline)
                        && code != Code::Done
                    {
                        linked.denied.insert(timeline, (channel.space, now_ms + (retry_after_s * 1000).max(DENIED_MS)));
                    }
                    self.stand(link, store, acts);
                    acts.push(Act::Changed);
                }
                Output::NotTaken { timeline, authors } => {
                    if authors.contains(&self.config.device) {
                        linked.waiting.insert(timeline);
                        acts.push(Act::Changed);
                    }
                }
                Output::Weighed { space, timeline, heads } => acts.push(Act::Weigh { link, space, timeline, heads }),
                Output::CaughtUp { timeline, .. } => {
                    if let Some(channel) = linked.channels.get_mut(&timeline) {
                        channel.is_caught_up = true;
                    }
                    acts.push(Act::Changed);
                }
                Output::Resume { timeline, cursor } => {
                    if let Some(remote) = &linked.remote {
                        self.book.set_cursor(&id_of(remote, linked.node), &timeline, cursor);
                        acts.push(Act::Save);
                    }
                }
                Output::Fetched { changes } => {
                    for change in &changes {
                        let header = change.content().header();
                        if let Some((ids, _)) = self.fetches.get_mut(&header.timeline) {
                            ids.retain(|id| *id != change.content().id());
                        }
                    }
                    acts.push(Act::Fetched { changes });
                }
                Output::Delivered { timeline, upto } => {
                    let known = self.delivered.entry(timeline).or_default();
                    if upto > *known {
                        *known = upto;
                        acts.push(Act::Changed);
                    }
                }
                Output::Redeem { token, device } => {
                    if let Some(remote) = linked.remote.clone() {
                        acts.push(Act::Redeem { link, token, device, remote });
                    }
                }
                Output::Put { space, notices } => self.notices(link, space, notices, now_ms, store, acts),
                Output::Took { space, results } => self.took(link, &space, results, now_ms, acts),
                Output::Presence { timeline, path, seats } => {
                    if let Some(remote) = &linked.remote
                        && let Some(device) = remote.keys.first().copied()
                    {
                        // Of a space that is not here anybody may say that it is his.
                        let is_here = store.local(&remote.space, &core(&remote.space)[0]).is_ok_and(|t| t.is_some());
                        let by = if is_here && speaks_for(remote, &remote.space, store) { remote.space } else { device };
                        acts.push(Act::Presence(Heard { timeline, path, by, device, seats }));
                    }
                }
                Output::Records(records) => self.records_came(By::Link(link), records, now_ms, store, acts),
                Output::AskRecords(keys) => self.answer_records(link, &keys, now_ms, store, acts),
                Output::AskFiles(space, files) => {
                    // Who may not have the space learns nothing of what is in it.
                    let [_, main] = core(&space);
                    if linked.remote.as_ref().is_some_and(|remote| store.may_sync(remote, &space, &main).unwrap_or(false)) {
                        acts.push(Act::AskFiles { link, space, files });
                    }
                }
                Output::Files(space, files) => {
                    if let Some(node) = linked.node {
                        acts.push(Act::Files { node, space, files });
                    }
                }
                Output::Providers { timeline, providers } => self.introduced(&timeline, providers, now_ms, acts),
                Output::Penalty { points, fault } => {
                    linked.points = linked.points.saturating_add(points);
                    let who = linked.remote.as_ref().map(|remote| id_of(remote, linked.node)).or(linked.node);
                    tracing::debug!(peer = ?who, points, %fault, "a peer misbehaved");
                    if linked.points >= BAN_POINTS
                        && let Some(who) = who
                    {
                        tracing::warn!(peer = ?who, %fault, "a peer misbehaved again and again, and is left alone for a while");
                        self.bans.insert(who, now_ms + BAN_MS);
                    }
                }
                Output::SetTimer { at_ms } => linked.timer_ms = Some(at_ms),
                Output::End(end) => {
                    let (code, why) = ending(&end);
                    acts.push(Act::Close { link, code, text: String::new() });
                    self.link_down(link, why, now_ms, acts);
                }
            }
        }
    }

    pub(super) fn blame(&mut self, link: LinkId, points: u32, why: &str, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.get_mut(&link) else { return };
        linked.points = linked.points.saturating_add(points);
        let who = linked.remote.as_ref().map(|remote| id_of(remote, linked.node)).or(linked.node);
        tracing::debug!(peer = ?who, points, why, "a peer misbehaved");
        if linked.points >= BAN_POINTS {
            if let Some(who) = who {
                tracing::warn!(peer = ?who, why, "a peer misbehaved again and again, and is left alone for a while");
                self.bans.insert(who, now_ms + BAN_MS);
            }
            self.drive(link, Input::Close { code: Code::Banned, retry_after_s: BAN_MS / 1000 }, now_ms, store, acts);
        }
    }
}

/// What the end of a session is called, as a code and for people.
fn ending(end: &End) -> (u8, Option<String>) {
    match end {
        End::Asked(_) => (0, None),
        End::Remote { code: Code::NotHere, .. } => (0, Some("it does not talk to us".to_owned())),
        End::Remote { code, text, .. } if text.is_empty() => (0, Some(format!("it closed the link ({code:?})"))),
        End::Remote { text, .. } => (0, Some(format!("it closed the link: {text}"))),
        End::Fault => (1, Some("it broke the protocol".to_owned())),
        End::Unsupported(what) => (2, Some(format!("it speaks another version: {what}"))),
        End::Timeout => (1, Some("it did not say who it is in time".to_owned())),
        End::Store(error) => (8, Some(error.to_string())),
    }
}

/// Milliseconds until a timeline is asked for again that was not given so often before, one time after the other.
fn again_ms(refusals: u32) -> u64 {
    (DENIED_FIRST_MS << refusals.min(8)).min(DENIED_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_asks_soon_and_then_ever_more_rarely() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, u32::MAX].map(again_ms), [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    }
}
