import { hrefOf } from "../api/pages.js";
import { AUTHORED_MAX } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { nearLabel, parsePath, showPath } from "../path.js";
import { ago, exactTime, preview, writer } from "../words.js";
import { ProblemCard } from "./problem-card.js";

/** Who wrote what is here now, and when. */
export class ValueAuthors extends HTMLElement {
  /** @type {import("../api/peer.js").Peer} */
  peer = /** @type {any} */ (null);
  /** @type {import("../path.js").Path} */
  path = [];
  /** @type {string | null} */
  device = null;
  /** Whether to ask before a lot is read. */
  isLarge = false;

  connectedCallback() {
    if (this.isLarge) {
      const read = () => {
        this.isLarge = false;
        void this.refresh();
      };
      this.replaceChildren(
        h(
          "div",
          { class: "stack" },
          h("p", {}, "There is a lot below this path. To find out who wrote it, the peer has to read all of it."),
          h("div", { class: "buttons" }, h("button", { type: "button", onclick: read }, "Read it")),
        ),
      );
      return;
    }
    this.replaceChildren(h("p", { class: "loading" }, "Asking who wrote this…"));
    void this.refresh();
  }

  /** Reads it again. */
  async refresh() {
    if (this.isLarge) return;
    try {
      const { lines, more } = await this.peer.authors(this.path);
      this.replaceChildren(
        lines.length === 0 ? h("p", { class: "soft" }, "Nothing is here.") : "",
        h(
          "ul",
          { class: "authors" },
          lines.map((line) => {
            const path = parsePath(line.path);
            const look = preview(line.value);
            return h(
              "li",
              {},
              h(
                "div",
                { class: "line" },
                h("a", { href: hrefOf(path), title: showPath(path) }, nearLabel(path, this.path)),
                h("span", { class: `value ${look.kind}` }, look.text),
              ),
              h(
                "div",
                { class: "small soft" },
                h("span", { title: line.author }, writer(line, this.device)),
                ", ",
                h("span", { title: exactTime(line.time_ms) }, ago(line.time_ms)),
              ),
            );
          }),
        ),
        more
          ? h(
              "p",
              { class: "soft small" },
              `Only the first ${AUTHORED_MAX} are shown. Go to a path below to see the others.`,
            )
          : "",
      );
    } catch (error) {
      const problem = Problem.of(error);
      this.replaceChildren(
        problem.status === 404
          ? h("p", { class: "soft" }, "Nothing is here.")
          : make(ProblemCard, { problem, again: () => void this.refresh() }),
      );
    }
  }
}

customElements.define("value-authors", ValueAuthors);
