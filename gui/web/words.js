// How things are said to people: times, sizes, counts and short forms of values.

/** Characters of a value that fit in a line. */
const PREVIEW_CHARS_MAX = 160;

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** @param {number} time_ms */
export function ago(time_ms) {
  const seconds = (time_ms - Date.now()) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit);
  }
  return Math.abs(seconds) < 10 ? "just now" : relative.format(Math.round(seconds), "second");
}

/** @param {number} time_ms */
export const exactTime = (time_ms) =>
  new Date(time_ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** @param {number} ms */
export function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} days`;
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/**
 * Names in a row: "Ada, Bob and 3 more".
 * @param {string[]} names
 * @param {number} max how many are named
 */
export function listed(names, max) {
  const rest = names.length - max;
  const all = rest > 0 ? [...names.slice(0, max), `${rest} more`] : names;
  return all.length < 2 ? (all[0] ?? "nobody") : `${all.slice(0, -1).join(", ")} and ${all.at(-1)}`;
}

/** @param {string} text */
const shorten = (text) => (text.length > PREVIEW_CHARS_MAX ? `${text.slice(0, PREVIEW_CHARS_MAX)}…` : text);

/** @param {string} text */
function readsAsJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * A value in one line, with the kind that its colour tells.
 * @param {any} value
 * @returns {{ text: string, kind: "text" | "number" | "word" | "file" | "link" | "parts" }}
 */
export function preview(value) {
  if (typeof value === "string") {
    // Quotes only where the text would be taken for something else.
    const quoted = value === "" || value.trim() !== value || readsAsJson(value);
    const line = value.replace(/\s*\n\s*/g, " ⏎ ");
    return { text: shorten(quoted ? JSON.stringify(value) : line), kind: "text" };
  }
  if (typeof value === "number") return { text: String(value), kind: "number" };
  if (value === null || typeof value === "boolean") return { text: String(value), kind: "word" };
  const file = fileOf(value);
  if (file) return { text: `${file.mime}, ${size(file.bytes)}`, kind: "file" };
  if (typeof value === "object" && typeof value.link === "string" && Object.keys(value).length === 1)
    return { text: `→ ${value.link}`, kind: "link" };
  if (Array.isArray(value) && value.length === 0) return { text: "empty list", kind: "parts" };
  if (typeof value === "object" && Object.keys(value).length === 0) return { text: "empty", kind: "parts" };
  return { text: shorten(JSON.stringify(value)), kind: "parts" };
}

/**
 * Media type and size of a value that is a file, and the hash of one that is kept beside the values.
 * @param {any} value
 * @returns {{ mime: string, bytes: number, hash: string | null } | null}
 */
export function fileOf(value) {
  if (typeof value !== "object" || value === null || typeof value["@type"] !== "string") return null;
  if (typeof value["@bytes_total"] === "number") return { mime: value["@type"], bytes: value["@bytes_total"], hash: value["@blob"] ?? null };
  if (typeof value["@bytes"] === "string")
    return { mime: value["@type"], bytes: Math.floor((value["@bytes"].replace(/=+$/, "").length * 3) / 4), hash: null };
  return null;
}

/**
 * Who wrote something, in a word; in the peer's words where it was signed for somebody who asked for it over HTTP.
 * @param {{ author: string, author_name: string, writer?: string }} change
 * @param {string | null} device the key of the peer that is asked
 */
export const writer = (change, device) => change.writer ?? (change.author === device ? "you" : change.author_name);
