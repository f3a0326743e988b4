// Keeping a path apart from the rest of the space: what it means is said before it is done.

/**
 * Asks the owner, and keeps a path of the own space apart with what is there.
 * @param {import("./api/peer.js").Peer} peer
 * @param {string} path
 * @returns {Promise<boolean>} whether it was done
 */
export async function keepApart(peer, path) {
  const words =
    `${path} is part of your space for all who may read it. Keep it apart, so that only those read it whom you let in there?` +
    " What is there goes along, as it is now. Whoever has it already keeps what he has, and its history stays where it was.";
  if (!confirm(words)) return false;
  await peer.keepApart(path);
  return true;
}
