// timebus for web apps. `import { open } from "/sdk.js"` in any page that a peer serves; nothing to install.
//
//     const bus = await open();
//     const notes = bus.at("/notes").watch();
//     notes.subscribe(({ state, value }) => show(state, value));
//     await bus.at("/notes/hi").put("hello").done;
//
// A write shows at once in every store of the page (`local`), is `durable` when the peer has it on disk, and `synced` when
// another peer has. Writes that the peer does not take now, because it is stopped, are kept in the browser and sent when it
// is back.

import { Outbox, Write, random } from "./sdk/outbox.js";
import { Problem } from "./sdk/problem.js";
import { Store } from "./sdk/store.js";
import { change, changes, edited, moved } from "./sdk/text.js";
import { Wire } from "./sdk/wire.js";

export { Problem, Store, Write };

/** @typedef {import("./sdk/store.js").Reading} Reading */
/** @typedef {import("./sdk/store.js").Version} Version */
/** @typedef {import("./sdk/wire.js").Liveness} Liveness */
/** @typedef {{ space: string, name: string, petname: string | null, state: string, is_followed: boolean, is_community?: boolean }} Person */
/** @typedef {{ kind: string, target: string, source: string, body?: any }} Notice */
/**
 * Something that points at a place. `from` says where that is known from: `followed`, a space that is here; `inbox`, a notice;
 * `index:<space>`. `confirmed`: it was seen to point there.
 * @typedef {{ space: string, source: string, kind: string, at_ms: number, body?: any, from: string[], confirmed: boolean }} Ref
 */
/** @typedef {{ counts: Record<string, number>, refs: Ref[] }} Refs */
/** @typedef {{ depth?: number, last?: number, first?: number, limit?: number, kind?: string }} Window which part of a large value */

/** @type {Promise<Bus> | null} */
let opened = null;

/**
 * Opens the peer that served this page. The same one, however often it is called.
 * @returns {Promise<Bus>}
 */
export function open() {
  opened ??= Wire.open().then((wire) => new Bus(wire));
  // Who asks again after it failed tries again.
  opened.catch(() => (opened = null));
  return opened;
}

/** A peer, as this app may use it. */
export class Bus {
  #wire;
  #outbox;
  /** @type {Set<Store>} */
  #stores = new Set();

  /** @param {Wire} wire */
  constructor(wire) {
    this.#wire = wire;
    this.#outbox = new Outbox(wire);
    /** The space that the app was given; its paths are those of `at`. */
    this.space = wire.about.space;
    /** The owner's own space. */
    this.me = wire.about.me;
    /** What the owner is called: by his `/profile/name`, else by his key, as in `river-otter-61`. */
    this.my_name = wire.about.my_name;
    /** This app. */
    this.app = wire.about;
  }

  /**
   * Where the owner makes a link for a friend that brings this app along, for an `<a href>`; null for the app of a persona,
   * which is shared from a terminal.
   */
  get invite_url() {
    return this.app.pages && `${this.app.pages}.sys/invites#app=${this.app.alias}`;
  }

  /** Whether changes are heard at once. @returns {Liveness} */
  get liveness() {
    return this.#wire.liveness;
  }

  /** Writes that the peer has not on disk yet. */
  get waiting() {
    return this.#outbox.waiting;
  }

  /**
   * Calls back when the connection comes or goes, and when a write was made or acknowledged.
   * @param {() => void} listener
   * @returns {() => void}
   */
  onchange(listener) {
    const stops = [this.#wire.onliveness(listener), this.#outbox.onchange(listener)];
    return () => stops.forEach((stop) => stop());
  }

  /**
   * A place in the app's space.
   * @param {string} path as in `/notes/hi`; names are not percent-encoded
   */
  at(path) {
    return this.peer(this.space).at(path);
  }

  /**
   * Somebody's space, by its key. `people()` tells keys by names.
   * @param {string} key
   */
  peer(key) {
    const bare = key.replace(/^@/, "");
    if (!/^[a-z0-9]{52}$/.test(bare))
      throw new TypeError(`${key} is no key of a space; people() lists those that are here`);
    return new Peer(this, bare);
  }

  /**
   * A place by its whole path, as pointers have it: `/@<key>/posts/1`.
   * @param {string} pointer
   */
  place(pointer) {
    const [, key, path] = /^\/@([a-z0-9]{52})(\/.*)?$/.exec(pointer) ?? [];
    if (!key) throw new TypeError(`${pointer} is no pointer: it begins with /@<key>`);
    return this.peer(key).at(path ?? "/");
  }

  /** Whose spaces are here. Needs `/.sys/spaces`. @returns {Promise<Person[]>} */
  async people() {
    const { spaces } = await (await this.#wire.http("GET", "/.sys/spaces")).json();
    return spaces;
  }

  /**
   * Has the peer keep somebody's space here. Needs `/.sys/follow`.
   * @param {string} key
   */
  async follow(key) {
    await this.#wire.http("POST", "/.sys/follow", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ who: key }),
    });
  }

  /**
   * Whom the owner does not want to hear, from now on: a store of `{ muted: { who, name }[], blocked: { who, name }[] }`,
   * for all apps and on all devices. Needs `/.sys/lists`.
   */
  watchLists() {
    return this.watchAt("/.sys/lists", {});
  }

  /**
   * Mutes somebody for all apps and devices, or hears him again. Needs `/.sys/mute`.
   * @param {string} key
   * @param {boolean} [on]
   */
  async mute(key, on = true) {
    await this.#wire.http("POST", "/.sys/mute", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ who: key, muted: on }),
    });
  }

  /**
   * Whose spaces are here, from now on: a store of `{ spaces: Person[] }`. Needs `/.sys/spaces`.
   */
  watchPeople() {
    return this.watchAt("/.sys/spaces", {});
  }

  /**
   * Who points at a place, from now on: a store of {@link Refs}. Needs `/.sys/refs`.
   * @param {string} pointer as in `/@<key>/posts/1`
   * @param {{ kind?: string, limit?: number }} [which]
   */
  watchRefs(pointer, which = {}) {
    return this.watchAt(`/.sys/refs${pointer}`, which);
  }

  /**
   * Who points at a place: likes, replies. Needs `/.sys/refs`.
   * @param {string} pointer as in `/@<key>/posts/1`
   * @param {string} [kind]
   * @param {{ limit?: number, after?: string }} [page]
   * @returns {Promise<Refs>}
   */
  async refs(pointer, kind, page = {}) {
    return (await this.#wire.http("GET", `/.sys/refs${pointer}`, { query: { kind, ...page } })).json();
  }

  /**
   * The inbox of somebody. Needs `/.drop` of others. A notice that was sent twice is there once.
   * @param {string} key
   */
  inbox(key) {
    const path = `/@${key.replace(/^@/, "")}/.drop`;
    return {
      /** @param {Notice} notice */
      send: (notice) => this.#outbox.add("notice", path, { value: { notice } }),
      /** @param {Notice} notice */
      takeBack: (notice) => this.#outbox.add("notice", path, { value: { notice, undo: true } }),
    };
  }

  /**
   * Whether the app was given a right. In a space of others the owner of that space decides as well.
   * @param {"read" | "write"} verb
   * @param {string} path
   * @param {"me" | "others"} [of]
   */
  can(verb, path, of = "me") {
    const covers = (/** @type {string} */ given) => path === given || path.startsWith(`${given}/`);
    return this.app.given.some((given) => given.of === of && given.may.includes(verb) && covers(given.path));
  }

  /**
   * @param {string} path
   * @param {Window} window
   */
  watchAt(path, window) {
    const store = new Store(this.#wire, this.#outbox, path, window);
    this.#stores.add(store);
    const close = store.close.bind(store);
    store.close = () => {
      this.#stores.delete(store);
      close();
    };
    return store;
  }

  /**
   * @param {import("./sdk/outbox.js").Op} op
   * @param {string} path
   * @param {any} value
   * @param {Version | undefined} base
   */
  writeAt(op, path, value, base) {
    // What this page has seen, and what it wrote since: what others wrote meanwhile then survives beside it.
    const seen = base ?? this.#seen(path);
    const own = this.#outbox.writes.filter(
      (write) => !write.is_seen && overlaps(write.path, path) && write.entry.op !== "notice",
    );
    const parents = seen ? [...seen, ...own.map((write) => write.entry.label)] : undefined;
    if (op === "file") return this.#outbox.add(op, path, { value: { "@type": value.type } }, { file: value });
    return this.#outbox.add(op, path, op === "delete" ? { parents } : { value, parents });
  }

  /**
   * Makes a text another one, by what changed of what this page shows.
   * @param {Store} store of the text
   * @param {string} text
   */
  typeAt(store, text) {
    const { path, base, current } = store;
    const is_there = current.state === "present";
    const shown = is_there ? current.value : "";
    // Edits of an earlier page do not show yet; those of this one are made on what came from the peer.
    const typed = store.typed?.entry.op === "edit" && store.typed.before === null ? undefined : store.typed;
    const own = typed && ownText(typed);
    // Who has something else on its way, or does not know yet what is there, says what is to be there.
    if (!base || own === null || (!typed && current.pending > 0) || (!is_there && !text))
      return this.writeAt(is_there ? "put" : "text", path, text, base);
    // Where no text is, the peer says so.
    const edit = typeof shown === "string" ? change(shown, text) : /** @type {import("./sdk/text.js").Edit} */ ([0, 0, text]);
    const edits = (own === undefined ? [edit] : moved(edit, shown, own)).filter(isChange);
    if (edits.length === 0) return this.#outbox.none(path);
    if (!typed) return this.#outbox.add("edit", path, { value: edits, parents: base }, { before: shown });
    if (this.#outbox.extend(typed, edits)) return typed;
    // How the peer puts together what this page wrote before and what others did is known when it says so: that is waited for.
    const beside = { before: own, rebase: (/** @type {Write} */ write) => store.rebase(write, typed) };
    return this.#outbox.add("edit", path, { value: edits, parents: [typed.entry.label] }, beside);
  }

  /**
   * @param {string} path
   * @returns {Version | undefined}
   */
  #seen(path) {
    let best;
    for (const store of this.#stores) {
      const covers = path === store.path || path.startsWith(`${store.path}/`);
      // A window has not seen everything.
      if (covers && Object.keys(store.window).length === 0 && (!best || store.path.length > best.path.length))
        best = store;
    }
    return best?.base;
  }

  /** A file that this page wrote and that is on its way. @param {string} path @returns {Blob | undefined} */
  fileAt(path) {
    const write = this.#outbox.writes.findLast((write) => write.path === path && write.entry.op === "file");
    return write && this.#outbox.file(write.entry.label);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Parameters<Wire["http"]>[2]} [more]
   */
  http(method, path, more) {
    return this.#wire.http(method, path, more);
  }
}

/** A space. */
export class Peer {
  #bus;

  /**
   * @param {Bus} bus
   * @param {string} key
   */
  constructor(bus, key) {
    this.#bus = bus;
    this.key = key;
  }

  /** @param {string} path */
  at(path) {
    return new Place(this.#bus, `/@${this.key}${path === "/" ? "" : path.replace(/\/$/, "")}`);
  }
}

/** A place: a path in a space. */
export class Place {
  #bus;

  /**
   * @param {Bus} bus
   * @param {string} pointer
   */
  constructor(bus, pointer) {
    this.#bus = bus;
    /** The whole path, as in `/@<key>/posts/1`: what likes and replies point at. */
    this.pointer = pointer;
  }

  /** Whether a file that this page wrote here is still on its way. */
  get isOnItsWay() {
    return this.#bus.fileAt(this.pointer) !== undefined;
  }

  /**
   * A place below this one.
   * @param {string} name
   */
  at(name) {
    return new Place(this.#bus, `${this.pointer}/${name.replace(/^\//, "")}`);
  }

  /**
   * The value now.
   * @param {Window & { after?: string }} [window]
   * @returns {Promise<Reading>}
   */
  async get(window = {}) {
    const known = { version: /** @type {string[]} */ ([]), is_live: false, pending: 0, problem: null };
    try {
      const response = await this.#bus.http("GET", this.pointer, { query: window });
      const version = JSON.parse(`[${response.headers.get("version") ?? ""}]`);
      const type = response.headers.get("content-type") ?? "";
      const value = /json/.test(type)
        ? await response.json()
        : /^text\//.test(type)
          ? await response.text()
          : await response.blob();
      return { ...known, state: "present", value, version };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const state =
        error.status === 404 ? "absent" : error.status === 401 || error.status === 403 ? "denied" : "unreachable";
      return { ...known, state, value: undefined, problem: state === "absent" ? null : error };
    }
  }

  /**
   * The value from now on.
   * @param {Window} [window]
   */
  watch(window = {}) {
    return this.#bus.watchAt(this.pointer, window);
  }

  /**
   * Names and values below, page by page: `next` is `after` for the next one or, when it began at the end with `last`,
   * `before`. With `match`, those in whose texts all of its words are; a page of a search may be empty and yet not the last.
   * @param {{ limit?: number, after?: string, last?: number, before?: string, depth?: number, match?: string }} [page]
   * @returns {Promise<{ entries: [string, any][], next: string | null }>}
   */
  async list(page = {}) {
    const count = page.last === undefined ? { limit: 100 } : {};
    try {
      const response = await this.#bus.http("GET", this.pointer, { query: { ...count, ...page } });
      const next = response.headers.get("next-after") ?? response.headers.get("next-before");
      return { entries: Object.entries(await response.json()), next: next === null ? null : decodeURIComponent(next) };
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return { entries: [], next: null };
      throw error;
    }
  }

  /**
   * Replaces the value: what this page had seen of it, so that what others add meanwhile stays.
   * @param {any} value
   * @param {{ base?: Version }} [how]
   */
  put(value, { base } = {}) {
    return this.#bus.writeAt("put", this.pointer, value, base);
  }

  /**
   * Changes some members (RFC 7396): `null` removes one.
   * @param {Record<string, any>} patch
   * @param {{ base?: Version }} [how]
   */
  patch(patch, { base } = {}) {
    return this.#bus.writeAt("patch", this.pointer, patch, base);
  }

  /**
   * Adds a value below this place, under a new name that sorts behind all earlier ones.
   * @param {any} value
   * @returns {Write & { name: string, place: Place }}
   */
  post(value) {
    const name = newName();
    const place = this.at(name);
    return Object.assign(this.#bus.writeAt("put", place.pointer, value, undefined), { name, place });
  }

  /**
   * Keeps a file of any size here, under its media type. `url` reads it.
   * @param {Blob} file
   */
  putFile(file) {
    return this.#bus.writeAt("file", this.pointer, file, undefined);
  }

  /** @param {{ base?: Version }} [how] */
  delete({ base } = {}) {
    return this.#bus.writeAt("delete", this.pointer, undefined, base);
  }

  /**
   * Adds to a counter.
   * @param {number} by
   */
  async inc(by = 1) {
    await this.#bus.http("POST", this.pointer, { query: { inc: by } });
  }

  /**
   * A text that several people write at once: what each of them types stays. Where a JSON value is, writing it is refused.
   */
  text() {
    const store = this.watch();
    /** Makes the text this: what was inserted and deleted of the text that `store` shows. @param {string} text */
    const set = (text) => this.#bus.typeAt(store, text);
    return {
      store,
      set,
      /**
       * Has a `<textarea>` or an `<input>` show the text and write it, with the caret where it is while others write.
       * @param {HTMLTextAreaElement | HTMLInputElement} field
       * @returns {() => void} ends it
       */
      attach: (field) => attach(field, store, set),
      close: () => store.close(),
    };
  }

  /** The bytes of a file, as a `blob:` URL that an image can show. @returns {Promise<string>} */
  async url() {
    const own = this.#bus.fileAt(this.pointer);
    return URL.createObjectURL(own ?? (await (await this.#bus.http("GET", this.pointer)).blob()));
  }
}

/** @param {string} a @param {string} b */
const overlaps = (a, b) => a === b || a.startsWith(`${b}/`) || b.startsWith(`${a}/`);

/** Whether an edit does anything. @param {import("./sdk/text.js").Edit} edit */
const isChange = ([, gone, come]) => gone > 0 || come !== "";

/** The text that a write of this page makes, before others change it; null if that is not known. @param {Write} write */
const ownText = ({ before, entry }) =>
  entry.op === "text" ? entry.value : entry.op === "edit" && before !== null ? edited(before, entry.value) : null;

/**
 * Has a field show a text and write it.
 * @param {HTMLTextAreaElement | HTMLInputElement} field
 * @param {Store} store
 * @param {(text: string) => Write} set
 */
function attach(field, store, set) {
  let is_composing = false;
  const show = () => {
    const { state, value = "" } = store.current;
    // What is being put together letter by letter is not interrupted.
    if (is_composing || state === "loading" || typeof value !== "string" || field.value === value) return;
    const units = (/** @type {number} */ count) => Array.from(field.value).slice(0, count).join("").length;
    const caret = Array.from(field.value.slice(0, field.selectionEnd ?? 0)).length;
    // One after the other: were letters around the caret replaced by others, the browser would select these, and the next
    // letter that is typed would replace them.
    for (const [at, gone, come] of changes(field.value, value, caret))
      field.setRangeText(come, units(at), units(at + gone), "preserve");
  };
  const write = () => {
    if (!is_composing) set(field.value);
  };
  const begin = () => (is_composing = true);
  const end = () => {
    is_composing = false;
    write();
  };
  field.addEventListener("input", write);
  field.addEventListener("compositionstart", begin);
  field.addEventListener("compositionend", end);
  const stop = store.subscribe(show);
  return () => {
    stop();
    field.removeEventListener("input", write);
    field.removeEventListener("compositionstart", begin);
    field.removeEventListener("compositionend", end);
  };
}

const DIGITS = "0123456789abcdefghijkmnpqrstuvwx";
let last_us = 0;

/** A name that sorts behind the names made before: microseconds, then chance. As the peer makes them for `POST`. */
export function newName() {
  last_us = Math.max(Date.now() * 1000, last_us + 1);
  let name = "";
  for (let rest = last_us, at = 0; at < 11; at += 1, rest = Math.floor(rest / 32)) name = DIGITS[rest % 32] + name;
  for (const byte of crypto.getRandomValues(new Uint8Array(4))) name += DIGITS[byte % 32];
  return name;
}

/**
 * When a name of {@link newName} was made; Unix milliseconds.
 * @param {string} name
 */
export function timeOfName(name) {
  let us = 0;
  for (const digit of name.slice(0, 11)) us = us * 32 + DIGITS.indexOf(digit);
  return us / 1000;
}

/**
 * A file as a value that a write can hold, if it is at most 64 KiB.
 * @param {Blob} blob
 * @returns {Promise<{ "@bytes": string, "@type": string }>}
 */
export async function fileValue(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (bytes.length > 64 * 1024)
    throw new Problem(413, "the file is too large", `it has ${bytes.length} bytes, 65536 at most`);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return { "@bytes": btoa(text), "@type": blob.type || "application/octet-stream" };
}

/**
 * What an `<img>` shows for a value that is a picture; nothing for all other values.
 * @param {any} value
 * @returns {string | null}
 */
export function pictureOf(value) {
  const is_picture =
    typeof value?.["@bytes"] === "string" && /^image\/(png|jpeg|gif|webp|avif)$/.test(value["@type"] ?? "");
  return is_picture && /^[A-Za-z0-9+/=]*$/.test(value["@bytes"])
    ? `data:${value["@type"]};base64,${value["@bytes"]}`
    : null;
}
