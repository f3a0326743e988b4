// Every page of the peer, with something on it: by light and in the dark, on a desk and on a phone. Nothing is cut off,
// nothing serious keeps anybody out, and the keyboard will do.

import { accessible, http, invite, openApp, peers, person, same, shot, signIn, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;
const json = { "content-type": "application/json" };
/** @param {any} peer @param {string} path @param {any} value @param {Record<string, string>} [headers] */
async function put(peer, path, value, headers = {}) {
  const answer = await http(peer, path, { method: "PUT", headers: { ...json, ...headers }, body: JSON.stringify(value) });
  if (answer.status >= 300) throw new Error(`${path}: ${answer.text}`);
  return answer.headers.version;
}

// Names that can be broken nowhere.
const [W, long] = ["W".repeat(60), "n".repeat(120)];
await put(bob, "/profile/name", W);
await put(alice, "/recipes", {
  soup: { serves: 4, vegan: true, steps: ["chop", "boil", "season"] },
  [long]: { [long]: long },
  [`a very long name ${"of a dish ".repeat(8)}`]: { note: "x".repeat(300) },
});
for (const words of ["Buy tea", "Buy tea and cake", "Buy tea, cake and milk"]) await put(alice, "/notes/plan", words);
// Two who did not see each other.
const seen = await put(alice, "/notes/colour", "blue");
await put(alice, "/notes/colour", "green", { parents: seen });
await put(alice, "/notes/colour", "red", { parents: seen });
await put(alice, "/films/poster", "0".repeat(10), { "content-type": "image/png" });
// A friend who wants to keep more than he may.
invite(alice, bob, "--to", "/wall", "--can", "write", "--note", W);
invite(bob, alice);
timebus(alice, "grant", `/recipes/${long}`, bob.id, "--can", "write");
timebus(alice, "community", "new", W, "--called", "Alice");
timebus(alice, "community", "post", W, `https://${long}.example`);
timebus(alice, "limits", bob.id, "20kB");
for (let at = 0; at < 10; at += 1) await put(bob, `/@${alice.id}/wall/${at}`, "x".repeat(5000));
await until("somebody waits for her word", async () => (await http(alice, "/.sys/held")).json().held.length > 0);
timebus(alice, "app", "install", "board", "--yes");
const words = `Is there more soup? ${long}`;
timebus(bob, "inbox", "send", "note", `@${alice.id}/recipes/${long}`, "--from", `/likes/${long}`, "--body", words);
await until("his note is there", async () => (await http(alice, "/.sys/inbox")).json().notices.length > 0);

/** Addresses, what has to be there, and what is pressed before it is looked at. @type {[string, string, string, string?][]} */
const PAGES = [
  ["values", "/", "recipes"],
  ["value", "/notes/plan", "Buy tea, cake and milk"],
  ["history", "/notes", "Drag to go back in time", "History"],
  ["authors", "/notes", "you, ", "Who wrote what"],
  ["conflicts", "/notes", "Keep this", "Conflicts"],
  ["raw", "/notes/plan", "operation", "Raw"],
  ["apps", "/.sys/apps", "Board"],
  ["people", "/.sys/people", "up to date"],
  ["grants", "/.sys/grants", "given by you"],
  ["inbox", "/.sys/inbox", "Is there more soup?"],
  ["invites", "/.sys/invites", "used 1 time"],
  ["requests", "/.sys/requests", "Let this in"],
  ["peer", "/.sys/peer", "The disk has room"],
  ["nothing", "/nowhere/at/all", "Nothing is here"],
  ["long", `/recipes/${long}/${long}`, "as all that is not kept apart"],
  ["nothing-long", `/recipes/${long}/nothing`, "Nothing is here"],
  ["nothing-elsewhere", `/@${bob.id}/nothing`, "Nothing is here"],
];
const LOOKS = {
  light: { viewport: { width: 1200, height: 800 } },
  dark: { viewport: { width: 1200, height: 800 }, colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 800 }, hasTouch: true },
  "phone-dark": { viewport: { width: 390, height: 800 }, hasTouch: true, colorScheme: "dark" },
};

await withBrowser(async (browser) => {
  for (const [look, options] of Object.entries(LOOKS)) {
    const { page, complaints, context } = await person(browser, options);
    await signIn(alice, page);
    await page.getByRole("link", { name: "This peer" }).waitFor();
    for (const [name, path, wanted, tab] of PAGES) {
      await page.goto(`http://localhost:${alice.port}${path}`);
      if (tab) await page.getByRole("tab", { name: tab }).click();
      await page.getByText(wanted).first().waitFor();
      await shot(page, `page-${name}-${look}`);
      await accessible(page, `${name}, ${look}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) throw new Error(`${name}, ${look}: ${wide} pixels are cut off at the side`);
    }
    // What was just written can be read while it is lit up.
    await page.goto(`http://localhost:${alice.port}/recipes/soup`);
    await page.getByRole("treeitem", { name: "vegan true" }).waitFor();
    await page.evaluate(() => {
      const lit = new CSSStyleSheet();
      lit.replaceSync(".row { background: var(--flash) !important; }");
      document.adoptedStyleSheets.push(lit);
    });
    await accessible(page, `what flashes, ${look}`);
    const chirp = await context.newPage();
    await openApp(alice, chirp, "chirp");
    await chirp.getByRole("textbox", { name: "What is happening?" }).waitFor();
    for (const [name, hash] of [
      ["home", "#/"],
      ["notifications", "#/notifications"],
      ["search", "#/search/tea"],
      ["people", "#/people"],
      ["you", `#/@${alice.id}`],
      ["friend", `#/@${bob.id}`],
    ]) {
      await chirp.evaluate((hash) => (location.hash = hash), hash);
      await chirp.evaluate(() => new Promise(requestAnimationFrame));
      await shot(chirp, `chirp-${name}-${look}`);
      await accessible(chirp, `chirp ${name}, ${look}`);
      const wide = await chirp.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) throw new Error(`chirp ${name}, ${look}: ${wide} pixels are cut off at the side`);
    }
    same(complaints, [], `the browser complains of nothing, ${look}`);
    await context.close();
  }

  // By the keyboard alone: to a page, into the tree, to the history, and back in time.
  const { page } = await person(browser);
  await signIn(alice, page);
  await page.getByRole("link", { name: "People" }).waitFor();
  const tabTo = async (/** @type {string} */ what) => {
    for (let at = 0; at < 60; at += 1) {
      await page.keyboard.press("Tab");
      const is_there = await page.evaluate(
        (what) => (document.activeElement?.textContent ?? "").trim().startsWith(what) || document.activeElement?.id === what,
        what,
      );
      if (is_there) return;
    }
    throw new Error(`the keyboard does not lead to ${what}`);
  };
  await tabTo("People");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Machines" }).waitFor();
  await page.goto(`http://localhost:${alice.port}/notes/plan`);
  await page.getByText("Drag to go back in time").waitFor();
  await tabTo("history-slider");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  await page.getByText("What was here then").waitFor();
  await page.getByLabel("The value at that time").getByText("Buy tea and cake", { exact: true }).waitFor();
  // What two wrote at once stands side by side, and one is kept.
  await page.goto(`http://localhost:${alice.port}/notes`);
  await page.getByRole("tab", { name: /^Conflicts/ }).click();
  await page.locator("value-conflicts").getByText("green").waitFor();
  await page.locator("value-conflicts").getByText("red").waitFor();
  await page.locator("value-conflicts").getByRole("button", { name: /Keep/ }).first().click();
  await until("one is kept", async () => (await http(alice, "/.sys/conflicts/notes")).json().conflicts.length === 0);
  // The owner's word lets in what waited.
  await page.goto(`http://localhost:${alice.port}/.sys/requests`);
  await page.getByRole("button", { name: /^From now on/ }).first().click();
  await until("all of it is here", async () => {
    const wall = await http(alice, "/wall");
    return wall.status === 200 && Object.keys(wall.json()).length === 10;
  });
  await page.getByText("Nobody waits for your word.").waitFor();
});
