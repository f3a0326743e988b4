import { hrefOf } from "../api/pages.js";
import { h, make } from "../dom.js";
import { parsePath } from "../path.js";
import { ago, exactTime, plural, size } from "../words.js";
import { LivePage } from "./live-page.js";
import { UnheardList } from "./unheard-list.js";

/** @typedef {import("../api/told.js").Inbox} Inbox */
/** @typedef {import("../api/told.js").Left} Left */
/** @typedef {{ inbox: Inbox, own: string, lists: import("./unheard-list.js").Lists }} Shown */

/** Letters of what somebody says that are shown at once. */
const SAID_MAX = 300;

/** What was left, as one says it of its sender. @type {Record<string, string>} */
const KINDS = {
  like: "likes",
  reply: "answers",
  mention: "mentions you at",
  follow: "follows you, seen from",
  note: "left a note about",
};

/**
 * What others left for the owner: likes, answers, mentions and notes. They are removed here, and whoever sends them is
 * muted or blocked.
 * @extends {LivePage<Shown>}
 */
export class InboxPage extends LivePage {
  /** Called with what is shown, which is new no more. @type {(notices: Left[]) => void} */
  seen = () => {};
  #about = h("p", { class: "soft small" });
  #list = h("ul", { class: "rows" });
  #unheard = h("div", { class: "stack" });

  get parts() {
    return ["inbox", "lists"];
  }

  frame() {
    return [
      h("h1", {}, "Inbox"),
      h(
        "p",
        { class: "soft" },
        "Anybody who reaches your peer may leave a short notice that something of theirs points at something of yours.",
        " What your peer can look up itself, it confirms.",
      ),
      this.#list,
      this.#about,
      this.#unheard,
    ];
  }

  /** @param {import("../api/peer.js").Peer} peer */
  async read(peer) {
    const [inbox, { id }, lists] = await Promise.all([peer.inbox(), peer.status(), peer.lists()]);
    return { inbox, own: id, lists };
  }

  /** @param {Shown} shown */
  draw({ inbox, own, lists }) {
    const newest = inbox.notices.toSorted((a, b) => b.at_ms - a.at_ms);
    const none = inbox.left_out > 0 ? "Nobody whom you hear has left you anything." : "Nobody has left you anything.";
    const nothing = h("li", { class: "soft" }, none);
    const counts = new Map();
    for (const { space } of newest) counts.set(space, (counts.get(space) ?? 0) + 1);
    this.#list.replaceChildren(...(newest.length > 0 ? newest.map((left) => this.#row(left, own, counts.get(left.space) ?? 1)) : [nothing]));
    const others = inbox.left_out > 0 ? `; ${inbox.left_out} more of those whom you muted or blocked` : "";
    this.#about.replaceChildren(
      `${plural(inbox.notices.length, "notice")}${others}, ${size(inbox.bytes)} of ${size(inbox.bytes_max)}. `,
      inbox.closed ? "Nobody can leave you more. " : "",
      h(
        "button",
        { type: "button", class: "link", onclick: () => this.do(() => this.peer?.closeInbox(!inbox.closed)) },
        inbox.closed ? "Open the inbox" : "Close the inbox",
      ),
    );
    const is_any = lists.muted.length + lists.blocked.length > 0;
    this.#unheard.replaceChildren(...(is_any ? [h("h2", {}, "Whom you do not hear"), make(UnheardList, { lists, page: this })] : []));
    this.seen(newest);
  }

  /** @param {Left} left @param {string} own @param {number} count how many the same person left */
  #row(left, own, count) {
    const truth =
      left.confirmed === true
        ? h("span", { class: "state live" }, "your peer has seen it")
        : left.confirmed === false
          ? h("span", { class: "state grade-bad" }, "not true: it is not there")
          : h("span", { class: "state" }, "not checked: what they point from is not here");
    const said = wordsOf(left.body);
    const all = `Remove all ${count} notices of ${left.name}?`;
    const block = `Block ${left.name}? Your machine then talks to none of theirs, and nothing of them shows, until you unblock them below.`;
    return h(
      "li",
      { class: "card stack" },
      h(
        "div",
        { class: "row-head" },
        h("a", { href: hrefOf([`@${left.space}`]), title: left.space }, h("strong", { dir: "auto" }, left.name)),
        h("span", {}, KINDS[left.kind] ?? `(${left.kind})`),
        link(left.target, own),
        truth,
      ),
      said ? h("blockquote", { dir: "auto" }, said) : "",
      h(
        "p",
        { class: "soft small" },
        h("time", { dateTime: new Date(left.at_ms).toISOString(), title: exactTime(left.at_ms) }, ago(left.at_ms)),
        ", said at ",
        link(left.source, own),
      ),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => this.do(() => this.peer?.removeNotice(left)) }, "Remove"),
        count > 1
          ? h(
              "button",
              { type: "button", onclick: () => confirm(all) && this.do(() => this.peer?.purgeNotices(left.space)) },
              `Remove all ${count} of ${left.name}`,
            )
          : "",
        h("button", { type: "button", onclick: () => this.do(() => this.peer?.mute(left.space, true)) }, `Mute ${left.name}`),
        h(
          "button",
          {
            type: "button",
            class: "danger",
            onclick: () => confirm(block) && this.do(() => this.peer?.block(left.space, true)),
          },
          "Block",
        ),
      ),
    );
  }
}

/** What somebody says with a notice, in whatever form. @param {any} body */
function wordsOf(body) {
  if (body === null || body === undefined) return "";
  const text = typeof body === "string" ? body : typeof body.text === "string" ? body.text : JSON.stringify(body);
  return text.length > SAID_MAX ? `${text.slice(0, SAID_MAX)}…` : text;
}

/** Where something is, without the own space before it. @param {string} pointer @param {string} own */
function link(pointer, own) {
  const [space = "", ...rest] = parsePath(pointer);
  const path = space === `@${own}` ? rest : [space, ...rest];
  const words = space === `@${own}` ? `/${rest.join("/")}` : `${space.slice(0, 9)}…/${rest.join("/")}`;
  return h("a", { href: hrefOf(path), class: "anywhere" }, words);
}

customElements.define("inbox-page", InboxPage);
