// Somebody has a new key, as a friend says: the owner gives it the name on the people page, and takes that back.

import { accessible, http, invite, peers, person, same, shot, signIn, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob, carol, fresh] = peers;

/** Whose name it is at hers. */
const spaceOf = async (/** @type {string} */ name) =>
  (await http(alice, "/.sys/spaces")).json().spaces.find(({ petname }) => petname === name)?.space;

invite(bob, alice);
invite(carol, alice);
const name = (await http(alice, "/.sys/spaces")).json().spaces.find(({ space }) => space === bob.id).petname;
timebus(carol, "vouch", bob.id, fresh.id, "--yes");

await withBrowser(async (browser) => {
  const { page, complaints } = await person(browser);
  await signIn(alice, page);
  await page.getByRole("link", { name: "People" }).click();
  await page.getByText(/1 of your contacts says .* is now/).waitFor();
  await shot(page, "rebind-said");
  await accessible(page, "somebody is said to have a new key");
  same(await spaceOf(name), bob.id, "nothing moves by itself");
  await page.getByRole("button", { name: /^Yes, this is/ }).click();
  await until("the name is the new key's", async () => (await spaceOf(name)) === fresh.id);
  await shot(page, "rebind-moved");
  await page.getByRole("button", { name: "Take that back" }).click();
  await until("the name is the old key's again", async () => (await spaceOf(name)) === bob.id);
  await page.getByText(/1 of your contacts says .* is now/).waitFor();
  same(complaints, [], "the browser complains of nothing");
});
