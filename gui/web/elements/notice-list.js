import { Problem } from "../api/problem.js";
import { h, withCode } from "../dom.js";

/** How long a notice stays; one with a button needs time to be reached. */
const LIFETIME_MS = 4000;
const LIFETIME_WITH_BUTTON_MS = 12_000;
/** Notices at once; more would hide the page. */
const NOTICES_MAX = 2;

/** Short messages that go away by themselves, some with a button. */
export class NoticeList extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "status");
    this.setAttribute("aria-live", "polite");
  }

  /**
   * @param {string} text
   * @param {{ label: string, run: () => Promise<void> | void }} [button]
   * @param {boolean} [stays] whether it is there until somebody closes it
   * @returns {() => void} takes it back
   */
  say(text, button, stays = false) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const notice = h("div", { class: "notice" }, h("span", {}, withCode(text)));
    // What is there until somebody closes it is not said twice: it would push out another one, with its button.
    const said = stays && [...this.children].find((other) => other.firstElementChild?.textContent === notice.textContent);
    if (said) return () => said.remove();
    const wait = () => {
      if (stays) return;
      timer = setTimeout(() => notice.remove(), button ? LIFETIME_WITH_BUTTON_MS : LIFETIME_MS);
    };
    if (button) {
      const run = async () => {
        notice.remove();
        try {
          await button.run();
        } catch (error) {
          this.sayProblem(error);
        }
      };
      notice.append(h("button", { type: "button", onclick: run }, button.label));
    }
    notice.append(
      h(
        "button",
        { type: "button", class: "close", "aria-label": "Close this message", onclick: () => notice.remove() },
        "×",
      ),
    );
    // It stays while somebody is about to press its button.
    for (const enter of ["pointerenter", "focusin"]) notice.addEventListener(enter, () => clearTimeout(timer));
    for (const leave of ["pointerleave", "focusout"]) notice.addEventListener(leave, wait);
    this.append(notice);
    while (this.children.length > NOTICES_MAX) this.firstElementChild?.remove();
    wait();
    return () => notice.remove();
  }

  /** Says what went wrong, which takes longer to read than a notice stays. @param {unknown} error */
  sayProblem(error) {
    const { title, detail, fix } = Problem.of(error);
    this.say([title, detail, fix].filter(Boolean).join(" — "), undefined, true);
  }
}

customElements.define("notice-list", NoticeList);
