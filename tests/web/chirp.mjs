// Two people, two peers: publish, invite, join, post, like, answer, notice, write while the peer is stopped, come back.

import { randomBytes } from "node:crypto";
import { crc32, deflateSync } from "node:zlib";
import { accessible, http, invite, nameAt, openApp, peers, person, same, shot, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;

/** A picture that no encoder makes small. @param {number} side */
function noise(side) {
  const chunk = (/** @type {string} */ name, /** @type {Buffer} */ data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [size, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    size.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([size, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  // Eight bits of red, green and blue.
  head.set([8, 2], 8);
  const rows = randomBytes(side * (3 * side + 1));
  for (let at = 0; at < side; at += 1) rows[at * (3 * side + 1)] = 0;
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

/** Waits for a picture of that size. @param {import("playwright-core").Page} page @param {string} text of its post @param {number} side */
async function seesPicture(page, text, side) {
  const image = page.getByRole("article").filter({ hasText: text }).locator(".pictures img");
  await until(`the picture of ${text} is drawn`, () => image.evaluate((image) => image.naturalWidth).then((is) => is === side));
}

/** In a page: when a button has such a label. @param {string} label @returns {Promise<number>} */
function whenLabelled(label) {
  const wanted = new RegExp(label);
  return new Promise((resolve) => {
    const look = () => {
      const posts = [...document.querySelectorAll("article")].filter((post) => post.textContent?.includes("First post"));
      const all = posts.flatMap((post) => [...post.querySelectorAll(".action.like, .action.liked")]);
      if (!all.some((button) => wanted.test(button.getAttribute("aria-label") ?? ""))) return;
      observer.disconnect();
      resolve(Date.now());
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { subtree: true, childList: true });
    look();
  });
}

await withBrowser(async (browser) => {
  const hers = await person(browser);
  await openApp(alice, hers.page, "chirp");
  const a = hers.page;
  await a.getByRole("textbox", { name: "Name" }).fill("Alice");
  await a.getByRole("textbox", { name: "About you" }).fill("I grow tomatoes");
  await a.getByRole("button", { name: "Save" }).click();
  await a
    .getByRole("textbox", { name: "What is happening?" })
    .fill("First post, with a #hashtag and https://example.org/page");
  await a.getByRole("button", { name: "Post", exact: true }).last().click();
  await a.getByRole("article").getByText("First post").waitFor();
  same(await a.getByRole("link", { name: "#hashtag" }).count(), 1, "hashtags are links");
  await a.locator('main input[type="file"]').setInputFiles({ name: "noise.png", mimeType: "image/png", buffer: noise(500) });
  await a.getByRole("textbox", { name: "Describe the picture" }).fill("Nothing but noise");
  await a.getByRole("textbox", { name: "What is happening?" }).fill("A picture that is too large for a value");
  await a.getByRole("button", { name: "Post", exact: true }).last().click();
  await seesPicture(a, "A picture that", 500);
  const [kept] = await until("the picture is on disk", async () => {
    const pictures = await http(alice, "/chirp/pictures");
    return pictures.status === 200 && Object.values(pictures.json());
  });
  if (!(kept["@bytes_total"] > 64 * 1024)) throw new Error(`the picture is ${JSON.stringify(kept).slice(0, 200)}`);
  await shot(a, "chirp-first");

  // The friend takes the link, and sees it.
  invite(alice, bob);
  invite(bob, alice);
  const his = await person(browser, { viewport: { width: 390, height: 800 } });
  await openApp(bob, his.page, "chirp");
  const b = his.page;
  await b.getByRole("article").getByText("First post").waitFor();
  await seesPicture(b, "A picture that", 500);
  await b.getByRole("textbox", { name: "Name" }).fill("Bob");
  await b.getByRole("button", { name: "Save" }).click();
  await b.getByRole("link", { name: "Alice" }).first().waitFor();
  await shot(b, "chirp-phone");

  const first = (/** @type {import("playwright-core").Page} */ page) =>
    page.getByRole("article").filter({ hasText: "First post" });
  // A like travels to the screen of whoever wrote it, and is gone when it is taken back.
  const took = [];
  for (let at = 0; at < 11; at += 1) {
    for (const [press, there] of [
      [/^Like; 0/, /; 1 like$/],
      [/^Take the like back/, /; 0 likes$/],
    ]) {
      if (at === 10 && press.source.startsWith("^Take")) continue;
      const seen = a.evaluate(whenLabelled, there.source);
      const began = await first(b).getByRole("button", { name: press }).evaluate((button) => (button.click(), Date.now()));
      took.push((await seen) - began);
    }
  }
  took.sort((a, b) => a - b);
  console.log(`a like was on her screen after ${took[took.length >> 1]} ms at the median of ${took.length}, ${took.at(-1)} ms at most`);
  await first(b).getByRole("button", { name: /^Answer/ }).click();
  await b.getByRole("dialog").getByRole("textbox", { name: "Write your answer" }).fill("Welcome, @alice!");
  await b.getByRole("dialog").getByRole("button", { name: "Answer" }).click();
  await a.getByRole("link", { name: /Notifications/ }).click();
  await a.getByText("answered you").waitFor();
  await a.getByText("likes your post").waitFor();
  await shot(a, "chirp-notices");
  await a.locator(".notice .embedded").first().click();
  await a.getByRole("article").getByText("Welcome,").first().waitFor();
  same(await a.getByRole("article").getByRole("link", { name: "@alice", exact: true }).count(), 1, "a name is a link");
  await shot(a, "chirp-thread");

  // The peer is stopped: she reads on and writes on.
  await a.getByRole("link", { name: "Home" }).click();
  timebus(alice, "down");
  await a.getByText("timebus is not running").waitFor();
  await a.locator('main input[type="file"]').setInputFiles({ name: "noise.png", mimeType: "image/png", buffer: noise(300) });
  await a.getByRole("textbox", { name: "Describe the picture" }).waitFor();
  await a.getByRole("textbox", { name: "What is happening?" }).fill("Written while my peer was away");
  await a.getByRole("button", { name: "Post", exact: true }).last().click();
  await a.getByRole("article").getByText("Written while").waitFor();
  await a.getByText(/[1-9] changes? waiting/).waitFor();
  await seesPicture(a, "Written while", 300);
  await shot(a, "chirp-offline");
  const { spawn } = await import("node:child_process");
  const up = spawn(
    process.env.TIMEBUS,
    ["--home", alice.home, "up", "--http", `127.0.0.1:${alice.port}`, "--no-lan", "--udp", "127.0.0.1:0"],
    { stdio: "ignore" },
  );
  try {
    await until("the post is on disk", async () => {
      const posts = await http(alice, "/chirp/posts").catch(() => null);
      return posts?.status === 200 && posts.text.includes("Written while");
    });
    await a.getByText("timebus is not running").waitFor({ state: "hidden" });
    await b.getByRole("article").getByText("Written while").waitFor();
    await seesPicture(b, "Written while", 300);
    const waiting = () => a.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("timebus:out:")).length);
    await until("nothing waits any more", async () => (await waiting()) === 0);
    same(
      Object.values((await http(alice, "/chirp/posts")).json()).filter(({ text }) => text?.startsWith("Written"))
        .length,
      1,
      "it was written once",
    );

    // Follow, search, mute.
    await a.getByRole("link", { name: "People", exact: true }).click();
    await a.getByRole("main").getByRole("button", { name: "Follow Bob" }).click();
    await a.getByRole("main").getByRole("button", { name: "Following Bob" }).waitFor();
    await until("he is followed", async () => (await http(alice, `/chirp/follows/${bob.id}`)).status === 200);
    await a.getByRole("link", { name: "Search" }).click();
    await a.getByRole("searchbox").fill("tomatoes welcome");
    await a.getByRole("searchbox").press("Enter");
    await a.getByText(/0 posts found/).waitFor();
    await a.getByRole("searchbox").fill("WELCOME");
    await a.getByRole("searchbox").press("Enter");
    await a.getByRole("article").getByText("Welcome,").waitFor();
    // Posts that no page watches are found, too.
    const old = Array.from({ length: 60 }, (_, at) => [nameAt((1_000_000_000 + at) * 1_000_000), { text: `Ancient number n${at}x` }]);
    const headers = { "Content-Type": "application/merge-patch+json" };
    await http(bob, "/chirp/posts", { method: "PATCH", headers, body: JSON.stringify(Object.fromEntries(old)) });
    await until("they are here", async () => (await http(alice, `/@${bob.id}/chirp/posts/${old.at(-1)?.[0]}`)).status === 200);
    await a.getByRole("searchbox").fill("number ANCIENT n0x");
    await a.getByRole("searchbox").press("Enter");
    await a.getByText(/1 post found/).waitFor();
    await a.getByRole("article").getByText("Ancient number n0x").waitFor();
    // Who follows more people than a page watches sees all of them all the same.
    const unwatched = await a.evaluate(async (key) => {
      const [{ Model }, { open }] = await Promise.all([import(`${location.origin}/model.js`), import(`${location.origin}/sdk.js`)]);
      const model = new Model(await open(), { watched_max: 1 });
      while (model.postsOf(key).length === 0) await new Promise((resolve) => model.onchange(resolve));
      return [model.postsOf(key).length, model.nameOf(key)];
    }, bob.id);
    same(unwatched[0], 40, "the newest posts of somebody who is not watched");

    for (const [who, page] of [
      ["alice", a],
      ["bob", b],
    ])
      await accessible(page, `chirp of ${who}`);
    same(hers.complaints, [], "her browser complains of nothing");
    same(his.complaints, [], "his browser complains of nothing");
  } finally {
    up.kill();
  }
});
