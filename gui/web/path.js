// Paths as lists of segments in their text form: a name, "@@x" for the name "@x", or "@<op id>" for an element of a
// list.

/** @typedef {string[]} Path */

/**
 * The segment that names a member of an object.
 * @param {string} name
 */
export const segmentOf = (name) => (name.startsWith("@") ? `@${name}` : name);

/** Most bytes of a name. */
const NAME_BYTES_MAX = 255;

/** Whether something can be a name in a path. @param {string} text */
export const isName = (text) =>
  text !== "" && text !== "." && text !== ".." && !/[\u0000-\u001f\u007f/]/.test(text) && new TextEncoder().encode(text).length <= NAME_BYTES_MAX;

/**
 * What to call a segment in front of people.
 * @param {string} segment
 * @param {boolean} [isFirst] whether it may name somebody's space
 */
export function labelOf(segment, isFirst = false) {
  if (segment.startsWith("@@")) return segment.slice(1);
  if (isFirst && segment.startsWith("@")) return segment.length === 53 ? `${segment.slice(0, 9)}…` : segment;
  if (segment.startsWith("@")) return "[…]";
  return segment;
}

/** Whether a path is in somebody else's space: `@` and a name or a key stand before it. @param {Path} path */
export const isElsewhere = ([first = ""]) => first.startsWith("@") && !first.startsWith("@@");

/** Whether what is below a first name is worked out, and changed elsewhere: rights, and what others left. @param {string} name */
export const isWorkedOut = (name) => name === ".auth" || name === ".drop";

/**
 * Where something is that is named as in its own space, seen from a page about that space.
 * @param {Path} base the page
 * @param {string} path
 */
export const inSpaceOf = (base, path) => (isElsewhere(base) ? `/${base[0]}${path === "/" ? "" : path}` : path);

/**
 * What a path is called on the page of a path above it.
 * @param {Path} path
 * @param {Path} base
 */
export const nearLabel = (path, base) => path.slice(base.length).map((segment) => labelOf(segment)).join("/") || "here";

/**
 * A path in words, as in `/notes/hi`.
 * @param {Path} path
 */
export const showPath = (path) => `/${path.join("/")}`;

/**
 * The same, as it is said to people: of a key only the beginning. It is for no command and no request.
 * @param {Path} path
 */
export const sayPath = ([first = "", ...rest]) => showPath([isElsewhere([first]) ? labelOf(first, true) : first, ...rest].filter((segment) => segment !== ""));

/**
 * The path that a text names, with or without a leading slash.
 * @param {string} text
 * @returns {Path}
 */
export const parsePath = (text) => text.split("/").filter((segment) => segment !== "");

/**
 * Order of names: by code point, as the store keeps them. JavaScript's own order differs beyond U+FFFF.
 * @param {string} a
 * @param {string} b
 */
export function compareNames(a, b) {
  const [left, right] = [[...a], [...b]];
  for (let at = 0; at < left.length && at < right.length; at += 1) {
    const difference = (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}
