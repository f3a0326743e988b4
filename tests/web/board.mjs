// A board that two people change at once.

import { accessible, http, invite, openApp, peers, person, same, shot, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;

await withBrowser(async (browser) => {
  const hers = await person(browser);
  await openApp(alice, hers.page, "board");
  const a = hers.page;
  await a.getByRole("textbox", { name: "Name of a new board" }).fill("Garden");
  await a.getByRole("button", { name: "Make it" }).click();
  await a.getByRole("textbox", { name: "A new card in To do" }).fill("Water the tomatoes");
  await a.getByRole("button", { name: "Add the card to To do" }).click();
  await a.getByRole("button", { name: "Water the tomatoes" }).waitFor();
  await until("it is on disk", async () => (await http(alice, "/boards")).text.includes("tomatoes"));

  invite(alice, bob, "--to", "/boards", "--can", "write");
  const his = await person(browser, { viewport: { width: 390, height: 800 }, colorScheme: "dark" });
  await openApp(bob, his.page, "board");
  const b = his.page;
  await b.getByRole("link", { name: /Garden/ }).click();
  await b.getByRole("button", { name: "Water the tomatoes" }).click();
  await b.getByRole("combobox", { name: "Column" }).selectOption({ label: "Doing" });
  await b.getByRole("button", { name: "Save" }).click();
  await a.getByRole("region", { name: "Doing" }).getByRole("button", { name: "Water the tomatoes" }).waitFor();
  // Both change one card, each another part of it: both changes stay.
  for (const page of [a, b]) await page.getByRole("button", { name: "Water the tomatoes" }).click();
  await a.getByRole("textbox", { name: "More" }).fill("also the beans");
  await b.getByRole("textbox", { name: "Title" }).fill("Water the roses");
  // His card is open from before hers was changed, and he says nothing of that part.
  await a.getByRole("button", { name: "Save" }).click();
  await b.getByText("also the beans").waitFor();
  await b.getByRole("button", { name: "Save" }).click();
  await b.getByRole("textbox", { name: "A new card in Done" }).fill("Bought seeds");
  await b.getByRole("button", { name: "Add the card to Done" }).click();
  for (const page of [a, b]) {
    await page.getByRole("button", { name: /^Water the roses\s*also the beans$/ }).waitFor();
    await page.getByRole("region", { name: "Done" }).getByRole("button", { name: "Bought seeds" }).waitFor();
  }
  await shot(a, "board");
  await shot(b, "board-phone-dark");
  await accessible(a, "board");
  await accessible(b, "board on a phone");
  same(hers.complaints, [], "her browser complains of nothing");
  same(his.complaints, [], "his browser complains of nothing");
});
