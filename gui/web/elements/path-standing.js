import { goTo, hrefOf, hrefOfPage, hrefOfSharing } from "../api/pages.js";
import { h } from "../dom.js";
import { keepApart } from "../keep-apart.js";
import { isElsewhere, isWorkedOut, parsePath, showPath } from "../path.js";
import { listed } from "../words.js";
import { stateOfSpace } from "./people-page.js";
import { wordsOfDispute } from "./root-dispute.js";

/** @typedef {import("../path.js").Path} Path */
/** @typedef {import("../api/told.js").Grant} Grant */
/** @typedef {import("../api/told.js").Apart} Apart */
/** @typedef {import("../api/told.js").Space} Space */

/** Names that are said; of more it is said how many there are. */
const NAMED_MAX = 4;

/** Who may read a path, and what the owner can do about that; of somebody else's path, what the owner may do there. */
export class PathStanding extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  /** @type {Path} */
  path = [];
  /** Shows the page of a path. @type {(path: Path) => void} */
  go = () => {};
  #shown = "";
  /** @type {() => void} */
  #stop = () => {};

  connectedCallback() {
    const [first = ""] = isElsewhere(this.path) ? this.path.slice(1) : this.path;
    if (isWorkedOut(first)) this.replaceChildren(...workedOut(first));
    // What begins with a dot is the system's.
    if (!this.peer || this.path.some((name) => name.startsWith("."))) return;
    void this.#look();
    const parts = isElsewhere(this.path) ? [`grants/${this.path.join("/")}`, "spaces"] : ["grants", "timelines", "spaces"];
    this.#stop = this.peer.heed(parts, () => void this.#look());
  }

  disconnectedCallback() {
    this.#stop();
  }

  async #look() {
    // It is said beside the values, which show all the same.
    const parts = await (isElsewhere(this.path) ? this.#elsewhere() : this.#own()).catch(() => []);
    const now = JSON.stringify(parts.map((part) => (typeof part === "string" ? part : [part.textContent, part.getAttribute("href")])));
    if (now === this.#shown) return;
    this.#shown = now;
    this.replaceChildren(...parts);
  }

  /** @returns {Promise<(HTMLElement | string)[]>} */
  async #own() {
    const [grants, apart] = await Promise.all([this.peer?.grants() ?? [], this.peer?.apart([]) ?? []]);
    const around = apart.filter((one) => isWithin(this.path, parsePath(one.path))).sort((a, b) => b.path.length - a.path.length)[0];
    const readers = around ? around.readers.map(({ name }) => name) : readersOf(grants, apart);
    const names = [...new Set(readers)].filter((name) => name !== "you");
    const who = names.includes("anyone") ? "everybody" : listed(names, NAMED_MAX);
    const path = around?.path ?? showPath(this.path);
    if (this.path.length === 0) {
      const others = await this.#others();
      return names.length > 0
        ? [words(`Read by ${who}, but for what is kept apart. `), this.#rights(), ...others]
        : [words("Nobody but you reads what is here so far."), ...others];
    }
    const label = around ? `Let somebody in to ${path}` : "Share this path";
    const share = h("button", { type: "button", class: "link", onclick: () => goTo(hrefOfSharing(path)) }, label);
    if (around) {
      const said = `${around.path} is kept apart: ${names.length > 0 ? `read by ${who} and you` : "read by you alone"}. `;
      const question = `Make ${path} a part of the rest again? Then all read it who may read the rest of your space, and what was given of it alone ends.`;
      const join = () => confirm(question) && this.#do(() => this.peer?.keepApartNoMore(path));
      const end = h("button", { type: "button", class: "link", onclick: join }, "Keep it apart no more");
      return [words(said), share, " · ", end, " · ", this.#rights()];
    }
    const keep = () => this.#do(() => this.peer && keepApart(this.peer, path));
    return [
      words(names.length > 0 ? `Read by ${who}, as all that is not kept apart. ` : "Nobody but you reads this so far. "),
      h("button", { type: "button", class: "link", onclick: keep }, "Keep this apart"),
      " · ",
      share,
      ...(names.length > 0 ? [" · ", this.#rights()] : []),
    ];
  }

  /** Does something, and shows the path as it is then. @param {() => Promise<unknown> | null | undefined} run */
  async #do(run) {
    try {
      if (await run()) this.go(this.path);
    } catch (error) {
      this.notices?.sayProblem(error);
    }
  }

  /** The spaces of others that are here: whoever joined one looks for it among his values. @returns {Promise<(HTMLElement | string)[]>} */
  async #others() {
    const spaces = (await this.peer?.spaces().catch(() => [])) ?? [];
    const shown = spaces.filter(({ is_followed, state }) => is_followed && state !== "denied");
    if (shown.length === 0) return [];
    const link = (/** @type {Space} */ { space, petname, name }) => h("a", { href: hrefOf([`@${petname ?? space}`]) }, `@${petname ?? name}`);
    const more = shown.length > NAMED_MAX ? [" ", h("a", { href: hrefOfPage("people") }, `and ${shown.length - NAMED_MAX} more`)] : [];
    return [words(" Of others here: "), ...shown.slice(0, NAMED_MAX).flatMap((space, at) => [at > 0 ? ", " : "", link(space)]), ...more];
  }

  /** How the space is that is shown, if not all of it is here as it is now. @returns {Promise<HTMLElement[]>} */
  async #reach() {
    const spaces = (await this.peer?.spaces().catch(() => [])) ?? [];
    const here = spaces.find(({ space, petname }) => [`@${space}`, `@${petname}`].includes(this.path[0] ?? ""));
    if (!here || (here.state === "live" && this.path.length > 1)) return [];
    const said = stateOfSpace(here);
    return [words(`${said.charAt(0).toUpperCase()}${said.slice(1)}. `)];
  }

  #rights() {
    return h("a", { href: hrefOfPage("grants") }, "Rights");
  }

  /** @returns {Promise<(HTMLElement | string)[]>} */
  async #elsewhere() {
    const [space = "", ...rest] = this.path;
    const said = [...(rest.length === 0 ? await this.#disputed(space) : []), ...(await this.#reach())];
    if (await this.peer?.mayWrite(this.path)) {
      const is_there = await this.peer?.list(this.path, { limit: 1 }).then(
        () => true,
        () => false,
      );
      return [...said, words(is_there ? "You may write here." : "You may write here; nobody has so far.")];
    }
    const grants = (await this.peer?.grantsAt(this.path)) ?? [];
    const below = grants.filter(({ name, live, can, path }) => name === "you" && live && can.includes("write") && isWithin(parsePath(path), rest));
    const paths = [...new Set(below.map(({ path }) => path))];
    const link = (/** @type {string} */ path) => h("a", { href: hrefOf([space, ...parsePath(path)]) }, path);
    return paths.length > 0 ? [...said, words("You may write at "), ...paths.flatMap((path, at) => [at > 0 ? ", " : "", link(path)])] : said;
  }

  /** That it is in dispute who the root of this space is. @param {string} space @returns {Promise<HTMLElement[]>} */
  async #disputed(space) {
    const all = (await this.peer?.disputes().catch(() => [])) ?? [];
    const dispute = all.find(({ space: key, name }) => [`@${key}`, `@${name}`].includes(space));
    return dispute ? [words(`${wordsOfDispute(dispute).says} `), h("a", { href: hrefOfPage("people") }, "People"), words(" says what to do. ")] : [];
  }
}

/** What to say of values that are worked out. @param {string} name the first one of their path */
function workedOut(name) {
  return name === ".auth"
    ? [words("What is stated about rights. "), h("a", { href: hrefOfPage("grants") }, "Rights"), words(" shows it in words, and changes it.")]
    : [words("What others left for the owner. "), h("a", { href: hrefOfPage("inbox") }, "Inbox"), words(" shows it in words.")];
}

/** @param {string} text */
const words = (text) => h("span", {}, text);

/** Whether a path is another one or below it. @param {Path} path @param {Path} above */
const isWithin = (path, above) => above.every((name, at) => path[at] === name);

/** Who reads all that is not kept apart. @param {Grant[]} grants @param {Apart[]} apart */
function readersOf(grants, apart) {
  const is_of_apart = (/** @type {Grant} */ { path }) => apart.some((one) => isWithin(parsePath(path), parsePath(one.path)));
  const reads = grants.filter((grant) => grant.live && grant.can.includes("read") && !is_of_apart(grant));
  return reads.map(({ name }) => name);
}

customElements.define("path-standing", PathStanding);
