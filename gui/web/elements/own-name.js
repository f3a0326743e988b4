import { h } from "../dom.js";

let count = 0;

/** What the owner is called, for all who may read him, and in the links that he makes. */
export class OwnName extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** Whether it is saved by a button of its own, and not together with something else. */
  has_button = true;
  #saved = "";
  #input = h("input", { type: "text", maxLength: 64, autocomplete: "name", placeholder: "Your name" });
  #said = h("span", { role: "status", class: "soft small" });

  connectedCallback() {
    count += 1;
    this.#input.id = `own-name-${count}`;
    const save = (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.save().catch((error) => (this.#said.textContent = error.message));
    };
    const label = h("label", { for: this.#input.id }, h("span", {}, "What you are called"), this.#input);
    this.replaceChildren(
      this.has_button
        ? h("form", { class: "stack", onsubmit: save }, label, h("div", { class: "buttons" }, h("button", {}, "Save the name"), this.#said))
        : h("div", { class: "stack" }, label, h("p", { class: "soft small" }, "Without a name others see three words that come of your key.")),
    );
    void this.peer?.ownName().then((name) => {
      this.#saved = name;
      if (this.#input.value === "") this.#input.value = name;
    });
  }

  /** The name that is to be written; nothing if it is as before. @returns {string | undefined} */
  get wanted() {
    const name = this.#input.value.trim();
    return name === this.#saved || name === "" ? undefined : name;
  }

  /** Writes the name, if it is another one than before. */
  async save() {
    const name = this.wanted;
    if (name === undefined) return;
    await this.peer?.sayOwnName(name);
    this.#saved = name;
    this.#said.textContent = "Saved. Whoever may read your space sees it, and your links say it.";
  }
}

customElements.define("own-name", OwnName);
