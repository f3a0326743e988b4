import { hrefOf, hrefOfPage } from "../api/pages.js";
import { Problem } from "../api/problem.js";
import { h, make, withCode } from "../dom.js";
import { keepApart } from "../keep-apart.js";
import { isElsewhere, parsePath, showPath } from "../path.js";
import { ago, exactTime, plural, size } from "../words.js";
import { LivePage } from "./live-page.js";
import { PathInput } from "./path-input.js";
import { ProblemCard } from "./problem-card.js";

/** @typedef {import("../api/told.js").Grant} Grant */
/** @typedef {{ grants: Grant[], names: string[], devices: import("../api/told.js").Device[] }} Shown */

/** What can be given, and asked about. @type {[string, string][]} */
const MAY = [
  ["read", "read"],
  ["write", "read and write"],
  ["moderate", "read, take rights of members back"],
  ["admin", "read, write, give and take back rights"],
];
/** @type {[string, string][]} */
const ASKED = [
  ["read", "may read"],
  ["write", "may write at"],
  ["admin", "may give rights at"],
  ["moderate", "may take rights back at"],
  ["shown", "is shown"],
];
/** What is said where all that somebody wrote has been gone on from. */
const GONE_ON = "nothing that is here would be hidden: there is nothing of theirs, or others have gone on from all of it. What they write from now on is hidden";
/** Changes that would be hidden which are named. */
const HIDDEN_MAX = 5;

/** Whether something is there and can be seen. @param {HTMLElement} element */
function isInSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return element.childElementCount > 0 && top >= 0 && bottom <= innerHeight;
}

/** @param {[string, string][]} all */
const options = (all) => all.map(([value, words]) => h("option", { value }, words));

/** Lines of an answer: commands in them stand in code. @param {string[]} says */
const lines = (says) => says.map((line) => h("p", {}, withCode(line)));

/**
 * Who may do what: what was given, giving more, taking back, and why somebody may or may not.
 * @extends {LivePage<Shown>}
 */
export class GrantsPage extends LivePage {
  #list = h("ul", { class: "rows" });
  #over = h("details", {});
  #names = h("datalist", { id: "grant-names" });
  #given = h("div", {});
  #why = h("div", { role: "status" });
  /** Where a right is given. @type {{ form: HTMLElement | null, who: HTMLInputElement, path: PathInput, can: HTMLSelectElement }} */
  #form = { form: null, who: h("input"), path: new PathInput(), can: h("select") };
  /** What the owner's devices are called. @type {Map<string, string>} */
  #devices = new Map();
  /** The grant about which it is asked what taking it back would do. @type {string | null} */
  #asked = null;

  get parts() {
    return ["grants"];
  }

  frame() {
    return [
      h("h1", {}, "Who may do what"),
      h(
        "p",
        { class: "soft" },
        "A right is for a path and everything below it. You give it to somebody you know, to a key, or to anyone; ",
        h("a", { href: hrefOfPage("invites") }, "an invite"),
        " gives one to somebody you do not know yet.",
      ),
      this.#names,
      this.#giving(),
      this.#given,
      h("h2", {}, "What was given"),
      this.#list,
      this.#over,
      h("h2", {}, "Why, or why not"),
      this.#asking(),
      this.#why,
    ];
  }

  /** @param {import("../api/peer.js").Peer} peer */
  async read(peer) {
    const [grants, names, { devices }] = await Promise.all([peer.grants(), peer.names(), peer.devices()]);
    return { grants, names, devices };
  }

  /** @param {Shown} shown */
  draw({ grants, names, devices }) {
    const is_read = isInSight(this.#why);
    this.#devices = new Map(devices.map(({ device, name }) => [device, name]));
    this.#names.replaceChildren(...names.map((value) => h("option", { value })));
    const of = new Map(grants.map((grant) => [grant.id, grant]));
    const [live, over] = [grants.filter(({ live }) => live), grants.filter(({ live }) => !live)];
    // The owner's own devices come last: nothing is done with them here.
    const sorted = live.toSorted((a, b) => Number(a.name === "you") - Number(b.name === "you") || b.time_ms - a.time_ms);
    this.#list.replaceChildren(...sorted.map((grant) => this.#row(grant, of)));
    this.#over.replaceChildren(
      ...(over.length > 0
        ? [
            h("summary", {}, `${plural(over.length, "right")} not in force any more`),
            h("ul", { class: "rows" }, over.toReversed().map((grant) => this.#row(grant, of))),
          ]
        : []),
    );
    // What is drawn above an answer takes it from nobody.
    if (is_read) this.#why.scrollIntoView({ block: "nearest" });
  }

  /** @param {Grant} grant @param {Map<string, Grant>} of */
  #row(grant, of) {
    const parent = grant.parent ? of.get(grant.parent) : undefined;
    const below = parent && parent.name !== "you" ? `, by what ${parent.name} has` : "";
    const hands_on = grant.depth > 0 && grant.can.includes("give rights on") && grant.name !== "you";
    const limits = [
      grant.bytes_max > 0 ? `up to ${size(grant.bytes_max)} in all` : "",
      grant.not_after_ms > 0 ? `until ${exactTime(grant.not_after_ms)}` : "",
      hands_on ? `hands it on ${plural(grant.depth, "level")} deep` : "",
    ].filter(Boolean);
    const preview = h("div", { class: "stack" });
    const is_own = grant.name === "you";
    const ask = () => {
      this.#asked = grant.id;
      void this.#preview(grant, preview, { all: false, cascade: false, drop: false });
    };
    return h(
      "li",
      { class: "card stack" },
      h(
        "div",
        { class: "row-head" },
        h("strong", { dir: "auto" }, grant.name),
        grant.device && grant.device !== grant.name
          ? h("span", { class: "soft small", title: grant.for }, is_own ? `your device ${this.#devices.get(grant.for) ?? grant.device}` : `by the device ${grant.device}`)
          : "",
        h("span", {}, `may ${join(grant.can)} ${grant.deep ? (grant.path === "/" ? "everywhere" : "at and below") : "at just"} `),
        grant.path === "/" && grant.deep ? "" : h("a", { href: hrefOf(parsePath(grant.path)) }, grant.path),
      ),
      limits.length > 0 ? h("p", {}, limits.join(", ")) : "",
      h(
        "p",
        { class: "soft small" },
        `given by ${grant.by_name}${below}, `,
        h("time", { dateTime: new Date(grant.time_ms).toISOString(), title: exactTime(grant.time_ms) }, ago(grant.time_ms)),
        cameBy(grant.label),
        grant.instead_of ? ", instead of one for a device that was lost" : "",
      ),
      grant.live ? "" : h("p", { class: "note" }, `Not in force: ${grant.why.join(", ")}`),
      grant.live && !is_own
        ? h("div", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: ask }, "Take back…"))
        : grant.live && is_own && this.#devices.size > 1
          ? h("p", { class: "soft small" }, "A device that is lost is removed at ", h("a", { href: hrefOfPage("peer") }, "This peer"), ".")
          : "",
      preview,
    );
  }

  /**
   * What taking it back would do, and doing it.
   * @param {Grant} grant @param {HTMLElement} place @param {{ all: boolean, cascade: boolean, drop: boolean }} wish
   */
  async #preview(grant, place, wish) {
    // A device of before has the name of its owner, who is another one now.
    const what = !wish.all ? grant.id : grant.name.includes(" (") ? grant.for : grant.name;
    const body = { what, cascade: wish.cascade, keep: !wish.drop };
    try {
      const told = (await this.peer?.revoke({ ...body, preview: true })) ?? null;
      if (!told || this.#asked !== grant.id) return;
      const choose = (/** @type {"all" | "cascade" | "drop"} */ name, /** @type {string} */ words) =>
        h(
          "label",
          { class: "check" },
          h("input", {
            type: "checkbox",
            checked: wish[name],
            onchange: (/** @type {Event} */ event) =>
              void this.#preview(grant, place, { ...wish, [name]: /** @type {HTMLInputElement} */ (event.target).checked }),
          }),
          ` ${words}`,
        );
      const take = () => {
        this.#asked = null;
        return this.do(async () => {
          const done = await this.peer?.revoke(body);
          const hidden = done && done.hidden > 0 ? ` ${plural(done.hidden, "change")} hidden; \`timebus quarantine\` lists them.` : "";
          this.notices?.say(`Taken back.${hidden}`);
        });
      };
      const leave = () => {
        this.#asked = null;
        place.replaceChildren();
      };
      const hidden = told.changes.slice(0, HIDDEN_MAX).map((change) => h("li", {}, `${change.paths.join(", ")}, of ${change.name}`));
      place.replaceChildren(
        h("h3", {}, "This is what it would do"),
        ...lines(told.says.map((line) => (wish.drop && line.startsWith("no change ") ? GONE_ON : line))),
        hidden.length > 0 ? h("ul", { class: "wants small" }, hidden) : "",
        told.changes.length > HIDDEN_MAX ? h("p", { class: "soft small" }, `and ${told.hidden - HIDDEN_MAX} more`) : "",
        grant.for === "anyone" ? "" : choose("all", `everything that ${grant.name} has here, not only this`),
        choose("cascade", "also from those whom they let in"),
        choose("drop", "hide also what they wrote that is here, where nobody has gone on from it"),
        h(
          "p",
          { class: "soft small" },
          "Decide about what is here now: once the right is taken back, what they wrote before can only be removed value by value.",
        ),
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", class: "danger", onclick: take }, "Take it back"),
          h("button", { type: "button", onclick: leave }, "Leave it"),
        ),
      );
    } catch (error) {
      place.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
    }
  }

  /** Writes a right into the form that gives one. @param {string} who @param {string} path @param {string} can */
  #fill(who, path, can) {
    const { form } = this.#form;
    this.#form.who.value = who;
    this.#form.path.value = path;
    this.#form.can.value = MAY.some(([value]) => value === can) ? can : "read";
    form?.scrollIntoView({ block: "start" });
    this.#form.who.focus({ preventScroll: true });
  }

  #giving() {
    const who = nameField({ id: "grant-who", required: true });
    const can = h("select", { id: "grant-can" }, options(MAY));
    const path = make(PathInput, { peer: this.peer, label: "At this path, and below" });
    const quota = h("input", { type: "number", id: "grant-quota", min: "1", placeholder: "no limit" });
    const until = h("input", { type: "date", id: "grant-until" });
    const wish = () => ({
      who: who.value.trim(),
      path: path.value,
      can: can.value,
      bytes_max: Math.round((Number(quota.value) || 0) * 1_000_000),
      // The day counts to its end.
      until_ms: until.value ? new Date(`${until.value}T23:59:59`).getTime() : 0,
    });
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      const wanted = wish();
      try {
        const told = await this.peer?.grant({ ...wanted, preview: true });
        if (!told) return;
        const give = () =>
          this.do(async () => {
            await this.peer?.grant(wanted);
            this.#given.replaceChildren();
            who.value = "";
            this.notices?.say(`Given: ${told.says.join("; ")}.`);
          });
        const is_there = told.new === 0;
        this.#given.replaceChildren(
          h(
            "div",
            { class: "card stack" },
            h("h2", {}, "This is what it means"),
            ...lines(told.says),
            ...lines(told.notes),
            ...(await this.#apart(wanted.path, told.notes.length > 0, () => submit(event))),
            is_there ? h("p", { class: "note" }, "They may do so already; nothing would be added.") : "",
            h(
              "div",
              { class: "buttons" },
              is_there ? "" : h("button", { type: "button", class: "main", onclick: give }, "Give this right"),
              h("button", { type: "button", onclick: () => this.#given.replaceChildren() }, "Not now"),
            ),
          ),
        );
      } catch (error) {
        this.#given.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
      }
      this.#given.scrollIntoView({ block: "nearest" });
    };
    const form = h(
      "form",
      { class: "card stack", onsubmit: submit },
      h("h2", {}, "Give a right"),
      h(
        "div",
        { class: "fields" },
        h("label", { for: "grant-who" }, h("span", {}, "Who: a name, a key, or anyone"), who),
        h("label", { for: "grant-can" }, h("span", {}, "May"), can),
        path,
        h("label", { for: "grant-quota" }, h("span", {}, "Writing up to so many MB"), quota),
        h("label", { for: "grant-until" }, h("span", {}, "Until the end of (leave empty for always)"), until),
      ),
      h("div", { class: "buttons" }, h("button", { class: "main" }, "See what it means")),
    );
    this.#form = { form, who, path, can };
    return form;
  }

  /**
   * Keeping a path apart before somebody is let in to it, if that is not so: else he reads all that is not.
   * @param {string} text @param {boolean} is_wide whether more can be read by the right @param {() => void} again
   */
  async #apart(text, is_wide, again) {
    const parts = parsePath(text);
    const path = showPath(parts);
    if (!is_wide || parts.length === 0 || isElsewhere(parts) || !this.peer) return [];
    const all = await this.peer.apart([]).catch(() => []);
    if (all.some((one) => path === one.path || path.startsWith(`${one.path}/`))) return [];
    const keep = async () => {
      try {
        if (this.peer && (await keepApart(this.peer, path))) again();
      } catch (error) {
        this.notices?.sayProblem(error);
      }
    };
    return [h("div", { class: "buttons" }, h("button", { type: "button", onclick: keep }, `Keep ${path} apart first, to give that alone`))];
  }

  #asking() {
    const who = nameField({ id: "why-who", placeholder: "you, on this machine" });
    const can = h("select", { id: "why-can" }, options(ASKED));
    const path = make(PathInput, { peer: this.peer, label: "This path" });
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      try {
        const parts = parsePath(path.value);
        const told = await this.peer?.why(can.value, parts, who.value.trim());
        if (!told) return;
        // Of what may not be read it is not known here whether it is there.
        const reading = can.value === "shown" && isElsewhere(parts) && !told.allowed ? await this.peer?.why("read", parts, who.value.trim()) : null;
        const unread = reading && !reading.allowed ? reading.says : [];
        const [first = "", ...more] = told.says;
        const command = told.fix ?? told.ask?.command ?? null;
        const at = showPath(parsePath(path.value));
        const is_grant = command?.startsWith("timebus grant ") ?? false;
        const whom = told.fix ? "To change that" : `To change that, ask ${told.ask?.who ?? "its owner"} for a link, or for this right`;
        const fill = () => this.#fill(who.value.trim() || "me", at, can.value);
        this.#why.replaceChildren(
          h(
            "div",
            { class: "card stack" },
            h("p", {}, h("strong", {}, withCode(first))),
            ...lines([...unread, ...more]),
            told.fix && is_grant ? h("div", { class: "buttons" }, h("button", { type: "button", onclick: fill }, "Give this right…")) : "",
            command ? h("p", { class: "small" }, `${whom}; in a terminal it is: `, h("code", {}, command)) : "",
          ),
        );
      } catch (error) {
        this.#why.replaceChildren(make(ProblemCard, { problem: Problem.of(error) }));
      }
      this.#why.scrollIntoView({ block: "nearest" });
    };
    return h(
      "form",
      { class: "card stack", onsubmit: submit },
      h(
        "div",
        { class: "fields" },
        h("label", { for: "why-who" }, h("span", {}, "Who"), who),
        h("label", { for: "why-can" }, h("span", {}, "What is asked"), can),
        path,
      ),
      h("div", { class: "buttons" }, h("button", {}, "Ask why")),
    );
  }
}

/** A field for somebody, which offers the names that are known. @param {Record<string, any>} more */
function nameField(more) {
  const field = h("input", { type: "text", spellcheck: false, autocapitalize: "none", autocomplete: "off", ...more });
  field.setAttribute("list", "grant-names");
  return field;
}

/** How somebody came to it, by what the one who gave it noted. @param {string} label */
function cameBy(label) {
  const [kind, id = ""] = label.split(":");
  if (kind === "invite") return `, by the invite ${id.slice(0, 8)}`;
  if (kind === "device") return id ? ", handed on to another device" : "";
  return label ? `, ${label}` : "";
}

/** Things in a row: "a, b and c". @param {string[]} items */
function join(items) {
  return items.length < 2 ? (items[0] ?? "nothing") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}

customElements.define("grants-page", GrantsPage);
