/** Why a request failed, with what to do about it. */
export class Problem extends Error {
  /**
   * @param {number} status the HTTP status; 0 when there was no answer
   * @param {string} title the kind of problem in a few words
   * @param {string} detail what happened this time
   * @param {string} [fix] what to do next
   * @param {{ path: string[], label: string }[]} [places] where to go instead
   */
  constructor(status, title, detail, fix, places = []) {
    super(title);
    this.places = places;
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

/** What the peer says to programs and on the command line, and what is pressed in the pages instead. @type {[RegExp, string][]} */
const IN_PAGES = [
  [/^ask again in a moment, or send `Prefer: wait=\d+`$/, "wait a moment: this goes on by itself as soon as they are reached"],
  [/^ask again later, or with `Prefer: wait=\d+`; `timebus peers` says who/, "wait, or try again later; People says who"],
  [/`timebus peers` shows who is known; `timebus follow KEY --as NAME` gives a name/, "People shows who is known"],
  [/`timebus peers` shows/, "People shows"],
  [/: `timebus held` shows it there/, "; it waits at Requests in their pages"],
  [/: timebus allow \S+$/, ", at Requests in their pages"],
  [/: timebus grant (.+) ([a-z0-9]{52}) --can (\w+)$/, "; in their pages it is at Rights, to $3 at $1, for your key $2"],
  [/: `timebus why write PATH` names him, and the command that he has to run/, "; Rights says who that is, under “Why, or why not”"],
  [/`timebus grants` lists/, "Rights lists"],
  [/`timebus invites` lists/, "Invite lists"],
  [/`timebus devices` lists/, "This peer lists"],
  [/`timebus community (list|members)` shows/, "People shows"],
  [/`timebus community show` tells its rules; ask/, "ask"],
  [/`timebus app ls` shows/, "Apps shows"],
  [/^PUT \S+ writes a value$/, ""],
];

/** What to do next, as it is said in the pages. @param {string | undefined} fix */
export const inPages = (fix) => fix && IN_PAGES.reduce((words, [said, instead]) => words.replace(said, instead), fix);

/** The problem that the peer did not answer at all. */
export const unreachable = () =>
  new Problem(
    0,
    "the peer does not answer",
    "it was stopped, or the connection was lost",
    "`timebus up` starts it again; this page goes on by itself",
  );
