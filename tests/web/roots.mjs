// Two roots of one space: whoever is shown is shown with the dispute, and with what to do next.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { accessible, http, invite, peers, person, same, shot, signIn, start, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;
const folder = mkdtempSync(join(tmpdir(), "timebus-roots-"));
const json = { "content-type": "application/json" };
await http(alice, "/profile/name", { method: "PUT", headers: json, body: '"Alice"' });
await http(alice, "/notes/hi", { method: "PUT", headers: json, body: '"hello"' });
invite(alice, bob);
await until("he has it", async () => (await http(bob, `/@${alice.id}/notes/hi`)).status === 200);

/** Carries what is said in her space from one peer to another by hand. @param {any} from @param {any} to */
const carry = async (from, to) => {
  const ops = "application/timebus-ops";
  const { bytes } = await http(from, `/@${alice.id}`, { headers: { accept: ops } });
  same((await http(to, `/@${alice.id}`, { method: "POST", headers: { "content-type": ops }, body: bytes })).status, 200, "it is carried");
};

// The words of one sheet make a root on the laptop, and another one on the phone, which did not know of it.
const phone = { ...alice, home: join(folder, "phone") };
const link = timebus(alice, "devices", "add").split("\n")[0] ?? "";
execFileSync(process.env.TIMEBUS ?? "timebus", ["--home", phone.home, "join", link, "--yes"], { stdio: "pipe" });
timebus(alice, "down");
const words = JSON.parse(timebus(alice, "--json", "kit")).words.join(" ");
timebus(alice, "rotate");
execFileSync(process.env.TIMEBUS ?? "timebus", ["--home", phone.home, "rotate"], { input: words, stdio: "pipe" });

const started = [await start(alice.home), await start(phone.home)];
const [laptop, other] = started.map(({ peer }) => peer);
try {
  await carry(laptop, bob);
  await carry(other, bob);
  await until("he knows of both", async () => (await http(bob, "/.sys/guardians")).json().disputed.length === 1);
  await withBrowser(async (browser) => {
    const his = await person(browser, { viewport: { width: 390, height: 844 } });
    const b = his.page;
    await signIn(bob, b);
    await b.getByRole("link", { name: "People" }).click();
    const card = b.locator("people-page li", { has: b.getByRole("link", { name: "Alice" }) });
    await card.getByText(/^It is in dispute who the root of the space of Alice is: two successions were made with the words of one sheet\.$/).waitFor();
    await card.getByText("nothing new counts that a root says").waitFor();
    await card.getByText("What to do: ask Alice by voice. Nothing decides it any more").waitFor();
    const wide = await b.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    same(wide > 0, false, "something is cut off at the side");
    await shot(b, "roots-people-390");
    await accessible(b, "a dispute of somebody else");
    await b.goto(`http://localhost:${bob.port}/@Alice`);
    await b.locator("path-standing").getByText("It is in dispute who the root of the space of Alice is").waitFor();
    await b.locator("path-standing").getByRole("link", { name: "People" }).click();
    await card.getByText("nothing new counts").waitFor();
    await b.getByRole("link", { name: "This peer" }).click();
    await b.locator(".findings .grade-note", { hasText: "the space of Alice" }).waitFor();

    // Whatever decides it, there is something to do.
    const fixes = await b.evaluate(async () => {
      const { wordsOfDispute } = await import("/.gui/elements/root-dispute.js");
      const dispute = { space: "s".repeat(52), name: "Carol", roots: ["a".repeat(52), "b".repeat(52)] };
      const all = [true, false].flatMap((own) => ["words", "guardians", "nobody"].map((decided_by) => wordsOfDispute({ ...dispute, own, decided_by })));
      return all.map(({ says, fix }) => says.endsWith("aaaaaaaa… and bbbbbbbb….") && fix);
    });
    same([new Set(fixes).size, fixes.every((fix) => fix.length > 20)], [6, true], "what to do in each case");

    const ofMany = await b.evaluate(async () => {
      const { CommunityCard } = await import("/.gui/elements/community-card.js");
      const community = { community: "c".repeat(52), title: "Choir", you: "member", members: 1, connected: 0 };
      const dispute = { space: community.community, name: "Choir", own: false, roots: ["a".repeat(52)], decided_by: "words" };
      const card = Object.assign(new CommunityCard(), { known: { community, dispute, members: [], board: { notices: [], may_write: false } } });
      document.body.append(card);
      const said = card.querySelector("root-dispute")?.textContent ?? "";
      card.remove();
      return said;
    });
    same(/in dispute who the root of the space of Choir is/.test(ofMany), true, "a community says so, too");

    await carry(other, laptop);
    const hers = await person(browser);
    const a = hers.page;
    await signIn(laptop, a);
    await a.getByRole("link", { name: "This peer" }).click();
    const found = a.locator(".findings .grade-bad", { hasText: "It is in dispute who the root of your space is" });
    await found.getByText("Begin anew with the word of your friends").waitFor();
    await shot(a, "roots-peer");
    await a.getByRole("link", { name: "People" }).click();
    await a.locator("section", { has: a.locator("own-name") }).getByText("It is in dispute who the root of your space is").waitFor();
    await accessible(a, "a dispute of one's own");
    await shot(a, "roots-people");
    same([...his.complaints, ...hers.complaints], [], "the browsers complain of nothing");
  });
} finally {
  for (const { stop } of started) stop();
  rmSync(folder, { recursive: true, force: true });
}
