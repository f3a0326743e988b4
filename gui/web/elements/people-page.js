import { hrefOf, hrefOfPage } from "../api/pages.js";
import { h, make } from "../dom.js";
import { CommunityCard } from "./community-card.js";
import { InviteField } from "./invite-field.js";
import { ago, listed, plural, size } from "../words.js";
import { LivePage } from "./live-page.js";
import { OwnName } from "./own-name.js";
import { RootDispute } from "./root-dispute.js";
import { UnheardList } from "./unheard-list.js";

/** @typedef {import("../api/told.js").Space} Space */
/** @typedef {import("../api/told.js").Neighbour} Neighbour */

/** @typedef {import("./community-card.js").Known} Known */

/** @typedef {import("../api/told.js").Cost} Cost */
/** @typedef {import("../api/told.js").Dispute} Dispute */
/** @typedef {import("./unheard-list.js").Lists} Lists */
/**
 * @typedef {{ spaces: Space[], gave: [string, string[]][], neighbours: Neighbour[], costs: Cost[], lists: Lists, communities: Known[], disputes: Dispute[] }} Shown
 */

/** Spaces of which it is asked what may be done there, and rights that are named of one. */
const ASKED_MAX = 50;
const GIVEN_MAX = 4;
/** What somebody may keep here who may keep something again. */
const AGAIN_BYTES = 100_000_000;

/** Whose spaces are here, how they are, and what you call them. @extends {LivePage<Shown>} */
export class PeoplePage extends LivePage {
  /** Whose root is in dispute, by space. @type {Map<string, Dispute>} */
  #disputes = new Map();
  #own = h("div", {});
  #people = h("ul", { class: "rows" });
  #unheard = h("div", { class: "stack" });
  #shut = h("div", { class: "stack" });
  #communities = h("ul", { class: "rows" });
  #peers = h("ul", { class: "rows" });
  /** @type {Map<string, import("../api/told.js").Cost>} */
  #costs = new Map();
  /** What somebody opened on the cards of communities, which are drawn anew with each change. @type {Set<string>} */
  opened = new Set();
  /** What the owner of a space lets one do there. @type {Map<string, string[]>} */
  #gave = new Map();
  /** Whom one does not want to hear. @type {Set<string>} */
  #muted = new Set();

  get parts() {
    return ["spaces", "peers", "costs", "communities", "lists", "guardians"];
  }

  frame() {
    return [
      h("h1", {}, "People"),
      h("section", { class: "card stack" }, make(OwnName, { peer: this.peer }), this.#own),
      h("h2", {}, "Whose invite you took"),
      h("p", { class: "soft" }, "What they share is kept on this machine, so it stays readable when they are away."),
      this.#people,
      make(InviteField, {}),
      this.#unheard,
      this.#shut,
      h("h2", {}, "Communities"),
      h(
        "p",
        { class: "soft" },
        "Spaces of many people, with a board. In each you carry a name of its own; its members keep all of it, and find each other through it.",
      ),
      this.#communities,
      this.#founding(),
      h("h2", {}, "Machines"),
      h(
        "p",
        { class: "soft" },
        "Those that this one talks to: of the people above, of those who took your invites, and your other devices.",
      ),
      this.#peers,
    ];
  }

  /** @param {import("../api/peer.js").Peer} peer */
  async read(peer) {
    const [spaces, neighbours, costs, lists, all, disputes] = await Promise.all([
      peer.spaces(),
      peer.neighbours(),
      peer.costs().catch(() => []),
      peer.lists(),
      peer.communities().catch(() => []),
      peer.disputes().catch(() => []),
    ]);
    const know = async (/** @type {import("../api/told.js").Community} */ community) => ({
      community,
      dispute: disputes.find(({ space }) => space === community.community) ?? null,
      members: await peer.members(community.community).catch(() => []),
      board: await peer.board(community.community).catch(() => ({ notices: [], may_write: false })),
    });
    const communities = await Promise.all(all.map(know));
    const keys = new Set(all.map(({ community }) => community));
    const people = spaces.filter(({ space }) => !keys.has(space));
    const own = (/** @type {Space} */ { space }) =>
      peer.grantsAt([`@${space}`]).then(
        (grants) => /** @type {[string, string[]]} */ ([space, wordsOfGiven(grants)]),
        () => /** @type {[string, string[]]} */ ([space, []]),
      );
    const gave = await Promise.all(people.slice(0, ASKED_MAX).map(own));
    return { spaces: people, gave, neighbours, costs, lists, communities, disputes };
  }

  /** @param {Shown} shown */
  draw({ spaces, gave, neighbours, costs, lists, communities, disputes }) {
    this.#disputes = new Map(disputes.map((dispute) => [dispute.space, dispute]));
    this.#own.replaceChildren(...disputes.filter(({ own }) => own).map((dispute) => make(RootDispute, { dispute })));
    this.#muted = new Set(lists.muted.map(({ who }) => who));
    const is_any = lists.muted.length + lists.blocked.length > 0;
    // Who may keep nothing more has no card if nothing of his is followed.
    const shut = costs.filter(({ bytes_max, key }) => bytes_max === 0 && !key.startsWith("app:"));
    const let_in = (/** @type {import("../api/told.js").Cost} */ { key, name }) =>
      h(
        "li",
        { class: "row-head" },
        h("span", { dir: "auto" }, name),
        h("span", { class: "soft small" }, "nothing more of theirs is taken"),
        h("button", { type: "button", onclick: () => this.do(() => this.peer?.limit(key, AGAIN_BYTES)) }, `Let ${name} keep up to ${size(AGAIN_BYTES)}`),
      );
    this.#shut.replaceChildren(...(shut.length > 0 ? [h("h2", {}, "Whom you let keep nothing more here"), h("ul", { class: "rows" }, shut.map(let_in))] : []));
    this.#unheard.replaceChildren(...(is_any ? [h("h2", {}, "Whom you do not hear"), make(UnheardList, { lists, page: this })] : []));
    this.#drawCommunities(communities);
    this.#gave = new Map(gave);
    this.#costs = new Map(costs.map((cost) => [cost.key, cost]));
    const invite = h(
      "li",
      { class: "soft" },
      neighbours.some(({ own, gone }) => !own && !gone) ? "You took nobody’s invite yet; who took yours is among the machines below. " : "Nobody yet. ",
      h("a", { href: hrefOfPage("invites") }, "Invite someone"),
      ", or take the invite of a friend.",
    );
    this.#people.replaceChildren(...(spaces.length > 0 ? spaces.map((space) => this.#person(space)) : [invite]));
    const [here, gone] = [neighbours.filter((one) => !one.gone), neighbours.filter((one) => one.gone)];
    // Whom no space stands for above is named at one of his machines.
    const named = new Set(spaces.map(({ space }) => space));
    const isGuest = (/** @type {Neighbour} */ { own, space, thrown_out }) => {
      const is_new = !own && !thrown_out && space !== undefined && !named.has(space);
      if (is_new) named.add(space);
      return is_new;
    };
    const rows = here.map((neighbour) => row(neighbour, isGuest(neighbour) ? this.#name(neighbour) : ""));
    const none = h("li", { class: "soft" }, "No other machine is known.");
    const old = h(
      "details",
      {},
      h("summary", {}, `${plural(gone.length, "machine")} not met for 30 days, or since their owners linked others`),
      h("ul", { class: "rows" }, gone.map((neighbour) => row(neighbour))),
    );
    this.#peers.replaceChildren(...(rows.length > 0 ? rows : [none]), gone.length > 0 ? h("li", {}, old) : "");
  }

  /** What somebody is called here. @param {{ space?: string, petname: string | null, name?: string }} who */
  #name({ space, petname, name }) {
    const called = petname ?? name ?? "";
    const input = h("input", {
      type: "text",
      value: petname ?? "",
      placeholder: name ?? "",
      "aria-label": `What you call ${called}`,
      maxLength: 64,
    });
    const rename = async (/** @type {Event} */ event) => {
      event.preventDefault();
      await this.do(() => this.peer?.name(space ?? "", input.value.trim()));
      input.blur();
    };
    return h("form", { class: "buttons", onsubmit: rename }, input, h("button", {}, "Rename"));
  }

  /** @param {Known[]} communities */
  #drawCommunities(communities) {
    const card = (/** @type {Known} */ known) => h("li", { class: "card" }, make(CommunityCard, { page: this, known }));
    const none = h("li", { class: "soft" }, "You are in none yet.");
    this.#communities.replaceChildren(...(communities.length > 0 ? communities.map(card) : [none]));
  }

  #founding() {
    const title = h("input", { type: "text", maxLength: 64, placeholder: "Our choir" });
    const name = h("input", { type: "text", maxLength: 64, placeholder: "Ada the alto" });
    void this.peer?.ownName().then((own) => (name.value ||= own));
    const found = async (/** @type {Event} */ event) => {
      event.preventDefault();
      if (!title.value.trim()) return;
      await this.do(() => this.peer?.foundCommunity(title.value.trim(), name.value.trim()));
      title.value = "";
    };
    return h(
      "form",
      { class: "stack", onsubmit: found },
      h(
        "div",
        { class: "fields" },
        h("label", {}, h("span", {}, "What the new community is called"), title),
        h("label", {}, h("span", {}, "The name that you carry there"), name),
      ),
      h("div", { class: "buttons" }, h("button", {}, "Found a community")),
    );
  }

  /** @param {Space} space */
  #person(space) {
    const called = space.petname ?? space.name;
    return h(
      "li",
      { class: "card stack" },
      h(
        "div",
        { class: "row-head" },
        h("a", { href: hrefOf([`@${space.petname ?? space.space}`]) }, h("strong", {}, called)),
        h("code", { class: "soft", title: space.space }, `${space.space.slice(0, 8)}…`),
        h("span", { class: `state ${space.state}` }, wordsOfSpace(space)),
      ),
      this.#given(space),
      this.#disputes.has(space.space) ? make(RootDispute, { dispute: this.#disputes.get(space.space) }) : "",
      this.#rebind(space),
      this.#cost(space),
      h(
        "div",
        { class: "buttons" },
        this.#name(space),
        h(
          "button",
          { type: "button", onclick: () => this.do(() => this.peer?.follow(space.space, !space.is_followed)) },
          space.is_followed ? "Stop following" : "Follow",
        ),
        h(
          "button",
          {
            type: "button",
            onclick: () => this.do(() => this.peer?.mute(space.space, !this.#muted.has(space.space))),
          },
          this.#muted.has(space.space) ? "Hear again" : "Mute",
        ),
        h(
          "button",
          {
            type: "button",
            class: "danger",
            onclick: () =>
              confirm(`Block ${called}? Your machine then talks to none of theirs, until you unblock them below.`) &&
              this.do(() => this.peer?.block(space.space, true)),
          },
          "Block",
        ),
      ),
    );
  }

  /** What somebody gave the owner. @param {Space} space */
  #given({ space }) {
    const given = this.#gave.get(space) ?? [];
    return given.length > 0 ? h("p", { class: "soft small" }, `lets you ${listed(given, GIVEN_MAX)}`) : "";
  }

  /** Who somebody is said to be now who lost his keys, and moving his name there. @param {Space} space */
  #rebind({ space, rebind }) {
    if (!rebind) return "";
    const { says, now, moved, name } = rebind;
    const question = `Have you asked ${name} by voice what the new key is called? Your name and settings for ${name} move there.`;
    const move = () => confirm(question) && this.do(() => this.peer?.rebind(space, now ?? ""));
    return h(
      "div",
      { class: "stack small", role: "note" },
      ...says.map((line) => h("p", {}, line)),
      h(
        "div",
        { class: "buttons" },
        now ? h("button", { type: "button", class: "main", onclick: move }, `Yes, this is ${name}`) : "",
        moved
          ? h("button", { type: "button", onclick: () => this.do(() => this.peer?.unbind(space)) }, "Take that back")
          : "",
      ),
    );
  }

  /** What somebody costs, and a limit that can be changed. @param {Space} space */
  #cost({ space }) {
    const cost = this.#costs.get(space);
    if (!cost) return "";
    const limit = async () => {
      const now = cost.bytes_max === null ? "" : String(Math.round(cost.bytes_max / 1_000_000));
      const wanted = Number(prompt(`How many MB may ${cost.name} keep here?`, now) || NaN);
      if (wanted > 0) await this.do(() => this.peer?.limit(space, wanted * 1_000_000));
    };
    const most = cost.bytes_max === null ? "" : ` of ${size(cost.bytes_max)}`;
    return h(
      "p",
      { class: "soft small" },
      `keeps ${size(cost.bytes)}${most} here `,
      cost.bytes_max === null
        ? ""
        : h("button", { type: "button", class: "link", onclick: () => void limit() }, "change the limit"),
    );
  }
}

/** @param {Space} space */
export function wordsOfSpace(space) {
  const taken = (space.taken_back ?? []).map(({ path, says }) => `${path === "/" ? "" : `of ${path} `}${says}; what is here is of before`);
  return [stateOfSpace(space), ...taken].join("; ");
}

/** What the owner may do somewhere, each right once. @param {import("../api/told.js").Grant[]} grants */
function wordsOfGiven(grants) {
  const own = grants.filter(({ name, live }) => name === "you" && live);
  const words = own.map(({ can, path }) => {
    const may = ["read", "write"].filter((one) => can.includes(one)).join(" and ");
    return may && `${may} ${path === "/" ? "all that is not kept apart" : path}`;
  });
  return [...new Set(words.filter(Boolean))];
}

/** Whether an invite to a space was refused; until it is answered nobody knows. @param {Space} space */
export const isRefused = (space) => Boolean(space.invite) && !space.is_waiting;

/** How a space is, without what was taken back of it. @param {Space} space */
export function stateOfSpace(space) {
  if (isRefused(space)) return `the invite was refused: ${space.invite}`;
  const state = reachOfSpace(space);
  if (!space.is_waiting || space.state === "live" || space.state === "loading") return state;
  return space.state === "denied" ? "connected, waiting for an answer to the invite" : `the invite is not answered yet; ${state}`;
}

/** @param {Space} space */
function reachOfSpace(space) {
  switch (space.state) {
    case "live":
      return `up to date, changes come at once${space.from ? ` from ${space.from}` : ""}`;
    case "loading":
      return `being fetched${space.from ? ` from ${space.from}` : ""}`;
    case "connecting":
      return "being called";
    case "waiting":
      return "waits until they accept what you wrote";
    case "denied":
      return space.is_community ? "nobody who is connected is in it" : "does not share with you; ask for a new link";
    case "unreachable":
      return space.seen_ms
        ? `away, last here ${ago(space.seen_ms)}; what you have stays readable`
        : `not reached yet, and called again by itself${space.problem ? `: ${space.problem}` : ""}`;
    case "offline":
      return "your peer calls nobody";
    default:
      return "nobody who has it is known";
  }
}

/** @param {Neighbour} neighbour @param {HTMLElement | ""} [more] */
function row(neighbour, more = "") {
  const is_connected = neighbour.state === "connected";
  const words = {
    connected: "connected",
    calling: "being called",
    unreachable: "not reached",
    idle: "known, not called",
    blocked: "blocked by you",
    banned: "broke the rules; not talked to for a while",
  };
  const traffic = is_connected
    ? `${neighbour.way ?? ""}, ${size(neighbour.received ?? 0)} in, ${size(neighbour.sent ?? 0)} out`
    : neighbour.seen_ms
      ? `last seen ${ago(neighbour.seen_ms)}`
      : "never met";
  return h(
    "li",
    { class: more ? "card stack" : "card" },
    h(
      "div",
      { class: "row-head" },
      h("strong", {}, neighbour.petname ?? neighbour.name ?? neighbour.id.slice(0, 8)),
      neighbour.own ? h("span", { class: "soft" }, "yours") : "",
      neighbour.thrown_out ? h("span", { class: "soft" }, neighbour.thrown_out.by === "you" ? "thrown out" : `thrown out by ${neighbour.thrown_out.by}`) : "",
      h("code", { class: "soft", title: neighbour.id }, `${neighbour.id.slice(0, 8)}…`),
      h(
        "span",
        { class: `state ${neighbour.state}` },
        `${words[/** @type {keyof typeof words} */ (neighbour.state)] ?? neighbour.state}; ${traffic}`,
      ),
    ),
    more,
  );
}

customElements.define("people-page", PeoplePage);
