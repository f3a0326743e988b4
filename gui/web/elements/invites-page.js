import { hrefOf, pathOfInvite } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { keepApart } from "../keep-apart.js";
import { isElsewhere, parsePath, segmentOf, showPath } from "../path.js";
import { ago, exactTime, plural } from "../words.js";
import { MadeLink, wordsOfInvite } from "./made-link.js";
import { PathInput } from "./path-input.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").Invite} Invite */

/** What a link can let somebody do, and what the path is that belongs to it. @type {[string, string, string][]} */
const KINDS = [
  ["read", "read everything in your space", ""],
  ["write", "read everything, write in one folder", "Where they may write (@name/… for a space that you were let in to)"],
  ["apart-read", "read one path only", "The path that they may read, and nothing else"],
  ["apart-write", "read and write one path only", "The path that they may read and write, and nothing else"],
  ["member", "be a member of a community", ""],
];
/** @type {[string, string][]} */
const GUESTS = [
  ["", "as usual"],
  ["0", "no"],
  ["1", "those whom they know"],
  ["2", "and these again others"],
];
const DAY_MS = 86_400_000;
/** Names of what may be read that are shown. */
const NAMED_MAX = 20;

/** Makes links that let somebody in, and shows who came by them. */
export class InvitesPage extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  /** The alias of an app that the link shall bring along. @type {string | null} */
  app = null;
  #made = h("div", {});
  #public = h("div", {});
  /** What may be read by it. */
  #reads = h("div", { class: "stack" });
  #list = h("ul", { class: "rows" });
  /** What live rights say they came by. @type {Set<string>} */
  #given = new Set();
  /** What spaces are called. @type {Map<string, string>} */
  #names = new Map();
  #path = make(PathInput, {});
  #drawn = "";
  /** @type {() => void} */
  #stop = () => {};

  connectedCallback() {
    const kind = h("select", { id: "invite-role" }, KINDS.map(([value, words]) => h("option", { value }, words)));
    const asked = pathOfInvite();
    this.#path = make(PathInput, { peer: this.peer, label: "", start: asked ?? (this.app === "board" ? "/boards" : "/table") });
    const where = h("div", { class: "stack", hidden: true });
    const quota = h("input", { type: "number", id: "invite-quota", min: "0.001", step: "any", placeholder: "no limit" });
    const community = h("select", { id: "invite-community" });
    const of = h("label", { for: "invite-community", hidden: true }, h("span", {}, "Which community"), community);
    void this.peer?.communities().then(
      (all) => {
        const option = (/** @type {import("../api/told.js").Community} */ one) =>
          h("option", { value: one.community }, one.title ?? one.petname ?? `${one.community.slice(0, 8)}…`);
        community.replaceChildren(...all.map(option));
        // Who is in none lets nobody in to one.
        const choice = kind.querySelector('[value="member"]');
        if (all.length === 0) choice?.remove();
      },
      () => {},
    );
    const most = h("label", { for: "invite-quota" }, h("span", {}, "How much they may write there, in MB"), quota);
    const show = () => {
      const chosen = KINDS.find(([value]) => value === kind.value) ?? KINDS[0];
      where.hidden = !chosen?.[2];
      most.hidden = !kind.value.endsWith("write");
      of.hidden = kind.value !== "member";
      this.#path.say(chosen?.[2] ?? "");
      this.#reads.hidden = kind.value !== "read" && kind.value !== "write";
    };
    where.append(this.#path, most);
    kind.addEventListener("change", show);
    if (this.app === "board") kind.value = "write";
    if (asked) kind.value = "apart-read";
    const paint = h("input", {
      type: "text",
      id: "invite-paint",
      maxLength: 200,
      placeholder: "Hi, it’s Ada. Come in!",
    });
    const uses = h("input", { type: "number", id: "invite-uses", min: "1", value: "1" });
    const days = h("input", { type: "number", id: "invite-days", min: "1", value: "7" });
    const guests = h("select", { id: "invite-guests" }, GUESTS.map(([value, words]) => h("option", { value }, words)));
    const note = h("input", { type: "text", id: "invite-note", maxLength: 100 });
    const app = h("input", { type: "checkbox", id: "invite-app", checked: true });
    const button = h("button", { class: "main" }, "Make a link");
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      button.disabled = true;
      /** @type {"was" | "now" | null} */
      let kept = null;
      try {
        const [role = "read", is_apart] = kind.value.split("-").reverse();
        if (is_apart) kept = await this.#keepApart(this.#path.value);
        if (is_apart && !kept) return;
        // Whoever takes the link takes the app from where it is published.
        const published = this.app && app.checked ? await this.peer?.publishApp(this.app) : null;
        const [space, path] = splitSpace(where.hidden ? "/" : this.#path.value);
        /** @type {import("../api/told.js").Wish} */
        const wish = {
          role,
          path,
          paint: paint.value,
          note: note.value,
          uses: Number(uses.value) || 1,
          expires_ms: Date.now() + (Number(days.value) || 7) * DAY_MS,
          ...(role === "write" && Number(quota.value) > 0 ? { bytes_max: Math.round(Number(quota.value) * 1_000_000) } : {}),
          ...(role === "member" ? { space: community.value } : space ? { space } : {}),
          ...(guests.value ? { depth: Number(guests.value) } : {}),
          ...(published ? { app: published.name } : {}),
        };
        const made = await this.peer?.invite(wish);
        if (made) this.#show_made(made);
        await this.#show();
      } catch (error) {
        const half = kept === "now" ? h("p", { class: "note" }, `${this.#path.value} is kept apart now, although no link was made.`) : "";
        this.#made.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }), half);
      } finally {
        button.disabled = false;
      }
    };
    this.replaceChildren(
      h(
        "main",
        { class: "stack wide" },
        h("h1", {}, "Invite someone"),
        h(
          "p",
          { class: "soft" },
          "A link lets one person in, once, within seven days, if you say nothing else. Send it as you would send a key.",
        ),
        h(
          "form",
          { class: "card stack", onsubmit: submit },
          h("label", { for: "invite-role" }, h("span", {}, "Whoever has the link may"), kind),
          where,
          of,
          this.#reads,
          h("label", { for: "invite-paint" }, h("span", {}, "What they read first (part of the link)"), paint),
          this.app ? h("label", { for: "invite-app", class: "check" }, app, ` Bring ${this.app} along`) : "",
          h(
            "details",
            {},
            h("summary", {}, "How often, how long, and whom they may bring"),
            h(
              "div",
              { class: "fields" },
              h("label", { for: "invite-uses" }, h("span", {}, "So many people can take it"), uses),
              h("label", { for: "invite-days" }, h("span", {}, "Within so many days"), days),
              h("label", { for: "invite-guests" }, h("span", {}, "They may let others in to the same"), guests),
              h("label", { for: "invite-note" }, h("span", {}, "A note for yourself"), note),
            ),
          ),
          h("div", { class: "buttons" }, button),
        ),
        this.#public,
        this.#made,
        h("h2", {}, "Links you gave, and who came by them"),
        this.#list,
      ),
    );
    show();
    void this.#show();
    void this.#showReads();
    void this.#askPublic();
    // Whoever made a link sees when somebody takes it.
    this.#stop = this.peer?.heed(["invites", "grants"], () => void this.#show()) ?? this.#stop;
  }

  disconnectedCallback() {
    this.#stop();
  }

  /** Asks once whether public relays may be used: before that nobody beyond the local network is contacted. */
  async #askPublic() {
    const { possible, allowed } = (await this.peer?.publicRelays().catch(() => null)) ?? { possible: false, allowed: null };
    if (!possible || typeof allowed === "boolean") return;
    const answer = (/** @type {boolean} */ yes) => async () => {
      try {
        await this.peer?.allowPublicRelays(yes);
        this.#public.replaceChildren(yes ? h("p", { class: "note" }, "Links that you make from now on lead to you over the internet, too.") : "");
      } catch (error) {
        this.notices?.sayProblem(error);
      }
    };
    this.#public.replaceChildren(
      h(
        "div",
        { class: "card stack" },
        h("h2", {}, "Shall people outside your network reach you, too?"),
        h(
          "p",
          { class: "soft" },
          "Public relays then pass on what you say to each other. They see your address and whom you talk to, but not what is said.",
          " Without them a link works in your own network, and at addresses that lead to you.",
        ),
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", onclick: answer(true) }, "Use public relays"),
          h("button", { type: "button", onclick: answer(false) }, "Only my own network"),
        ),
      ),
    );
  }

  /** What whoever reads everything would read, and keeping some of it apart. */
  async #showReads() {
    const [page, apart] = await Promise.all([
      this.peer?.list([], { limit: NAMED_MAX }).catch(() => null),
      this.peer?.apart([]).catch(() => []),
    ]);
    const value = page?.value;
    const names = typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
    const is_apart = (/** @type {string} */ path) => apart?.some((one) => one.path === path);
    const paths = names.filter((name) => !name.startsWith(".")).map((name) => showPath([segmentOf(name)]));
    const readable = paths.filter((path) => !is_apart(path));
    const keep = async (/** @type {string} */ path) => {
      try {
        if (await this.#keepApart(path)) await this.#showReads();
      } catch (error) {
        this.notices?.sayProblem(error);
      }
    };
    const item = (/** @type {string} */ path) =>
      h(
        "li",
        {},
        h("a", { href: hrefOf(parsePath(path)) }, path),
        " ",
        path === "/profile" || path === `/${this.app}`
          ? h("span", { class: "soft small" }, path === "/profile" ? "what you are called" : `what ${this.app} shows`)
          : h("button", { type: "button", class: "link small", "aria-label": `keep it apart: ${path}`, onclick: () => void keep(path) }, "keep it apart"),
      );
    const more = page?.next ? h("li", { class: "soft" }, "and more") : "";
    this.#reads.replaceChildren(
      ...(readable.length === 0
        ? [h("p", { class: "soft small" }, "Nothing is there to read yet; what you add later they read, too, unless you keep it apart.")]
        : [
            h("p", { class: "soft small" }, "They read all of this, and what you add later. What you keep apart only those read whom you let in there:"),
            h("ul", { class: "wants small" }, readable.map(item), more),
          ]),
    );
  }

  /**
   * Whether a path is kept apart, or is from now on: an invite to it is for it alone.
   * @param {string} text @returns {Promise<"was" | "now" | null>} nothing if that is not wanted
   */
  async #keepApart(text) {
    const parts = parsePath(text);
    // Of another space its owner says what is kept apart.
    if (isElsewhere(parts)) return "was";
    const path = showPath(parts);
    const all = (await this.peer?.apart([])) ?? [];
    if (all.some((apart) => apart.path === path)) return "was";
    return this.peer && (await keepApart(this.peer, path)) ? "now" : null;
  }

  /** @param {Invite} made */
  #show_made(made) {
    const space = made.space ? ` of ${this.#names.get(made.space) ?? `${made.space.slice(0, 8)}…`}` : "";
    this.#made.replaceChildren(make(MadeLink, { made, may: `Whoever takes it ${wordsOfInvite(made, space)}.` }));
    this.#made.scrollIntoView({ block: "nearest" });
  }

  async #show() {
    try {
      const [invites = [], spaces = [], grants = []] = await Promise.all([
        this.peer?.invites(),
        this.peer?.spaces().catch(() => []),
        this.peer?.grants().catch(() => []),
      ]);
      this.#given = new Set(grants.filter(({ live }) => live).map(({ label }) => label));
      this.#names = new Map(spaces.map(({ space, petname, name }) => [space, petname ?? name]));
      const drawn = JSON.stringify([invites, [...this.#given], [...this.#names]]);
      if (drawn === this.#drawn) return;
      this.#drawn = drawn;
      this.#list.replaceChildren(
        ...(invites.length > 0
          ? invites.map((invite) => this.#row(invite))
          : [h("li", { class: "soft" }, "You gave none yet.")]),
      );
    } catch (error) {
      this.#drawn = "";
      this.#list.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** Whether somebody still has what he got by a link; of links to other spaces that is not known here. @param {Invite} invite */
  #gives({ id, space, state }) {
    return space ? state !== "revoked" : [...this.#given].some((label) => label.startsWith(`invite:${id}`));
  }

  /** @param {Invite} invite */
  #row(invite) {
    const of = invite.space ? ` of ${this.#names.get(invite.space) ?? `${invite.space.slice(0, 8)}…`}` : "";
    const may = wordsOfInvite(invite, of);
    const takers = (invite.redeemed ?? []).map(({ space, name, called, at_ms }) =>
      h(
        "li",
        {},
        space ? h("a", { href: hrefOf([`@${space}`]), title: space }, called || this.#names.get(space) || name || `${space.slice(0, 8)}…`) : "somebody",
        at_ms ? h("span", { class: "soft" }, `, ${exactTime(at_ms)}`) : "",
      ),
    );
    const revoke = async (/** @type {boolean} */ grants) => {
      const words = grants
        ? "Take back, too, what those got who used the link?"
        : "Take the link back? Nobody else can use it then.";
      if (!confirm(words)) return;
      try {
        await this.peer?.revokeInvite(invite.id, grants);
        await this.#show();
      } catch (error) {
        this.notices?.sayProblem(error);
      }
    };
    return h(
      "li",
      { class: "card stack" },
      h(
        "div",
        { class: "row-head" },
        h("strong", {}, may),
        h("code", { class: "soft" }, invite.id),
        h(
          "span",
          { class: `state ${invite.state === "open" ? "live" : ""}` },
          `${invite.state}, used ${plural(invite.uses, "time")}`,
        ),
      ),
      h(
        "p",
        { class: "soft small" },
        invite.note ? h("span", { dir: "auto" }, `“${invite.note}”, `) : "",
        "made ",
        h("time", { dateTime: new Date(invite.created_ms).toISOString(), title: exactTime(invite.created_ms) }, ago(invite.created_ms)),
        invite.state === "open" && invite.expires_ms > 0 ? `, can be taken until ${exactTime(invite.expires_ms)}` : "",
      ),
      takers.length > 0 ? h("ul", { class: "tree" }, takers) : "",
      h(
        "div",
        { class: "buttons" },
        invite.state === "open"
          ? h("button", { type: "button", onclick: () => void revoke(false) }, "Take it back")
          : "",
        takers.length > 0 && this.#gives(invite)
          ? h("button", { type: "button", class: "danger", onclick: () => void revoke(true) }, "Take back what it gave")
          : "",
      ),
    );
  }
}

/** The space that a path names, and the path in it. @param {string} text @returns {[string | null, string]} */
function splitSpace(text) {
  const [first = "", ...rest] = parsePath(text);
  return first.startsWith("@") && !first.startsWith("@@") ? [first.slice(1), `/${rest.join("/")}`] : [null, text];
}

customElements.define("invites-page", InvitesPage);
