import { hrefOf, pathOfPage } from "../api/pages.js";
import { fileOfAnybody, readByAnybody } from "../api/peer.js";
import { h, make } from "../dom.js";
import { labelOf, segmentOf, showPath } from "../path.js";
import { plural, preview } from "../words.js";
import { ValueView } from "./value-view.js";

/** What everybody may read at the path of the page, for those who are not its owner; nothing where that is nothing. */
export class PublicValue extends HTMLElement {
  async connectedCallback() {
    const path = pathOfPage();
    if (path[0]?.startsWith(".")) return;
    const found = await readByAnybody(path);
    if (!found || found.value === null || !this.isConnected) return;
    const { value } = found;
    const is_parts = typeof value === "object" && !("@type" in value) && Object.keys(value).length > 0;
    const view = is_parts
      ? h("ul", { class: "wants" }, Object.entries(value).map(([name, part]) => row(path, name, part, Array.isArray(value))))
      : make(ValueView, { value, name: labelOf(path.at(-1) ?? "file"), readFile: () => fileOfAnybody(path) });
    this.replaceChildren(h("section", { class: "card stack" }, h("h1", {}, `What everybody may read at ${showPath(path)}`), view));
  }
}

/** @param {string[]} path @param {string} name @param {any} part @param {boolean} is_list */
function row(path, name, part, is_list) {
  const more = typeof part === "object" && part !== null ? part["@more"] : undefined;
  const words = typeof more === "number" ? plural(more, "value") : preview(part).text;
  return h("li", {}, is_list ? "" : h("a", { href: hrefOf([...path, segmentOf(name)]) }, name), is_list ? "" : " ", h("span", { class: "anywhere" }, words));
}

customElements.define("public-value", PublicValue);
