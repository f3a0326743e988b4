// What the scripts of this folder share: peers, pages, and waiting for what has to happen.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Packages of `package.json`, wherever they were installed. */
export const need = createRequire(join(process.env.TIMEBUS_NODE_MODULES, "web.js"));

/** How long anything may take; far more than it ever does. */
const DEADLINE_MS = 60_000;

/** A file that tests read where it is. @param {string} name */
export const dataFile = (name) => {
  const folder = process.env.TIMEBUS_DATA ?? fileURLToPath(new URL("../../../shared/data", import.meta.url));
  return join(folder, name);
};

const DIGITS = "0123456789abcdefghijkmnpqrstuvwx";

/** A name as `post` makes them, for a time and whatever tells two of one time apart. @param {number} us @param {string} [salt] */
export function nameAt(us, salt = "") {
  let name = "";
  for (let rest = us, at = 0; at < 11; at += 1, rest = Math.floor(rest / 32)) name = DIGITS[rest % 32] + name;
  let chance = 0;
  for (const letter of salt) chance = (chance * 31 + (letter.codePointAt(0) ?? 0)) % 2 ** 20;
  for (let at = 0; at < 4; at += 1, chance = Math.floor(chance / 32)) name += DIGITS[chance % 32];
  return name;
}

/** @typedef {{ home: string, id: string, port: number }} Peer */
/** @type {Peer[]} */
export const peers = JSON.parse(process.env.TIMEBUS_PEERS ?? "[]");

/** @param {Peer} peer @param {...string} args */
export function timebus(peer, ...args) {
  return execFileSync(process.env.TIMEBUS ?? "timebus", ["--home", peer.home, ...args], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Starts a peer in a home that is there, to be stopped by whoever did. @param {string} home @returns {Promise<{ peer: Peer, stop: () => void }>} */
export async function start(home) {
  const args = ["--home", home, "--json", "up", "--http", "127.0.0.1:0", "--no-lan", "--udp", "127.0.0.1:0"];
  const child = spawn(process.env.TIMEBUS ?? "timebus", args, { stdio: ["ignore", "pipe", "ignore"] });
  const line = await new Promise((resolve, reject) => {
    let told = "";
    child.stdout.on("data", (piece) => (told += piece).includes("\n") && resolve(told));
    child.on("exit", (code) => reject(new Error(`the peer ended with ${code}`)));
  });
  child.removeAllListeners("exit");
  // Whatever becomes of the script, it leaves nobody behind.
  process.on("exit", () => child.kill("SIGKILL"));
  const { id, http } = JSON.parse(line);
  return { peer: { home, id, port: Number(new URL(http).port) }, stop: () => child.kill("SIGKILL") };
}

/** A request of a program of the owner. @param {Peer} peer @param {string} path @param {RequestInit} [init] */
export async function http(peer, path, init = {}) {
  const { request } = await import("node:http");
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: "127.0.0.1", port: peer.port, path, method: init.method ?? "GET", headers: init.headers },
      (response) => {
        /** @type {Buffer[]} */
        const pieces = [];
        response.on("data", (piece) => pieces.push(piece));
        response.on("end", () => {
          const bytes = Buffer.concat(pieces);
          const text = bytes.toString();
          resolve({ status: response.statusCode, text, bytes, headers: response.headers, json: () => JSON.parse(text) });
        });
      },
    );
    asked.on("error", reject);
    asked.end(init.body);
  });
}

/** @type {import("playwright-core").Browser | null} */
let browser = null;

/** Runs a test in a browser, and ends it whatever happens. @param {(browser: import("playwright-core").Browser) => Promise<void>} run */
export async function withBrowser(run) {
  const { chromium } = need("playwright-core");
  const args = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // A name whose owner has it mean this machine, as who rebinds names does.
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
  ];
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args });
  try {
    await run(browser);
  } catch (error) {
    const pages = browser.contexts().flatMap((context) => context.pages());
    for (const [at, page] of pages.entries()) await shot(page, `failed-${at}`).catch(() => {});
    throw error;
  } finally {
    await browser.close();
  }
}

/**
 * A person with a browser of their own, in which everything that a page complains of is a failure.
 * @param {import("playwright-core").Browser} browser
 * @param {any} [options]
 */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  /** @type {string[]} */
  const complaints = [];
  context.on("weberror", (error) => complaints.push(String(error.error())));
  context.on("console", (message) => {
    if (message.type() === "error" && !/net::ERR|Failed to load resource|WebSocket connection/.test(message.text()))
      complaints.push(message.text());
  });
  context.on("dialog", (dialog) => void dialog.accept());
  // Whoever works on the pages tries them without building the program anew.
  const pages = process.env.TIMEBUS_PAGES;
  const fileOf = (/** @type {string} */ url) => join(pages ?? "", new URL(url).pathname.replace("/.gui/", ""));
  if (pages) await context.route(/\/(\.gui\/.+|sdk|sdk\/.+)\.(js|css)$/, (route) => route.fulfill({ path: fileOf(route.request().url()) }));
  return { context, complaints, page: await context.newPage() };
}

/** Signs in with a link that works once. @param {Peer} peer @param {import("playwright-core").Page} page */
export async function signIn(peer, page) {
  const { code } = (await http(peer, "/.sys/login-code", { method: "POST" })).json();
  await page.goto(`http://localhost:${peer.port}/#login=${code}`);
}

/** Installs an app that ships, and opens it. @param {Peer} peer @param {import("playwright-core").Page} page @param {string} app */
export async function openApp(peer, page, app) {
  const { apps } = JSON.parse(timebus(peer, "--json", "app", "ls"));
  // Whoever works on an app tries it without building the program anew.
  const from = process.env.TIMEBUS_APPS ? join(process.env.TIMEBUS_APPS, app) : app;
  if (!apps.some(({ alias }) => alias === app)) timebus(peer, "app", "install", from, "--yes");
  const { url } = JSON.parse(timebus(peer, "--json", "app", "open", app, "--print"));
  await page.goto(url);
}

/** @param {Peer} peer the one that invites @param {Peer} other @param {...string} args */
export function invite(peer, other, ...args) {
  const link = timebus(peer, "invite", ...args).split("\n")[0] ?? "";
  timebus(other, "join", link, "--yes");
}

/** Waits for something; asks again until it is so. @param {string} what @param {() => Promise<any> | any} ask */
export async function until(what, ask) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const is_so = await ask();
    if (is_so) return is_so;
    if (Date.now() > end) throw new Error(`this did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What is said for some seconds only is waited for from before it is said. @param {any} page @param {string | RegExp} words @param {() => Promise<any>} act */
export const told = (page, words, act) => Promise.all([page.getByText(words).waitFor(), act()]);

/** What a page heard is drawn. @param {any} page */
export const drawn = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)))));

/** @param {any} is @param {any} wanted @param {string} what */
export function same(is, wanted, what) {
  const [a, b] = [JSON.stringify(is), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`);
}

/** A picture for whoever looks, in the folder of TIMEBUS_SHOTS. @param {import("playwright-core").Page} page @param {string} name */
export async function shot(page, name) {
  const folder = process.env.TIMEBUS_SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** Finds what keeps people out who do not see or use a mouse. @param {import("playwright-core").Page} page @param {string} name */
export async function accessible(page, name) {
  // Pages allow no foreign script, so the checker comes in by the debugger.
  const source = need("node:fs").readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: source });
  const { result } = await session.send("Runtime.evaluate", {
    expression: "axe.run(document).then((r) => JSON.stringify(r.violations))",
    awaitPromise: true,
  });
  const serious = JSON.parse(result.value).filter(({ impact }) => impact === "serious" || impact === "critical");
  if (serious.length > 0)
    throw new Error(
      `${name}: ${serious
        .map(
          (found) =>
            `${found.id}: ${found.help} (${found.nodes
              .slice(0, 3)
              .map((node) => node.html.slice(0, 160))
              .join(" | ")})`,
        )
        .join("\n")}`,
    );
}
