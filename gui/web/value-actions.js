import { isElsewhere, parsePath, segmentOf, showPath } from "./path.js";

/** @typedef {import("./live-tree.js").TreeNode} TreeNode */
/** @typedef {import("./api/told.js").Content} Content */
/** @typedef {import("./api/told.js").Version} Version */

/** What can be done with a value, with a way back. */
export class ValueActions {
  /**
   * @param {import("./api/peer.js").Peer} peer
   * @param {import("./elements/notice-list.js").NoticeList} notices
   */
  constructor(peer, notices) {
    this.peer = peer;
    this.notices = notices;
  }

  /**
   * Reads a node's whole value, for an editor.
   * @param {TreeNode} node
   */
  read(node) {
    return node.isInside ? this.peer.readPart(node.path, node.inside) : this.peer.read(node.path);
  }

  /**
   * @param {TreeNode} node
   * @param {Content} content
   * @param {Version} base
   */
  async save(node, content, base) {
    const version = node.isInside
      ? await this.peer.patch(node.path, "replace", node.inside, JSON.parse(content.body), base)
      : await this.peer.put(node.path, content, base);
    this.#offerUndo(`Saved ${name(node)}. It is on disk.`, node.path, version);
  }

  /**
   * @param {TreeNode} node what to add to
   * @param {string} names
   * @param {Content} content
   */
  async add(node, names, content) {
    if (node.isInside || node.isList) {
      const value = JSON.parse(content.body);
      const steps = node.isList ? [...node.inside, "-"] : [...node.inside, ...names.split("/").filter(Boolean)];
      const version = await this.peer.patch(node.path, "add", steps, value);
      this.#offerUndo(`Added to ${name(node)}. It is on disk.`, node.path, version);
      return;
    }
    const path = [...node.path, ...parsePath(names).map(segmentOf)];
    const version = await this.peer.put(path, content);
    this.#offerUndo(`Added ${showPath(path)}. It is on disk.`, path, version);
  }

  /**
   * @param {TreeNode} node
   * @param {Version} base
   */
  async remove(node, base) {
    // By one click beside another one nobody empties what is not his alone, or much of it.
    const much = node.hasParts ? `${name(node)} and all below it` : name(node);
    const for_all = isElsewhere(node.path) ? ", for all who read it" : "";
    if ((node.hasParts || for_all) && !confirm(`Delete ${much}${for_all}? What is there stays in the history.`)) return;
    const version = node.isInside
      ? await this.peer.patch(node.path, "remove", node.inside, undefined, base)
      : await this.peer.remove(node.path, base);
    this.#offerUndo(`Deleted ${name(node)}.`, node.path, version);
  }

  /**
   * @param {string} text
   * @param {import("./path.js").Path} path
   * @param {Version} version
   */
  #offerUndo(text, path, version) {
    // Several heads do not say which change was ours; the last one is.
    const change = version.length === 1 ? version[0] : undefined;
    this.notices.say(text, {
      label: "Undo",
      run: async () => {
        await this.peer.undo(path, change);
        this.notices.say("Undone.");
      },
    });
  }
}

/** @param {TreeNode} node */
const name = (node) => (node.isInside ? `${showPath(node.path)} [${node.inside.join(", ")}]` : showPath(node.path));
