import { h } from "../dom.js";
import { plural, size } from "../words.js";

/** @typedef {import("../api/told.js").Files} Files */
/** @typedef {import("../api/told.js").Transfer} Transfer */
/** @typedef {import("../api/told.js").Upload} Upload */
/** @typedef {"up" | "down"} Way */

const BYTES_PER_MB = 1_000_000;
/** Files that are told of after they came. */
const CAME_SHOWN = 10;

/** Files that come from others and go to them, with what can be done about it, and how fast they may be. */
export class FileTransfers extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  #about = h("p", { class: "soft" });
  #list = h("ul", { class: "rows" });
  #drawn = "";
  #inputs = { up: speed("up"), down: speed("down") };
  /** The limits that the inputs show, if nobody types in them. */
  #shown = "";

  connectedCallback() {
    const { up, down } = this.#inputs;
    this.replaceChildren(
      this.#about,
      this.#list,
      h(
        "form",
        { class: "buttons", onsubmit: (/** @type {Event} */ event) => this.#limit(event) },
        h("label", {}, "To others at most ", up, " MB/s"),
        h("label", {}, "From others at most ", down, " MB/s"),
        h("button", { type: "submit" }, "Set speed"),
        h("span", { class: "soft small" }, "Empty is as fast as the line."),
      ),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => void this.#do(() => this.#free()) }, "Free files of others"),
        h("span", { class: "soft small" }, "What came from others and is not pinned goes, and comes again when it is read."),
      ),
    );
  }

  /** @param {Files} files */
  show(files) {
    const { given, limits } = files;
    const now = given.bytes_per_s > 0 ? `, now ${size(given.bytes_per_s)} a second` : "";
    const since = new Date(given.since_ms).toLocaleDateString(undefined, { dateStyle: "medium" });
    const gave = given.bytes > 0 ? ` Others were given ${size(given.bytes)} since ${since}${now}.` : "";
    const unread = files.problem
      ? ` ${files.problem}. Until that file is mended, or moved away, and the peer is started again, files of others go to nobody from here.`
      : "";
    this.#about.textContent = `Files take ${size(files.bytes)} here.${gave}${unread}`;
    const drawn = JSON.stringify([files.transfers, files.uploads, files.came]);
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      const transfers = files.transfers.map((transfer) => this.#row(transfer)).filter((row) => row !== null);
      const rows = [...files.uploads.map((upload) => this.#begun(upload)), ...transfers, ...files.came.slice(0, CAME_SHOWN).map(came)];
      const nothing = h("li", { class: "soft" }, "No file is on its way.");
      // Who is on a button stays there.
      const focused = /** @type {HTMLElement | null} */ (this.querySelector("li button:focus"))?.dataset.which;
      this.#list.replaceChildren(...(rows.length > 0 ? rows : [nothing]));
      for (const button of this.#list.querySelectorAll("button")) if (button.dataset.which === focused) button.focus();
    }
    const shown = JSON.stringify(limits);
    if (shown === this.#shown || this.querySelector("input:focus")) return;
    this.#shown = shown;
    for (const way of /** @type {Way[]} */ (["up", "down"])) {
      const limit = limits[way];
      this.#inputs[way].value = limit === null ? "" : String(limit / BYTES_PER_MB);
    }
  }

  /** An upload that was begun here and did not come to its end. @param {Upload} upload */
  #begun({ id, path, bytes_here, bytes_total, changed_ms }) {
    const total = bytes_total === null ? "" : ` of ${size(bytes_total)}`;
    const since = new Date(changed_ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    return h(
      "li",
      { class: "stack" },
      h("div", { class: "row-head" }, h("strong", {}, path), h("span", { class: "state" }, `being put there: ${size(bytes_here)}${total} came, the last ${since}`)),
      bytes_total === null ? "" : h("progress", { max: Math.max(1, bytes_total), value: bytes_here, "aria-label": `How much of ${path} has come` }),
      h("p", { class: "soft small" }, "Whoever puts the same file there once more goes on with it."),
      h(
        "div",
        { class: "buttons" },
        h(
          "button",
          {
            type: "button",
            class: "danger",
            "aria-label": `Give up ${path}`,
            "data-which": `give up ${id}`,
            onclick: () => void this.#do(() => this.peer?.sayOfFile("cancel", id)),
          },
          "Give up",
        ),
      ),
    );
  }

  /** @param {Transfer} transfer */
  #row(transfer) {
    if (is_quiet(transfer)) return null;
    const name = transfer.path ?? transfer.hash;
    return h(
      "li",
      { class: "stack" },
      h("div", { class: "row-head" }, h("strong", {}, name), h("span", { class: "state" }, says(transfer))),
      ...howFar(transfer, name, (what) => void this.#do(() => this.peer?.sayOfFile(what, transfer.hash))),
    );
  }

  async #free() {
    const there = await this.peer?.freeFiles(true);
    if (!there || there.files === 0) {
      this.notices?.say("No file of others is here but what is pinned, placed here by a community, or yours in other ways.");
      return;
    }
    const what = `${plural(there.files, "file")} of others, ${size(there.bytes)}`;
    if (!confirm(`Remove ${what}? They come again when they are read, from whoever has them.`)) return;
    const gone = await this.peer?.freeFiles(false);
    if (gone) this.notices?.say(`Removed ${plural(gone.files, "file")} of others, ${size(gone.bytes)}.`);
  }

  /** @param {Event} event */
  #limit(event) {
    event.preventDefault();
    const bytes = (/** @type {Way} */ way) => {
      const text = this.#inputs[way].value.trim();
      return text === "" ? null : Math.round(Number(text) * BYTES_PER_MB);
    };
    this.#shown = "";
    void this.#do(() => this.peer?.limitFiles({ up: bytes("up"), down: bytes("down") }));
  }

  /** Does something, says what is wrong with it, and shows what became of it. @param {() => Promise<unknown> | undefined} run */
  async #do(run) {
    try {
      await run();
      if (this.peer) this.show(await this.peer.files());
    } catch (error) {
      this.notices?.sayProblem(error);
    }
  }
}

/** Where a speed is typed. @param {Way} way */
function speed(way) {
  return h("input", { type: "number", name: way, min: "0.016", step: "any", inputMode: "decimal", placeholder: "no limit" });
}

/** Whether nothing of a file that is here is on its way, or was. @param {Transfer} transfer */
export const is_quiet = ({ state, readers, bytes_given }) => state === "going" && readers === 0 && bytes_given === 0;

/**
 * How much of a file is here, what keeps the rest, and what can be done about that.
 * @param {Transfer} transfer @param {string} name @param {(what: "pause" | "resume" | "cancel") => void} act
 */
export function howFar({ state, hash, bytes_total, bytes_here, problem }, name, act) {
  if (state === "going") return [];
  const button = (/** @type {"pause" | "resume" | "cancel"} */ what, /** @type {string} */ words) =>
    h(
      "button",
      {
        type: "button",
        class: what === "cancel" ? "danger" : undefined,
        "aria-label": `${words} ${name}`,
        "data-which": `${what} ${hash}`,
        onclick: () => act(what),
      },
      words,
    );
  const is_coming = state === "coming" || state === "waiting";
  return [
    h("progress", { max: Math.max(1, bytes_total), value: bytes_here, "aria-label": `How much of ${name} is here` }),
    problem ? h("p", { class: "soft small" }, problem) : "",
    h(
      "div",
      { class: "buttons" },
      is_coming ? button("pause", "Pause") : button("resume", state === "paused" ? "Go on" : "Get it after all"),
      state === "cancelled" ? "" : button("cancel", "Cancel"),
    ),
  ];
}

/** A file that came. @param {import("../api/told.js").Came} file */
function came(file) {
  return h("li", { class: "row-head" }, h("strong", {}, file.path ?? file.hash), h("span", { class: "state" }, saysCame(file)));
}

/** When a file came, in what time and from whom, in a line. @param {import("../api/told.js").Came} file */
export function saysCame({ bytes_total, sources, took_ms, at_ms }) {
  const at = new Date(at_ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  const last = sources.reduce((sum, { bytes }) => sum + bytes, 0);
  return `came ${at}: ${last < bytes_total ? `the last ${size(last)} of ` : ""}${size(bytes_total)} in ${span(took_ms)}, ${shares(sources)}`;
}

/** From whom how much came. @param {{ name: string, bytes: number }[]} sources */
function shares(sources) {
  return sources.map(({ name, bytes }) => `${size(bytes)} from ${name}`).join(", ");
}

/** @param {number} ms */
function span(ms) {
  const s = Math.max(1, Math.round(ms / 1000));
  return s < 120 ? plural(s, "second") : plural(Math.round(s / 60), "minute");
}

/** How a file is, in a line. @param {Transfer} transfer */
export function says(transfer) {
  const { state, readers } = transfer;
  const here = `${size(transfer.bytes_here)} of ${size(transfer.bytes_total)}`;
  switch (state) {
    case "coming": {
      const left = transfer.left_ms !== null && transfer.left_ms >= 1000 ? `, ${span(transfer.left_ms)} left` : "";
      const from = transfer.sources.length > 1 ? ` (${shares(transfer.sources)})` : "";
      return `${here} ${transfer.text}${left}${from}`;
    }
    case "going": {
      const to = transfer.given_to.map(({ name, bytes, has_bytes }) => `${size(bytes)} to ${name}, who has ${size(has_bytes)}`).join("; ");
      const now = transfer.given_per_s > 0 ? `, now ${size(transfer.given_per_s)} a second` : "";
      return `${size(transfer.bytes_given)} given${to ? ` (${to})` : ""}${now}, ${plural(readers, "other")} may take it from here`;
    }
    case "waiting":
      return `${here}, nobody who is there gives more`;
    default:
      return `${state}, ${here}`;
  }
}

customElements.define("file-transfers", FileTransfers);
