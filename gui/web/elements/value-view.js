import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { fileOf, preview, size } from "../words.js";
import { ProblemCard } from "./problem-card.js";

/** Texts up to this length are shown large. */
const BIG_CHARS_MAX = 200;
/** A larger file is fetched when somebody wants to see it. */
const SHOWN_BYTES_MAX = 20_000_000;

/** One value without parts. */
export class ValueView extends HTMLElement {
  /** @type {any} */
  value = null;
  /** Reads the bytes of a file. @type {() => Promise<Blob>} */
  readFile = async () => new Blob();
  /** What a download is called. */
  name = "";
  /** Where the bytes are that are shown. @type {string | null} */
  #url = null;
  /** Tries once more to show what could not be read. @type {(() => void) | null} */
  #again = null;

  connectedCallback() {
    this.show(this.value);
  }

  disconnectedCallback() {
    this.#forget();
  }

  /** All of the file is here now: shows it if it could not be read before. */
  hear() {
    this.#again?.();
  }

  /** @param {any} value */
  show(value) {
    this.value = value;
    this.#again = null;
    this.#forget();
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
      // Whatever it is, nothing of it is shown or run where this page is.
      try {
        const url = URL.createObjectURL(new Blob([await this.readFile()], { type: "application/octet-stream" }));
        h("a", { href: url, download: this.name }).click();
        URL.revokeObjectURL(url);
        failed.replaceChildren();
      } catch (error) {
        failed.replaceChildren(unread("file", error, download));
      }
    };
    const failed = h("div", {});
    const kind = mediaOf(file.mime);
    const words = { image: "picture", video: "film", audio: "sound" };
    const open = async () => {
      if (!kind) return;
      this.#again = null;
      shown.replaceChildren(h("p", { class: "loading" }, `Getting the ${words[kind]}…`));
      try {
        const bytes = await this.readFile();
        // It may be late, and something else be shown by now.
        if (!shown.isConnected) return;
        this.#forget();
        // Shown as what it was looked at for, whatever else it may be.
        this.#url = URL.createObjectURL(new Blob([bytes], { type: essenceOf(file.mime) }));
        const unable = () => shown.replaceChildren(h("p", { class: "soft" }, `This browser cannot show the ${words[kind]}; it can be downloaded.`));
        shown.replaceChildren(
          kind === "image"
            ? h("img", { src: this.#url, alt: "The picture that is kept here", onerror: unable })
            : h(kind, { src: this.#url, controls: true, preload: "metadata", onerror: unable, "aria-label": `The ${words[kind]} that is kept here` }),
        );
      } catch (error) {
        if (!shown.isConnected) return;
        this.#again = () => void open();
        shown.replaceChildren(unread(words[kind], error, this.#again));
      }
    };
    const is_large = file.bytes > SHOWN_BYTES_MAX;
    const buttons = h("div", { class: "buttons" });
    if (kind && is_large) {
      const show = () => {
        first.remove();
        void open();
      };
      const first = h("button", { type: "button", class: "main", onclick: show }, kind === "image" ? "Show" : "Play");
      buttons.append(first);
    }
    buttons.append(h("button", { type: "button", onclick: download }, "Download"));
    this.replaceChildren(h("div", { class: "stack" }, h("p", {}, `A file: ${file.mime}, ${size(file.bytes)}`), shown, buttons, failed));
    if (kind && !is_large) void open();
  }

  #forget() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }
}

/**
 * What to say of a file that could not be read, with what to do about it.
 * @param {string} what @param {unknown} error @param {() => void} again
 */
function unread(what, error, again) {
  // It ended in the middle.
  const cut = new Problem(0, `the ${what} could not be read to its end`, "nobody who has it can be reached now, or it was paused", "try again, or go on with it if you paused it");
  return make(ProblemCard, { problem: error instanceof Problem ? error : cut, again });
}

/** @param {string} mime */
const essenceOf = (mime) => (mime.split(";")[0] ?? "").trim().toLowerCase();

/** How a browser shows what has this media type; null for what can do more than be shown. @param {string} mime */
function mediaOf(mime) {
  const essence = essenceOf(mime);
  if (/^image\/(png|jpeg|gif|webp|avif)$/.test(essence)) return "image";
  if (/^(video|audio)\/[a-z0-9.+-]+$/.test(essence) && !essence.includes("xml")) return essence.startsWith("video") ? "video" : "audio";
  return null;
}

customElements.define("value-view", ValueView);
