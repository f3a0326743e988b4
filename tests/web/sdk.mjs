// The examples of apps/README.md, each as it stands, one after the other, in a page of an app.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { peers, person, same, timebus, withBrowser } from "./web.mjs";

const [peer] = peers;
const text = readFileSync(fileURLToPath(new URL("../../apps/README.md", import.meta.url)), "utf8");
const examples = [...text.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code);
if (examples.length < 8) throw new Error("the examples are gone");

const folder = mkdtempSync(join(tmpdir(), "timebus-"));
try {
  const wants = [
    { path: "/notes", may: ["read", "write"] },
    { path: "/.sys/spaces", may: ["read"] },
    { path: "/.sys/refs", may: ["read"] },
  ];
  writeFileSync(join(folder, "app.json"), JSON.stringify({ name: "examples", title: "Examples", wants }));
  writeFileSync(join(folder, "index.html"), "<!doctype html><title>Examples</title>");
  timebus(peer, "app", "install", folder, "--yes");
} finally {
  rmSync(folder, { recursive: true });
}

await withBrowser(async (browser) => {
  const { page, complaints } = await person(browser);
  await page.goto(`http://examples.localhost:${peer.port}/`);
  const global =
    "globalThis.same = (a, b) => { const [is, wanted] = [a, b].map((x) => JSON.stringify(x)); if (is !== wanted) throw new Error(`${is} is not ${wanted}`); };";
  await page.evaluate(global);
  for (const code of examples) {
    // What one example names, the next ones use.
    const names = [...code.matchAll(/^const (?:(\w+)|[[{]([^\]}]*)[\]}]) =/gm)].flatMap(([, one, several]) =>
      one ? [one] : several.split(",").map((name) => name.trim()),
    );
    const imports = code.replace(/^import (\{[^}]*\}) from "([^"]*)";/gm, 'const $1 = await import("$2");');
    const made = [
      ...names,
      ...[...code.matchAll(/^import \{([^}]*)\}/gm)].flatMap(([, several]) =>
        several.split(",").map((name) => name.trim()),
      ),
    ];
    const before = "const { bus } = globalThis;";
    const body = /const bus =/.test(code) ? imports : before + imports;
    const keep = made.filter((name) => name === "bus").map((name) => `globalThis.${name} = ${name};`);
    try {
      await page.evaluate(`(async () => { ${body}\n ${keep.join(" ")} })()`);
    } catch (error) {
      throw new Error(`${error}\nin the example\n${code}`);
    }
  }
  same(complaints, [], "the browser complains of nothing");
});
console.log(`${examples.length} examples`);
