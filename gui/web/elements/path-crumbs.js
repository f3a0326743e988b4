import { hrefOf } from "../api/pages.js";
import { h, make } from "../dom.js";
import { isElsewhere, labelOf } from "../path.js";
import { PathStanding } from "./path-standing.js";

/** Where the page is, as links to every level above, and who may read what is there. */
export class PathCrumbs extends HTMLElement {
  /** @type {import("../path.js").Path} */
  path = [];
  /** What to call the top. */
  home = "Home";

  connectedCallback() {
    const { path } = this;
    // In somebody else's space the top is his.
    const top = isElsewhere(path) ? 1 : 0;
    const crumb = (/** @type {number} */ depth) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: hrefOf(path.slice(0, depth)), "aria-current": depth === path.length ? "page" : undefined },
          depth === 0 ? this.home : labelOf(path[depth - 1] ?? "", depth === 1),
        ),
      );
    this.replaceChildren(
      h(
        "nav",
        { "aria-label": "Path" },
        h(
          "ol",
          {},
          Array.from({ length: path.length + 1 - top }, (_, level) => crumb(top + level)),
        ),
      ),
    );
    const explorer = /** @type {import("./path-explorer.js").PathExplorer | null} */ (this.closest("path-explorer"));
    if (!explorer) return;
    const { peer, notices, go } = explorer;
    this.append(make(PathStanding, { peer, notices, path, go }));
  }
}

customElements.define("path-crumbs", PathCrumbs);
