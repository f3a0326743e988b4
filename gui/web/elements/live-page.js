import { Problem } from "../api/problem.js";
import { h, later, make } from "../dom.js";
import { ProblemCard } from "./problem-card.js";

/** How long after somebody typed what waits for that is drawn. */
const AFTER_TYPING_MS = 500;

/**
 * A page that shows what the peer tells of itself, and follows it. What it shows is drawn again when it is another one, and
 * never while somebody types in it.
 * @template T
 */
export class LivePage extends HTMLElement {
  /** @type {import("../api/peer.js").Peer | null} */
  peer = null;
  /** @type {import("./notice-list.js").NoticeList | null} */
  notices = null;
  #problem = h("div", {});
  #drawn = "";
  /** How often it was read, and which of these is drawn: an answer that was overtaken is old. */
  #asked = 0;
  #newest = 0;
  /** Whether something waits to be drawn until nobody types. */
  #waits = false;
  /** Whoever leaves a field may be about to press a button. */
  #left = later(AFTER_TYPING_MS, () => {
    if (this.#waits && this.isConnected) void this.show();
  });
  /** @type {() => void} */
  #stop = () => {};

  /** What the peer tells that is shown here. @returns {string[]} */
  get parts() {
    return [];
  }

  /** What stands around it. @returns {(Node | string)[]} */
  frame() {
    return [];
  }

  /** @param {import("../api/peer.js").Peer} _peer @returns {Promise<T>} */
  read(_peer) {
    throw new TypeError("a page says what it reads");
  }

  /** @param {T} _value */
  draw(_value) {}

  connectedCallback() {
    this.replaceChildren(h("main", { class: "stack wide" }, ...this.frame(), this.#problem));
    this.addEventListener("focusout", () => this.#left());
    void this.show();
    this.#stop = this.peer?.heed(this.parts, () => void this.show()) ?? this.#stop;
  }

  disconnectedCallback() {
    this.#stop();
  }

  async show() {
    if (!this.peer) return;
    const number = (this.#asked += 1);
    try {
      const value = await this.read(this.peer);
      if (number < this.#newest) return;
      this.#newest = number;
      const now = JSON.stringify(value);
      this.#waits = now !== this.#drawn && this.querySelector("input:focus") !== null;
      if (now === this.#drawn || this.#waits) return;
      this.#drawn = now;
      this.#problem.replaceChildren();
      this.draw(value);
    } catch (error) {
      this.#drawn = "";
      this.#problem.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** Does something, says what is wrong with it, and shows what became of it. @param {() => Promise<unknown> | undefined} run */
  async do(run) {
    try {
      await run();
    } catch (error) {
      this.notices?.sayProblem(error);
    }
    this.#drawn = "";
    await this.show();
  }
}
