import { hrefOf, hrefOfPage } from "../api/pages.js";
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
    const places = problem?.places ?? [];
    this.setAttribute("role", "alert");
    // Who is shown the way has no trouble.
    this.classList.toggle("shows-way", places.length > 0);
    this.replaceChildren(
      h("p", { class: "title" }, capitalize(problem?.title ?? "")),
      places.length > 0 ? h("ul", { class: "wants" }, places.map(({ path, label }) => h("li", {}, h("a", { href: hrefOf(path) }, label)))) : "",
      problem?.detail ? h("p", {}, withCode(capitalize(problem.detail))) : "",
      problem?.fix ? h("p", {}, h("strong", {}, "What to do: "), withPages(problem.fix)) : "",
      this.again ? h("p", { class: "buttons" }, h("button", { type: "button", onclick: this.again }, "Try again")) : "",
    );
  }
}

/** The pages that words name, as they are called at the top. @type {Record<string, import("../api/pages.js").PageName>} */
const PAGES = { People: "people", Rights: "grants", Invite: "invites", Apps: "apps", Requests: "requests", "This peer": "peer" };
const NAMED = /\b(People|Rights|Invite|Apps|Requests|This peer)\b(?= (?:shows|says|lists|tells)\b)/;

/** What to do, with code in it and links to the pages that it names. @param {string} text */
function withPages(text) {
  return text.split(NAMED).flatMap((part, at) => {
    const page = at % 2 === 1 ? PAGES[part] : undefined;
    return page ? [h("a", { href: hrefOfPage(page) }, part)] : withCode(part);
  });
}

/** @param {string} text */
const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

customElements.define("problem-card", ProblemCard);
