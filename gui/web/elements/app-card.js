import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").App} App */

/** What an app may do, and a button that agrees. Nothing is installed without it. */
export class AppCard extends HTMLElement {
  /** @type {App | null} */
  app = null;
  /** What the button says. */
  label = "Install";
  /** The identities of the owner, of which the app can be one; none to leave out the question. @type {string[]} */
  personas = [];
  /** @type {(persona: string) => Promise<void>} */
  agree = async () => {};
  /** @type {() => void} */
  refuse = () => {};

  connectedCallback() {
    const app = this.app;
    if (!app) return;
    const is_upgrade = Boolean(app.installed);
    const wants = is_upgrade ? (app.asks_more ?? []) : app.may;
    const hosts = is_upgrade ? (app.asks_hosts ?? []) : app.network;
    const wrong = h("div", {});
    const identity = h(
      "select",
      { id: "app-identity" },
      h("option", { value: "" }, "you"),
      this.personas.map((name) => h("option", { value: name }, `your persona ${name}`)),
    );
    const button = h("button", { type: "button", class: "main" }, this.label);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await this.agree(identity.value);
      } catch (error) {
        wrong.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
        button.disabled = false;
      }
    });
    this.replaceChildren(
      h(
        "div",
        { class: "card stack" },
        h(
          "div",
          { class: "app-head" },
          h("img", { src: app.icon ?? "/.gui/icon.svg", alt: "", width: 48, height: 48 }),
          h(
            "div",
            {},
            h("h2", {}, app.title),
            h("p", { class: "soft small" }, `${app.source.words}, version ${app.version.slice(0, 12)}`),
          ),
        ),
        app.about ? h("p", {}, app.about) : "",
        h(
          "p",
          {},
          is_upgrade
            ? wants.length > 0
              ? "The new version wants more than you agreed to. It would also be able to:"
              : "The new version wants nothing that it does not have."
            : "It will be able to:",
        ),
        h(
          "ul",
          { class: "wants" },
          wants.map(({ words, why }) => h("li", {}, words, why ? h("span", { class: "soft" }, ` — ${why}`) : "")),
          h(
            "li",
            {},
            hosts.length > 0 ? `talk to ${hosts.join(", ")}` : "ask no host but your peer",
          ),
        ),
        h(
          "p",
          { class: "soft small" },
          "It can do nothing else, and you can remove it at any time. What it writes is yours and stays.",
        ),
        this.personas.length > 0 && !is_upgrade
          ? h("label", { for: "app-identity" }, h("span", {}, "It writes and is seen as"), identity)
          : "",
        wrong,
        h(
          "div",
          { class: "buttons" },
          button,
          h("button", { type: "button", onclick: () => this.refuse() }, "Not now"),
        ),
      ),
    );
  }
}

customElements.define("app-card", AppCard);
