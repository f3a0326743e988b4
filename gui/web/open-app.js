/** Safari does not lead `*.localhost` to this machine. */
const KNOWS_LOCALHOST_NAMES = !/^((?!chrome|android|crios|fxios).)*safari/i.test(navigator.userAgent);

/**
 * Opens an app in a tab of its own, when the owner clicked.
 * @param {import("./api/peer.js").Peer} peer
 * @param {string} alias
 * @param {string} [persona] whose app it is, if not the owner's own
 */
export async function openApp(peer, alias, persona) {
  // A window that is opened later than the click is blocked, so it is opened first.
  const tab = window.open("about:blank", `timebus-${alias}`);
  try {
    const url = await peer.openApp(alias, !KNOWS_LOCALHOST_NAMES, persona);
    if (tab) tab.location.href = url;
    else location.href = url;
  } catch (error) {
    tab?.close();
    throw error;
  }
}
