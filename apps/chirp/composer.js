// Where posts are written: counts as Twitter does, finds whom you mention, makes pictures small.

import { fileValue, pictureOf } from "/sdk.js";
import { h, icon, toast } from "/dom.js";
import { LENGTH_MAX, lengthOf } from "/text.js";
import { avatar, embedded, follow } from "/post.js";

/** @typedef {import("/model.js").Model} Model */
/** @typedef {import("/model.js").Entry} Entry */

const PICTURES_MAX = 4;
const DRAFT = "chirp:draft";

/**
 * @param {Model} model
 * @param {{ reply?: Entry, quote?: Entry, done?: () => void, is_open?: boolean }} how
 */
export function composer(model, { reply, quote, done, is_open = false }) {
  const draft = reply || quote ? null : DRAFT;
  const words = reply ? "Write your answer" : quote ? "What do you say to it?" : "What is happening?";
  const area = h("textarea", {
    rows: is_open ? 3 : 1,
    placeholder: words,
    "aria-label": words,
    value: (draft && localStorage.getItem(draft)) || "",
    dir: "auto",
  });
  const count = h("span", { class: "left", "aria-live": "polite" });
  const button = h("button", { class: "main", type: "submit" }, reply ? "Answer" : "Post");
  const shown = h("div", { class: "picked" });
  const people = h("div", { class: "suggestions", role: "listbox", hidden: true, "aria-label": "People" });
  /** @type {{ value: any, alt: HTMLInputElement }[]} */
  const pictures = [];

  const check = () => {
    const length = lengthOf(area.value);
    count.textContent = length > LENGTH_MAX - 40 ? String(LENGTH_MAX - length) : "";
    count.classList.toggle("over", length > LENGTH_MAX);
    button.disabled = length > LENGTH_MAX || (area.value.trim() === "" && pictures.length === 0);
    if (draft) localStorage.setItem(draft, area.value);
  };

  /** The handle that is being typed. */
  const typed = () => /(?:^|\s)@([^\s@]{0,40})$/.exec(area.value.slice(0, area.selectionStart));
  const suggest = () => {
    const match = typed();
    const wanted = match?.[1]?.toLowerCase() ?? "";
    const found = match
      ? [...model.people.values()]
          .filter(
            ({ key }) =>
              key !== model.me && `${model.handleOf(key)} ${model.nameOf(key)}`.toLowerCase().includes(wanted),
          )
          .slice(0, 5)
      : [];
    people.hidden = found.length === 0;
    people.replaceChildren(
      ...found.map(({ key }) =>
        h(
          "button",
          { type: "button", role: "option", "aria-selected": "false", onclick: () => choose(key) },
          avatar(model, key, "tiny"),
          h("strong", {}, model.nameOf(key)),
          h("span", { class: "handle" }, `@${model.handleOf(key)}`),
        ),
      ),
    );
  };
  const choose = (/** @type {string} */ key) => {
    const match = typed();
    const start = area.selectionStart - (match?.[1]?.length ?? 0);
    area.setRangeText(`${model.handleOf(key)} `, start, area.selectionStart, "end");
    people.hidden = true;
    area.focus();
    check();
  };

  const pick = async (/** @type {Iterable<File>} */ files) => {
    for (const file of files) {
      if (pictures.length >= PICTURES_MAX) return toast(`${PICTURES_MAX} pictures are the most.`);
      try {
        const value = await smallPicture(file, 1280);
        const alt = h("input", {
          type: "text",
          placeholder: "Describe the picture",
          "aria-label": "Describe the picture",
        });
        const picture = { value, alt };
        const remove = () => {
          pictures.splice(pictures.indexOf(picture), 1);
          item.remove();
          check();
        };
        const item = h(
          "figure",
          {},
          h("img", { src: pictureOf(value) ?? "", alt: "" }),
          alt,
          h("button", { type: "button", "aria-label": "Remove the picture", onclick: remove }, icon("close")),
        );
        pictures.push(picture);
        shown.append(item);
      } catch {
        toast(`${file.name} is no picture that can be shown.`);
      }
    }
    check();
  };
  const chooser = h("input", {
    type: "file",
    accept: "image/*",
    multiple: true,
    hidden: true,
    onchange: () => chooser.files && void pick(chooser.files),
  });

  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (button.disabled) return;
    // Half a character is no text that can be kept.
    const text = area.value.trim().toWellFormed();
    // The longest handle first, so that @ann is not found in @anna.
    const handles = [...model.people.keys()]
      .filter((key) => key !== model.me)
      .map((key) => ({ key, name: model.handleOf(key) }));
    const mentions = handles
      .sort((a, b) => b.name.length - a.name.length)
      .filter(({ name }) => new RegExp(`(^|[^\\p{L}\\p{N}_@])@${escaped(name)}(?![\\p{L}\\p{N}_-])`, "u").test(text));
    /** @type {import("/model.js").Post} */
    const post = { text };
    if (mentions.length > 0) post.mentions = mentions.map(({ key, name }) => ({ key, name }));
    if (pictures.length > 0)
      post.pictures = pictures.map(({ value, alt }) => model.addPicture(value, alt.value.trim()));
    if (reply) post.reply = { to: reply.pointer, root: reply.post.reply?.root ?? reply.pointer };
    if (quote) post.quote = quote.pointer;
    follow(model.publish(post));
    area.value = "";
    pictures.length = 0;
    shown.replaceChildren();
    check();
    done?.();
  };

  const face = h("span", {}, avatar(model, model.me));
  let drawn = "";
  /** Shows the picture that I have now. */
  const update = () => {
    const now = `${model.nameOf(model.me)} ${model.profile(model.me).picture?.["@bytes"]?.length}`;
    if (now === drawn) return;
    drawn = now;
    face.replaceChildren(avatar(model, model.me));
  };
  const form = h(
    "form",
    { class: "composer", onsubmit: send },
    face,
    h(
      "div",
      { class: "content" },
      area,
      people,
      shown,
      quote ? embedded(model, quote.pointer) : null,
      h(
        "div",
        { class: "bar" },
        h(
          "button",
          { type: "button", class: "quiet action", "aria-label": "Add pictures", onclick: () => chooser.click() },
          icon("picture"),
        ),
        chooser,
        count,
        button,
      ),
    ),
  );
  area.addEventListener("input", () => {
    check();
    suggest();
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event);
    else if (event.key === "ArrowDown" && !people.hidden) {
      event.preventDefault();
      /** @type {HTMLElement | null} */ (people.firstElementChild)?.focus();
    }
  });
  area.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (files.length > 0) {
      event.preventDefault();
      void pick(files);
    }
  });
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    void pick([...(event.dataTransfer?.files ?? [])]);
  });
  check();
  return { element: form, focus: () => area.focus(), update };
}

/** @param {string} text */
const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/**
 * A picture that fits where values are kept: smaller, and drawn anew, so that it carries no place and no camera.
 * @param {Blob} file
 * @param {number} side longest side in pixels
 */
export async function smallPicture(file, side) {
  const image = await createImageBitmap(file);
  for (let scale = Math.min(1, side / Math.max(image.width, image.height)), quality = 0.85; ;) {
    const canvas = h("canvas", {
      width: Math.max(1, Math.round(image.width * scale)),
      height: Math.max(1, Math.round(image.height * scale)),
    });
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", quality));
    const small =
      blob?.type === "image/webp"
        ? blob
        : await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
    if (small && small.size <= 60 * 1024) return fileValue(small);
    if (quality > 0.5) quality -= 0.15;
    else scale *= 0.8;
  }
}
