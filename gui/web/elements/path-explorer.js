import { hrefOf } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { flash, h, later, make } from "../dom.js";
import { LiveTree } from "../live-tree.js";
import { isElsewhere, isWorkedOut, labelOf, parsePath, sayPath, segmentOf, showPath } from "../path.js";
import { ValueActions } from "../value-actions.js";
import { fileOf } from "../words.js";
import { ChangeHistory } from "./change-history.js";
import { FileComing } from "./file-coming.js";
import { FirstRun } from "./first-run.js";
import { PathCrumbs } from "./path-crumbs.js";
import { ProblemCard } from "./problem-card.js";
import { RawChanges } from "./raw-changes.js";
import { ValueAuthors } from "./value-authors.js";
import { ValueConflicts } from "./value-conflicts.js";
import { ValueEditor, editable } from "./value-editor.js";
import { ValueTree } from "./value-tree.js";
import { ValueView } from "./value-view.js";

/** @typedef {import("../path.js").Path} Path */
/** @typedef {"history" | "authors" | "conflicts" | "raw"} Tab */

/** How long changes are gathered before the side panel is read again. */
const SIDE_PAUSE_MS = 700;
/** Below more values than this, the peer is not asked to read all of them without need. */
const LARGE = 5000;

/** @type {[Tab, string][]} */
const TABS = [
  ["history", "History"],
  ["authors", "Who wrote what"],
  ["conflicts", "Conflicts"],
  ["raw", "Raw"],
];

/** One path: its value or what is below it, and beside that its history, its writers and its conflicts. */
export class PathExplorer extends HTMLElement {
  /** @type {import("../api/peer.js").Peer} */
  peer = /** @type {any} */ (null);
  /** @type {import("./notice-list.js").NoticeList} */
  notices = /** @type {any} */ (null);
  /** @type {import("./file-uploads.js").FileUploads} */
  uploads = /** @type {any} */ (null);
  /** @type {Path} */
  path = [];
  /** @type {import("../api/told.js").Status | null} */
  status = null;
  /** What the own space is called. */
  home = "Home";
  /** @type {(path: Path) => void} */
  go = () => {};

  /** @type {LiveTree} */
  #tree = /** @type {any} */ (null);
  /** @type {ValueActions} */
  #actions = /** @type {any} */ (null);
  /** @type {ValueTree | null} */
  #rows = null;
  /** @type {ValueView | null} */
  #leaf = null;
  /** From whom the file comes that is here. */
  #coming = new FileComing();
  /** @type {ValueEditor | null} */
  #editor = null;
  #shown = "";
  /** Whether the owner may write here, as far as is known. */
  #writes = true;
  /** @type {Tab} */
  #tab = "history";
  /** @type {Set<string>} */
  #conflicts = new Set();
  #main = h("div", { class: "stack" });
  #top = h("div", {});
  /** Who took back what is here. */
  #before = h("p", { class: "note", role: "status", hidden: true });
  /** @type {() => void} */
  #unheed = () => {};
  #body = h("div", {});
  #side = h("aside", { class: "card side", "aria-label": "About this path" });
  #grid = h("div", { class: "explorer" });
  #add = h("button", { type: "button", onclick: () => this.#openAdd() }, "Add");
  #file = h("button", { type: "button", onclick: () => this.#files.click() }, "Add files");
  #files = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to add", onchange: () => this.#chosen() });
  #edit = h("button", { type: "button", onclick: () => void this.#openEdit() }, "Edit");
  #delete = h("button", { type: "button", class: "danger", onclick: () => void this.#remove() }, "Delete");
  #refreshSide = later(SIDE_PAUSE_MS, () => void this.#readSide());

  connectedCallback() {
    this.#actions = new ValueActions(this.peer, this.notices);
    this.#main.replaceChildren(this.#before, this.#top, this.#body);
    this.#grid.replaceChildren(this.#main);
    this.replaceChildren(
      h(
        "div",
        { class: "path-bar" },
        make(PathCrumbs, { path: this.path, home: this.home }),
        h("div", { class: "buttons" }, this.#add, this.#file, this.#files, this.#edit, this.#delete),
      ),
      h("main", {}, this.#grid),
    );
    this.#tree = new LiveTree(this.peer, this.path, {
      changed: (node, live) => this.#changed(node, live),
      heard: () => this.#refreshSide(),
    });
    // What is worked out is changed elsewhere.
    this.#writes = !isWorkedOut(this.path[isElsewhere(this.path) ? 1 : 0] ?? "");
    void this.#tree.start();
    if (!isElsewhere(this.path)) return;
    void this.#askRights();
    void this.#askBefore();
    this.#unheed = this.peer.heed(["spaces"], () => void this.#askBefore());
  }

  /** Finds out what may be offered in a space of somebody else. The peer decides once more. */
  async #askRights() {
    if (!this.#writes) return;
    this.#offer(false);
    // Who does not know it is told by the peer when he tries.
    this.#offer(await this.peer.mayWrite(this.path).catch(() => true));
  }

  /** Says that what is here is of before, if it was taken back. */
  async #askBefore() {
    const says = await this.peer.takenBack(this.path).catch(() => null);
    this.#before.hidden = says === null;
    this.#before.textContent = says === null ? "" : `${says}; what is here is of before.`;
  }

  /** @param {boolean} writes */
  #offer(writes) {
    this.#writes = writes;
    this.#shown = "";
    this.#changed(this.#tree.root, false);
  }

  disconnectedCallback() {
    this.#unheed();
    this.#tree.stop();
  }

  /**
   * @param {import("../live-tree.js").TreeNode} node
   * @param {boolean} live
   */
  #changed(node, live) {
    const { root } = this.#tree;
    const kind = root.state === "present" ? (root.hasParts ? "parts" : "value") : root.state;
    const kindChanged = kind !== this.#shown;
    if (kindChanged) {
      this.#shown = kind;
      this.#rows = null;
      this.#leaf = null;
      this.#layOut(kind);
    }
    if (this.#rows) {
      this.#rows.update(node, live && !kindChanged);
      if (node === root && root.problem) this.notices.sayProblem(root.problem);
    } else if (this.#leaf && node === root) {
      if (!kindChanged) this.#leaf.show(root.value);
      this.#coming.show(fileOf(root.value));
      this.#offerFiles();
      if (live && this.#leaf.firstElementChild instanceof HTMLElement) flash(this.#leaf.firstElementChild);
    }
    if (live && node === root && this.#editor && !root.hasParts) {
      this.#editor.sayChanged();
    }
  }

  /** @param {string} kind */
  #layOut(kind) {
    const { root } = this.#tree;
    const isTop = this.path.length === (isElsewhere(this.path) ? 1 : 0);
    this.#add.hidden = !this.#writes || (kind !== "parts" && !(kind === "value" && isEmpty(root.value)));
    this.#offerFiles();
    // Nobody deletes a whole space by one click beside "Edit".
    this.#delete.hidden = !this.#writes || isTop || (kind !== "parts" && kind !== "value");
    this.#edit.textContent = kind === "parts" ? "Edit as JSON" : "Edit";
    if (this.#editor && (kind === "parts" || kind === "value")) {
      // An editor that is open stays: what is typed there is nobody else's to drop.
    } else {
      this.#closeEditor();
    }
    const hasSide = kind === "parts" || kind === "value" || (kind === "absent" && !isTop);
    this.#grid.classList.toggle("alone", !hasSide);
    if (hasSide && !this.#side.isConnected) {
      this.#grid.append(this.#side);
      this.#showSide();
    }
    if (!hasSide) this.#side.remove();
    switch (kind) {
      case "loading":
        this.#body.replaceChildren(h("div", { class: "card" }, h("p", { class: "loading" }, "Reading…")));
        break;
      case "failed":
        this.#body.replaceChildren(make(ProblemCard, { problem: root.problem, again: () => void this.#tree.start() }));
        break;
      case "absent":
        if (this.path.length === 0) this.#body.replaceChildren(make(FirstRun, { peer: this.peer }));
        else this.#body.replaceChildren(this.#absent());
        break;
      case "value":
        this.#leaf = make(ValueView, {
          value: root.value,
          name: labelOf(this.path.at(-1) ?? "file"),
          readFile: () => this.peer.readFile(this.path),
        });
        this.#coming = make(FileComing, { peer: this.peer, notices: this.notices, path: this.path, whole: () => this.#leaf?.hear() });
        this.#body.replaceChildren(this.#title(), h("div", { class: "card stack" }, this.#leaf, this.#coming));
        break;
      default:
        this.#rows = make(ValueTree, { tree: this.#tree, actions: this.#actions, writes: this.#writes, go: this.go });
        this.#body.replaceChildren(this.#title(), h("div", { class: "card tree-card" }, this.#finder(), this.#rows));
        this.#rows.markConflicts(this.#conflicts);
    }
    if (kind === "parts" || kind === "value") void this.#readConflicts();
  }

  /** What the page is about, for those who hear it; others see the breadcrumbs. */
  #title() {
    return h("h1", { class: "hidden-text" }, `What is at ${sayPath(this.path)}`);
  }

  /** That nothing is here, and one way to write: here, or below it. */
  #absent() {
    const is_elsewhere = isElsewhere(this.path);
    const is_top = is_elsewhere && this.path.length === 1;
    const here = sayPath(this.path);
    const given = h("ul", { class: "wants" });
    if (is_elsewhere) void this.#showGiven(given);
    return h(
      "div",
      { class: "card stack" },
      given,
      h("h1", {}, "Nothing is here"),
      h("p", { class: "soft" }, `No value is at ${here}. If somebody writes one, it appears by itself.`),
      this.#writes && h("p", { class: "soft" }, `Files that you add or drop here are kept below ${here} under their own names.`),
      this.#writes &&
        make(ValueEditor, {
          saves: "Write it",
          asksName: true,
          // In a place of many what one writes has a name, and a whole space is no value.
          needsName: is_top,
          nameLabel: is_top ? "Name, or names with slashes" : `Name below ${here}; leave it empty to write at ${here} itself`,
          save: async (content, name) => {
            const path = [...this.path, ...parsePath(name).map(segmentOf)];
            await this.peer.put(path, content);
            this.notices.say(`Wrote ${sayPath(path)}. It is on disk.`);
          },
          cancel: () => this.go(this.path.slice(0, -1)),
        }),
    );
  }

  /** Offers to put files here, or one in the place of what is here. What is no text is replaced, not edited. */
  #offerFiles() {
    const { state, value } = this.#tree.root;
    this.#edit.hidden = !this.#writes || state !== "present" || (this.#isFile && !fileOf(value)?.mime.startsWith("text/"));
    this.#file.hidden = !this.#takesFiles;
    this.#file.textContent = this.#isFile ? "Replace the file" : "Add files";
    this.#files.multiple = !this.#isFile;
  }

  /** Whether a file is here, which another one can replace. */
  get #isFile() {
    const { root } = this.#tree;
    return root.state === "present" && !root.hasParts && fileOf(root.value) !== null;
  }

  /** Whether files can be put here, or instead of what is here. */
  get #takesFiles() {
    const { root } = this.#tree;
    const is_place = root.state === "absent" || (root.state === "present" && (root.hasParts ? root.isList !== true : isEmpty(root.value) && !Array.isArray(root.value)));
    return this.#writes && (is_place || this.#isFile);
  }

  /** Files were chosen. */
  #chosen() {
    this.#takeFiles([...(this.#files.files ?? [])]);
    // The same ones can be chosen again.
    this.#files.value = "";
  }

  /** @param {File[]} files */
  #takeFiles(files) {
    const [first, ...others] = files;
    if (!first) return;
    if (!this.#isFile) this.uploads.add(this.path, files);
    else if (others.length === 0) this.uploads.replace(this.path, first, this.#tree.version);
    else this.notices.say("One file can replace the one that is here, not several.");
  }

  /** Takes files that are dragged over the page, wherever on it. @param {DragEvent} event */
  drag(event) {
    const items = [...(event.dataTransfer?.items ?? [])].filter(({ kind }) => kind === "file");
    if (event.dataTransfer) event.dataTransfer.dropEffect = this.#takesFiles ? "copy" : "none";
    const is_out = event.type === "drop" || (event.type === "dragleave" && event.relatedTarget === null);
    this.classList.toggle("dropping", !is_out && this.#takesFiles);
    if (event.type !== "drop") return;
    if (!this.#takesFiles) {
      this.notices.say(`No file can be put at ${sayPath(this.path)}.`);
      return;
    }
    const folders = items.map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
    for (const folder of folders)
      this.notices.say(`${folder?.name} is a folder; \`timebus import ${showPath([...this.path, folder?.name ?? ""])} FOLDER\` brings one in.`);
    const names = new Set(folders.map((folder) => folder?.name));
    this.#takeFiles([...(event.dataTransfer?.files ?? [])].filter(({ name }) => !names.has(name)));
  }

  /** Who may read nothing around what was given to him sees no pointer to it. @param {HTMLElement} given */
  async #showGiven(given) {
    const apart = await this.peer.apart(this.path).catch(() => []);
    const space = this.path[0] ?? "";
    const link = (/** @type {{ path: string }} */ { path }) =>
      h("li", {}, h("a", { href: hrefOf([space, ...parsePath(path)]) }, path), " was given to you");
    given.replaceChildren(...apart.filter(({ reads }) => reads).map(link));
  }

  /** A field to go to a name, for trees of which only a page is shown. */
  #finder() {
    if (this.#tree.root.next === null) return "";
    const input = h("input", { type: "text", id: "go-to-name", spellcheck: false, autocapitalize: "none" });
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      const names = parsePath(input.value);
      if (names.length > 0) this.go([...this.path, ...names.map(segmentOf)]);
    };
    return h(
      "form",
      { class: "finder", onsubmit: submit },
      h(
        "label",
        { for: "go-to-name" },
        h("span", {}, "There is a lot here. Type a name and press Enter to go there"),
        input,
      ),
    );
  }

  #closeEditor() {
    this.#editor = null;
    this.#top.replaceChildren();
  }

  #openAdd() {
    const { root } = this.#tree;
    this.#editor = make(ValueEditor, {
      asksName: root.isList !== true,
      saves: "Add",
      save: async (content, name) => {
        await this.#actions.add(root, name, content);
        this.#closeEditor();
        this.#add.focus();
      },
      cancel: () => {
        this.#closeEditor();
        this.#add.focus();
      },
    });
    this.#top.replaceChildren(this.#editor);
  }

  async #openEdit() {
    try {
      const reading = await this.peer.read(this.path);
      const editor = make(ValueEditor, {
        ...editable(reading, showPath(this.path)),
        save: async (content) => {
          await this.#actions.save(this.#tree.root, content, editor.replaces ? this.#tree.version : reading.version);
          this.#closeEditor();
          this.#edit.focus();
        },
        cancel: () => {
          this.#closeEditor();
          this.#edit.focus();
        },
      });
      this.#editor = editor;
      this.#top.replaceChildren(editor);
    } catch (error) {
      this.notices.sayProblem(error);
    }
  }

  async #remove() {
    try {
      await this.#actions.remove(this.#tree.root, this.#tree.version);
    } catch (error) {
      this.notices.sayProblem(error);
    }
  }

  // The side panel.

  #isLarge() {
    const { root } = this.#tree;
    const below = (root.children ?? []).reduce((sum, child) => sum + (child.count ?? 1), 0);
    return root.next !== null || below > LARGE;
  }

  #showSide() {
    const tabs = TABS.map(([tab, label]) =>
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${tab}`,
          "aria-selected": String(tab === this.#tab),
          "aria-controls": "side-panel",
          tabIndex: tab === this.#tab ? 0 : -1,
          onclick: () => this.#choose(tab),
        },
        label,
        tab === "conflicts" && this.#conflicts.size > 0 ? h("span", { class: "count" }, this.#conflicts.size) : "",
      ),
    );
    const key = (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const at = TABS.findIndex(([tab]) => tab === this.#tab);
      const [to] = TABS[(at + step + TABS.length) % TABS.length] ?? [];
      if (to) this.#choose(to);
    };
    const common = { peer: this.peer, path: this.path, device: this.status?.device ?? null };
    const panel = {
      history: () => make(ChangeHistory, { ...common, notices: this.notices }),
      authors: () => make(ValueAuthors, { ...common, isLarge: this.#isLarge() }),
      conflicts: () =>
        make(ValueConflicts, { ...common, notices: this.notices, found: (conflicts) => this.#found(conflicts) }),
      raw: () => make(RawChanges, common),
    };
    this.#side.replaceChildren(
      h("div", { class: "tabs", role: "tablist", "aria-label": "About this path", onkeydown: key }, tabs),
      h("div", { role: "tabpanel", id: "side-panel", "aria-labelledby": `tab-${this.#tab}` }, panel[this.#tab]()),
    );
  }

  /** @param {Tab} tab */
  #choose(tab) {
    this.#tab = tab;
    this.#showSide();
    document.getElementById(`tab-${tab}`)?.focus();
  }

  async #readSide() {
    if (!this.isConnected) return;
    const panel = this.#side.querySelector("change-history, value-authors, value-conflicts, raw-changes");
    await Promise.all([
      /** @type {ChangeHistory | ValueAuthors | ValueConflicts | RawChanges | null} */ (panel)?.refresh(),
      this.#tab === "conflicts" ? undefined : this.#readConflicts(),
    ]);
  }

  /** Finds out how many conflicts there are, where that is cheap. */
  async #readConflicts() {
    if (this.#isLarge()) return;
    try {
      this.#found(await this.peer.conflicts(this.path));
    } catch (error) {
      // The tab says what is wrong; a badge that is missing needs no message.
      if (Problem.of(error).status === 0) return;
    }
  }

  /** @param {import("../api/told.js").Conflict[]} conflicts */
  #found(conflicts) {
    const paths = new Set(conflicts.map((conflict) => conflict.path));
    const differs = paths.size !== this.#conflicts.size;
    this.#conflicts = paths;
    this.#rows?.markConflicts(paths);
    if (!differs) return;
    const tab = this.#side.querySelector("#tab-conflicts");
    tab?.querySelector(".count")?.remove();
    if (paths.size > 0) tab?.append(h("span", { class: "count" }, paths.size));
  }
}

/** @param {any} value */
const isEmpty = (value) => typeof value === "object" && value !== null && Object.keys(value).length === 0;

customElements.define("path-explorer", PathExplorer);
