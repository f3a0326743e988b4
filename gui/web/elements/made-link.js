import { h, make } from "../dom.js";
import { exactTime, plural, size } from "../words.js";
import { QrCode } from "./qr-code.js";

/** @typedef {import("../api/told.js").Invite} Invite */

/** A link that was just made, with what it means for whoever gets it. */
export class MadeLink extends HTMLElement {
  /** @type {Invite | null} */
  made = null;
  /** What it gives, in words. */
  may = "";
  /** What is done with it at the other end; nothing for what a friend does. */
  there = "";

  connectedCallback() {
    const { made } = this;
    if (!made) return;
    const link = made.http_link ?? made.link ?? "";
    const copied = h("span", { role: "status", class: "small soft" });
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(link);
        copied.textContent = "Copied.";
      } catch {
        copied.textContent = "Select the link to copy it.";
      }
    };
    const there = made.http_link
      ? "It opens in any browser. "
      : "Your friend pastes it into the pages of a timebus of their own, or types timebus join and the link. ";
    const nowhere = reach(made.addresses ?? []);
    this.replaceChildren(
      h(
        "div",
        { class: "card stack" },
        h("h2", {}, "Here is the link"),
        h("div", { class: "copyable" }, h("code", {}, link), h("button", { type: "button", onclick: copy }, "Copy")),
        copied,
        made.qr ? make(QrCode, { rows: made.qr, label: "The link as a QR code" }) : "",
        h("ul", { class: "wants" }, [this.may, ...meaning(made)].filter(Boolean).map((line) => h("li", {}, line))),
        nowhere ? h("p", { class: "note" }, nowhere) : "",
        h(
          "p",
          { class: "soft small" },
          this.there || there,
          `Works ${made.uses_max === 1 ? "once" : `${made.uses_max} times`}, until ${made.expires_ms ? exactTime(made.expires_ms) : "you take it back"}.`,
          " It is shown now and never again.",
        ),
      ),
    );
  }
}

/** What a link says beside what it gives, as it is said on the command line. @param {Invite} made */
function meaning({ role, only, depth = 0 }) {
  if (role === "device") return [];
  return [
    only ? "They also see the names of all paths that you keep apart, and who may read those; not what is there." : "",
    depth === 0 ? "They may bring nobody." : `They may let others in to the same, ${levelsOf(depth)}.`,
  ];
}

/** How far guests may bring guests. @param {number} depth */
export const levelsOf = (depth) => (depth === 1 ? "who may bring nobody in turn" : `and those again, ${plural(depth, "level")} in all`);

/** Whether an address leads to the machine alone where it stands. @param {string} address */
export const isOfMachine = (address) => /^((relay:https?|wss?):\/\/)?(127\.|\[::1\]|localhost\b)/.test(address);

/** Why a link leads nowhere, if it does. @param {string[]} addresses */
export function reach(addresses) {
  if (addresses.length === 0)
    return (
      "Nobody can reach this peer: it has no address, so the link leads nowhere for now." +
      " Start it without --offline, and make another link."
    );
  if (addresses.every((address) => isOfMachine(address)))
    return (
      "Only programs on this machine can reach this peer, so the link works on no other one." +
      " Connect this machine to a network, and make another link."
    );
  if (addresses.every((address) => isOfMachine(address) || isOfNetwork(address)))
    return (
      "The link works for those who are in the same network as this machine, or come there." +
      " Over the internet it needs an address that leads here; timebus up --help says how."
    );
  return "";
}

/** @param {string} address */
const isOfNetwork = (address) => /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|\[f[cde])/.test(address);

/** What an invite gives, in a line. @param {Invite} invite @param {string} of whose space it is, if not the own one */
export function wordsOfInvite(invite, of = "") {
  const most = invite.bytes_max > 0 ? `, up to ${size(invite.bytes_max)}` : "";
  const reads = invite.only ? `reads ${invite.path}${of} and nothing else` : `reads all${of} that is not kept apart`;
  switch (invite.role) {
    case "write":
      return `${reads}, writes ${invite.path === "/" ? "everywhere" : `in ${invite.path}`}${most}`;
    case "device":
      return invite.uses > 0 ? "made a machine a device of yours" : "makes a machine a device of yours";
    case "member":
      return `is a member${of}`;
    default:
      return reads;
  }
}

customElements.define("made-link", MadeLink);
