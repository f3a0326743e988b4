// apps/chirp/README.md, step by step: after each one the page does what the step says. Two people, two peers.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { http, invite, peers, person, same, timebus, until, withBrowser } from "./web.mjs";

const [alice, bob] = peers;
const text = readFileSync(fileURLToPath(new URL("../../apps/chirp/README.md", import.meta.url)), "utf8");
const block = (kind) =>
  [...text.matchAll(new RegExp(`\`\`\`${kind}\\n([\\s\\S]*?)\`\`\``, "g"))].map(([, code]) => code);
const [[manifest], [page], steps] = [block("json"), block("html"), block("js")];
same(steps.length, 5, "steps");

/** The page after some steps. @param {number} count */
const pageAfter = (count) =>
  page.replace('<script type="module">\n', `<script type="module">\n${steps.slice(0, count).join("\n")}`);
const lines = pageAfter(steps.length).trimEnd().split("\n").length;
if (lines >= 120) throw new Error(`the page has ${lines} lines`);

const folder = mkdtempSync(join(tmpdir(), "timebus-"));
writeFileSync(join(folder, "app.json"), manifest);
/** @param {number} count */
function install(count) {
  writeFileSync(join(folder, "index.html"), pageAfter(count));
  for (const peer of peers) timebus(peer, "app", "install", folder, "--yes");
}
const url = (peer) => `http://tweets.localhost:${peer.port}/`;

try {
  await withBrowser(async (browser) => {
    const [hers, his] = [await person(browser), await person(browser)];
    const [a, b] = [hers.page, his.page];
    install(1);
    await a.goto(url(alice));
    await a.getByRole("textbox").fill("Hello <b>world</b>");
    await a.getByRole("button", { name: "Post" }).click();
    await until("the post is in her space", async () =>
      (await http(alice, "/tweets")).text.includes("Hello <b>world</b>"),
    );

    install(2);
    await a.reload();
    await a.getByRole("listitem").getByText("Hello <b>world</b>").waitFor();
    await a.getByRole("textbox").fill("Second");
    await a.getByRole("button", { name: "Post" }).click();
    await a.getByRole("listitem").first().getByText("Second").waitFor();

    invite(alice, bob, "--to", "/nowhere", "--whole");
    invite(bob, alice, "--to", "/nowhere", "--whole");
    install(3);
    await a.reload();
    await b.goto(url(bob));
    await b.getByRole("listitem").getByText("Second").waitFor();
    await b.getByRole("textbox").fill("Hello from Bob");
    await b.getByRole("button", { name: "Post" }).click();
    await a.getByRole("listitem").first().getByText("Hello from Bob").waitFor();

    install(4);
    await a.reload();
    await b.reload();
    await b.getByRole("listitem").filter({ hasText: "Second" }).getByRole("button", { name: "Like, 0 so far" }).click();
    await a
      .getByRole("listitem")
      .filter({ hasText: "Second" })
      .getByRole("button", { name: "Like, 1 so far" })
      .waitFor();
    await b.getByRole("button", { name: "Like, 1 so far" }).click();
    await a.getByRole("button", { name: "Like, 1 so far" }).waitFor({ state: "detached" });

    install(5);
    await a.reload();
    await a.getByRole("listitem").first().waitFor();
    timebus(alice, "down");
    await a.getByText("Your peer is stopped.").waitFor();
    await a.getByRole("textbox").fill("Nobody hears me");
    await a.getByRole("button", { name: "Post" }).click();
    await a.getByText("1 waiting").waitFor();
    await a.getByRole("listitem").getByText("Nobody hears me").waitFor();
    same([...hers.complaints, ...his.complaints], [], "the browsers complain of nothing");
  });
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`${lines} lines`);
