// The pages of chirp. Each is made once when it is opened, and told when something changed.

import { Problem, pictureOf } from "/sdk.js";
import { ago, h, icon, plural, toast } from "/dom.js";
import { PostView, aboutPerson, avatar, embedded, follow, menu, missing, postHref, profileHref } from "/post.js";
import { composer, smallPicture } from "/composer.js";
import { newestFirst, partsOfPointer } from "/model.js";

/** @typedef {import("/model.js").Model} Model */
/** @typedef {import("/model.js").Entry} Entry */
/** @typedef {{ title: string, element: HTMLElement, update: () => void, leave?: () => void }} Page */
/** @typedef {(how: { reply?: Entry, quote?: Entry }) => void} Compose */

/** Posts that are drawn at once; more come when somebody scrolls to the end. */
const DRAWN = 60;
/** Posts that a search shows. */
const FOUND_SHOWN = 200;

/** A list of posts that keeps what it has drawn. */
class PostList {
  /** @type {Map<string, PostView>} */
  #views = new Map();
  element = h("div", { class: "posts" });
  drawn = DRAWN;

  /** @param {Model} model @param {Compose} compose */
  constructor(model, compose) {
    this.model = model;
    this.compose = compose;
  }

  /** @param {Entry[]} entries @param {Map<string, Element>} [before] what stands before which post */
  show(entries, before = new Map()) {
    const views = new Map();
    /** @type {Element[]} */
    const wanted = [];
    for (const entry of entries.slice(0, this.drawn)) {
      const view = this.#views.get(entry.pointer) ?? new PostView(this.model, entry, { compose: this.compose });
      view.update(entry);
      views.set(entry.pointer, view);
      const mark = before.get(entry.pointer);
      if (mark) wanted.push(mark);
      wanted.push(view.element);
    }
    this.#views = views;
    // Only what is new or moved touches the page, so the reader's place stays.
    wanted.forEach((element, at) => {
      if (this.element.children[at] !== element) this.element.insertBefore(element, this.element.children[at] ?? null);
    });
    while (this.element.children.length > wanted.length) this.element.lastElementChild?.remove();
  }
}

/** @param {() => void} run */
function atEnd(run) {
  const mark = h("div", { class: "end" });
  const observer = new IntersectionObserver(
    (entries) => entries.some(({ isIntersecting }) => isIntersecting) && run(),
    { rootMargin: "600px" },
  );
  observer.observe(mark);
  /** Looks again whether the end is near, which nobody is told when there came too little to push it away. */
  const look = () => {
    observer.unobserve(mark);
    observer.observe(mark);
  };
  return { mark, look, stop: () => observer.disconnect() };
}

/** @param {Model} model @param {Compose} compose @returns {Page} */
export function home(model, compose) {
  const list = new PostList(model, compose);
  const welcome = h("div", {});
  const state = h("p", { class: "quiet middle" });
  const news = h("button", {
    type: "button",
    class: "news",
    hidden: true,
    onclick: () => scrollTo({ top: 0, behavior: "smooth" }),
  });
  const seen = model.seen("home");
  let first_seen = seen;
  const end = atEnd(() => {
    list.drawn += DRAWN;
    model.older([model.me, ...model.following]);
    update();
  });
  const mark = h("p", { class: "unread" }, "You have seen what is below");
  let count = 0;
  const update = () => {
    const entries = model.home();
    first_seen ||= model.seen("home");
    const fresh = entries.filter(({ at_ms, author }) => at_ms > first_seen && author !== model.me);
    const border = fresh.length > 0 && first_seen > 0 ? entries.find(({ at_ms }) => at_ms <= first_seen) : undefined;
    list.show(entries, new Map(border ? [[border.pointer, mark]] : []));
    if (entries.length !== count) end.look();
    count = entries.length;
    state.hidden = entries.length > 0;
    state.textContent = model.is_ready ? "No posts yet. Write the first one." : "Reading…";
    const above = entries.filter(({ at_ms, author }) => at_ms > model.seen("home") && author !== model.me).length;
    news.hidden = above === 0 || scrollY < 300;
    news.textContent = plural(above, "new post");
    if (scrollY < 200 && document.visibilityState === "visible" && entries[0]) model.setSeen("home", entries[0].at_ms);
    drawWelcome();
    writing.update();
  };
  const writing = composer(model, {});
  const drawWelcome = () => {
    const has_name = Boolean(model.profile(model.me).name) || localStorage.getItem("chirp:welcomed") !== null;
    if (!model.is_ready || has_name || model.postsOf(model.me).length > 3) return welcome.replaceChildren();
    if (welcome.childElementCount > 0) return;
    welcome.replaceChildren(
      profileForm(
        model,
        "Welcome. What shall people call you?",
        () => (localStorage.setItem("chirp:welcomed", "1"), welcome.replaceChildren()),
      ),
    );
  };
  const scrolled = () => update();
  addEventListener("scrollend", scrolled);
  const element = h("div", {}, welcome, writing.element, news, list.element, state, end.mark);
  return { title: "Home", element, update, leave: () => (end.stop(), removeEventListener("scrollend", scrolled)) };
}

/** @param {Model} model @param {string} words @param {() => void} done */
function profileForm(model, words, done) {
  const profile = model.profile(model.me);
  const name = h("input", {
    type: "text",
    maxLength: 60,
    value: profile.name ?? "",
    placeholder: model.handleOf(model.me),
    "aria-label": "Name",
    autocomplete: "name",
  });
  const bio = h("textarea", {
    rows: 2,
    maxLength: 300,
    value: profile.bio ?? "",
    placeholder: "A few words about you",
    "aria-label": "About you",
  });
  const face = h("div", { class: "face-choice" }, avatar(model, model.me, "large"));
  /** @type {any} */
  let picture;
  const chooser = h("input", {
    type: "file",
    accept: "image/*",
    hidden: true,
    onchange: async () => {
      const file = chooser.files?.[0];
      if (!file) return;
      try {
        picture = await smallPicture(file);
        face.replaceChildren(h("img", { class: "avatar large", src: pictureOf(picture) ?? "", alt: "" }));
      } catch {
        toast("That is no picture that can be shown.");
      }
    },
  });
  const save = (/** @type {Event} */ event) => {
    event.preventDefault();
    follow(model.setProfile({ name: name.value.trim(), bio: bio.value.trim(), ...(picture ? { picture } : {}) }));
    done();
  };
  return h(
    "form",
    { class: "profile-form", onsubmit: save },
    h("h2", {}, words),
    h(
      "div",
      { class: "face-row" },
      face,
      h("button", { type: "button", onclick: () => chooser.click() }, "Choose a picture"),
      chooser,
    ),
    name,
    bio,
    h(
      "div",
      { class: "bar" },
      h("button", { type: "button", class: "quiet", onclick: done }, "Not now"),
      h("button", { class: "main" }, "Save"),
    ),
  );
}

/** @param {Model} model @param {Compose} compose @param {string} pointer @returns {Page} */
export function thread(model, compose, pointer) {
  const above = h("div", { class: "thread above" });
  const main = h("div", { class: "thread" }, h("p", { class: "quiet middle" }, "Reading…"));
  const answers = new PostList(model, compose);
  const state = h("p", { class: "quiet middle" });
  const element = h("div", {}, above, main, answers.element, state);
  /** @type {PostView | null} */
  let view = null;
  let is_left = false;
  let last = "";

  const load = async () => {
    const entry = await model.read(pointer);
    if (is_left) return;
    if (!entry || entry instanceof Problem) {
      main.replaceChildren(h("p", { class: "quiet middle" }, missing(model, pointer, entry)));
      return;
    }
    view = new PostView(model, entry, { compose, is_main: true });
    main.replaceChildren(view.element, composer(model, { reply: entry }).element);
    /** @type {Element[]} */
    const chain = [];
    /** @type {string | undefined} */
    let to = entry.post.reply?.to;
    // A chain that somebody made endless ends here.
    while (to && chain.length < 50) {
      const parent = await model.read(to);
      if (is_left) return;
      if (!parent || parent instanceof Problem) {
        chain.unshift(h("p", { class: "post quiet" }, missing(model, to, parent)));
        break;
      }
      chain.unshift(new PostView(model, parent, { compose }).element);
      to = parent.post.reply?.to;
    }
    above.replaceChildren(...chain);
    if (chain.length > 0) main.scrollIntoView({ block: "start" });
    update();
  };
  const refs = model.refs(pointer, { kind: "reply", limit: 1000 });
  const update = () => {
    const known = model.known(pointer);
    if (view && known) view.update(known);
    const here = model.filter(({ post }) => post.reply?.to === pointer).map(({ state, pointer }) => [state, pointer]);
    const key = JSON.stringify([here, (refs.value?.refs ?? []).map((/** @type {any} */ ref) => ref.source)]);
    if (key === last || !view) return;
    last = key;
    void model.repliesTo(pointer, refs.value ?? null).then((entries) => {
      if (is_left) return;
      answers.show(entries);
      state.hidden = entries.length > 0;
      state.textContent = "No answers that you can see yet.";
    });
  };
  void load();
  refs.subscribe(() => update());
  const leave = () => {
    is_left = true;
    refs.close();
  };
  return { title: "Thread", element, update, leave };
}

/** @param {Model} model @param {string} key */
function followButton(model, key) {
  const is_followed = model.follows(key);
  const label = model.isBlocked(key) ? "Unblock" : is_followed ? "Following" : "Follow";
  return h(
    "button",
    {
      type: "button",
      class: label === "Follow" ? "main follow" : "follow",
      "aria-label": `${label} ${model.nameOf(key)}`,
      title: label === "Following" ? "Press to unfollow" : "",
      onclick: () =>
        follow(model.isBlocked(key) ? model.setList("blocks", key, false) : model.setFollow(key, !is_followed)),
    },
    label,
  );
}

const STATES = {
  live: "connected: what they write is here at once",
  loading: "being fetched",
  connecting: "being called",
  denied: "does not share with you: ask them for an invite link, and give them one of yours",
  unreachable: "away; what you have of them stays readable",
  unknown: "nobody who has their posts is known",
  offline: "your peer is offline",
};

/** @param {Model} model @param {Compose} compose @param {string} key @returns {Page} */
export function profile(model, compose, key) {
  const head = h("div", { class: "profile" });
  const list = new PostList(model, compose);
  const state = h("p", { class: "quiet middle" });
  const end = atEnd(() => {
    list.drawn += DRAWN;
    model.older([key]);
    update();
  });
  const tabs = h("div", { class: "tabs", role: "tablist" });
  let tab = "posts";
  let is_editing = false;
  let count = 0;
  let drawn = "";
  const followed = model.bus.peer(key).at("/chirp/follows").watch();
  const refs = model.refs(`/@${key}/profile`, { kind: "follow", limit: 1000 });

  const update = () => {
    const person = model.people.get(key);
    const { bio } = model.profile(key);
    const is_me = key === model.me;
    const list_of = followed.current.state === "loading" ? null : (followed.value ?? {});
    const following = list_of && typeof list_of === "object" ? Object.keys(list_of) : null;
    const followers = refs.value ? model.followersIn(refs.value) : null;
    const now = JSON.stringify([
      model.nameOf(key),
      model.handleOf(key),
      bio,
      model.profile(key).picture?.["@bytes"]?.length,
      person?.state,
      model.follows(key),
      model.isMuted(key),
      model.isBlocked(key),
      following?.length,
      followers?.size,
      is_editing,
    ]);
    if (now !== drawn) {
      drawn = now;
      const edit = () => {
        is_editing = true;
        update();
      };
      const stop = () => {
        is_editing = false;
        update();
      };
      head.replaceChildren(
        ...(is_editing
          ? [profileForm(model, "Your profile", stop)]
          : [
              h(
                "div",
                { class: "face-row" },
                avatar(model, key, "large"),
                h("span", { class: "space" }),
                is_me ? null : menu("More", icon("more"), () => aboutPerson(model, key)),
                is_me ? h("button", { type: "button", onclick: edit }, "Edit your profile") : followButton(model, key),
              ),
              h("h1", { dir: "auto" }, model.nameOf(key)),
              h("p", { class: "quiet" }, `@${model.handleOf(key)}`, h("code", { title: key }, ` ${key.slice(0, 8)}…`)),
              typeof bio === "string" && bio ? h("p", { dir: "auto", class: "bio" }, bio.slice(0, 1000)) : "",
              h(
                "p",
                { class: "quiet small" },
                is_me
                  ? "This is you."
                  : (STATES[/** @type {keyof typeof STATES} */ (person?.state ?? "unknown")] ?? ""),
              ),
              h(
                "p",
                { class: "numbers" },
                h("strong", {}, following ? String(following.length) : "…"),
                " following  ",
                h("strong", {}, followers ? String(followers.size) : "…"),
                h(
                  "span",
                  { title: "counted from the spaces on your peer and the notices that it knows of" },
                  followers?.size === 1 ? " follower that you can see" : " followers that you can see",
                ),
              ),
              model.isMuted(key)
                ? h(
                    "p",
                    { class: "quiet" },
                    model.isBlocked(key)
                      ? "You blocked them: you see nothing of theirs and tell them nothing. "
                      : model.isMutedEverywhere(key)
                        ? "You muted them on your peer, for all apps. "
                        : "You muted them. ",
                    model.isMutedHere(key)
                      ? h(
                          "button",
                          {
                            type: "button",
                            onclick: () =>
                              follow(model.setList(model.isBlocked(key) ? "blocks" : "mutes", key, false)),
                          },
                          model.isBlocked(key) ? "Unblock" : "Unmute",
                        )
                      : "",
                  )
                : "",
            ]),
      );
      tabs.replaceChildren(
        ...[
          ["posts", "Posts"],
          ["answers", "Posts and answers"],
          ["pictures", "Pictures"],
        ].map(([name, words]) =>
          h(
            "button",
            {
              type: "button",
              role: "tab",
              "aria-selected": String(tab === name),
              onclick: () => {
                tab = name ?? "posts";
                drawn = "";
                update();
              },
            },
            words ?? "",
          ),
        ),
      );
    }
    const own = model.isBlocked(key) ? [] : model.postsOf(key).toReversed();
    const shown = own.filter(({ post }) =>
      tab === "pictures" ? (post.pictures?.length ?? 0) > 0 : tab === "answers" || !post.reply,
    );
    list.show(shown);
    if (own.length !== count) end.look();
    count = own.length;
    state.hidden = shown.length > 0;
    state.textContent = model.isBlocked(key) ? "" : "Nothing here yet.";
  };
  followed.subscribe(() => update());
  refs.subscribe(() => update());
  const leave = () => {
    end.stop();
    followed.close();
    refs.close();
  };
  return { title: model.nameOf(key), element: h("div", {}, head, tabs, list.element, state, end.mark), update, leave };
}

const NOTICE_WORDS = {
  like: ["heart", "likes your post"],
  reply: ["reply", "answered you"],
  mention: ["person", "mentioned you"],
  follow: ["people", "follows you"],
  repost: ["repost", "reposted you"],
  quote: ["reply", "quoted you"],
};

/** @param {Model} model @param {Compose} compose @returns {Page} */
export function notifications(model, compose) {
  const list = h("div", { class: "notices" });
  const seen = model.seen("notices");
  let drawn = "";
  const update = () => {
    const notices = model.notices().slice(0, 200);
    if (notices[0] && document.visibilityState === "visible") model.setSeen("notices", notices[0].at_ms);
    const now = JSON.stringify(notices.map(({ kind, source }) => kind + source));
    if (now === drawn && drawn !== "") return;
    drawn = now;
    if (notices.length === 0)
      return list.replaceChildren(
        h("p", { class: "quiet middle" }, "When somebody answers, likes or follows you, it is here."),
      );
    list.replaceChildren(
      ...notices.map((notice) => {
        const [name, words] = NOTICE_WORDS[notice.kind] ?? ["bell", "did something"];
        const line = h(
          "p",
          {},
          avatar(model, notice.who, "tiny"),
          h("a", { href: profileHref(notice.who) }, model.nameOf(notice.who)),
          ` ${words} `,
          h("span", { class: "handle" }, ago(notice.at_ms)),
        );
        const about =
          notice.kind === "follow"
            ? null
            : embedded(
                model,
                notice.kind === "like" || notice.kind === "repost" ? notice.target : notice.source,
                notice.text,
              );
        const answer =
          notice.post && notice.kind !== "repost"
            ? h("button", { type: "button", class: "quiet", onclick: () => void answerTo(notice.source) }, "Answer")
            : null;
        return h(
          "article",
          { class: notice.at_ms > seen ? "notice new" : "notice" },
          icon(/** @type {any} */ (name)),
          h("div", { class: "content" }, line, about, answer),
        );
      }),
    );
  };
  const answerTo = async (/** @type {string} */ pointer) => {
    const entry = await model.read(pointer);
    if (entry && !(entry instanceof Problem)) compose({ reply: entry });
  };
  return { title: "Notifications", element: list, update };
}

/** @param {Model} model @param {Compose} compose @param {string} words @returns {Page} */
export function search(model, compose, words) {
  const field = h("input", {
    type: "search",
    value: words,
    placeholder: "Search the posts on your peer",
    "aria-label": "Search",
  });
  const list = new PostList(model, compose);
  const people = h("div", {});
  const state = h("p", { class: "quiet middle" });
  const stop = new AbortController();
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    location.hash = `#/search/${encodeURIComponent(field.value.trim())}`;
  };
  /** @type {Entry[]} */
  const found = [];
  const update = () => list.show(found.slice(0, FOUND_SHOWN));
  if (words) {
    state.textContent = "Searching…";
    const wanted = words.toLowerCase().replace(/^@/, "");
    people.replaceChildren(
      ...[...model.people.keys()]
        .filter((key) => `${model.nameOf(key)} ${model.handleOf(key)}`.toLowerCase().includes(wanted))
        .map((key) => personRow(model, key)),
    );
    let is_queued = false;
    const take = (/** @type {Entry} */ entry) => {
      found.push(entry);
      if (!is_queued)
        requestAnimationFrame(() => {
          is_queued = false;
          found.sort(newestFirst);
          update();
        });
      is_queued = true;
    };
    void model.search(words, take, stop.signal).then((is_cut) => {
      if (stop.signal.aborted) return;
      const count = is_cut || found.length > FOUND_SHOWN ? "The newest posts" : `${plural(found.length, "post")} found`;
      state.textContent = `${count} in the ${plural(model.people.size, "space")} on your peer. Nobody else was asked.`;
    });
  } else state.textContent = "Everything that is on your peer can be searched, also offline.";
  return {
    title: words ? `Search: ${words}` : "Search",
    element: h(
      "div",
      {},
      h("form", { class: "search", role: "search", onsubmit: submit }, icon("search"), field),
      people,
      state,
      list.element,
    ),
    update,
    leave: () => stop.abort(),
  };
}

/** Leads to where a link for a friend is made. @param {Model} model */
export function inviteLink(model) {
  const href = model.bus.invite_url;
  return href ? [h("a", { class: "invite", href, target: "_blank", rel: "noreferrer" }, "Invite a friend")] : [];
}

/** @param {Model} model @param {string} key */
export function personRow(model, key) {
  return h(
    "div",
    { class: "person" },
    h("a", { href: profileHref(key), class: "face", tabIndex: -1, "aria-hidden": "true" }, avatar(model, key)),
    h(
      "a",
      { href: profileHref(key), class: "names" },
      h("strong", { dir: "auto" }, model.nameOf(key)),
      model.handleOf(key) === model.nameOf(key) ? null : h("span", { class: "handle" }, `@${model.handleOf(key)}`),
    ),
    key === model.me ? null : followButton(model, key),
  );
}

/** @param {Model} model @returns {Page} */
export function people(model) {
  const list = h("div", { class: "people" });
  const note = h("p", { class: "quiet middle" });
  const field = h("input", {
    type: "text",
    placeholder: "A key: 52 letters",
    "aria-label": "Key",
    pattern: "@?[a-z0-9]{52}",
    required: true,
  });
  const add = (/** @type {Event} */ event) => {
    event.preventDefault();
    const key = field.value.trim().replace(/^@/, "");
    field.value = "";
    follow(model.setFollow(key, true));
    location.hash = profileHref(key);
  };
  let drawn = "";
  const update = () => {
    const keys = [...model.people.keys()].filter((key) => key !== model.me);
    const now = JSON.stringify(keys.map((key) => [key, model.nameOf(key), model.follows(key), model.isBlocked(key)]));
    if (now === drawn) return;
    drawn = now;
    list.replaceChildren(...keys.map((key) => personRow(model, key)));
    note.textContent =
      keys.length === 0
        ? "You read nobody yet. Give a friend a link that brings Chirp along, and take one of theirs: each link lets one read the other."
        : "These are the people whose spaces are on your peer. Who gives you an invite link is added here; whoever took yours reads you, and is here once you took one of theirs.";
  };
  return {
    title: "People",
    element: h(
      "div",
      {},
      h("form", { class: "search", onsubmit: add }, icon("person"), field, h("button", {}, "Follow")),
      list,
      note,
      h("p", { class: "middle" }, ...inviteLink(model)),
    ),
    update,
  };
}

export { partsOfPointer, postHref };
