import { hrefOf } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { h } from "../dom.js";
import { labelOf, sayPath, segmentOf, showPath } from "../path.js";
import { plural, size } from "../words.js";

/** @typedef {import("../path.js").Path} Path */
/** @typedef {import("../api/told.js").Version} Version */
/** @typedef {{ version: Version, below: number }} Standing */
/**
 * A file that somebody chose.
 * @typedef {object} Upload
 * @property {File} file
 * @property {Path} path where it goes
 * @property {"waiting" | "going" | "again" | "taken" | "failed" | "done"} state
 * @property {number} sent
 * @property {Version | null} replaces what is to give way, as it was seen
 * @property {Standing | null} there what is in its place
 * @property {Problem | null} problem
 * @property {AbortController} stop
 */

/** How often a broken connection is tried again, and how long before the first time; each next one waits longer. */
const TRIES_MAX = 6;
const PAUSE_MS = 400;

/**
 * Files on their way from here into the peer, one after the other, on whatever page one is meanwhile. What was cut off goes on
 * where it was when the same file is chosen again for the same place.
 */
export class FileUploads extends HTMLElement {
  /** @type {import("../api/peer.js").Peer} */
  peer = /** @type {any} */ (null);
  /** @type {import("./notice-list.js").NoticeList} */
  notices = /** @type {any} */ (null);

  /** @type {Upload[]} */
  #all = [];
  /** @type {Map<Upload, { row: HTMLElement, name: HTMLElement, state: HTMLElement, bar: HTMLProgressElement, buttons: HTMLElement }>} */
  #rows = new Map();
  #busy = false;
  #head = h("h2", {});
  #said = h("p", { class: "hidden-text", role: "status" });
  #list = h("ul", { class: "rows" });
  #clear = h("button", { type: "button", onclick: () => this.#forgetDone() }, "Close");
  /** Whoever leaves the page while files are on their way is asked first. */
  #leave = (/** @type {Event} */ event) => {
    if (this.#all.some(({ state }) => state !== "done" && state !== "failed" && state !== "taken")) event.preventDefault();
  };

  connectedCallback() {
    const head = h("div", { class: "row-head" }, this.#head, this.#clear);
    this.replaceChildren(h("section", { class: "card stack", "aria-label": "Files on their way" }, head, this.#list), this.#said);
    addEventListener("beforeunload", this.#leave);
    this.#draw();
  }

  disconnectedCallback() {
    removeEventListener("beforeunload", this.#leave);
    for (const upload of this.#all) upload.stop.abort();
  }

  /**
   * Takes files to be kept below a path, under their own names.
   * @param {Path} path @param {Iterable<File>} files
   */
  add(path, files) {
    for (const file of files) this.#take(file, [...path, segmentOf(file.name)], null);
    this.#begin();
  }

  /** Takes a file instead of what was seen at a path. @param {Path} path @param {File} file @param {Version} seen */
  replace(path, file, seen) {
    this.#take(file, path, seen);
    this.#begin();
  }

  #begin() {
    this.#draw();
    // On a phone it is below all that is there.
    this.scrollIntoView({ block: "nearest" });
    void this.#work();
  }

  /** @param {File} file @param {Path} path @param {Version | null} replaces */
  #take(file, path, replaces) {
    const same = this.#all.find((other) => showPath(other.path) === showPath(path));
    if (same && same.state !== "done" && same.state !== "failed" && same.state !== "taken") {
      const is_same = same.file.name === file.name && same.file.size === file.size && same.file.lastModified === file.lastModified;
      const other = `Another file is on its way to ${sayPath(path)}; choose ${file.name} again when that is there.`;
      this.notices.say(is_same ? `${file.name} is on its way already.` : other);
      return;
    }
    if (same) this.#forget(same);
    this.#all.push({ file, path, state: "waiting", sent: 0, replaces, there: null, problem: null, stop: new AbortController() });
  }

  /** One after the other, so that the first is soon there. */
  async #work() {
    if (this.#busy) return;
    this.#busy = true;
    for (;;) {
      const next = this.#all.find(({ state }) => state === "waiting");
      if (!next) break;
      await this.#send(next);
    }
    this.#busy = false;
  }

  /** @param {Upload} upload */
  async #send(upload) {
    let tries = 0;
    upload.state = "going";
    this.#draw();
    for (;;) {
      try {
        // Whoever tries again may find his own file there, of which the answer got lost.
        if (tries === 0 && (await this.#isTaken(upload))) break;
        await this.peer.upload(upload.path, upload.file, {
          replaces: upload.replaces,
          signal: upload.stop.signal,
          told: (sent) => {
            tries = 0;
            upload.state = "going";
            upload.sent = sent;
            this.#draw();
          },
        });
        upload.state = "done";
        upload.sent = upload.file.size;
        this.#said.textContent = `${upload.file.name} is kept at ${sayPath(upload.path)}.`;
        break;
      } catch (error) {
        if (upload.stop.signal.aborted) return;
        const problem = Problem.of(error);
        upload.problem = problem;
        tries += 1;
        // Somebody else was faster.
        const seen = upload.replaces;
        if (problem.status === 412 && (await this.#isTaken(upload).catch(() => false))) break;
        const isGone = problem.status === 412 && seen !== upload.replaces;
        if (!(isGone || mayPass(problem)) || tries > TRIES_MAX) {
          upload.state = "failed";
          this.#said.textContent = `${upload.file.name} was not added: ${problem.title}.`;
          break;
        }
        upload.state = "again";
        this.#draw();
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** tries));
        if (upload.stop.signal.aborted) return;
      }
    }
    this.#draw();
  }

  /** Looks whether something else is in the place of a file than what it is to replace. @param {Upload} upload */
  async #isTaken(upload) {
    const there = await this.peer.standing(upload.path);
    if (!there) upload.replaces = null;
    if (!there || isSame(there.version, upload.replaces)) return false;
    Object.assign(upload, { there, state: "taken" });
    this.#said.textContent = `${upload.file.name} is not added yet: its place is taken.`;
    return true;
  }

  /** Puts a file in the place of what was said to be there. @param {Upload} upload */
  #replace(upload) {
    const { there, path } = upload;
    if (!there) return;
    const what = `${plural(there.below, "entry", "entries")} below ${sayPath(path)}`;
    if (there.below > 0 && !confirm(`Put this file in the place of ${what}? What was there stays in the history.`)) return;
    this.#again(upload, there.version);
  }

  /** Ends one that is not done, and has the peer forget what came of it. @param {Upload} upload */
  #cancel(upload) {
    upload.stop.abort();
    this.#forget(upload);
    this.#said.textContent = `${upload.file.name} is not added.`;
    this.#draw();
    this.peer.giveUp(upload.path, upload.file).catch((error) => this.notices.sayProblem(error));
  }

  /** @param {Upload} upload */
  #forget(upload) {
    this.#rows.get(upload)?.row.remove();
    this.#rows.delete(upload);
    this.#all = this.#all.filter((other) => other !== upload);
  }

  #forgetDone() {
    for (const upload of this.#all.filter(({ state }) => state === "done" || state === "failed" || state === "taken")) this.#forget(upload);
    this.#draw();
  }

  /** @param {Upload} upload @param {Version | null} replaces */
  #again(upload, replaces) {
    Object.assign(upload, { state: "waiting", problem: null, replaces });
    this.#draw();
    void this.#work();
  }

  #draw() {
    this.hidden = this.#all.length === 0;
    const open = this.#all.filter(({ state }) => state === "waiting" || state === "going" || state === "again").length;
    this.#head.textContent = open > 0 ? `Adding ${plural(open, "file")}` : "Files";
    this.#clear.hidden = open > 0;
    for (const upload of this.#all) {
      const parts = this.#rows.get(upload) ?? this.#row(upload);
      const { file, state, sent } = upload;
      parts.bar.value = sent;
      parts.bar.hidden = state === "done" || state === "failed" || state === "taken";
      const words = says(upload);
      if (parts.state.textContent !== words) parts.state.textContent = words;
      if (parts.row.dataset.state === state) continue;
      parts.row.dataset.state = state;
      const button = (/** @type {string} */ words, /** @type {() => void} */ run, kind = "") =>
        h("button", { type: "button", class: kind, "aria-label": `${words} ${file.name}`, onclick: run }, words);
      const cancel = button("Cancel", () => this.#cancel(upload), "danger");
      const had = parts.buttons.contains(document.activeElement);
      if (state === "done") {
        parts.buttons.replaceChildren();
        parts.name.replaceChildren(h("a", { href: hrefOf(upload.path) }, parts.name.textContent));
      } else if (state === "failed") parts.buttons.replaceChildren(button("Try again", () => this.#again(upload, upload.replaces)), cancel);
      else if (state === "taken") parts.buttons.replaceChildren(button("Replace", () => this.#replace(upload)), cancel);
      else parts.buttons.replaceChildren(cancel);
      // Who is on a button stays there.
      const first = parts.buttons.firstElementChild;
      if (had && first instanceof HTMLElement) first.focus();
    }
  }

  /** @param {Upload} upload */
  #row(upload) {
    const { file, path } = upload;
    const state = h("span", { class: "state" });
    const bar = h("progress", { max: Math.max(1, file.size), value: 0, "aria-label": `How much of ${file.name} is there` });
    const buttons = h("div", { class: "buttons" });
    const name = h("strong", { title: showPath(path) }, labelOf(path.at(-1) ?? file.name));
    const place = h("span", { class: "soft" }, `in ${sayPath(path.slice(0, -1))}`);
    const row = h("li", { class: "stack" }, h("div", { class: "row-head" }, name, place, state), bar, buttons);
    const parts = { row, name, state, bar, buttons };
    this.#rows.set(upload, parts);
    this.#list.append(row);
    return parts;
  }
}

/** @param {Version} one @param {Version | null} other */
const isSame = (one, other) => other !== null && JSON.stringify([...one].sort()) === JSON.stringify([...other].sort());

/** Whether trying again may help. @param {Problem} problem */
const mayPass = ({ status }) => status === 0 || [404, 408, 409, 500, 502, 503, 504].includes(status);

/** How a file is, in a line. @param {Upload} upload */
function says({ state, sent, file, problem, there }) {
  switch (state) {
    case "waiting":
      return `waits, ${size(file.size)}`;
    case "going":
      return `${size(sent)} of ${size(file.size)}`;
    case "again":
      return `${problem?.title ?? "it was cut off"}; goes on by itself, ${size(sent)} of ${size(file.size)} are there`;
    case "taken":
      return there && there.below > 0
        ? `something is there already, with ${plural(there.below, "entry", "entries")} below it, all of which stays in the history if you replace it`
        : "something is there already, which stays in the history if you replace it";
    case "failed":
      return `not added: ${[problem?.title, problem?.detail, problem?.fix].filter(Boolean).join(" — ")}`;
    case "done":
      return `added, ${size(file.size)}`;
  }
}

customElements.define("file-uploads", FileUploads);
