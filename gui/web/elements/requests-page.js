import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { plural, size } from "../words.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/peer.js").Held} Held */

const REFRESH_MS = 3000;
/** What "more from now on" lets somebody keep in all, beside what waits. */
const MORE_BYTES = 100_000_000;

/** What others want to keep here beyond what they may: yes once, yes up to a limit, or no. */
export class RequestsPage extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  #list = h("ul", { class: "rows" });
  #drawn = "";
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  connectedCallback() {
    this.replaceChildren(
      h(
        "main",
        { class: "stack wide" },
        h("h1", {}, "Requests"),
        h(
          "p",
          { class: "soft" },
          "Everybody may keep so much on your machine and no more. Who wants to keep more has to ask, and waits here for your word.",
        ),
        this.#list,
      ),
    );
    void this.#show();
    this.#timer = setInterval(() => void this.#show(), REFRESH_MS);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  async #show() {
    try {
      const held = (await this.peer?.held()) ?? [];
      const now = JSON.stringify(held);
      if (now === this.#drawn) return;
      this.#drawn = now;
      const nothing = h("li", { class: "soft" }, "Nobody waits for your word.");
      this.#list.replaceChildren(...(held.length > 0 ? held.map((one) => this.#row(one)) : [nothing]));
    } catch (error) {
      this.#drawn = "";
      this.#list.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** @param {Held} held */
  #row(held) {
    const answer = (/** @type {"once" | "never" | number} */ word) => async () => {
      try {
        await this.peer?.allow(held.id, word);
      } catch (error) {
        this.notices?.sayProblem(error);
      }
      this.#drawn = "";
      await this.#show();
    };
    const more = held.bytes + MORE_BYTES;
    return h(
      "li",
      { class: "card stack" },
      h("h2", {}, held.name),
      h("p", {}, `wants to keep ${size(held.bytes)} more on your machine, in ${plural(held.changes, "change")}.`),
      h("p", { class: "soft small" }, held.says),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "main", onclick: answer("once") }, "Let this in"),
        h("button", { type: "button", onclick: answer(more) }, `From now on up to ${size(more)}`),
        h("button", { type: "button", class: "danger", onclick: answer("never") }, "No"),
      ),
    );
  }
}

customElements.define("requests-page", RequestsPage);
