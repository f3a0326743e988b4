import { hrefOf } from "../api/pages.js";
import { flash, h, make } from "../dom.js";
import { isElsewhere, showPath } from "../path.js";
import { fileOf, plural, preview } from "../words.js";
import { ProblemCard } from "./problem-card.js";
import { ValueEditor, editable } from "./value-editor.js";

/** @typedef {import("../live-tree.js").LiveTree} LiveTree */
/** @typedef {import("../live-tree.js").TreeNode} TreeNode */
/** @typedef {import("../value-actions.js").ValueActions} ValueActions */

/** How long a row says that it was saved. */
const SAVED_MS = 4000;

/** A row and what belongs to it. */
/**
 * @typedef {object} Row
 * @property {HTMLLIElement} item
 * @property {HTMLDivElement} row
 * @property {HTMLButtonElement} twisty
 * @property {HTMLElement} value
 * @property {HTMLElement} state
 * @property {HTMLElement} mark
 * @property {HTMLButtonElement} add
 * @property {HTMLButtonElement} edit
 * @property {HTMLButtonElement} remove
 * @property {HTMLDivElement} beneath
 * @property {HTMLUListElement | null} group
 * @property {ValueEditor | null} editor
 */

/** What is below a path: rows that open, change as the values do, and can be edited in place. */
export class ValueTree extends HTMLElement {
  /** @type {LiveTree} */
  tree = /** @type {any} */ (null);
  /** @type {ValueActions} */
  actions = /** @type {any} */ (null);
  /** Whether the owner may write here. */
  writes = true;
  /** Goes to a path. @type {(path: import("../path.js").Path) => void} */
  go = () => {};

  /** @type {Map<TreeNode, Row>} */
  #rows = new Map();
  /** @type {WeakMap<Element, TreeNode>} */
  #nodes = new WeakMap();
  /** @type {HTMLElement | null} */
  #active = null;
  /** Paths in conflict. */
  #conflicts = new Set();
  #list = h("ul", { role: "tree", "aria-label": "Values" });

  connectedCallback() {
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("focusin", (event) => {
      const item = event.target instanceof Element ? event.target.closest('[role="treeitem"]') : null;
      if (!(item instanceof HTMLElement)) return;
      this.#activate(item);
      this.#list.querySelector(".touched")?.classList.remove("touched");
      item.classList.add("touched");
    });
    this.replaceChildren(this.#list);
    this.update(this.tree.root, false);
  }

  /**
   * A node looks different now.
   * @param {TreeNode} node
   * @param {boolean} live whether because somebody wrote
   */
  update(node, live) {
    if (node === this.tree.root) {
      this.#list.setAttribute("aria-label", `Values at ${showPath(node.path)}`);
      this.#arrange(node, this.#list);
    } else {
      const row = this.#rows.get(node);
      if (row) this.#show(node, row, live);
    }
    if (!this.#active?.isConnected) this.#activate(this.#items()[0] ?? null);
  }

  /** @param {Set<string>} paths */
  markConflicts(paths) {
    this.#conflicts = paths;
    for (const [node, row] of this.#rows) this.#show(node, row, false);
  }

  /**
   * Puts the rows of a node's parts into a list, and keeps those that are there.
   * @param {TreeNode} node
   * @param {HTMLUListElement} list
   */
  #arrange(node, list) {
    const children = inOrder(node);
    const kept = new Set(children);
    for (const item of [...list.children]) {
      const old = this.#nodes.get(item);
      if (!old || !kept.has(old)) {
        if (item.contains(document.activeElement) && item instanceof HTMLElement) this.#leave(item);
        item.remove();
        if (old) this.#forget(old);
      }
    }
    for (const [at, child] of children.entries()) {
      const row = this.#rows.get(child) ?? this.#make(child);
      if (list.children[at] !== row.item) list.insertBefore(row.item, list.children[at] ?? null);
    }
    if (node.problem) list.append(h("li", { role: "none" }, make(ProblemCard, { problem: node.problem })));
    if (node.next !== null) {
      const load = () => void this.tree.more(node);
      list.append(
        h(
          "li",
          { role: "treeitem", tabIndex: -1, onclick: load, "aria-label": "Show more" },
          h(
            "div",
            { class: "row" },
            h("span", { class: "twisty leaf" }),
            h(
              "button",
              { type: "button", class: "link", tabIndex: -1 },
              node.isBusy ? "Loading…" : `Show more (${plural(children.length, "is", "are")} shown)`,
            ),
          ),
        ),
      );
    }
  }

  /** @param {TreeNode} node */
  #forget(node) {
    this.#rows.delete(node);
    for (const child of node.children ?? []) this.#forget(child);
  }

  /**
   * @param {TreeNode} node
   * @returns {Row}
   */
  #make(node) {
    const label = String(node.step);
    const name = node.isInside
      ? h("span", { class: "name index" }, label)
      : h("a", { class: "name", href: hrefOf(node.path), tabIndex: -1, title: label }, label);
    const button = (/** @type {string} */ text, /** @type {() => void} */ run, /** @type {string} */ more) =>
      h(
        "button",
        { type: "button", class: `quiet ${more}`, tabIndex: -1, "aria-label": `${text} ${label}`, onclick: run },
        text,
      );
    const add = button("Add", () => this.#add(node), "add");
    const edit = button("Edit", () => void this.#edit(node), "");
    const remove = button("Delete", () => void this.#remove(node), "danger");
    /** @type {Row} */
    const row = {
      item: h("li", { role: "treeitem", tabIndex: -1 }),
      row: h("div", { class: "row" }),
      twisty: h("button", {
        type: "button",
        class: "twisty",
        tabIndex: -1,
        "aria-hidden": "true",
        onclick: () => this.#toggle(node),
      }),
      value: h("span", { class: "value" }),
      state: h("span", { class: "state", role: "status" }),
      mark: h("span", { class: "mark", hidden: true }, "conflict"),
      add,
      edit,
      remove,
      beneath: h("div", { class: "beneath", hidden: true }),
      group: null,
      editor: null,
    };
    row.value.addEventListener("dblclick", () => {
      if (node.hasParts) this.#toggle(node);
      else if (this.writes) void this.#edit(node);
    });
    row.row.append(
      row.twisty,
      name,
      " ",
      row.value,
      " ",
      row.mark,
      row.state,
      this.writes
        ? h(
            "span",
            { class: "actions" },
            add,
            edit,
            remove,
          )
        : "",
    );
    row.item.append(row.row, row.beneath);
    this.#rows.set(node, row);
    this.#nodes.set(row.item, node);
    this.#show(node, row, false);
    return row;
  }

  /**
   * @param {TreeNode} node
   * @param {Row} row
   * @param {boolean} live
   */
  #show(node, row, live) {
    let text;
    if (node.hasParts) {
      row.edit.hidden = false;
      row.remove.hidden = false;
      row.item.setAttribute("aria-expanded", String(node.isOpen));
      text = node.isOpen ? "" : node.count === null ? "…" : plural(node.count, "value");
      row.value.className = "value parts";
    } else {
      row.item.removeAttribute("aria-expanded");
      const look = preview(node.value);
      const is_apart = look.kind === "link" && node.value.link === showPath(isElsewhere(node.path) ? node.path.slice(1) : node.path);
      text = is_apart ? "kept apart" : look.text;
      row.value.className = `value ${is_apart ? "parts" : look.kind}`;
      // What is no text is replaced, not edited; what is kept apart is changed where it is.
      row.remove.hidden = is_apart;
      row.edit.hidden = is_apart || (look.kind === "file" && !fileOf(node.value)?.mime.startsWith("text/"));
    }
    row.value.textContent = text;
    row.twisty.classList.toggle("leaf", !node.hasParts);
    row.add.hidden = !node.hasParts;
    this.#mark(node, row);
    row.item.setAttribute(
      "aria-label",
      [node.step, text, row.mark.hidden ? "" : "conflict"].filter((part) => part !== "").join(" "),
    );
    if (node.isOpen && node.hasParts) {
      if (!row.group) {
        row.group = h("ul", { role: "group" });
        row.item.append(row.group);
      }
      if (node.children || node.problem) this.#arrange(node, row.group);
      else row.group.replaceChildren(h("li", { role: "none", class: "loading" }, "Loading…"));
      row.item.setAttribute("aria-busy", String(node.isBusy));
    } else if (row.group) {
      row.group.remove();
      row.group = null;
    }
    if (live) {
      flash(row.row);
      row.editor?.sayChanged();
    }
  }

  /**
   * @param {TreeNode} node
   * @param {Row} row
   */
  #mark(node, row) {
    row.mark.hidden = node.isInside || !this.#conflicts.has(showPath(node.path));
  }

  /** @param {TreeNode} node */
  #toggle(node) {
    const row = this.#rows.get(node);
    if (row) this.#activate(row.item);
    if (node.isOpen) {
      for (const child of node.children ?? []) this.#forget(child);
      this.tree.close(node);
    } else {
      void this.tree.open(node);
    }
  }

  /**
   * @param {TreeNode} node
   * @param {ValueEditor} editor
   */
  #openEditor(node, editor) {
    const row = this.#rows.get(node);
    if (!row) return;
    row.editor = editor;
    row.beneath.hidden = false;
    row.beneath.replaceChildren(editor);
  }

  /** @param {TreeNode} node */
  #closeEditor(node) {
    const row = this.#rows.get(node);
    if (!row) return;
    row.editor = null;
    row.beneath.hidden = true;
    row.beneath.replaceChildren();
    row.item.focus();
  }

  /** @param {TreeNode} node */
  async #edit(node) {
    const row = this.#rows.get(node);
    if (!row || row.editor) return;
    // What is no text is replaced on its page.
    if (row.edit.hidden) {
      this.go(node.path);
      return;
    }
    try {
      const reading = await this.actions.read(node);
      const editor = make(ValueEditor, {
        ...editable(reading, showPath(node.path)),
        save: async (content) => {
          row.state.textContent = "saving…";
          try {
            await this.actions.save(node, content, editor.replaces ? this.tree.version : reading.version);
          } catch (error) {
            row.state.textContent = "not saved";
            throw error;
          }
          this.#closeEditor(node);
          this.#saved(row);
        },
        cancel: () => this.#closeEditor(node),
      });
      this.#openEditor(node, editor);
    } catch (error) {
      this.actions.notices.sayProblem(error);
    }
  }

  /** @param {TreeNode} node */
  #add(node) {
    const row = this.#rows.get(node);
    if (!row || row.editor) return;
    const isList = node.isList === true;
    const editor = make(ValueEditor, {
      asksName: !isList,
      saves: "Add",
      save: async (content, name) => {
        await this.actions.add(node, name, content);
        this.#closeEditor(node);
        this.#saved(row);
        await this.tree.open(node);
      },
      cancel: () => this.#closeEditor(node),
    });
    // Whether names are needed is known once it was opened.
    if (node.isList === null) {
      void this.tree.open(node).then(() => {
        if (node.isList) editor.asksName = false;
        this.#openEditor(node, editor);
      });
    } else {
      this.#openEditor(node, editor);
    }
  }

  /** @param {Row} row */
  #saved(row) {
    row.state.textContent = "✓ on disk";
    setTimeout(() => {
      row.state.textContent = "";
    }, SAVED_MS);
  }

  /** @param {TreeNode} node */
  async #remove(node) {
    const row = this.#rows.get(node);
    if (row) this.#leave(row.item);
    try {
      await this.actions.remove(node, this.tree.version);
    } catch (error) {
      this.actions.notices.sayProblem(error);
    }
  }

  // Keys: one row can be reached by Tab, the others by arrows from there.

  /** @returns {HTMLElement[]} */
  #items() {
    return [.../** @type {NodeListOf<HTMLElement>} */ (this.#list.querySelectorAll('[role="treeitem"]'))];
  }

  /** @param {HTMLElement | null} item */
  #activate(item) {
    if (item === this.#active) return;
    const reachable = (/** @type {HTMLElement | null} */ element, /** @type {number} */ tabIndex) => {
      if (!element) return;
      element.tabIndex = tabIndex;
      for (const button of element.querySelectorAll(":scope > .row .actions button"))
        /** @type {HTMLElement} */ (button).tabIndex = tabIndex;
    };
    reachable(this.#active, -1);
    this.#active = item;
    reachable(item, 0);
  }

  /**
   * Moves the focus away from a row that is about to go.
   * @param {HTMLElement} item
   */
  #leave(item) {
    const items = this.#items();
    const at = items.indexOf(item);
    const to = items.slice(at + 1).find((other) => !item.contains(other)) ?? items[at - 1] ?? null;
    this.#activate(to);
    to?.focus();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const item = event.target;
    if (
      !(item instanceof HTMLElement) ||
      item.getAttribute("role") !== "treeitem" ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey
    )
      return;
    const node = this.#nodes.get(item);
    const items = this.#items();
    const at = items.indexOf(item);
    const focus = (/** @type {HTMLElement | null | undefined} */ to) => to?.focus();
    const parent = () => /** @type {HTMLElement | null} */ (item.parentElement?.closest('[role="treeitem"]') ?? null);
    switch (event.key) {
      case "ArrowDown":
        focus(items[at + 1]);
        break;
      case "ArrowUp":
        focus(items[at - 1]);
        break;
      case "Home":
        focus(items[0]);
        break;
      case "End":
        focus(items.at(-1));
        break;
      case "ArrowRight":
        if (node?.hasParts && !node.isOpen) this.#toggle(node);
        else if (node?.isOpen) focus(items[at + 1]);
        break;
      case "ArrowLeft":
        if (node?.isOpen) this.#toggle(node);
        else focus(parent());
        break;
      case "Enter":
      case " ":
        if (!node) item.click();
        else if (node.isInside && node.hasParts) this.#toggle(node);
        else if (node.isInside) this.writes && void this.#edit(node);
        else this.go(node.path);
        break;
      case "F2":
        if (node && this.writes) void this.#edit(node);
        break;
      case "Delete":
        if (node && this.writes && !this.#rows.get(node)?.remove.hidden) void this.#remove(node);
        break;
      default:
        return;
    }
    event.preventDefault();
  }
}

/**
 * The parts of a node as they are shown: at the top of a space what apps are made of comes last.
 * @param {TreeNode} node
 */
function inOrder({ children, path, isInside }) {
  const all = children ?? [];
  if (isInside || path.length > (isElsewhere(path) ? 1 : 0)) return all;
  const is_last = (/** @type {TreeNode} */ { step }) => String(step).startsWith(".");
  return [...all.filter((child) => !is_last(child)), ...all.filter(is_last)];
}

customElements.define("value-tree", ValueTree);
