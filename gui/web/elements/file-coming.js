import { h } from "../dom.js";
import { size } from "../words.js";
import { howFar, is_quiet, says, saysCame } from "./file-transfers.js";

/** How often it is looked how much is here of a file that is not all here. */
const LOOK_MS = 1000;

/** On the page of a file: how much of it is here, from whom the rest comes and how long that takes, or that it came. */
export class FileComing extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  /** Where it is kept. @type {import("../path.js").Path} */
  path = [];
  /** Called when all of it is here that was on its way. */
  whole = () => {};
  /** Which file; none where the value is no file, or is kept among the values. @type {string | null} */
  #hash = null;
  #bytes = 0;
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

  /** @param {{ hash: string | null, bytes: number } | null} file */
  show(file) {
    const hash = file?.hash ?? null;
    if (hash === this.#hash) return;
    this.#hash = hash;
    this.#bytes = file?.bytes ?? 0;
    void this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    const hash = this.#hash;
    const files = hash ? await this.peer?.files().catch(() => null) : null;
    const transfer = files?.transfers.find((one) => one.hash === hash && !is_quiet(one));
    const came = files?.came.find((one) => one.hash === hash);
    const is_coming = transfer !== undefined && transfer.state !== "going";
    const here = hash && !is_coming ? ((await this.peer?.bytesHere(this.path).catch(() => null)) ?? null) : null;
    if (hash !== this.#hash || !this.isConnected) return;
    if (this.#wasComing && !is_coming && came) this.whole();
    this.#wasComing = is_coming;
    const lies = here === null ? "" : saysHere(here, this.#bytes);
    const drawn = JSON.stringify([transfer, came, lies]);
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      // Who is on a button stays there.
      const focused = /** @type {HTMLElement | null} */ (this.querySelector("button:focus"))?.dataset.which;
      this.replaceChildren(
        ...(transfer ? [h("p", { class: "soft" }, says(transfer)), ...howFar(transfer, "this file", (what) => void this.#say(what))] : []),
        ...(lies ? [h("p", { class: "soft small" }, lies)] : []),
        ...(came && !is_coming && !lies ? [h("p", { class: "soft small" }, saysCame(came))] : []),
      );
      for (const button of this.querySelectorAll("button")) if (button.dataset.which === focused) button.focus();
    }
    // Whoever opens it, or goes on with it, may do so elsewhere.
    if (is_coming || here !== null) this.#timer = setTimeout(() => void this.#look(), LOOK_MS);
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

/** How much is here of a file that does not come now. @param {number} here @param {number} bytes */
const saysHere = (here, bytes) =>
  here > 0
    ? `${size(here)} of ${size(bytes)} are here; the rest comes when it is opened or downloaded, from whoever has it.`
    : "It is not here yet, and comes when it is opened or downloaded, from whoever has it.";

customElements.define("file-coming", FileComing);
