import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { duration, plural, size } from "../words.js";
import { ProblemCard } from "./problem-card.js";

const REFRESH_MS = 2000;

/** This peer: who it is, where it listens, how much it holds. */
export class PeerPanel extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  #dialog = h("dialog", { "aria-label": "This peer" });
  #body = h("div", { class: "stack" });
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  connectedCallback() {
    this.#dialog.replaceChildren(
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "dialog-head" },
          h("h1", {}, "This peer"),
          h("button", { type: "button", class: "quiet", onclick: () => this.#dialog.close() }, "Close"),
        ),
        this.#body,
      ),
    );
    this.#dialog.addEventListener("close", () => clearInterval(this.#timer));
    this.replaceChildren(this.#dialog);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  async open() {
    this.#body.replaceChildren(h("p", { class: "loading" }, "Asking the peer…"));
    this.#dialog.showModal();
    await this.#refresh();
    clearInterval(this.#timer);
    if (this.#dialog.open) this.#timer = setInterval(() => void this.#refresh(), REFRESH_MS);
  }

  async #refresh() {
    try {
      const status = await this.peer?.status();
      if (status) this.#body.replaceChildren(...facts(status));
    } catch (error) {
      this.#body.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }
}

/** @param {import("../api/peer.js").Status} status */
function facts(status) {
  const { opened } = status;
  /** @type {[string, (Node | string)[]][]} */
  const lines = [
    ["Name", [h("strong", {}, status.name)]],
    [
      "Address",
      [h("code", {}, status.id), h("div", { class: "soft small" }, "what others know this space by; safe to tell")],
    ],
    ["Device", [h("code", {}, status.device)]],
    ["Listens on", status.http.map((address) => h("div", {}, address))],
    ["Folder", [h("code", {}, status.home)]],
    ["Running for", [duration(status.uptime_ms)]],
    [
      "Holds",
      [`${plural(status.changes, "change")}, ${size(status.log_bytes)}, and ${size(status.index_bytes)} of index`],
    ],
    ["Busy with", [`${plural(status.connections, "connection")}, ${plural(status.subscriptions, "watch", "watches")}`]],
    ["Version", [`timebus ${status.version}`]],
  ];
  const notes = [
    opened.damaged > 0
      ? `${plural(opened.damaged, "damaged stretch", "damaged stretches")} of the change log at the last start. Run timebus fsck.`
      : "",
    opened.torn_bytes > 0
      ? `The last start cut off ${size(opened.torn_bytes)} of an unfinished write. Nothing acknowledged was lost.`
      : "",
    opened.new_device ? "This folder is a copy of another one; it writes as a device of its own." : "",
    opened.rebuilt ? `The index was rebuilt at the last start: ${opened.rebuilt}` : "",
  ];
  return [
    h(
      "dl",
      { class: "facts" },
      lines.flatMap(([name, parts]) => [h("dt", {}, name), h("dd", {}, parts)]),
    ),
    ...notes.filter(Boolean).map((note) => h("p", { class: "note" }, note)),
  ];
}

customElements.define("peer-panel", PeerPanel);
