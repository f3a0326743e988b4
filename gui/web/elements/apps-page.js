import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { openApp } from "../open-app.js";
import { AppCard } from "./app-card.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").App} App */
/** @typedef {import("../api/told.js").AppSource} AppSource */

/** What is installed, and what could be. */
export class AppsPage extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  #installed = h("div", { class: "apps" });
  #offered = h("div", { class: "apps" });
  #card = h("div", {});
  #drawn = "";
  /** @type {() => void} */
  #stop = () => {};
  /** Takes back what was said of the app that was installed last. @type {() => void} */
  #unsay = () => {};

  connectedCallback() {
    const place = h("input", {
      type: "text",
      id: "app-place",
      placeholder: "@alice/chirp",
      spellcheck: false,
      required: true,
      autocapitalize: "none",
    });
    const find = (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.#look({ space: place.value.trim() });
    };
    this.replaceChildren(
      h(
        "main",
        { class: "stack wide" },
        h("h1", {}, "Apps"),
        h(
          "p",
          { class: "soft" },
          "An app is a page that runs on your peer, at an address of its own. Its data is in your space.",
        ),
        this.#card,
        this.#installed,
        this.#offered,
        h(
          "details",
          {},
          h("summary", {}, "Install one that somebody published, or make your own"),
          h(
            "div",
            { class: "stack" },
            h(
              "form",
              { class: "stack", onsubmit: find },
              h("label", { for: "app-place" }, h("span", {}, "Who, and which app"), place),
              h("div", { class: "buttons" }, h("button", {}, "Look at it")),
            ),
            h(
              "p",
              {},
              "To make one, type ",
              h("code", {}, "timebus app new notes"),
              " in a terminal, then ",
              h("code", {}, "timebus app dev notes"),
              ".",
            ),
          ),
        ),
      ),
    );
    void this.#show();
    this.#stop = this.peer?.heed(["apps"], () => void this.#show()) ?? this.#stop;
  }

  disconnectedCallback() {
    this.#stop();
  }

  async #show() {
    try {
      const { apps, offered } = (await this.peer?.apps()) ?? { apps: [], offered: [] };
      const now = JSON.stringify([apps, offered]);
      if (now === this.#drawn) return;
      this.#drawn = now;
      this.#installed.replaceChildren(...apps.map((app) => this.#tile(app)));
      // One that came from a friend is the same to whoever uses it.
      const lacking = offered.filter(({ name }) => !apps.some((app) => app.name === name && !app.persona));
      this.#offered.replaceChildren(...lacking.map((app) => this.#offer(app)));
    } catch (error) {
      this.#drawn = "";
      this.#installed.replaceChildren(
        make(ProblemCard, { problem: Problem.of(error), again: () => void this.#show() }),
      );
    }
  }

  /** @param {App} app */
  #tile(app) {
    const update = app.update;
    return h(
      "article",
      { class: "card stack app" },
      h(
        "div",
        { class: "app-head" },
        h("img", { src: app.icon ?? "/.gui/icon.svg", alt: "", width: 48, height: 48 }),
        h(
          "div",
          {},
          h("h2", {}, app.title),
          h(
            "p",
            { class: "soft small" },
            app.persona ? `as your persona ${app.persona}; ` : "",
            app.source.words,
            app.is_dev ? ", being worked on" : "",
          ),
        ),
      ),
      app.problem
        ? h("p", { class: "note" }, `It is damaged: ${app.problem}. Install it again; what it wrote is not touched.`)
        : "",
      h("p", {}, app.about),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "main", onclick: () => void this.open(app.alias, app.persona) }, "Open"),
        update
          ? h("button", { type: "button", onclick: () => void this.#look(sourceOf(app), app.persona) }, "Another version is there")
          : "",
        app.persona ? "" : h("button", { type: "button", onclick: () => this.#share(app) }, "Share"),
        h("button", { type: "button", class: "danger", onclick: () => void this.#remove(app) }, "Remove"),
      ),
      h(
        "details",
        {},
        h("summary", {}, "What it may do"),
        h(
          "ul",
          { class: "wants" },
          app.may.map(({ words, why }) => h("li", {}, words, why ? h("span", { class: "soft" }, ` — ${why}`) : "")),
          app.network.length > 0 ? h("li", {}, `talk to ${app.network.join(", ")}`) : "",
        ),
      ),
    );
  }

  /** @param {App} app */
  #offer(app) {
    return h(
      "article",
      { class: "card stack app" },
      h(
        "div",
        { class: "app-head" },
        h("img", { src: app.icon ?? "/.gui/icon.svg", alt: "", width: 48, height: 48 }),
        h("div", {}, h("h2", {}, app.title), h("p", { class: "soft small" }, app.source.words)),
      ),
      h("p", {}, app.about),
      h(
        "div",
        { class: "buttons" },
        h(
          "button",
          {
            type: "button",
            "aria-label": `Install ${app.title}`,
            onclick: () => void this.#look({ builtin: app.name }),
          },
          "Install",
        ),
      ),
    );
  }

  /** @param {AppSource} from @param {string} [of] the persona whose app it is already */
  async #look(from, of) {
    const peer = this.peer;
    if (!peer) return;
    try {
      const app = await peer.lookAtApp(from, of);
      const personas = of ? [] : await peer.personas();
      const close = () => this.#card.replaceChildren();
      const agree = async (/** @type {string} */ chosen) => {
        const persona = of ?? chosen;
        const { alias } = await peer.installApp(from, app.version, persona);
        close();
        await this.#show();
        const run = () => this.open(alias, persona);
        this.#unsay = this.notices?.say(`${app.title} is installed.`, { label: "Open it", run }) ?? this.#unsay;
      };
      this.#card.replaceChildren(
        make(AppCard, {
          app,
          agree,
          personas,
          refuse: close,
          label: app.installed ? "Use the new version" : "Install",
        }),
      );
      this.#card.scrollIntoView({ block: "nearest" });
    } catch (error) {
      this.#card.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** @param {string} alias @param {string} [persona] */
  async open(alias, persona) {
    if (!this.peer) return;
    await openApp(this.peer, alias, persona).catch((error) => this.notices?.sayProblem(error));
  }

  /** @param {App} app */
  #share(app) {
    this.dispatchEvent(new CustomEvent("invite", { bubbles: true, detail: { app: app.alias } }));
  }

  /** @param {App} app */
  async #remove(app) {
    if (!confirm(`Remove ${app.title}? What it wrote stays in your space.`)) return;
    try {
      const removed = await this.peer?.removeApp(app.alias, app.persona);
      // Nothing is there any more that could be opened.
      this.#unsay();
      this.notices?.say(
        removed?.kept.length
          ? `${app.title} is removed. What it wrote stays at ${removed.kept.join(", ")}.`
          : `${app.title} is removed.`,
      );
      await this.#show();
    } catch (error) {
      this.notices?.sayProblem(error);
    }
  }
}

/** @param {App} app @returns {AppSource} */
function sourceOf(app) {
  const source = /** @type {{ kind: string, space?: string }} */ (app.source);
  return source.kind === "builtin" ? { builtin: app.name } : { space: `@${source.space}/${app.name}` };
}

customElements.define("apps-page", AppsPage);
