import { h } from "../dom.js";
import { fileOf, preview, size } from "../words.js";

/** Texts up to this length are shown large. */
const BIG_CHARS_MAX = 200;

/** One value without parts. */
export class ValueView extends HTMLElement {
  /** @type {any} */
  value = null;
  /** Reads the bytes of a file as a `data:` URL. @type {() => Promise<string>} */
  readFile = async () => "";

  connectedCallback() {
    this.show(this.value);
  }

  /** @param {any} value */
  show(value) {
    this.value = value;
    const file = fileOf(value);
    if (file) {
      this.#showFile(file);
      return;
    }
    const { text, kind } = preview(value);
    if (kind === "link") {
      this.replaceChildren(h("p", {}, h("a", { href: value.link }, text)));
      return;
    }
    const whole =
      typeof value === "string"
        ? value === ""
          ? '""'
          : value
        : kind === "parts" && text.startsWith("empty")
          ? text
          : JSON.stringify(value, null, 2);
    this.replaceChildren(
      h(
        "pre",
        { class: `value ${kind} ${whole.length <= BIG_CHARS_MAX ? "big" : ""}`, tabIndex: 0, "aria-label": "Value" },
        whole,
      ),
    );
  }

  /** @param {{ mime: string, bytes: number }} file */
  #showFile(file) {
    const shown = h("div", {});
    const download = async () => {
      const link = h("a", { href: await this.readFile(), download: "" });
      link.click();
    };
    this.replaceChildren(
      h(
        "div",
        { class: "stack" },
        h("p", {}, `A file: ${file.mime}, ${size(file.bytes)}`),
        shown,
        h("div", { class: "buttons" }, h("button", { type: "button", onclick: download }, "Download")),
      ),
    );
    if (/^image\/(png|jpeg|gif|webp|avif)$/.test(file.mime)) {
      this.readFile().then(
        (src) => shown.replaceChildren(h("img", { src, alt: "The picture that is kept here" })),
        () => shown.replaceChildren(h("p", { class: "soft" }, "The picture could not be read.")),
      );
    }
  }
}

customElements.define("value-view", ValueView);
