import { hrefOf } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { isElsewhere, parsePath, showPath } from "../path.js";
import { exactTime, plural, size } from "../words.js";
import { PathInput } from "./path-input.js";
import { ProblemCard } from "./problem-card.js";
import { QrCode } from "./qr-code.js";

/** @typedef {import("../api/peer.js").Invite} Invite */

/** What a link can let somebody do, and what the path is that belongs to it. @type {[string, string, string][]} */
const KINDS = [
  ["read", "read everything in your space", ""],
  ["write", "read everything, and write in one folder", "Where they may write (@name/… for a space that you were let in to)"],
  ["apart-read", "read one path, and nothing else", "The path that they may read"],
  ["apart-write", "read and write one path, and nothing else", "The path that they may read and write"],
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

/** Makes links that let somebody in, and shows who came by them. */
export class InvitesPage extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  /** The alias of an app that the link shall bring along. @type {string | null} */
  app = null;
  #made = h("div", {});
  #list = h("ul", { class: "rows" });
  /** What spaces are called. @type {Map<string, string>} */
  #names = new Map();

  #path = make(PathInput, {});

  connectedCallback() {
    const kind = h("select", { id: "invite-role" }, KINDS.map(([value, words]) => h("option", { value }, words)));
    this.#path = make(PathInput, { peer: this.peer, label: "", start: this.app === "board" ? "/boards" : "/table" });
    const where = h("div", { class: "stack", hidden: true });
    const quota = h("input", { type: "number", id: "invite-quota", min: "1", placeholder: "no limit" });
    const community = h("select", { id: "invite-community" });
    const of = h("label", { for: "invite-community", hidden: true }, h("span", {}, "Which community"), community);
    void this.peer?.communities().then(
      (all) => {
        const option = (/** @type {import("../api/peer.js").Community} */ one) =>
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
    };
    where.append(this.#path, most);
    kind.addEventListener("change", show);
    if (this.app === "board") kind.value = "write";
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
      try {
        const [role = "read", is_apart] = kind.value.split("-").reverse();
        if (is_apart && !(await this.#keepApart())) return;
        // Whoever takes the link takes the app from where it is published.
        const published = this.app && app.checked ? await this.peer?.publishApp(this.app) : null;
        const [space, path] = splitSpace(where.hidden ? "/" : this.#path.value);
        /** @type {import("../api/peer.js").Wish} */
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
        this.#made.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
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
        this.#made,
        h("h2", {}, "Links you gave, and who came by them"),
        this.#list,
      ),
    );
    show();
    void this.#show();
  }

  /** Whether the path is kept apart, or is now: an invite to it is for it alone. */
  async #keepApart() {
    const parts = parsePath(this.#path.value);
    // Of another space its owner says what is kept apart.
    if (isElsewhere(parts)) return true;
    const path = showPath(parts);
    const all = (await this.peer?.apart([])) ?? [];
    if (all.some((apart) => apart.path === path)) return true;
    const words =
      `${path} is part of your space for all who may read it. Keep it apart, so that only those read it whom you let in there?` +
      " What is there goes along, as it is now. Whoever has it already keeps what he has, and its history stays where it was.";
    if (!confirm(words)) return false;
    await this.peer?.keepApart(path);
    return true;
  }

  /** @param {Invite} made */
  #show_made(made) {
    const link = made.http_link ?? made.link ?? "";
    const copied = h("span", { role: "status", class: "small soft" });
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(link);
        copied.textContent = "Copied.";
      } catch {
        copied.textContent = "Select the link to copy it.";
      }
    };
    this.#made.replaceChildren(
      h(
        "div",
        { class: "card stack" },
        h("h2", {}, "Here is the link"),
        h("div", { class: "copyable" }, h("code", {}, link), h("button", { type: "button", onclick: copy }, "Copy")),
        copied,
        made.qr ? make(QrCode, { rows: made.qr, label: "The link as a QR code" }) : "",
        h(
          "p",
          { class: "soft small" },
          made.http_link
            ? "It opens in any browser. "
            : "Your friend pastes it into the pages of a timebus of their own, or types timebus join and the link. ",
          `Works ${made.uses_max === 1 ? "once" : `${made.uses_max} times`}, until ${exactTime(made.expires_ms)}. It is shown now and never again.`,
        ),
      ),
    );
    this.#made.scrollIntoView({ block: "nearest" });
  }

  async #show() {
    try {
      const [invites = [], spaces = []] = await Promise.all([this.peer?.invites(), this.peer?.spaces().catch(() => [])]);
      this.#names = new Map(spaces.map(({ space, petname, name }) => [space, petname ?? name]));
      this.#list.replaceChildren(
        ...(invites.length > 0
          ? invites.map((invite) => this.#row(invite))
          : [h("li", { class: "soft" }, "You gave none yet.")]),
      );
    } catch (error) {
      this.#list.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** @param {Invite} invite */
  #row(invite) {
    const of = invite.space ? ` of ${this.#names.get(invite.space) ?? `${invite.space.slice(0, 8)}…`}` : "";
    const most = invite.bytes_max > 0 ? `, up to ${size(invite.bytes_max)}` : "";
    const reads = invite.only ? `reads ${invite.path}${of} and nothing else` : `reads all${of} that is not kept apart`;
    const may =
      invite.role === "write"
        ? `${reads}, writes in ${invite.path}${most}`
        : invite.role === "device"
          ? invite.uses > 0
            ? "made a machine a device of yours"
            : "makes a machine a device of yours"
          : invite.role === "member"
            ? `is a member${of}`
            : reads;
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
        h("strong", {}, invite.note || may),
        h("code", { class: "soft" }, invite.id),
        h(
          "span",
          { class: `state ${invite.state === "open" ? "live" : ""}` },
          `${invite.state}, used ${plural(invite.uses, "time")}`,
        ),
      ),
      takers.length > 0 ? h("ul", { class: "tree" }, takers) : "",
      h(
        "div",
        { class: "buttons" },
        invite.state === "open"
          ? h("button", { type: "button", onclick: () => void revoke(false) }, "Take it back")
          : "",
        takers.length > 0 && invite.state !== "revoked"
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
