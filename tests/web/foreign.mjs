// A third origin tries to read and to write, and fails: a page elsewhere on this machine, another app, a frame.

import { createServer } from "node:http";
import { http, openApp, peers, person, same, timebus, withBrowser } from "./web.mjs";

const [peer] = peers;
await http(peer, "/notes", { method: "PUT", headers: { "content-type": "application/json" }, body: '"secret"' });
await http(peer, "/boards/a", { method: "PUT", headers: { "content-type": "application/json" }, body: '"mine"' });

const server = createServer((_, response) => response.end("<!doctype html><title>elsewhere</title>"));
await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
const elsewhere = `http://127.0.0.1:${server.address().port}/`;

/** Runs in a page: tries everything that a page can; answers what worked. */
async function attack({ port, me }) {
  const worked = [];
  // Browsers say of some things that they blocked, and of others nothing.
  const soon = (promise) => Promise.race([promise, new Promise((resolve) => setTimeout(resolve, 500))]);
  const roots = [
    `http://localhost:${port}`,
    `http://127.0.0.1:${port}`,
    `http://board.localhost:${port}`,
    `http://chirp.localhost:${port}`,
  ].filter((root) => root !== location.origin);
  for (const root of roots) {
    for (const path of ["/notes", "/boards/a", `/@${me}/boards/a`, "/.sys/status", "/.sys/app", "/.sys/apps"]) {
      for (const mode of ["cors", "no-cors"]) {
        try {
          const response = await fetch(root + path, {
            mode,
            headers: mode === "cors" ? { authorization: "Bearer x" } : {},
          });
          const text = await response.text();
          if (text !== "") worked.push(`read ${root}${path}: ${text}`);
        } catch {}
        for (const body of ['"hacked"', new URLSearchParams({ a: "b" })])
          await fetch(root + path, { method: "POST", mode, body }).catch(() => {});
        await fetch(root + path, { method: "PUT", mode, body: '"hacked"' }).catch(() => {});
      }
    }
    for (const mode of ["cors", "no-cors"]) {
      try {
        const response = await fetch(`${root}/.sys/token`, { method: "POST", body: "{}", mode });
        if ((await response.text()) !== "") worked.push(`token of ${root}`);
      } catch {}
    }
    await soon(
      new Promise((resolve) => {
        const socket = new WebSocket(`${root.replace("http", "ws")}/`, "timebus.v1");
        socket.onopen = () => (worked.push(`socket to ${root}`), socket.close());
        socket.onclose = resolve;
      }).catch(() => {}),
    );
    const frame = document.createElement("iframe");
    frame.src = `${root}/`;
    document.body.append(frame);
    await new Promise((resolve) => setTimeout(resolve, 300));
    try {
      if (frame.contentDocument?.body?.textContent) worked.push(`frame of ${root}`);
    } catch {}
    frame.remove();
    const script = document.createElement("script");
    script.src = `${root}/@${me}/boards/a`;
    await soon(
      new Promise((resolve) => {
        script.onload = () => (worked.push(`script from ${root}`), resolve(undefined));
        script.onerror = resolve;
        document.head.append(script);
      }),
    );
  }
  return worked;
}

await withBrowser(async (browser) => {
  const { page, context } = await person(browser);
  await openApp(peer, page, "board");
  await page.getByRole("heading", { name: "Your boards" }).waitFor();
  const other = await context.newPage();
  await other.goto(elsewhere);
  same(await other.evaluate(attack, { port: peer.port, me: peer.id }), [], "what a page elsewhere could do");
  await openApp(peer, other, "chirp");
  await other.getByRole("textbox", { name: "What is happening?" }).waitFor();
  same(await other.evaluate(attack, { port: peer.port, me: peer.id }), [], "what another app could do");
  // Its own token opens nothing that its card did not name.
  const beyond = await other.evaluate(
    async ({ me }) => {
      const { token } = await (await fetch("/.sys/token", { method: "POST", body: "{}" })).json();
      const ask = async (path, method) =>
        (
          await fetch(path, {
            method,
            headers: { authorization: `Bearer ${token}` },
            body: method === "PUT" ? '"hacked"' : undefined,
          })
        ).status;
      return [
        await ask(`/@${me}/notes`, "GET"),
        await ask(`/@${me}/boards/a`, "GET"),
        await ask(`/@${me}/boards/a`, "PUT"),
        await ask("/.sys/status", "GET"),
      ];
    },
    { me: peer.id },
  );
  same(beyond, [403, 403, 403, 403], "what chirp may not");
  // A frame of an app shows nothing anywhere.
  const framed = await other.evaluate(() => document.querySelectorAll("iframe").length);
  same(framed, 0, "frames");
});
server.close();
same((await http(peer, "/notes")).json(), "secret", "the value that nobody was given");
same((await http(peer, "/boards/a")).json(), "mine", "the value of another app");
timebus(peer, "app", "remove", "board");
console.log("nothing was read and nothing was written");
