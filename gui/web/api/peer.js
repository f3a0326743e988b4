// The peer, over HTTP and a websocket. The only file that knows its URLs; where pages are, `pages.js` says.

import { hrefOf, joinByProgram } from "./pages.js";
import { Problem } from "./problem.js";
import { JSON_TYPE, ascii, pointer, reading, send, texts, versionHeader, versionIn } from "./send.js";
import { later } from "../dom.js";
import { inSpaceOf } from "../path.js";
import { WatchSocket } from "./watch-socket.js";

/** @typedef {import("../path.js").Path} Path */
/** @typedef {import("./told.js").Apart} Apart */
/** @typedef {import("./told.js").App} App */
/** @typedef {import("./told.js").AppSource} AppSource */
/** @typedef {import("./told.js").Authored} Authored */
/** @typedef {import("./told.js").Change} Change */
/** @typedef {import("./told.js").Community} Community */
/** @typedef {import("./told.js").Conflict} Conflict */
/** @typedef {import("./told.js").Content} Content */
/** @typedef {import("./told.js").Cost} Cost */
/** @typedef {import("./told.js").Device} Device */
/** @typedef {import("./told.js").Dispute} Dispute */
/** @typedef {import("./told.js").Files} Files */
/** @typedef {import("./told.js").Grant} Grant */
/** @typedef {import("./told.js").GrantWish} GrantWish */
/** @typedef {import("./told.js").Held} Held */
/** @typedef {import("./told.js").Inbox} Inbox */
/** @typedef {import("./told.js").Invite} Invite */
/** @typedef {import("./told.js").InviteCard} InviteCard */
/** @typedef {import("./told.js").Left} Left */
/** @typedef {import("./told.js").Listing} Listing */
/** @typedef {import("./told.js").Member} Member */
/** @typedef {import("./told.js").Metric} Metric */
/** @typedef {import("./told.js").Neighbour} Neighbour */
/** @typedef {import("./told.js").Notice} Notice */
/** @typedef {import("./told.js").Reading} Reading */
/** @typedef {import("./told.js").Reasons} Reasons */
/** @typedef {import("./told.js").Removal} Removal */
/** @typedef {import("./told.js").Revoked} Revoked */
/** @typedef {import("./told.js").Space} Space */
/** @typedef {import("./told.js").Status} Status */
/** @typedef {import("./told.js").Version} Version */
/** @typedef {import("./told.js").Wish} Wish */

/** Children on one page of a listing. */
export const PAGE = 100;
/** Most lines of "who wrote what". */
export const AUTHORED_MAX = 200;

/** Notices of a board that are read; there may be more. */
export const NOTICES_MAX = 100;

/** What changes often is read again at most so often. */
const HEED_PAUSE_MS = 100;

/** Bytes of a file that go in one request; what was cut off is sent again from there. */
const PART_BYTES = 1024 * 1024;

/**
 * What everybody may read at a path, without a session; nothing if that is nothing.
 * @param {Path} path @returns {Promise<{ value: any } | null>}
 */
export async function readByAnybody(path) {
  const answer = await send(`${hrefOf(path)}?depth=1&limit=${PAGE}`, { headers: { accept: JSON_TYPE } }).catch(() => null);
  return answer ? { value: await answer.json().catch(() => null) } : null;
}

/** The bytes of a file that everybody may read. @param {Path} path */
export const fileOfAnybody = async (path) => (await send(hrefOf(path), { headers: { accept: "*/*" } })).blob();

/**
 * The program as the peer that served this page hands it out.
 * @returns {Promise<{ href: string, bytes: number, platform: string, line: string, is_secret: boolean } | null>} null if it does not
 */
export async function programOffered() {
  const href = "/.join/timebus";
  const answer = await send(href, { method: "HEAD" }).catch(() => null);
  if (!answer) return null;
  return {
    href,
    bytes: Number(answer.headers.get("content-length")),
    platform: answer.headers.get("timebus-platform") ?? "",
    is_secret: isSecureContext,
    line: `curl -fo timebus ${location.origin}${href} && chmod +x timebus && ./timebus`,
  };
}

/**
 * Exchanges the code of a login link for the owner's token.
 * @param {string} code
 * @returns {Promise<string>}
 */
export async function login(code) {
  const response = await send("/.sys/login", {
    method: "POST",
    body: JSON.stringify({ code }),
    headers: { "content-type": JSON_TYPE },
  });
  return (await response.json()).token;
}

/** What targets begin with that ask as a persona. @param {string | undefined} persona */
function as(persona) {
  return persona ? `/@${persona}` : "";
}

/** A peer, asked as its owner. */
export class Peer {
  /** @param {string} token */
  constructor(token) {
    this.token = token;
    this.socket = new WatchSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/`, token);
    /** Called when the peer does not know the token any more. */
    this.onsignedout = () => {};
  }

  /**
   * @param {string} url
   * @param {RequestInit & { headers?: Record<string, string> }} [init]
   */
  async #ask(url, init = {}) {
    try {
      return await send(url, { ...init, headers: { authorization: `Bearer ${this.token}`, ...init.headers } });
    } catch (error) {
      if (error instanceof Problem && error.status === 401) this.onsignedout();
      throw error;
    }
  }

  /**
   * @param {string} url
   * @param {RequestInit & { headers?: Record<string, string> }} [init]
   */
  async #json(url, init) {
    return (await this.#ask(url, init)).json();
  }

  /** @returns {Promise<Status>} */
  status() {
    return this.#json("/.sys/status");
  }

  /** What the owner says that he is called; empty if he says nothing. @returns {Promise<string>} */
  async ownName() {
    const { text } = await this.read(["profile", "name"]).catch(() => ({ text: '""' }));
    try {
      const name = JSON.parse(text);
      return typeof name === "string" ? name : "";
    } catch {
      return text;
    }
  }

  /** @param {string} name */
  sayOwnName(name) {
    return this.put(["profile", "name"], { type: JSON_TYPE, body: JSON.stringify(name) });
  }

  /** @returns {Promise<Metric[]>} */
  async metrics() {
    const text = await (await this.#ask("/.sys/metrics")).text();
    const help = new Map(
      [...text.matchAll(/^# HELP timebus_(\S+) (.*)$/gm)].map(([, name = "", words = ""]) => [name, words]),
    );
    return [...text.matchAll(/^timebus_([a-z_]+)(\{[^}]*\})? (\S+)$/gm)].map(([, name = "", labels = "", value]) => ({
      name,
      labels,
      help: help.get(name) ?? "",
      value: Number(value),
    }));
  }

  /** What the owner's other identities are called. @returns {Promise<string[]>} */
  async personas() {
    const { personas } = await this.#json("/.sys/personas");
    return personas.map((/** @type {{ name: string }} */ persona) => persona.name);
  }

  /** What is installed, also for personas, and what could be. @returns {Promise<{ apps: App[], offered: App[] }>} */
  async apps() {
    const [{ apps, offered }, personas] = await Promise.all([this.#json("/.sys/apps"), this.personas()]);
    const theirs = personas.map(async (persona) => {
      const { apps } = await this.#json(`${as(persona)}/.sys/apps`);
      return apps.map((/** @type {App} */ app) => ({ ...app, persona }));
    });
    return { apps: [...apps, ...(await Promise.all(theirs)).flat()], offered };
  }

  /** What somebody reads before an app is installed. @param {AppSource} from @param {string} [persona] @returns {Promise<App>} */
  lookAtApp(from, persona) {
    return this.#post(`${as(persona)}/.sys/apps/look`, { from });
  }

  /** @param {AppSource} from @param {string} version the one that was looked at @param {string} [persona] @returns {Promise<App>} */
  installApp(from, version, persona) {
    return this.#post(`${as(persona)}/.sys/apps/install`, { from, version });
  }

  /** @param {string} alias @param {string} [persona] @returns {Promise<{ kept: string[] }>} */
  removeApp(alias, persona) {
    return this.#post(`${as(persona)}/.sys/apps/remove`, { alias });
  }

  /**
   * An address that opens an app, once.
   * @param {string} alias @param {boolean} port at a port of its own @param {string} [persona] @returns {Promise<string>}
   */
  async openApp(alias, port, persona) {
    const { url, port_url } = await this.#post(`${as(persona)}/.sys/apps/open`, { alias, port });
    return port_url ?? url;
  }

  /** Writes an app into the own space, for others to install. @param {string} alias @returns {Promise<{ name: string }>} */
  publishApp(alias) {
    return this.#post("/.sys/apps/publish", { from: { installed: alias } });
  }

  /** @returns {Promise<Space[]>} */
  async spaces() {
    return (await this.#json("/.sys/spaces")).spaces;
  }

  /** The communities that the owner is in. @returns {Promise<Community[]>} */
  async communities() {
    return (await this.#json("/.sys/communities")).communities;
  }

  /** Who is in a community. @param {string} key @returns {Promise<Member[]>} */
  async members(key) {
    return (await this.#json(`/.sys/communities/${key}/members`)).members;
  }

  /**
   * The latest notices of a community, {@link NOTICES_MAX} at most.
   * @param {string} key @returns {Promise<{ notices: Notice[], may_write: boolean }>}
   */
  board(key) {
    return this.#json(`/.sys/communities/${key}/board?limit=${NOTICES_MAX}`);
  }

  /** Takes a notice off the board. @param {string} key @param {Notice} notice */
  async removeNoticeOfBoard(key, { path }) {
    await this.#ask(hrefOf([`@${key}`, ...path.split("/").filter(Boolean)]), { method: "DELETE" });
  }

  /** Takes a member's rights back. @param {string} key @param {string} who */
  removeMember(key, who) {
    return this.#post(`/.sys/communities/${key}/remove`, { who });
  }

  /** @param {string} key @param {string} who */
  makeOrganizer(key, who) {
    return this.#post(`/.sys/communities/${key}/organizer`, { who });
  }

  /** Changes what the owner is called in a community. @param {string} key @param {string} name */
  carryName(key, name) {
    return this.#post(`/.sys/communities/${key}`, { name });
  }

  /** @param {string} key @param {string} text */
  post(key, text) {
    return this.#post(`/.sys/communities/${key}/board`, { text });
  }

  /** @param {string} title @param {string} [name] what the owner is called there @returns {Promise<Community>} */
  foundCommunity(title, name) {
    return this.#post("/.sys/communities", { title, ...(name ? { name } : {}) });
  }

  /** Leaves when others have what is held here, or now. @param {string} key @param {boolean} now */
  leaveCommunity(key, now) {
    return this.#post(`/.sys/communities/${key}/leave`, { now, sure: true });
  }

  /** How the peer is: what is stored, the room for it, and the network. */
  async health() {
    const [status, files, network, spaces, grants, latest, disputes] = await Promise.all([
      this.status(),
      this.files().catch(() => null),
      this.#json("/.sys/peers").catch(() => ({})),
      this.spaces().catch(() => []),
      this.#json("/.sys/grants").catch(() => ({})),
      this.log([], { limit: 1 }),
      this.disputes().catch(() => []),
    ]);
    return {
      status,
      files,
      network: {
        addresses: /** @type {string[]} */ (network.addresses ?? []),
        lan_problem: /** @type {string | null} */ (network.lan_problem ?? null),
        relays: /** @type {{ url: string, connected: boolean, problem: string | null }[]} */ (network.relays ?? []),
      },
      spaces,
      grants: /** @type {{ id: string, says: string, live: boolean, instead_of: string | null, time_ms: number }[]} */ (grants.grants ?? []),
      latest_ms: latest[0]?.time_ms ?? null,
      disputes,
    };
  }

  /** Files that are kept and on their way. @returns {Promise<Files>} */
  files() {
    return this.#json("/.sys/blobs");
  }

  /** Says what is wanted of a file. @param {"pause" | "resume" | "cancel"} what @param {string} which its hash or path */
  sayOfFile(what, which) {
    return this.#post(`/.sys/blobs/${what}`, { which });
  }

  /** How fast files may go and come: bytes a second, or null. @param {{ up: number | null, down: number | null }} limits */
  limitFiles(limits) {
    return this.#post("/.sys/blobs/limit", limits);
  }

  /**
   * Removes files of others that can come again, or says how much that is.
   * @param {boolean} preview @returns {Promise<{ files: number, bytes: number }>}
   */
  freeFiles(preview) {
    return this.#post("/.sys/blobs/free", { preview });
  }

  /** What the program has said lately, the oldest line first. @returns {Promise<string[]>} */
  async output() {
    return (await this.#json("/.sys/output")).lines;
  }

  /**
   * Whether public relays can be used, and whether the owner said so: nothing until he was asked.
   * @returns {Promise<{ possible: boolean, allowed: boolean | null }>}
   */
  async publicRelays() {
    return (await this.#json("/.sys/peers")).public;
  }

  /** @param {boolean} allowed */
  allowPublicRelays(allowed) {
    return this.#post("/.sys/public", { allowed });
  }

  /** @returns {Promise<Neighbour[]>} */
  async neighbours() {
    return (await this.#json("/.sys/peers")).peers;
  }

  /** @param {string} who @param {boolean} on */
  follow(who, on) {
    return this.#post(on ? "/.sys/follow" : "/.sys/unfollow", { who });
  }

  /** Whom the owner has muted, and blocked. @returns {Promise<import("../elements/unheard-list.js").Lists>} */
  lists() {
    return this.#json("/.sys/lists");
  }

  /** @param {string} who @param {boolean} muted */
  mute(who, muted) {
    return this.#post("/.sys/mute", { who, muted });
  }

  /** @param {string} who @param {boolean} blocked */
  block(who, blocked) {
    return this.#post("/.sys/block", { who, blocked });
  }

  /** @param {string} who @param {string} name */
  name(who, name) {
    return this.#post("/.sys/petname", { who, name });
  }

  /** Moves a contact's name to his new key. @param {string} who @param {string} to the key that was shown */
  rebind(who, to) {
    return this.#post("/.sys/rebind", { who, to, confirm: true });
  }

  /** Moves it back. @param {string} who */
  unbind(who) {
    return this.#post("/.sys/rebind", { who, undo: true });
  }

  /** Who was given what, the oldest first. @returns {Promise<Grant[]>} */
  async grants() {
    return (await this.#json("/.sys/grants")).grants;
  }

  /** The rights at, above and below a path. @param {Path} path @returns {Promise<Grant[]>} */
  async grantsAt(path) {
    return (await this.#json(`/.sys/grants${path.length > 0 ? hrefOf(path) : ""}`)).grants;
  }

  /**
   * Gives a right, or says what it would mean.
   * @param {GrantWish} wish @returns {Promise<{ says: string[], notes: string[], new: number }>}
   */
  grant(wish) {
    return this.#post("/.sys/grant", wish);
  }

  /**
   * Takes a right back, or says what that would do.
   * @param {{ what: string, cascade: boolean, keep: boolean, preview?: boolean }} wish @returns {Promise<Revoked>}
   */
  revoke(wish) {
    return this.#post("/.sys/revoke", wish);
  }

  /**
   * Why somebody may or may not do something.
   * @param {string} can @param {Path} path @param {string} who nobody for the owner @returns {Promise<Reasons>}
   */
  why(can, path, who) {
    const as = who ? `?as=${encodeURIComponent(who)}` : "";
    return this.#json(`/.sys/why/${can}${path.length > 0 ? hrefOf(path) : ""}${as}`);
  }

  /** The names by which somebody can be given something. @returns {Promise<string[]>} */
  async names() {
    const [spaces, neighbours, grants] = await Promise.all([
      this.spaces().catch(() => []),
      this.neighbours().catch(() => []),
      this.grants().catch(() => []),
    ]);
    const of = (/** @type {{ petname?: string | null, name?: string }} */ one) => one.petname ?? one.name ?? "";
    const people = spaces.filter(({ is_community }) => !is_community).map(of);
    const machines = neighbours.filter(({ own, gone }) => !own && !gone).map(of);
    const names = new Set([...people, ...machines, ...grants.map(({ name }) => name), "anyone"]);
    return [...names].filter((name) => name !== "" && name !== "you" && !name.includes(" ("));
  }

  /** What others left for the owner. @returns {Promise<Inbox>} */
  inbox() {
    return this.#json("/.sys/inbox");
  }

  /** @param {Left} left */
  async removeNotice({ from, slot }) {
    await this.#ask(hrefOf([".drop", from, slot]), { method: "DELETE" });
  }

  /** Removes all that somebody left. @param {string} who */
  purgeNotices(who) {
    return this.#post("/.sys/inbox/purge", { who });
  }

  /** @param {boolean} closed */
  closeInbox(closed) {
    return this.#post("/.sys/inbox", { closed });
  }

  /**
   * What is kept apart at and below a path, and whether it may be read here.
   * @param {Path} path @returns {Promise<Apart[]>}
   */
  async apart(path) {
    return (await this.#json(`/.sys/timelines${path.length > 0 ? hrefOf(path) : ""}`)).timelines;
  }

  /** Keeps a path apart, with what is there. @param {string} path */
  keepApart(path) {
    return this.#post("/.sys/timelines", { path, move: true });
  }

  /** The owner's own devices, and those that were. @returns {Promise<{ devices: Device[], former: Device[] }>} */
  devices() {
    return this.#json("/.sys/devices");
  }

  /** @param {string} who @param {string} name */
  nameDevice(who, name) {
    return this.#post("/.sys/devices/name", { who, name });
  }

  /** What removing a device would do, without those that it made. @param {Device} device @returns {Promise<Removal>} */
  lookAtRemoval({ device }) {
    return this.#post("/.sys/devices/remove", { who: device, preview: true });
  }

  /** The spaces, the own one among them, of which it is in dispute who the root is. @returns {Promise<Dispute[]>} */
  async disputes() {
    return (await this.#json("/.sys/guardians")).disputed;
  }

  /**
   * Takes a device's rights back.
   * @param {string} who @param {boolean} made whether those that it made go with it @returns {Promise<Removal>}
   */
  removeDevice(who, made) {
    return this.#post("/.sys/devices/remove", { who, made });
  }

  /** Makes a path a part of the rest again, with what is there. @param {string} path */
  keepApartNoMore(path) {
    return this.#post("/.sys/timelines/remove", { path, move: true });
  }

  /** What waits for the owner's word. @returns {Promise<Held[]>} */
  async held() {
    return (await this.#json("/.sys/held")).held;
  }

  /** @param {Held} held as it was shown @param {"once" | "never" | number} answer a number: so many bytes in all */
  allow({ id, bytes }, answer) {
    return this.#post("/.sys/allow", { id, answer, bytes });
  }

  /** Who costs what here. @returns {Promise<Cost[]>} */
  async costs() {
    return (await this.#json("/.sys/costs")).costs;
  }

  /** @param {string} who @param {number} bytes */
  limit(who, bytes) {
    return this.#post("/.sys/limits", { who, bytes });
  }

  /** The links that were given, the newest first. @returns {Promise<Invite[]>} */
  async invites() {
    return (await this.#json("/.sys/invites")).invites;
  }

  /** @param {Wish} wish @returns {Promise<Invite>} */
  invite(wish) {
    return this.#post("/.sys/invites", { ...wish, qr: true });
  }

  /** @param {string} id @param {boolean} grants whether those who took it lose what it gave @returns {Promise<Invite>} */
  revokeInvite(id, grants) {
    return this.#post("/.sys/invites/revoke", { id, grants });
  }

  /**
   * Looks at an invite, or takes it.
   * @param {string} payload @param {boolean} confirm
   * @param {string} [name] what the owner is called: in a community, or from now on by his profile
   * @returns {Promise<InviteCard>}
   */
  join(payload, confirm, name) {
    return this.#post("/.sys/join", { link: joinByProgram(payload), confirm, name });
  }

  /**
   * @param {string} url
   * @param {unknown} body
   */
  #post(url, body) {
    return this.#json(url, { method: "POST", headers: { "content-type": JSON_TYPE }, body: JSON.stringify(body) });
  }

  /**
   * One page of what is directly below a path. Members that have parts are `{"@more": count}`, lists with `"@list": true`.
   * @param {Path} path
   * @param {{ after?: string | null, limit?: number }} [page]
   * @returns {Promise<Listing>}
   */
  async list(path, { after, limit = PAGE } = {}) {
    const query = new URLSearchParams({ depth: "1", limit: String(limit) });
    if (after !== undefined && after !== null) query.set("after", after);
    const response = await this.#ask(`${hrefOf(path)}?${query}`, { headers: { accept: JSON_TYPE } });
    const next = response.headers.get("next-after");
    return {
      value: await response.json(),
      version: versionIn(response.headers),
      next: next === null ? null : decodeURIComponent(next),
    };
  }

  /**
   * A value as it is sent, cut after {@link SHOWN_BYTES_MAX}; at an old version if one is given.
   * @param {Path} path
   * @param {Version} [at]
   * @param {AbortSignal} [signal]
   * @returns {Promise<Reading>}
   */
  async read(path, at, signal) {
    const response = await this.#ask(hrefOf(path), { signal, headers: at ? { version: versionHeader(at) } : {} });
    return reading(response);
  }

  /**
   * A part of a value, for what is inside of lists.
   * @param {Path} path
   * @param {(string | number)[]} steps
   * @returns {Promise<Reading>}
   */
  async readPart(path, steps) {
    const range = steps.map((step) => `[${typeof step === "number" ? step : ascii(step)}]`).join("");
    return reading(await this.#ask(hrefOf(path), { headers: { range: `json ${range}` } }));
  }

  /** How many bytes of a file are here; nothing if all are. @param {Path} path @returns {Promise<number | null>} */
  async bytesHere(path) {
    const { headers } = await this.#ask(hrefOf(path), { method: "HEAD" });
    return headers.get("timebus-blob") === "not here" ? Number(headers.get("timebus-bytes-here") ?? 0) : null;
  }

  /**
   * The bytes of a file.
   * @param {Path} path
   * @returns {Promise<Blob>}
   */
  async readFile(path) {
    return (await this.#ask(hrefOf(path))).blob();
  }

  /**
   * Writes a value. It is on disk when this returns.
   * @param {Path} path
   * @param {Content} content
   * @param {Version} [base] what the writer had seen; what others wrote since survives beside it
   * @returns {Promise<Version>}
   */
  async put(path, content, base) {
    return this.#write("PUT", path, base, content.type, content.body);
  }

  /** Who took a path back, in words, if what is here of it is of before. @param {Path} path @returns {Promise<string | null>} */
  async takenBack(path) {
    const { headers } = await this.#ask(hrefOf(path), { method: "HEAD" });
    return JSON.parse(headers.get("timebus-taken-back") ?? "null")?.says ?? null;
  }

  /**
   * What is at a path: its version, and how many entries, values and what holds them, are below it.
   * @param {Path} path @returns {Promise<{ version: Version, below: number } | null>} null where nothing is
   */
  async standing(path) {
    try {
      const response = await this.#ask(`${hrefOf(path)}?depth=0`, { headers: { accept: JSON_TYPE } });
      const value = await response.json();
      return { version: versionIn(response.headers), below: Number(value?.["@more"] ?? 0) };
    } catch (error) {
      // Who may not even look is told so in words when he writes.
      if (error instanceof Problem && error.status >= 400) return null;
      throw error;
    }
  }

  /**
   * Writes a file, in parts; the same file for the same path goes on where it was cut off, also after the page was closed. It is on
   * disk when this returns.
   * @param {Path} path
   * @param {File} file
   * @param {{ replaces: Version | null, signal: AbortSignal, told: (sent: number) => void }} how `replaces`: what gives way, if that is
   *   there still; nothing for where nothing is. `told` hears how much has come
   */
  async upload(path, file, { replaces, signal, told }) {
    /** @type {Record<string, string>} */
    const condition = replaces ? { "if-match": versionHeader(replaces) } : { "if-none-match": "*" };
    const begun = await this.#beginUpload(path, file, condition, signal);
    let { at } = begun;
    for (;;) {
      told(at);
      const end = Math.min(at + PART_BYTES, file.size);
      await this.#ask(begun.place, {
        method: "PATCH",
        headers: {
          "content-type": "application/partial-upload",
          "upload-offset": String(at),
          "upload-complete": end === file.size ? "?1" : "?0",
        },
        body: await partOf(file, at, end),
        signal,
      });
      at = end;
      if (at === file.size) return;
    }
  }

  /** Has the peer forget what came of an upload. @param {Path} path @param {File} file */
  async giveUp(path, file) {
    const { place } = await this.#beginUpload(path, file, {});
    await this.#ask(place, { method: "DELETE" });
  }

  /**
   * Begins an upload, or finds the one that was begun for this file and path.
   * @param {Path} path @param {File} file @param {Record<string, string>} condition as headers @param {AbortSignal} [signal]
   * @returns {Promise<{ place: string, at: number }>} where its parts go, and how much has come
   */
  async #beginUpload(path, file, condition, signal) {
    const { headers } = await this.#ask(hrefOf(path), {
      method: "PUT",
      headers: {
        "content-type": mimeOf(file),
        "upload-complete": "?0",
        "upload-length": String(file.size),
        "idempotency-key": `${file.size} ${file.lastModified} ${encodeURIComponent(file.name).slice(-160)}`,
        ...condition,
      },
      signal,
    });
    return { place: headers.get("location") ?? "", at: Number(headers.get("upload-offset") ?? 0) };
  }

  /**
   * Replaces, removes or adds something inside of a list. Steps lead there from the path.
   * @param {Path} path
   * @param {"replace" | "remove" | "add"} op
   * @param {(string | number)[]} steps
   * @param {any} [value]
   * @param {Version} [base]
   * @returns {Promise<Version>}
   */
  async patch(path, op, steps, value, base) {
    const patch = op === "remove" ? { op, path: pointer(steps) } : { op, path: pointer(steps), value };
    return this.#write("PATCH", path, base, "application/json-patch+json", JSON.stringify([patch]));
  }

  /**
   * Removes what the caller had seen.
   * @param {Path} path
   * @param {Version} [base]
   * @returns {Promise<Version>}
   */
  async remove(path, base) {
    return this.#write("DELETE", path, base);
  }

  /**
   * @param {string} method
   * @param {Path} path
   * @param {Version} [base]
   * @param {string} [type]
   * @param {string} [body]
   */
  async #write(method, path, base, type, body) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (type) headers["content-type"] = type;
    if (base) headers.parents = versionHeader(base);
    const response = await this.#ask(hrefOf(path), { method, headers, body });
    return versionIn(response.headers);
  }

  /** Whether the owner may write at a path. @param {Path} path @returns {Promise<boolean>} */
  async mayWrite(path) {
    return (await this.#json(`/.sys/why/write${hrefOf(path)}`)).allowed;
  }

  /**
   * Writes the inverse of a change; of the last one if none is named.
   * @param {Path} path
   * @param {string} [version]
   */
  async undo(path, version) {
    await this.#ask(`/.sys/undo${hrefOf(path)}`, {
      method: "POST",
      headers: { "content-type": JSON_TYPE },
      body: version ? JSON.stringify({ version }) : "",
    });
  }

  /**
   * Changes that touched a path or something below it, newest first.
   * @param {Path} path
   * @param {{ before?: string, limit?: number, raw?: boolean }} [page] `raw`: each also as it is in the log
   * @returns {Promise<(Change & { raw?: any })[]>}
   */
  async log(path, { before, limit = PAGE, raw = false } = {}) {
    const query = new URLSearchParams({ limit: String(limit), ...(raw ? { view: "raw" } : {}) });
    if (before) query.set("after", before);
    /** @type {Change[]} */
    const changes = (await this.#json(`/.sys/log${hrefOf(path)}?${query}`)).changes;
    return changes.map((change) => ({ ...change, paths: change.paths.map((at) => inSpaceOf(path, at)) }));
  }

  /**
   * Where several values meet, at a path and below it.
   * @param {Path} path
   * @returns {Promise<Conflict[]>}
   */
  async conflicts(path) {
    /** @type {Conflict[]} */
    const conflicts = (await this.#json(`/.sys/conflicts${hrefOf(path)}`)).conflicts;
    return conflicts.map((conflict) => ({ ...conflict, path: inSpaceOf(path, conflict.path) }));
  }

  /**
   * Who wrote which value when, the first {@link AUTHORED_MAX} of them.
   * @param {Path} path
   * @returns {Promise<{ lines: Authored[], more: boolean }>}
   */
  async authors(path) {
    const response = await this.#ask(`${hrefOf(path)}?view=meta`);
    /** @type {Authored[]} */
    const lines = [];
    let rest = "";
    for await (const text of texts(response)) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        if (lines.length === AUTHORED_MAX) return { lines, more: true };
        const line = JSON.parse(part);
        lines.push({ ...line, path: inSpaceOf(path, line.path) });
      }
    }
    return { lines, more: false };
  }

  /**
   * Hears of every change at a path and below it, from a version on. See {@link WatchSocket.watch}.
   * @param {Path} path
   * @param {Version | null} from
   * @param {(event: import("./watch-socket.js").WatchEvent) => void} heard
   * @returns {() => void} ends the watch
   */
  watch(path, from, heard) {
    return this.socket.watch(`/${path.join("/")}`, from, heard);
  }

  /**
   * Calls back whenever something that the peer tells of itself may be another, a little later.
   * @param {string[]} parts as in `spaces`
   * @param {() => void} run
   * @returns {() => void} ends it
   */
  heed(parts, run) {
    const soon = later(HEED_PAUSE_MS, run);
    const stops = parts.map((part) => this.socket.watch(`/.sys/${part}`, null, soon));
    return () => stops.forEach((stop) => stop());
  }
}

/**
 * Bytes of a file that somebody chose.
 * @param {File} file @param {number} from @param {number} to
 */
async function partOf(file, from, to) {
  try {
    return await file.slice(from, to).arrayBuffer();
  } catch {
    // It was changed, moved or deleted since, or is a folder.
    throw new Problem(400, "this file cannot be read any more", "it has changed since it was chosen, or is a folder", "choose it again");
  }
}

/** The media type that a file is kept under. @param {File} file */
function mimeOf(file) {
  const kind = file.type.split(";")[0]?.trim() ?? "";
  return /^[\w.+-]+\/[\w.+-]+$/.test(kind) ? kind : "application/octet-stream";
}
