import { h } from "../dom.js";

const SPACE = "http://www.w3.org/2000/svg";
/** Cells of light around it, which cameras need. */
const QUIET = 4;

/** A link as a picture for a camera. Always dark on light: many cameras read nothing else. */
export class QrCode extends HTMLElement {
  /** Rows of 0 and 1. @type {string[]} */
  rows = [];
  label = "";

  connectedCallback() {
    const size = this.rows.length + 2 * QUIET;
    const svg = document.createElementNS(SPACE, "svg");
    svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", this.label);
    const path = document.createElementNS(SPACE, "path");
    const cells = this.rows.flatMap((row, y) =>
      [...row.matchAll(/1+/g)].map((run) => `M${run.index + QUIET} ${y + QUIET}h${run[0].length}v1h-${run[0].length}z`),
    );
    path.setAttribute("d", cells.join(""));
    svg.append(path);
    this.replaceChildren(h("div", { class: "qr" }, svg));
  }
}

customElements.define("qr-code", QrCode);
