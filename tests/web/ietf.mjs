// The issues of a working group and what was said to them, as posts and their answers.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { crowd, setOf } from "./crowd.mjs";
import { dataFile, nameAt } from "./web.mjs";

const archive = JSON.parse(
  gunzipSync(readFileSync(dataFile("02-social/quicwg-load-balancers-archive.json.gz"))).toString(),
);
/** @type {{ id: string, author: string, at: string, text: string, to: string | null }[]} */
const said = [];
for (const thread of [...archive.issues, ...archive.pulls]) {
  const add = (/** @type {any} */ one, /** @type {string} */ text, /** @type {string | null} */ to) => {
    const id = `${thread.id} ${said.length}`;
    if (text.trim() !== "") said.push({ id, author: one.author ?? "ghost", at: one.createdAt, text, to });
    return id;
  };
  const root = add(thread, `${thread.title}\n\n${thread.body ?? ""}`, null);
  for (const comment of thread.comments ?? []) add(comment, comment.body, root);
  for (const review of thread.reviews ?? []) {
    add(review, review.body ?? "", root);
    for (const comment of review.comments ?? []) add(comment, comment.body, root);
  }
}
const people = [...new Set(said.map(({ author }) => author))].sort();

await crowd(people, (keyOf) => {
  const nameOf = (/** @type {typeof said[number]} */ one) => nameAt(Date.parse(one.at) * 1000, one.id);
  const pointers = new Map(said.map((one) => [one.id, `/@${keyOf.get(one.author)}/chirp/posts/${nameOf(one)}`]));
  const empty = (/** @type {string} */ who) => ({ profile: { name: who }, chirp: { posts: {}, follows: {} } });
  /** @type {Map<string, any>} */
  const spaces = new Map(people.map((who) => [who, empty(who)]));
  const [texts, answers] = [new Map(), new Map()];
  for (const one of said) {
    const text = one.text.trim().replace(/\r\n?/g, "\n");
    const target = one.to && pointers.get(one.to);
    spaces.get(one.author).chirp.posts[nameOf(one)] = {
      text,
      ...(target ? { reply: { kind: "reply", target, root: target } } : {}),
    };
    texts.set(pointers.get(one.id), text);
    if (target) setOf(answers, target).add(pointers.get(one.id));
  }
  return { spaces, texts, answers, likes: new Map(), followers: new Map() };
});
