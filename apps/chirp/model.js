// What chirp knows, and where it is kept. Nothing here draws.
//
//   /profile                  { name, bio, picture }           one for all apps
//   /chirp/posts/<id>         { text, mentions?, pictures?, reply?, quote?, repost? }
//       reply                 { kind: "reply", target, root }  root: the post that began the thread
//       quote, repost         { kind, target }
//       mentions              { 0: { kind: "mention", target: "/@<key>/profile", name }, … }
//       pictures              [{ id, alt }]
//   /chirp/pictures/<id>      the bytes of a picture, 64 KiB at most
//   /chirp/likes/<key>.<id>   { kind: "like", target, at }     what I like, by whose it is
//   /chirp/follows/<key>      { kind: "follow", target: "/@<key>/profile", at }
//   /chirp/mutes/<key>, /chirp/blocks/<key>
//   /chirp/seen               { home, notices }                until when I have looked
//
// A pointer is `/@<key>/chirp/posts/<id>`. An <id> says when the post was made, so posts sort by their names. What I write
// is in my space; whom it concerns gets a notice of a few bytes into his inbox. What has a kind and a target is a reference,
// which peers find by themselves.

import { Problem, newName, timeOfName } from "/sdk.js";

/** @typedef {import("/sdk.js").Bus} Bus */
/** @typedef {import("/sdk.js").Store} Store */
/** @typedef {{ name?: string, bio?: string, picture?: any }} Profile */
/** @typedef {{ key: string, name: string, petname: string | null, state: string, is_here: boolean }} Person */
/**
 * @typedef {object} Post
 * @property {string} [text]
 * @property {{ name: string, key: string }[]} [mentions]
 * @property {{ id: string, alt?: string }[]} [pictures]
 * @property {{ to: string, root: string }} [reply]
 * @property {string} [quote]
 * @property {string} [repost]
 */
/** @typedef {{ pointer: string, author: string, id: string, at_ms: number, post: Post, is_pending: boolean }} Entry */
/** @typedef {"like" | "reply" | "mention" | "follow" | "repost" | "quote"} Kind */
/** @typedef {{ kind: Kind, who: string, source: string, target: string, at_ms: number, post?: Post, text?: string }} NoticeEntry */
/** @typedef {{ count: number, mine: boolean, from: Set<string>, says: string }} Count */

/** Posts of everybody that are shown first. */
const WINDOW = 40;
/** Likes of everybody that are watched; older ones are asked for where they are shown. */
const LIKES = 500;
/** More people than this are read now and then instead of watched: a page may watch 256 places. */
const WATCHED_MAX = 70;
const REFRESH_MS = 4000;

/** @param {string} pointer */
export function partsOfPointer(pointer) {
  const [, key, id] = /^\/@([a-z0-9]{52})\/chirp\/posts\/([^/]+)$/.exec(String(pointer)) ?? [];
  return key && id ? { key, id } : null;
}

/**
 * The post that something is part of: references stand inside of posts.
 * @param {string} source
 */
export function postOfSource(source) {
  return /^\/@[a-z0-9]{52}\/chirp\/posts\/[^/]+/.exec(String(source))?.[0] ?? source;
}

export class Model {
  /** @type {Map<string, Person>} */
  people = new Map();
  /** @type {Map<string, { posts: Store, likes: Store, profile: Store }>} */
  #stores = new Map();
  /** @type {Map<string, any>} */
  #values = new Map();
  /** Posts that were read one by one. @type {Map<string, Promise<Entry | Problem | null>>} */
  #read = new Map();
  /** @type {Map<string, { at: number, refs: Promise<import("/sdk.js").Refs | null> }>} */
  #refs = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #is_queued = false;
  #window = WINDOW;
  /** Notices of the inbox. @type {NoticeEntry[]} */
  #inbox = [];
  /** What those call themselves who sent them. @type {Map<string, string>} */
  #callers = new Map();

  /** @param {Bus} bus */
  constructor(bus) {
    this.bus = bus;
    this.me = bus.space;
    for (const part of ["follows", "mutes", "blocks", "seen"]) this.#keep(part, bus.at(`/chirp/${part}`).watch());
    this.#join({ space: this.me, name: bus.my_name, petname: null, state: "live", is_followed: true });
    bus.onchange(() => this.#changed());
    void this.#refresh();
    setInterval(() => void this.#refresh(), REFRESH_MS);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && void this.#refresh());
  }

  /** @param {() => void} listener */
  onchange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed() {
    if (this.#is_queued) return;
    this.#is_queued = true;
    requestAnimationFrame(() => {
      this.#is_queued = false;
      for (const listener of this.#listeners) listener();
    });
  }

  /** @param {string} name @param {Store} store */
  #keep(name, store) {
    store.subscribe((reading) => {
      this.#values.set(name, reading);
      this.#changed();
    });
  }

  /** @param {string} part @returns {Record<string, any>} */
  #own(part) {
    const value = this.#values.get(part)?.value;
    return typeof value === "object" && value !== null ? value : {};
  }

  async #refresh() {
    try {
      for (const person of await this.bus.people()) this.#join(person);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
    for (const key of Object.keys(this.#own("follows")))
      if (!this.people.has(key))
        this.#join({ space: key, name: "", petname: null, state: "unknown", is_followed: false });
    await this.#readInbox();
    this.#changed();
  }

  /** @param {import("/sdk.js").Person} person */
  #join(person) {
    const key = person.space;
    this.people.set(key, {
      key,
      name: person.name,
      petname: person.petname,
      state: person.state,
      is_here: person.is_followed,
    });
    if (this.#stores.has(key) || this.#stores.size >= WATCHED_MAX) return;
    const space = this.bus.peer(key);
    const stores = {
      posts: space.at("/chirp/posts").watch({ last: this.#window }),
      likes: space.at("/chirp/likes").watch({ last: LIKES }),
      profile: space.at("/profile").watch(),
    };
    this.#stores.set(key, stores);
    Object.values(stores).forEach((store) => store.subscribe(() => this.#changed()));
  }

  /** Shows twice as much of the past. */
  older() {
    this.#window *= 2;
    for (const [key, stores] of this.#stores) {
      const old = stores.posts;
      stores.posts = this.bus.peer(key).at("/chirp/posts").watch({ last: this.#window });
      stores.posts.subscribe(() => this.#changed());
      void stores.posts.ready().then(() => old.close());
    }
  }

  /** Whether somebody has more posts than are shown. */
  get has_older() {
    return [...this.#stores.values()].some(({ posts }) => Object.keys(posts.value ?? {}).length >= this.#window);
  }

  /** Whether everything that is here was read. */
  get is_ready() {
    return this.#stores.get(this.me)?.posts.current.state !== "loading";
  }

  // People

  /** @param {string} key @returns {Profile} */
  profile(key) {
    const value = this.#stores.get(key)?.profile.value;
    return typeof value === "object" && value !== null ? value : {};
  }

  /** What somebody is called in front of people. @param {string} key */
  nameOf(key) {
    const { name } = this.profile(key);
    const own = typeof name === "string" ? name.trim().slice(0, 60) : "";
    return own || (this.people.has(key) ? "" : (this.#callers.get(key) ?? "")) || this.handleOf(key);
  }

  /** What nobody else can be called here: the owner's own name for him, else the name of his key. @param {string} key */
  handleOf(key) {
    const person = this.people.get(key);
    return person?.petname || person?.name || `${key.slice(0, 8)}…`;
  }

  /** @param {string} handle @returns {string | null} */
  keyOf(handle) {
    const wanted = handle.toLowerCase();
    for (const { key } of this.people.values()) if (this.handleOf(key).toLowerCase() === wanted) return key;
    return null;
  }

  /** @param {string} key */
  follows(key) {
    return Object.hasOwn(this.#own("follows"), key);
  }

  /** @param {string} key */
  isMuted(key) {
    return Object.hasOwn(this.#own("mutes"), key) || Object.hasOwn(this.#own("blocks"), key);
  }

  /** @param {string} key */
  isBlocked(key) {
    return Object.hasOwn(this.#own("blocks"), key);
  }

  /** Whom I follow. Who follows nobody yet sees everybody he knows. */
  get following() {
    const chosen = Object.keys(this.#own("follows"));
    return chosen.length > 0 ? chosen : [...this.people.keys()].filter((key) => key !== this.me);
  }

  get follows_nobody() {
    return Object.keys(this.#own("follows")).length === 0;
  }

  /** @param {string} key @param {boolean} on */
  setFollow(key, on) {
    const place = this.bus.at(`/chirp/follows/${key}`);
    const notice = { kind: "follow", target: `/@${key}/profile`, source: place.pointer };
    if (on) {
      // The first choice ends "everybody", which the others were part of.
      const write = place.put({ kind: notice.kind, target: notice.target, at: Date.now() });
      void this.bus.follow(key).catch(() => {});
      this.#tell(key, notice);
      return write;
    }
    this.#tell(key, notice, true);
    return place.delete();
  }

  /** @param {"mutes" | "blocks"} list @param {string} key @param {boolean} on */
  setList(list, key, on) {
    const place = this.bus.at(`/chirp/${list}/${key}`);
    return on ? place.put({ at: Date.now() }) : place.delete();
  }

  /** @param {Profile} profile */
  setProfile(profile) {
    return this.bus.at("/profile").patch(profile);
  }

  // Posts

  /** @param {string} key @param {string} id @param {any} post @param {boolean} [is_pending] @returns {Entry} */
  #entry(key, id, post, is_pending = false) {
    const made_ms = timeOfName(id);
    // Nobody posts from the future; a clock that is wrong puts nobody on top for good.
    const at_ms = Number.isFinite(made_ms) ? Math.min(made_ms, Date.now()) : 0;
    return { pointer: `/@${key}/chirp/posts/${id}`, author: key, id, at_ms, post, is_pending };
  }

  /** Posts out of what somebody wrote; what is none is left out. @param {string} key @param {any} value @returns {Entry[]} */
  #entries(key, value) {
    if (typeof value !== "object" || value === null) return [];
    return Object.entries(value).flatMap(([id, raw]) => {
      const post = this.#parsed(raw);
      return post ? [this.#entry(key, id, post, key === this.me && this.#isPending(id))] : [];
    });
  }

  /** Values stay the same object until they change, so each is looked at once. @type {WeakMap<object, Post | null>} */
  #posts = new WeakMap();

  /** @param {any} raw */
  #parsed(raw) {
    if (typeof raw !== "object" || raw === null) return null;
    let post = this.#posts.get(raw);
    if (post === undefined) this.#posts.set(raw, (post = postOf(raw)));
    return post;
  }

  /** What of somebody is here, newest last. @param {string} key @returns {Entry[]} */
  postsOf(key) {
    const reading = this.#stores.get(key)?.posts.current;
    return this.#entries(key, reading?.value);
  }

  /** @param {string} id */
  #isPending(id) {
    return this.bus.waiting > 0 && this.pending.has(`/@${this.me}/chirp/posts/${id}`);
  }

  /** Posts of this page that are not on disk. @type {Set<string>} */
  pending = new Set();

  /** The newest posts of those I follow, and mine, newest first. @returns {Entry[]} */
  home() {
    const keys = new Set([this.me, ...this.following]);
    /** @type {Map<string, Entry>} */
    const found = new Map();
    for (const key of keys) {
      if (this.isMuted(key)) continue;
      for (const entry of this.postsOf(key)) {
        // An answer belongs to its thread, unless it is among people I follow.
        const to = entry.post.reply && partsOfPointer(entry.post.reply.to);
        if (to && !keys.has(to.key)) continue;
        // What several repost is shown once.
        const shown = entry.post.repost ?? entry.pointer;
        const other = found.get(shown);
        if (!other || (entry.post.repost && other.post.repost && entry.at_ms < other.at_ms) || !entry.post.repost)
          found.set(shown, entry);
      }
    }
    return [...found.values()].sort(newestFirst);
  }

  /** A post, from what is here or from whoever has it. @param {string} pointer @returns {Promise<Entry | Problem | null>} null if there is none */
  read(pointer) {
    const parts = partsOfPointer(pointer);
    if (!parts) return Promise.resolve(null);
    const known = this.known(pointer);
    if (known) return Promise.resolve(known);
    let reading = this.#read.get(pointer);
    if (!reading) {
      reading = this.bus
        .place(pointer)
        .get()
        .then(({ state, value, problem }) => {
          const post = state === "present" ? this.#parsed(value) : null;
          if (post) return this.#entry(parts.key, parts.id, post);
          if (problem) this.#read.delete(pointer);
          return problem;
        });
      this.#read.set(pointer, reading);
    }
    return reading;
  }

  /** A post that is watched. @param {string} pointer @returns {Entry | null} */
  known(pointer) {
    const parts = partsOfPointer(pointer);
    const raw = parts && this.#stores.get(parts.key)?.posts.value?.[parts.id];
    return (parts && this.#entries(parts.key, { [parts.id]: raw })[0]) ?? null;
  }

  /** What is here that a test holds for, newest first. @param {(entry: Entry) => boolean} test @returns {Entry[]} */
  filter(test) {
    const found = [];
    for (const key of this.people.keys()) if (!this.isMuted(key)) found.push(...this.postsOf(key).filter(test));
    return found.sort(newestFirst);
  }

  /** Answers to a post that are here or that its author was told of. @param {string} pointer @returns {Promise<Entry[]>} */
  async repliesTo(pointer) {
    const here = new Map(this.filter(({ post }) => post.reply?.to === pointer).map((entry) => [entry.pointer, entry]));
    const refs = await this.#refsOf(pointer);
    const told = (refs?.refs ?? []).filter((ref) => ref.kind === "reply").map((ref) => postOfSource(ref.source));
    for (const entry of await Promise.all(
      told.filter((pointer) => !here.has(pointer)).map((pointer) => this.read(pointer)),
    ))
      if (entry && !(entry instanceof Problem) && entry.post.reply?.to === pointer && !this.isMuted(entry.author))
        here.set(entry.pointer, entry);
    return [...here.values()].sort((a, b) => -newestFirst(a, b));
  }

  /**
   * @param {Post} post
   * @returns {import("/sdk.js").Write & { place: import("/sdk.js").Place }}
   */
  publish(post) {
    const write = this.bus.at("/chirp/posts").post(rawOf(post));
    const { pointer } = write.place;
    this.pending.add(pointer);
    void write.done.catch(() => {}).then(() => this.pending.delete(pointer));
    const told = new Set([this.me]);
    /** @param {Kind} kind @param {string | undefined} target @param {string} [at] where in the post it stands */
    const tell = (kind, target, at = kind) => {
      const key = target && /^\/@([a-z0-9]{52})/.exec(target)?.[1];
      if (!key || told.has(key)) return;
      told.add(key);
      this.#said.set(`${pointer}/${at}`, post);
      this.#tell(key, { kind, target, source: `${pointer}/${at}` });
    };
    tell("reply", post.reply?.to);
    tell("quote", post.quote);
    tell("repost", post.repost);
    for (const [at, { key }] of (post.mentions ?? []).entries()) tell("mention", `/@${key}/profile`, `mentions/${at}`);
    return write;
  }

  /** @param {Entry} entry */
  remove(entry) {
    const to = entry.post.reply?.to ?? entry.post.quote ?? entry.post.repost;
    const parts = to && partsOfPointer(to);
    const kind = entry.post.reply ? "reply" : entry.post.quote ? "quote" : "repost";
    if (parts && parts.key !== this.me)
      this.#tell(parts.key, { kind, target: to, source: `${entry.pointer}/${kind}` }, true);
    for (const { id } of entry.post.pictures ?? []) this.bus.at(`/chirp/pictures/${id}`).delete();
    return this.bus.at(`/chirp/posts/${entry.id}`).delete();
  }

  /** Keeps a picture; answers what a post says of it. @param {any} value @param {string} alt */
  addPicture(value, alt) {
    const id = newName();
    this.bus.at(`/chirp/pictures/${id}`).put(value);
    return { id, alt };
  }

  /** My repost of a post, if there is one. @param {string} pointer */
  repostOf(pointer) {
    return this.postsOf(this.me).find(({ post }) => post.repost === pointer) ?? null;
  }

  // Likes

  /** @param {string} pointer */
  likes(pointer) {
    return this.#likedBy(this.me, pointer);
  }

  /** @param {string} key @param {string} pointer */
  #likedBy(key, pointer) {
    const parts = partsOfPointer(pointer);
    const likes = this.#stores.get(key)?.likes.value;
    return Boolean(
      parts && typeof likes === "object" && likes !== null && Object.hasOwn(likes, `${parts.key}.${parts.id}`),
    );
  }

  /** @param {string} pointer @param {boolean} on */
  setLike(pointer, on) {
    const parts = partsOfPointer(pointer);
    if (!parts) throw new TypeError(`${pointer} is no post`);
    const place = this.bus.at(`/chirp/likes/${parts.key}.${parts.id}`);
    this.#tell(parts.key, { kind: "like", target: pointer, source: place.pointer }, !on);
    this.#refs.delete(pointer);
    return on ? place.put({ kind: "like", target: pointer, at: Date.now() }) : place.delete();
  }

  /**
   * Who likes a post, of those whose spaces are here and those of whom the author was told.
   * @param {string} pointer
   * @returns {Set<string>}
   */
  likedBy(pointer) {
    return new Set([...this.people.keys()].filter((key) => this.#likedBy(key, pointer)));
  }

  /**
   * How many like, repost, quote and answer a post, and where that is known from.
   * @param {string} pointer
   * @param {import("/sdk.js").Refs | null} [refs] what {@link Model.refsOf} said
   */
  counts(pointer, refs = null) {
    const of = (/** @type {string} */ kind) =>
      new Set((refs?.refs ?? []).filter((ref) => ref.kind === kind).map((ref) => ref.space));
    const likes = new Set([...this.likedBy(pointer), ...of("like")]);
    // What I take back is gone at once, whoever was told.
    if (!this.likes(pointer)) likes.delete(this.me);
    const reposts = new Set([
      ...this.filter(({ post }) => post.repost === pointer || post.quote === pointer).map(({ author }) => author),
      ...of("repost"),
      ...of("quote"),
    ]);
    const sources = new Set([
      ...(refs?.refs ?? []).filter((ref) => ref.kind === "reply").map((ref) => postOfSource(ref.source)),
      ...this.filter(({ post }) => post.reply?.to === pointer).map((entry) => entry.pointer),
    ]);
    const told = refs ? refs.refs.length : 0;
    const says = refs
      ? `counted from the ${this.#stores.size} spaces on your peer and ${told} notices that it knows of`
      : `counted from the ${this.#stores.size} spaces on your peer`;
    return { likes, reposts: reposts.size, replies: sources.size, says };
  }

  /** Who points at a post, as the peer knows it; null where it cannot say. @param {string} pointer */
  refsOf(pointer) {
    return this.#refsOf(pointer);
  }

  /** @param {string} pointer @returns {Promise<import("/sdk.js").Refs | null>} */
  #refsOf(pointer) {
    const known = this.#refs.get(pointer);
    if (known && Date.now() - known.at < 5000) return known.refs;
    const refs = this.bus.refs(pointer).catch(() => null);
    this.#refs.set(pointer, { at: Date.now(), refs });
    return refs;
  }

  // Notices

  /** Posts that notices are about. @type {Map<string, Post>} */
  #said = new Map();

  /** @param {string} key @param {import("/sdk.js").Notice} notice @param {boolean} [undo] */
  #tell(key, notice, undo = false) {
    if (key === this.me || this.isBlocked(key)) return;
    // Whoever does not have my space sees at least who it was, and what was said.
    const { text } = this.#said.get(notice.source) ?? {};
    notice = {
      ...notice,
      body: { name: this.nameOf(this.me).slice(0, 60), ...(text ? { text: text.slice(0, 280) } : {}) },
    };
    const inbox = this.bus.inbox(key);
    // Whoever cannot be told now finds it when he reads my space; that is no reason to bother me.
    if (undo) inbox.takeBack(notice);
    else inbox.send(notice);
  }

  async #readInbox() {
    const { state, value } = await this.bus.at("/.drop").get();
    if (state !== "present" || typeof value !== "object" || value === null) return;
    /** @type {NoticeEntry[]} */
    const found = [];
    /** @param {any} node @param {string} who */
    const walk = (node, who) => {
      if (typeof node !== "object" || node === null) return;
      if (typeof node.kind === "string" && typeof node.source === "string" && typeof node.target === "string") {
        const key = /^\/@([a-z0-9]{52})/.exec(node.source)?.[1] ?? who;
        if (node.confirmed === false) return;
        const source = postOfSource(node.source);
        const parts = partsOfPointer(source);
        if (typeof node.body?.name === "string" && node.body.name.trim())
          this.#callers.set(key, node.body.name.trim().slice(0, 60));
        found.push({
          text: typeof node.body?.text === "string" ? node.body.text.slice(0, 300) : undefined,
          kind: node.kind,
          who: key,
          source,
          target: node.target,
          at_ms: node.at_ms ?? node.at ?? (parts ? timeOfName(parts.id) : 0),
        });
        return;
      }
      for (const [name, below] of Object.entries(node)) walk(below, /^[a-z0-9]{52}$/.test(name) ? name : who);
    };
    walk(value, "");
    this.#inbox = found;
  }

  /** What concerns me, newest first: from my inbox, and from what is here of others. @returns {NoticeEntry[]} */
  notices() {
    const own = `/@${this.me}/`;
    /** @type {Map<string, NoticeEntry>} */
    const found = new Map();
    /** @param {NoticeEntry} notice */
    const add = (notice) => {
      if (notice.who === this.me || this.isMuted(notice.who)) return;
      const name = `${notice.kind} ${notice.source}`;
      if (!found.get(name)?.post) found.set(name, notice);
    };
    this.#inbox.forEach(add);
    for (const key of this.people.keys()) {
      if (key === this.me) continue;
      for (const { post, pointer, at_ms } of this.postsOf(key)) {
        const about = { who: key, source: pointer, at_ms, post };
        if (post.reply?.to.startsWith(own)) add({ ...about, kind: "reply", target: post.reply.to });
        else if (post.quote?.startsWith(own)) add({ ...about, kind: "quote", target: post.quote });
        else if (post.repost?.startsWith(own)) add({ ...about, kind: "repost", target: post.repost });
        else if (post.mentions?.some((mention) => mention?.key === this.me))
          add({ ...about, kind: "mention", target: pointer });
      }
      const likes = this.#stores.get(key)?.likes.value ?? {};
      for (const [name, like] of Object.entries(likes)) {
        if (!name.startsWith(`${this.me}.`)) continue;
        const id = name.slice(this.me.length + 1);
        add({
          kind: "like",
          who: key,
          source: `/@${key}/chirp/likes/${name}`,
          target: `${own}chirp/posts/${id}`,
          at_ms: Math.min(Number(like?.at) || 0, Date.now()),
        });
      }
    }
    return [...found.values()].sort((a, b) => b.at_ms - a.at_ms);
  }

  /** The newest that was looked at. @param {"home" | "notices"} what @returns {number} Unix milliseconds */
  seen(what) {
    return Number(this.#own("seen")[what]) || 0;
  }

  /** @param {"home" | "notices"} what @param {number} at_ms */
  setSeen(what, at_ms) {
    if (at_ms > this.seen(what) && this.#values.get("seen")?.state !== "loading")
      this.bus.at("/chirp/seen").patch({ [what]: at_ms });
  }

  // Search

  /**
   * Posts that contain all words, from everything that is here.
   * @param {string} words
   * @param {(entry: Entry) => boolean} found answers whether to go on
   * @param {AbortSignal} stop
   */
  async search(words, found, stop) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    if (wanted.length === 0) return;
    const fits = (/** @type {Entry} */ { post }) => {
      const text = (post.text ?? "").toLowerCase();
      return wanted.every((word) => text.includes(word));
    };
    for (const key of this.people.keys()) {
      if (this.isMuted(key)) continue;
      /** @type {string | undefined} */
      let after;
      do {
        const page = await this.bus
          .peer(key)
          .at("/chirp/posts")
          .list({ limit: 500, after, depth: 8 })
          .catch(() => ({ entries: [], next: null }));
        if (stop.aborted) return;
        for (const entry of this.#entries(key, Object.fromEntries(page.entries)))
          if (fits(entry) && !found(entry)) return;
        after = page.next ?? undefined;
      } while (after);
    }
  }
}

/** @param {Entry} a @param {Entry} b */
export const newestFirst = (a, b) => b.at_ms - a.at_ms || (a.pointer < b.pointer ? 1 : -1);

/**
 * A post out of what somebody wrote, who may have written anything.
 * @param {any} raw
 * @returns {Post | null}
 */
export function postOf(raw) {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return null;
  /** @type {Post} */
  const post = {};
  const target = (/** @type {Kind} */ kind) =>
    raw[kind]?.kind === kind && partsOfPointer(raw[kind].target) ? raw[kind].target : undefined;
  if (typeof raw.text === "string") post.text = raw.text;
  const to = target("reply");
  if (to) post.reply = { to, root: partsOfPointer(raw.reply.root) ? raw.reply.root : to };
  post.quote = target("quote");
  post.repost = target("repost");
  if (Array.isArray(raw.pictures))
    post.pictures = raw.pictures.filter((/** @type {any} */ picture) => typeof picture?.id === "string");
  if (typeof raw.mentions === "object" && raw.mentions !== null) {
    post.mentions = Object.values(raw.mentions).flatMap((mention) => {
      const key = /^\/@([a-z0-9]{52})\/profile$/.exec(String(mention?.target))?.[1];
      return key && typeof mention.name === "string" ? [{ key, name: mention.name }] : [];
    });
  }
  return post.text !== undefined || post.repost || (post.pictures?.length ?? 0) > 0 ? post : null;
}

/**
 * What is written for a post.
 * @param {Post} post
 */
function rawOf({ text, mentions, pictures, reply, quote, repost }) {
  const named = (mentions ?? []).map(({ key, name }, at) => [
    at,
    { kind: "mention", target: `/@${key}/profile`, name },
  ]);
  return {
    ...(text === undefined ? {} : { text }),
    ...(named.length > 0 ? { mentions: Object.fromEntries(named) } : {}),
    ...(pictures ? { pictures } : {}),
    ...(reply ? { reply: { kind: "reply", target: reply.to, root: reply.root } } : {}),
    ...(quote ? { quote: { kind: "quote", target: quote } } : {}),
    ...(repost ? { repost: { kind: "repost", target: repost } } : {}),
  };
}
