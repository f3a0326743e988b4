// Who this tab is: the owner's token, kept for as long as the tab lives.
//
// The token is in memory and in sessionStorage, so a reload stays signed in. A new tab of the same origin asks the
// others for it; pages of other origins cannot hear that.

const KEY = "timebus-token";
/** How long a new tab waits for another one to answer. */
const ASK_TIMEOUT_MS = 150;

/** @type {string | null} */
let token = null;
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("timebus-session") : null;

channel?.addEventListener("message", (event) => {
  if (event.data?.ask && token) channel.postMessage({ token });
});

/**
 * The code of `/#login=<code>`, if the page was opened by a login link. The address and the history forget it.
 * @returns {string | null}
 */
export function takeLoginCode() {
  const code = /^#login=(.+)$/.exec(location.hash)?.[1] ?? null;
  if (location.hash.startsWith("#login")) history.replaceState(history.state, "", location.pathname + location.search);
  return code;
}

/** @returns {string | null} */
export function savedToken() {
  if (token) return token;
  try {
    token = sessionStorage.getItem(KEY);
  } catch {
    // Storage can be switched off; then a reload asks for a new link.
  }
  return token;
}

/**
 * The token of another tab, if one has it.
 * @returns {Promise<string | null>}
 */
export function tokenOfOtherTab() {
  if (!channel) return Promise.resolve(null);
  return new Promise((resolve) => {
    const done = (/** @type {string | null} */ found) => {
      clearTimeout(timer);
      channel.removeEventListener("message", heard);
      resolve(found);
    };
    const heard = (/** @type {MessageEvent} */ event) => {
      if (typeof event.data?.token === "string") done(event.data.token);
    };
    const timer = setTimeout(() => done(null), ASK_TIMEOUT_MS);
    channel.addEventListener("message", heard);
    channel.postMessage({ ask: true });
  });
}

/** @param {string | null} found */
export function saveToken(found) {
  token = found;
  try {
    if (found) sessionStorage.setItem(KEY, found);
    else sessionStorage.removeItem(KEY);
  } catch {
    // See savedToken.
  }
}

/** Up to when the owner has seen what others left, in this browser; Unix milliseconds. */
const INBOX_KEY = "timebus-inbox-seen";
let inbox_seen_ms = 0;

/** @returns {number} */
export function inboxSeen() {
  try {
    inbox_seen_ms = Math.max(inbox_seen_ms, Number(localStorage.getItem(INBOX_KEY)) || 0);
  } catch {
    // See savedToken.
  }
  return inbox_seen_ms;
}

/** @param {number} at_ms */
export function saveInboxSeen(at_ms) {
  inbox_seen_ms = at_ms;
  try {
    localStorage.setItem(INBOX_KEY, String(at_ms));
  } catch {
    // See savedToken.
  }
}
