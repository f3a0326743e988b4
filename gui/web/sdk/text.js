// Texts that several people write at once: what somebody changed, and what it becomes where others changed it, too.
// Positions count characters (Unicode scalar values), of which JavaScript keeps some as two.

/** One on top of the ones before: at a position so many characters out, and these in. @typedef {[number, number, string]} Edit */

/**
 * A text after edits.
 * @param {string} text
 * @param {Edit[]} edits
 */
export function edited(text, edits) {
  let letters = Array.from(text);
  for (const [at, gone, come] of edits) letters = [...letters.slice(0, at), ...come, ...letters.slice(at + gone)];
  return letters.join("");
}

/**
 * The one edit that makes a text another one: what is between the letters that both begin and end with.
 * @param {string} before
 * @param {string} after
 * @returns {Edit}
 */
export function change(before, after) {
  const [old, now] = [Array.from(before), Array.from(after)];
  const shorter = Math.min(old.length, now.length);
  let start = 0;
  while (start < shorter && old[start] === now[start]) start += 1;
  let end = 0;
  while (end < shorter - start && old[old.length - 1 - end] === now[now.length - 1 - end]) end += 1;
  return [start, old.length - end - start, now.slice(start, now.length - end).join("")];
}

/** Of so many letters out and in it is looked which of them stay; that costs their product. */
const ALIKE_MAX = 500;

/**
 * The edits that make a text another one, where letters that both have stay, so that places beside them stay beside them.
 * @param {string} before
 * @param {string} after
 * @param {number} caret the letter before it stays rather than others
 * @returns {Edit[]}
 */
export function changes(before, after, caret) {
  const [start, length, text] = change(before, after);
  const gone = Array.from(before).slice(start, start + length);
  const come = Array.from(text);
  if (length === 0 || text === "") return [[start, length, text]];
  if (length > ALIKE_MAX || come.length > ALIKE_MAX)
    return [
      [start, length, ""],
      [start, 0, text],
    ];
  // What letters that stay are worth at most together: `alike[i][j]` of gone from i, and of come from j.
  const alike = Array.from({ length: length + 1 }, () => new Uint16Array(come.length + 1));
  const of = (/** @type {number} */ i, /** @type {number} */ j) => alike[i]?.[j] ?? 0;
  const worth = (/** @type {number} */ i) => (start + i === caret - 1 ? ALIKE_MAX : 1);
  const staying = (/** @type {number} */ i, /** @type {number} */ j) =>
    i < length && gone[i] === come[j] ? of(i + 1, j + 1) + worth(i) : 0;
  for (let i = length - 1; i >= 0; i -= 1)
    for (let j = come.length - 1; j >= 0; j -= 1)
      /** @type {Uint16Array} */ (alike[i])[j] = Math.max(staying(i, j), of(i + 1, j), of(i, j + 1));
  /** @type {Edit[]} */
  const edits = [];
  let at = start;
  for (let i = 0, j = 0; i < length || j < come.length; ) {
    const last = edits.at(-1);
    if (staying(i, j) > 0 && staying(i, j) === of(i, j)) [i, j, at] = [i + 1, j + 1, at + 1];
    else if (i < length && (j === come.length || of(i + 1, j) >= of(i, j + 1))) {
      if (last?.[0] === at && !last[2]) last[1] += 1;
      else edits.push([at, 1, ""]);
      i += 1;
    } else {
      const letter = come[j] ?? "";
      if (last && last[0] + Array.from(last[2]).length === at && !last[1]) last[2] += letter;
      else edits.push([at, 0, letter]);
      [j, at] = [j + 1, at + 1];
    }
  }
  return edits;
}

/**
 * An edit of one text as edits of another one, of which it was made by a change that is not known in all its steps. What
 * only the first one has stays: whoever edits the other one cannot take it out.
 * @param {Edit} edit of `shown`
 * @param {string} shown
 * @param {string} own
 * @returns {Edit[]} of `own`
 */
export function moved([at, gone, come], shown, own) {
  const [start, hidden, foreign] = change(own, shown);
  const foreign_end = start + Array.from(foreign).length;
  /** Where a place between two letters of what is shown is in the own text. @param {number} place */
  const place = (place) => (place <= start ? place : place < foreign_end ? start : place - foreign_end + start + hidden);
  const end = at + gone;
  const behind = Math.max(at, foreign_end);
  /** @type {Edit[]} */
  const edits = [];
  // From the back, so that the places before stay what they are.
  if (end > behind) edits.push([place(behind), end - behind, ""]);
  const before = Math.max(0, Math.min(end, start) - at);
  if (before > 0 || come) edits.push([place(at), before, come]);
  return edits;
}

/**
 * What a text becomes with edits of an earlier state of it.
 * @param {Edit[]} edits
 * @param {string} before what they are edits of
 * @param {string} now
 */
export function rebased(edits, before, now) {
  return edited(now, rebasedEdits(edits, before, now));
}

/**
 * Edits of an earlier state of a text as edits of what it is now.
 * @param {Edit[]} edits
 * @param {string} before
 * @param {string} now
 */
export function rebasedEdits(edits, before, now) {
  if (before === now) return edits;
  return edits.flatMap((edit) => {
    const all = moved(edit, before, now);
    [before, now] = [edited(before, [edit]), edited(now, all)];
    return all;
  });
}
