import { Problem } from "../api/problem.js";
import { h, make } from "../dom.js";
import { ProblemCard } from "./problem-card.js";

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
    void this.show();
    this.#stop = this.peer?.heed(this.parts, () => void this.show()) ?? this.#stop;
  }

  disconnectedCallback() {
    this.#stop();
  }

  async show() {
    if (!this.peer) return;
    try {
      const value = await this.read(this.peer);
      const now = JSON.stringify(value);
      if (now === this.#drawn || this.querySelector("input:focus")) return;
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
