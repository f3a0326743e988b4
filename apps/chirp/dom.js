// Makes elements. Text goes in as text nodes only: nothing that somebody wrote is ever parsed as HTML.

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties] names that begin with `on` are listeners
 * @param {...any} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name === "role" || name === "for" || name.includes("-"))
      element.setAttribute(name, value === true ? "" : String(value));
    else /** @type {any} */ (element)[name] = value;
  }
  for (const child of children.flat(2))
    if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

const PATHS = {
  home: "M3 11 12 3l9 8v10h-6v-6H9v6H3z",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l2 2H4zM10 21h4",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  person: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4 21c0-5 4-7 8-7s8 2 8 7",
  people: "M9 5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM2 20c0-4 3-6 7-6s7 2 7 6M16 6a3 3 0 0 1 0 6M18 14c3 .5 4 3 4 6",
  reply: "M4 5h16v11H10l-4 4v-4H4z",
  repost: "M17 3l4 4-4 4M21 7H7a3 3 0 0 0-3 3v2M7 21l-4-4 4-4M3 17h14a3 3 0 0 0 3-3v-2",
  heart: "M12 20S3 14 3 8.5C3 5.5 5.5 4 7.5 4 10 4 12 6.5 12 6.5S14 4 16.5 4C18.5 4 21 5.5 21 8.5 21 14 12 20 12 20z",
  more: "M5 12h.1M12 12h.1M19 12h.1",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4l3 2",
  check: "M5 13l4 4L19 7",
  checks: "M2 13l4 4L15 8M11 16l1 1L22 7",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6 6 18",
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon i-${name}`);
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** @param {number} at_ms */
export function ago(at_ms) {
  const seconds = (Date.now() - at_ms) / 1000;
  if (seconds < 45) return "now";
  if (seconds < 3600) return `${Math.round(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)}h`;
  if (seconds < 7 * 86_400) return `${Math.round(seconds / 86_400)}d`;
  const date = new Date(at_ms);
  const is_near = date.getFullYear() === new Date().getFullYear();
  return date.toLocaleDateString(undefined, { day: "numeric", month: "short", year: is_near ? undefined : "numeric" });
}

/** @param {string} text */
export function toast(text) {
  const line = h("p", {}, text);
  document.getElementById("toasts")?.append(line);
  setTimeout(() => line.remove(), 5000);
}

/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
