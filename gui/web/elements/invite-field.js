import { hrefOfInvite } from "../api/pages.js";
import { h } from "../dom.js";
import { payloadOf } from "../invite-link.js";

/** Where the link of a friend is pasted that no program opens by itself. */
export class InviteField extends HTMLElement {
  connectedCallback() {
    const link = h("input", {
      type: "text",
      id: "invite-link",
      placeholder: "timebus://join/…",
      spellcheck: false,
      autocapitalize: "none",
      autocomplete: "off",
      required: true,
    });
    const wrong = h("p", { class: "note", role: "alert", hidden: true });
    const look = (/** @type {Event} */ event) => {
      event.preventDefault();
      const payload = payloadOf(link.value);
      wrong.hidden = payload !== null;
      wrong.textContent = "This is no invite link, or not all of it. Copy it up to its last letter.";
      if (payload) location.href = hrefOfInvite(payload);
    };
    this.replaceChildren(
      h(
        "form",
        { class: "stack", onsubmit: look },
        h("label", { for: "invite-link" }, h("span", {}, "Did a friend send you a link?"), link),
        wrong,
        h("div", { class: "buttons" }, h("button", {}, "See what it says")),
      ),
    );
  }
}

customElements.define("invite-field", InviteField);
