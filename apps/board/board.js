// A kanban board. Where things are:
//
//   /boards/<id>/title
//   /boards/<id>/columns/<id>   { title, order }
//   /boards/<id>/cards/<id>     { title, text, column, order }
//
// A card is a few values of its own, so two people who change different ones do not meet. Its place is a number between
// those of its neighbours, so moving it touches nothing else.

import { newName, open } from "/sdk.js";

/** @typedef {{ title?: string, text?: string, column?: string, order?: number }} Card */
/** @typedef {{ title?: string, columns?: Record<string, { title?: string, order?: number }>, cards?: Record<string, Card> }} Board */

/**
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...any} children
 * @returns {any}
 */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "for") element.setAttribute(name, value);
    else /** @type {any} */ (element)[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const notice = /** @type {HTMLElement} */ (document.getElementById("notice"));
const liveness = /** @type {HTMLElement} */ (document.getElementById("liveness"));

/** @type {import("/sdk.js").Bus} */
let bus;
/** What is shown now ends with this. */
let leave = () => {};

/** @param {string} text */
function tell(text) {
  notice.textContent = text;
  notice.hidden = false;
  setTimeout(() => (notice.hidden = true), 6000);
}

/** @param {import("/sdk.js").Write} write */
function follow(write) {
  write.done.catch((problem) =>
    tell(
      problem.status === 403 ? "You may look at this board, but its owner has not let you change it." : problem.message,
    ),
  );
}

/**
 * @template {{ order?: number }} T
 * @param {Record<string, T> | undefined} things
 */
const inOrder = (things) =>
  Object.entries(things ?? {}).sort(([a, x], [b, y]) => (x.order ?? 0) - (y.order ?? 0) || (a < b ? -1 : 1));

async function showBoards() {
  document.title = "Board";
  const input = h("input", {
    type: "text",
    placeholder: "Name of a new board",
    required: true,
    "aria-label": "Name of a new board",
  });
  const make = (/** @type {Event} */ event) => {
    event.preventDefault();
    const id = newName();
    const columns = Object.fromEntries(["To do", "Doing", "Done"].map((title, order) => [newName(), { title, order }]));
    follow(bus.at(`/boards/${id}`).put({ title: input.value, columns, cards: {} }));
    location.hash = `#/${bus.space}/${id}`;
  };
  const own = h("ul", { className: "boards" });
  const others = h("div", {});
  main.replaceChildren(
    h("h1", {}, "Your boards"),
    own,
    h("form", { className: "row", onsubmit: make }, input, h("button", { className: "main" }, "Make it")),
    others,
  );
  /** @param {string} key @param {Record<string, Board>} boards */
  const items = (key, boards) =>
    Object.entries(boards).map(([id, board]) =>
      h(
        "li",
        {},
        h(
          "a",
          { href: `#/${key}/${id}` },
          h("strong", {}, board?.title || "Untitled"),
          h("span", {}, `${Object.keys(board?.cards ?? {}).length} cards`),
        ),
      ),
    );
  const store = bus.at("/boards").watch();
  const stops = [() => store.close()];
  leave = () => stops.forEach((stop) => stop());
  store.subscribe(({ state, value }) => {
    if (state === "loading") return own.replaceChildren(h("li", { className: "quiet" }, "Looking…"));
    own.replaceChildren(
      ...(state === "present"
        ? items(bus.space, value)
        : [h("li", { className: "quiet" }, "None yet. Make the first one:")]),
    );
  });
  const people = await bus.people().catch(() => []);
  for (const person of people) {
    const list = h("ul", { className: "boards" });
    const place = h("section", { hidden: true }, h("h1", {}, `Boards of ${person.petname ?? person.name}`), list);
    others.append(place);
    const store = bus.peer(person.space).at("/boards").watch();
    stops.push(() => store.close());
    store.subscribe(({ state, value }) => {
      place.hidden = state !== "present";
      if (state === "present") list.replaceChildren(...items(person.space, value));
    });
  }
}

/** @param {string} key @param {string} id */
function showBoard(key, id) {
  const place = bus.peer(key).at(`/boards/${id}`);
  const store = place.watch();
  const title = h("h1", {});
  const columns = h("div", { className: "columns" });
  const state = h("p", { className: "quiet", role: "status" });
  const dialog = h("dialog", { "aria-label": "Card" });
  main.replaceChildren(title, state, columns, dialog);
  /** @type {Board} */
  let board = {};
  /** The text of the new card in each column, which a redraw must not lose. @type {Map<string, HTMLInputElement>} */
  const drafts = new Map();

  /** @param {string} card @param {string} column @param {number} at index among the cards there */
  const move = (card, column, at) => {
    const there = inOrder(board.cards).filter(([name, value]) => value.column === column && name !== card);
    const before = there[at - 1]?.[1].order ?? (there[at]?.[1].order ?? 0) - 2;
    const after = there[at]?.[1].order ?? before + 2;
    follow(place.at(`cards/${card}`).patch({ column, order: (before + after) / 2 }));
  };

  /** @param {string} name @param {Card} card */
  const edit = (name, card) => {
    const heading = h("input", { type: "text", value: card.title ?? "", required: true });
    const text = h("textarea", { rows: 4, value: card.text ?? "" });
    const where = h(
      "select",
      {},
      inOrder(board.columns).map(([column, { title }]) =>
        h("option", { value: column, selected: column === card.column }, title ?? ""),
      ),
    );
    const save = (/** @type {Event} */ event) => {
      event.preventDefault();
      const patch = {
        ...(heading.value === card.title ? {} : { title: heading.value }),
        ...(text.value === (card.text ?? "") ? {} : { text: text.value }),
      };
      if (Object.keys(patch).length > 0) follow(place.at(`cards/${name}`).patch(patch));
      if (where.value !== card.column) move(name, where.value, Infinity);
      dialog.close();
    };
    const remove = () => {
      follow(place.at(`cards/${name}`).delete());
      dialog.close();
    };
    dialog.replaceChildren(
      h(
        "form",
        { onsubmit: save },
        h("label", {}, "Title", heading),
        h("label", {}, "More", text),
        h("label", {}, "Column", where),
        h(
          "div",
          { className: "row" },
          h("button", { className: "main" }, "Save"),
          h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
          h("button", { type: "button", onclick: remove }, "Delete the card"),
        ),
      ),
    );
    dialog.showModal();
  };

  /** @param {string} name @param {Card} card */
  const cardItem = (name, card) =>
    h(
      "li",
      {
        className: "card",
        draggable: true,
        "data-card": name,
        ondragstart: (/** @type {DragEvent} */ event) => {
          event.dataTransfer?.setData("text/x-card", name);
          /** @type {HTMLElement} */ (event.currentTarget).classList.add("dragged");
        },
        ondragend: (/** @type {DragEvent} */ event) =>
          /** @type {HTMLElement} */ (event.currentTarget).classList.remove("dragged"),
      },
      h(
        "button",
        { className: "open", type: "button", onclick: () => edit(name, card) },
        card.title ?? "",
        ...(card.text ? [h("p", {}, card.text)] : []),
      ),
    );

  /** @param {string} column @param {{ title?: string }} what */
  const columnSection = (column, { title }) => {
    const cards = inOrder(board.cards).filter(([, card]) => card.column === column);
    const draft =
      drafts.get(column) ??
      h("input", { type: "text", placeholder: "A new card", "aria-label": `A new card in ${title}` });
    drafts.set(column, draft);
    const add = (/** @type {Event} */ event) => {
      event.preventDefault();
      if (!draft.value.trim()) return;
      const order = (cards.at(-1)?.[1].order ?? 0) + 1;
      follow(place.at(`cards/${newName()}`).put({ title: draft.value.trim(), column, order }));
      draft.value = "";
      draft.focus();
    };
    const drop = (/** @type {DragEvent} */ event) => {
      const name = event.dataTransfer?.getData("text/x-card");
      section.classList.remove("over");
      if (!name) return;
      event.preventDefault();
      const others = [...section.querySelectorAll("[data-card]")].filter((item) => item.dataset.card !== name);
      const at = others.findIndex((item) => event.clientY < item.getBoundingClientRect().top + item.offsetHeight / 2);
      move(name, column, at < 0 ? others.length : at);
    };
    const section = h(
      "section",
      {
        className: "column",
        "aria-label": title ?? "",
        ondragover: (/** @type {DragEvent} */ event) => {
          event.preventDefault();
          section.classList.add("over");
        },
        ondragleave: () => section.classList.remove("over"),
        ondrop: drop,
      },
      h("header", {}, h("h2", {}, title ?? ""), h("span", { className: "count" }, String(cards.length))),
      h(
        "ul",
        { className: "cards" },
        cards.map(([name, card]) => cardItem(name, card)),
      ),
      h(
        "form",
        { className: "row", onsubmit: add },
        draft,
        h("button", { "aria-label": `Add the card to ${title}` }, "Add"),
      ),
    );
    return section;
  };

  const stop = store.subscribe((reading) => {
    const words = {
      loading: "Fetching the board…",
      absent: "There is no such board.",
      denied: "You may not see this board. Ask its owner for an invite.",
      unreachable: "The board is not here yet, and nobody who has it answers.",
      present: "",
    };
    state.textContent = words[reading.state];
    state.hidden = reading.state === "present";
    if (reading.state !== "present") return columns.replaceChildren();
    board = reading.value;
    title.textContent = document.title = board.title || "Untitled";
    const focused = document.activeElement;
    columns.replaceChildren(...inOrder(board.columns).map(([column, what]) => columnSection(column, what)));
    // A redraw moves the field that somebody types in, which takes the focus away.
    if (focused instanceof HTMLElement && columns.contains(focused)) focused.focus();
  });
  leave = () => {
    stop();
    store.close();
  };
}

function route() {
  leave();
  leave = () => {};
  const [, key, id] = /^#\/([a-z0-9]{52})\/([a-z0-9]+)$/.exec(location.hash) ?? [];
  if (key && id) showBoard(key, id);
  else void showBoards();
}

try {
  bus = await open();
  const tellLiveness = () => {
    const waiting = bus.waiting > 0 ? `${bus.waiting} not saved yet` : "";
    liveness.textContent =
      bus.liveness === "live"
        ? waiting
        : `your peer is not running; what you do is kept here${waiting ? ` (${waiting})` : ""}`;
  };
  bus.onchange(tellLiveness);
  addEventListener("hashchange", route);
  route();
} catch (error) {
  main.replaceChildren(
    h("p", {}, /** @type {Error} */ (error).message),
    h("p", { className: "quiet" }, /** @type {any} */ (error).fix ?? ""),
  );
}
