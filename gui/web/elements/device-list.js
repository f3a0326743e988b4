import { hrefOfPage } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { listed, plural } from "../words.js";
import { MadeLink } from "./made-link.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").Device} Device */

/** Devices that are named in one line. */
const NAMED_MAX = 5;

/** The owner's own devices: what they are called, adding one, and removing one that is lost. */
export class DeviceList extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  #list = h("ul", { class: "rows" });
  #former = h("details", {});
  #said = h("div", { class: "stack", role: "status" });
  #shown = "";
  /** The device of which it is asked whether to remove it. @type {string | null} */
  #asked = null;
  /** Whether those that it made are to go with it. */
  #made = false;
  /** @type {() => void} */
  #stop = () => {};

  connectedCallback() {
    this.classList.add("stack");
    this.replaceChildren(
      h("p", { class: "soft small" }, "Each of them has your space and may do all that you can."),
      this.#list,
      this.#said,
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => void this.#add() }, "Add a device")),
      this.#former,
    );
    void this.#look();
    this.#stop = this.peer?.heed(["devices"], () => void this.#look()) ?? this.#stop;
  }

  disconnectedCallback() {
    this.#stop();
  }

  async #look() {
    try {
      const all = await this.peer?.devices();
      const now = JSON.stringify(all);
      if (!all || now === this.#shown || this.#list.querySelector("input:focus")) return;
      this.#shown = now;
      this.#list.replaceChildren(...all.devices.map((device) => this.#row(device, all.devices.length > 1)));
      this.#former.hidden = all.former.length === 0;
      this.#former.replaceChildren(
        h("summary", {}, `${plural(all.former.length, "device")} of before`),
        h("ul", { class: "wants small" }, all.former.map(({ name }) => h("li", {}, `${name}: what it writes counts nowhere any more`))),
      );
    } catch (error) {
      this.#said.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** @param {Device} device @param {boolean} has_others */
  #row(device, has_others) {
    const input = h("input", { type: "text", maxLength: 64, value: device.name, "aria-label": `What ${device.name} is called` });
    const rename = (/** @type {Event} */ event) => {
      event.preventDefault();
      input.blur();
      void this.#do(async () => {
        await this.peer?.nameDevice(device.device, input.value.trim());
      });
    };
    const below = h("div", { class: "stack" });
    const ask = async () => below.replaceChildren(...(await this.#asking(device)));
    const remove = () => {
      this.#asked = device.device;
      this.#made = false;
      void ask();
    };
    // Who is being asked goes on being asked when the list is drawn anew.
    if (this.#asked === device.device) void ask();
    return h(
      "li",
      { class: "stack" },
      h(
        "div",
        { class: "row-head" },
        h("strong", { dir: "auto" }, device.name),
        h("code", { class: "soft", title: device.device }, `${device.device.slice(0, 8)}…`),
        device.this ? h("span", { class: "soft" }, "this one") : "",
      ),
      h(
        "div",
        { class: "buttons" },
        h("form", { class: "buttons", onsubmit: rename }, input, h("button", {}, "Rename")),
        device.this || !has_others ? "" : h("button", { type: "button", class: "danger", onclick: remove }, `Remove ${device.name}…`),
      ),
      below,
    );
  }

  /** What removing one means, before it is done. @param {Device} device */
  async #asking(device) {
    const made = h("input", { type: "checkbox", checked: this.#made, onchange: () => (this.#made = made.checked) });
    // Who cannot be told what goes with it can remove it all the same.
    const told = await this.peer?.lookAtRemoval(device).catch(() => null);
    const others = told?.stay.map(({ name }) => name) ?? null;
    const leave = () => {
      this.#asked = null;
      this.#shown = "";
      void this.#look();
    };
    const remove = () =>
      this.#do(async () => {
        this.#asked = null;
        const told = await this.peer?.removeDevice(device.device, made.checked);
        if (!told) return;
        const names = (/** @type {{ name: string }[]} */ all) => listed(all.map(({ name }) => name), NAMED_MAX);
        this.#said.replaceChildren(
          h("p", { class: "note" }, `${names([told, ...told.also])}: no device of yours any more. What is written there from now on counts nowhere.`),
          told.stay.length > 0
            ? h("p", {}, `It had made ${names(told.stay)} a device of yours, too, and that stays. If it was not you who did, remove that as well.`)
            : "",
          h("p", {}, "Whoever has it can read what was on it, also what you kept apart, and can use what you are signed in to there."),
          h("p", {}, "Your other devices go on as they were. A new phone becomes yours with “Add a device”."),
        );
      });
    return [
      h("h3", {}, "This is what it would do"),
      h("p", {}, `What ${device.name} writes from now on counts nowhere, and nothing new goes there. It keeps what it has, and what it wrote so far stays.`),
      told && told.hidden > 0 ? h("p", {}, `${plural(told.hidden, "change")} of it would be hidden: nobody here has gone on from that.`) : "",
      told && told.guests.length > 0
        ? h("p", {}, `${listed(told.guests, NAMED_MAX)} came in by way of it and may go on: `, h("a", { href: hrefOfPage("grants") }, "Rights"), " takes that back.")
        : "",
      others && others.length > 0 ? h("p", {}, `It made ${listed(others, NAMED_MAX)} a device of yours, too.`) : "",
      others && others.length === 0
        ? h("p", { class: "soft" }, "It made no other device yours.")
        : h("label", { class: "check" }, made, ` also ${others ? listed(others, NAMED_MAX) : "the devices that it made yours"}, if it was not you who did that`),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "danger", onclick: remove }, "Remove this device"),
        h("button", { type: "button", onclick: leave }, "Leave it"),
      ),
    ];
  }

  async #add() {
    await this.#do(async () => {
      const made = await this.peer?.invite({ role: "device", uses: 1 });
      const there = "On the new machine it is taken with timebus join and the link, before timebus was started there. ";
      const may = "Whoever takes it may do everything that you can. Send it to nobody but yourself.";
      if (made) this.#said.replaceChildren(make(MadeLink, { made, may, there }));
    });
  }

  /** @param {() => Promise<void>} run */
  async #do(run) {
    this.#said.replaceChildren();
    try {
      await run();
    } catch (error) {
      this.#said.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
    this.#shown = "";
    await this.#look();
  }
}

customElements.define("device-list", DeviceList);
