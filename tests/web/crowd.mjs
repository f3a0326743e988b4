// Many people in spaces of their own, one of whom reads all: what chirp shows is what was counted from a file.
//
// The test that runs this knows how to make spaces; who there is and what they write is said here. So a script runs three
// times: it says who there is (`people.json`), is told their keys (`keys.json`) and says what each of them writes
// (`spaces.json`), and looks at what is shown.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { http, openApp, peers, person, same, until, withBrowser } from "./web.mjs";

/**
 * What was counted: by pointer of a post its text, who answers it (pointers) and who likes it (names); by name who follows.
 * @typedef {{ spaces: Map<string, any>, texts: Map<string, string>, answers: Map<string, Set<string>>, likes: Map<string, Set<string>>, followers: Map<string, Set<string>> }} Told
 */

/** More of a text is not drawn before somebody asks for it. */
const SHOWN_CHARS = 2000;

/** @param {Map<string, Set<string>>} map @param {string} key @returns {Set<string>} */
export const setOf = (map, key) => map.get(key) ?? map.set(key, new Set()).get(key) ?? new Set();

/** @param {string[]} people @param {(keyOf: Map<string, string>) => Told} tell */
export async function crowd(people, tell) {
  const file = (/** @type {string} */ name) => join(process.env.TIMEBUS_CROWD ?? "", name);
  if (!existsSync(file("keys.json"))) return writeFileSync(file("people.json"), JSON.stringify(people));
  const keyOf = new Map(Object.entries(JSON.parse(readFileSync(file("keys.json"), "utf8"))));
  const told = tell(keyOf);
  if (!existsSync(file("spaces.json")))
    return writeFileSync(file("spaces.json"), JSON.stringify(Object.fromEntries(told.spaces)));
  const [reader] = peers;
  for (const name of people) {
    const count = Object.keys(told.spaces.get(name).chirp.posts).length;
    if (count === 0) continue;
    await until(`the posts of ${name} are here`, async () => {
      const { status, text } = await http(reader, `/@${keyOf.get(name)}/chirp/posts?depth=1&limit=5000`);
      return status === 200 && Object.keys(JSON.parse(text)).length === count;
    });
  }
  await withBrowser((browser) => look(browser, people, keyOf, told));
  const total = (/** @type {Map<string, Set<string>>} */ map) => [...map.values()].reduce((sum, set) => sum + set.size, 0);
  console.log(
    `${people.length} people: ${told.texts.size} posts, ${told.answers.size} threads with ${total(told.answers)} answers, ${total(told.likes)} likes, ${total(told.followers)} follows`,
  );
}

/** @param {any} browser @param {string[]} people @param {Map<string, string>} keyOf @param {Told} told */
async function look(browser, people, keyOf, { spaces, texts, answers, likes, followers }) {
  // Tall, so that much is seen at once.
  const { page, complaints } = await person(browser, { viewport: { width: 1200, height: 8000 } });
  await openApp(peers[0], page, "chirp");
  await page.getByRole("article").first().waitFor();
  const go = (/** @type {string} */ hash) => page.evaluate((hash) => (location.hash = hash), hash);
  for (const name of people) {
    const { profile, chirp } = spaces.get(name);
    await go(`#/@${keyOf.get(name)}`);
    await page.getByRole("heading", { name: profile.name, exact: true }).first().waitFor();
    const following = Object.keys(chirp.follows).length;
    const known = followers.get(name)?.size ?? 0;
    await page.getByText(new RegExp(`${following}\\s+following\\s+${known}\\s+followers? that you can see`)).waitFor();
    const tab = page.getByRole("tab", { name: "Posts and answers" });
    await tab.click();
    const wanted = Object.keys(chirp.posts)
      .map((id) => `/@${keyOf.get(name)}/chirp/posts/${id}`)
      .map((at) => JSON.stringify([at, textOf(at), answers.get(at)?.size ?? 0, likes.get(at)?.size ?? 0]))
      .sort();
    /** @type {string[]} */
    let shown = [];
    await until(`what is shown of ${name}`, async () => {
      shown = (await page.locator("article.post").evaluateAll(rows)).map((row) => JSON.stringify(row)).sort();
      // Down step by step, and up again.
      await page.evaluate(() =>
        scrollY + innerHeight >= document.documentElement.scrollHeight ? scrollTo(0, 0) : scrollBy(0, innerHeight / 2),
      );
      return JSON.stringify(shown) === JSON.stringify(wanted);
    }).catch((error) => {
      const missing = wanted.filter((row) => !shown.includes(row));
      throw new Error(`${error}\n${shown.length} of ${wanted.length}; not shown so:\n${missing.slice(0, 5).join("\n")}`);
    });
  }
  for (const [pointer, set] of answers) {
    await go(`#${pointer.replace("/chirp/posts/", "/post/")}`);
    const wanted = JSON.stringify([...set].sort());
    await until(`the answers to ${pointer}`, async () => {
      const pointers = (/** @type {any[]} */ articles) => articles.map((article) => article.dataset.pointer);
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
      return JSON.stringify((await page.locator(".posts article.post").evaluateAll(pointers)).sort()) === wanted;
    });
  }
  same(complaints, [], "the browser complains of nothing");

  function textOf(/** @type {string} */ pointer) {
    return (texts.get(pointer) ?? "").slice(0, SHOWN_CHARS).replace(/https?:\/\//gi, "");
  }
}

/** What is drawn of posts: which one, its text, answers and likes. @param {any[]} articles */
function rows(articles) {
  const number = (/** @type {any} */ article, /** @type {string} */ button, /** @type {RegExp} */ words) =>
    Number(words.exec(article.querySelector(button)?.getAttribute("aria-label") ?? "")?.[1]);
  return articles.map((article) => [
    article.dataset.pointer,
    (article.querySelector(".content > .text")?.textContent ?? "").replace(/https?:\/\//gi, ""),
    number(article, ".action.reply", /(\d+) answer/),
    number(article, ".action.like, .action.liked", /(\d+) like/),
  ]);
}
