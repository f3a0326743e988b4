// Opens the peer, and shows the page that the address names.

import { open } from "/sdk.js";
import { h, icon, plural } from "/dom.js";
import { Model } from "/model.js";
import { composer } from "/composer.js";
import { avatar, profileHref } from "/post.js";
import { home, inviteLink, notifications, people, personRow, profile, search, thread } from "/pages.js";

const app = /** @type {HTMLElement} */ (document.getElementById("app"));

/** @typedef {import("/pages.js").Page} Page */

async function start() {
  const bus = await open();
  const model = new Model(bus);
  const dialog = h("dialog", { class: "compose", "aria-label": "Write" });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  /** @param {{ reply?: import("/model.js").Entry, quote?: import("/model.js").Entry }} how */
  const compose = (how) => {
    const { element, focus } = composer(model, { ...how, done: () => dialog.close(), is_open: true });
    dialog.replaceChildren(
      h(
        "button",
        { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => dialog.close() },
        icon("close"),
      ),
      element,
    );
    dialog.showModal();
    focus();
  };

  const badge = h("span", { class: "badge", hidden: true });
  const me = h("span", {});
  /** @type {[string, string, any, string][]} */
  const entries = [
    ["#/", "home", icon("home"), "Home"],
    ["#/notifications", "bell", [icon("bell"), badge], "Notifications"],
    ["#/search", "search", icon("search"), "Search"],
    ["#/people", "people", icon("people"), "People"],
    [profileHref(model.me), "me", me, "You"],
  ];
  const links = entries.map(([href, , picture, words]) =>
    h("a", { href }, h("span", { class: "picture" }, picture), h("span", { class: "words" }, words)),
  );
  const write = h("button", { type: "button", class: "main write", onclick: () => compose({}) }, "Post");
  const liveness = h("p", { class: "liveness", role: "status" });
  const title = h("h1", { class: "title" });
  const back = h(
    "button",
    { type: "button", class: "quiet back", "aria-label": "Back", onclick: () => history.back() },
    icon("back"),
  );
  const main = h("main", { id: "main", tabIndex: -1 });
  const side = h("aside", { "aria-label": "People you know" });
  app.replaceChildren(
    h(
      "nav",
      { "aria-label": "Chirp" },
      h("a", { class: "brand", href: "#/" }, h("img", { src: "/icon.svg", alt: "Chirp", width: 34, height: 34 })),
      links,
      write,
    ),
    h("div", { class: "column" }, h("header", { class: "head" }, back, title), liveness, main),
    side,
    dialog,
  );

  /** @type {Page} */
  let page = home(model, compose);
  const route = () => {
    page.leave?.();
    const hash = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
    const [first = "", second, third] = hash.split("/");
    const key = /^@([a-z0-9]{52})$/.exec(first)?.[1];
    if (key && second === "post" && third) page = thread(model, compose, `/@${key}/chirp/posts/${third}`);
    else if (key) page = profile(model, compose, key);
    else if (first === "notifications") page = notifications(model, compose);
    else if (first === "search") page = search(model, compose, hash.slice("search/".length));
    else if (first === "people") page = people(model);
    else page = home(model, compose);
    title.textContent = page.title;
    back.hidden = page.title === "Home";
    main.replaceChildren(page.element);
    for (const link of links) link.toggleAttribute("aria-current", link.hash === (location.hash || "#/"));
    page.update();
    scrollTo(0, 0);
    draw();
  };

  let drawn_side = "";
  const draw = () => {
    const news = model.notices().filter(({ at_ms }) => at_ms > model.seen("notices")).length;
    badge.hidden = news === 0;
    badge.textContent = news > 99 ? "99+" : String(news);
    document.title = `${news > 0 ? `(${news}) ` : ""}${page.title} · Chirp`;
    const lost = bus.liveness === "lost";
    const waits = bus.waiting > 0 ? `${plural(bus.waiting, "change")} waiting to be kept` : "";
    liveness.textContent = lost
      ? `timebus is not running on this machine. Read on and write on: it is sent when it is back.${waits ? ` ${waits}.` : ""}`
      : "";
    liveness.hidden = !lost;
    const key = JSON.stringify([
      [...model.people.keys()].map((key) => [key, model.nameOf(key), model.follows(key)]),
      model.profile(model.me).picture?.["@bytes"]?.length,
    ]);
    if (key !== drawn_side) {
      drawn_side = key;
      me.replaceChildren(avatar(model, model.me, "tiny"));
      const known = [...model.people.keys()].filter((key) => key !== model.me).slice(0, 8);
      side.replaceChildren(
        h("h2", {}, "People you know"),
        ...(known.length > 0
          ? known.map((key) => personRow(model, key))
          : [
              h("p", { class: "quiet" }, "Nobody yet. Whoever takes your invite reads you; whoever gives you one is here, and you read them."),
              ...inviteLink(model),
            ]),
      );
    }
  };
  model.onchange(() => {
    page.update();
    draw();
  });
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, dialog")) return;
    if (event.key === "n") (event.preventDefault(), compose({}));
    if (event.key === "/") (event.preventDefault(), (location.hash = "#/search"));
  });
  route();
}

start().catch((error) => {
  app.replaceChildren(
    h(
      "div",
      { class: "middle" },
      h("h1", {}, "Chirp cannot open"),
      h("p", {}, error.message),
      h("p", { class: "quiet" }, error.fix ?? ""),
    ),
  );
});
