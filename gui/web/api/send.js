// Requests and what is in their headers and bodies.

import { Problem, inPages, unreachable } from "./problem.js";

/** @typedef {import("./told.js").Version} Version */
/** @typedef {import("./told.js").Reading} Reading */

export const JSON_TYPE = "application/json";

/** Most bytes of a value that are shown; what is larger is cut. */
const SHOWN_BYTES_MAX = 256 * 1024;

/**
 * @param {string} url
 * @param {RequestInit} init
 */
export async function send(url, init) {
  let response;
  try {
    response = await fetch(url, { cache: "no-store", credentials: "omit", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  let problem;
  try {
    problem = await response.json();
  } catch {
    problem = {};
  }
  throw new Problem(
    response.status,
    problem.title ?? `the peer answered ${response.status}`,
    problem.detail ?? "",
    inPages(problem.fix),
  );
}

/**
 * @param {Headers} headers
 * @param {string} name
 * @returns {Version}
 */
export function versionIn(headers, name = "version") {
  try {
    return JSON.parse(`[${headers.get(name) ?? ""}]`);
  } catch {
    return [];
  }
}

/**
 * JSON in ASCII, as headers need it.
 * @param {unknown} value
 */
export const ascii = (value) =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** @param {Version} version */
export const versionHeader = (version) => version.map(ascii).join(", ");

/**
 * A JSON Pointer (RFC 6901).
 * @param {(string | number)[]} steps
 */
export const pointer = (steps) => steps.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");

/**
 * The body of an answer as text, piece by piece. Leaving the loop ends the request.
 * @param {Response} response
 */
export async function* texts(response) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {Response} response
 * @returns {Promise<Reading>}
 */
export async function reading(response) {
  let text = "";
  let truncated = false;
  for await (const piece of texts(response)) {
    text += piece;
    if (text.length > SHOWN_BYTES_MAX) {
      truncated = true;
      break;
    }
  }
  return {
    text,
    type: response.headers.get("content-type") ?? JSON_TYPE,
    version: versionIn(response.headers),
    truncated,
  };
}
