import { appOfPage, hrefOf, hrefOfPage, isJoinPage, pageOf, pathOfLink, pathOfPage } from "../api/pages.js";
import { Peer, login } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { inboxSeen, saveInboxSeen, saveToken, savedToken, takeLoginCode, tokenOfOtherTab } from "../api/session.js";
import { h, make } from "../dom.js";
import { glance, takeInvite } from "../invite-link.js";
import { sayPath } from "../path.js";
import { AppsPage } from "./apps-page.js";
import { FileUploads } from "./file-uploads.js";
import { GrantsPage } from "./grants-page.js";
import { InboxPage } from "./inbox-page.js";
import { InvitesPage } from "./invites-page.js";
import { JoinPage } from "./join-page.js";
import { NoticeList } from "./notice-list.js";
import { PathExplorer } from "./path-explorer.js";
import { PeerPage } from "./peer-page.js";
import { PeoplePage } from "./people-page.js";
import { ProblemCard } from "./problem-card.js";
import { RequestsPage } from "./requests-page.js";
import { SignIn } from "./sign-in.js";

/** @typedef {import("../path.js").Path} Path */

const LIVENESS = { connecting: "connecting…", live: "live", lost: "not connected, trying again…" };

/** The page: signs in, and shows the path that the address names. */
export class TimebusApp extends HTMLElement {
  /** The code of the login link that opened the page. @type {string | null} */
  static loginCode = null;
  /** The invite of the link that opened the page. @type {string | null} */
  static invite = null;

  /** @type {Peer | null} */
  #peer = null;
  /** @type {import("../api/told.js").Status | null} */
  #status = null;
  /** What the owner says that he is called. */
  #called = "";
  #notices = new NoticeList();
  /** Files that go on their way whatever page is shown. */
  #uploads = new FileUploads();
  /** Requests that wait for the owner's word. */
  #waiting = 0;
  /** Notices that were not looked at yet. */
  #unseen = 0;
  /** An app that the next invite brings along. @type {string | null} */
  #shared = null;
  #nav = h("nav", { "aria-label": "Pages" });
  #liveness = h("span", { class: "liveness small", role: "status" });
  #page = h("div", {});

  async connectedCallback() {
    this.replaceChildren(h("p", { class: "loading" }, "Opening…"));
    addEventListener("popstate", () => this.#show());
    addEventListener("hashchange", () => void this.#takeLink());
    this.addEventListener("click", (event) => this.#follow(event));
    for (const kind of /** @type {const} */ (["dragenter", "dragover", "dragleave", "drop"])) addEventListener(kind, (event) => this.#drag(event));
    this.addEventListener("invite", (event) => {
      this.#shared = /** @type {CustomEvent} */ (event).detail.app;
      this.#go([".sys", "invites"]);
    });
    if (isJoinPage()) return this.#join();
    const code = TimebusApp.loginCode;
    TimebusApp.loginCode = null;
    /** @type {Problem | null} */
    let problem = null;
    let token = null;
    if (code) {
      try {
        token = await login(code);
        saveToken(token);
      } catch (error) {
        problem = Problem.of(error);
      }
    }
    token ??= savedToken() ?? (await tokenOfOtherTab());
    if (token) await this.#enter(token);
    else this.#signIn(problem);
  }

  /** Shows what an invite says at once, and then what can be done with it here. */
  async #join() {
    const shown = TimebusApp.invite ? glance(TimebusApp.invite) : null;
    document.title = "An invite · timebus";
    this.replaceChildren(make(JoinPage, { glance: shown }));
    const token = savedToken() ?? (await tokenOfOtherTab());
    if (!token || !shown) return;
    const peer = new Peer(token);
    try {
      const { id } = await peer.status();
      saveToken(token);
      // The one who made it looks at what others will see.
      this.replaceChildren(make(JoinPage, id === shown.space ? { glance: shown, isOwn: true } : { glance: shown, peer }));
    } catch {
      // Not signed in here any more, which changes nothing about the invite.
    }
  }

  /** Somebody put a login link into the address of a page that is open already. */
  async #takeLink() {
    if (isJoinPage()) {
      if (location.hash) TimebusApp.invite = takeInvite();
      return this.#join();
    }
    const code = takeLoginCode();
    if (!code || this.#peer) return;
    try {
      await this.#enter(await login(code));
    } catch (error) {
      this.#signIn(Problem.of(error));
    }
  }

  /** @param {Problem | null} problem */
  #signIn(problem) {
    this.#peer?.socket.close();
    this.#peer = null;
    saveToken(null);
    document.title = "timebus";
    this.replaceChildren(make(SignIn, { problem, enter: (text) => this.#enterPasted(text) }));
  }

  /**
   * Takes what somebody pasted: a login link, its code, or a token.
   * @param {string} text
   */
  async #enterPasted(text) {
    const code = /#login=(\S+)/.exec(text)?.[1];
    let token = code ? await login(code) : text;
    if (!code) {
      try {
        token = await login(text);
      } catch (error) {
        // No code; a token shows by being good for something.
        await new Peer(text).status().catch(() => Promise.reject(error));
      }
    }
    saveToken(token);
    await this.#enter(token);
  }

  /** @param {string} token */
  async #enter(token) {
    const peer = new Peer(token);
    peer.onsignedout = () => {
      if (this.#peer === peer)
        this.#signIn(
          new Problem(
            401,
            "you are signed out",
            "the peer does not know this session any more",
            "open a new login link",
          ),
        );
    };
    this.#peer = peer;
    try {
      this.#status = await peer.status();
    } catch (error) {
      const problem = Problem.of(error);
      // Signed out, which has been shown.
      if (this.#peer !== peer) return;
      this.replaceChildren(
        h("div", { class: "path-bar" }),
        make(ProblemCard, { problem, again: () => void this.#enter(token) }),
      );
      return;
    }
    saveToken(token);
    this.#called = await peer.ownName();
    peer.watch(["profile", "name"], null, () => void peer.ownName().then((name) => (this.#called = name)));
    peer.socket.onliveness = () => this.#showLiveness();
    peer.socket.open();
    void this.#count(peer);
    peer.heed(["held", "inbox"], () => void this.#count(peer));
    this.#showLiveness();
    this.#uploads = make(FileUploads, { peer, notices: this.#notices });
    this.replaceChildren(
      h(
        "header",
        { class: "top" },
        h("a", { class: "brand", href: hrefOf([]) }, h("img", { src: "/.gui/icon.svg", alt: "" }), "timebus"),
        this.#nav,
        this.#liveness,
      ),
      this.#page,
      this.#uploads,
      this.#notices,
    );
    this.#show();
  }

  /** Looks whether somebody waits for the owner's word, or has left something. @param {Peer} peer */
  async #count(peer) {
    const [waiting, left] = await Promise.all([
      peer.held().then(
        (held) => held.length,
        () => 0,
      ),
      peer.inbox().then(
        ({ notices }) => notices,
        () => [],
      ),
    ]);
    const seen_ms = inboxSeen();
    const unseen = pageOf(pathOfPage()) === "inbox" ? 0 : left.filter(({ at_ms }) => at_ms > seen_ms).length;
    if ((waiting === this.#waiting && unseen === this.#unseen) || this.#peer !== peer) return;
    this.#waiting = waiting;
    this.#unseen = unseen;
    const path = pathOfPage();
    this.#showNav(pageOf(path), path);
  }

  /** What was in the inbox is no news any more. @param {import("../api/told.js").Left[]} notices */
  #seen(notices) {
    saveInboxSeen(Math.max(inboxSeen(), ...notices.map(({ at_ms }) => at_ms)));
    if (this.#unseen === 0) return;
    this.#unseen = 0;
    const path = pathOfPage();
    this.#showNav(pageOf(path), path);
  }

  #showLiveness() {
    const liveness = this.#peer?.socket.liveness ?? "connecting";
    this.#liveness.className = `liveness small ${liveness}`;
    this.#liveness.textContent = LIVENESS[liveness];
  }

  /** Shows the path of the address. */
  #show() {
    if (!this.#peer) return;
    const path = pathOfPage();
    const name = this.#called || (this.#status?.name ?? "timebus");
    document.title = path.length === 0 ? `${name} · timebus` : `${sayPath(path)} · ${name}`;
    const page = pageOf(path);
    this.#showNav(page, path);
    if (path[0] === ".sys") {
      const common = { peer: this.#peer, notices: this.#notices };
      const app = this.#shared;
      this.#shared = null;
      const pages = {
        apps: () => make(AppsPage, common),
        people: () => make(PeoplePage, common),
        grants: () => make(GrantsPage, common),
        inbox: () => make(InboxPage, { ...common, seen: (notices) => this.#seen(notices) }),
        invites: () => make(InvitesPage, { ...common, app: app ?? appOfPage() }),
        requests: () => make(RequestsPage, common),
        peer: () => make(PeerPage, common),
      };
      const titles = {
        apps: "Apps",
        people: "People",
        grants: "Who may do what",
        inbox: "Inbox",
        invites: "Invites",
        requests: "Requests",
        peer: "This peer",
      };
      if (page) document.title = `${titles[page]} · ${name}`;
      const nothing = () =>
        h(
          "main",
          { class: "stack wide" },
          h("h1", {}, "There is no such page"),
          h("p", {}, h("a", { href: hrefOf([]) }, "Go to the values")),
        );
      this.#page.replaceChildren(page ? pages[page]() : nothing());
      return;
    }
    this.#page.replaceChildren(
      make(PathExplorer, {
        peer: this.#peer,
        notices: this.#notices,
        uploads: this.#uploads,
        status: this.#status,
        home: name,
        path,
        go: (to) => this.#go(to),
      }),
    );
  }

  /** @param {import("../api/pages.js").PageName | null} page @param {Path} path */
  #showNav(page, path) {
    /** @type {[string, string, boolean][]} */
    const links = [
      ["Values", hrefOf([]), path[0] !== ".sys"],
      ["Apps", hrefOfPage("apps"), page === "apps"],
      ["People", hrefOfPage("people"), page === "people"],
      ["Rights", hrefOfPage("grants"), page === "grants"],
      ["Invite", hrefOfPage("invites"), page === "invites"],
      [this.#unseen > 0 ? `Inbox (${this.#unseen})` : "Inbox", hrefOfPage("inbox"), page === "inbox"],
      ["This peer", hrefOfPage("peer"), page === "peer"],
    ];
    // Most people never have one, and need no page that is empty.
    if (this.#waiting > 0 || page === "requests")
      links.splice(-1, 0, [`Requests (${this.#waiting})`, hrefOfPage("requests"), page === "requests"]);
    this.#nav.replaceChildren(
      ...links.map(([words, href, is_here]) => h("a", { href, "aria-current": is_here ? "page" : undefined }, words)),
    );
  }

  /** @param {Path} path */
  #go(path) {
    history.pushState(null, "", hrefOf(path));
    this.#show();
    scrollTo(0, 0);
    // Whoever navigates by keyboard or ear goes on from the new path.
    /** @type {HTMLElement | null} */ (this.querySelector("path-crumbs [aria-current]"))?.focus({
      preventScroll: true,
    });
  }

  /** Hands files that are dragged over any part of the page to the path that it shows. @param {DragEvent} event */
  #drag(event) {
    const { dataTransfer } = event;
    if (!dataTransfer?.types.includes("Files")) return;
    // Else the browser would leave the page and show the file, and what is on its way would be cut off.
    event.preventDefault();
    const explorer = this.querySelector("path-explorer");
    if (explorer instanceof PathExplorer) explorer.drag(event);
    else dataTransfer.dropEffect = "none";
  }

  /** @param {MouseEvent} event */
  #follow(event) {
    if (
      event.defaultPrevented ||
      event.button !== 0 ||
      event.ctrlKey ||
      event.metaKey ||
      event.shiftKey ||
      event.altKey
    )
      return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const path = link && this.#peer ? pathOfLink(link) : null;
    if (!path) return;
    event.preventDefault();
    this.#go(path);
  }
}
