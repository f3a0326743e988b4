import { PAGE } from "../api/peer.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { ago, exactTime, plural, writer } from "../words.js";
import { nearLabel, parsePath } from "../path.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").Change} Change */

/** Paths that are named for one change. */
const PATHS_SHOWN = 3;
/** Lets the slider be dragged without a request for every step. */
const READ_PAUSE_MS = 120;

/** The changes of a path, and what was there after each of them. */
export class ChangeHistory extends HTMLElement {
  /** @type {import("../api/peer.js").Peer} */
  peer = /** @type {any} */ (null);
  /** @type {import("../path.js").Path} */
  path = [];
  /** @type {import("./notice-list.js").NoticeList} */
  notices = /** @type {any} */ (null);
  /** This peer's own key, to say "you". @type {string | null} */
  device = null;

  /** Newest first. @type {Change[]} */
  #changes = [];
  #hasMore = false;
  /** The version that is looked at; `null` is now. @type {string | null} */
  #at = null;
  /** @type {AbortController | null} */
  #reading = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #slider = h("input", { type: "range", id: "history-slider", min: "0", step: "1" });
  #when = h("output", { class: "small soft", for: "history-slider" });
  #list = h("ol", { class: "changes" });
  #old = h("div", { class: "old-value" });
  #body = h("div", { class: "stack" });

  connectedCallback() {
    this.#slider.addEventListener("input", () => {
      // The rightmost place is now, the one left of it the newest change.
      const place = Number(this.#slider.value);
      this.#look(this.#changes[this.#changes.length - 1 - place]?.version ?? null);
    });
    this.replaceChildren(this.#body);
    this.#body.replaceChildren(h("p", { class: "loading" }, "Reading the history…"));
    void this.refresh();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
  }

  /** Reads the newest changes again. */
  async refresh() {
    try {
      const changes = await this.peer.log(this.path);
      const oldest = changes.at(-1)?.version;
      const known = this.#changes.findIndex((change) => change.version === oldest);
      const older = known < 0 ? [] : this.#changes.slice(known + 1);
      if (older.length === 0) this.#hasMore = changes.length === PAGE;
      this.#changes = [...changes, ...older];
      this.#show();
    } catch (error) {
      this.#body.replaceChildren(make(ProblemCard, { problem: Problem.of(error), again: () => void this.refresh() }));
    }
  }

  async #more() {
    try {
      const older = await this.peer.log(this.path, { before: this.#changes.at(-1)?.version });
      this.#hasMore = older.length === PAGE;
      this.#changes.push(...older);
      this.#show();
    } catch (error) {
      this.notices.sayProblem(error);
    }
  }

  #show() {
    if (this.#changes.length === 0) {
      this.#body.replaceChildren(h("p", { class: "soft" }, "Nobody has written here yet."));
      return;
    }
    const scrolled = this.#list.scrollTop;
    const focused = this.#list.contains(document.activeElement)
      ? /** @type {HTMLElement} */ (document.activeElement).dataset.version
      : undefined;
    this.#list.replaceChildren(...this.#changes.map((change) => this.#line(change)));
    if (!this.#slider.isConnected) {
      this.#body.replaceChildren(
        h(
          "div",
          { class: "slider" },
          h("label", { for: "history-slider" }, h("span", {}, "Drag to go back in time")),
          this.#slider,
          this.#when,
        ),
        this.#old,
        this.#list,
      );
    }
    if (this.#hasMore)
      this.#list.append(
        h("li", {}, h("button", { type: "button", onclick: () => void this.#more() }, "Show older changes")),
      );
    this.#list.scrollTop = scrolled;
    if (focused)
      /** @type {HTMLElement | null} */ (this.#list.querySelector(`[data-version="${CSS.escape(focused)}"]`))?.focus();
    this.#slider.max = String(this.#changes.length);
    this.#point();
  }

  /** @param {Change} change */
  #line(change) {
    const shown = change.paths.slice(0, PATHS_SHOWN).map((path) => nearLabel(parsePath(path), this.path));
    const rest = change.paths_total - shown.length;
    const isHere = rest === 0 && shown.every((label) => label === "here");
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", "data-version": change.version, onclick: () => this.#look(change.version) },
        h(
          "span",
          {},
          h("strong", {}, writer(change, this.device)),
          " ",
          h("span", { class: "soft", title: exactTime(change.time_ms) }, ago(change.time_ms)),
        ),
        isHere
          ? ""
          : h(
              "span",
              { class: "where small soft" },
              [...new Set(shown)].join(", "),
              rest > 0 ? ` and ${plural(rest, "more place")}` : "",
            ),
      ),
    );
  }

  /** Makes slider and list agree with what is looked at. */
  #point() {
    const at = this.#changes.findIndex((change) => change.version === this.#at);
    this.#slider.value = String(at < 0 ? this.#changes.length : this.#changes.length - 1 - at);
    const change = this.#changes[at];
    this.#when.textContent = change ? exactTime(change.time_ms) : "now";
    this.#slider.setAttribute(
      "aria-valuetext",
      change ? `after ${writer(change, this.device)}'s change, ${ago(change.time_ms)}` : "now",
    );
    for (const button of this.#list.querySelectorAll("button[data-version]")) {
      if (/** @type {HTMLElement} */ (button).dataset.version === this.#at) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /** @param {string | null} version */
  #look(version) {
    this.#at = version;
    this.#point();
    clearTimeout(this.#timer);
    this.#reading?.abort();
    if (version === null) {
      this.#old.replaceChildren();
      return;
    }
    this.#timer = setTimeout(() => void this.#read(version), READ_PAUSE_MS);
  }

  /** @param {string} version */
  async #read(version) {
    const reading = new AbortController();
    this.#reading = reading;
    const undo = h(
      "button",
      {
        type: "button",
        onclick: () => this.#run("Undone. What others did since stays.", () => this.peer.undo(this.path, version)),
      },
      "Undo just this change",
    );
    try {
      const old = await this.peer.read(this.path, [version], reading.signal);
      const back = h(
        "button",
        {
          type: "button",
          disabled: old.truncated,
          onclick: () =>
            this.#run("Brought back. It is on disk.", () =>
              this.peer.put(this.path, { body: old.text, type: old.type }),
            ),
        },
        "Bring this back",
      );
      const readable = /^(application\/json|text\/)/.test(old.type);
      const text = !readable
        ? `A file: ${old.type}`
        : old.type.startsWith("application/json") && !old.truncated
          ? pretty(old.text)
          : old.text;
      this.#old.replaceChildren(
        h("h2", {}, "What was here then"),
        h("pre", { tabIndex: 0, "aria-label": "The value at that time" }, text),
        old.truncated ? h("p", { class: "soft small" }, "Only the beginning is shown.") : "",
        h("div", { class: "buttons" }, readable ? back : "", undo),
      );
    } catch (error) {
      if (reading.signal.aborted) return;
      const problem = Problem.of(error);
      if (problem.status === 404)
        this.#old.replaceChildren(h("p", {}, "There was nothing here then."), h("div", { class: "buttons" }, undo));
      else this.#old.replaceChildren(make(ProblemCard, { problem }));
    }
  }

  /**
   * @param {string} done
   * @param {() => Promise<unknown>} act
   */
  async #run(done, act) {
    try {
      await act();
      this.#look(null);
      this.notices.say(done);
      await this.refresh();
    } catch (error) {
      this.notices.sayProblem(error);
    }
  }
}

/** @param {string} json */
function pretty(json) {
  const value = JSON.parse(json);
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

customElements.define("change-history", ChangeHistory);
