import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { ProblemCard } from "./problem-card.js";

/** What somebody sees whom the peer does not know yet: how to get a link. */
export class SignIn extends HTMLElement {
  /** Why there is no session, if there was an attempt. @type {Problem | null} */
  problem = null;
  /** Called with what was pasted: a login link, its code, or a token. @type {(text: string) => Promise<void>} */
  enter = async () => {};

  connectedCallback() {
    const input = h("input", { type: "text", id: "sign-in-link", autocomplete: "off", spellcheck: false, placeholder: `${location.origin}/#login=…` });
    const wrong = h("div", {});
    const button = h("button", { class: "main", type: "submit" }, "Open");
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await this.enter(input.value.trim());
      } catch (error) {
        wrong.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
      }
      button.disabled = false;
    };
    this.replaceChildren(
      h(
        "main",
        { class: "card" },
        h("h1", {}, "This is a timebus peer. Are you its owner?"),
        this.problem ? make(ProblemCard, { problem: this.problem }) : "",
        h("p", {}, "To see what is in it, open it with a login link. On the machine it runs on, type in a terminal:"),
        h("p", { class: "copyable" }, h("code", {}, "timebus up")),
        h("p", {}, "It prints a line ", h("em", {}, "open"), " with the link; if the peer runs already, it says where. A link works once, for a quarter of an hour, and signs in this browser window until you close it."),
        h("form", { class: "stack", onsubmit: submit }, h("label", { for: "sign-in-link" }, h("span", {}, "Or paste the link here"), input), wrong, h("div", { class: "buttons" }, button)),
      ),
    );
  }
}

customElements.define("sign-in", SignIn);
