import { hrefOf } from "../api/peer.js";
import { h } from "../dom.js";
import { labelOf } from "../path.js";

/** Where the page is, as links to every level above. */
export class PathCrumbs extends HTMLElement {
  /** @type {import("../path.js").Path} */
  path = [];
  /** What to call the top. */
  home = "Home";

  connectedCallback() {
    const { path } = this;
    const crumb = (/** @type {number} */ depth) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: hrefOf(path.slice(0, depth)), "aria-current": depth === path.length ? "page" : undefined },
          depth === 0 ? this.home : labelOf(path[depth - 1] ?? ""),
        ),
      );
    this.replaceChildren(
      h(
        "nav",
        { "aria-label": "Path" },
        h(
          "ol",
          {},
          Array.from({ length: path.length + 1 }, (_, depth) => crumb(depth)),
        ),
      ),
    );
  }
}

customElements.define("path-crumbs", PathCrumbs);
