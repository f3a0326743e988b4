import { hrefOf } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { exactTime, plural } from "../words.js";
import { ProblemCard } from "./problem-card.js";
import { QrCode } from "./qr-code.js";

/** @typedef {import("../api/peer.js").Invite} Invite */

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

  connectedCallback() {
    const role = h(
      "select",
      { id: "invite-role" },
      h("option", { value: "read" }, "read everything in your space"),
      h("option", { value: "write" }, "read everything, and write in one folder"),
    );
    const path = h("input", {
      type: "text",
      id: "invite-path",
      value: this.app === "board" ? "/boards" : "/table",
      spellcheck: false,
    });
    const place = h("label", { for: "invite-path", hidden: true }, h("span", {}, "Where they may write"), path);
    role.addEventListener("change", () => (place.hidden = role.value !== "write"));
    if (this.app === "board") {
      role.value = "write";
      place.hidden = false;
    }
    const paint = h("input", {
      type: "text",
      id: "invite-paint",
      maxLength: 200,
      placeholder: "Hi, it’s Ada. Come in!",
    });
    const app = h("input", { type: "checkbox", id: "invite-app", checked: true });
    const button = h("button", { class: "main" }, "Make a link");
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        // Whoever takes the link takes the app from where it is published.
        const published = this.app && app.checked ? await this.peer?.publishApp(this.app) : null;
        const wish = {
          role: role.value,
          path: role.value === "write" ? path.value : "/",
          paint: paint.value,
          ...(published ? { app: published.name } : {}),
        };
        const made = await this.peer?.invite(wish);
        if (made) this.#show_made(made);
        await this.#show();
      } catch (error) {
        this.#made.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
      }
      button.disabled = false;
    };
    this.replaceChildren(
      h(
        "main",
        { class: "stack wide" },
        h("h1", {}, "Invite someone"),
        h(
          "p",
          { class: "soft" },
          "A link lets one person in, once, within seven days. Send it as you would send a key.",
        ),
        h(
          "form",
          { class: "card stack", onsubmit: submit },
          h("label", { for: "invite-role" }, h("span", {}, "Whoever has the link may"), role),
          place,
          h("label", { for: "invite-paint" }, h("span", {}, "What they read first (part of the link)"), paint),
          this.app ? h("label", { for: "invite-app", class: "check" }, app, ` Bring ${this.app} along`) : "",
          h("div", { class: "buttons" }, button),
        ),
        this.#made,
        h("h2", {}, "Links you gave, and who came by them"),
        this.#list,
      ),
    );
    void this.#show();
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
      const invites = (await this.peer?.invites()) ?? [];
      const newest = invites.toReversed();
      this.#list.replaceChildren(
        ...(newest.length > 0
          ? newest.map((invite) => this.#row(invite))
          : [h("li", { class: "soft" }, "You gave none yet.")]),
      );
    } catch (error) {
      this.#list.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** @param {Invite} invite */
  #row(invite) {
    const of = invite.space ? ` of ${invite.space.slice(0, 8)}…` : "";
    const reads = invite.only ? `reads ${invite.path}${of} and nothing else` : `reads all${of} that is not kept apart`;
    const may =
      invite.role === "write"
        ? `${reads}, writes in ${invite.path}`
        : invite.role === "device"
          ? "is a device of yours"
          : invite.role === "member"
            ? `is a member${of}`
            : reads;
    const takers = (invite.redeemed ?? []).map(({ space, at_ms }) =>
      h(
        "li",
        {},
        space ? h("a", { href: hrefOf([`@${space}`]) }, `${space.slice(0, 8)}…`) : "somebody",
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

customElements.define("invites-page", InvitesPage);
