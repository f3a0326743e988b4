import { hrefOf, hrefOfPage, joinAtHome, joinByProgram } from "../api/pages.js";
import { programOffered } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { openApp } from "../open-app.js";
import { parsePath } from "../path.js";
import { exactTime, size } from "../words.js";
import { AppCard } from "./app-card.js";
import { InviteField } from "./invite-field.js";
import { isOfMachine, levelsOf } from "./made-link.js";
import { OwnName } from "./own-name.js";
import { isRefused, wordsOfSpace } from "./people-page.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../invite-link.js").Glance} Glance */
/** @typedef {import("../api/told.js").Space} Space */

/** How often an app is looked for that is on its way, and how long between. */
const TRIES_MAX = 8;
const PAUSE_MS = 1000;

/** What an invite link shows: at once what it says; at one's own peer a card to agree to. */
export class JoinPage extends HTMLElement {
  /** What the link says; null if it is no invite. @type {Glance | null} */
  glance = null;
  /** The own peer, if this page is of it. @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** Whether who looks at it is the one who made it. */
  isOwn = false;
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
          make(InviteField, {}),
          h("p", {}, h("a", { href: hrefOf([]) }, "Go to this peer")),
        ),
      );
      return;
    }
    const who = glance.inviter || "Somebody";
    const their = glance.whose === null ? "their" : `${glance.whose || "somebody else"}'s`;
    const is_over = glance.expires_ms > 0 && glance.expires_ms < Date.now();
    this.replaceChildren(
      h(
        "main",
        { class: "card stack invited" },
        this.isOwn
          ? h("p", { class: "note" }, "You made this link: others see what is below. ", h("a", { href: hrefOfPage("invites") }, "Back to Invite"))
          : h("p", { class: "soft" }, "You are invited"),
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
                ? `You may read ${glance.path} and everything new in it, and nothing else of ${their} space.`
                : glance.role === "member"
                  ? "You become a member of this community: you read all of it, carry a name there, and write on its board if its rules say so."
                  : `You may read all of ${their} space that is not kept apart, and everything new in it.`,
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
            ? h("li", {}, `You may let others in to the same, ${levelsOf(glance.depth)}.`)
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
          glance.whose === null ? "Their key begins with " : `The space is not ${glance.inviter || "theirs who invite you"}'s: its key begins with `,
          h("code", {}, glance.space.slice(0, 12)),
          glance.expires_ms ? `. Good until ${exactTime(glance.expires_ms)}.` : ".",
        ),
        glance.addresses.length === 0 || glance.addresses.every(isOfMachine)
          ? h("p", { class: "note" }, `The link leads to the machine alone on which it was made. On another one, ask ${who} for one with an address that leads there.`)
          : "",
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
          h("li", {}, "Open this link again, or paste it there: at People, “Did a friend send you a link?”."),
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
        h(
          "li",
          {},
          "Type ",
          h("code", {}, "timebus join"),
          " and the whole link. Where timebus has run before it is ",
          h("code", {}, "timebus --home FOLDER join"),
          ", with a folder that does not exist yet.",
        ),
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
    const carried = h("input", { type: "text", id: "carried-name", maxLength: 64, autocomplete: "off", placeholder: "as this peer is called" });
    const own = make(OwnName, { peer, has_button: false });
    const is_member = glance.role === "member";
    if (is_member) void peer.ownName().then((name) => (carried.value ||= name));
    const here = h("div", { class: "stack" });
    const button = h("button", { type: "button", class: "main" }, glance.app ? "Join, and look at the app" : "Join");
    // Whoever has it already has no need to.
    void this.#saysWhatIsHere(peer, glance, here).then((is_here) => button.classList.toggle("main", !is_here));
    const going = h("p", { role: "status", class: "loading", hidden: true }, `Asking the peer of ${glance.inviter || "whoever invited you"}…`);
    const wrong = h("div", {});
    button.addEventListener("click", async () => {
      button.disabled = true;
      going.hidden = false;
      wrong.replaceChildren();
      try {
        const card = await peer.join(glance.payload, true, is_member ? carried.value.trim() || undefined : own.wanted);
        this.#joined(peer, glance, card.status ?? null);
      } catch (error) {
        wrong.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
      }
      going.hidden = true;
      button.disabled = false;
    });
    this.#next.replaceChildren(
      here,
      is_member ? h("label", { for: "carried-name" }, h("span", {}, "The name that you carry there"), carried) : own,
      going,
      wrong,
      h("div", { class: "buttons" }, button, h("a", { class: "button", href: hrefOf([]) }, "Not now")),
    );
  }

  /**
   * Who has the space already is told so: by the link he may get more.
   * @param {import("../api/peer.js").Peer} peer @param {Glance} glance @param {HTMLElement} place @returns {Promise<boolean>} whether it is here
   */
  async #saysWhatIsHere(peer, glance, place) {
    const space = (await peer.spaces().catch(() => [])).find(({ space, is_followed }) => space === glance.space && is_followed);
    if (!space || isRefused(space)) return false;
    place.replaceChildren(
      h("p", { class: "note" }, `You have this already: ${wordsOfSpace(space)}. Join once more only if the link gives more than you have.`),
      h("div", { class: "buttons" }, ...this.#places(glance, space)),
    );
    return true;
  }

  /**
   * What became of it, as it goes on: whoever made the link may be away, and answer later.
   * @param {import("../api/peer.js").Peer} peer @param {Glance} glance @param {Space | null} status
   */
  #joined(peer, glance, status) {
    const said = h("p", { role: "status" });
    const rest = h("div", { class: "stack" });
    this.#next.replaceChildren(said, rest);
    let is_settled = false;
    const show = (/** @type {Space | null} */ space) => {
      if (is_settled) return;
      const became = space && isRefused(space) ? "Not joined" : space?.is_waiting ? "On its way" : "Joined";
      said.textContent = `${became}${space ? `: ${wordsOfSpace(space)}` : ""}.`;
      const who = glance.inviter || "whoever invited you";
      if (space && isRefused(space)) {
        is_settled = true;
        rest.replaceChildren(h("p", {}, `Ask ${who} for a new link.`), h("div", { class: "buttons" }, h("a", { class: "button", href: hrefOfPage("people") }, "People")));
      } else if (space && !(space.state === "live" && !space.is_waiting)) {
        rest.replaceChildren(
          h("p", { class: "soft" }, `Your peer goes on by itself, and this page shows it when ${who} has answered. You need not wait here: People tells how it is.`),
          h("div", { class: "buttons" }, h("a", { class: "button", href: hrefOfPage("people") }, "People")),
        );
      } else {
        is_settled = true;
        if (glance.app) void this.#app(peer, glance, [said]);
        else rest.replaceChildren(h("div", { class: "buttons" }, ...this.#places(glance, space)));
      }
    };
    show(status);
    const stop = peer.heed(["spaces"], async () => {
      if (is_settled || !this.isConnected) return stop();
      const spaces = await peer.spaces().catch(() => []);
      const now = spaces.find(({ space }) => space === glance.space);
      if (now) show(now);
    });
  }

  /** Where to go then. @param {Glance} glance @param {Space | null} space */
  #places(glance, space) {
    if (glance.role === "member")
      return [h("a", { class: "button main", href: hrefOfPage("people") }, "Go to its members and its board")];
    const top = `@${space?.petname ?? glance.space}`;
    const at = [top, ...parsePath(glance.path)];
    const is_path = at.length > 1;
    const all = glance.is_only ? "" : h("a", { class: `button ${is_path ? "" : "main"}`, href: hrefOf([top]) }, "See what is there");
    return [is_path ? h("a", { class: "button main", href: hrefOf(at) }, `Go to ${glance.path}`) : "", all];
  }

  /** The app that came with it. @param {import("../api/peer.js").Peer} peer @param {Glance} glance @param {HTMLElement[]} lines */
  async #app(peer, glance, lines) {
    const from = { space: `@${glance.space}/${glance.app}` };
    const done = h("a", { class: "button", href: hrefOfPage("apps") }, "All your apps");
    this.#next.replaceChildren(...lines, h("p", { class: "loading", role: "status" }, `Fetching ${glance.app}…`));
    try {
      const app = await this.#fetched(() => peer.lookAtApp(from));
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

  /** What was just given may take a moment to come. @template T @param {() => Promise<T>} look @returns {Promise<T>} */
  async #fetched(look) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await look();
      } catch (error) {
        const { status } = Problem.of(error);
        if (tries === TRIES_MAX || !this.isConnected || ![403, 404, 503].includes(status)) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }
}

customElements.define("join-page", JoinPage);
