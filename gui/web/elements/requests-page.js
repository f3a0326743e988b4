import { h } from "../dom.js";
import { plural, size } from "../words.js";
import { LivePage } from "./live-page.js";

/** @typedef {import("../api/told.js").Held} Held */

/** What "from now on" can let somebody keep in all; two of these are offered that are enough for what waits. */
const MORE_BYTES = [1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000, 100_000_000_000, 1_000_000_000_000];

/**
 * What others want to keep here beyond what they may: yes once, yes up to a limit, or no.
 * @extends {LivePage<Held[]>}
 */
export class RequestsPage extends LivePage {
  #list = h("ul", { class: "rows" });

  get parts() {
    return ["held"];
  }

  frame() {
    return [
      h("h1", {}, "Requests"),
      h(
        "p",
        { class: "soft" },
        "Everybody may keep so much on your machine and no more. Who wants to keep more has to ask, and waits here for your word.",
      ),
      this.#list,
    ];
  }

  /** @param {import("../api/peer.js").Peer} peer */
  read(peer) {
    return peer.held();
  }

  /** @param {Held[]} held */
  draw(held) {
    const nothing = h("li", { class: "soft" }, "Nobody waits for your word.");
    this.#list.replaceChildren(...(held.length > 0 ? held.map((one) => this.#row(one)) : [nothing]));
  }

  /** @param {Held} held */
  #row(held) {
    const answer = (/** @type {"once" | "never" | number} */ word) => () =>
      this.do(() => this.peer?.allow(held, word));
    const wanted = held.used + held.bytes + held.file_bytes;
    const limits = MORE_BYTES.filter((bytes) => bytes > 2 * wanted).slice(0, 2);
    const question = `Never take more of ${held.name} than is here? Nothing more comes until you let them in again, at People.`;
    const refuse = () => confirm(question) && void answer("never")();
    return h(
      "li",
      { class: "card stack" },
      h("h2", {}, held.name),
      h("p", {}, wants(held)),
      // Whose space it is for, if it is not the own one, and files that changes name.
      held.says.endsWith("for your space") && !held.files ? "" : h("p", { class: "soft small" }, held.says),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "main", onclick: answer("once") }, "Let this in"),
        limits.map((bytes) => h("button", { type: "button", onclick: answer(bytes) }, `From now on up to ${size(bytes)} in all`)),
        h("button", { type: "button", class: "danger", onclick: refuse }, "No"),
      ),
    );
  }
}

/** What somebody wants to keep here. @param {Held} held */
function wants(held) {
  // What is no change of a space yet is the file itself.
  const is_file = held.files > 0 && held.space === null;
  const bytes = is_file ? held.file_bytes : held.bytes;
  const where = is_file ? plural(held.files, "file") : plural(held.changes, "change");
  const about = held.is_whole || is_file ? "" : "at least ";
  return `wants to keep ${about}${size(bytes)} more on your machine, in ${where}.`;
}

customElements.define("requests-page", RequestsPage);
