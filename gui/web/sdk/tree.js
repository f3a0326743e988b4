// Values as plain JSON, changed without changing what somebody else holds.

/** @typedef {string | number} Step a member's name, or an element's index */

/** Stands for "there is nothing": JSON has no word for it. */
export const NOTHING = Symbol("nothing");

/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The part of a value that steps lead to.
 * @param {any} value
 * @param {Step[]} steps
 * @returns {any}
 */
export function part(value, steps) {
  for (const step of steps) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return NOTHING;
    value = value[step];
  }
  return value;
}

/**
 * The same value with another part.
 * @param {any} value
 * @param {Step[]} steps
 * @param {any} now the part, or NOTHING
 * @returns {any}
 */
export function withPart(value, steps, now) {
  const [first, ...rest] = steps;
  if (first === undefined) return now;
  if (Array.isArray(value)) {
    const at = Number(first);
    const copy = value.slice();
    const below = withPart(value[at], rest, now);
    if (below === NOTHING) copy.splice(at, 1);
    else copy[at] = below;
    return copy;
  }
  const below = withPart(isObject(value) && Object.hasOwn(value, first) ? value[first] : NOTHING, rest, now);
  if (below === NOTHING) {
    if (!isObject(value) || !Object.hasOwn(value, first)) return value;
    const { [first]: _, ...others } = value;
    return others;
  }
  return sorted({ ...(isObject(value) ? value : {}), [first]: below });
}

/**
 * Members in the order in which the peer shows them: by code point.
 * @param {Record<string, any>} members
 */
function sorted(members) {
  const names = Object.keys(members);
  for (let at = 1; at < names.length; at += 1) {
    if (before(names[at] ?? "", names[at - 1] ?? "")) {
      names.sort((a, b) => (before(a, b) ? -1 : 1));
      return Object.fromEntries(names.map((name) => [name, members[name]]));
    }
  }
  return members;
}

/** @param {string} a @param {string} b */
function before(a, b) {
  for (let at = 0; ; at += 1) {
    const [left, right] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (Number.isNaN(left)) return !Number.isNaN(right);
    if (Number.isNaN(right)) return false;
    // Surrogates stand for what comes after everything else.
    if (left !== right)
      return (
        (left >= 0xd800 && left < 0xe000 ? left + 0x10000 : left) <
        (right >= 0xd800 && right < 0xe000 ? right + 0x10000 : right)
      );
  }
}

/**
 * A value after a merge patch (RFC 7396).
 * @param {any} value
 * @param {any} patch
 * @returns {any}
 */
export function merged(value, patch) {
  if (!isObject(patch)) return patch;
  let result = isObject(value) ? value : {};
  for (const [name, below] of Object.entries(patch)) {
    if (below === null) {
      const { [name]: _, ...others } = result;
      result = others;
    } else {
      result = { ...result, [name]: merged(Object.hasOwn(result, name) ? result[name] : undefined, below) };
    }
  }
  return sorted(result);
}

/**
 * A path in a request: `/@<key>/notes/hi`. Names that begin with `@` get one more.
 * @param {string} path as in `/notes/hi`
 * @returns {string[]}
 */
export const segments = (path) => path.split("/").filter(Boolean);

/**
 * The name that a segment stands for.
 * @param {string} segment
 */
export const nameOf = (segment) => (segment.startsWith("@@") ? segment.slice(1) : segment);
