import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { duration, plural, size } from "../words.js";
import { ProblemCard } from "./problem-card.js";
import { SmallChart } from "./small-chart.js";

const REFRESH_MS = 2000;
/** Charts of how fast a counter grows, and of what a gauge shows. */
const CHARTS = [
  {
    label: "Requests a second",
    metric: "http_answers_total",
    is_rate: true,
    say: (/** @type {number} */ value) => value.toFixed(1),
  },
  {
    label: "Changes a second",
    metric: "changes_total",
    is_rate: true,
    say: (/** @type {number} */ value) => value.toFixed(1),
  },
  {
    label: "Updates sent a second",
    metric: "deliveries_total",
    is_rate: true,
    say: (/** @type {number} */ value) => value.toFixed(1),
  },
  { label: "Connections", metric: "connections", is_rate: false, say: String },
  { label: "Watches", metric: "subscriptions", is_rate: false, say: String },
  {
    label: "Log written a second",
    metric: "log_bytes_total",
    is_rate: true,
    say: (/** @type {number} */ value) => size(Math.round(value)),
  },
];

/** This peer: who it is, where it listens, how much it holds, and what it does now. */
export class PeerPage extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  #body = h("div", { class: "stack" }, h("p", { class: "loading" }, "Asking the peer…"));
  #charts = CHARTS.map((chart) => ({ ...chart, element: make(SmallChart, { label: chart.label, say: chart.say }) }));
  /** @type {Map<string, number>} */
  #last = new Map();
  #last_ms = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  connectedCallback() {
    this.replaceChildren(
      h(
        "main",
        { class: "stack wide" },
        h("h1", {}, "This peer"),
        h(
          "div",
          { class: "charts" },
          this.#charts.map(({ element }) => element),
        ),
        h("div", { class: "card" }, this.#body),
        h(
          "div",
          { class: "card stack" },
          h("h2", {}, "When something does not work"),
          h(
            "p",
            {},
            h("code", {}, "timebus doctor"),
            " looks into the home, the disk and the network and says what to do. ",
            h("code", {}, "timebus fsck"),
            " reads the whole log. What the peer says while it runs is in the terminal in which it was started; ",
            h("code", {}, "RUST_LOG=debug timebus up"),
            " says more.",
          ),
        ),
      ),
    );
    void this.#refresh();
    this.#timer = setInterval(() => void this.#refresh(), REFRESH_MS);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  async #refresh() {
    try {
      const [status, metrics] = await Promise.all([this.peer?.status(), this.peer?.metrics()]);
      if (status) this.#body.replaceChildren(...facts(status));
      const now = performance.now();
      for (const { metric, is_rate, element } of this.#charts) {
        const value = (metrics ?? []).filter(({ name }) => name === metric).reduce((sum, { value }) => sum + value, 0);
        const last = this.#last.get(metric);
        if (!is_rate) element.add(value);
        else if (last !== undefined) element.add(Math.max(0, value - last) / ((now - this.#last_ms) / 1000));
        this.#last.set(metric, value);
      }
      this.#last_ms = now;
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

customElements.define("peer-page", PeerPage);
