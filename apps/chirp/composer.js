// Where posts are written: counts as Twitter does, finds whom you mention, makes pictures small.

import { fileValue } from "/sdk.js";
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
  /** @type {{ file: Blob, alt: HTMLInputElement }[]} */
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
        const made = await pictureOfFile(file);
        const url = URL.createObjectURL(made);
        const alt = h("input", {
          type: "text",
          placeholder: "Describe the picture",
          "aria-label": "Describe the picture",
        });
        const picture = { file: made, alt };
        const remove = () => {
          pictures.splice(pictures.indexOf(picture), 1);
          item.remove();
          URL.revokeObjectURL(url);
          check();
        };
        const item = h(
          "figure",
          {},
          h("img", { src: url, alt: "" }),
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
    const mentions = mentionsOf(model, text);
    /** @type {import("/model.js").Post} */
    const post = { text };
    if (mentions.length > 0) post.mentions = mentions;
    if (pictures.length > 0)
      post.pictures = pictures.map(({ file, alt }) => model.addPicture(file, alt.value.trim()));
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
      reply && is_open ? embedded(model, reply.pointer) : null,
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

/**
 * Whom a text names, by the handle or by what they call themselves if nobody else here is called so.
 * @param {Model} model
 * @param {string} text
 */
function mentionsOf(model, text) {
  /** @type {Map<string, string | null>} */
  const keys = new Map();
  const others = [...model.people.keys()].filter((key) => key !== model.me);
  for (const key of others) {
    const name = model.nameOf(key).toLowerCase();
    if (!/\s/.test(name)) keys.set(name, keys.has(name) ? null : key);
  }
  for (const key of others) keys.set(model.handleOf(key).toLowerCase(), key);
  // The longest first, so that @ann is not found in @anna.
  const names = [...keys.keys()].sort((a, b) => b.length - a.length);
  /** @type {Map<string, { key: string, name: string }>} */
  const found = new Map();
  for (const wanted of names) {
    const key = keys.get(wanted);
    const name = new RegExp(`(?:^|[^\\p{L}\\p{N}_@])@(${escaped(wanted)})(?![\\p{L}\\p{N}_-])`, "iu").exec(text)?.[1];
    if (key && name && !found.has(key)) found.set(key, { key, name });
  }
  return [...found.values()];
}

/** @param {string} text */
const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** Longest side of a picture in a post, in pixels: more than a screen shows. */
const SIDE_MAX = 2560;

/**
 * A picture as it is posted: drawn anew, so that it carries no place and no camera. What moves stays as it is.
 * @param {Blob} file
 * @returns {Promise<Blob>}
 */
async function pictureOfFile(file) {
  const image = await createImageBitmap(file);
  return file.type === "image/gif" ? file : drawn(image, SIDE_MAX, 0.9);
}

/**
 * @param {ImageBitmap} image
 * @param {number} side longest side in pixels
 * @param {number} quality from 0 to 1
 * @returns {Promise<Blob>}
 */
async function drawn(image, side, quality) {
  const scale = Math.min(1, side / Math.max(image.width, image.height));
  const canvas = h("canvas", {
    width: Math.max(1, Math.round(image.width * scale)),
    height: Math.max(1, Math.round(image.height * scale)),
  });
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  for (const type of ["image/webp", "image/jpeg"]) {
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, quality));
    // Not every browser makes every kind.
    if (blob?.type === type) return blob;
  }
  throw new TypeError("the picture cannot be drawn");
}

/** Bytes of the picture in a profile, which is kept in the value itself. */
const FACE_BYTES_MAX = 60 * 1024;

/**
 * The picture of a profile: small, as it is read wherever the name is.
 * @param {Blob} file
 */
export async function smallPicture(file) {
  const image = await createImageBitmap(file);
  for (let side = 256, quality = 0.85; ;) {
    const small = await drawn(image, side, quality);
    if (small.size <= FACE_BYTES_MAX) return fileValue(small);
    if (quality > 0.5) quality -= 0.15;
    else side *= 0.8;
  }
}
