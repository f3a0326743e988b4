// What an owner sees and asks: who may do what, what others left, whom a link lets in, and files that play.

import { accessible, http, invite, peers, person, same, shot, signIn, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob, carol] = peers;
const json = { "content-type": "application/json" };
/** @param {any} peer @param {string} path @param {any} value */
const put = (peer, path, value) => http(peer, path, { method: "PUT", headers: json, body: JSON.stringify(value) });
const grants = async () => (await http(alice, "/.sys/grants")).json().grants.filter(({ live }) => live);
const inbox = async () => (await http(alice, "/.sys/inbox")).json();
/** @param {string} kind @param {string} words */
const leave = (kind, words) =>
  timebus(bob, "inbox", "send", kind, `@${alice.id}/posts/1`, "--from", `/said/${kind}`, "--body", JSON.stringify(words));

await put(bob, "/profile/name", "Bob");
await put(alice, "/table/menu", "soup");
await put(alice, "/posts/1", "Hello");
invite(alice, bob, "--to", "/wall", "--can", "write");
await put(bob, `/@${alice.id}/wall/1`, "I was here");
await until("she has what he wrote", async () => (await http(alice, "/wall/1")).status === 200);

await withBrowser(async (browser) => {
  const hers = await person(browser);
  const { page } = hers;
  await signIn(alice, page);

  // Who may do what.
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Rights" }).click();
  const rows = page.locator("grants-page > main > .rows > li");
  const row = (/** @type {string} */ words) => rows.filter({ hasText: words });
  const of = (/** @type {string} */ name) => rows.filter({ has: page.locator("strong", { hasText: new RegExp(`^${name}$`) }) });
  await of("Bob").filter({ hasText: "/wall" }).waitFor();
  await of("Bob").getByText("given by you").waitFor();
  same(await of("you").getByRole("button").count(), 0, "her own devices have nothing that could be pressed");
  await page.getByLabel("Who: a name, a key, or anyone").fill("Bob");
  same(await page.locator('#grant-names option[value="Bob"]').count(), 1, "his name is offered");
  await page.locator("#grant-can").selectOption("write");
  const path = page.getByLabel("At this path, and below");
  await path.fill("/ta");
  await page.locator('path-input option[value="/table"]').first().waitFor({ state: "attached" });
  await path.fill("/table");
  await page.getByLabel("Writing up to so many MB").fill("5");
  await page.getByLabel(/^Until the end of/).fill("2099-12-31");
  await page.getByRole("button", { name: "See what it means" }).click();
  await page.getByText(/Bob may read and write at and below \/table, up to 5 MB in all, until 2099/).waitFor();
  await page.getByText(/can also read everything else of the space that is not private/).waitFor();
  const before = await grants();
  same(before.some((grant) => grant.path === "/table"), false, "looking gives nothing");
  await shot(page, "owner-grant");
  await accessible(page, "giving a right");
  await page.getByRole("button", { name: "Give this right" }).click();
  await row("up to 5.0 MB in all").waitFor();
  const given = (await grants()).find((grant) => grant.path === "/table");
  same([given.name, given.bytes_max, given.can], ["Bob", 5_000_000, ["read", "write"]], "what was given");

  // Why, and why not.
  const why = async (/** @type {string} */ at) => {
    await page.getByLabel("Who", { exact: true }).fill("Bob");
    await page.getByLabel("What is asked").selectOption("write");
    await page.getByLabel("This path", { exact: true }).fill(at);
    await page.getByRole("button", { name: "Ask why" }).click();
  };
  await why("/table/menu");
  await page.getByText("yes: Bob may write /table/menu").waitFor();
  await page.getByText(/^he may keep .* here in all/).waitFor();
  await why("/notes");
  await page.getByText("no: Bob may not write /notes").waitFor();
  await page.getByText(/^timebus grant \/notes Bob --can write$/).waitFor();
  await shot(page, "owner-why");
  await accessible(page, "why not");

  // What taking back would do is said first, and nothing is done if it is left.
  await row("/table").getByRole("button", { name: "Take back…" }).click();
  await page.getByText(/Bob may no longer read and write at and below \/table/).waitFor();
  await row("/table").getByRole("button", { name: "Leave it" }).click();
  await page.getByText("This is what it would do").waitFor({ state: "detached" });
  await row("/wall").getByRole("button", { name: "Take back…" }).click();
  await page.getByText(/^no change would be hidden/).waitFor();
  await page.getByLabel("hide also what they wrote that is here, where nobody has gone on from it").check();
  await page.getByText("1 change would be hidden for everybody, at /wall/1").waitFor();
  await page.getByLabel("everything that Bob has here").check();
  await page.getByText(/Bob may no longer read and write at and below \/table/).waitFor();
  await shot(page, "owner-revoke");
  await accessible(page, "taking back");
  same((await grants()).length, before.length + 1, "asking takes nothing back");
  await page.getByLabel("everything that Bob has here").uncheck();
  await page.getByText(/Bob may no longer read and write at and below \/table/).waitFor({ state: "detached" });
  await page.getByLabel("hide also what they wrote that is here, where nobody has gone on from it").uncheck();
  await page.getByText(/^no change would be hidden/).waitFor();
  await row("/wall").getByRole("button", { name: "Take it back", exact: true }).click();
  await until("it is taken back", async () => !(await grants()).some((grant) => grant.path === "/wall"));
  await row("/wall").waitFor({ state: "detached" });
  await row("up to 5.0 MB in all").waitFor();
  same((await http(alice, "/wall/1")).status, 200, "what he wrote stays");
  await page.getByText(/not in force any more$/).click();
  await page.getByText(/Not in force: you took it back on/).waitFor();

  // What others leave: there is a mark, and new ones appear by themselves.
  leave("note", "Is there more soup?");
  const mark = page.getByRole("link", { name: "Inbox (1)" });
  await mark.waitFor();
  await mark.click();
  const notices = page.locator("inbox-page .rows > li");
  await notices.filter({ hasText: "Is there more soup?" }).waitFor();
  await notices.getByText("left a note about").waitFor();
  same(await notices.getByRole("link").first().textContent(), "Bob", "who left it, as he is called");
  same(await notices.getByRole("link", { name: "/posts/1" }).getAttribute("href"), "/posts/1", "where it leads");
  await page.getByRole("link", { name: "Inbox", exact: true }).waitFor();
  leave("reply", "I brought bread");
  await notices.filter({ hasText: "I brought bread" }).waitFor();
  await shot(page, "owner-inbox");
  await accessible(page, "inbox");
  await notices.filter({ hasText: "soup?" }).getByRole("button", { name: "Remove", exact: true }).click();
  await until("it is removed", async () => (await inbox()).notices.length === 1);
  await notices.filter({ hasText: "soup?" }).waitFor({ state: "detached" });
  same((await inbox()).notices[0].kind, "reply", "and nothing else is");
  await notices.getByRole("button", { name: "Mute Bob" }).click();
  await page.getByText(/1 more of those whom you muted or blocked/).waitFor();
  same((await inbox()).notices, [], "he is not heard");
  timebus(alice, "unmute", bob.id);
  await notices.filter({ hasText: "I brought bread" }).waitFor();
  await notices.getByRole("button", { name: "Block" }).click();
  await until("he is blocked", async () => (await http(alice, "/.sys/lists")).json().blocked.length === 1);
  await page.getByRole("button", { name: "Close the inbox" }).click();
  await page.getByText("Nobody can leave you more.").waitFor();
  same((await inbox()).closed, true, "it is closed");
  await page.getByRole("button", { name: "Open the inbox" }).click();
  await until("it is open", async () => !(await inbox()).closed);
  timebus(alice, "unblock", bob.id);

  // Links of all kinds.
  timebus(alice, "community", "new", "choir", "--called", "Alice");
  await page.getByRole("link", { name: "Invite", exact: true }).click();
  const role = page.getByLabel("Whoever has the link may");
  const links = async () => (await http(alice, "/.sys/invites")).json().invites.toSorted((a, b) => a.created_ms - b.created_ms);
  const make = async (/** @type {number} */ count) => {
    await page.getByRole("button", { name: "Make a link" }).click();
    await until("the link is made", async () => (await links()).length === count);
  };
  await page.getByText("Bob", { exact: true }).waitFor();
  await put(alice, "/diary/monday", "rain");
  await role.selectOption("apart-read");
  await page.getByLabel("The path that they may read, and nothing else").fill("/diary");
  await make(2);
  const [, apart] = await links();
  same([apart.role, apart.path, apart.only], ["read", "/diary", true], "a link to one path");
  await page.getByText("reads /diary and nothing else", { exact: true }).waitFor();
  await shot(page, "owner-invite");
  await role.selectOption("write");
  await page.getByLabel(/^Where they may write/).fill("/garden");
  await page.getByLabel("How much they may write there, in MB").fill("3");
  await page.getByText("How often, how long, and whom they may bring").click();
  await page.getByLabel("So many people can take it").fill("2");
  await page.getByLabel("They may let others in to the same").selectOption("0");
  await accessible(page, "all that a link can say");
  await make(3);
  const guest = (await links())[2];
  same([guest.role, guest.path, guest.bytes_max, guest.uses_max, guest.only], ["write", "/garden", 3_000_000, 2, false], "a link for guests");
  await role.selectOption("member");
  await page.getByLabel("Which community").selectOption({ label: "choir" });
  await make(4);
  same((await links())[3].role, "member", "a link for a member");
  await page.getByText(/^is a member of @?choir$/).waitFor();

  // Who was given one path and nothing else is shown the way to it.
  const only = page.locator(".copyable code");
  await role.selectOption("apart-read");
  await page.getByLabel("The path that they may read, and nothing else").fill("/diary");
  const last = await only.textContent();
  await page.getByRole("button", { name: "Make a link" }).click();
  await until("it is another link", async () => (await only.textContent()) !== last);
  timebus(carol, "join", (await only.textContent()) ?? "", "--yes");
  const others = await person(browser);
  await until("she has it", async () => (await http(carol, `/@${alice.id}/diary/monday`)).status === 200);
  await signIn(carol, others.page);
  await others.page.getByRole("link", { name: "People" }).waitFor();
  await others.page.goto(`http://localhost:${carol.port}/@${alice.id}`);
  await others.page.getByRole("link", { name: "/diary" }).click();
  await others.page.getByText("monday").first().waitFor();

  // Files play where they are.
  const film = await page.evaluate(async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
    const paint = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm;codecs=vp8" });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const done = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    for (let at = 0; at < 20; at += 1) {
      paint.fillStyle = `rgb(${at * 12}, 90, 120)`;
      paint.fillRect(0, 0, 64, 48);
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    recorder.stop();
    await done;
    return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
  });
  const seconds = 1;
  const sound = Buffer.alloc(44 + 8000 * seconds, 128);
  sound.write("RIFF", 0);
  sound.writeUInt32LE(36 + 8000 * seconds, 4);
  sound.write("WAVEfmt ", 8);
  for (const [at, value, size] of [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, 8000, 4], [28, 8000, 4], [32, 1, 2], [34, 8, 2]])
    sound.writeUIntLE(value ?? 0, at ?? 0, size ?? 0);
  sound.write("data", 36);
  sound.writeUInt32LE(8000 * seconds, 40);
  const dot = Buffer.from(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "base64",
  );
  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><script>document.title="run"</script></svg>');
  for (const [name, type, body] of [
    ["film", "video/webm", Buffer.from(film)],
    ["sound", "audio/wav", sound],
    ["dot", "image/png", dot],
    ["drawing", "image/svg+xml", svg],
  ])
    await http(alice, `/media/${name}`, { method: "PUT", headers: { "content-type": type }, body });
  const at = (/** @type {string} */ name) => page.goto(`http://localhost:${alice.port}/media/${name}`);
  await at("film");
  await page.locator("value-view video").waitFor();
  await until("it plays", () =>
    page.evaluate(async () => {
      const video = document.querySelector("video");
      video.muted = true;
      await video.play().catch(() => {});
      return video.videoWidth === 64 && video.currentTime > 0;
    }),
  );
  await shot(page, "owner-film");
  await accessible(page, "a film");
  await at("sound");
  await until("it is a second long", () => page.evaluate(() => document.querySelector("audio")?.duration === 1));
  await at("dot");
  await until("it is shown", () => page.evaluate(() => document.querySelector("value-view img")?.naturalWidth === 1));
  // What is no text is replaced or downloaded, and not edited; what was such a file may be a text another day.
  const edit = page.getByRole("button", { name: "Edit", exact: true });
  same(await edit.isVisible(), false, "a picture is edited");
  await page.getByRole("button", { name: "Replace the file" }).waitFor();
  await page.getByRole("button", { name: "Download" }).waitFor();
  await http(alice, "/media/dot", { method: "PUT", headers: { "content-type": "text/plain" }, body: "words" });
  await edit.waitFor();
  await page.goto(`http://localhost:${alice.port}/media`);
  const line = (/** @type {string} */ name) => page.getByRole("treeitem", { name: new RegExp(`^${name}`) });
  await line("sound").focus();
  same(await page.getByRole("button", { name: "Edit sound" }).isVisible(), false, "a sound is edited in the list");
  await put(alice, "/media/sound", { red: 1 });
  await page.getByRole("button", { name: "Edit sound" }).waitFor();
  await line("film").focus();
  same(await page.getByRole("button", { name: "Edit film" }).isVisible(), false, "a film is edited in the list");
  await page.keyboard.press("F2");
  await page.getByRole("button", { name: "Replace the file" }).waitFor();
  same(new URL(page.url()).pathname, "/media/film", "where a film is replaced");
  await at("drawing");
  await page.getByText(/^A file: image\/svg/).waitFor();
  same(await page.locator("value-view :is(img, video, audio, .loading)").count(), 0, "what can run is not shown");
  // A name that nobody has is no place where something could be written.
  await page.goto(`http://localhost:${alice.port}/@nobody-at-all`);
  await page.getByText("nobody is known by this name").waitFor();
  same(await page.getByRole("button", { name: "Write it" }).count(), 0, "nothing can be written there");
  // As it is served it is as locked up as before, and the page takes media of its own only.
  const served = await http(alice, "/media/film");
  same(served.headers["content-security-policy"], "sandbox; default-src 'none'", "how the film is served");
  const policy = (await at("film"))?.headers()["content-security-policy"] ?? "";
  same(/media-src 'self' blob:/.test(policy) && /default-src 'self'/.test(policy) && !/unsafe|\*/.test(policy), true, policy);
  same([...hers.complaints, ...others.complaints], [], "the browsers complain of nothing");
});
