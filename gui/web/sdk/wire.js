// The peer, over HTTP and one websocket. The only file of the SDK that knows URLs.

import { Problem, gone } from "./problem.js";

/** @typedef {string[]} Version */
/** @typedef {{ alias: string, name: string, version: string, is_dev: boolean, space: string, me: string, my_name: string, pages: string | null, given: Given[] }} About */
/** @typedef {{ path: string, may: string[], of: "me" | "others", why: string }} Given */
/** @typedef {"connecting" | "live" | "lost"} Liveness */
/** @typedef {{ message: any, heard: (event: any) => void, version: Version | null }} Watch */

const PAUSE_MS_MIN = 200;
/** A peer on this machine is back within seconds, so waiting longer only annoys. */
const PAUSE_MS_MAX = 4000;

export class Wire {
  /** @type {WebSocket | null} */
  #socket = null;
  #token = "";
  #is_authorized = false;
  #pause_ms = PAUSE_MS_MIN;
  #next_id = 1;
  /** @type {Map<number, Watch>} */
  #watches = new Map();
  /** @type {Map<number, (answer: any) => void>} */
  #answers = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {Liveness} */
  liveness = "connecting";
  /** @type {About} */
  about;

  /**
   * @param {string} token
   * @param {About} about
   */
  constructor(token, about) {
    this.#token = token;
    this.about = about;
    this.#connect();
    if (about.is_dev) void this.#reload();
  }

  /** Gets the app's token from the peer, and begins. */
  static async open() {
    const code = /^#open=(.+)$/.exec(location.hash)?.[1];
    if (code) history.replaceState(history.state, "", location.pathname + location.search);
    let pause_ms = PAUSE_MS_MIN;
    for (;;) {
      try {
        const { token, app } = await ask("/.sys/token", { method: "POST", body: JSON.stringify(code ? { code } : {}) });
        return new Wire(token, app);
      } catch (error) {
        if (!(error instanceof Problem) || !error.isPassing) throw error;
        await new Promise((resolve) => setTimeout(resolve, pause_ms));
        pause_ms = Math.min(2 * pause_ms, PAUSE_MS_MAX);
      }
    }
  }

  /**
   * Asks over HTTP.
   * @param {string} method
   * @param {string} path `/@<key>/…` or `/.sys/…`, each name as it is
   * @param {{ query?: Record<string, any>, headers?: Record<string, string>, body?: BodyInit, signal?: AbortSignal }} [more]
   * @returns {Promise<Response>}
   */
  async http(method, path, { query = {}, headers = {}, body, signal } = {}) {
    const found = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const search = found.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    const url = path.split("/").map(encodeURIComponent).join("/").replaceAll("%40", "@") + (search ? `?${search}` : "");
    return answer(url, { method, headers: { authorization: `Bearer ${this.#token}`, ...headers }, body, signal });
  }

  /**
   * Asks over the websocket; waits until there is one.
   * @param {any} message
   * @returns {Promise<any>} rejects with a Problem
   */
  request(message) {
    return new Promise((resolve, reject) => {
      const id = this.#next_id++;
      this.#answers.set(id, (answered) => {
        this.#answers.delete(id);
        if (answered.error) reject(problemOf(answered.error));
        else resolve(answered);
      });
      if (!this.#send({ id, ...message }))
        this.#answers.get(id)?.({ error: { status: 0, title: "your peer does not answer" } });
    });
  }

  /**
   * Hears what is at a path and every change of it, over losses of the connection.
   * @param {any} message
   * @param {(event: any) => void} heard
   * @returns {() => void} ends it
   */
  watch(message, heard) {
    const id = this.#next_id++;
    this.#watches.set(id, { message, heard, version: null });
    this.#start(id);
    return () => {
      if (this.#watches.delete(id)) this.#send({ id, unwatch: true });
    };
  }

  /**
   * Calls back whenever the connection comes or goes.
   * @param {() => void} listener
   */
  onliveness(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/`, "timebus.v1");
    this.#socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ auth: this.#token }));
    socket.onmessage = (message) => this.#take(JSON.parse(message.data));
    socket.onclose = async () => {
      const was_authorized = this.#is_authorized;
      this.#socket = null;
      this.#is_authorized = false;
      this.#live("lost");
      for (const answered of [...this.#answers.values()])
        answered({ error: { status: 0, title: "your peer does not answer" } });
      await new Promise((resolve) => setTimeout(resolve, this.#pause_ms * (0.75 + Math.random() / 2)));
      this.#pause_ms = Math.min(2 * this.#pause_ms, PAUSE_MS_MAX);
      // What the app may do can have changed, and with it the token.
      if (!was_authorized) await this.#renew();
      this.#connect();
    };
  }

  async #renew() {
    try {
      const { token, app } = await ask("/.sys/token", { method: "POST", body: "{}" });
      this.#token = token;
      this.about = app;
    } catch {
      // Then the old one is tried again.
    }
  }

  /** @param {Liveness} liveness */
  #live(liveness) {
    if (this.liveness === liveness) return;
    this.liveness = liveness;
    for (const listener of this.#listeners) listener();
  }

  /** @param {any} message */
  #send(message) {
    if (!this.#is_authorized || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** @param {number} id */
  #start(id) {
    const watch = this.#watches.get(id);
    if (watch) this.#send(watch.version ? { id, ...watch.message, from: watch.version } : { id, ...watch.message });
  }

  /** @param {any} message */
  #take(message) {
    if (message.auth) {
      this.#is_authorized = true;
      this.#pause_ms = PAUSE_MS_MIN;
      this.#live("live");
      for (const id of this.#watches.keys()) this.#start(id);
      return;
    }
    if (message.id === undefined) return void (message.error && this.#socket?.close());
    const answered = this.#answers.get(message.id);
    if (answered) return answered(message);
    const watch = this.#watches.get(message.id);
    if (!watch) return;
    if (message.version && !message.more) watch.version = message.version;
    if (message.error || message.closed) watch.version = null;
    watch.heard(message.error ? { problem: problemOf(message.error) } : message);
  }

  /** While an app is worked on, its page follows. */
  async #reload() {
    for (;;) {
      try {
        const { version } = await (
          await this.http("GET", "/.sys/reload", { query: { after: this.about.version } })
        ).json();
        if (version !== null && version !== this.about.version) return location.reload();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS_MAX));
      }
    }
  }
}

/** @param {any} error */
const problemOf = ({ status, title, detail, fix }) => new Problem(status, title, detail, fix);

/**
 * @param {string} url
 * @param {RequestInit} init
 */
async function answer(url, init) {
  let response;
  try {
    response = await fetch(url, { cache: "no-store", credentials: "omit", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw gone();
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw problemOf({ title: `the peer answered ${response.status}`, ...problem, status: response.status });
}

/**
 * @param {string} url
 * @param {RequestInit} init
 */
async function ask(url, init) {
  return (await answer(url, { headers: { "content-type": "application/json" }, ...init })).json();
}
