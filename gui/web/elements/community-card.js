import { hrefOf } from "../api/pages.js";
import { NOTICES_MAX } from "../api/peer.js";
import { h, make } from "../dom.js";
import { ago, plural, size } from "../words.js";
import { RootDispute } from "./root-dispute.js";

/**
 * @typedef {object} Known
 * @property {import("../api/told.js").Community} community
 * @property {import("../api/told.js").Dispute | null} dispute
 * @property {import("../api/told.js").Member[]} members
 * @property {{ notices: import("../api/told.js").Notice[], may_write: boolean }} board
 */

/** @typedef {import("../api/told.js").Community} Community */

/** Members that are named; of more it is said how many there are. */
const NAMED_MAX = 30;
/** Notices that are shown before somebody asks for more. */
const SHOWN_MAX = 5;

/** A community: who is in it, the latest of its board, and a line to write on that. */
export class CommunityCard extends HTMLElement {
  /** @type {Known | null} */
  known = null;
  /** The page that does what is asked, and says what went wrong. @type {import("./people-page.js").PeoplePage | null} */
  page = null;
  #text = h("input", {
    type: "text",
    maxLength: 2000,
    "aria-label": "A notice for the board",
    placeholder: "A notice for all members",
  });

  connectedCallback() {
    if (!this.known) return;
    const { community, dispute, members, board } = this.known;
    const title = community.title ?? community.petname ?? community.community.slice(0, 8);
    const handing = community.handing;
    const isLeaving = handing?.leaves ?? false;
    const end = community.only_organizer
      ? " You are its only organizer: nobody will be able to change its rules, remove anybody or make organizers."
      : "";
    const why = isLeaving ? "Others do not have all yet that is held here." : "What is here of it stays, and nothing new comes.";
    const leave = () =>
      confirm(`Leave ${title}${isLeaving ? " at once" : ""}? ${why}${end}`) &&
      this.page?.do(() => this.page?.peer?.leaveCommunity(community.community, isLeaving));
    const post = (/** @type {Event} */ event) => void this.#write(event, community.community);
    this.classList.add("stack");
    this.replaceChildren(
      h(
        "div",
        { class: "row-head" },
        h("a", { href: hrefOf([`@${community.petname ?? community.community}`]) }, h("strong", {}, title)),
        h("code", { class: "soft", title: community.community }, `${community.community.slice(0, 8)}…`),
        h("span", { class: `state ${community.connected > 0 ? "live" : "idle"}` }, wordsOf(community)),
      ),
      dispute ? make(RootDispute, { dispute }) : "",
      community.rules?.about ? h("p", { class: "soft small", dir: "auto" }, community.rules.about) : "",
      this.#members(community, members),
      this.#board(community, board.notices),
      board.may_write ? h("form", { class: "buttons", onsubmit: post }, this.#text, h("button", {}, "Put on the board")) : "",
      handing ? h("p", { class: "soft small" }, wordsOfHanding(handing)) : "",
      h(
        "div",
        { class: "buttons" },
        ["organizer", "member"].includes(community.you) ? this.#carried(community) : "",
        h("button", { type: "button", class: "danger", onclick: leave }, isLeaving ? "Leave at once" : "Leave"),
      ),
    );
  }

  /** @param {Community} community @param {import("../api/told.js").Notice[]} notices */
  #board(community, notices) {
    const all = notices.map((notice) => this.#notice(community, notice));
    const list = h("ul", { class: "rows" }, all.slice(0, SHOWN_MAX));
    if (all.length <= SHOWN_MAX) return list;
    const key = `board ${community.community}`;
    const show = () => {
      this.page?.opened.add(key);
      list.append(...all.slice(SHOWN_MAX));
      more.remove();
    };
    const many = notices.length < NOTICES_MAX ? `all ${notices.length}` : `the last ${notices.length}`;
    const more = h("button", { type: "button", class: "link", onclick: show }, `Show ${many} notices`);
    const board = h("div", { class: "stack" }, list, h("p", { class: "small" }, more));
    if (this.page?.opened.has(key)) show();
    return board;
  }

  /** @param {Community} community @param {import("../api/told.js").Notice} notice */
  #notice({ community, you }, notice) {
    const by = notice.you ? "you" : (notice.by ?? "somebody");
    const when = notice.at_ms ? `, ${ago(notice.at_ms)}` : "";
    const remove = () => confirm("Take this notice off the board, for all?") && this.page?.do(() => this.page?.peer?.removeNoticeOfBoard(community, notice));
    return h(
      "li",
      {},
      h("span", { dir: "auto" }, notice.text),
      h("span", { class: "soft small" }, ` ${by}${when} `),
      notice.you || you === "organizer" ? h("button", { type: "button", class: "link small", onclick: remove }, "take it off") : "",
    );
  }

  /** Who is in it; whoever organizes it can change that. @param {Community} community @param {import("../api/told.js").Member[]} members */
  #members({ community, you, title }, members) {
    const shown = members.slice(0, NAMED_MAX);
    const more = members.length > shown.length ? ` and ${members.length - shown.length} more` : "";
    const all = h("p", { class: "small" }, `${shown.map((member) => wordsOfMember(member)).join(", ")}${more}`);
    const others = members.filter((member) => !member.you);
    if (you !== "organizer" || others.length === 0) return all;
    const remove = (/** @type {import("../api/told.js").Member} */ { name, key }) => {
      const question = `Remove ${name} from ${title ?? "it"}? Nothing new goes to ${name}, who keeps what is there already and may write no more. Whom ${name} let in stays.`;
      return confirm(question) && this.page?.do(() => this.page?.peer?.removeMember(community, key));
    };
    const promote = (/** @type {import("../api/told.js").Member} */ { name, key }) =>
      confirm(`Make ${name} an organizer, who changes the rules, removes members and makes organizers?`) &&
      this.page?.do(() => this.page?.peer?.makeOrganizer(community, key));
    const row = (/** @type {import("../api/told.js").Member} */ member) =>
      h(
        "li",
        { class: "row-head" },
        h("span", { dir: "auto" }, wordsOfMember(member)),
        member.organizer ? "" : h("button", { type: "button", onclick: () => promote(member) }, `Make ${member.name} an organizer`),
        h("button", { type: "button", class: "danger", onclick: () => remove(member) }, `Remove ${member.name}`),
      );
    const key = `members ${community}`;
    const opened = this.page?.opened;
    const details = h("details", { open: opened?.has(key) }, h("summary", {}, "Organize the members"), h("ul", { class: "rows" }, others.map(row)));
    details.addEventListener("toggle", () => (details.open ? opened?.add(key) : opened?.delete(key)));
    return h("div", {}, all, details);
  }

  /** The name that the owner carries there. @param {Community} community */
  #carried({ community, name }) {
    const input = h("input", { type: "text", maxLength: 64, value: name ?? "", "aria-label": "What you are called there" });
    const rename = (/** @type {Event} */ event) => {
      event.preventDefault();
      input.blur();
      void this.page?.do(() => this.page?.peer?.carryName(community, input.value.trim()));
    };
    return h("form", { class: "buttons", onsubmit: rename }, input, h("button", {}, "Be called so there"));
  }

  /** @param {Event} event @param {string} key */
  async #write(event, key) {
    event.preventDefault();
    const text = this.#text.value.trim();
    if (!text) return;
    await this.page?.do(() => this.page?.peer?.post(key, text));
    this.#text.value = "";
  }
}

/** @param {import("../api/told.js").Community} community */
function wordsOf(community) {
  const name = community.name ? ` as ${community.name}` : "";
  const reach = community.connected > 0 ? `${community.connected} connected with you` : "nobody of them connected now";
  switch (community.you) {
    case "organizer":
      return `you organize it${name}; ${plural(community.members, "member")}, ${reach}`;
    case "member":
      return `you are in it${name}; ${plural(community.members, "member")}, ${reach}`;
    case "waiting":
      return "waiting to be let in";
    case "elsewhere":
      return "another machine of yours is in it and lets this one in when both run; else ask for a new invite";
    default:
      return "you are no member any more";
  }
}

/** @param {NonNullable<import("../api/told.js").Community["handing"]>} handing */
function wordsOfHanding(handing) {
  const end = handing.leaves ? ", then you leave it" : "";
  const nowhere = handing.nowhere > 0 ? ` Nobody has room for ${plural(handing.nowhere, "file")}.` : "";
  if (handing.files === 0) return `Others have what was held here${end}.${nowhere}`;
  return `${plural(handing.files, "file")}, ${size(handing.bytes)}, go to others before they are held here no longer${end}.${nowhere}`;
}

/** @param {import("../api/told.js").Member} member */
function wordsOfMember(member) {
  if (member.you) return `${member.name} (you)`;
  const state = member.connected ? ", connected" : "";
  return member.organizer || state ? `${member.name} (${member.organizer ? "organizes" : "member"}${state})` : member.name;
}

customElements.define("community-card", CommunityCard);
