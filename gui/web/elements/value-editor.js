import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { preview } from "../words.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").Content} Content */

const JSON_TYPE = "application/json";
let editors = 0;

/** A form for one value: as text, as JSON, or as text of a media type. */
export class ValueEditor extends HTMLElement {
  /** What stands there at first; JSON unless there is a media type. */
  text = "";
  /** Whether `text` is plain text, not JSON. */
  isText = true;
  /** Media type of a text that is no JSON string. @type {string | null} */
  mime = null;
  /** Whether to ask for a name, too. */
  asksName = false;
  /** Whether the value can be written without one, where the form is. */
  needsName = true;
  /** What stands at the name. */
  nameLabel = "Name, or names with slashes";
  /** What the save button says. */
  saves = "Save";
  /** Writes it; the editor stays and shows the problem if this fails. @type {(content: Content, name: string) => Promise<void>} */
  save = async () => {};
  /** Called when nothing is to be saved. */
  cancel = () => {};

  #number = (editors += 1);
  #chosen = false;
  #busy = false;
  #area = h("textarea", { spellcheck: false, rows: 1 });
  #name = h("input", { type: "text", spellcheck: false, autocapitalize: "none", autocomplete: "off" });
  #hint = h("span", { class: "hint", role: "status" });
  #below = h("div", { class: "stack" });
  #button = h("button", { class: "main", type: "submit" });
  /** @type {HTMLInputElement[]} */
  #kinds = [];

  connectedCallback() {
    const id = `editor-${this.#number}`;
    this.#area.id = `${id}-value`;
    this.#name.id = `${id}-name`;
    this.#area.value = this.text;
    this.#button.textContent = this.saves;
    this.#kinds = ["Text", "JSON"].map((label, at) =>
      h("input", { type: "radio", name: `${id}-kind`, value: label, checked: this.isText === (at === 0) }),
    );
    for (const kind of this.#kinds) kind.addEventListener("change", () => this.#choose());
    const kinds = this.mime
      ? h("span", { class: "hint" }, `kept as ${this.mime}`)
      : h(
          "fieldset",
          {},
          h("legend", { class: "hidden-text" }, "Kind of value"),
          this.#kinds.map((kind) => h("label", {}, kind, h("span", {}, kind.value))),
          this.#hint,
        );
    const form = h(
      "form",
      {
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          void this.#submit();
        },
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
        oninput: (/** @type {Event} */ event) => {
          if (event.target === this.#area) this.#guess();
        },
      },
      this.asksName ? h("label", { for: this.#name.id }, h("span", {}, this.nameLabel), this.#name) : "",
      h("label", { for: this.#area.id }, h("span", {}, "Value"), this.#area),
      kinds,
      this.#below,
      h(
        "div",
        { class: "buttons" },
        this.#button,
        h("button", { type: "button", onclick: () => this.cancel() }, "Cancel"),
        h("span", { class: "hint keys" }, "Ctrl+Enter saves, Esc leaves"),
      ),
    );
    this.replaceChildren(form);
    this.#describe();
    (this.asksName ? this.#name : this.#area).focus();
  }

  /** Whether what others wrote while this was open is to be replaced, too. */
  replaces = false;

  /** Says that others wrote meanwhile, and what can be done about it. */
  sayChanged() {
    this.say("This changed while you were editing. If you save, both values are kept, side by side.", {
      label: "Save over the other one",
      run: () => {
        this.replaces = true;
        void this.#submit();
      },
    });
  }

  /**
   * Says something beside the value.
   * @param {string} text
   * @param {{ label: string, run: () => void }} [button]
   */
  say(text, button) {
    const note = h("div", { class: "note buttons", role: "status" }, h("span", {}, text));
    if (button) {
      const run = () => {
        button.run();
        note.remove();
      };
      note.append(h("button", { type: "button", onclick: run }, button.label));
    }
    this.#below.replaceChildren(note);
  }

  get #isJson() {
    return this.mime === null && Boolean(this.#kinds[1]?.checked);
  }

  #choose() {
    this.#chosen = true;
    this.#describe();
  }

  /** In a new value, what reads as a number, an object or the like is taken for one until somebody chooses. */
  #guess() {
    if (!this.#chosen && this.text === "" && this.mime === null) {
      const looks = /^\s*([[{]|-?\d+(\.\d+)?\s*$|(true|false|null)\s*$)/.test(this.#area.value);
      const kind = this.#kinds[looks ? 1 : 0];
      if (kind) kind.checked = true;
    }
    this.#describe();
  }

  #describe() {
    if (this.mime) return;
    this.#hint.classList.remove("wrong");
    if (!this.#isJson) {
      this.#hint.textContent = "saved as text";
      return;
    }
    try {
      this.#hint.textContent = `saved as ${kindOf(JSON.parse(this.#area.value))}`;
    } catch (error) {
      this.#hint.textContent =
        this.#area.value.trim() === ""
          ? 'JSON, as in {"a": 1}'
          : `not JSON yet: ${error instanceof Error ? error.message : error}`;
      this.#hint.classList.toggle("wrong", this.#area.value.trim() !== "");
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // Keys that mean something in the tree around it.
    event.stopPropagation();
    if (event.key === "Escape") {
      event.preventDefault();
      this.cancel();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void this.#submit();
    }
  }

  async #submit() {
    if (this.#busy) return;
    const text = this.#area.value;
    if (this.asksName && this.needsName && this.#name.value.trim() === "") {
      this.say("A name is missing.");
      this.#name.focus();
      return;
    }
    if (this.#isJson) {
      try {
        JSON.parse(text);
      } catch {
        this.say("This is not JSON. Choose Text to keep it as it stands.");
        return;
      }
    }
    this.#busy = true;
    this.#button.disabled = true;
    this.#button.textContent = "Saving…";
    try {
      const content = this.mime
        ? { body: text, type: this.mime }
        : { body: this.#isJson ? text : JSON.stringify(text), type: JSON_TYPE };
      await this.save(content, this.#name.value.trim());
    } catch (error) {
      this.#below.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
    this.#busy = false;
    this.#button.disabled = false;
    this.#button.textContent = this.saves;
  }
}

/** @param {any} value */
function kindOf(value) {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return `an object with ${Object.keys(value).length} members`;
  if (typeof value === "number") return "a number";
  if (typeof value === "string") return "text";
  return preview(value).text;
}

/**
 * What an editor shows for a value that was read.
 * @param {import("../api/told.js").Reading} reading
 * @param {string} path
 * @returns {{ text: string, isText: boolean, mime: string | null }}
 */
export function editable(reading, path) {
  const json = /^application\/json\b/.test(reading.type);
  if (!json && !reading.type.startsWith("text/"))
    throw new Problem(0, "this is a file", `its type is ${reading.type}, which is no text that could be edited here`, "Replace, on its page, puts another file in its place");
  if (reading.truncated)
    throw new Problem(
      0,
      "this is too large to edit here",
      "it has more than 256 kB",
      `edit a part of it, or run \`timebus edit ${path}\``,
    );
  if (!json) return { text: reading.text, isText: true, mime: reading.type };
  const value = JSON.parse(reading.text);
  if (typeof value === "string") return { text: value, isText: true, mime: null };
  return { text: JSON.stringify(value, null, 2), isText: false, mime: null };
}

customElements.define("value-editor", ValueEditor);
