// Strings that break things elsewhere, in every field that people fill in: they are shown as they are, and do nothing.

import { existsSync, readFileSync } from "node:fs";
import { dataFile, http, nameAt, openApp, peers, person, same, until, withBrowser } from "./web.mjs";

const [peer] = peers;
const file = dataFile("02-social/blns.json");
const strings = [
  "<script>globalThis.hacked = 1</script>",
  '"><img src=x onerror="globalThis.hacked = 1">',
  "javascript:globalThis.hacked=1//",
  'https://example.org/"onmouseover="globalThis.hacked=1',
  "{{constructor.constructor('globalThis.hacked=1')()}}",
  ...(existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : []),
].filter((text) => text.trim() !== "" && text.isWellFormed() && !text.includes("\0"));
/** @param {string} text @param {number} count */
const first = (text, count) => [...text].slice(0, count).join("");
const json = { "content-type": "application/json" };
const posts = {};
const now = Date.now() * 1000;
strings.forEach((text, at) => {
  const mention = { kind: "mention", name: first(text, 40), target: at % 2 ? `/@${peer.id}/profile` : text };
  const target = at % 4 ? text : `/@${peer.id}/chirp/posts/${encodeURIComponent(first(text, 20))}`;
  posts[nameAt(now - at * 1000)] = {
    text,
    mentions: { 0: mention },
    pictures: [{ id: first(text, 60), alt: text }],
    quote: at % 3 ? undefined : { kind: "quote", target },
    reply: at % 50 === 7 ? { kind: "reply", target: text, root: text } : undefined,
  };
});
// What no chirp writes, but anybody may.
Object.assign(posts, {
  [nameAt(now + 1)]: "just a string",
  [nameAt(now + 2)]: { text: { a: 1 } },
  [nameAt(now + 3)]: [1, 2],
  [nameAt(now + 4)]: { text: "x", mentions: [null, 7], pictures: [null, {}] },
  [nameAt(now + 5)]: {
    text: "y",
    mentions: { a: null, b: 7 },
    pictures: {},
    reply: [],
    quote: "z",
    repost: { kind: "repost", target: {} },
  },
  [nameAt(now + 6)]: { repost: { kind: "repost", target: `/@${peer.id}/chirp/posts/none` } },
});
const written = await http(peer, "/chirp/posts", { method: "PUT", headers: json, body: JSON.stringify(posts) });
if (written.status !== 200) throw new Error(written.text);
const nasty = strings[1] ?? "";
await http(peer, "/profile", {
  method: "PUT",
  headers: json,
  body: JSON.stringify({ name: nasty, bio: strings[0], picture: { "@bytes": "PHN2Zz4=", "@type": "image/svg+xml" } }),
});
await http(peer, "/boards/x", {
  method: "PUT",
  headers: json,
  body: JSON.stringify({
    title: nasty,
    columns: { a: { title: strings[0], order: 0 } },
    cards: { c: { title: nasty, text: strings[0], column: "a" } },
  }),
});

await withBrowser(async (browser) => {
  const { page, complaints } = await person(browser);
  await openApp(peer, page, "chirp");
  await page.getByRole("article").first().waitFor();
  // Everything is drawn by scrolling to the end.
  await until("all posts are drawn", async () => {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    return (await page.locator("article.post").count()) >= strings.length;
  });
  const drawn = await page
    .locator("article.post")
    .evaluateAll((articles) => articles.map((article) => article.querySelector(".content > .text")?.textContent ?? ""));
  for (const text of strings) {
    // Links are shown without their scheme, and nothing else is left out.
    const wanted = text.replace(/https?:\/\//gi, "").replace(/\r\n?/g, "\n");
    if (!drawn.some((is) => is === wanted || is.replace(/https?:\/\//gi, "") === wanted))
      throw new Error(`not shown as it is: ${JSON.stringify(text)}`);
  }
  same(await page.evaluate(() => globalThis.hacked), undefined, "what ran");
  same(
    await page.locator(`[onerror], [onmouseover], article script, a[href^="javascript:"]`).count(),
    0,
    "what could run",
  );
  const hrefs = await page
    .locator("main a")
    .evaluateAll((links) => [...new Set(links.map((link) => new URL(link.href).protocol))]);
  same(
    hrefs.filter((protocol) => !["http:", "https:"].includes(protocol)),
    [],
    "links lead only to web pages",
  );
  await page.goto(`http://chirp.localhost:${peer.port}/#/@${peer.id}`);
  await page
    .getByRole("heading", { name: nasty.slice(0, 60) })
    .first()
    .waitFor();
  await openApp(peer, page, "board");
  await page.getByRole("link", { name: nasty.slice(0, 20) }).click();
  await page
    .getByRole("button", { name: nasty.slice(0, 20) })
    .first()
    .click();
  same(await page.evaluate(() => globalThis.hacked), undefined, "what ran in the board");
  // The peer's own pages show the same values.
  const { code } = (await http(peer, "/.sys/login-code", { method: "POST" })).json();
  await page.goto(`http://localhost:${peer.port}/chirp/posts#login=${code}`);
  await page.getByRole("treeitem").first().waitFor();
  same(await page.evaluate(() => globalThis.hacked), undefined, "what ran in the peer's pages");
  same(complaints, [], "the browser complains of nothing");
});
console.log(`${strings.length} strings`);
