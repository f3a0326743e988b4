// Where pages are, of the peer and of its paths, and what leads there.

/** @typedef {import("../path.js").Path} Path */

/**
 * The address of a path's page.
 * @param {Path} path
 */
export const hrefOf = (path) => `/${path.map(encodeURIComponent).join("/")}`;

/**
 * The path that the page is at.
 * @returns {Path}
 */
export function pathOfPage() {
  try {
    return location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    // A percent sign that escapes nothing; the peer would refuse it, too.
    return [];
  }
}

/**
 * The path that a link within the pages leads to; `null` for all other links.
 * @param {HTMLAnchorElement} link
 * @returns {Path | null}
 */
export function pathOfLink(link) {
  if (link.origin !== location.origin || /^\/\.(gui|join)/.test(link.pathname) || link.hasAttribute("download"))
    return null;
  return link.pathname.split("/").filter(Boolean).map(decodeURIComponent);
}

/** Pages of the peer itself. @typedef {"apps" | "people" | "grants" | "invites" | "inbox" | "requests" | "peer"} PageName */

/** @param {PageName} page */
export const hrefOfPage = (page) => `/.sys/${page}`;

/** The page of the peer itself that a path names. @param {Path} path @returns {PageName | null} */
export function pageOf(path) {
  const [first, name] = path;
  if (first !== ".sys" || path.length !== 2) return null;
  const pages = /** @type {const} */ (["apps", "people", "grants", "invites", "inbox", "requests", "peer"]);
  return pages.find((page) => page === name) ?? null;
}

/** Whether the page was opened by an invite link. */
export const isJoinPage = () => location.pathname === "/.join";

/** Where somebody's own peer usually is, with an invite that stays in the fragment. @param {string} payload */
export function joinAtHome(payload) {
  const url = new URL("/.join", location.href);
  url.protocol = "http:";
  url.host = "localhost:7007";
  url.hash = payload;
  return url.href;
}

/** What an invite says, and the button that takes it. @param {string} payload */
export const hrefOfInvite = (payload) => `/.join#${payload}`;

/** The app whose page led to that of invites: `/.sys/invites#app=chirp`. */
export const appOfPage = () => /^#app=([a-z0-9-]{1,63})$/.exec(location.hash)?.[1] ?? null;

/** The path that the page of invites is to begin with: `/.sys/invites#path=/films`. @returns {string | null} */
export function pathOfInvite() {
  const found = /^#path=(.+)$/.exec(location.hash)?.[1];
  try {
    return found ? decodeURIComponent(found) : null;
  } catch {
    return null;
  }
}

/** Where somebody is let in to one path. @param {string} path */
export const hrefOfSharing = (path) => `${hrefOfPage("invites")}#path=${encodeURIComponent(path)}`;

/** Goes to a page of the peer with what stands behind `#` in its address. @param {string} href */
export function goTo(href) {
  history.pushState(null, "", href);
  dispatchEvent(new PopStateEvent("popstate"));
  scrollTo(0, 0);
}

/** @param {string} payload */
export const joinByProgram = (payload) => `timebus://join/${payload}`;

/** What to type in a terminal to read a value. */
export const curlRead = (/** @type {Path} */ path) => `curl ${location.origin}${hrefOf(path)}`;

/** What to type in a terminal to write a first value. */
export const curlLine = (/** @type {Path} */ path, /** @type {string} */ body) =>
  `curl -X PUT ${location.origin}${hrefOf(path)} -d '${body.replaceAll("'", String.raw`'\''`)}'`;
