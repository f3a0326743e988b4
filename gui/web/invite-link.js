// What an invite link says, read in the browser that opened it: nothing of it is sent anywhere.

/**
 * @typedef {object} Glance
 * @property {string} payload
 * @property {string} space
 * @property {string} inviter
 * @property {"read" | "write" | "device" | "member"} role
 * @property {string} path
 * @property {boolean} is_only whether it is for this path and nothing else of the space
 * @property {number} bytes_max how much may be written by it, 0 for no limit
 * @property {number} depth how many levels of guests the bearer may bring
 * @property {number} expires_ms
 * @property {string[]} addresses where whoever made it is called
 * @property {string | null} app
 * @property {string} paint
 * @property {string | null} whose what the owner of the space is called, if it is not the inviter's; empty if that is not known
 */

const Z32 = "ybndrfg8ejkmcpqxot1uwisza345h769";
const ROLES = /** @type {const} */ (["read", "write", "device", "read", "write", "member"]);
/** In these roles, an invite is for one path alone. */
const ONLY = [3, 4];

/**
 * The invite of the address; the address and the history forget it.
 * @returns {string | null}
 */
export function takeInvite() {
  const payload = /^#([A-Za-z0-9_-]{40,4000})$/.exec(location.hash)?.[1] ?? null;
  if (location.hash) history.replaceState(history.state, "", location.pathname);
  return payload;
}

/**
 * The invite of a link of either kind, as somebody pasted it.
 * @param {string} text
 * @returns {string | null}
 */
export function payloadOf(text) {
  const payload = /^(?:timebus:\/\/join\/|https?:\/\/[^/#]+\/\.join#)?([A-Za-z0-9_-]{40,4000})$/.exec(text.replace(/\s/g, ""))?.[1];
  return payload && glance(payload) ? payload : null;
}

/**
 * @param {string} payload
 * @returns {Glance | null} null for what is no invite
 */
export function glance(payload) {
  try {
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (letter) =>
      letter.charCodeAt(0),
    );
    let at = 0;
    const take = (/** @type {number} */ count) => {
      if (at + count > bytes.length) throw new RangeError("too short");
      return bytes.subarray(at, (at += count));
    };
    const number = () => {
      let value = 0;
      for (let scale = 1; ; scale *= 128) {
        const [byte = 0] = take(1);
        value += (byte & 127) * scale;
        if (byte < 128) return value;
      }
    };
    const text = () => new TextDecoder("utf-8", { fatal: true }).decode(take(number()));
    const [version = 0] = take(1);
    if (version !== 1 && version !== 2) return null;
    take(32);
    const space = z32(take(32));
    take(16);
    const [number_of_role = ROLES.length] = take(1);
    const role = ROLES[number_of_role];
    if (!role) return null;
    const path = text();
    const bytes_max = number();
    const [depth = 0] = take(1);
    const expires_ms = number();
    const addresses = [];
    for (let count = number(); count > 0; count -= 1) addresses.push(text());
    const inviter = text();
    let app = null;
    if (take(1)[0] === 1) {
      app = text();
      take(32);
    }
    const paint = text();
    const whose = version === 2 ? text() : null;
    return { payload, space, role, path, is_only: ONLY.includes(number_of_role), bytes_max, depth, expires_ms, addresses, inviter, app, paint, whose };
  } catch {
    return null;
  }
}

/** @param {Uint8Array} bytes */
function z32(bytes) {
  let out = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) out += Z32[(held >> (bits -= 5)) & 31];
  }
  return bits > 0 ? out + Z32[(held << (5 - bits)) & 31] : out;
}
