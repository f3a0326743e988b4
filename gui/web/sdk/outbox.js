// Writes that the peer has not acknowledged yet. They are kept in the browser, so that neither a closed tab nor a peer
// that is away loses one. Each has a name that it keeps, so that sending it twice writes it once.

import { Problem } from "./problem.js";
import { Store } from "./store.js";

/** @typedef {string[]} Version */
/** @typedef {"put" | "patch" | "delete" | "text" | "edit" | "file" | "notice"} Op */
/**
 * A write as it is kept. `is_held`: edits that are made on ones which the peer has to have first.
 * @typedef {{ order: number, label: string, op: Op, path: string, value?: any, parents?: Version, is_held?: boolean }} Entry
 */
/**
 * `local`: in the browser; `durable`: on the disk of the peer; `synced`: on the disk of another peer, too. A notice is
 * `synced` when a peer of whom it is for has it.
 * @typedef {"local" | "durable" | "synced" | "refused"} WriteState
 */
/** @typedef {{ state: "waiting" | "delivered" | "refused", problem?: string }} Standing how a notice is */
/**
 * Writes of one log or notices to one inbox that no other peer is known to have, and what is said of those.
 * @typedef {{ writes: Write[], said: Store }} Unsynced
 */
/**
 * What the peer answered: where the write stands in its log, or which notice it is.
 * @typedef {{ version: Version, at?: number, log?: string, id?: string, slot?: string }} Delivered
 */

const PREFIX = "timebus:out:";
/** More are not sent before the first of them are acknowledged. */
const IN_FLIGHT_MAX = 16;
/** Writes that are watched for another peer to have them; of older ones nobody asks any more. */
const UNSYNCED_MAX = 100;
/** Edits of a text in one write. */
const EDITS_MAX = 1000;

/** A write on its way. Await it, or look at its state. */
export class Write {
  /** @type {WriteState} */
  state = "local";
  /** Why it was refused. @type {Problem | null} */
  problem = null;
  /** @type {Version} */
  version = [];
  /** Whether a watch has shown it. */
  is_seen = false;
  /** Whether the peer may have it. */
  is_sent = false;
  /**
   * Edits and version of a text as it is now, once those of before are in it.
   * @type {((write: Write) => Pick<Entry, "value" | "parents"> | null) | null}
   */
  rebase = null;
  /** Whether whoever watches has it by now, also where no version names it. */
  is_settled = false;
  /** The text that an edit was made on, if this page made it. @type {string | null} */
  before = null;
  /** Whether it outlives this page. */
  is_kept = false;
  /** Where it stands among the changes of its log on the peer; 0 while that is not known. */
  at = 0;
  /** The log that it is part of, or the inbox that it is for; empty while that is not known. */
  log = "";
  /** The id of a notice; empty while that is not known. */
  id = "";
  /** Its slot in the inbox: a later notice in the same one stands for it. */
  slot = "";
  /** @type {Set<(write: Write) => void>} */
  #listeners = new Set();
  /** @type {(write: Write) => void} */
  #resolve = () => {};
  /** @type {(problem: Problem) => void} */
  #reject = () => {};

  /** @param {Entry} entry */
  constructor(entry) {
    this.entry = entry;
    /** Fulfilled once the peer has it on disk; rejected when the peer refuses it. @type {Promise<Write>} */
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Who does not wait for it looks at its state.
    this.done.catch(() => {});
  }

  /** Where it is. */
  get path() {
    return this.entry.path;
  }

  /**
   * Calls back now and whenever the state changes, as stores do.
   * @param {(write: Write) => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    listener(this);
    return () => this.#listeners.delete(listener);
  }

  /**
   * @param {WriteState} state
   * @param {{ version?: Version, problem?: Problem }} [more]
   */
  become(state, { version, problem } = {}) {
    this.state = state;
    this.version = version ?? this.version;
    this.problem = problem ?? null;
    if (problem) this.#reject(problem);
    else if (state !== "local") this.#resolve(this);
    for (const listener of this.#listeners) listener(this);
  }
}

export class Outbox {
  /** In the order in which they were made. @type {Write[]} */
  writes = [];
  #order = Date.now() * 1000;
  /** @type {Set<string>} */
  #in_flight = new Set();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** Writes that no other peer is known to have, by log, the oldest first. @type {Map<string, Unsynced>} */
  #unsynced = new Map();

  /** @param {import("./wire.js").Wire} wire */
  constructor(wire) {
    this.wire = wire;
    this.writes = kept().map((entry) => Object.assign(new Write(entry), { is_kept: true, is_sent: true }));
    for (const { entry } of this.writes) if (entry.is_held) entry.value = withoutLosses(entry.value);
    wire.onliveness(() => this.flush());
    this.flush();
  }

  /**
   * Calls back when a write was added, acknowledged or refused.
   * @param {() => void} listener
   */
  onchange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The bytes of a file that this page writes. @param {string} label */
  file(label) {
    return files.get(label);
  }

  /** Writes that are not acknowledged. */
  get waiting() {
    return this.writes.filter((write) => write.state === "local").length;
  }

  /**
   * @param {Op} op
   * @param {string} path
   * @param {{ value?: any, parents?: Version }} more
   * @param {{ file?: Blob, before?: string, rebase?: Write["rebase"] }} [beside] the bytes of a file; the text that edits are made
   *   on, and what they are when those of before are in it
   */
  add(op, path, more, { file, before, rebase } = {}) {
    this.#order = Math.max(this.#order + 1, Date.now() * 1000);
    const label = `${this.wire.about.alias}-${this.#order.toString(36)}-${random(10)}`;
    const write = new Write({ order: this.#order, label, op, path, ...more, ...(rebase ? { is_held: true } : {}) });
    Object.assign(write, { before: before ?? null, rebase: rebase ?? null });
    if (file) files.set(label, file);
    write.is_kept = keep(write.entry);
    this.writes.push(write);
    // A file is sent once the browser has it, so that it outlives the page from then on.
    if (file) {
      this.#in_flight.add(label);
      void keepFile(label, file).finally(() => {
        this.#in_flight.delete(label);
        this.flush();
      });
    }
    this.#changed();
    this.flush();
    return write;
  }

  /**
   * Adds edits to those of a write that the peer cannot have yet; says whether it is one.
   * @param {Write} write
   * @param {any[]} edits
   */
  extend(write, edits) {
    const { entry } = write;
    if (entry.op !== "edit" || write.is_sent || write.state !== "local" || entry.value.length >= EDITS_MAX) return false;
    entry.value = [...entry.value, ...edits];
    write.is_kept = keep(entry);
    this.#changed();
    this.flush();
    return true;
  }

  /** A write that changes nothing, so that nothing is to be sent. @param {string} path */
  none(path) {
    const write = new Write({ order: 0, label: "", op: "edit", path });
    write.become("durable");
    return write;
  }

  /** Sends what waits. */
  flush() {
    if (this.wire.liveness !== "live") return;
    for (const write of this.writes) {
      if (this.#in_flight.size >= IN_FLIGHT_MAX) return;
      if (write.state === "local" && !this.#in_flight.has(write.entry.label) && !this.#waits(write))
        void this.#send(write);
      // What comes after a file may be about it.
      if (write.state === "local" && write.entry.op === "file") return;
    }
  }

  /**
   * Whether edits are of a text of which it is not known how the peer has it: their places would mean others there.
   * @param {Write} write
   */
  #waits(write) {
    if (!write.rebase) return false;
    const now = write.rebase(write);
    if (!now) return true;
    Object.assign(write.entry, now, { is_held: false });
    write.rebase = null;
    write.is_kept = keep(write.entry);
    return false;
  }

  /** Forgets what is acknowledged and shown. */
  tidy() {
    this.writes = this.writes.filter(
      (write) => write.state === "local" || (write.state !== "refused" && !write.is_seen),
    );
  }

  /** Hears when another peer has a write, for as long as there is one in its log that none has. @param {Write} write */
  #follow(write) {
    if (!write.log) return;
    let log = this.#unsynced.get(write.log);
    if (log) {
      log.writes = log.writes.filter(({ slot }) => !slot || slot !== write.slot);
      log.writes.push(write);
      if (log.writes.length > UNSYNCED_MAX) log.writes.shift();
      this.#settle(log);
      return;
    }
    const said = new Store(this.wire, this, `/.sys/synced${write.entry.path}`, {});
    log = { writes: [write], said };
    this.#unsynced.set(write.log, log);
    said.subscribe(() => this.#settle(log));
  }

  /** Tells the writes that another peer has by now, as far as that is said. @param {Unsynced} log */
  #settle(log) {
    const { upto = 0, notices = {} } = log.said.value ?? {};
    /** @param {Write} write @returns {Standing | undefined} */
    const standing = ({ id, at }) => (id ? notices[id] : { state: at <= upto ? "delivered" : "waiting" });
    const settled = log.writes.filter((write) => (standing(write)?.state ?? "waiting") !== "waiting");
    const [first] = settled;
    if (!first) return;
    log.writes = log.writes.filter((write) => !settled.includes(write));
    if (log.writes.length === 0) {
      log.said.close();
      this.#unsynced.delete(first.log);
    }
    for (const write of settled) {
      const { state, problem } = /** @type {Standing} */ (standing(write));
      if (state === "delivered") write.become("synced");
      else write.become("refused", { problem: new Problem(409, "the notice was not taken", problem ?? "") });
    }
    this.#changed();
  }

  /** @param {Write} write */
  async #send(write) {
    const { entry } = write;
    const { label } = entry;
    write.is_sent = true;
    this.#in_flight.add(label);
    try {
      const { version, at = 0, log = "", id = "", slot = "" } = await this.#deliver(entry);
      forget(entry);
      Object.assign(write, { at, log, id, slot });
      write.become("durable", { version });
      this.#follow(write);
      // Not every write is watched; who watches has it by then.
      setTimeout(() => {
        write.is_seen = true;
        write.is_settled = true;
        this.tidy();
        this.#changed();
      }, 3000);
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem(0, String(error));
      if (problem.status === 309 && entry.parents) {
        // What it was made on top of was refused or is forgotten; it counts on top of what is there.
        forget(entry);
        entry.parents = undefined;
        // Places in a text that nobody knows any more say where letters go, and not what others are to lose.
        if (entry.op === "edit") entry.value = withoutLosses(entry.value);
        keep(entry);
      } else if (!problem.isPassing) {
        forget(entry);
        write.become("refused", { problem });
        this.writes = this.writes.filter((other) => other !== write);
      } else if (this.wire.liveness === "live") {
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
    this.#in_flight.delete(label);
    this.#changed();
    this.flush();
  }

  /**
   * @param {Entry} entry
   * @returns {Promise<Delivered>}
   */
  async #deliver({ op, path, value, parents, label }) {
    if (op === "notice") {
      const response = await this.wire.http(value.undo ? "DELETE" : "POST", path, {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(value.notice),
      });
      const { id, slot } = await response.json();
      // What is in the owner's own inbox goes to no other peer.
      const is_own = path === `/@${this.wire.about.me}/.drop`;
      return id && !is_own ? { version: [], id, slot, log: path } : { version: [] };
    }
    if (op === "text" || op === "file") {
      const body = op === "text" ? value : await fileOf(label);
      // Where the browser lost it, nothing can be written.
      if (!body) throw new Problem(410, "the file is gone", "the browser did not keep it", "choose it again");
      const type = op === "text" ? "text/plain; charset=utf-8" : value["@type"];
      const headers = { "content-type": type, version: JSON.stringify(label), prefer: "arrival" };
      const response = await this.wire.http("PUT", path, { headers, body });
      const [at, log] = response.headers.get("arrival")?.split(" ") ?? [];
      return { version: JSON.parse(`[${response.headers.get("version") ?? ""}]`), at: Number(at), log };
    }
    const what = op === "delete" ? {} : op === "edit" ? { edits: value } : { value };
    const more = { ...what, ...(parents ? { parents } : {}), version: label };
    return this.wire.request({ [op]: path, ...more, at: true });
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }
}

/** Edits that take nothing out. @param {[number, number, string][]} edits */
const withoutLosses = (edits) => edits.map(([at, , come]) => [at, 0, come]);

/** @param {number} length */
export function random(length) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => "abcdefghijkmnopqrstuwxyz13456789"[byte % 32]).join("");
}

/** @param {Entry} entry */
const keyOf = (entry) => `${PREFIX}${String(entry.order).padStart(17, "0")}:${entry.label}`;

/**
 * Remembers a write beyond this page; says whether the browser did.
 * @param {Entry} entry
 */
function keep(entry) {
  try {
    localStorage.setItem(keyOf(entry), JSON.stringify(entry));
    return true;
  } catch {
    return false;
  }
}

/** @param {Entry} entry */
function forget(entry) {
  files.delete(entry.label);
  if (entry.op === "file" && "caches" in globalThis)
    void caches.open(FILES).then((cache) => cache.delete(`/${entry.label}`)).catch(() => {});
  try {
    localStorage.removeItem(keyOf(entry));
  } catch {
    // Then it was never kept.
  }
}

/** Files of this page that are not on disk. @type {Map<string, Blob>} */
const files = new Map();
const FILES = "timebus-out";

/**
 * Remembers the bytes of a file beyond this page, where the browser can.
 * @param {string} label
 * @param {Blob} file
 */
async function keepFile(label, file) {
  try {
    await (await caches.open(FILES)).put(`/${label}`, new Response(file));
  } catch {
    // Without room, or on a page that is not of this machine, it lasts as long as the page.
  }
}

/** @param {string} label @returns {Promise<Blob | undefined>} */
async function fileOf(label) {
  return files.get(label) ?? (await (await (await caches.open(FILES)).match(`/${label}`))?.blob());
}

/** Writes of earlier pages. @returns {Entry[]} */
function kept() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    return keys.sort().flatMap((key) => {
      try {
        return [JSON.parse(localStorage.getItem(key) ?? "")];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}
