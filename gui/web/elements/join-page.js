import { hrefOf, hrefOfPage, joinAtHome, joinByProgram, programOffered } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { openApp } from "../open-app.js";
import { exactTime, plural, size } from "../words.js";
import { AppCard } from "./app-card.js";
import { ProblemCard } from "./problem-card.js";
import { wordsOfSpace } from "./people-page.js";

/** @typedef {import("../invite-link.js").Glance} Glance */

/** What an invite link shows: at once what it says; at one's own peer a card to agree to. */
export class JoinPage extends HTMLElement {
  /** What the link says; null if it is no invite. @type {Glance | null} */
  glance = null;
  /** The own peer, if this page is of it. @type {import("../api/peer.js").Peer | null} */
  peer = null;
  #next = h("div", { class: "stack" });

  connectedCallback() {
    const { glance } = this;
    if (!glance) {
      this.replaceChildren(
        h(
          "main",
          { class: "card stack invited" },
          h("h1", {}, "This link is not complete"),
          h(
            "p",
            {},
            "Copy all of it, up to its last letter. A link that was opened before has to be opened from where it was sent:" +
              " the address does not keep it.",
          ),
        ),
      );
      return;
    }
    const who = glance.inviter || "Somebody";
    const is_over = glance.expires_ms > 0 && glance.expires_ms < Date.now();
    this.replaceChildren(
      h(
        "main",
        { class: "card stack invited" },
        h("p", { class: "soft" }, "You are invited"),
        h("h1", {}, glance.app ? `${who} invites you to ${glance.app}` : `${who} invites you`),
        glance.paint ? h("blockquote", { dir: "auto" }, glance.paint) : "",
        h(
          "ul",
          { class: "wants" },
          h(
            "li",
            {},
            glance.role === "device"
              ? "A machine that has no timebus yet becomes one of theirs and may do all that they can."
              : glance.is_only
                ? `You may read ${glance.path} and everything new in it, and nothing else of their space.`
                : glance.role === "member"
                  ? "You become a member of this community: you read all of it, carry a name there, and write on its board if its rules say so."
                  : "You may read all of their space that is not kept apart, and everything new in it.",
          ),
          glance.role === "write"
            ? h(
                "li",
                {},
                `You may write ${glance.path === "/" ? "everywhere in it" : `at ${glance.path} and below`}`,
                glance.bytes_max > 0 ? `, up to ${size(glance.bytes_max)} in all.` : ".",
              )
            : "",
          glance.depth > 0 && glance.role !== "device"
            ? h("li", {}, `You may let others in to the same, ${plural(glance.depth, "level")} deep.`)
            : "",
          glance.role === "device"
            ? ""
            : h(
                "li",
                {},
                `${glance.role === "member" ? "Its members" : "They"} learn your name, key and address. Nothing of yours can be read or written.`,
              ),
        ),
        h(
          "p",
          { class: "soft small" },
          "Their key begins with ",
          h("code", {}, glance.space.slice(0, 12)),
          glance.expires_ms ? `. Good until ${exactTime(glance.expires_ms)}.` : ".",
        ),
        is_over ? h("p", { class: "note" }, `This link has expired. Ask ${who} for a new one.`) : this.#next,
      ),
    );
    if (glance.role === "device") this.#device(glance);
    else if (this.peer) this.#confirm(this.peer, glance);
    else this.#elsewhere(glance);
  }

  /** At the inviter's peer, or without a session: how to go on at one's own. @param {Glance} glance */
  #elsewhere(glance) {
    this.#next.replaceChildren(
      h(
        "div",
        { class: "buttons" },
        h("a", { class: "button main", href: joinAtHome(glance.payload), rel: "noreferrer" }, "I have timebus: go on there"),
        h("a", { class: "button", href: joinByProgram(glance.payload) }, "Open with the installed program"),
      ),
      h(
        "details",
        {},
        h("summary", {}, "I have no timebus yet"),
        h(
          "ol",
          { class: "steps" },
          this.#program(glance.inviter || "whoever invited you"),
          h("li", {}, "Open the page that it prints."),
          h("li", {}, "Open this link again."),
        ),
      ),
    );
  }

  /** Another machine of one's own begins with the link; a peer that is somebody's cannot become somebody else's. @param {Glance} glance */
  #device(glance) {
    this.#next.replaceChildren(
      h("p", {}, this.peer ? "This peer has an identity of its own, so the link is not for it. On the new machine:" : "On the new machine:"),
      h(
        "ol",
        { class: "steps" },
        this.#program(glance.inviter || "whoever invited you", "do not start it yet"),
        h("li", {}, "Type ", h("code", {}, "timebus join"), " and the whole link."),
        h("li", {}, "Then start it with ", h("code", {}, "timebus up"), "."),
      ),
    );
  }

  /** Where the program is to be had. @param {string} inviter @param {string} [then] */
  #program(inviter, then = "start it: it makes your own space, and asks nothing") {
    const [what, where] = [h("span", {}, "Get the one program ", h("code", {}, "timebus")), h("div", {})];
    void programOffered().then((offered) => {
      if (!offered) return;
      what.replaceChildren(
        h("a", { href: offered.href, download: "timebus" }, "Download the one program"),
        ` (${size(offered.bytes)}, for ${offered.platform})`,
      );
      where.replaceChildren(
        h("p", {}, "Or in a terminal: ", h("code", {}, offered.line)),
        offered.is_secret ? "" : h("p", { class: "note" }, "The line to that peer is not encrypted: take it in a network that you trust."),
      );
    });
    return h("li", {}, what, ` from ${inviter} and ${then}.`, where);
  }

  /** @param {import("../api/peer.js").Peer} peer @param {Glance} glance */
  #confirm(peer, glance) {
    const name = h("input", { type: "text", id: "carried-name", maxLength: 64, autocomplete: "off", placeholder: "as this peer is called" });
    const button = h("button", { type: "button", class: "main" }, glance.app ? "Join, and look at the app" : "Join");
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const card = await peer.join(glance.payload, true, name.value.trim() || undefined);
        const at = card.status?.petname ?? glance.space;
        const state = card.status ? wordsOfSpace(card.status) : "";
        const lines = [h("p", { role: "status" }, `Joined: ${state}.`)];
        if (glance.app) await this.#app(peer, glance, lines);
        else
          this.#next.replaceChildren(
            ...lines,
            h(
              "div",
              { class: "buttons" },
              h("a", { class: "button main", href: hrefOf([`@${at}`]) }, "See what is there"),
            ),
          );
      } catch (error) {
        this.#next.replaceChildren(
          make(ProblemCard, { problem: Problem.of(error) }),
          h("div", { class: "buttons" }, button),
        );
        button.disabled = false;
      }
    });
    this.#next.replaceChildren(
      glance.role === "member"
        ? h("label", { for: "carried-name" }, h("span", {}, "The name that you carry there"), name)
        : "",
      h("div", { class: "buttons" }, button, h("a", { class: "button", href: hrefOf([]) }, "Not now")),
    );
  }

  /** The app that came with it. @param {import("../api/peer.js").Peer} peer @param {Glance} glance @param {HTMLElement[]} lines */
  async #app(peer, glance, lines) {
    const from = { space: `@${glance.space}/${glance.app}` };
    const done = h("a", { class: "button", href: hrefOfPage("apps") }, "All your apps");
    try {
      const app = await peer.lookAtApp(from);
      const agree = async () => {
        const { alias } = await peer.installApp(from, app.version);
        const open = () => void openApp(peer, alias).catch((error) => this.#next.append(make(ProblemCard, { problem: Problem.of(error) })));
        this.#next.replaceChildren(
          ...lines,
          h("p", {}, `${app.title} is installed.`),
          h(
            "div",
            { class: "buttons" },
            h("button", { type: "button", class: "main", onclick: open }, `Open ${app.title}`),
            done,
          ),
        );
      };
      this.#next.replaceChildren(
        ...lines,
        make(AppCard, {
          app,
          agree,
          refuse: () => this.#next.replaceChildren(...lines, h("div", { class: "buttons" }, done)),
        }),
      );
    } catch (error) {
      this.#next.replaceChildren(
        ...lines,
        make(ProblemCard, { problem: Problem.of(error), again: () => void this.#app(peer, glance, lines) }),
      );
    }
  }
}

customElements.define("join-page", JoinPage);
