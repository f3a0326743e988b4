// Mentions, hashtags, links and lengths are those of Twitter: the conformance files of twitter-text, where they are, and
// its reference implementation for lengths.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { dataFile, need, same } from "./web.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const source = readFileSync(join(root, "apps/chirp/text.js"), "utf8");
const own = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);

/** @type {string[]} */
const texts = [
  "",
  "hello",
  "a".repeat(280),
  "日本語",
  "한국어 テスト",
  "😀👍🏽👨‍👩‍👧‍👦🇩🇪",
  "see https://example.org/a/b?c=d#e and more",
  "e\u0301",
  "“quotes” – dashes…",
  "\u200d",
  "😷 t.co/abc 中国",
];
const file = dataFile("02-social/twitter-text-extract.yml");
if (existsSync(file)) {
  const { tests } = need("yaml").parse(readFileSync(file, "utf8"));
  /** @param {string} section @param {(text: string) => { text: string }[]} find */
  const check = (section, find) => {
    for (const { text, expected, description } of tests[section]) {
      same(
        find(text).map((found) => found.text),
        expected,
        `${section}: ${description}`,
      );
      texts.push(text);
    }
  };
  check("mentions", own.mentionsIn);
  check("hashtags", own.hashtagsIn);
  check("hashtags_from_astral", own.hashtagsIn);
  check("urls", own.urlsIn);
} else console.log("skipped: no data", file);

const { parseTweet } = need("twitter-text");
let differ = 0;
for (const text of texts) {
  const [is, wanted] = [own.lengthOf(text), parseTweet(text).weightedLength];
  if (is !== wanted) {
    differ += 1;
    console.log(`length ${is} instead of ${wanted}: ${JSON.stringify(text)}`);
  }
}
same(differ, 0, `of ${texts.length} texts these many have another length`);
console.log(`${texts.length} texts`);
