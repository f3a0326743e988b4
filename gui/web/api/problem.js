/** Why a request failed, with what to do about it. */
export class Problem extends Error {
  /**
   * @param {number} status the HTTP status; 0 when there was no answer
   * @param {string} title the kind of problem in a few words
   * @param {string} detail what happened this time
   * @param {string} [fix] what to do next
   */
  constructor(status, title, detail, fix) {
    super(title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.fix = fix;
  }

  /**
   * The problem that something thrown is.
   * @param {unknown} error
   * @returns {Problem}
   */
  static of(error) {
    if (error instanceof Problem) return error;
    return new Problem(0, "the page failed", error instanceof Error ? error.message : String(error), "reload the page");
  }
}

/** The problem that the peer did not answer at all. */
export const unreachable = () =>
  new Problem(
    0,
    "the peer does not answer",
    "it was stopped, or the connection was lost",
    "`timebus up` starts it again; this page goes on by itself",
  );
