import { h, withCode } from "../dom.js";

/** @typedef {import("../api/told.js").Dispute} Dispute */

/** That it is in dispute who the root of a space is, what that means, and what to do next. */
export class RootDispute extends HTMLElement {
  /** @type {Dispute | null} */
  dispute = null;

  connectedCallback() {
    if (!this.dispute) return;
    const { says, means, fix } = wordsOfDispute(this.dispute);
    this.replaceChildren(
      h(
        "div",
        { class: "note stack small", role: "note" },
        h("p", {}, h("strong", {}, says)),
        h("p", {}, means),
        h("p", {}, h("strong", {}, "What to do: "), withCode(fix)),
      ),
    );
  }
}

/** @param {Dispute} dispute */
export function wordsOfDispute({ space, name, own, roots, decided_by }) {
  const whose = own ? "your space" : `the space of ${name}`;
  const keys = [...new Set(roots)].map((root) => `${root.slice(0, 8)}…`);
  // With the words of one sheet one key follows, and what is to follow on that differs.
  const which = keys.length > 1 ? keys.join(" and ") : "two successions were made with the words of one sheet";
  const anew = (/** @type {string} */ rest) => `\`timebus --home NEW-FOLDER recover ${rest}\``;
  const fixes = own
    ? {
        words: "stop this peer, and type `timebus rotate` in a terminal, with the words of your sheet: that decides it.",
        guardians: `your guardians decide. Type ${anew(`--by-guardians --space ${space}`)} in a terminal, and ask them; \`timebus guardians\` says who they are.`,
        nobody: `nothing decides it any more. Begin anew with the word of your friends: ${anew("--by-friends")}. What is here stays readable.`,
      }
    : {
        words: `ask ${name} by voice. Whoever has the words of the root decides it, with \`timebus rotate\`.`,
        guardians: `ask ${name} by voice. The guardians decide it; if you are one of them, agree to nothing that ${name} did not ask of you by voice.`,
        nobody: `ask ${name} by voice. Nothing decides it any more: ${name} begins anew, and asks you to say so. Believe no link alone.`,
      };
  return {
    says: `It is in dispute who the root of ${whose} is: ${which}.`,
    means:
      "The root is the key above all others of a space. What was given before goes on, and a device that was taken out meanwhile has its " +
      "rights again; nothing new counts that a root says.",
    fix: fixes[decided_by],
  };
}

customElements.define("root-dispute", RootDispute);
