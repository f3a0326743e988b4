// What is in the text of a post, and how long it is: mentions, hashtags and links as Twitter counts them.
//
// Links without `https://` count as links for the endings below; there are more, and those count as they are written.

/** @typedef {{ kind: "text" | "mention" | "hashtag" | "url", text: string }} Part */

export const LENGTH_MAX = 280;
/** What a link counts, however long it is. */
const URL_LENGTH = 23;

const GENERIC =
  "com net org edu gov mil int info biz name pro aero asia cat coop jobs mobi museum post tel travel xxx app art blog cafe cloud club " +
  "design dev email games global group guide help host house land life link live lol media news one online page party photo photos " +
  "place press pub review rocks run sale school science shop show site social software solutions space store studio style systems tech " +
  "tips today tools top town toys video wiki work works world wtf xyz zone 삼성 みんな 中国 香港";
const COUNTRIES =
  "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by bz ca cc cd cf cg ch " +
  "ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn " +
  "gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk " +
  "lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe " +
  "pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg " +
  "th tj tk tl tm tn to tp tr tt tv tw tz ua ug uk um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw рф 한국";
const longestFirst = (/** @type {string} */ words) =>
  words
    .split(" ")
    .sort((a, b) => b.length - a.length)
    .join("|");
const LETTER = String.raw`\p{L}\p{M}\p{Nd}\p{So}`;
const TLD = `(?:(?:${longestFirst(GENERIC)}|${longestFirst(COUNTRIES)}|xn--[-0-9a-z]+)(?=[^0-9a-zA-Z@+_-]|$))`;
const LABEL = String.raw`(?:[${LETTER}](?:[${LETTER}_-]*[${LETTER}])?)`;
const DOMAIN = String.raw`(?:[${LETTER}](?:[${LETTER}-]*[${LETTER}])?)`;
const LATIN = String.raw`a-z0-9\u00c0-\u024f`;
const PLAIN = String.raw`(?:[${LATIN}](?:[${LATIN}_-]*[${LATIN}])?\.)*[${LATIN}](?:[${LATIN}-]*[${LATIN}])?`;
const CYRILLIC = String.raw`\u0400-\u04FF`;
const CHAR = String.raw`[a-z${CYRILLIC}0-9!*';:=+,.$/%#\[\]\-\u2013_~@|&\u00c0-\u024f\u1e00-\u1eff]`;
const PARENS = String.raw`\((?:${CHAR}+|${CHAR}*\(${CHAR}+\)${CHAR}*)\)`;
const ENDING = String.raw`(?:[a-z${CYRILLIC}0-9=_#/+\-\u00c0-\u024f\u1e00-\u1eff]|${PARENS})`;
const PATH = String.raw`(?:(?:${CHAR}*(?:${PARENS}${CHAR}*)*${ENDING})|(?:${PARENS}))`;
const QUERY = String.raw`(?:\?[a-z0-9!?*'@();:&=+$/%#\[\]\-_.,~|]*[a-z0-9\-_&=#/])`;
const URL_PATTERN = new RegExp(
  String.raw`(?<![A-Za-z0-9@＠$#＃\u202A-\u202E\u061C\u200E\u200F\u2066-\u2069])` +
    String.raw`(https?://(?:${LABEL}\.)*${DOMAIN}\.${TLD}(?::\d+)?(?:/${PATH}?)*${QUERY}?)` +
    String.raw`|(?<![A-Za-z0-9@＠$#＃/_.\u00C0-\u024F-])(${PLAIN}\.${TLD}(?::\d+)?(?:/${PATH}?)*${QUERY}?)`,
  "giu",
);

const NAME = "[a-zA-Z0-9_]";
const MENTION = new RegExp(
  String.raw`(?<=^|[^a-zA-Z0-9_!#$%&*@＠]|(?:^|[^a-zA-Z0-9_+~.-])(?:rt|RT|rT|Rt):?)[@＠](${NAME}{1,20})` +
    String.raw`(?!${NAME}*[@＠\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u00FF\u0100-\u024F]|${NAME}*://)`,
  "g",
);
const TAG_CHAR = String.raw`\p{L}\p{M}\p{Nd}_\u200c\u200d\ua67e\u05be\u05f3\u05f4\uff5e\u301c\u309b\u309c\u30a0\u30fb\u3003\u0f0b\u0f0c\u00b7`;
const HASHTAG = new RegExp(
  String.raw`(?<=^|\ufe0e|\ufe0f|[^&${TAG_CHAR}])[#＃](?!\ufe0f|\u20e3)([${TAG_CHAR}]*[\p{L}\p{M}][${TAG_CHAR}]*)(?![${TAG_CHAR}]|[#＃]|://)`,
  "gu",
);
/** @type {RegExp} */
let EMOJI;
try {
  EMOJI = new RegExp(String.raw`\p{RGI_Emoji}`, "gv");
} catch {
  EMOJI =
    /\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier})?(?:\u200d\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier})?)*|\p{RI}\p{RI}/gu;
}

/**
 * Links in a text, with their places.
 * @param {string} text
 * @returns {{ start: number, end: number, text: string }[]}
 */
export function urlsIn(text) {
  const found = [];
  for (const match of text.matchAll(URL_PATTERN)) {
    // A dot or a comma ends the sentence, not the link.
    let url = (match[1] ?? match[2] ?? "").replace(/[.,;:!]+$/, "");
    const host = url.replace(/^https?:\/\//i, "").split(/[/?:]/)[0] ?? "";
    if (host.split(".").some((label) => label.length > 63 || (label.startsWith("xn--") && /[^\0-\x7f]/.test(label))))
      continue;
    const [, short, slug] = /^((?:https?:\/\/)?t\.co\/([a-z0-9]*))/i.exec(url) ?? [];
    if (short && slug) {
      if (slug.length > 40) continue;
      url = url.startsWith(`${short}?`) ? url : short;
    }
    found.push({ start: match.index, end: match.index + url.length, text: url });
  }
  return found;
}

/**
 * Hashtags in a text, without their sign.
 * @param {string} text
 */
export function hashtagsIn(text) {
  const urls = urlsIn(text);
  return [...text.matchAll(HASHTAG)]
    .filter((match) => !urls.some((url) => match.index >= url.start && match.index < url.end))
    .map((match) => ({ start: match.index, end: match.index + match[0].length, text: match[1] ?? "" }));
}

/**
 * Names after an `@`, as Twitter has them.
 * @param {string} text
 */
export function mentionsIn(text) {
  const urls = urlsIn(text);
  return [...text.matchAll(MENTION)]
    .filter((match) => !urls.some((url) => match.index >= url.start && match.index < url.end))
    .map((match) => ({ start: match.index, end: match.index + match[0].length, text: match[1] ?? "" }));
}

/**
 * How long a text counts: most letters 1, the letters of East Asia and emoji 2, a link 23.
 * @param {string} text
 */
export function lengthOf(text) {
  const normal = text.normalize("NFC");
  const urls = urlsIn(normal);
  const emoji = new Map([...normal.matchAll(EMOJI)].map((match) => [match.index, match[0].length]));
  let length = 0;
  for (let at = 0; at < normal.length;) {
    const url = urls.find(({ start }) => start === at);
    if (url) {
      length += URL_LENGTH;
      at = url.end;
      continue;
    }
    const sequence = emoji.get(at);
    if (sequence) {
      length += 2;
      at += sequence;
      continue;
    }
    const point = normal.codePointAt(at) ?? 0;
    const is_light =
      point <= 4351 ||
      (point >= 8192 && point <= 8205) ||
      (point >= 8208 && point <= 8223) ||
      (point >= 8242 && point <= 8247);
    length += is_light ? 1 : 2;
    at += point > 0xffff ? 2 : 1;
  }
  return length;
}

/**
 * A text in parts, of which some are more than text.
 * @param {string} text
 * @param {string[]} handles names that are mentions here, without their sign
 * @returns {Part[]}
 */
export function partsOf(text, handles = []) {
  const urls = urlsIn(text).map((url) => ({ ...url, kind: /** @type {const} */ ("url") }));
  const tags = hashtagsIn(text).map((tag) => ({ ...tag, kind: /** @type {const} */ ("hashtag") }));
  const names = handles.flatMap((handle) => {
    /** @type {{ start: number, end: number, text: string, kind: "mention" }[]} */
    const places = [];
    for (let at = text.indexOf(`@${handle}`); handle && at >= 0; at = text.indexOf(`@${handle}`, at + 1))
      places.push({ start: at, end: at + handle.length + 1, text: handle, kind: "mention" });
    return places;
  });
  const all = [...urls, ...tags, ...names].sort((a, b) => a.start - b.start || b.end - a.end);
  /** @type {Part[]} */
  const parts = [];
  let at = 0;
  for (const { start, end, kind, text: inside } of all) {
    if (start < at) continue;
    if (start > at) parts.push({ kind: "text", text: text.slice(at, start) });
    parts.push({ kind, text: inside });
    at = end;
  }
  if (at < text.length) parts.push({ kind: "text", text: text.slice(at) });
  return parts;
}
