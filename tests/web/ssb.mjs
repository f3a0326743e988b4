// Posts, answers, likes and follows of five people, out of a network that others generated: what chirp shows of them is
// what is counted from the file.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { http, invite, openApp, peers, person, same, until, withBrowser } from "./web.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const file = join(process.env.TIMEBUS_DATA ?? join(root, "../shared/data"), "02-social/ssb-fixtures-trainB.ndjson.gz");
if (!existsSync(file)) {
  console.log("skipped: no data", file);
  process.exit(0);
}
const messages = gunzipSync(readFileSync(file))
  .toString()
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line));
/** @type {Map<string, any>} */
const byKey = new Map(messages.map((message) => [message.key, message.value]));

// The five who have most to do with others, each on a peer of their own.
const degree = new Map();
for (const { author, content } of byKey.values()) {
  const other = byKey.get(content?.vote?.link ?? content?.root)?.author;
  if (other && other !== author) for (const who of [author, other]) degree.set(who, (degree.get(who) ?? 0) + 1);
}
const people = [...degree]
  .sort((a, b) => b[1] - a[1])
  .slice(0, peers.length)
  .map(([who]) => who);
const keyOf = new Map(people.map((who, at) => [who, peers[at].id]));

const DIGITS = "0123456789abcdefghijkmnpqrstuvwx";
/** A name of a post, out of when it was written. @param {string} key */
function nameOf(key) {
  let name = "";
  for (let rest = byKey.get(key).timestamp * 1000, at = 0; at < 11; at += 1, rest = Math.floor(rest / 32))
    name = DIGITS[rest % 32] + name;
  return `${name}${Buffer.from(key)
    .toString("hex")
    .slice(2, 6)
    .replace(/[loyz]/g, "x")}`;
}
const pointerOf = (/** @type {string} */ key) => `/@${keyOf.get(byKey.get(key).author)}/chirp/posts/${nameOf(key)}`;
const isHere = (/** @type {string} */ key) =>
  byKey.get(key)?.content?.type === "post" && keyOf.has(byKey.get(key).author);

/** What each of them writes, and what has to be counted. @type {Map<string, any>} */
const spaces = new Map(
  people.map((who) => [
    who,
    { profile: { name: `Person ${people.indexOf(who)}` }, chirp: { posts: {}, likes: {}, follows: {} } },
  ]),
);
const likes = new Map();
const answers = new Map();
const followers = new Map();
const of = (/** @type {Map<string, Set<string>>} */ map, /** @type {string} */ key) =>
  map.get(key) ?? map.set(key, new Set()).get(key) ?? new Set();
for (const { key, value } of messages) {
  const { author, content } = value;
  const space = spaces.get(author);
  if (!space || typeof content === "string") continue;
  const { posts, likes: liked, follows } = space.chirp;
  if (content.type === "post" && typeof content.text === "string") {
    const post = { text: content.text.slice(0, 270) };
    if (isHere(content.root)) {
      post.reply = { kind: "reply", target: pointerOf(content.root), root: pointerOf(content.root) };
      of(answers, content.root).add(key);
    }
    posts[nameOf(key)] = post;
  } else if (content.type === "vote" && isHere(content.vote.link)) {
    const name = `${keyOf.get(byKey.get(content.vote.link).author)}.${nameOf(content.vote.link)}`;
    // The last word counts.
    if (content.vote.value > 0) {
      liked[name] = { kind: "like", target: pointerOf(content.vote.link), at: value.timestamp };
      of(likes, content.vote.link).add(author);
    } else {
      delete liked[name];
      of(likes, content.vote.link).delete(author);
    }
  } else if (content.type === "contact" && keyOf.has(content.contact) && content.contact !== author) {
    const key = keyOf.get(content.contact);
    if (content.following) {
      follows[key] = { kind: "follow", target: `/@${key}/profile`, at: value.timestamp };
      of(followers, content.contact).add(author);
    } else {
      delete follows[key];
      of(followers, content.contact).delete(author);
    }
  }
}
const json = { "content-type": "application/json" };
for (const [at, who] of people.entries()) {
  const { profile, chirp } = spaces.get(who);
  same(
    (await http(peers[at], "/profile", { method: "PUT", headers: json, body: JSON.stringify(profile) })).status,
    200,
    "a profile is written",
  );
  same(
    (await http(peers[at], "/chirp", { method: "PUT", headers: json, body: JSON.stringify(chirp) })).status,
    200,
    "posts are written",
  );
}
// The first one reads the others.
for (const other of peers.slice(1)) invite(other, peers[0]);
for (const [at, who] of people.entries()) {
  const count = Object.keys(spaces.get(who).chirp.posts).length;
  const path = at === 0 ? "/chirp/posts" : `/@${peers[at].id}/chirp/posts`;
  await until(
    "all posts are here",
    async () => Object.keys((await http(peers[0], path)).json() ?? {}).length === count,
  );
}

await withBrowser(async (browser) => {
  const { page, complaints } = await person(browser);
  await openApp(peers[0], page, "chirp");
  await page.getByRole("article").first().waitFor();
  for (const who of people) {
    // Everybody's posts and answers, down to the first one.
    await page.evaluate((hash) => (location.hash = hash), `#/@${keyOf.get(who)}`);
    await page
      .getByRole("heading", { name: spaces.get(who).profile.name })
      .first()
      .waitFor();
    await page.getByRole("tab", { name: "Posts and answers" }).click();
    const wanted = messages.filter(
      ({ value }) => value.author === who && typeof value.content === "object" && value.content.type === "post",
    );
    await until(`all ${wanted.length} posts are drawn`, async () => {
      await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
      return (await page.locator("article.post").count()) === wanted.length;
    });
    const shown = await page
      .locator("article.post")
      .evaluateAll((articles) =>
        articles.map((article) => [
          /** @type {HTMLElement} */ (article).dataset.pointer,
          article.querySelector(".content > .text")?.textContent,
          Number(/(\d+) answer/.exec(article.querySelector(".action.reply")?.getAttribute("aria-label") ?? "")?.[1]),
          Number(
            /(\d+) like/.exec(
              article.querySelector(".action.like, .action.liked")?.getAttribute("aria-label") ?? "",
            )?.[1],
          ),
        ]),
      );
    const counted = wanted.map(({ key, value }) => [
      pointerOf(key),
      value.content.text.slice(0, 270),
      answers.get(key)?.size ?? 0,
      likes.get(key)?.size ?? 0,
    ]);
    same(
      shown.map((row) => JSON.stringify(row)).sort(),
      counted.map((row) => JSON.stringify(row)).sort(),
      "posts with their answers and likes",
    );
    const known = followers.get(who)?.size ?? 0;
    await page.getByText(new RegExp(`following\\s+${known}\\s+followers? that you can see`)).waitFor();
  }
  // Threads: all answers to the post that has most of them.
  const [most, set] = [...answers].sort((a, b) => b[1].size - a[1].size)[0] ?? [];
  await page.evaluate((hash) => (location.hash = hash), `#${pointerOf(most).replace("/chirp/posts/", "/post/")}`);
  await until("all answers are in the thread", async () => {
    const drawn = await page
      .locator(".posts article.post")
      .evaluateAll((articles) => articles.map((article) => article.dataset.pointer));
    return JSON.stringify(drawn.sort()) === JSON.stringify([...set].map(pointerOf).sort());
  });
  same(complaints, [], "the browser complains of nothing");
});
const total = (/** @type {Map<string, Set<string>>} */ map) =>
  [...map.values()].reduce((sum, set) => sum + set.size, 0);
console.log(`${total(likes)} likes, ${total(answers)} answers, ${total(followers)} follows of ${people.length} people`);
