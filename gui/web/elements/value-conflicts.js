import { hrefOf } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { parsePath, sayPath } from "../path.js";
import { ago, exactTime, writer } from "../words.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").Conflict} Conflict */
/** @typedef {import("../api/told.js").Side} Side */

/** Places in conflict that are shown at once. */
const PLACES_MAX = 20;
/** Values of one place that are shown side by side. */
const SIDES_MAX = 6;

/** Where people wrote at the same time: every value side by side, to keep one. */
export class ValueConflicts extends HTMLElement {
  /** @type {import("../api/peer.js").Peer} */
  peer = /** @type {any} */ (null);
  /** @type {import("../path.js").Path} */
  path = [];
  /** @type {string | null} */
  device = null;
  /** @type {import("./notice-list.js").NoticeList} */
  notices = /** @type {any} */ (null);
  /** Called with what was found. @type {(conflicts: Conflict[]) => void} */
  found = () => {};

  connectedCallback() {
    this.replaceChildren(h("p", { class: "loading" }, "Looking for conflicts…"));
    void this.refresh();
  }

  /** Looks again. */
  async refresh() {
    try {
      const conflicts = await this.peer.conflicts(this.path);
      this.found(conflicts);
      const cards = await Promise.all(conflicts.slice(0, PLACES_MAX).map((conflict) => this.#card(conflict)));
      this.replaceChildren(
        conflicts.length === 0
          ? h(
              "p",
              { class: "soft" },
              "None. If two people write to the same place without having seen the other's value, both are kept and shown here.",
            )
          : h("ul", { class: "stack" }, cards),
        conflicts.length > PLACES_MAX
          ? h("p", { class: "soft small" }, `and ${conflicts.length - PLACES_MAX} more`)
          : "",
      );
    } catch (error) {
      this.replaceChildren(make(ProblemCard, { problem: Problem.of(error), again: () => void this.refresh() }));
    }
  }

  /** @param {Conflict} conflict */
  async #card(conflict) {
    const path = parsePath(conflict.path);
    // Of an object or a list, a side holds single pieces; what its writer saw is the whole of it.
    /** @type {Map<string, Side>} */
    const byChange = new Map();
    for (const side of conflict.values) {
      const change = side.id.replace(/\.\d+$/, "");
      if (!byChange.has(change)) byChange.set(change, side);
    }
    const now = JSON.stringify(JSON.parse((await this.peer.read(path)).text));
    const sides = await Promise.all(
      [...byChange].slice(0, SIDES_MAX).map(async ([change, side]) => {
        try {
          const reading = await this.peer.read(path, [change]);
          const json = reading.type.startsWith("application/json");
          const value = json && !reading.truncated ? JSON.parse(reading.text) : reading.text;
          return { side, value, content: reading.truncated ? null : { body: reading.text, type: reading.type } };
        } catch {
          return { side, value: side.value, content: { body: JSON.stringify(side.value), type: "application/json" } };
        }
      }),
    );
    return h(
      "li",
      { class: "stack" },
      h("a", { href: hrefOf(path) }, sayPath(path)),
      h(
        "ul",
        { class: "sides" },
        sides.map(({ side, value, content }) => {
          const shown = JSON.stringify(value) === now;
          const keep = async () => {
            if (!content) return;
            try {
              await this.peer.put(path, content);
              this.notices.say(`Kept that value at ${sayPath(path)}. It is on disk.`, {
                label: "Undo",
                run: () => this.peer.undo(path),
              });
              await this.refresh();
            } catch (error) {
              this.notices.sayProblem(error);
            }
          };
          return h(
            "li",
            { class: shown ? "shown" : "" },
            h("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2)),
            h(
              "span",
              { class: "small soft", title: exactTime(side.time_ms) },
              `${writer(side, this.device)}, ${ago(side.time_ms)}${shown ? " · shown now" : ""}`,
            ),
            h("button", { type: "button", disabled: !content, onclick: () => void keep() }, "Keep this"),
          );
        }),
      ),
    );
  }
}

customElements.define("value-conflicts", ValueConflicts);
