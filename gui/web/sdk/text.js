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
