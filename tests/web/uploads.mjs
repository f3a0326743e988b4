// Files that are added on the pages: chosen and dropped, several at once, into one's own space and a friend's, cut off and gone on
// with, cancelled, refused, by the keyboard, and on a phone.

import { randomBytes } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { accessible, drawn, http, invite, peers, person, same, shot, signIn, timebus, told, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;
const folder = mkdtempSync(join(tmpdir(), "timebus-uploads-"));
const part = 1024 * 1024;
const film = Buffer.alloc(5 * part + 17, "film");
const pathOf = (/** @type {string} */ name, /** @type {Buffer | string} */ bytes) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const filmFile = pathOf("holiday film.mp4", film);
timebus(alice, "put", "/films/list", '"to come"');
invite(alice, bob, "--to", "/table", "--can", "write");

/** What a path holds. @param {any} peer @param {string} path */
const head = async (peer, path) => {
  const { status, headers } = await http(peer, path, { method: "HEAD" });
  return [status, headers["content-type"], Number(headers["content-length"])];
};
const at = (/** @type {any} */ peer, /** @type {string} */ path) => `http://localhost:${peer.port}${path}`;
const fits = async (/** @type {any} */ page, /** @type {string} */ what) => {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) throw new Error(`${what}: ${wide} pixels are cut off at the side`);
};

await withBrowser(async (browser) => {
  const { page, context, complaints } = await person(browser, { viewport: { width: 1280, height: 800 } });
  await signIn(alice, page);
  await page.getByRole("link", { name: "This peer" }).waitFor();

  // Several at once, by choosing: a large one and small ones, of which one is empty.
  await page.goto(at(alice, "/films"));
  await page.getByText("to come").waitFor();
  await page
    .getByLabel("Files to add")
    .setInputFiles([filmFile, pathOf("a note.txt", "hello"), pathOf("empty.bin", ""), pathOf("@odd.png", "picture")]);
  await page.getByText(`added, ${(film.length / 1e6).toFixed(1)} MB`).waitFor();
  await page.getByText("added, 7 bytes").waitFor();
  await shot(page, "uploads-added-1280");
  await accessible(page, "files that were added");
  same(await head(alice, "/films/holiday%20film.mp4"), [200, "video/mp4", film.length], "the film");
  same((await http(alice, "/films/holiday%20film.mp4", { headers: { range: "bytes=5242870-" } })).text.length, 27, "its end");
  same((await http(alice, "/films/a%20note.txt")).text, "hello", "the note");
  same(await head(alice, "/films/empty.bin"), [200, "application/octet-stream", 0], "the empty one");
  same((await head(alice, "/films/@@odd.png"))[0], 200, "a name that begins with an @");
  // What is there already is not replaced without a word.
  await page.getByLabel("Files to add").setInputFiles(pathOf("a note.txt", "hello again"));
  await page.getByText("something is there already").waitFor();
  same((await http(alice, "/films/a%20note.txt")).text, "hello", "nothing was replaced");
  await shot(page, "uploads-taken-1280");
  await page.getByRole("button", { name: "Replace a note.txt" }).click();
  await page.getByText("added, 11 bytes").waitFor();
  same((await http(alice, "/films/a%20note.txt")).text, "hello again", "it was replaced");
  await page.getByRole("button", { name: "Close", exact: true }).click();
  await page.getByRole("heading", { name: "Files" }).waitFor({ state: "hidden" });

  // By dropping, where nothing is yet.
  await page.goto(at(alice, "/photos/2026"));
  await page.getByText("Nothing is here").waitFor();
  const drop = async (/** @type {string[]} */ names) => {
    const data = await page.evaluateHandle((names) => {
      const data = new DataTransfer();
      for (const name of names) data.items.add(new File([`picture ${name}`], name, { type: "image/png" }));
      return data;
    }, names);
    await page.dispatchEvent("path-explorer", "dragover", { dataTransfer: data });
    same(await page.locator("path-explorer.dropping").count(), 1, "it is shown where to drop");
    await page.dispatchEvent("path-explorer", "drop", { dataTransfer: data });
    same(await page.locator("path-explorer.dropping").count(), 0, "and not any more");
  };
  await drop(["one.png", "two.png"]);
  await until("both are there", async () => (await head(alice, "/photos/2026/two.png"))[0] === 200);
  same(await head(alice, "/photos/2026/one.png"), [200, "image/png", 15], "what was dropped");
  await page.getByRole("treeitem", { name: /one\.png/ }).waitFor();

  // Beside the path, too: whatever is not of files is the browser's, and where no path is shown files are nobody's.
  const drag = (/** @type {string} */ where, /** @type {string} */ kind, /** @type {string | null} */ file) =>
    page.evaluate(
      ([where, kind, file]) => {
        const dataTransfer = new DataTransfer();
        if (file) dataTransfer.items.add(new File([`picture ${file}`], file, { type: "image/png" }));
        else dataTransfer.setData("text/plain", "words");
        // One that is made by hand takes no effect, which only the browser's own do.
        const { types, items, files } = dataTransfer;
        const dragged = { types, items, files, dropEffect: "link" };
        const event = new DragEvent(kind, { bubbles: true, cancelable: true, composed: true });
        Object.defineProperty(event, "dataTransfer", { value: dragged });
        document.querySelector(where).dispatchEvent(event);
        return [event.defaultPrevented, dragged.dropEffect];
      },
      [where, kind, file],
    );
  same(await drag("header.top", "dragover", "beside.png"), [true, "copy"], "a file over the head of the page");
  same(await page.locator("path-explorer.dropping").count(), 1, "it is shown where it goes");
  await shot(page, "uploads-dropping-1280");
  await drag("file-uploads", "drop", "beside.png");
  await until("it is there", async () => (await head(alice, "/photos/2026/beside.png"))[0] === 200);
  same(await drag("header.top", "dragover", null), [false, "link"], "words over the page");
  await page.goto(at(alice, "/.sys/people"));
  await page.getByRole("heading", { name: "Machines" }).waitFor();
  same(await drag("main", "dragover", "nowhere.png"), [true, "none"], "a file over a page without a path");
  same(await drag("main", "drop", "nowhere.png"), [true, "none"], "and dropped there");

  // Who took an invite is named there, too.
  const called = page.getByLabel(/^What you call /);
  await called.fill("Bobby");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByText("Bobby").first().waitFor();
  await until("she calls him so", () => /@Bobby/.test(timebus(alice, "peers")));
  // What happens while somebody types is shown when he is done.
  const field = page.getByLabel("What you call Bobby");
  await field.focus();
  const heard = page.waitForResponse((response) => response.url().endsWith(`/.sys/spaces`));
  timebus(alice, "peers", "name", bob.id, "Rob");
  await heard;
  await drawn(page);
  same(await field.evaluate((field) => field.matches(":focus")), true, "nothing is drawn over what is typed");
  await field.blur();
  await page.getByLabel("What you call Rob").waitFor();
  // Whether or not anything else happens then; and of two answers the one counts that was asked for last.
  const shown = await page.evaluate(async () => {
    const { LivePage } = await import("/.gui/elements/live-page.js");
    const answers = [];
    class Typed extends LivePage {
      shown = [];
      frame = () => [document.createElement("input")];
      read = () => new Promise((resolve) => answers.push(resolve));
      draw = (value) => this.shown.push(value);
    }
    customElements.define("typed-page", Typed);
    const typed = Object.assign(new Typed(), { peer: { heed: () => () => {} } });
    document.body.append(typed);
    const later = typed.show();
    answers[1]("second");
    await later;
    answers[0]("first");
    await new Promise((resolve) => setTimeout(resolve));
    const field = typed.querySelector("input");
    field.focus();
    const last = typed.show();
    answers[2]("third");
    await last;
    const before = [...typed.shown];
    field.blur();
    const until = async (is_so) => {
      for (let tries = 0; !is_so() && tries < 500; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    await until(() => answers.length > 3);
    answers[3]?.("third");
    await until(() => typed.shown.length > 1);
    typed.remove();
    return [before, typed.shown];
  });
  same(shown, [["second"], ["second", "third"]], "what was drawn");
  await shot(page, "uploads-people-1280");
  await accessible(page, "a guest on the people page");

  // A list takes no names, so no files.
  for (const list of ["[1]", "[]"]) {
    timebus(alice, "put", "/photos/list", list);
    await page.goto(at(alice, "/photos/list"));
    await page.getByRole("button", { name: "Edit" }).first().waitFor();
    same(await page.getByRole("button", { name: "Add files" }).isVisible(), false, `files are offered at ${list}`);
  }
  timebus(alice, "put", "/photos/list", "{}");
  await page.getByRole("button", { name: "Add files" }).waitFor();

  // On the page of a file another one takes its place.
  await page.goto(at(alice, "/photos/2026/one.png"));
  await page.getByRole("button", { name: "Replace the file" }).waitFor();
  await page.getByLabel("Files to add").setInputFiles(pathOf("other.jpg", "quite another picture"));
  await until("it was replaced", async () => (await head(alice, "/photos/2026/one.png"))[1] === "image/jpeg");
  await page.getByText("added, 21 bytes").waitFor();
  await page.getByText("A file: image/jpeg, 21 bytes").waitFor();

  // What somebody writes meanwhile is not what was to be replaced.
  await page.getByRole("button", { name: "Replace the file" }).waitFor();
  let is_between = true;
  await page.route(/photos\/2026\/one\.png$/, async (route) => {
    if (route.request().method() !== "PUT" || !is_between) return route.fallback();
    is_between = false;
    timebus(alice, "put", "/photos/2026/one.png", '{"a": 1, "b": {"c": 2, "d": 3}}');
    return route.continue();
  });
  await page.getByLabel("Files to add").setInputFiles(pathOf("third.jpg", "a third picture"));
  await page.getByText("something is there already, with 4 entries below it").waitFor();
  same((await http(alice, "/photos/2026/one.png")).json(), { a: 1, b: { c: 2, d: 3 } }, "what was written meanwhile");
  await shot(page, "uploads-below-1280");
  const ask = (/** @type {boolean} */ answer) =>
    page.evaluate((answer) => {
      const asked = /** @type {any} */ (globalThis);
      asked.asked = [];
      asked.confirm = (/** @type {string} */ question) => asked.asked.push(question) && answer;
    }, answer);
  const asked = () => page.evaluate(() => /** @type {any} */ (globalThis).asked);
  await ask(false);
  await page.getByRole("button", { name: "Replace third.jpg" }).click();
  same(await asked(), ["Put this file in the place of 4 entries below /photos/2026/one.png? What was there stays in the history."], "a question");
  // Nobody is asked of one thing and takes away another.
  timebus(alice, "put", "/photos/2026/one.png/e", "4");
  await ask(true);
  await page.getByRole("button", { name: "Replace third.jpg" }).click();
  await page.getByText("something is there already, with 5 entries below it").waitFor();
  await page.getByRole("button", { name: "Replace third.jpg" }).click();
  await until("it was replaced", async () => (await http(alice, "/photos/2026/one.png")).text === "a third picture");
  same((await asked()).length, 2, "questions");
  // What was to give way is gone.
  timebus(alice, "put", "/photos/gone.txt", "1");
  await page.goto(at(alice, "/photos"));
  await page.getByRole("treeitem", { name: /gone\.txt/ }).waitFor();
  await page.getByLabel("Files to add").setInputFiles(pathOf("gone.txt", "here"));
  await page.getByText("something is there already").waitFor();
  timebus(alice, "rm", "/photos/gone.txt");
  await page.getByRole("button", { name: "Replace gone.txt" }).click();
  await until("it was added", async () => (await http(alice, "/photos/gone.txt")).text === "here");

  // Cut off: it goes on by itself where it was, whatever page one is on.
  await page.goto(at(alice, "/films"));
  await page.getByText("to come").waitFor();
  /** @type {number[]} */
  let offsets = [];
  let breaks = 2;
  // It is not tried again before that was seen.
  let seen = () => {};
  const was_seen = new Promise((resolve) => (seen = () => resolve(null)));
  await context.route(/films\/cut\.bin$/, async (route) => {
    if (breaks < 2) await was_seen;
    return route.continue();
  });
  await context.route(/\.sys\/uploads\//, async (route) => {
    const request = route.request();
    if (request.method() === "PATCH") offsets.push(Number(request.headers()["upload-offset"]));
    if (request.method() === "PATCH" && offsets.length > 2 && breaks > 0) {
      breaks -= 1;
      return route.abort("connectionreset");
    }
    return route.continue();
  });
  await page.getByLabel("Files to add").setInputFiles(pathOf("cut.bin", film));
  await page.getByText(/goes on by itself/).waitFor();
  seen();
  await page.getByRole("link", { name: "People" }).click();
  await page.getByRole("heading", { name: "Machines" }).waitFor();
  await page.locator("file-uploads").getByText("cut.bin").first().waitFor();
  await until("all of it came", async () => (await head(alice, "/films/cut.bin"))[2] === film.length);
  same(offsets, [0, part, 2 * part, 2 * part, 2 * part, 3 * part, 4 * part, 5 * part], "it went on where it was cut off");

  // Left in the middle, and chosen again on another day.
  offsets = [];
  let held = false;
  await context.route(/\.sys\/uploads\//, async (route) => {
    if (route.request().method() !== "PATCH") return route.fallback();
    if (offsets.length < 2 || !held) return route.fallback();
    // Nothing comes of it any more.
  });
  held = true;
  await page.goto(at(alice, "/films"));
  await page.getByText("to come").waitFor();
  const again = pathOf("again.bin", film);
  await page.getByLabel("Files to add").setInputFiles(again);
  await page.getByText("2.1 MB of 5.2 MB").waitFor();
  await shot(page, "uploads-going-1280");
  same(await page.getByRole("progressbar", { name: "How much of again.bin is there" }).evaluate((bar) => bar.value), 2 * part, "the bar");
  await page.reload();
  held = false;
  await page.getByText("to come").waitFor();
  await page.getByLabel("Files to add").setInputFiles(again);
  await until("all of it came", async () => (await head(alice, "/films/again.bin"))[2] === film.length);
  same(offsets, [0, part, 2 * part, 3 * part, 4 * part, 5 * part], "nothing of it was sent twice");

  // Cancelled: nothing of it stays at the peer.
  held = true;
  offsets = [];
  const begun = page.waitForResponse((response) => response.request().method() === "PUT" && response.url().endsWith("/films/never.bin"));
  await page.getByLabel("Files to add").setInputFiles(pathOf("never.bin", film));
  const place = (await begun).headers().location ?? "";
  await page.getByText("2.1 MB of 5.2 MB").waitFor();
  same((await http(alice, place, { method: "HEAD" })).status, 204, "it is under way");
  await told(page, "Another file is on its way to /films/never.bin", () =>
    page.getByLabel("Files to add").setInputFiles({ name: "never.bin", mimeType: "text/plain", buffer: Buffer.from("another one") }),
  );
  await page.getByRole("button", { name: "Cancel never.bin" }).press("Enter");
  await until("it is given up", async () => (await http(alice, place, { method: "HEAD" })).status === 404);
  same((await head(alice, "/films/never.bin"))[0], 404, "and not kept");
  held = false;
  await page.locator("file-uploads li", { hasText: "never.bin" }).waitFor({ state: "detached" });

  // Of apps there is nothing first at the root.
  timebus(alice, "app", "install", "board", "--yes");
  await http(alice, "/.sys/apps/publish", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ from: { installed: "board" } }),
  });
  await page.goto(at(alice, "/"));
  await page.getByRole("treeitem", { name: /films/ }).first().waitFor();
  const rows = await page.getByRole("treeitem").allTextContents();
  same([rows.length > 2, rows.findIndex((row) => row.includes(".apps"))], [true, rows.length - 1], `apps are last in ${rows.join(" | ")}`);

  // By the keyboard alone.
  await page.goto(at(alice, "/films"));
  await page.getByText("to come").waitFor();
  const choosing = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Add files" }).press("Enter");
  await (await choosing).setFiles(pathOf("key.txt", "by key"));
  await until("it came", async () => (await http(alice, "/films/key.txt")).text === "by key");
  same(complaints, [], "the browser complains of nothing");
  await context.close();

  // Bob, on a phone, where he may write at Ada's and where he may not.
  const phone = await person(browser, { viewport: { width: 390, height: 800 }, hasTouch: true });
  await signIn(bob, phone.page);
  await phone.page.getByRole("link", { name: "This peer" }).waitFor();
  const answered = phone.page.waitForResponse(/\/\.sys\/why\/write\//);
  await phone.page.goto(at(bob, `/@${alice.id}/films`));
  await phone.page.getByText("to come").waitFor();
  await answered;
  await drawn(phone.page);
  same(await phone.page.getByRole("button", { name: "Add files" }).isVisible(), false, "files are offered where he may not write");
  await phone.page.goto(at(bob, `/@${alice.id}/table`));
  await phone.page.getByText("Nothing is here").waitFor();
  await phone.page.getByRole("button", { name: "Add files" }).waitFor();
  await fits(phone.page, "where nothing is yet");
  await phone.page.getByLabel("Files to add").setInputFiles([filmFile, pathOf(`${"a very long name ".repeat(8)}.txt`, "bob")]);
  await phone.page.getByText("added, 3 bytes").waitFor();
  await fits(phone.page, "files of Bob");
  await phone.page.locator("file-uploads").scrollIntoViewIfNeeded();
  await shot(phone.page, "uploads-390");
  await accessible(phone.page, "files on a phone");
  await until("Ada has it", async () => (await head(alice, "/table/holiday%20film.mp4"))[2] === film.length);
  // The same once more, and a value that Ada writes between.
  const twice = pathOf("twice.txt", "once");
  await phone.page.getByLabel("Files to add").setInputFiles(twice);
  await phone.page.getByText("added, 4 bytes").waitFor();
  await phone.page.getByRole("treeitem", { name: /twice\.txt/ }).waitFor();
  same(await phone.page.getByRole("button", { name: "Add files" }).isVisible(), true, "files are added, nothing is replaced");
  await phone.page.getByLabel("Files to add").setInputFiles([filmFile, pathOf("twice.txt", "twice")]);
  await until("both wait for a word", async () => (await phone.page.getByText("something is there already").count()) === 2);
  await until("Ada has it", async () => (await http(alice, "/table/twice.txt")).text === "once");
  timebus(alice, "put", "/table/twice.txt", '{"ada": {"a": 1, "b": 2}}');
  await until("Bob has hers", async () => /"ada"/.test((await http(bob, `/@${alice.id}/table/twice.txt`)).text));
  await phone.page.getByRole("button", { name: "Replace twice.txt" }).click();
  await phone.page.getByText("something is there already, with 3 entries below it").waitFor();
  await fits(phone.page, "what is there already");
  await phone.page.locator("file-uploads").scrollIntoViewIfNeeded();
  await shot(phone.page, "uploads-below-390");
  same((await http(alice, "/table/twice.txt")).json(), { ada: { a: 1, b: 2 } }, "what Ada wrote");

  // On the page of a film he sees from whom it comes and how much of it is here, and can have it wait.
  timebus(alice, "files", "limit", "--up", "16kB/s");
  await http(alice, "/films/slow", { method: "PUT", headers: { "content-type": "video/mp4" }, body: randomBytes(1_500_000) });
  await phone.page.goto(at(bob, `/@${alice.id}/films/slow`));
  const bar = phone.page.getByRole("progressbar", { name: "How much of this file is here" });
  await until("some of it is here", () => bar.evaluate((bar) => bar.value > 0 && bar.value < bar.max));
  const { name: hers } = (await http(bob, "/.sys/spaces")).json().spaces.find(({ space }) => space === alice.id);
  await phone.page.locator("file-coming").getByText(new RegExp(`B of 1\\.5 MB from ${hers}`)).waitFor();
  await fits(phone.page, "a film that comes");
  await shot(phone.page, "uploads-coming-390");
  await accessible(phone.page, "a film that comes");
  await phone.page.getByRole("button", { name: "Pause this file" }).press("Enter");
  await phone.page.getByText(/^paused, .* of 1\.5 MB/).waitFor();
  await phone.page.getByText("The film could not be read to its end").waitFor();
  await shot(phone.page, "uploads-paused-390");
  timebus(alice, "files", "limit", "--up", "none");
  await phone.page.getByRole("button", { name: "Go on this file" }).click();
  await phone.page.getByText(new RegExp(`^came .* from ${hers}`)).waitFor();
  // It is shown by itself then; what is random is no film.
  await phone.page.getByText("This browser cannot show the film").waitFor();
  same(await bar.count(), 0, "it is all here");

  // What came from Ada, and can come again, goes when he says so.
  await phone.page.goto(at(bob, "/.sys/peer"));
  await http(alice, "/films/hers", { method: "PUT", headers: { "content-type": "video/mp4" }, body: "hers".repeat(100_000) });
  await until("he reads a film of hers", async () => (await http(bob, `/@${alice.id}/films/hers`)).text.length === 400_000);
  await told(phone.page, /^Removed 2 files of others, 1\.9 MB/, () => phone.page.getByRole("button", { name: "Free files of others" }).click());
  const left = await http(bob, "/.sys/blobs/free", { method: "POST", headers: { "content-type": "application/json" }, body: '{"preview":true}' });
  same(left.json().files, 0, "files that could go still");
  await fits(phone.page, "freed files");
  await shot(phone.page, "uploads-freed-390");
  // On the page of a file that does not come by itself it is said how much of it is here.
  timebus(alice, "files", "limit", "--up", "16kB/s");
  await http(alice, "/films/archive", { method: "PUT", headers: { "content-type": "application/zip" }, body: randomBytes(1_000_000) });
  await phone.page.goto(at(bob, `/@${alice.id}/films/archive`));
  await phone.page.getByText("It is not here yet, and comes when it is opened or downloaded").waitFor();
  same((await http(bob, `/@${alice.id}/films/archive`, { headers: { range: "bytes=0-99" } })).bytes.length, 100, "its beginning");
  await phone.page.getByText(/^\d+ kB of 1\.0 MB are here; the rest comes/).waitFor();
  await fits(phone.page, "a file that is not all here");
  await accessible(phone.page, "a file that is not all here");
  await shot(phone.page, "uploads-here-390");
  timebus(alice, "files", "limit", "--up", "none");
  await phone.page.getByRole("button", { name: "Download" }).click();
  await phone.page.getByText(/are here; the rest comes/).waitFor({ state: "detached" });
  same((await http(bob, `/@${alice.id}/films/archive`, { method: "HEAD" })).headers["timebus-blob"], undefined, "all of it is here");
  await phone.page.goto(at(bob, `/@${alice.id}/table`));
  await phone.page.getByRole("button", { name: "Add files" }).waitFor();

  // What goes wrong is said in words: he is not allowed any more.
  timebus(alice, "revoke", bob.id);
  await until("he hears of it", async () => !(await http(bob, `/.sys/why/write/@${alice.id}/table`)).json().allowed);
  await phone.page.getByLabel("Files to add").setInputFiles(pathOf("late.txt", "too late"));
  await phone.page.getByText(/^not added: you may not /).waitFor();
  await phone.page.getByText(/ took it back on 20.*what is here is of before/).waitFor();
  await shot(phone.page, "uploads-refused-390");
  await fits(phone.page, "what went wrong");
  // A message at the bottom leaves what is at the end of the page to be pressed.
  const covered = await phone.page.evaluate(() => {
    document.querySelector("notice-list").say("Something was done, which takes a line or two to be told on a phone.", { label: "Undo", run: () => {} });
    scrollTo(0, document.documentElement.scrollHeight);
    const button = [...document.querySelectorAll("file-uploads button")].filter((one) => one.checkVisibility()).at(-1);
    const { x, y, width, height } = button.getBoundingClientRect();
    return document.elementFromPoint(x + width / 2, y + height / 2)?.closest("notice-list") !== null;
  });
  same(covered, false, "a message covers the last button");
  await shot(phone.page, "uploads-notice-390");
  same(phone.complaints, [], "the browser complains of nothing on a phone");
});
