import { h, withCode } from "../dom.js";

/** @typedef {import("../api/problem.js").Problem} Problem */

/** What went wrong and what to do about it. */
export class ProblemCard extends HTMLElement {
  /** @type {Problem | null} */
  problem = null;
  /** Called by the button "Try again", which is there if this is. @type {(() => void) | null} */
  again = null;

  connectedCallback() {
    const { problem } = this;
    this.setAttribute("role", "alert");
    this.replaceChildren(
      h("p", { class: "title" }, capitalize(problem?.title ?? "")),
      problem?.detail ? h("p", {}, withCode(capitalize(problem.detail))) : "",
      problem?.fix ? h("p", {}, h("strong", {}, "What to do: "), withCode(problem.fix)) : "",
      this.again ? h("p", { class: "buttons" }, h("button", { type: "button", onclick: this.again }, "Try again")) : "",
    );
  }
}

/** @param {string} text */
const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

customElements.define("problem-card", ProblemCard);
