import { h, later } from "../dom.js";
import { parsePath, segmentOf, showPath } from "../path.js";

/** How long somebody pauses before names are looked up. */
const PAUSE_MS = 150;
/** Names that are offered. */
const OFFERED_MAX = 50;

let count = 0;

/** A field for a path, which offers the names that are there. */
export class PathInput extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** What it is for. */
  label = "Where";
  /** @type {string} */
  start = "/";
  #input = h("input", { type: "text", spellcheck: false, autocapitalize: "none", autocomplete: "off" });
  #offered = h("datalist", {});
  #words = h("span", {});
  #parent = "";

  get value() {
    const value = this.#input.value.trim();
    // Whoever writes no slash means the same path; a name behind an `@` is of another space.
    return value.startsWith("/") || value.startsWith("@") ? value : `/${value}`;
  }

  set value(value) {
    this.#input.value = value;
  }

  connectedCallback() {
    if (this.childElementCount > 0) return;
    count += 1;
    this.#input.id = `path-input-${count}`;
    this.#offered.id = `path-names-${count}`;
    this.#input.setAttribute("list", this.#offered.id);
    this.#input.value = this.start;
    const look = later(PAUSE_MS, () => void this.#offer());
    this.#input.addEventListener("input", look);
    this.#input.addEventListener("focus", look);
    this.say(this.label);
    this.replaceChildren(h("label", { for: this.#input.id }, this.#words, this.#input), this.#offered);
  }

  /** Says what it is for now. @param {string} label */
  say(label) {
    this.#words.textContent = label;
  }

  /** Offers what is below the last name that is whole. */
  async #offer() {
    const whole = this.#input.value.slice(0, this.#input.value.lastIndexOf("/") + 1);
    if (whole === this.#parent || !this.peer) return;
    this.#parent = whole;
    const above = parsePath(whole);
    const { value } = await this.peer.list(above, { limit: OFFERED_MAX }).catch(() => ({ value: {} }));
    if (whole !== this.#parent) return;
    const names = typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
    const option = (/** @type {string} */ name) => h("option", { value: showPath([...above, segmentOf(name)]) });
    this.#offered.replaceChildren(...names.filter((name) => !name.startsWith("@list") && name !== "@more").map(option));
  }
}

customElements.define("path-input", PathInput);
