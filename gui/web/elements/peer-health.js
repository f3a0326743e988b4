import { h, withCode } from "../dom.js";
import { ago, plural, size } from "../words.js";
import { wordsOfDispute } from "./root-dispute.js";

/** Below this, writes will soon fail. */
const FREE_BYTES_MIN = 100_000_000;
/** A clock that is behind what it wrote by less than this was merely corrected. */
const CLOCK_SLACK_MS = 60_000;
/** So long it is told that a right went over to a new device of somebody. */
const NEWS_MS = 30 * 24 * 3_600_000;

/** @typedef {{ grade: "good" | "note" | "bad", says: string, fix?: string }} Finding */
/** @typedef {Awaited<ReturnType<import("../api/peer.js").Peer["health"]>>} Health */

/** What works, what does not, and what to do about it. */
export class PeerHealth extends HTMLElement {
  /** @param {Health} health */
  show(health) {
    const findings = [...disk(health), ...network(health), ...roots(health), ...rights(health), ...clock(health)];
    const marks = { good: ["✓", "fine"], note: ["i", "worth knowing"], bad: ["!", "needs you"] };
    this.replaceChildren(
      h(
        "ul",
        { class: "findings" },
        findings.map(({ grade, says, fix }) =>
          h(
            "li",
            { class: `grade-${grade}` },
            h("span", { class: "mark", role: "img", "aria-label": marks[grade][1] }, marks[grade][0]),
            h("span", {}, says, fix ? h("span", { class: "soft small fix" }, withCode(fix)) : ""),
          ),
        ),
      ),
    );
  }
}

/** @param {Health} health @returns {Finding[]} */
function disk({ status, files }) {
  const { opened } = status;
  /** @type {Finding[]} */
  const found = [];
  const free_bytes = files?.free_bytes ?? null;
  if (free_bytes !== null)
    found.push(
      free_bytes < FREE_BYTES_MIN
        ? { grade: "bad", says: `The disk is nearly full: ${size(free_bytes)} free.`, fix: "Make room, or nothing more can be saved." }
        : { grade: "good", says: `The disk has room: ${size(free_bytes)} free.` },
    );
  if (opened.damaged > 0)
    found.push({
      grade: "bad",
      says: `${plural(opened.damaged, "part", "parts")} of what is stored could not be read at the last start.`,
      fix: "Type timebus fsck in a terminal: it says what is lost and what can be fetched again.",
    });
  if (opened.torn_bytes > 0)
    found.push({
      grade: "note",
      says: `The last start cut off ${size(opened.torn_bytes)} of an unfinished write. Nothing that was saved is lost.`,
    });
  if (opened.new_device)
    found.push({ grade: "note", says: "This folder is a copy of another one; it writes as a device of its own." });
  if (opened.rebuilt) found.push({ grade: "note", says: `The index was rebuilt at the last start: ${opened.rebuilt}` });
  return found;
}

/** @param {Health} health @returns {Finding[]} */
function network({ network, spaces }) {
  /** @type {Finding[]} */
  const found = [];
  const is_near = (/** @type {string} */ address) => /127\.0\.0\.1|\[::1\]|localhost/.test(address);
  if (network.addresses.length === 0)
    found.push({ grade: "note", says: "This peer is offline: it calls nobody, and nobody reaches it." });
  else if (network.addresses.every(is_near))
    found.push({ grade: "note", says: "Only programs on this machine can reach this peer.", fix: "Connect this machine to a network, and start it without --udp, if others shall." });
  else found.push({ grade: "good", says: "Others can reach this peer, at least in your own network." });
  if (network.lan_problem)
    found.push({ grade: "note", says: `Peers in your network are not found by themselves: ${network.lan_problem}` });
  for (const relay of network.relays)
    if (!relay.connected)
      found.push({ grade: "note", says: `The relay ${relay.url} is not connected.`, fix: relay.problem ?? "Look whether it runs." });
  // A community is nobody who could be away or share something: it comes from those who are in it.
  const people = spaces.filter(({ is_community }) => !is_community);
  const is_away = (/** @type {(typeof people)[number]} */ { state }) => state === "unreachable" || state === "unknown";
  const lost = people.filter((space) => is_away(space) && space.seen_ms);
  const never = people.filter((space) => is_away(space) && !space.seen_ms);
  const denied = people.filter(({ state }) => state === "denied");
  const names = (/** @type {typeof spaces} */ all) =>
    all
      .slice(0, 5)
      .map(({ petname, name }) => petname ?? name)
      .join(", ") + (all.length > 5 ? ` and ${all.length - 5} more` : "");
  if (lost.length > 0)
    found.push({
      grade: "note",
      says: `Away: ${names(lost)}. What you have of them stays readable.`,
      fix: "They are called again by themselves.",
    });
  if (never.length > 0)
    found.push({ grade: "note", says: `Not reached yet: ${names(never)}.`, fix: "They are called again by themselves; People tells how it is." });
  if (denied.length > 0)
    found.push({ grade: "note", says: `Does not share with you: ${names(denied)}.`, fix: "Ask for a new invite." });
  const reached = people.length - lost.length - never.length - denied.length;
  if (reached > 0) found.push({ grade: "good", says: `Connected with ${plural(reached, "person", "people")}.` });
  return found;
}

/** @param {Health} health @returns {Finding[]} */
function roots({ disputes }) {
  return disputes.map((dispute) => {
    const { says, fix } = wordsOfDispute(dispute);
    return { grade: dispute.own ? "bad" : "note", says, fix: fix.charAt(0).toUpperCase() + fix.slice(1) };
  });
}

/** @param {Health} health @returns {Finding[]} */
function rights({ grants }) {
  return grants
    .filter(({ live, instead_of, time_ms }) => live && instead_of && Date.now() - time_ms < NEWS_MS)
    .map(({ id, says, time_ms }) => ({
      grade: "note",
      says: `${says} (${ago(time_ms)}): his root key says so.`,
      fix: `If he knows nothing of that, type timebus revoke ${id.slice(0, 8)} in a terminal.`,
    }));
}

/** @param {Health} health @returns {Finding[]} */
function clock({ latest_ms }) {
  return latest_ms !== null && latest_ms > Date.now() + CLOCK_SLACK_MS
    ? [
        {
          grade: "bad",
          says: "The clock of this machine is behind what was written before.",
          fix: "Set it, best by turning on network time.",
        },
      ]
    : [{ grade: "good", says: "The clock agrees with what was written." }];
}

customElements.define("peer-health", PeerHealth);
