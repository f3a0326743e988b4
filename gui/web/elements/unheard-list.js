import { hrefOf } from "../api/pages.js";
import { h } from "../dom.js";

/** @typedef {{ muted: { who: string, name: string }[], blocked: { who: string, name: string }[] }} Lists */

/** Whom the owner has muted or blocked, whoever they are, with the way back. */
export class UnheardList extends HTMLElement {
  /** @type {Lists} */
  lists = { muted: [], blocked: [] };
  /** The page that does what is asked, and says what went wrong. @type {import("./live-page.js").LivePage<any> | null} */
  page = null;

  connectedCallback() {
    const { muted, blocked } = this.lists;
    /**
     * @param {{ who: string, name: string }} one @param {string} state @param {string} label what gives him back
     * @param {() => Promise<unknown> | undefined} run
     */
    const row = ({ who, name }, state, label, run) =>
      h(
        "li",
        { class: "row-head" },
        h("a", { href: hrefOf([`@${who}`]), title: who, dir: "auto" }, name),
        h("span", { class: "soft small" }, state),
        h("button", { type: "button", "aria-label": `${label}: ${name}`, onclick: () => this.page?.do(run) }, label),
      );
    this.replaceChildren(
      h(
        "ul",
        { class: "rows" },
        muted.map((one) => row(one, "muted: what they say is shown nowhere", "Hear again", () => this.page?.peer?.mute(one.who, false))),
        blocked.map((one) => row(one, "blocked: your machine talks to none of theirs", "Unblock", () => this.page?.peer?.block(one.who, false))),
      ),
    );
  }
}

customElements.define("unheard-list", UnheardList);
