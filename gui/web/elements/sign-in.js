import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { ProblemCard } from "./problem-card.js";
import { PublicValue } from "./public-value.js";

/** What somebody sees whom the peer does not know yet: how to get a link. */
export class SignIn extends HTMLElement {
  /** Why there is no session, if there was an attempt. @type {Problem | null} */
  problem = null;
  /** Called with what was pasted: a login link, its code, or a token. @type {(text: string) => Promise<void>} */
  enter = async () => {};

  connectedCallback() {
    const input = h("input", {
      type: "text",
      id: "sign-in-link",
      autocomplete: "off",
      spellcheck: false,
      placeholder: "paste it here",
    });
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
      new PublicValue(),
      h(
        "main",
        { class: "card" },
        h("h1", {}, "This is a timebus peer. Are you its owner?"),
        this.problem ? make(ProblemCard, { problem: this.problem }) : "",
        h(
          "p",
          {},
          "To see what is in it, open the link that ",
          h("code", {}, "timebus up"),
          " printed when the peer was started, in the line that begins with ",
          h("em", {}, "open"),
          ". It works once.",
        ),
        h(
          "p",
          {},
          "Used it already, or can’t find it? On the machine where the peer runs, type this in a terminal, and paste what it prints below:",
        ),
        h("p", { class: "copyable" }, h("code", {}, "timebus id --token")),
        h(
          "p",
          { class: "soft small" },
          "Whoever has the token can do everything here that you can, so show it to nobody. This browser forgets it when you close the window.",
        ),
        h(
          "form",
          { class: "stack", onsubmit: submit },
          h("label", { for: "sign-in-link" }, h("span", {}, "Link or token"), input),
          wrong,
          h("div", { class: "buttons" }, button),
        ),
      ),
    );
  }
}

customElements.define("sign-in", SignIn);
