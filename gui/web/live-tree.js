// A tree of values below a path, kept up to date. It knows what is looked at, page by page, and never asks for
// everything. It shows nothing: value-tree.js does.

import { PAGE } from "./api/peer.js";
import { Problem } from "./api/problem.js";
import { later } from "./dom.js";
import { compareNames, isElsewhere, isName, parsePath, segmentOf, showPath } from "./path.js";

/** What the peer says of a path where nothing is, among other things that are not found. */
const ABSENT = "there is nothing here";

/** @typedef {import("./api/peer.js").Peer} Peer */
/** @typedef {import("./api/told.js").Version} Version */
/** @typedef {import("./path.js").Path} Path */
/** @typedef {import("./api/watch-socket.js").WatchEvent} WatchEvent */
/** @typedef {string | number} Step a member's name or an element's index */

/** How long changes are gathered before something is read again. */
const REREAD_PAUSE_MS = 150;

/** A node that is looked at. */
export class TreeNode {
  /**
   * @param {TreeNode | null} parent
   * @param {Step} step what leads here from the parent
   * @param {Path} path where it is, or the list that it is in
   * @param {Step[]} inside steps from `path`, for what is inside of a list
   */
  constructor(parent, step, path, inside) {
    this.parent = parent;
    this.step = step;
    this.path = path;
    this.inside = inside;
    /** @type {"loading" | "present" | "absent" | "failed"} */
    this.state = "loading";
    /** @type {Problem | null} */
    this.problem = null;
    /** Whether there are parts; `value` counts when there are none. */
    this.hasParts = false;
    /** Values below, roughly; `null` when that is not known. @type {number | null} */
    this.count = null;
    /** @type {any} */
    this.value = undefined;
    /** Known once the parts were read. @type {boolean | null} */
    this.isList = null;
    /** The parts that were read, in order. @type {TreeNode[] | null} */
    this.children = null;
    /** Where the next page of parts begins. @type {string | null} */
    this.next = null;
    this.isOpen = false;
    this.isBusy = false;
  }

  /** @param {Step} step */
  child(step) {
    return this.children?.find((child) => child.step === step) ?? null;
  }

  /** Whether it is inside of a list, where there are no names. */
  get isInside() {
    return this.inside.length > 0;
  }
}

/**
 * What a member in a listing is.
 * @param {any} value
 */
function outline(value) {
  const parts =
    typeof value === "object" &&
    value !== null &&
    typeof value["@more"] === "number" &&
    Object.keys(value).every((name) => name === "@more" || name === "@list");
  return parts ? { hasParts: true, count: value["@more"], value: undefined } : { hasParts: false, count: null, value };
}

/**
 * What a whole value is.
 * @param {any} value
 */
function outlineOfWhole(value) {
  const special = typeof value === "object" && value !== null && ("@bytes" in value || "@blob" in value);
  const parts = typeof value === "object" && value !== null && !special ? Object.keys(value).length : 0;
  return parts > 0
    ? { hasParts: true, count: countLeaves(value), value: undefined }
    : { hasParts: false, count: null, value };
}

/**
 * Whether an object is kept as one value: one of its members has a name that no path can have, so nothing is below it.
 * @param {any} value
 */
const isKeptWhole = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !Object.keys(value).every(isName);

/** What a whole value at a path is. @param {any} value */
const outlineAtPath = (value) => (isKeptWhole(value) ? { hasParts: false, count: null, value } : outlineOfWhole(value));

/** @param {any} value @returns {number} */
function countLeaves(value) {
  if (typeof value !== "object" || value === null) return 1;
  const parts = Object.values(value);
  return parts.length === 0 ? 1 : parts.reduce((sum, part) => sum + countLeaves(part), 0);
}

export class LiveTree {
  /** @type {(() => void) | null} */
  #unwatch = null;
  /** Nodes whose parts have to be read again. @type {Set<TreeNode>} */
  #stale = new Set();
  /** Closed nodes whose count has to be read again. @type {Set<TreeNode>} */
  #uncounted = new Set();
  #over = false;
  #isBeginning = false;
  #reread = later(REREAD_PAUSE_MS, () => void this.#readAgain());

  /**
   * @param {Peer} peer
   * @param {Path} path
   * @param {{
   *   changed: (node: TreeNode, live: boolean) => void,
   *   heard: (event: WatchEvent) => void,
   * }} told `changed`: a node looks different now, `live` because somebody wrote; `heard`: something happened below
   */
  constructor(peer, path, told) {
    this.peer = peer;
    this.told = told;
    this.root = new TreeNode(null, "", path, []);
    this.root.isOpen = true;
    /** What has been seen. @type {Version} */
    this.version = [];
  }

  /** Reads the root and begins to watch. */
  async start() {
    this.root.state = "loading";
    this.told.changed(this.root, false);
    await this.#begin();
  }

  async #begin() {
    this.#isBeginning = true;
    try {
      await this.#readAndWatch();
    } finally {
      this.#isBeginning = false;
    }
  }

  async #readAndWatch() {
    const { root } = this;
    /** @type {Version | null} */
    let from = null;
    try {
      from = await this.#readParts(root, false);
    } catch (error) {
      const problem = Problem.of(error);
      const denied = await this.#notGiven(problem);
      if (this.#over) return;
      // That nobody is known by the name of a space is another thing than that nothing is there.
      if (denied || problem.status !== 404 || problem.title !== ABSENT) {
        this.#fail(denied ?? problem);
        return;
      }
      root.state = "absent";
    }
    if (this.#over) return;
    this.#unwatch?.();
    this.version = from ?? [];
    this.told.changed(root, false);
    this.#unwatch = this.peer.watch(root.path, from, (event) => this.#take(event));
  }

  /** Says what is wrong with the root, and looks again when somebody else may have changed that. @param {Problem} problem */
  #fail(problem) {
    const { root } = this;
    if (root.state !== "failed" || JSON.stringify(root.problem) !== JSON.stringify(problem)) {
      // What is shown of a state is drawn once.
      root.state = "loading";
      this.told.changed(root, false);
      Object.assign(root, { state: "failed", problem });
      this.told.changed(root, false);
    }
    if (this.#unwatch || !isElsewhere(root.path) || ![403, 404, 503].includes(problem.status)) return;
    const stop = this.peer.heed(["spaces", `grants/${root.path.join("/")}`], () => {
      if (root.state === "failed" && !this.#isBeginning && !this.#over) void this.#begin();
    });
    this.#unwatch = () => {
      this.#unwatch = null;
      stop();
    };
  }

  /**
   * What to say of a path of somebody else that may not be read, if it is one: the peer tells of such a path only that nothing of
   * it is here, and whoever asks wants to know why.
   * @param {Problem} problem @returns {Promise<Problem | null>}
   */
  async #notGiven({ status, title }) {
    const { path } = this.root;
    if (!isElsewhere(path) || !(status === 403 || (status === 404 && title === ABSENT))) return null;
    const told = await this.peer.why("read", path, "").catch(() => null);
    if (!told || told.allowed) return null;
    const space = path[0] ?? "";
    const given = (await this.peer.apart(path).catch(() => [])).filter(({ reads }) => reads);
    const who = told.ask?.who ?? "its owner";
    const places = given.map((one) => ({ path: [space, ...parsePath(one.path)], label: one.path }));
    return places.length > 0
      ? new Problem(403, "this is what was given to you here", `the rest of the space of ${who} was not given to you`, `ask ${who} for a link to more of it`, places)
      : new Problem(
          403,
          "not given to you, or nothing is there",
          `you may not read ${showPath(path.slice(1))} of ${who}, so your peer cannot know what is there`,
          `ask ${who} for a link to this path; once you have it, this page shows what is there`,
        );
  }

  /** Ends the watch. */
  stop() {
    this.#over = true;
    this.#unwatch?.();
  }

  /** @param {TreeNode} node */
  async open(node) {
    if (!node.hasParts || node.isOpen) return;
    node.isOpen = true;
    if (!node.children) await this.#readShown(node, false);
    else this.told.changed(node, false);
  }

  /** @param {TreeNode} node */
  close(node) {
    node.isOpen = false;
    // What is not looked at is not kept up to date.
    node.children = null;
    node.next = null;
    this.told.changed(node, false);
  }

  /**
   * Reads one page more of a node's parts.
   * @param {TreeNode} node
   */
  async more(node) {
    await this.#readShown(node, true);
  }

  /**
   * Reads a node's parts and shows that, also when it fails.
   * @param {TreeNode} node
   * @param {boolean} more
   */
  async #readShown(node, more) {
    node.isBusy = true;
    node.problem = null;
    this.told.changed(node, false);
    try {
      await this.#readParts(node, more);
    } catch (error) {
      node.problem = Problem.of(error);
    }
    node.isBusy = false;
    if (!this.#over) this.told.changed(node, false);
  }

  /**
   * @param {TreeNode} node
   * @param {boolean} more whether to add a page, not read what is there again
   * @returns {Promise<Version>}
   */
  async #readParts(node, more) {
    if (node.isInside) {
      const part = await this.peer.readPart(node.path, node.inside);
      if (part.truncated)
        throw new Problem(
          0,
          "this element is too large to show",
          "it has more than 256 kB",
          `\`timebus get ${showPath(node.path)}\` prints the whole list`,
        );
      const value = JSON.parse(part.text);
      this.#set(node, outlineOfWhole(value), false);
      this.#setParts(node, value, outlineOfWhole, null, false);
      return part.version;
    }
    const wanted = more ? PAGE : Math.max(PAGE, node.children?.length ?? 0);
    const page = await this.peer.list(node.path, { after: more ? node.next : null, limit: wanted });
    if (typeof page.value === "object" && page.value !== null && !isSpecial(page.value) && !isKeptWhole(page.value)) {
      const names = Object.keys(page.value);
      if (names.length > 0 || more) {
        node.hasParts = true;
        node.state = "present";
        this.#setParts(node, page.value, outline, page.next, more);
        return page.version;
      }
    }
    this.#set(node, { hasParts: false, count: null, value: page.value }, false);
    return page.version;
  }

  /**
   * @param {TreeNode} node
   * @param {any} parts
   * @param {typeof outline} look
   * @param {string | null} next
   * @param {boolean} more
   */
  #setParts(node, parts, look, next, more) {
    node.isList = Array.isArray(parts);
    node.next = next;
    const old = new Map((node.children ?? []).map((child) => [child.step, child]));
    const live = node.children !== null;
    const offset = more && node.isList ? (node.children?.length ?? 0) : 0;
    /** @type {[Step, any][]} */
    const entries = node.isList
      ? parts.map((/** @type {any} */ part, /** @type {number} */ at) => [at + offset, part])
      : Object.entries(parts).sort(([a], [b]) => compareNames(a, b));
    const read = entries.map(([step, part]) => {
      const child = old.get(step);
      const now = look(part);
      if (child) {
        this.#set(child, now, true);
        // What is inside of a list is not told one by one, so what is open there is read again with the list.
        if (child.isInside && child.isOpen && child.hasParts) this.#stale.add(child);
        return child;
      }
      const added = this.#child(node, step);
      Object.assign(added, now, { state: "present" });
      // Once it is shown, it flashes.
      if (live && !more) setTimeout(() => this.told.changed(added, true));
      return added;
    });
    if (this.#stale.size > 0) this.#reread();
    node.children = more ? [...(node.children ?? []), ...read.filter((child) => !old.has(child.step))] : read;
  }

  /**
   * @param {TreeNode} parent
   * @param {Step} step
   */
  #child(parent, step) {
    const inside = parent.isInside || parent.isList;
    return inside
      ? new TreeNode(parent, step, parent.path, [...parent.inside, step])
      : new TreeNode(parent, step, [...parent.path, segmentOf(String(step))], []);
  }

  /**
   * Sets what a node is, and says so if that is new.
   * @param {TreeNode} node
   * @param {{ hasParts: boolean, count: number | null, value: any }} now
   * @param {boolean} live
   */
  #set(node, now, live) {
    const differs =
      node.state !== "present" ||
      node.hasParts !== now.hasParts ||
      node.count !== now.count ||
      JSON.stringify(node.value) !== JSON.stringify(now.value);
    node.state = "present";
    if (!differs) return;
    Object.assign(node, now);
    if (!now.hasParts) {
      node.children = null;
      node.next = null;
      node.isList = null;
      if (node !== this.root) node.isOpen = false;
    }
    this.told.changed(node, live);
  }

  /** @param {WatchEvent} event */
  #take(event) {
    if (this.#over) return;
    if (event.version && !event.more) this.version = event.version;
    if (event.problem) {
      this.root.problem = event.problem;
      this.told.changed(this.root, false);
    } else if (event.put !== undefined || event.delete !== undefined || event.splice !== undefined || event.edit !== undefined) {
      this.#apply(event);
      this.told.heard(event);
    } else if (event.snapshot !== undefined) {
      // Its value may be large and is only a page of what is shown here; what is open is read again instead.
      if (event.absent) this.#vanish();
      else this.#rereadOpen(this.root);
      this.told.heard(event);
    }
  }

  #vanish() {
    const { root } = this;
    if (root.state === "absent") return;
    Object.assign(root, {
      state: "absent",
      children: null,
      next: null,
      value: undefined,
      hasParts: false,
      isList: null,
    });
    this.told.changed(root, true);
  }

  /** @param {TreeNode} node */
  #rereadOpen(node) {
    if (node === this.root || node.children) this.#stale.add(node);
    for (const child of node.children ?? []) this.#rereadOpen(child);
    this.#reread();
  }

  /** @param {WatchEvent} event */
  #apply(event) {
    const { root } = this;
    const text = event.put ?? event.delete ?? event.splice ?? event.edit ?? "/";
    // In the space of somebody else paths are named from its root, without the key.
    const names = text.split("/").filter(Boolean);
    const skipped = isElsewhere(root.path) && !isElsewhere(names) ? root.path.length - 1 : root.path.length;
    /** @type {Step[]} */
    let steps =
      event.at ??
      names
        .slice(skipped)
        .map((segment) => (segment.startsWith("@@") ? segment.slice(1) : segment));
    if (event.at && event.splice !== undefined) steps = event.at;
    if (root.state !== "present") {
      this.#stale.add(root);
      this.#reread();
      return;
    }
    let node = root;
    for (const [at, step] of steps.entries()) {
      if (!node.children) break;
      if (node.isList || node.isInside) {
        this.#stale.add(node);
        this.#reread();
        return;
      }
      const child = node.child(step);
      if (!child) {
        this.#appear(node, step, at === steps.length - 1 ? event : null);
        return;
      }
      node = child;
      if (at === steps.length - 1) {
        this.#land(node, event);
        return;
      }
    }
    if (steps.length === 0) {
      this.#land(root, event);
      return;
    }
    // Somewhere below a closed node.
    this.told.changed(node, true);
    if (node.hasParts) this.#uncounted.add(node);
    else this.#stale.add(node);
    this.#reread();
  }

  /**
   * Something happened below a name that is not shown.
   * @param {TreeNode} node
   * @param {Step} step
   * @param {WatchEvent | null} event
   */
  #appear(node, step, event) {
    if (!event || event.put === undefined || !node.children || typeof step !== "string") {
      // A removal, or something deeper, behind the page that is shown.
      if (node.next === null) this.#stale.add(node);
      this.#reread();
      return;
    }
    const place = node.children.findIndex((child) => compareNames(String(child.step), step) > 0);
    if (place < 0 && node.next !== null) return;
    const added = this.#child(node, step);
    Object.assign(added, outlineAtPath(event.value), { state: "present" });
    node.children.splice(place < 0 ? node.children.length : place, 0, added);
    this.told.changed(node, false);
    this.told.changed(added, true);
  }

  /**
   * Something happened at a node that is shown.
   * @param {TreeNode} node
   * @param {WatchEvent} event
   */
  #land(node, event) {
    if (event.splice !== undefined) {
      if (node.children || node === this.root) this.#stale.add(node);
      else this.#uncounted.add(node);
      this.told.changed(node, true);
      this.#reread();
      return;
    }
    if (event.edit !== undefined) {
      // Only the beginning of a text is shown, so it is read again.
      this.#stale.add(node);
      this.told.changed(node, true);
      this.#reread();
      return;
    }
    if (event.put !== undefined) {
      const now = outlineAtPath(event.value);
      if (now.hasParts && (node.children || node === this.root)) {
        this.#stale.add(node);
        this.#reread();
      }
      this.#set(node, now, true);
      return;
    }
    const { parent } = node;
    if (!parent?.children) {
      this.#vanish();
      return;
    }
    parent.children = parent.children.filter((child) => child !== node);
    this.told.changed(parent, parent !== this.root);
    if (parent.children.length === 0) {
      // Whether an empty object or nothing is left, only the peer knows.
      this.#stale.add(parent);
      this.#reread();
    }
  }

  async #readAgain() {
    const stale = [...this.#stale];
    const uncounted = [...this.#uncounted];
    this.#stale.clear();
    this.#uncounted.clear();
    for (const node of stale) {
      if (this.#over) return;
      if (node !== this.root && !this.#isShown(node)) continue;
      try {
        await this.#readParts(node, false);
        node.problem = null;
      } catch (error) {
        const problem = Problem.of(error);
        if (problem.status === 404 && node === this.root) {
          this.#vanish();
          continue;
        }
        if (problem.status === 404 && node.parent) this.#stale.add(node.parent);
        else node.problem = problem;
      }
      this.told.changed(node, false);
    }
    for (const node of uncounted) {
      if (this.#over) return;
      if (this.#isShown(node) && !node.children) await this.#count(node);
    }
    if (this.#stale.size > 0) this.#reread();
  }

  /** @param {TreeNode} node */
  #isShown(node) {
    for (let at = node; at.parent; at = at.parent) {
      if (!at.parent.children?.includes(at)) return false;
    }
    return true;
  }

  /**
   * Reads again how much is below a closed node, as a page of one behind its neighbour.
   * @param {TreeNode} node
   */
  async #count(node) {
    const { parent } = node;
    if (!parent?.children || node.isInside) return;
    const before = parent.children[parent.children.indexOf(node) - 1];
    try {
      const page = await this.peer.list(parent.path, { after: before ? String(before.step) : null, limit: 1 });
      if (Object.hasOwn(page.value, String(node.step))) this.#set(node, outline(page.value[node.step]), false);
      else this.#stale.add(parent);
    } catch {
      // A count that is a little old does no harm; the next change tries again.
    }
  }
}

/** @param {any} value */
const isSpecial = (value) => "@bytes" in value || "@blob" in value;
