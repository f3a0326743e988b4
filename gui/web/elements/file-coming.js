import { h } from "../dom.js";
import { howFar, is_quiet, says, saysCame } from "./file-transfers.js";

/** How often it is looked how far a file is that comes. */
const LOOK_MS = 1000;

/** On the page of a file: how much of it is here, from whom the rest comes and how long that takes, or that it came. */
export class FileComing extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  /** Called when all of it is here that was on its way. */
  whole = () => {};
  /** Which file; none where the value is no file, or is kept among the values. @type {string | null} */
  #hash = null;
  #wasComing = false;
  #drawn = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {() => void} */
  #stop = () => {};

  connectedCallback() {
    this.classList.add("stack");
    this.#stop = this.peer?.heed(["blobs"], () => void this.#look()) ?? this.#stop;
  }

  disconnectedCallback() {
    this.#stop();
    clearTimeout(this.#timer);
  }

  /** @param {string | null} hash */
  show(hash) {
    if (hash === this.#hash) return;
    this.#hash = hash;
    void this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    const hash = this.#hash;
    const files = hash ? await this.peer?.files().catch(() => null) : null;
    if (hash !== this.#hash || !this.isConnected) return;
    const transfer = files?.transfers.find((one) => one.hash === hash && !is_quiet(one));
    const came = files?.came.find((one) => one.hash === hash);
    const is_coming = transfer !== undefined && transfer.state !== "going";
    if (this.#wasComing && !is_coming && came) this.whole();
    this.#wasComing = is_coming;
    const drawn = JSON.stringify([transfer, came]);
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      // Who is on a button stays there.
      const focused = /** @type {HTMLElement | null} */ (this.querySelector("button:focus"))?.dataset.which;
      this.replaceChildren(
        ...(transfer ? [h("p", { class: "soft" }, says(transfer)), ...howFar(transfer, "this file", (what) => void this.#say(what))] : []),
        ...(came && !is_coming ? [h("p", { class: "soft small" }, saysCame(came))] : []),
      );
      for (const button of this.querySelectorAll("button")) if (button.dataset.which === focused) button.focus();
    }
    if (transfer?.state === "coming") this.#timer = setTimeout(() => void this.#look(), LOOK_MS);
  }

  /** @param {"pause" | "resume" | "cancel"} what */
  async #say(what) {
    try {
      await this.peer?.sayOfFile(what, this.#hash ?? "");
    } catch (error) {
      this.notices?.sayProblem(error);
    }
    await this.#look();
  }
}

customElements.define("file-coming", FileComing);
