// Draws posts: in a feed, in a thread, inside of another one.

import { Problem, pictureOf } from "/sdk.js";
import { ago, h, icon, plural, toast } from "/dom.js";
import { partsOf } from "/text.js";
import { partsOfPointer } from "/model.js";

/** @typedef {import("/model.js").Entry} Entry */
/** @typedef {import("/model.js").Model} Model */

/** More of a text than this is drawn when somebody asks: a post has 280 characters, and what has more was made by no chirp. */
const SHOWN_CHARS = 2000;
/** More is never drawn. */
const SHOWN_CHARS_MAX = 100_000;

/** @param {string} key */
export const profileHref = (key) => `#/@${key}`;
/** @param {string} pointer */
export function postHref(pointer) {
  const parts = partsOfPointer(pointer);
  return parts ? `#/@${parts.key}/post/${parts.id}` : "#/";
}

/**
 * Somebody's picture, or a letter on a colour that is always the same.
 * @param {Model} model
 * @param {string} key
 * @param {string} [size]
 */
export function avatar(model, key, size = "") {
  const url = pictureOf(model.profile(key).picture);
  if (url) return h("img", { class: `avatar ${size}`, src: url, alt: "" });
  const letter = [...model.nameOf(key)][0] ?? "?";
  const hue = [...key.slice(0, 6)].reduce((sum, letter) => (sum * 33 + letter.charCodeAt(0)) % 360, 7);
  const element = h("span", { class: `avatar letter ${size}`, "aria-hidden": "true" }, letter.toUpperCase());
  element.style.setProperty("--hue", String(hue));
  return element;
}

/**
 * @param {Entry["post"]} post
 * @param {boolean} [is_whole]
 */
export function textOf(post, is_whole = false) {
  const text = (post.text ?? "").slice(0, is_whole ? SHOWN_CHARS_MAX : SHOWN_CHARS);
  const mentions = (post.mentions ?? [])
    .filter((mention) => typeof mention?.name === "string" && /^[a-z0-9]{52}$/.test(mention?.key))
    .slice(0, 20);
  const parts = partsOf(
    text,
    mentions.map(({ name }) => name),
  ).map(({ kind, text }) => {
    if (kind === "text") return text;
    if (kind === "hashtag") return h("a", { href: `#/search/${encodeURIComponent(`#${text}`)}` }, `#${text}`);
    if (kind === "mention")
      return h("a", { href: profileHref(mentions.find(({ name }) => name === text)?.key ?? "") }, `@${text}`);
    const href = /^https?:\/\//i.test(text) ? text : `https://${text}`;
    return h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text.replace(/^https?:\/\//i, ""));
  });
  return h("p", { class: "text", dir: "auto" }, parts);
}

/** @param {Model} model @param {string} key */
function nameLine(model, key, /** @type {any} */ ...more) {
  return h(
    "span",
    { class: "who" },
    h("a", { class: "name", href: profileHref(key), dir: "auto" }, model.nameOf(key)),
    model.handleOf(key) === model.nameOf(key)
      ? null
      : h("span", { class: "handle", title: key }, `@${model.handleOf(key)}`),
    ...more,
  );
}

/** What to do when something comes near to what is seen, or leaves. @type {WeakMap<Element, (is_near: boolean) => void>} */
const waiting = new WeakMap();
const sight = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) waiting.get(target)?.(isIntersecting);
  },
  { rootMargin: "400px" },
);
/** @param {Element} element @param {(is_near: boolean) => void} run */
function whenNear(element, run) {
  waiting.set(element, run);
  sight.observe(element);
}
/** @type {Map<string, Promise<string>>} */
const urls = new Map();
/** How often a picture is asked for that nobody has. */
const PICTURE_TRIES = 6;

/** A picture as an address that an image can show; empty if it is none. @param {import("/sdk.js").Place} place */
async function pictureAt(place) {
  // Those of earlier versions are values.
  const { value } = await place.get();
  const is_file = value instanceof Blob && /^image\/(png|jpeg|gif|webp|avif)$/.test(value.type);
  return is_file ? URL.createObjectURL(value) : (pictureOf(value) ?? "");
}

/** @param {Model} model @param {Entry} entry */
function pictures(model, entry) {
  const all = (entry.post.pictures ?? [])
    .filter((picture) => typeof picture?.id === "string" && !picture.id.includes("/"))
    .slice(0, 4);
  if (all.length === 0) return null;
  return h(
    "div",
    { class: `pictures of-${all.length}` },
    all.map(({ id, alt }) => {
      const image = h("img", { alt: typeof alt === "string" ? alt : "", class: "loading" });
      const place = model.bus.peer(entry.author).at(`/chirp/pictures/${id}`);
      let tries = 0;
      const load = async () => {
        if (image.src || !image.isConnected) return;
        let url = urls.get(place.pointer);
        if (!url) urls.set(place.pointer, (url = place.isOnItsWay ? place.url() : pictureAt(place)));
        image.src = await url.catch(() => "");
        image.classList.toggle("loading", !image.getAttribute("src"));
        if (image.getAttribute("src")) return;
        image.removeAttribute("src");
        // Whoever has it may be there later.
        urls.delete(place.pointer);
        tries += 1;
        if (tries < PICTURE_TRIES) setTimeout(() => void load(), 2000 * tries);
      };
      whenNear(image, (is_near) => is_near && void load());
      return image;
    }),
  );
}

/**
 * A post that another one quotes or answers, in short.
 * @param {Model} model
 * @param {string} pointer
 * @param {string} [told] what its author said of it, for when it cannot be read
 */
export function embedded(model, pointer, told) {
  const place = h("a", { class: "embedded quiet", href: postHref(pointer) }, "…");
  void model.read(pointer).then((entry) => {
    if (entry && !(entry instanceof Problem)) {
      place.classList.remove("quiet");
      place.replaceChildren(
        h(
          "span",
          { class: "who" },
          avatar(model, entry.author, "tiny"),
          h("strong", {}, model.nameOf(entry.author)),
          h("span", { class: "handle" }, ago(entry.at_ms)),
        ),
        h("span", { class: "text", dir: "auto" }, (entry.post.text ?? "").slice(0, 300)),
      );
    } else place.textContent = told || missing(model, pointer, entry);
  });
  return place;
}

/**
 * Why a post cannot be shown, in plain words.
 * @param {Model} model
 * @param {string} pointer
 * @param {Problem | null} problem
 */
export function missing(model, pointer, problem) {
  const key = partsOfPointer(pointer)?.key;
  const who = key ? model.nameOf(key) : "somebody";
  if (!problem) return `A post of ${who} that was deleted.`;
  if (problem.status === 403 || problem.status === 401) return `A post of ${who}, who does not share with you.`;
  return `A post of ${who} that is not here, and nobody who has it can be reached now.`;
}

/**
 * Something that opens below a button.
 * @param {string} label
 * @param {any} content
 * @param {() => ([string, () => void] | null)[]} items
 */
export function menu(label, content, items) {
  const list = h("div", { class: "menu", role: "menu", popover: "auto" });
  const button = h(
    "button",
    { type: "button", class: "quiet action", "aria-label": label, "aria-haspopup": "menu" },
    content,
  );
  button.addEventListener("click", () => {
    if (list.matches(":popover-open")) return list.hidePopover();
    const made = items().filter((item) => item !== null);
    list.replaceChildren(
      ...made.map(([words, run]) =>
        h(
          "button",
          {
            type: "button",
            role: "menuitem",
            onclick: () => {
              list.hidePopover();
              run();
            },
          },
          words,
        ),
      ),
    );
    list.showPopover();
    const box = button.getBoundingClientRect();
    list.style.left = `${Math.max(8, Math.min(box.left, innerWidth - list.offsetWidth - 8))}px`;
    list.style.top = `${Math.min(box.bottom + 4, innerHeight - list.offsetHeight - 8)}px`;
    /** @type {HTMLElement | null} */ (list.firstElementChild)?.focus();
  });
  return h("span", { class: "menu-place" }, button, list);
}

/**
 * What can be done about somebody.
 * @param {Model} model
 * @param {string} key
 * @returns {[string, () => void][]}
 */
export function aboutPerson(model, key) {
  const name = model.nameOf(key);
  const put = (/** @type {"mutes" | "blocks"} */ list, /** @type {string} */ words) => {
    follow(model.setList(list, key, true));
    toast(`${name} is ${words}; the profile undoes it.`);
  };
  const is_followed = model.follows(key);
  return [
    [is_followed ? `Unfollow ${name}` : `Follow ${name}`, () => follow(model.setFollow(key, !is_followed))],
    [`Mute ${name}`, () => put("mutes", "muted")],
    [`Block ${name}`, () => put("blocks", "blocked")],
  ];
}

/** What becomes of a post that was just written. @type {Record<string, ["clock" | "check" | "checks", string]>} */
const STATES = {
  local: ["clock", "not saved yet: your peer does not answer"],
  durable: ["check", "saved on your peer; nobody else has it yet"],
  synced: ["checks", "saved, and on somebody else's peer, too"],
};

/**
 * A post in a list. What changes often is drawn again by {@link PostView.update}.
 */
export class PostView {
  /** Who points at this, while it is near. @type {import("/sdk.js").Store | null} */
  #refs = null;
  /** What was last known of that. @type {import("/sdk.js").Refs | null} */
  #known = null;

  /**
   * @param {Model} model
   * @param {Entry} entry
   * @param {{ compose: (how: { reply?: Entry, quote?: Entry }) => void, is_main?: boolean, why?: any }} how
   */
  constructor(model, entry, how) {
    this.model = model;
    this.how = how;
    this.shown = entry;
    this.element = h("article", { class: how.is_main ? "post main" : "post", tabIndex: -1 });
    this.actions = h("div", { class: "actions" });
    this.drawn = "";
    this.update(entry);
    this.element.addEventListener("click", (event) => this.#open(event));
    whenNear(this.element, (is_near) => this.#watch(is_near));
  }

  /** @param {MouseEvent} event */
  #open(event) {
    const target = /** @type {Element} */ (event.target);
    if (this.how.is_main || target.closest("a, button, img, input, .menu") || String(getSelection()) !== "") return;
    location.hash = postHref(this.pointer);
  }

  /** The post that is shown: of a repost, the one that it points at. */
  get pointer() {
    return this.shown.post.repost ?? this.shown.pointer;
  }

  /** Hears who points at this for as long as it is near to what is seen. @param {boolean} is_near */
  #watch(is_near) {
    if (is_near === (this.#refs !== null)) return;
    if (!is_near) {
      this.#refs?.close();
      this.#refs = null;
      return;
    }
    this.#refs = this.model.refs(this.pointer);
    this.#refs.subscribe(({ value }) => {
      if (!value) return;
      this.#known = value;
      this.#drawActions();
    });
  }

  /** @param {Entry} entry */
  update(entry) {
    this.shown = entry;
    const { model } = this;
    const key = JSON.stringify([
      entry.pointer,
      entry.post.text,
      entry.state,
      model.nameOf(entry.author),
      ago(entry.at_ms),
      model.profile(entry.author).picture?.["@bytes"]?.length,
    ]);
    if (key !== this.drawn) {
      this.drawn = key;
      if (entry.post.repost) void this.#drawRepost(entry);
      else this.#draw(entry, null);
    }
    this.#drawActions();
  }

  /** @param {Entry} entry */
  async #drawRepost(entry) {
    const { model } = this;
    const pointer = entry.post.repost ?? "";
    const by = h(
      "p",
      { class: "by" },
      icon("repost"),
      h("a", { href: profileHref(entry.author) }, model.nameOf(entry.author)),
      " reposted",
    );
    const original = model.known(pointer) ?? (await model.read(pointer));
    if (original && !(original instanceof Problem)) this.#draw(original, by);
    else this.element.replaceChildren(by, h("p", { class: "quiet" }, missing(model, pointer, original)));
    this.original = original instanceof Problem ? null : original;
    this.#drawActions();
  }

  /** @param {Entry} entry @param {any} by */
  #draw(entry, by) {
    const { model } = this;
    const { post } = entry;
    const time = h(
      "a",
      { class: "time", href: postHref(entry.pointer), title: new Date(entry.at_ms).toLocaleString() },
      ago(entry.at_ms),
    );
    const [mark, words] = STATES[entry.state ?? "old"] ?? [];
    const sending =
      mark && words ? h("span", { class: "sending", title: words }, icon(mark), h("span", { class: "hidden" }, words)) : null;
    const answers = post.reply && !this.how.is_main ? partsOfPointer(post.reply.to) : null;
    this.element.setAttribute("aria-label", `${model.nameOf(entry.author)}: ${(post.text ?? "").slice(0, 80)}`);
    this.element.dataset.pointer = entry.pointer;
    this.element.replaceChildren(
      ...[
        by ?? this.how.why ?? null,
        h(
          "div",
          { class: "body" },
          h(
            "a",
            { href: profileHref(entry.author), class: "face", tabIndex: -1, "aria-hidden": "true" },
            avatar(model, entry.author),
          ),
          h(
            "div",
            { class: "content" },
            h("header", {}, nameLine(model, entry.author), time, sending, this.#more(entry)),
            answers
              ? h(
                  "p",
                  { class: "answers" },
                  "answers ",
                  h("a", { href: postHref(post.reply?.to ?? ""), dir: "auto" }, model.nameOf(answers.key)),
                )
              : null,
            ...(post.text ? this.#text(post) : []),
            pictures(model, entry),
            post.quote ? embedded(model, post.quote) : null,
            this.how.is_main
              ? h(
                  "p",
                  { class: "exact" },
                  new Date(entry.at_ms).toLocaleString(undefined, { dateStyle: "full", timeStyle: "short" }),
                )
              : null,
            this.actions,
          ),
        ),
      ].filter(Boolean),
    );
  }

  /** @param {Entry["post"]} post */
  #text(post) {
    const shown = textOf(post);
    if ((post.text?.length ?? 0) <= SHOWN_CHARS) return [shown];
    const more = h(
      "button",
      {
        type: "button",
        class: "quiet",
        onclick: () => {
          shown.replaceWith(textOf(post, true));
          more.remove();
        },
      },
      "Show all of it",
    );
    return [shown, more];
  }

  /** @param {Entry} entry */
  #more(entry) {
    const { model } = this;
    const is_mine = entry.author === model.me;
    return menu("More", icon("more"), () => [
      [
        "Copy the address of the post",
        () =>
          void navigator.clipboard.writeText(entry.pointer).then(
            () => toast("Copied."),
            () => toast(entry.pointer),
          ),
      ],
      is_mine
        ? [
            "Delete the post",
            () => confirm("Delete this post? Those who have it already may keep it.") && follow(model.remove(entry)),
          ]
        : null,
      ...(is_mine ? [] : aboutPerson(model, entry.author)),
    ]);
  }

  #drawActions() {
    const { model, pointer } = this;
    const entry = this.original ?? this.shown;
    const { likes, reposts, replies, says } = model.counts(pointer, this.#known);
    const liked = model.likes(pointer);
    const mine = model.repostOf(pointer);
    const key = JSON.stringify([likes.size, reposts, replies, liked, Boolean(mine), says]);
    if (this.actions.dataset.key === key) return;
    this.actions.dataset.key = key;
    const count = (/** @type {number} */ number) =>
      number > 0 ? h("span", { class: "count", title: says }, String(number)) : null;
    const names = [...likes].slice(0, 8).map((key) => model.nameOf(key));
    const heart = h(
      "button",
      {
        type: "button",
        class: liked ? "quiet action liked" : "quiet action like",
        "aria-pressed": String(liked),
        "aria-label": `${liked ? "Take the like back" : "Like"}; ${plural(likes.size, "like")}`,
        title: likes.size > 0 ? `${names.join(", ")}${likes.size > names.length ? " and others" : ""} · ${says}` : "",
        onclick: () => follow(model.setLike(pointer, !liked)),
      },
      icon("heart"),
      count(likes.size),
    );
    const reply = h(
      "button",
      {
        type: "button",
        class: "quiet action reply",
        "aria-label": `Answer; ${plural(replies, "answer")}`,
        onclick: () => this.how.compose({ reply: entry }),
      },
      icon("reply"),
      count(replies),
    );
    const repost = menu(`Repost or quote; ${plural(reposts, "repost")}`, [icon("repost"), count(reposts)], () => [
      mine
        ? ["Take the repost back", () => follow(model.remove(mine))]
        : ["Repost", () => follow(model.publish({ repost: pointer }))],
      ["Quote", () => this.how.compose({ quote: entry })],
    ]);
    repost.firstElementChild?.classList.toggle("reposted", Boolean(mine));
    this.actions.replaceChildren(reply, repost, heart);
  }
}

/** Says so when the peer refuses a write. @param {import("/sdk.js").Write} write */
export function follow(write) {
  write.done.catch((problem) => toast(`That was not kept: ${problem.message}`));
}
