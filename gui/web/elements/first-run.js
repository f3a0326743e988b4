import { curlLine, curlRead, hrefOfPage } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { parsePath } from "../path.js";
import { InviteField } from "./invite-field.js";
import { ProblemCard } from "./problem-card.js";

/** What an empty space shows: three things to begin with. */
export class FirstRun extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;

  connectedCallback() {
    const path = h("input", {
      type: "text",
      id: "first-path",
      value: "notes/hi",
      spellcheck: false,
      autocapitalize: "none",
      required: true,
    });
    const text = h("input", { type: "text", id: "first-text", value: "hello" });
    const wrong = h("div", {});
    const code = h("code", {});
    const back = h("code", {});
    const line = () => {
      back.textContent = curlRead(parsePath(path.value));
      code.textContent = curlLine(parsePath(path.value), JSON.stringify(text.value));
    };
    line();
    const button = h("button", { class: "main", type: "submit" }, "Write it");
    const write = async (/** @type {Event} */ event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        // The page is watching: what was written appears by itself.
        await this.peer?.put(parsePath(path.value), { type: "application/json", body: JSON.stringify(text.value) });
      } catch (error) {
        wrong.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
        button.disabled = false;
      }
    };
    const copied = h("span", { role: "status" });
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(code.textContent ?? "");
        copied.textContent = "Copied. ";
      } catch {
        copied.textContent = "Select the line to copy it. ";
      }
    };
    this.replaceChildren(
      h(
        "div",
        { class: "starts" },
        h(
          "a",
          { class: "card start", href: hrefOfPage("apps") },
          h("h2", {}, "Start an app"),
          h(
            "p",
            { class: "soft" },
            "Chirp, for short posts among friends. Board, for what is to be done. Or one of your own.",
          ),
        ),
        h(
          "a",
          { class: "card start", href: hrefOfPage("invites") },
          h("h2", {}, "Invite someone"),
          h("p", { class: "soft" }, "A link lets a friend in. You then share live data, with nobody in between."),
        ),
        h(
          "a",
          { class: "card start", href: hrefOfPage("people") },
          h("h2", {}, "Say what you are called"),
          h("p", { class: "soft" }, "Your friends see it instead of three words that come of your key."),
        ),
      ),
      h("div", { class: "card" }, make(InviteField, {})),
      h(
        "div",
        { class: "card" },
        h(
          "div",
          { class: "stack" },
          h("h1", {}, "Or write something. Nothing is here yet."),
          h(
            "p",
            { class: "soft" },
            "Values live at paths, like files in folders. They stay on this machine until you share them.",
          ),
        ),
        h(
          "form",
          { class: "stack", onsubmit: write, oninput: line },
          h(
            "div",
            { class: "two" },
            h("label", { for: "first-path" }, h("span", {}, "Path"), path),
            h("label", { for: "first-text" }, h("span", {}, "Text"), text),
          ),
          wrong,
          h("div", { class: "buttons" }, button),
        ),
        h(
          "div",
          { class: "stack" },
          h("p", { class: "soft" }, "Or from a terminal; it shows up here at once:"),
          h(
            "div",
            { class: "copyable" },
            code,
            h("button", { type: "button", onclick: copy, "aria-label": "Copy the command" }, "Copy"),
          ),
          h("p", { class: "soft small" }, copied, "Your programs on this machine can read it with ", back),
        ),
      ),
    );
  }
}

customElements.define("first-run", FirstRun);
