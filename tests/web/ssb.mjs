// Posts, answers, likes and follows of a hundred people, out of a network that others generated.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { crowd, setOf } from "./crowd.mjs";
import { dataFile, nameAt } from "./web.mjs";

const messages = gunzipSync(readFileSync(dataFile("02-social/ssb-fixtures-trainB.ndjson.gz")))
  .toString()
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line));
/** @type {Map<string, any>} */
const byKey = new Map(messages.map((message) => [message.key, message.value]));
const people = [...new Set(messages.map(({ value }) => value.author))].sort();

await crowd(people, (keyOf) => {
  /** @param {string} key */
  const nameOf = (key) => nameAt(byKey.get(key).timestamp * 1000, key);
  const pointerOf = (/** @type {string} */ key) => `/@${keyOf.get(byKey.get(key).author)}/chirp/posts/${nameOf(key)}`;
  const isPost = (/** @type {any} */ key) => {
    const content = byKey.get(key)?.content;
    return content?.type === "post" && typeof content.text === "string";
  };
  const empty = (/** @type {string} */ who) => ({
    profile: { name: `Person ${people.indexOf(who)}` },
    chirp: { posts: {}, likes: {}, follows: {} },
  });
  /** @type {Map<string, any>} */
  const spaces = new Map(people.map((who) => [who, empty(who)]));
  const [texts, answers, likes, followers] = [new Map(), new Map(), new Map(), new Map()];
  for (const { key, value } of messages) {
    const { author, content } = value;
    const { posts, likes: liked, follows } = spaces.get(author).chirp;
    if (isPost(key)) {
      const post = { text: content.text };
      // An answer names what it answers; who does not say more than the thread answers its first post.
      const branch = [content.branch].flat().find(isPost);
      if (isPost(content.root)) {
        const to = pointerOf(branch ?? content.root);
        post.reply = { kind: "reply", target: to, root: pointerOf(content.root) };
        setOf(answers, to).add(pointerOf(key));
      }
      posts[nameOf(key)] = post;
      texts.set(pointerOf(key), content.text);
    } else if (content.type === "vote" && isPost(content.vote.link)) {
      const target = pointerOf(content.vote.link);
      const name = `${keyOf.get(byKey.get(content.vote.link).author)}.${nameOf(content.vote.link)}`;
      // The last word counts.
      if (content.vote.value > 0) {
        liked[name] = { kind: "like", target, at: value.timestamp };
        setOf(likes, target).add(author);
      } else {
        delete liked[name];
        setOf(likes, target).delete(author);
      }
    } else if (content.type === "contact" && keyOf.has(content.contact) && content.contact !== author) {
      const other = keyOf.get(content.contact) ?? "";
      if (content.following) {
        follows[other] = { kind: "follow", target: `/@${other}/profile`, at: value.timestamp };
        setOf(followers, content.contact).add(author);
      } else {
        delete follows[other];
        setOf(followers, content.contact).delete(author);
      }
    }
  }
  return { spaces, texts, answers, likes, followers };
});
