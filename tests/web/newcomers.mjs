// What people meet who never saw timebus: each page says what is so, and leads on to what they want.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { accessible, drawn, http, invite, peers, person, same, shot, signIn, start, timebus, told, until, withBrowser } from "./web.mjs";

const [ada, bob, carla] = peers;
const json = { "content-type": "application/json" };
/** @param {any} peer @param {string} path @param {any} value */
const put = (peer, path, value) => http(peer, path, { method: "PUT", headers: json, body: JSON.stringify(value) });
/** @param {any} peer @param {string} path */
const value = async (peer, path) => {
  const answer = await http(peer, path);
  return answer.status === 200 ? answer.json() : null;
};
/** @param {string} link */
const payloadOf = (link) => link.trim().split("/").pop() ?? "";
const linkOf = (/** @type {string[]} */ ...args) => timebus(ada, "invite", ...args).split("\n")[0] ?? "";

/** A page as a phone shows it: nothing is cut off. @param {import("playwright-core").Page} page @param {string} name */
async function onPhone(page, name) {
  const size = page.viewportSize();
  await page.setViewportSize({ width: 390, height: 844 });
  await shot(page, `newcomers-${name}-390`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) throw new Error(`${name}: ${wide} pixels are cut off at the side`);
  if (size) await page.setViewportSize(size);
  await shot(page, `newcomers-${name}`);
  await accessible(page, name);
}

await withBrowser(async (browser) => {
  const [hers, his] = [await person(browser), await person(browser)];
  const [a, b] = [hers.page, his.page];
  const at = (/** @type {any} */ peer, /** @type {string} */ path) => `http://localhost:${peer.port}${path}`;
  await signIn(ada, a);

  // She says what she is called, and the first page leads there.
  await a.getByRole("link", { name: /Say what you are called/ }).click();
  await a.getByLabel("What you are called").fill("Ada");
  await a.getByRole("button", { name: "Save the name" }).click();
  await a.getByText("Saved. Whoever may read").waitFor();
  same(await value(ada, "/profile/name"), "Ada", "her name");
  await onPhone(a, "name");

  // What is worked out is not written by hand, and says where it is changed.
  await a.goto(at(ada, "/.auth"));
  await a.getByRole("treeitem", { name: /^grants/ }).waitFor();
  await a.locator("path-standing").getByRole("link", { name: "Rights" }).waitFor();
  same(await a.getByRole("button", { name: /^(Add|Edit|Delete)/ }).count(), 0, "nothing can be written there");
  // What cannot be taken apart into paths is shown as one value.
  await put(ada, "/types", { "text/html": "page", more: { css: 1 } });
  await a.goto(at(ada, "/types"));
  await a.locator("value-view").getByText('"text/html": "page"').waitFor();
  same(await a.getByRole("treeitem").count(), 0, "rows that lead nowhere");
  await put(ada, "/types", { html: "page" });
  await a.getByRole("treeitem", { name: "html page" }).waitFor();
  await put(ada, "/types", { "text/html": "page" });
  await a.locator("value-view").getByText('"text/html": "page"').waitFor();
  await put(ada, "/box/a", 1);
  await a.goto(at(ada, "/box"));
  await a.getByRole("treeitem", { name: /^a/ }).waitFor();
  await put(ada, "/box/types", { "text/html": "page" });
  await a.getByRole("treeitem", { name: /^types \{"text\/html"/ }).waitFor();
  // What an error says leads on, and stays as long as it is read.
  await a.goto(at(ada, "/@nobody-at-all"));
  await a.locator("problem-card").getByRole("link", { name: "People" }).click();
  await a.getByRole("heading", { name: "Machines" }).waitFor();
  const timers = await a.evaluate(() => {
    const list = document.querySelector("notice-list");
    const wait = globalThis.setTimeout;
    let count = 0;
    globalThis.setTimeout = (...given) => (count += 1) && wait(...given);
    list.sayProblem(new Error("something that takes long to read"));
    globalThis.setTimeout = wait;
    return count;
  });
  same(timers, 0, "an error goes away by itself");
  const shown = await a.evaluate(() => {
    const list = document.querySelector("notice-list");
    list.say("It is gone.", { label: "Undo", run: () => {} });
    for (let again = 0; again < 3; again += 1) list.sayProblem(new Error("something that takes long to read"));
    return list.children.length === 2 && [...list.querySelectorAll("button")].some((button) => button.textContent === "Undo");
  });
  same(shown, true, "an error that is said again pushes out what can be undone");
  await a.getByRole("button", { name: "Undo" }).click();
  await a.getByRole("button", { name: "Close this message" }).click();
  // Of an app that was removed nothing is offered any more.
  await a.goto(at(ada, "/.sys/apps"));
  await a.getByRole("button", { name: "Install Board" }).click();
  await a.getByRole("button", { name: "Install", exact: true }).click();
  await a.getByRole("button", { name: "Open it" }).waitFor();
  await told(a, "Board is removed", () => a.getByRole("button", { name: "Remove", exact: true }).click());
  same(await a.getByRole("button", { name: "Open it" }).count(), 0, "an app is offered that is gone");
  // What the terminal does is seen, too.
  timebus(ada, "app", "install", "board", "--yes");
  await a.getByRole("button", { name: "Open", exact: true }).waitFor();
  timebus(ada, "app", "remove", "board");
  await a.getByRole("button", { name: "Open", exact: true }).waitFor({ state: "detached" });

  // A path says who may read it, is kept apart, and leads to a link for it alone.
  await put(ada, "/diary/monday", "rain");
  await put(ada, "/films/list", ["one", "two"]);
  await a.goto(at(ada, "/diary"));
  await a.getByText("Nobody but you reads this so far.").waitFor();
  await a.locator("path-crumbs").getByRole("link", { name: "Ada", exact: true }).waitFor();
  await a.getByRole("button", { name: "Keep this apart" }).click();
  await a.getByText("/diary is kept apart: read by you alone.").waitFor();
  await a.getByText("monday").first().waitFor();
  await onPhone(a, "apart");
  await a.goto(at(ada, "/"));
  await a.getByRole("treeitem", { name: "diary kept apart" }).waitFor();
  await a.goto(at(ada, "/diary"));
  await a.getByRole("button", { name: "Let somebody in to /diary" }).click();
  const role = a.getByLabel("Whoever has the link may");
  same(await role.inputValue(), "apart-read", "what the link is to give");
  same(await a.getByLabel("The path that they may read, and nothing else").inputValue(), "/diary", "the path that was shown");
  // The link says what it means, as on the command line.
  await a.getByText("How often, how long, and whom they may bring").click();
  await a.getByLabel("A note for yourself").fill("for Bob");
  await a.getByRole("button", { name: "Make a link" }).click();
  const made = a.locator("made-link");
  await made.getByText("Whoever takes it reads /diary and nothing else.").waitFor();
  await made.getByText("They also see the names of all paths that you keep apart").waitFor();
  await made.getByText("They may let others in to the same, and those again, 3 levels in all.").waitFor();
  await made.getByText("Only programs on this machine can reach this peer").waitFor();
  const row = a.locator("invites-page .rows > li").first();
  await row.getByText("reads /diary and nothing else").waitFor();
  await row.getByText("“for Bob”").waitFor();
  await onPhone(a, "link");
  const link = (await made.locator("code").first().textContent()) ?? "";
  // A path without a slash is the same path; what is read by everybody can be kept apart first.
  await role.selectOption("read");
  await a.getByRole("button", { name: "keep it apart: /films" }).waitFor();
  await role.selectOption("apart-write");
  await a.getByLabel("The path that they may read and write, and nothing else").fill("shopping");
  await a.getByRole("button", { name: "Make a link" }).click();
  await made.getByText("Whoever takes it reads /shopping and nothing else, writes in /shopping.").waitFor();

  // On a phone a long value stays in the line of its name.
  await put(ada, "/films/long", "a long one ".repeat(30));
  await a.goto(at(ada, "/films"));
  await a.setViewportSize({ width: 390, height: 844 });
  const line = a.getByRole("treeitem", { name: /^long/ });
  const [name, said] = await Promise.all([line.locator(".name").boundingBox(), line.locator(".value").boundingBox()]);
  same(Math.abs((name?.y ?? 0) - (said?.y ?? 99)) < 5, true, "in one line");
  await onPhone(a, "long");

  // Her own link says that it is hers, and what is no link leads on, too.
  await a.setViewportSize({ width: 1200, height: 800 });
  await a.goto(at(ada, `/.join#${payloadOf(link)}`));
  await a.getByText("You made this link").waitFor();
  await onPhone(a, "own-link");
  await a.getByRole("link", { name: "Back to Invite" }).click();
  await a.getByRole("heading", { name: "Invite someone" }).waitFor();
  await a.goto(at(ada, "/.join"));
  await a.getByRole("heading", { name: "This link is not complete" }).waitFor();
  await a.getByLabel("Did a friend send you a link?").fill(link);
  await onPhone(a, "no-link");
  await a.getByRole("button", { name: "See what it says" }).click();
  await a.getByText("You made this link").waitFor();
  // Why somebody may something is seen where it was asked, also if what stands above comes later.
  let seen = () => {};
  const was_seen = new Promise((resolve) => (seen = () => resolve(null)));
  await a.route(/\/\.sys\/grants$/, async (route) => {
    if (route.request().resourceType() === "fetch") await was_seen;
    return route.fallback();
  });
  await a.goto(at(ada, "/.sys/grants"));
  await a.getByLabel("This path", { exact: true }).fill("/diary");
  await a.getByRole("button", { name: "Ask why" }).click();
  const answer = a.getByText("yes: you may read /diary");
  await answer.waitFor();
  const inSight = () => answer.evaluate((line) => line.getBoundingClientRect().bottom <= innerHeight);
  await until("it is in sight", inSight);
  seen();
  await a.getByText("given by you").first().waitFor();
  await until("it is in sight still", inSight);
  await a.unroute(/\/\.sys\/grants$/);

  // What everybody may read shows to everybody, beside what its owner has to do.
  await put(ada, "/pub/hello", "to all");
  timebus(ada, "private", "/pub", "--move");
  timebus(ada, "grant", "/pub", "anyone", "--can", "read");
  const stranger = await person(browser);
  await stranger.page.goto(at(ada, "/pub"));
  await stranger.page.getByRole("heading", { name: "What everybody may read at /pub" }).waitFor();
  await onPhone(stranger.page, "public");
  await stranger.page.getByRole("link", { name: "hello" }).click();
  await stranger.page.getByText("to all").waitFor();
  const asked = stranger.page.waitForResponse(/\/diary\?depth=1/);
  await stranger.page.goto(at(ada, "/diary"));
  await stranger.page.getByRole("heading", { name: "Are you its owner?" }).waitFor();
  await asked;
  await drawn(stranger.page);
  same(await stranger.page.getByText("monday").count(), 0, "nothing else shows");
  await a.setViewportSize({ width: 1200, height: 800 });

  // He takes the first link: it asks what he is called, and leads to what was given.
  await signIn(bob, b);
  await b.getByRole("heading", { name: "Start an app" }).waitFor();
  await b.goto(at(bob, `/.join#${payloadOf(link)}`));
  await b.getByText("The link leads to the machine alone on which it was made.").waitFor();
  await b.getByLabel("What you are called").fill("Bob");
  await onPhone(b, "join");
  await b.getByRole("button", { name: "Join", exact: true }).click();
  await b.getByText(/^Joined: up to date/).waitFor();
  same(await value(bob, "/profile/name"), "Bob", "his name");
  await b.getByRole("link", { name: "Go to /diary" }).click();
  await b.getByText("monday").first().waitFor();
  // Among his own values he finds hers, and who takes the link again is told that he has it.
  await b.goto(at(bob, "/"));
  await b.getByText("Nobody but you reads what is here so far.").waitFor();
  await onPhone(b, "others");
  await b.locator("path-standing").getByRole("link", { name: "@Ada" }).click();
  await b.locator("path-standing").getByText("Up to date, changes come at once from Ada.").waitFor();
  await b.goto(at(bob, `/.join#${payloadOf(link)}`));
  await b.getByText("You have this already: up to date").waitFor();
  same(await b.getByRole("button", { name: "Join", exact: true }).evaluate((button) => button.classList.contains("main")), false, "joining once more is urged");
  await onPhone(b, "again");
  await b.getByRole("link", { name: "Go to /diary" }).click();
  await b.getByText("monday").first().waitFor();

  // What was not given is not said to be empty, and shows by itself once it is given.
  await b.goto(at(bob, "/@Ada/films"));
  await b.getByText("Not given to you, or nothing is there").waitFor();
  await b.getByText("ask Ada for a link to this path").waitFor();
  await onPhone(b, "not-given");
  await b.goto(at(bob, "/@Ada"));
  await b.getByText("This is what was given to you here").waitFor();
  await b.getByRole("link", { name: "/diary" }).waitFor();
  same(await b.getByText("Nothing is here").count(), 0, "it is not said to be empty");
  await onPhone(b, "given");
  await b.goto(at(bob, "/@Ada/films"));
  await b.getByText("Not given to you, or nothing is there").waitFor();
  await a.goto(at(ada, "/.sys/grants"));
  await a.getByLabel("Who: a name, a key, or anyone").fill("Bob");
  await a.getByLabel("At this path, and below").fill("/films");
  await a.getByRole("button", { name: "See what it means" }).click();
  await a.getByRole("button", { name: "Keep /films apart first, to give that alone" }).click();
  await a.getByRole("button", { name: "Keep /films apart first, to give that alone" }).waitFor({ state: "detached" });
  await onPhone(a, "grant");
  await a.getByRole("button", { name: "Give this right" }).click();
  await b.getByText("list").first().waitFor();

  // A second link of hers leads to a place where he may write and nothing is yet.
  await b.goto(at(bob, `/.join#${payloadOf(linkOf("--to", "/wall", "--can", "write", "--quota", "1MB"))}`));
  await b.getByRole("button", { name: "Join", exact: true }).click();
  await b.getByRole("link", { name: "Go to /wall" }).click();
  await b.getByText("You may write here; nobody has so far.").waitFor();
  // There is one way to write.
  const write = b.getByRole("button", { name: "Write it" });
  await write.waitFor();
  same(await b.locator("form:visible").count(), 1, "forms at a path where nothing is");
  same(await b.getByRole("button", { name: /^Add (?!files)/ }).count(), 0, "other ways to add something");
  await onPhone(b, "empty");
  await b.getByLabel("Name below").fill("hello");
  await b.getByLabel("Value").fill("it is me");
  await write.click();
  await b.getByRole("treeitem", { name: /hello/ }).waitFor();
  same(await value(ada, "/wall"), { hello: "it is me" }, "what he wrote");
  // Without a name it is written at the path itself.
  await b.goto(at(bob, "/@Ada/wall/note"));
  await b.getByLabel("Value").fill("right here");
  await write.click();
  await until("it is there", async () => (await value(ada, "/wall"))?.note === "right here");
  await b.goto(at(bob, "/@Ada"));
  await b.getByText("You may write at").waitFor();
  await onPhone(b, "may-write");

  // Whom she mutes she can hear again, also one whom she does not follow.
  for (const words of ["one", "two"])
    timebus(bob, "inbox", "send", "note", `@${ada.id}/wall/${words}`, "--from", `/said/${words}`, "--body", JSON.stringify(words));
  await until("both are there", async () => (await http(ada, "/.sys/inbox")).json().notices.length === 2);
  await a.goto(at(ada, "/.sys/inbox"));
  await a.getByRole("button", { name: "Mute Bob" }).first().click();
  await a.getByText("Nobody whom you hear has left you anything.").waitFor();
  await a.goto(at(ada, "/.sys/people"));
  await a.getByRole("button", { name: "Hear again: Bob" }).waitFor();
  await a.goto(at(ada, "/.sys/inbox"));
  await onPhone(a, "muted");
  await a.getByRole("button", { name: "Hear again: Bob" }).click();
  await a.getByRole("button", { name: "Remove all 2 of Bob" }).first().click();
  await a.getByText("Nobody has left you anything.").waitFor();
  same((await http(ada, "/.sys/inbox")).json().notices, [], "all of it is gone");

  // Who made the link is away: nothing was refused, and it goes on by itself.
  const away = timebus(carla, "invite").split("\n")[0] ?? "";
  timebus(carla, "down");
  await b.goto(at(bob, `/.join#${payloadOf(away)}`));
  await b.getByRole("button", { name: "Join", exact: true }).click();
  await b.getByText(/^On its way: the invite is not answered yet/).waitFor();
  await b.getByText("Your peer goes on by itself").waitFor();
  await onPhone(b, "waits");
  same(await b.getByText("refused").count(), 0, "nobody refused it");
  await b.getByRole("link", { name: "People" }).click();
  await b.getByText(/^the invite is not answered yet/).waitFor();
  await b.goto(at(bob, `/@${carla.id}`));
  await b.locator("problem-card").waitFor();
  same(await b.getByText("Prefer:").count(), 0, "what programs send is not told to people");

  // A link that was taken back is refused, and that is said.
  const back = linkOf();
  const { id } = (await http(ada, "/.sys/invites")).json().invites.toSorted((x, y) => y.created_ms - x.created_ms)[0];
  timebus(ada, "invites", "revoke", id);
  timebus(bob, "unfollow", "Ada");
  await b.goto(at(bob, `/.join#${payloadOf(back)}`));
  await b.getByRole("button", { name: "Join", exact: true }).click();
  await b.getByText(/^Not joined: the invite was refused/).waitFor();

  // A lost phone is removed where the devices are.
  await a.goto(at(ada, "/.sys/peer"));
  await a.getByText("this one").waitFor();
  await a.getByRole("button", { name: "Add a device" }).click();
  await made.getByText("Send it to nobody but yourself.").waitFor();
  await onPhone(a, "add-device");
  const folder = mkdtempSync(join(tmpdir(), "timebus-phone-"));
  const take = (/** @type {string} */ name, /** @type {string} */ printed) =>
    execFileSync(process.env.TIMEBUS ?? "timebus", ["--home", join(folder, name), "join", printed.split("\n")[0] ?? "", "--yes"], { stdio: "pipe" });
  const devices = async () => (await http(ada, "/.sys/devices")).json().devices;
  /** @type {(() => void)[]} */
  const stops = [];
  /** @type {any} */
  let lost;
  try {
    take("phone", (await made.locator("code").first().textContent()) ?? "");
    // Whoever has it makes another device hers, and lets somebody in.
    const { peer: phone, stop } = await start(join(folder, "phone"));
    const guest = await start(join(folder, "guest"));
    stops.push(stop, guest.stop);
    lost = JSON.parse(timebus(phone, "--json", "id")).device;
    take("tablet", timebus(phone, "devices", "add"));
    invite(phone, guest.peer);
    await until("there are three", async () => (await devices()).length === 3);
    await until("the guest is known", async () => (await http(ada, "/.sys/grants")).json().grants.some(({ by }) => by === lost));
  } finally {
    for (const stop of stops) stop();
    rmSync(folder, { recursive: true, force: true });
  }
  const [{ name: old }, { name: tablet }] = [(await devices()).find(({ device }) => device === lost), (await devices()).find((one) => !one.this && one.device !== lost)];
  await a.getByLabel(`What ${old} is called`).fill("phone");
  await a.getByLabel(`What ${old} is called`).press("Enter");
  await a.getByRole("button", { name: `Remove ${tablet}…` }).click();
  await a.getByText("It made no other device yours.").waitFor();
  // What another one says meanwhile takes the question away from nobody.
  timebus(ada, "devices", "name", "desk");
  await a.locator("device-list strong", { hasText: /^desk$/ }).waitFor();
  await a.getByText("It made no other device yours.").waitFor();
  await a.getByRole("button", { name: "Leave it" }).click();
  await a.getByText("It made no other device yours.").waitFor({ state: "detached" });
  await a.getByRole("button", { name: "Remove phone…" }).click();
  await a.getByText("What phone writes from now on counts nowhere").waitFor();
  await a.getByText(/^\S+ came in by way of it and may go on/).waitFor();
  await a.getByText(`It made ${tablet} a device of yours, too.`).waitFor();
  same(await a.getByLabel(`also ${tablet}, if it was not you`).isChecked(), false, "what it made goes only if that is said");
  await onPhone(a, "devices");
  same((await devices()).length, 3, "asking removes nothing");
  await a.getByRole("button", { name: "Remove this device" }).click();
  await a.getByText("phone: no device of yours any more.").waitFor();
  await a.getByText(`It had made ${tablet} a device of yours, too, and that stays.`).waitFor();
  same((await devices()).length, 2, "it is removed");
  await a.getByText("1 device of before").waitFor();

  // A community: the name there, all notices, and whoever makes trouble.
  await a.goto(at(ada, "/.sys/people"));
  await a.getByLabel("What the new community is called").fill("Garden");
  await a.getByLabel("The name that you carry there").fill("Ada the gardener");
  await a.getByRole("button", { name: "Found a community" }).click();
  await a.getByText(/you organize it as Ada the gardener/).waitFor();
  for (let count = 1; count <= 7; count += 1) timebus(ada, "community", "post", "Garden", `notice ${count}`);
  await b.goto(at(bob, `/.join#${payloadOf(timebus(ada, "invite", "--to", "@Garden", "--can", "member").split("\n")[0] ?? "")}`));
  await b.getByLabel("The name that you carry there").fill("Bob the mole");
  await b.getByRole("button", { name: "Join", exact: true }).click();
  await b.getByRole("link", { name: "Go to its members and its board" }).click();
  await b.getByText("notice 7").waitFor();
  await a.getByText("Organize the members").click();
  await a.getByRole("button", { name: "Show all 7 notices" }).click();
  await a.getByText("notice 1").waitFor();
  await onPhone(a, "community");
  await a.locator("community-card .rows > li", { hasText: "notice 1" }).getByRole("button", { name: "take it off" }).click();
  await until("it is off the board", async () => {
    const [{ community }] = (await http(ada, "/.sys/communities")).json().communities;
    return (await http(ada, `/.sys/communities/${community}/board`)).json().notices.length === 6;
  });
  await a.getByRole("button", { name: "Remove Bob the mole" }).click();
  await b.getByText("you are no member any more").waitFor();
  for (const [who, { complaints }] of Object.entries({ hers, his })) same(complaints, [], `the browser of ${who} complains of nothing`);
});
