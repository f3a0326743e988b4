// A value that stays up to date, for whatever draws it. What this page wrote shows at once.

import { Problem } from "./problem.js";
import { edited, rebased, rebasedEdits } from "./text.js";
import { NOTHING, merged, nameOf, part, segments, withPart } from "./tree.js";

/** @typedef {import("./tree.js").Step} Step */
/** @typedef {import("./outbox.js").Write} Write */
/** @typedef {string[]} Version */
/** @typedef {"loading" | "absent" | "present" | "denied" | "unreachable"} State */
/**
 * What is known of a value.
 * @typedef {object} Reading
 * @property {State} state `loading`: nobody knows yet; `absent`: there is nothing; `denied`: you may not see it;
 *   `unreachable`: nobody who has it answers
 * @property {any} value only when `present`
 * @property {Version} version what this is a version of; what a `base` of a write names
 * @property {boolean} is_live whether changes would be heard at once
 * @property {number} pending writes of this page in it that the peer has not on disk yet
 * @property {Problem | null} problem why it is `denied` or `unreachable`
 */

/** How long to wait before somebody who did not answer is asked again. */
const RETRY_MS = [1000, 2000, 5000, 15_000, 30_000];

/**
 * A store as Svelte has them: `subscribe` calls back now and on every change. React takes `subscribe` and `current`
 * for `useSyncExternalStore`. `for await` gives readings, too.
 */
export class Store {
  /** @type {any} */
  #confirmed = NOTHING;
  /** @type {State} */
  #state = "loading";
  /** @type {Version} */
  #version = [];
  /** What an update makes of it of which not all parts came. @type {{ value: any, version: Version | null } | null} */
  #coming = null;
  /** Writes that what came from the peer has. @type {WeakSet<Write>} */
  #seen = new WeakSet();
  /** @type {Problem | null} */
  #problem = null;
  /** @type {Reading | null} */
  #reading = null;
  /** @type {Set<(reading: Reading) => void>} */
  #listeners = new Set();
  #is_queued = false;
  #is_closed = false;
  #tries = 0;
  /** @type {(() => void)[]} */
  #stops = [];
  /** @type {() => void} */
  #unwatch = () => {};
  /** Writes that were on disk before this watch began, so that its first snapshot has them. @type {Set<string>} */
  #included = new Set();

  /**
   * @param {import("./wire.js").Wire} wire
   * @param {import("./outbox.js").Outbox} outbox
   * @param {string} path `/@<key>/…`
   * @param {{ depth?: number, last?: number, first?: number, limit?: number }} window
   */
  constructor(wire, outbox, path, window) {
    this.wire = wire;
    this.outbox = outbox;
    this.path = path;
    this.window = window;
    this.#stops.push(
      outbox.onchange(() => this.#changed()),
      wire.onliveness(() => {
        // What came of an update is sent again with the rest of it.
        this.#coming = null;
        this.#changed();
      }),
    );
    this.#start();
  }

  /** What is known now. The same object until something changes. @returns {Reading} */
  get current() {
    this.#reading ??= this.#look();
    return this.#reading;
  }

  /** The value, or `undefined` unless it is present. */
  get value() {
    return this.current.value;
  }

  /**
   * Calls back now and on every change.
   * @param {(reading: Reading) => void} listener
   * @returns {() => void} ends it
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    listener(this.current);
    return () => this.#listeners.delete(listener);
  }

  /** Fulfilled when more is known than `loading`. @returns {Promise<Reading>} */
  ready() {
    return new Promise((resolve) => {
      /** @type {(() => void) | undefined} */
      let stop;
      stop = this.subscribe((reading) => {
        if (reading.state === "loading") return;
        resolve(reading);
        queueMicrotask(() => stop?.());
      });
    });
  }

  async *[Symbol.asyncIterator]() {
    let wake = () => {};
    let news = true;
    const stop = this.subscribe(() => {
      news = true;
      wake();
    });
    try {
      while (!this.#is_closed) {
        if (!news) await new Promise((resolve) => (wake = () => resolve(undefined)));
        news = false;
        yield this.current;
      }
    } finally {
      stop();
    }
  }

  /** Ends this watch, and no other. */
  close() {
    this.#is_closed = true;
    this.#unwatch();
    this.#stops.forEach((stop) => stop());
    this.#listeners.clear();
  }

  /** What a write at a path below was made on top of, as far as this store has seen. @returns {Version | undefined} */
  get base() {
    return this.#state === "present" || this.#state === "absent" ? this.#version : undefined;
  }

  #start() {
    for (const write of this.outbox.writes) if (write.state === "durable") this.#included.add(write.entry.label);
    this.#unwatch = this.wire.watch({ watch: this.path, ...this.window }, (event) => this.#take(event));
  }

  /** @param {any} event */
  #take(event) {
    if (this.#is_closed) return;
    if (event.problem || event.closed) return this.#fail(event.problem ?? new Problem(403, "this ended", event.closed));
    // What is left out is made good by the snapshot that follows.
    if (event.behind) return void (this.#coming = null);
    const coming = this.#coming ?? { value: this.#confirmed, version: null };
    const value = this.#after(coming.value, event);
    const version = event.version ?? coming.version;
    // Until all of it came, what is known is what was known before.
    this.#coming = event.more ? { value, version } : null;
    if (event.more) return;
    this.#confirmed = value;
    if (version) {
      this.#version = version;
      this.#see(version);
    }
    this.#tries = 0;
    this.#problem = null;
    this.#state = this.#confirmed === NOTHING ? "absent" : "present";
    this.#changed();
  }

  /**
   * A value after what happened to it.
   * @param {any} value
   * @param {any} event
   */
  #after(value, event) {
    if ("snapshot" in event) return event.absent ? NOTHING : event.snapshot;
    if ("put" in event) return withPart(value, this.#steps(event.put, event.at), event.value);
    if ("delete" in event) return withPart(value, this.#steps(event.delete, event.at), NOTHING);
    if ("edit" in event) {
      const steps = this.#steps(event.edit, event.at);
      const text = part(value, steps);
      return typeof text === "string" ? withPart(value, steps, edited(text, event.edits)) : value;
    }
    if ("splice" in event) {
      const steps = this.#steps(event.splice, event.at);
      const list = part(value, steps);
      const { start, end, value: come } = event;
      return Array.isArray(list) ? withPart(value, steps, list.toSpliced(start, end - start, ...come)) : value;
    }
    return value;
  }

  /**
   * Takes note of the writes that this page has got to see, and of the edits of texts that they build on.
   * @param {Version} version
   */
  #see(version) {
    const seen = new Set(version);
    for (const write of this.outbox.writes.toReversed()) {
      // What is said of other places says nothing of whether this one has it.
      if (!seen.has(write.entry.label) || !(below(this.path, write.path) || below(write.path, this.path))) continue;
      write.is_seen = true;
      this.#seen.add(write);
      if (write.entry.op === "edit") write.entry.parents?.forEach((label) => seen.add(label));
    }
  }

  /** The last write of this page in the text here that what came from the peer has not, if there is one. */
  get typed() {
    return this.outbox.writes.findLast((write) => write.path === this.path && !this.#has(write));
  }

  /**
   * Edits of this page as edits of what came from the peer; null as long as that has not those which they are made on.
   * @param {Write} write
   * @param {Write} before
   */
  rebase(write, before) {
    const text = this.#confirmed === NOTHING ? "" : this.#confirmed;
    const is_over = !this.outbox.writes.includes(before);
    if (!(is_over || this.#has(before)) || !this.base || write.before === null || typeof text !== "string") return null;
    const value = rebasedEdits(write.entry.value, write.before, text);
    write.before = text;
    return { value, parents: this.base };
  }

  /** Whether what came from the peer has a write. @param {Write} write */
  #has(write) {
    const { label, op } = write.entry;
    // Twice the same value is that value; twice the same edit is not.
    if (op === "edit") return this.#seen.has(write) || this.#included.has(label) || write.is_settled;
    return write.state !== "local" && (write.is_seen || this.#included.has(label));
  }

  /**
   * Steps from here to where something happened.
   * @param {string} path
   * @param {Step[] | undefined} at
   * @returns {Step[]}
   */
  #steps(path, at) {
    if (at) return at;
    const own = segments(this.path).filter((segment, index) => index > 0 || !/^@[^@]/.test(segment));
    const all = segments(path).filter((segment, index) => index > 0 || !/^@[^@]/.test(segment));
    return all.slice(own.length).map(nameOf);
  }

  /** @param {Problem} problem */
  async #fail(problem) {
    this.#unwatch();
    this.#coming = null;
    const is_denied = problem.status === 401 || problem.status === 403;
    this.#problem = problem;
    // A space that is not here may be fetched by asking for it.
    if (this.#tries > 0 || is_denied) this.#state = is_denied ? "denied" : "unreachable";
    this.#changed();
    const pause_ms = RETRY_MS[Math.min(this.#tries, RETRY_MS.length - 1)];
    this.#tries += 1;
    try {
      if (!is_denied)
        await this.wire.http("GET", this.path, { query: { depth: 1, limit: 1 }, headers: { prefer: "wait=10" } });
    } catch (error) {
      if (error instanceof Problem && error.status !== 404) {
        this.#problem = error;
        this.#state = error.status === 403 || error.status === 401 ? "denied" : "unreachable";
        this.#changed();
      }
      await new Promise((resolve) => setTimeout(resolve, pause_ms));
    }
    if (is_denied) await new Promise((resolve) => setTimeout(resolve, RETRY_MS.at(-1)));
    if (!this.#is_closed) this.#start();
  }

  #changed() {
    this.#reading = null;
    // What is waited for may have come.
    if (this.outbox.writes.some((write) => write.rebase)) queueMicrotask(() => this.outbox.flush());
    if (this.#is_queued || this.#is_closed) return;
    this.#is_queued = true;
    queueMicrotask(() => {
      this.#is_queued = false;
      const reading = this.current;
      for (const listener of this.#listeners) listener(reading);
    });
  }

  /** @returns {Reading} */
  #look() {
    let value = this.#confirmed;
    let pending = 0;
    for (const write of this.outbox.writes) {
      if (this.#has(write)) continue;
      const steps = below(this.path, write.path);
      const above = below(write.path, this.path);
      if (!steps && !above) continue;
      if (write.state === "local") pending += 1;
      value = overlaid(value, write, steps, above ?? []);
    }
    value = windowed(value, this.window);
    const shows = pending > 0 || this.#state === "present" || this.#state === "absent";
    const state =
      shows && (this.#state !== "loading" || value !== NOTHING)
        ? value === NOTHING
          ? "absent"
          : "present"
        : this.#state;
    return {
      state,
      value: state === "present" ? value : undefined,
      version: this.#version,
      is_live: this.wire.liveness === "live" && this.#state !== "loading" && this.#state !== "unreachable",
      pending,
      problem: this.#problem,
    };
  }
}

/**
 * As much of a value as its window has: what this page added may have pushed something out.
 * @param {any} value
 * @param {{ last?: number, first?: number }} window
 */
function windowed(value, { last, first }) {
  if (typeof value !== "object" || value === null || (last === undefined && first === undefined)) return value;
  const cut = (/** @type {any[]} */ parts) => (last === undefined ? parts.slice(0, first) : parts.slice(-last));
  if (Array.isArray(value)) return cut(value);
  const entries = Object.entries(value);
  return entries.length > (last ?? first ?? 0) ? Object.fromEntries(cut(entries)) : value;
}

/**
 * Steps from one path to another one at or below it.
 * @param {string} from
 * @param {string} to
 */
function below(from, to) {
  if (to === from) return [];
  return to.startsWith(`${from}/`) ? segments(to.slice(from.length)).map(nameOf) : null;
}

/**
 * A value as a write will make it.
 * @param {any} value
 * @param {Write} write
 * @param {string[] | null} steps from the value to the write, if that is inside
 * @param {string[]} above from the write to the value, if that is inside
 */
function overlaid(value, { entry, before }, steps, above) {
  if (entry.op === "notice") return value;
  if (steps) {
    const there = part(value, steps);
    if (entry.op === "edit") {
      // Of an earlier page it is not known what it was made on; it shows when the peer has it.
      if (before === null || (there !== NOTHING && typeof there !== "string")) return value;
      return withPart(value, steps, rebased(entry.value, before, there === NOTHING ? "" : there));
    }
    const now =
      entry.op === "delete"
        ? NOTHING
        : entry.op === "patch"
          ? merged(there === NOTHING ? undefined : there, entry.value)
          : entry.value;
    return withPart(value, steps, now);
  }
  if (entry.op === "delete") return NOTHING;
  if (entry.op === "edit") return value;
  const inside = part(entry.value, above);
  if (entry.op === "put" || entry.op === "text" || entry.op === "file") return inside;
  return inside === NOTHING ? value : merged(value === NOTHING ? undefined : value, inside);
}
