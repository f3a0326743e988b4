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
  same([...hers.complaints, ...his.complaints], [], "the browsers complain of nothing");
});
