// One websocket with many watches, which comes back by itself and goes on where it was.

import { Problem, inPages } from "./problem.js";

/** @typedef {string[]} Version */
/**
 * What a watch hears. One of `snapshot`, `caught_up`, `put`, `delete`, `splice`, `edit`, `behind`, `closed`,
 * `problem`.
 * @typedef {object} WatchEvent
 * @property {any} [snapshot] the whole value
 * @property {boolean} [absent] with `snapshot`: there is nothing
 * @property {boolean} [caught_up] all that was known has been told
 * @property {string} [put] a path with a new `value`
 * @property {string} [delete] a path that is gone
 * @property {string} [splice] a list whose elements from `start` to `end` became `value`
 * @property {string} [edit] a text that was edited
 * @property {[number, number, string][]} [edits] its edits, each on top of the ones before: position and how many
 *   characters (Unicode scalar values) go there, and what comes
 * @property {any} [value]
 * @property {(string | number)[]} [at] steps from the watched path, where the path leads into lists
 * @property {Version} [version] the watched path after this
 * @property {boolean} [more] whether the change goes on in the next event; only after that is its version whole
 * @property {string} [by] who did it
 * @property {string} [asked_by] for whom they did, as they say, if somebody asked them to over HTTP
 * @property {number} [time_ms] when they did it
 * @property {number} [behind] changes that were left out; a snapshot follows
 * @property {string} [closed] why the watch ended
 * @property {Problem} [problem] why the watch was refused
 */
/** @typedef {"connecting" | "live" | "lost"} Liveness */
/** @typedef {{ path: string, version: Version | null, heard: (event: WatchEvent) => void }} Watch */

const PAUSE_MS_MIN = 250;
/** A peer on this machine is back within seconds, so waiting longer only annoys. */
const PAUSE_MS_MAX = 5000;

export class WatchSocket {
  /** @type {WebSocket | null} */
  #socket = null;
  #authorized = false;
  #pause_ms = PAUSE_MS_MIN;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #next_id = 1;
  /** @type {Map<number, Watch>} */
  #watches = new Map();
  #closed = false;

  /**
   * @param {string} url
   * @param {string} token
   */
  constructor(url, token) {
    this.url = url;
    this.token = token;
    /** @type {Liveness} */
    this.liveness = "connecting";
    /** Called when {@link WatchSocket.liveness} changes. */
    this.onliveness = () => {};
  }

  /**
   * Hears of every change at a path and below it. With a version, only of what came after it; a snapshot comes first
   * if there is none, or if the peer does not know it any more.
   * @param {string} path
   * @param {Version | null} from
   * @param {(event: WatchEvent) => void} heard
   * @returns {() => void} ends the watch
   */
  watch(path, from, heard) {
    const id = this.#next_id;
    this.#next_id += 1;
    this.#watches.set(id, { path, version: from, heard });
    if (this.#authorized) this.#start(id);
    else this.#connect();
    return () => {
      if (this.#watches.delete(id) && this.#authorized) this.#send({ id, unwatch: true });
    };
  }

  /** Connects before there is anything to watch, so that the page can tell whether the peer is there. */
  open() {
    this.#connect();
  }

  /** Ends everything. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watches.clear();
    this.#socket?.close();
  }

  #connect() {
    if (this.#socket || this.#closed) return;
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.url, "timebus.v1");
    this.#socket = socket;
    socket.onopen = () => this.#send({ auth: this.token });
    socket.onmessage = (message) => this.#take(JSON.parse(message.data));
    socket.onclose = () => {
      this.#socket = null;
      this.#authorized = false;
      if (this.#closed) return;
      this.#live("lost");
      this.#timer = setTimeout(() => this.#connect(), this.#pause_ms * (0.75 + Math.random() / 2));
      this.#pause_ms = Math.min(2 * this.#pause_ms, PAUSE_MS_MAX);
    };
  }

  /** @param {Liveness} liveness */
  #live(liveness) {
    if (this.liveness === liveness) return;
    this.liveness = liveness;
    this.onliveness();
  }

  /** @param {object} message */
  #send(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** @param {number} id */
  #start(id) {
    const watch = this.#watches.get(id);
    if (!watch) return;
    this.#send(watch.version ? { id, watch: watch.path, from: watch.version } : { id, watch: watch.path });
  }

  /** @param {any} message */
  #take(message) {
    if (message.auth) {
      this.#authorized = true;
      this.#pause_ms = PAUSE_MS_MIN;
      this.#live("live");
      for (const id of this.#watches.keys()) this.#start(id);
      return;
    }
    const watch = this.#watches.get(message.id);
    if (!watch) return;
    if (message.error) {
      const { status, title, detail, fix } = message.error;
      watch.heard({ problem: new Problem(status, title, detail, inPages(fix)) });
      return;
    }
    if (message.version && !message.more) watch.version = message.version;
    watch.heard(message);
  }
}
