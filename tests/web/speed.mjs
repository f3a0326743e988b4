// How fast chirp is where much is held: what the benchmark `pages` runs. Says what it measured as lines of JSON, in
// milliseconds.

import { http, invite, nameAt, openApp, peers, person, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;
const POSTS = Number(process.env.TIMEBUS_POSTS ?? 100_000);
const BATCH = 1000;
/** The time of the last post. */
const LAST_US = (Date.now() - 60_000) * 1000;

/** @param {string} what @param {number[]} times */
function say(what, times) {
  const sorted = times.toSorted((a, b) => a - b);
  console.log(JSON.stringify({ what, best: sorted[0], median: sorted[sorted.length >> 1], most: sorted.at(-1), count: sorted.length }));
}

/** @param {import("playwright-core").Page} page @param {string} words */
async function search(page, words) {
  const began = Date.now();
  await page.evaluate((words) => (location.hash = `#/search/${words}`), words);
  await page.getByText(/^1 post/).waitFor();
  return Date.now() - began;
}

for (let first = 0; first < POSTS; first += BATCH) {
  /** @type {Record<string, { text: string }>} */
  const posts = {};
  for (let at = first; at < Math.min(POSTS, first + BATCH); at += 1)
    posts[nameAt(LAST_US - (POSTS - at) * 1_000_000)] = { text: `Post number ${at} of somebody who has much to say, mark${at}x` };
  const headers = { "Content-Type": "application/merge-patch+json" };
  const { status, text } = await http(alice, "/chirp/posts", { method: "PATCH", headers, body: JSON.stringify(posts) });
  if (status >= 300) throw new Error(`${status} ${text}`);
}

await withBrowser(async (browser) => {
  const hers = await person(browser);
  await openApp(alice, hers.page, "chirp");
  await hers.page.getByRole("article").first().waitFor();
  const address = hers.page.url();

  const newest = [];
  for (let at = 0; at < 50; at += 1) {
    const began = performance.now();
    await http(alice, "/chirp/posts?last=40&depth=8");
    newest.push(performance.now() - began);
  }
  say("newest 40 posts over HTTP", newest);

  const [paint, posts] = [[], []];
  for (let at = 0; at < 9; at += 1) {
    const page = await hers.context.newPage();
    await page.goto(address);
    posts.push(await page.evaluate(() => new Promise((resolve) => {
      const look = () => (document.querySelector("article.post") ? resolve(performance.now()) : requestAnimationFrame(look));
      look();
    })));
    paint.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime));
    await page.close();
  }
  say("first paint", paint);
  say("posts on screen", posts);

  say("first search of all posts", [await search(hers.page, `mark${POSTS >> 1}x`)]);
  say("another search", [await search(hers.page, `mark${POSTS >> 2}x`)]);

  invite(alice, bob);
  invite(bob, alice);
  const his = await person(browser);
  await openApp(bob, his.page, "chirp");
  const text = `number ${POSTS - 1} `;
  const post = his.page.getByRole("article").filter({ hasText: text });
  await post.first().waitFor();
  await hers.page.evaluate(() => (location.hash = "#/"));
  await hers.page.getByRole("article").filter({ hasText: text }).first().waitFor();
  const likes = [];
  for (const [press, there] of Array.from({ length: 21 }, (_, at) => (at % 2 ? ["^Take the like back", "; 0 likes$"] : ["^Like; 0", "; 1 like$"]))) {
    const seen = hers.page.evaluate(
      ([text, label]) =>
        new Promise((resolve) => {
          const look = () => {
            const found = [...document.querySelectorAll("article")].filter((post) => post.textContent?.includes(text));
            const buttons = found.flatMap((post) => [...post.querySelectorAll(".action.like, .action.liked")]);
            if (!buttons.some((button) => new RegExp(label).test(button.getAttribute("aria-label") ?? ""))) return;
            observer.disconnect();
            resolve(Date.now());
          };
          const observer = new MutationObserver(look);
          observer.observe(document.body, { subtree: true, childList: true, attributes: true });
          look();
        }),
      [text, there],
    );
    const button = post.first().getByRole("button", { name: new RegExp(press) });
    await until("the button is there", () => button.count());
    const began = await button.evaluate((button) => (button.click(), Date.now()));
    likes.push((await seen) - began);
  }
  say("a like on its author's screen", likes);
});
