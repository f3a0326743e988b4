// What went wrong, in the words of the peer.

/** Something that the peer refused, or that could not be asked. */
export class Problem extends Error {
  /**
   * @param {number} status the HTTP status; 0 when nobody answered
   * @param {string} title
   * @param {string} [detail]
   * @param {string} [fix] what to do about it
   */
  constructor(status, title, detail = "", fix = undefined) {
    super(detail ? `${title}: ${detail}` : title);
    this.name = "Problem";
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.fix = fix;
  }

  /**
   * Whether asking again later may help.
   * @returns {boolean}
   */
  get isPassing() {
    return [0, 408, 425, 429, 500, 502, 503, 504, 507].includes(this.status);
  }
}

/** The peer did not answer. */
export const gone = () =>
  new Problem(0, "your peer does not answer", "it is stopped, or starting", "start it with `timebus up`");
