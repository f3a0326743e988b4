// A text that two people type on two peers at once: no letter is lost, and the caret stays where it was.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { http, invite, peers, person, same, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

invite(alice, bob, "--to", "/", "--whole", "--can", "write");
const folder = mkdtempSync(join(tmpdir(), "timebus-"));
try {
  const wants = ["me", "others"].map((of) => ({ path: "/notes", may: ["read", "write"], of }));
  writeFileSync(join(folder, "app.json"), JSON.stringify({ name: "typing", title: "Typing", wants }));
  writeFileSync(join(folder, "index.html"), "<!doctype html><title>Typing</title><textarea></textarea>");
  for (const peer of peers) timebus(peer, "app", "install", folder, "--yes");
} finally {
  rmSync(folder, { recursive: true });
}

/** How often each letter is in a text. @param {string} text */
const counted = (text) => Array.from(text).sort().join("");
const at = (/** @type {string} */ name) => `/@${alice.id}/notes/${name}`;
const textOf = async (/** @type {any} */ peer, /** @type {string} */ name) => (await http(peer, at(name))).text;

/** Writes a text of Alice, and waits until both have it. @param {string} name @param {string} body */
async function begin(name, body) {
  await http(alice, at(name), { method: "PUT", headers: { "content-type": "text/plain" }, body });
  await until(`both have ${name}`, async () => (await textOf(bob, name)) === body);
}

await withBrowser(async (browser) => {
  const people = [await person(browser), await person(browser)];
  const pages = people.map(({ page }) => page);
  for (const [at, page] of pages.entries()) {
    await page.goto(`http://typing.localhost:${peers[at]?.port}/`);
    await page.evaluate(async () => {
      const { open } = await import("/sdk.js");
      globalThis.bus = await open();
    });
  }
  /** Opens a text of hers on both pages. @param {string} name */
  const openText = (name) =>
    Promise.all(
      pages.map((page) =>
        page.evaluate(
          async ([pointer]) => {
            globalThis.text = globalThis.bus.place(pointer).text();
            await globalThis.text.store.ready();
          },
          [at(name)],
        ),
      ),
    );
  /** Both pages and both peers show the same. @param {string} name @param {(text: string) => boolean} is_it */
  const agreed = async (name, is_it) => {
    /** @type {string[]} */
    let all = [];
    const ask = async () => {
      all = [...(await Promise.all(peers.map((peer) => textOf(peer, name))))];
      for (const page of pages) all.push(await page.evaluate(() => globalThis.text.store.value));
      return all.every((text) => text === all[0]) && is_it(all[0]) && all[0];
    };
    return until(`all have all of ${name}`, ask).catch((error) => {
      throw new Error(`${error}\n${all.join("\n")}`);
    });
  };

  // Letter by letter, at the beginning and at the end.
  await begin("letters", "middle");
  await openText("letters");
  await Promise.all(
    pages.map((page, side) =>
      page.evaluate(
        async ([side, letters]) => {
          const { text } = globalThis;
          for (const letter of side ? letters.toUpperCase() : letters) {
            text.set(side ? text.store.value + letter : letter + text.store.value);
            await new Promise((resolve) => setTimeout(resolve, 15));
          }
        },
        [side, LETTERS],
      ),
    ),
  );
  const all = counted(`middle${LETTERS}${LETTERS.toUpperCase()}`);
  const letters = await agreed("letters", (text) => counted(text) === all);
  same(letters, `${Array.from(LETTERS).reverse().join("")}middle${LETTERS.toUpperCase()}`, "the letters are in their order");

  // In two fields, as people do it: characters that JavaScript keeps as two, and words taken out again.
  await begin("fields", "🦦 one 🦦");
  await openText("fields");
  for (const page of pages)
    await page.evaluate(() => void globalThis.text.attach(globalThis.document.querySelector("textarea")));
  const [a, b] = pages.map((page) => page.locator("textarea"));
  await until("both see it", async () => (await a.inputValue()) === "🦦 one 🦦" && (await b.inputValue()) === "🦦 one 🦦");
  await a.press("Control+Home");
  await b.press("Control+End");
  await Promise.all([a.pressSequentially("alpha🐢gone", { delay: 15 }), b.pressSequentially("OMEGA🐇", { delay: 15 })]);
  for (const _ of "gone") await a.press("Backspace");
  await agreed("fields", (text) => text === "alpha🐢🦦 one 🦦OMEGA🐇");
  same(await a.evaluate((field) => field.selectionStart), "alpha🐢".length, "her caret is where she typed");

  // Both at one place.
  await begin("place", "<>");
  await openText("place");
  for (const page of pages) {
    await page.evaluate(() => {
      const field = globalThis.document.querySelector("textarea");
      field.replaceWith(globalThis.document.createElement("textarea"));
      globalThis.text.attach(globalThis.document.querySelector("textarea"));
    });
    await page.locator("textarea").evaluate((field) => field.setSelectionRange(1, 1));
  }
  await Promise.all([
    a.pressSequentially(LETTERS, { delay: 10 }),
    b.pressSequentially(LETTERS.toUpperCase(), { delay: 10 }),
  ]);
  const both = counted(`<>${LETTERS}${LETTERS.toUpperCase()}`);
  await agreed("place", (text) => counted(text) === both);

  // What somebody else makes of the letters around her caret is neither selected nor replaced by what she types next.
  await begin("around", "<abAB>");
  await openText("around");
  for (const page of pages) {
    await page.evaluate(() => {
      const field = globalThis.document.querySelector("textarea");
      field.replaceWith(globalThis.document.createElement("textarea"));
      globalThis.text.attach(globalThis.document.querySelector("textarea"));
    });
  }
  for (const [now, caret, typed] of [
    ["<aAbB>", "<ab", "<aAbxB>"],
    ["<XaAbxYBZ>", "<aAbxB", "<XaAbxYBxZ>"],
    ["<🐢q>", "<XaAb", "<x🐢q>"],
  ]) {
    await a.evaluate((field, at) => field.setSelectionRange(at, at), caret.length);
    await http(alice, at("around"), { method: "PUT", headers: { "content-type": "text/plain" }, body: now });
    await until("she sees it", async () => (await a.inputValue()) === now);
    const caretNow = await a.evaluate((field) => [field.selectionStart, field.selectionEnd]);
    const to = typed.lastIndexOf("x");
    same(caretNow, [to, to], "her caret is behind the letter that it was behind");
    await a.press("x");
    await agreed("around", (text) => text === typed);
  }

  // What she writes where nothing is, and where no text is.
  await Promise.all([pages[0].evaluate(async ([pointer]) => globalThis.bus.place(pointer).put("json").done, [at("json")])]);
  const refused = await pages[0].evaluate(
    async ([pointer]) => {
      const text = globalThis.bus.place(pointer).text();
      await text.store.ready();
      return text.set("json!").done.then(() => "", (problem) => `${problem.title}`);
    },
    [at("json")],
  );
  same(refused, "this is a JSON value, not a text", "a JSON value is no text");
  await pages[0].evaluate(
    async ([pointer]) => {
      const text = globalThis.bus.place(pointer).text();
      await text.store.ready();
      text.set("n");
      text.set("ne");
      await text.set("new").done;
      await text.set("new").done;
    },
    [at("new")],
  );
  const made = await http(alice, at("new"));
  same([made.text, made.headers["content-type"].split(";")[0]], ["new", "text/plain"], "a new text");
  for (const { complaints } of people) same(complaints, [], "the browser complains of nothing");
});
