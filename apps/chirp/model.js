// What chirp knows, and where it is kept. Nothing here draws.
//
//   /profile                  { name, bio, picture }           one for all apps
//   /chirp/posts/<id>         { text, mentions?, pictures?, reply?, quote?, repost? }
//       reply                 { kind: "reply", target, root }  root: the post that began the thread
//       quote, repost         { kind, target }
//       mentions              { 0: { kind: "mention", target: "/@<key>/profile", name }, … }
//       pictures              [{ id, alt }]
//   /chirp/pictures/<id>      a picture, as a file of its media type
//   /chirp/likes/<key>.<id>   { kind: "like", target, at }     what I like, by whose it is
//   /chirp/follows/<key>      { kind: "follow", target: "/@<key>/profile", at }
//   /chirp/mutes/<key>, /chirp/blocks/<key>
//
// A pointer is `/@<key>/chirp/posts/<id>`. An <id> says when the post was made, so posts sort by their names. What I write
// is in my space; whom it concerns gets a notice of a few bytes into his inbox. What has a kind and a target is a reference,
// which peers find by themselves.

import { Glimpse } from "/glimpse.js";
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
/**
 * `state` is that of the write, for posts of this page.
 * @typedef {{ pointer: string, author: string, id: string, at_ms: number, post: Post, state: import("/sdk.js").Write["state"] | null }} Entry
 */
/** @typedef {"like" | "reply" | "mention" | "follow" | "repost" | "quote"} Kind */
/** @typedef {{ kind: Kind, who: string, source: string, target: string, at_ms: number, post?: Post, text?: string }} NoticeEntry */

/** Posts of everybody that are shown first. */
const WINDOW = 40;
/** People whose posts are watched: a page may watch 1 024 places. Of the others it looks at them again each minute. */
const WATCHED_MAX = 400;
const LOOK_AGAIN_MS = 60_000;
/** Authors whose posts are asked for at once: the peer has few cores. */
const ASKED_AT_ONCE = 3;
/** Posts of one author that a search shows at most, the newest. */
const FOUND_MAX = 100;
/** Words of a search, as many as the peer takes. */
const SEARCHED_WORDS_MAX = 16;

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
  /** @type {Map<string, { posts: Store | Glimpse, profile: Store | Glimpse }>} */
  #stores = new Map();
  /** Who is not watched. @type {Set<string>} */
  #unwatched = new Set();
  /** @type {Map<string, any>} */
  #values = new Map();
  /** Posts that were read one by one. @type {Map<string, Promise<Entry | Problem | null>>} */
  #read = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #is_queued = false;
  /** How much of the past of somebody is shown, where that is more than usual. @type {Map<string, number>} */
  #windows = new Map();
  /** Notices of the inbox. @type {NoticeEntry[]} */
  #inbox = [];
  /** What those call themselves who sent them. @type {Map<string, string>} */
  #callers = new Map();

  /** @param {Bus} bus @param {{ watched_max?: number }} [how] */
  constructor(bus, { watched_max = WATCHED_MAX } = {}) {
    this.bus = bus;
    this.watched_max = watched_max;
    this.me = bus.space;
    for (const part of ["follows", "mutes", "blocks", "likes"])
      this.#keep(part, bus.at(`/chirp/${part}`).watch());
    this.#join({ space: this.me, name: bus.my_name, petname: null, state: "live", is_followed: true });
    this.#keep("lists", bus.watchLists());
    bus.onchange(() => this.#changed());
    bus.watchPeople().subscribe(({ value }) => {
      // A community is nobody who posts.
      for (const person of value?.spaces ?? []) if (!person.is_community) this.#join(person);
      this.#changed();
    });
    bus.at("/.drop").watch().subscribe(({ value }) => {
      this.#inbox = this.#noticesIn(value);
      this.#changed();
    });
    // How long ago something was is said anew.
    setInterval(() => this.#changed(), 30_000);
    setInterval(() => void this.#lookAgain([...this.#unwatched]), LOOK_AGAIN_MS);
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
      // Whom I follow may not be here yet.
      if (name === "follows")
        for (const key of Object.keys(reading.value ?? {}))
          if (/^[a-z0-9]{52}$/.test(key) && !this.people.has(key))
            this.#join({ space: key, name: "", petname: null, state: "unknown", is_followed: false });
      this.#changed();
    });
  }

  /** @param {string} part @returns {Record<string, any>} */
  #own(part) {
    const value = this.#values.get(part)?.value;
    return typeof value === "object" && value !== null ? value : {};
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
    if (this.#stores.has(key)) return;
    const space = this.bus.peer(key);
    const is_watched = this.#stores.size < this.watched_max;
    const stores = is_watched
      ? { posts: space.at("/chirp/posts").watch({ last: WINDOW }), profile: space.at("/profile").watch() }
      : {
          posts: new Glimpse(() => this.#newest(key)),
          profile: new Glimpse(async () => (await space.at("/profile").get()).value),
        };
    this.#stores.set(key, stores);
    Object.values(stores).forEach((store) => store.subscribe(() => this.#changed()));
    if (is_watched) return;
    if (this.#unwatched.size === 0) setTimeout(() => void this.#lookAgain([...this.#unwatched]), 0);
    this.#unwatched.add(key);
  }

  /** The newest posts of somebody, as they are written. @param {string} key */
  async #newest(key) {
    const { entries } = await this.bus.peer(key).at("/chirp/posts").list({ last: WINDOW, depth: 8 });
    return Object.fromEntries(entries);
  }

  /** Looks at what those wrote who are not watched. @param {string[]} keys */
  async #lookAgain(keys) {
    await eachOf(keys, async (key) => {
      const stores = this.#stores.get(key);
      for (const store of stores ? [stores.posts, stores.profile] : []) if (store instanceof Glimpse) await store.look();
    });
  }

  /** Shows twice as much of the past of whoever has more of it. @param {Iterable<string>} keys */
  older(keys) {
    for (const key of keys) {
      const stores = this.#stores.get(key);
      if (!stores || !this.hasOlder([key]) || this.#growing.has(key)) continue;
      const window = 2 * (this.#windows.get(key) ?? WINDOW);
      this.#windows.set(key, window);
      const posts = this.bus.peer(key).at("/chirp/posts").watch({ last: window });
      this.#growing.add(key);
      void posts.ready().then(() => {
        // What is shown stays until there is more.
        stores.posts.close();
        stores.posts = posts;
        this.#growing.delete(key);
        posts.subscribe(() => this.#changed());
      });
    }
  }

  /** Whose older posts are being read. @type {Set<string>} */
  #growing = new Set();

  /** Whether somebody has more posts than are shown. @param {Iterable<string>} keys */
  hasOlder(keys) {
    return [...keys].some((key) => {
      const count = Object.keys(this.#stores.get(key)?.posts.value ?? {}).length;
      return count >= (this.#windows.get(key) ?? WINDOW);
    });
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
    return this.isMutedHere(key) || this.isMutedEverywhere(key);
  }

  /** Whether that was said in this app. @param {string} key */
  isMutedHere(key) {
    return Object.hasOwn(this.#own("mutes"), key) || Object.hasOwn(this.#own("blocks"), key);
  }

  /** Whether the owner does not want to hear somebody in any app. @param {string} key */
  isMutedEverywhere(key) {
    const { muted = [], blocked = [] } = this.#own("lists");
    return [...muted, ...blocked].some((/** @type {{ who: string }} */ one) => one.who === key);
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

  /** @param {string} key @param {string} id @param {any} post @returns {Entry} */
  #entry(key, id, post) {
    const made_ms = timeOfName(id);
    // Nobody posts from the future; a clock that is wrong puts nobody on top for good.
    const at_ms = Number.isFinite(made_ms) ? Math.min(made_ms, Date.now()) : 0;
    const pointer = `/@${key}/chirp/posts/${id}`;
    return { pointer, author: key, id, at_ms, post, state: this.#writes.get(pointer)?.state ?? null };
  }

  /** Posts out of what somebody wrote; what is none is left out. @param {string} key @param {any} value @returns {Entry[]} */
  #entries(key, value) {
    if (typeof value !== "object" || value === null) return [];
    return Object.entries(value).flatMap(([id, raw]) => {
      const post = this.#parsed(raw);
      return post ? [this.#entry(key, id, post)] : [];
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

  /** What was made of the posts of somebody, and of what. @type {Map<string, { value: any, writes: number, entries: Entry[] }>} */
  #made = new Map();

  /** What of somebody is here, newest last. The same until something changes. @param {string} key @returns {Entry[]} */
  postsOf(key) {
    const value = this.#stores.get(key)?.posts.value;
    // How a post fares concerns those of this page alone.
    const writes = key === this.me ? this.#steps : 0;
    let made = this.#made.get(key);
    if (made?.value !== value || made?.writes !== writes) {
      made = { value, writes, entries: this.#entries(key, value) };
      this.#made.set(key, made);
    }
    return made?.entries ?? [];
  }

  /** @type {{ entries: Entry[], reposts: Map<string, Entry>, answers: Map<string, string[]> }} */
  #own_posts = { entries: [], reposts: new Map(), answers: new Map() };

  /** My posts by what they repost and answer. */
  get #mine() {
    const entries = this.postsOf(this.me);
    if (this.#own_posts.entries !== entries) {
      const reposts = new Map();
      const answers = new Map();
      for (const entry of entries) {
        const { reply, repost } = entry.post;
        if (repost) reposts.set(repost, entry);
        if (reply) answers.set(reply.to, [...(answers.get(reply.to) ?? []), entry.pointer]);
      }
      this.#own_posts = { entries, reposts, answers };
    }
    return this.#own_posts;
  }

  /** Posts that this page wrote. @type {Map<string, import("/sdk.js").Write>} */
  #writes = new Map();
  /** How often one of them came a step further. */
  #steps = 0;

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

  /**
   * Answers to a post: those that are here, and those that are pointed at it from elsewhere.
   * @param {string} pointer
   * @param {import("/sdk.js").Refs | null} refs what {@link Model.refs} says
   * @returns {Promise<Entry[]>}
   */
  async repliesTo(pointer, refs) {
    const here = new Map(this.filter(({ post }) => post.reply?.to === pointer).map((entry) => [entry.pointer, entry]));
    const told = this.#pointing(refs, "reply").map((ref) => postOfSource(ref.source));
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
    this.#writes.set(pointer, write);
    write.subscribe(() => {
      this.#steps += 1;
      this.#changed();
    });
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

  /** Keeps a picture; answers what a post says of it. @param {Blob} file @param {string} alt */
  addPicture(file, alt) {
    const id = newName();
    this.bus.at(`/chirp/pictures/${id}`).putFile(file);
    return { id, alt };
  }

  /** My repost of a post, if there is one. @param {string} pointer */
  repostOf(pointer) {
    return this.#mine.reposts.get(pointer) ?? null;
  }

  // Likes, and what else points at a post

  /** Whether I like a post. @param {string} pointer */
  likes(pointer) {
    const parts = partsOfPointer(pointer);
    return Boolean(parts && Object.hasOwn(this.#own("likes"), `${parts.key}.${parts.id}`));
  }

  /** @param {string} pointer @param {boolean} on */
  setLike(pointer, on) {
    const parts = partsOfPointer(pointer);
    if (!parts) throw new TypeError(`${pointer} is no post`);
    const place = this.bus.at(`/chirp/likes/${parts.key}.${parts.id}`);
    const write = on ? place.put({ kind: "like", target: pointer, at: Date.now() }) : place.delete();
    this.#tell(parts.key, { kind: "like", target: pointer, source: place.pointer }, !on);
    return write;
  }

  /** Who points at a post, from now on. @param {string} pointer @param {{ kind?: string, limit?: number }} [which] */
  refs(pointer, which = { limit: 200 }) {
    return this.bus.watchRefs(pointer, which);
  }

  /** @param {import("/sdk.js").Refs | null} refs @param {string} kind */
  #pointing(refs, kind) {
    return (refs?.refs ?? []).filter((ref) => ref.kind === kind && !this.isBlocked(ref.space));
  }

  /**
   * How many like, repost, quote and answer a post, who does, and where that is known from.
   * @param {string} pointer
   * @param {import("/sdk.js").Refs | null} refs what {@link Model.refs} says; null while that is not known
   */
  counts(pointer, refs) {
    const who = (/** @type {string[]} */ ...kinds) =>
      new Set(kinds.flatMap((kind) => this.#pointing(refs, kind)).map((ref) => ref.space));
    const likes = who("like");
    // What I do and take back counts at once.
    if (this.likes(pointer)) likes.add(this.me);
    else likes.delete(this.me);
    const reposts = who("repost", "quote");
    if (this.repostOf(pointer)) reposts.add(this.me);
    const answers = new Set(this.#pointing(refs, "reply").map((ref) => postOfSource(ref.source)));
    for (const own of this.#mine.answers.get(pointer) ?? []) answers.add(own);
    return { likes, reposts: reposts.size, replies: answers.size, says: this.#sources(refs) };
  }

  /** Who follows somebody, of those who point at the profile. @param {import("/sdk.js").Refs} refs */
  followersIn(refs) {
    return new Set(this.#pointing(refs, "follow").map((ref) => ref.space));
  }

  /** Where counts come from, in words. @param {import("/sdk.js").Refs | null} refs */
  #sources(refs) {
    if (!refs) return "not counted yet";
    const all = refs.refs.filter(({ space }) => !this.isBlocked(space));
    const seen = all.filter(({ from }) => from.includes("followed"));
    const checked = all.filter(({ from, confirmed }) => !from.includes("followed") && confirmed);
    const told = all.filter(({ from, confirmed }) => !confirmed && from.includes("inbox"));
    const index = all.filter(({ from, confirmed }) => !confirmed && !from.includes("inbox"));
    const words = [
      seen.length > 0 ? `${seen.length} seen in the spaces on your peer` : "",
      checked.length > 0 ? `${checked.length} by notices that were checked` : "",
      told.length > 0 ? `${told.length} by notices of people whose space is not here` : "",
      index.length > 0 ? `${index.length} by an index that you chose` : "",
    ].filter(Boolean);
    return words.length > 0 ? `Known from: ${words.join(", ")}` : "nobody that your peer knows of";
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

  /** What an inbox holds, whatever somebody put there. @param {any} value */
  #noticesIn(value) {
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
    return found;
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
    }
    return [...found.values()].sort((a, b) => b.at_ms - a.at_ms);
  }

  /**
   * The newest that was looked at. That is kept in this browser: what is below /chirp all my readers see.
   * @param {"home" | "notices"} what
   * @returns {number} Unix milliseconds
   */
  seen(what) {
    return Number(localStorage.getItem(`chirp:seen:${what}`)) || 0;
  }

  /** @param {"home" | "notices"} what @param {number} at_ms */
  setSeen(what, at_ms) {
    if (at_ms <= this.seen(what)) return;
    localStorage.setItem(`chirp:seen:${what}`, String(at_ms));
    this.#changed();
  }

  // Search

  /**
   * Posts that contain all words, from everything that is here: what is watched at once, then the newest of each author as
   * the peer finds them.
   * @param {string} words
   * @param {(entry: Entry) => void} found
   * @param {AbortSignal} stop
   * @returns {Promise<boolean>} whether there are older ones
   */
  async search(words, found, stop) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean).slice(0, SEARCHED_WORDS_MAX);
    if (wanted.length === 0) return false;
    const told = new Set();
    const tell = (/** @type {Entry} */ entry) => {
      const text = (entry.post.text ?? "").toLowerCase();
      if (told.has(entry.pointer) || !wanted.every((word) => text.includes(word))) return;
      told.add(entry.pointer);
      found(entry);
    };
    const keys = [...this.people.keys()].filter((key) => !this.isMuted(key));
    for (const key of keys) this.postsOf(key).forEach(tell);
    let is_cut = false;
    /** @param {string} key */
    const search = async (key) => {
      /** @type {string | undefined} */
      let before;
      let count = 0;
      do {
        const page = await this.bus
          .peer(key)
          .at("/chirp/posts")
          .list({ last: FOUND_MAX, before, depth: 8, match: wanted.map((word) => word.slice(0, 80)).join(" ") })
          .catch(() => ({ entries: [], next: null }));
        if (stop.aborted) return;
        this.#entries(key, Object.fromEntries(page.entries)).forEach(tell);
        count += page.entries.length;
        before = page.next ?? undefined;
      } while (before && count < FOUND_MAX);
      is_cut ||= before !== undefined;
    };
    await eachOf(keys, async (key) => (stop.aborted ? undefined : search(key)));
    return is_cut;
  }
}

/** Does something for all keys, for few of them at a time. @param {string[]} keys @param {(key: string) => Promise<void>} act */
async function eachOf(keys, act) {
  const left = keys.values();
  const acts = Array.from({ length: ASKED_AT_ONCE }, async () => {
    for (const key of left) await act(key);
  });
  await Promise.all(acts);
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
