import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { ago, exactTime, plural, writer } from "../words.js";
import { ProblemCard } from "./problem-card.js";

/** Changes that are shown. */
const SHOWN = 30;

/** The newest changes of a path as they are in the log, signed and never altered. */
export class RawChanges extends HTMLElement {
  /** @type {import("../api/peer.js").Peer} */
  peer = /** @type {any} */ (null);
  /** @type {import("../path.js").Path} */
  path = [];
  /** @type {string | null} */
  device = null;

  connectedCallback() {
    this.replaceChildren(h("p", { class: "loading" }, "Reading the log…"));
    void this.refresh();
  }

  /** Reads them again. */
  async refresh() {
    try {
      const changes = await this.peer.log(this.path, { limit: SHOWN, raw: true });
      const open = new Set([...this.querySelectorAll("details[open]")].map((details) => details.id));
      this.replaceChildren(
        h(
          "p",
          { class: "soft small" },
          changes.length === 0
            ? "Nobody has written here yet."
            : "Every write is a signed change that is never altered. These are the newest that touched this place.",
        ),
        ...changes.map(({ raw, ...change }) =>
          h(
            "details",
            { id: `raw-${change.id}`, open: open.has(`raw-${change.id}`) },
            h(
              "summary",
              {},
              h("code", {}, `${change.id.slice(0, 8)}…`),
              ` ${writer(change, this.device)}, `,
              h("span", { class: "soft", title: exactTime(change.time_ms) }, ago(change.time_ms)),
              h("span", { class: "soft" }, `, ${plural(raw?.ops_total ?? 0, "operation")}`),
            ),
            h(
              "pre",
              { tabIndex: 0, "aria-label": "The change as it is stored" },
              JSON.stringify({ id: change.id, author: change.author, time_ms: change.time_ms, ...raw }, null, 2),
            ),
          ),
        ),
      );
    } catch (error) {
      this.replaceChildren(make(ProblemCard, { problem: Problem.of(error), again: () => void this.refresh() }));
    }
  }
}

customElements.define("raw-changes", RawChanges);
