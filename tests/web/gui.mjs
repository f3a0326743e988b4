// The peer's own pages: how somebody begins, installs an app, invites a friend, and what the friend sees.

import { accessible, http, peers, person, same, shot, signIn, timebus, told, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;

await withBrowser(async (browser) => {
  const hers = await person(browser);
  const a = hers.page;
  await signIn(alice, a);

  // Nothing is there, and the page says what to begin with.
  await a.getByRole("heading", { name: "Start an app" }).waitFor();
  await a.getByRole("heading", { name: "Invite someone" }).waitFor();
  await a.getByRole("button", { name: "Write it" }).waitFor();
  await shot(a, "gui-first-run");
  await accessible(a, "first run");

  // An app is installed after its card was read, and opens at an address of its own.
  await a.getByRole("link", { name: /Start an app/ }).click();
  await a.getByRole("button", { name: "Install Chirp" }).click();
  await a.getByText("read and change /chirp in your space").waitFor();
  await a.getByText("ask no host but your peer").waitFor();
  await shot(a, "gui-install-card");
  await accessible(a, "install card");
  same((await http(alice, "/.sys/apps")).json().apps, [], "nothing is installed before somebody agreed");
  await a.getByRole("button", { name: "Install", exact: true }).click();
  const opening = hers.context.waitForEvent("page");
  await a.getByRole("button", { name: "Open", exact: true }).click();
  const chirp = await opening;
  await chirp.getByRole("textbox", { name: "What is happening?" }).waitFor();
  same(new URL(chirp.url()).host, `chirp.localhost:${alice.port}`, "the app's address");
  same(new URL(chirp.url()).hash, "", "the code is gone from the address");
  // The app leads to where a friend is invited; it cannot make a link itself.
  const inviting = hers.context.waitForEvent("page");
  await chirp.getByRole("link", { name: "Invite a friend" }).first().click();
  const invites = await inviting;
  await invites.getByRole("checkbox", { name: "Bring chirp along" }).waitFor();
  await invites.close();
  await chirp.close();

  // Sharing it makes a link that brings it along.
  await a.getByRole("button", { name: "Share" }).click();
  await a.getByRole("heading", { name: "Invite someone" }).waitFor();
  await a.getByRole("textbox", { name: /What they read first/ }).fill("Come and chirp <b>with</b> me");
  await a.getByRole("button", { name: "Make a link" }).click();
  await a.getByRole("img", { name: "The link as a QR code" }).waitFor();
  const link = await a.locator(".copyable code").first().textContent();
  const payload = link.split(/[#/]/).pop();
  await shot(a, "gui-invite");
  await accessible(a, "invite");

  // Whoever opens it sees at once what it is; nothing is used up, and the secret leaves the address.
  const stranger = await person(browser, { viewport: { width: 390, height: 800 }, colorScheme: "dark" });
  const requests = [];
  stranger.page.on("request", (request) => requests.push(request.url() + (request.postData() ?? "")));
  await stranger.page.goto(`http://localhost:${alice.port}/.join#${payload}`);
  await stranger.page.getByText("Come and chirp <b>with</b> me").waitFor();
  await stranger.page.getByRole("heading", { name: /invites you to chirp/ }).waitFor();
  same(new URL(stranger.page.url()).hash, "", "the secret is gone from the address");
  same(
    requests.filter((request) => request.includes(payload.slice(5, 60)) && !request.includes("#")),
    [],
    "the secret was sent",
  );
  await shot(stranger.page, "gui-join-stranger");
  await accessible(stranger.page, "an invite on a phone");
  same((await http(alice, "/.sys/invites")).json().invites[0].uses, 0, "looking uses nothing up");
  await stranger.page.goto(`http://localhost:${alice.port}/.join#nonsense`);
  await stranger.page.getByRole("heading", { name: "This link is not complete" }).waitFor();

  // At his own peer the friend agrees to one card, and to another one for the app.
  const his = await person(browser);
  const b = his.page;
  await signIn(bob, b);
  await b.getByRole("heading", { name: "Start an app" }).waitFor();
  const pasted = b.getByLabel("Did a friend send you a link?");
  await pasted.fill(`timebus://join/${payload.slice(0, -9)}`);
  await b.getByRole("button", { name: "See what it says" }).click();
  await b.getByText("This is no invite link, or not all of it").waitFor();
  await pasted.fill(` timebus://join/${payload}\n`);
  await b.getByRole("button", { name: "See what it says" }).click();
  await b.getByRole("button", { name: "Join, and look at the app" }).click();
  await b.getByRole("button", { name: "Install", exact: true }).click();
  await b.getByText("Chirp is installed.").waitFor();
  await shot(b, "gui-joined");
  await b.getByRole("link", { name: "All your apps" }).click();
  await b.getByText(/published by/).waitFor();
  await b.getByRole("link", { name: "People" }).click();
  await b.getByText("up to date, changes come at once").waitFor();
  await shot(b, "gui-people");
  await accessible(b, "people");

  // A community of his own, with a notice on its board.
  await b.getByLabel("What the new community is called").fill("Our choir");
  await b.getByRole("button", { name: "Found a community" }).click();
  await b.getByText(/you organize it as .*; 1 member/).waitFor();
  await b.getByLabel("A notice for the board").fill("No singing this week");
  await b.getByRole("button", { name: "Put on the board" }).click();
  await b.getByText("No singing this week").waitFor();
  await shot(b, "gui-communities");
  await accessible(b, "communities");
  await until("she sees who came", async () => (await http(alice, "/.sys/invites")).json().invites[0].uses === 1);
  await a.getByText("used 1 time").waitFor();
  await a.getByRole("link", { name: "This peer" }).click();
  await a.getByText("Requests a second").waitFor();
  await a.getByText(alice.id).waitFor();
  await accessible(a, "this peer");

  // A film comes slowly; he pauses it, lets it go on, and cancels it.
  await a.getByLabel(/To others at most/).fill("0.016");
  await a.getByRole("button", { name: "Set speed" }).click();
  await until("her speed is set", async () => (await http(alice, "/.sys/blobs")).json().limits.up === 16_000);
  await http(alice, "/film", { method: "PUT", headers: { "content-type": "video/mp4" }, body: "film".repeat(500_000) });
  await until("he knows of it", async () => (await http(bob, `/@${alice.id}/film`, { method: "HEAD" })).status === 200);
  void http(bob, `/@${alice.id}/film`).catch(() => null);
  await b.getByRole("link", { name: "This peer" }).click();
  await b.getByRole("button", { name: /^Pause .*film$/ }).click();
  await b.getByText(/^paused, /).waitFor();
  await shot(b, "gui-files");
  await accessible(b, "files");
  await b.getByRole("button", { name: /^Go on .*film$/ }).click();
  await b.getByRole("button", { name: /^Cancel .*film$/ }).click();
  await b.getByText("No file is on its way.").waitFor();
  await a.getByLabel(/To others at most/).fill("");
  await a.getByRole("button", { name: "Set speed" }).click();
  await until("she is free again", async () => (await http(alice, "/.sys/blobs")).json().limits.up === null);

  // Removing an app leaves what it wrote.
  await http(alice, "/chirp/posts/1", {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: '{"text":"kept"}',
  });
  await a.getByRole("link", { name: "Apps" }).click();
  await told(a, /stays at \/chirp/, () => a.getByRole("button", { name: "Remove" }).click());
  same((await http(alice, "/chirp/posts/1/text")).json(), "kept", "what it wrote");
  timebus(alice, "app", "ls");

  // What is hers is shown as hers, and he is offered what he may do there and nothing else.
  await b.goto(`http://localhost:${bob.port}/@${alice.id}/chirp`);
  await b.getByText("posts/1, posts/1/text", { exact: true }).waitFor();
  same(await b.locator("path-crumbs li").allTextContents(), [`@${alice.id.slice(0, 8)}…`, "chirp"], "the way to it");
  await b.getByRole("tab", { name: "Who wrote what" }).click();
  const value = b.getByRole("link", { name: "posts/1/text", exact: true });
  same(await value.getAttribute("href"), `/${encodeURIComponent(`@${alice.id}`)}/chirp/posts/1/text`, "where it leads");
  same(await b.getByRole("button", { name: /^(Add|Edit|Edit as JSON|Delete)$/ }).count(), 0, "what he may not do");
  await shot(b, "gui-elsewhere");
  await accessible(b, "a space of somebody else");

  // A link for a new machine is not for his peer, which is somebody already.
  const payloadOf = (/** @type {string} */ printed) => printed.trim().split("\n").pop()?.split("/").pop();
  await b.goto(`http://localhost:${bob.port}/.join#${payloadOf(timebus(alice, "devices", "add"))}`);
  await b.getByText("This peer has an identity of its own").waitFor();
  same(await b.getByRole("button", { name: /Join/ }).count(), 0, "it is not offered");
  await shot(b, "gui-device-link");
  await accessible(b, "a link for a device");

  // Into his community she comes under a name that she chooses.
  const { community } = (await http(bob, "/.sys/communities")).json().communities[0];
  const member = timebus(bob, "invite", "--to", `@${community}`, "--can", "member");
  await a.goto(`http://localhost:${alice.port}/.join#${payloadOf(member)}`);
  await a.getByLabel("The name that you carry there").fill("Alice the alto");
  await shot(a, "gui-join-community");
  await accessible(a, "joining a community");
  await a.getByRole("button", { name: "Join" }).click();
  await a.getByText(/^Joined/).waitFor();
  await until("he sees her under that name", async () =>
    (await http(bob, `/.sys/communities/${community}/members`)).json().members?.some((/** @type {{ name: string }} */ one) => one.name === "Alice the alto"),
  );
  await a.goto(`http://localhost:${alice.port}/`);

  // An app can be given another identity, and keeps nothing in one's own space then.
  timebus(alice, "personas", "new", "work");
  await a.getByRole("link", { name: "People" }).click();
  await a.getByRole("link", { name: "Apps" }).click();
  await a.getByRole("button", { name: "Install Board" }).click();
  await a.getByLabel("It writes and is seen as").selectOption("work");
  await shot(a, "gui-install-card-persona");
  await accessible(a, "install card with personas");
  await a.getByRole("button", { name: "Install", exact: true }).click();
  await a.getByText(/as your persona work/).waitFor();
  same((await http(alice, "/.sys/apps")).json().apps, [], "it is not the owner's app");
  const [board] = (await http(alice, "/@work/.sys/apps")).json().apps;
  same(board.name, "board", "the persona's app");
  const opening2 = hers.context.waitForEvent("page");
  await a.getByRole("button", { name: "Open", exact: true }).click();
  const opened = await opening2;
  await opened.getByRole("heading").first().waitFor();
  same(new URL(opened.url()).host, `${board.alias}.localhost:${alice.port}`, "its address");
  await opened.close();
  for (const [who, { complaints }] of Object.entries({ hers, his, stranger }))
    same(complaints, [], `the browser of ${who} complains of nothing`);
});
