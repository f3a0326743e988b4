import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { duration, plural, size } from "../words.js";
import { DeviceList } from "./device-list.js";
import { FileTransfers } from "./file-transfers.js";
import { PeerHealth } from "./peer-health.js";
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
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  #body = h("div", { class: "stack" }, h("p", { class: "loading" }, "Asking the peer…"));
  #health = new PeerHealth();
  #files = new FileTransfers();
  #output = h("pre", { class: "output", tabIndex: 0, "aria-label": "The last lines of the log" }, "…");
  #charts = CHARTS.map((chart) => ({ ...chart, element: make(SmallChart, { label: chart.label, say: chart.say }) }));
  /** @type {Map<string, number>} */
  #last = new Map();
  #last_ms = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  connectedCallback() {
    Object.assign(this.#files, { peer: this.peer, notices: this.notices });
    this.replaceChildren(
      h(
        "main",
        { class: "stack wide" },
        h("h1", {}, "This peer"),
        h("section", { class: "card stack" }, h("h2", {}, "How it is"), this.#health),
        h("section", { class: "card stack" }, h("h2", {}, "Your devices"), make(DeviceList, { peer: this.peer })),
        h("section", { class: "card stack" }, h("h2", {}, "Files"), this.#files),
        h(
          "div",
          { class: "charts" },
          this.#charts.map(({ element }) => element),
        ),
        h("section", { class: "card stack" }, h("h2", {}, "About it"), this.#body),
        h(
          "section",
          { class: "card stack" },
          h("h2", {}, "What it says"),
          this.#output,
          h(
            "p",
            { class: "soft small" },
            h("code", {}, "timebus doctor"),
            " in a terminal looks deeper: into the folder, the disk and each machine it talks to. ",
            h("code", {}, "RUST_LOG=debug timebus up"),
            " has it say more here.",
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

  /** @param {string[]} lines */
  #say(lines) {
    const text = lines.length > 0 ? lines.join("\n") : "Nothing yet.";
    if (this.#output.textContent === text) return;
    // Who reads further up is not moved.
    const is_at_end = this.#output.scrollTop + this.#output.clientHeight >= this.#output.scrollHeight - 4;
    this.#output.textContent = text;
    if (is_at_end) this.#output.scrollTop = this.#output.scrollHeight;
  }

  async #refresh() {
    try {
      const [health, metrics, lines] = await Promise.all([
        this.peer?.health(),
        this.peer?.metrics(),
        this.peer?.output().catch(() => []),
      ]);
      if (health) {
        this.#body.replaceChildren(facts(health.status));
        this.#health.show(health);
        if (health.files) this.#files.show(health.files);
      }
      this.#say(lines ?? []);
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

/** @param {import("../api/told.js").Status} status */
function facts(status) {
  /** @type {[string, (Node | string)[]][]} */
  const lines = [
    ["Name", [h("strong", {}, status.name), h("div", { class: "soft small" }, "the name of its key; what you are called you say at People")]],
    [
      "Address",
      [h("code", {}, status.id), h("div", { class: "soft small" }, "what others know this space by; safe to tell")],
    ],
    ["Device", [h("code", {}, status.device)]],
    ["Listens on", status.http.map((address) => h("div", {}, address))],
    ["Folder", [h("code", {}, status.home)]],
    [
      "Recovery",
      [
        "48 words bring your space back if all your devices are lost. ",
        h("div", { class: "soft small" }, "For them stop this peer, and type ", h("code", {}, "timebus kit"), " in a terminal."),
      ],
    ],
    ["Running for", [duration(status.uptime_ms)]],
    [
      "Holds",
      [`${plural(status.changes, "change")}, ${size(status.log_bytes)}, and ${size(status.index_bytes)} of index`],
    ],
    ["Busy with", [`${plural(status.connections, "connection")}, ${plural(status.subscriptions, "watch", "watches")}`]],
    ["Version", [`timebus ${status.version}`]],
  ];
  return h(
    "dl",
    { class: "facts" },
    lines.flatMap(([name, parts]) => [h("dt", {}, name), h("dd", {}, parts)]),
  );
}

customElements.define("peer-page", PeerPage);
