import { h } from "../dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [160, 40];

/** The last minutes of one number, as a line. */
export class SmallChart extends HTMLElement {
  label = "";
  /** @type {(value: number) => string} */
  say = String;
  /** How many values are kept. */
  kept = 60;
  /** @type {number[]} */
  #values = [];
  #now = h("strong", {}, "–");
  #line = document.createElementNS(SPACE, "polyline");

  connectedCallback() {
    const svg = document.createElementNS(SPACE, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.#line);
    this.replaceChildren(
      h("div", { class: "card chart" }, h("span", { class: "soft small" }, this.label), this.#now, svg),
    );
  }

  /** @param {number} value */
  add(value) {
    this.#values = [...this.#values, value].slice(-this.kept);
    const max = Math.max(1, ...this.#values);
    const step = WIDTH / (this.kept - 1);
    const first = this.kept - this.#values.length;
    this.#line.setAttribute(
      "points",
      this.#values
        .map(
          (value, at) =>
            `${((first + at) * step).toFixed(1)},${(HEIGHT - 2 - (value / max) * (HEIGHT - 6)).toFixed(1)}`,
        )
        .join(" "),
    );
    this.#now.textContent = this.say(value);
  }
}

customElements.define("small-chart", SmallChart);
