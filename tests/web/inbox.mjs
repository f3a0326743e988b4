// Who reads somebody without being read: likes and answers arrive all the same, as notices.

import { http, invite, openApp, peers, person, same, shot, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;

await withBrowser(async (browser) => {
  const [hers, his] = [await person(browser), await person(browser)];
  const [a, b] = [hers.page, his.page];
  await openApp(alice, a, "chirp");
  await a.getByRole("textbox", { name: "What is happening?" }).fill("Hello to whoever listens");
  await a.getByRole("button", { name: "Post", exact: true }).last().click();
  await a.getByRole("article").getByText("Hello to whoever").waitFor();
  // He takes her invite; she knows nothing of him.
  invite(alice, bob);
  await openApp(bob, b, "chirp");
  await b.getByRole("textbox", { name: "Name" }).fill("Bob <the listener>");
  await b.getByRole("button", { name: "Save" }).click();
  await b.getByRole("article").getByText("Hello to whoever").waitFor();
  await b.getByRole("button", { name: /^Like/ }).click();
  await b.getByRole("button", { name: /^Answer/ }).click();
  await b.getByRole("dialog").getByRole("textbox", { name: "Write your answer" }).fill("I do");
  await b.getByRole("dialog").getByRole("button", { name: "Answer" }).click();
  await until("the notices are there", async () => {
    const inbox = await http(alice, "/.drop");
    return inbox.status === 200 && inbox.text.includes('"like"') && inbox.text.includes('"reply"');
  });
  same((await http(alice, `/@${bob.id}/chirp`)).status === 200, false, "she cannot read him");
  await a.getByRole("link", { name: /Notifications/ }).click();
  await a.getByText("likes your post").waitFor();
  await a.getByText("answered you").waitFor();
  // A notice can say any name: who is known by his key is called so until his profile can be read.
  const { name } = JSON.parse((await http(bob, "/.sys/status")).text);
  await a.getByText(name).first().waitFor();
  await a.getByText("I do").waitFor();
  await shot(a, "chirp-stranger");
  // Her post counts both, and says that nobody could check it.
  await a.getByRole("link", { name: "Home" }).click();
  const like = a.getByRole("button", { name: "Like; 1 like" });
  await like.waitFor();
  await a.getByRole("button", { name: "Answer; 1 answer" }).waitFor();
  same(
    (await like.getAttribute("title"))?.split(" · ").at(-1),
    "Known from: 2 by notices of people whose space is not here",
    "where the counts come from",
  );
  // What he takes back counts no more, and nobody has to look again.
  await b.getByRole("button", { name: /^Take the like back/ }).click();
  await a.getByRole("button", { name: "Like; 0 likes" }).waitFor();
  await until("the notice is gone", async () => !(await http(alice, "/.drop")).text.includes('"like"'));
  // Its sender is told when a notice has come to where it was to go.
  const told = await b.evaluate(async (key) => {
    const bus = await (await import("/sdk.js")).open();
    const notice = { kind: "like", target: `/@${key}/chirp/none`, source: `/@${bus.me}/chirp/none` };
    const states = [];
    for (const what of ["send", "takeBack"]) {
      await new Promise((resolve) =>
        bus.inbox(key)[what](notice).subscribe(({ state }) => {
          states.push(state);
          if (state === "synced") resolve(state);
        }),
      );
    }
    return states;
  }, alice.id);
  same(told, ["local", "durable", "synced", "local", "durable", "synced"], "how the notices were, one after the other");
  // Whom she blocks is counted and shown no more.
  await b.getByRole("button", { name: /^Like/ }).last().click();
  await like.waitFor();
  await a.evaluate((key) => (location.hash = `#/@${key}`), bob.id);
  await a.getByRole("button", { name: "More", exact: true }).first().click();
  await a.getByRole("menuitem", { name: /^Block/ }).click();
  await a.getByRole("link", { name: "Home" }).click();
  await a.getByRole("button", { name: "Like; 0 likes" }).waitFor();
  await a.getByRole("link", { name: /Notifications/ }).click();
  await a.getByText("it is here").waitFor();
  same([...hers.complaints, ...his.complaints], [], "the browsers complain of nothing");
});
