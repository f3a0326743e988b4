// What the peer tells and is told, in types. There is nothing to run here.

/** @typedef {import("../path.js").Path} Path */
/** @typedef {string[]} Version */
/** @typedef {{ value: any, version: Version, next: string | null }} Listing */
/** @typedef {{ text: string, type: string, version: Version, truncated: boolean }} Reading */
/** @typedef {{ version: string, id: string, author: string, author_name: string, writer?: string, time_ms: number, parents: string[], paths: string[], paths_total: number }} Change */
/** @typedef {{ value: any, id: string, author: string, author_name: string, writer?: string, time_ms: number }} Side */
/** @typedef {{ path: string, values: Side[] }} Conflict */
/** @typedef {{ path: string, value: any, version: string, author: string, author_name: string, writer?: string, time_ms: number }} Authored */
/**
 * @typedef {object} Status
 * @property {string} version
 * @property {string} id
 * @property {string} name
 * @property {string} device
 * @property {number} uptime_ms
 * @property {string[]} http
 * @property {string} home
 * @property {number} changes
 * @property {number} log_bytes
 * @property {number} index_bytes
 * @property {number} subscriptions
 * @property {number} connections
 * @property {{ replayed: number, torn_bytes: number, damaged: number, rebuilt: string | null, new_device: boolean }} opened
 */
/** @typedef {{ words: string, why: string, path: string, may: string[], of: string }} Want */
/**
 * An app: one that could be installed, or one that is.
 * @typedef {object} App
 * @property {string} alias
 * @property {string} name
 * @property {string} title
 * @property {string} about
 * @property {string | null} icon a `data:` URL
 * @property {string} version
 * @property {{ kind: string, words: string }} source
 * @property {Want[]} may
 * @property {string[]} network
 * @property {string | null} [installed] the version that is installed, of one that is looked at
 * @property {Want[]} [asks_more]
 * @property {string[]} [asks_hosts]
 * @property {string} [url]
 * @property {boolean} [is_dev]
 * @property {string | null} [problem]
 * @property {{ version: string, asks_more?: Want[] } | null} [update]
 * @property {string} [persona] whose app it is, if it is one of a persona
 */
/** @typedef {{ builtin: string } | { space: string } | { installed: string }} AppSource */
/**
 * A space of somebody else, as it is here.
 * @typedef {object} Space
 * @property {string} space
 * @property {string} name
 * @property {string | null} petname
 * @property {boolean} is_followed
 * @property {boolean} is_community whether it is a community that the owner is in
 * @property {string | null} invite
 * @property {boolean} is_waiting
 * @property {string} state
 * @property {number} [peers]
 * @property {string | null} [from] who gives it, in words
 * @property {number} [seen_ms]
 * @property {number} [next_try_ms]
 * @property {string} [problem]
 * @property {Rebind | null} [rebind] what is said of somebody who lost his keys
 * @property {{ path: string, says: string }[]} [taken_back] what may not be read any more, and is here as it was before
 */
/**
 * Who a contact is said to be now, and whether his name was moved.
 * @typedef {object} Rebind
 * @property {string} space
 * @property {string} name
 * @property {string[]} says in words
 * @property {boolean} disputed
 * @property {string | null} now the key to which his name can be moved
 * @property {{ to: string, name: string, at_ms: number } | null} moved
 */
/**
 * A community that the owner is in.
 * @typedef {object} Community
 * @property {string} community its key
 * @property {string | null} title
 * @property {string | null} petname
 * @property {{ about: string, board: string } | null} rules
 * @property {"organizer" | "member" | "waiting" | "elsewhere" | "removed"} you
 * @property {string | null} name the name that the owner carries there
 * @property {number} members
 * @property {number} connected
 * @property {boolean} only_organizer whether nobody else organizes it
 * @property {{ files: number, bytes: number, nowhere: number, until_ms: number, leaves: boolean } | null} handing what others are still to
 *   get of what is held here for it no longer
 */
/** @typedef {{ name: string, key: string, you: boolean, organizer: boolean, connected: boolean, seen_ms: number, stores: number }} Member */
/** @typedef {{ path: string, text: string, at_ms: number | null, by: string | null, you: boolean }} Notice */
/**
 * A file that comes or goes, or of which the owner said something.
 * @typedef {object} Transfer
 * @property {string} hash
 * @property {string | null} path
 * @property {"coming" | "waiting" | "paused" | "cancelled" | "going"} state
 * @property {number} bytes_total
 * @property {number} bytes_here
 * @property {string} text from whom it comes and how fast, in words
 * @property {number} readers
 * @property {number} bytes_given
 * @property {number} given_per_s
 * @property {{ name: string, bytes: number }[]} sources
 * @property {{ name: string, bytes: number, has_bytes: number }[]} given_to
 * @property {number | null} left_ms how long the rest takes
 * @property {string | null} problem
 */
/**
 * Files that are kept and on their way.
 * @typedef {object} Files
 * @property {number} bytes
 * @property {number | null} free_bytes
 * @property {{ up: number | null, down: number | null }} limits bytes a second
 * @property {{ bytes: number, since_ms: number, bytes_per_s: number }} given
 * @property {string | null} problem why it is not known what the owner said of files
 * @property {Upload[]} uploads
 * @property {Transfer[]} transfers
 * @property {Came[]} came the latest first
 */
/**
 * A file that came from others.
 * @typedef {object} Came
 * @property {string} hash
 * @property {string | null} path
 * @property {number} bytes_total
 * @property {{ name: string, bytes: number }[]} sources
 * @property {number} took_ms
 * @property {number} at_ms
 */
/**
 * A file that is being put here, or was to be.
 * @typedef {object} Upload
 * @property {string} id
 * @property {string} path
 * @property {number} bytes_here
 * @property {number | null} bytes_total
 * @property {number} changed_ms
 */
/**
 * Another peer.
 * @typedef {object} Neighbour
 * @property {string} id
 * @property {string} [name]
 * @property {string} [space]
 * @property {string | null} petname
 * @property {string} state
 * @property {string} [way]
 * @property {number} [seen_ms]
 * @property {number} [received]
 * @property {number} [sent]
 * @property {number} [next_try_ms]
 * @property {boolean} own whether it is one of the owner's
 * @property {{ by: string }} [thrown_out] who said that it is a device of his no more
 * @property {boolean} gone whether nobody waits for it any more
 */
/**
 * An invite that was given.
 * @typedef {object} Invite
 * @property {string} id
 * @property {string} role
 * @property {string} path
 * @property {boolean} [only] whether the path is kept apart, and all that may be read
 * @property {string} [space] where it leads, if not into the own space
 * @property {number} uses
 * @property {number} uses_max
 * @property {number} expires_ms
 * @property {number} created_ms
 * @property {number} [depth] how many levels of guests whoever takes it may bring
 * @property {string[]} [addresses] where it leads, only when it was just made
 * @property {string} note
 * @property {string} state
 * @property {number} bytes_max how much may be written by it, 0 for no limit
 * @property {{ space?: string, name?: string, called?: string, at_ms?: number }[]} redeemed `called`: as they are called here
 * @property {string} [link] only when it was just made
 * @property {string | null} [http_link] the same for any browser, where the peer has a name
 * @property {string[]} [qr] rows of 0 and 1
 */
/**
 * What an invite says, and what became of it.
 * @typedef {object} InviteCard
 * @property {string} space
 * @property {string} name
 * @property {string} inviter
 * @property {string} role
 * @property {string} path
 * @property {number} bytes_max
 * @property {number} expires_ms
 * @property {string} paint
 * @property {{ name: string, version: string } | null} app
 * @property {boolean} joined
 * @property {Space} [status]
 */
/**
 * What an invite shall be.
 * @typedef {object} Wish
 * @property {string} role
 * @property {string} [path]
 * @property {string} [space] where it leads, if not into the own space
 * @property {number} [uses]
 * @property {number} [depth] how many levels of guests its bearer may bring
 * @property {number} [bytes_max]
 * @property {number} [expires_ms]
 * @property {string} [note]
 * @property {string} [paint]
 * @property {string} [app]
 */
/** @typedef {{ id: string, name: string, says: string, bytes: number, used: number, changes: number, files: number, file_bytes: number, is_whole: boolean, space: string | null }} Held */
/** @typedef {{ key: string, name: string, bytes: number, changes: number, requests: number, bytes_max: number | null }} Cost */
/**
 * A right that was given.
 * @typedef {object} Grant
 * @property {string} id
 * @property {string} for the key that has it, or `anyone`
 * @property {string | null} device what that key is called
 * @property {string} name whose it is
 * @property {string[]} can
 * @property {string} path
 * @property {boolean} deep
 * @property {number} bytes_max 0 for no limit
 * @property {number} not_after_ms 0 for always
 * @property {number} depth
 * @property {string} label
 * @property {string | null} instead_of
 * @property {string} by_name
 * @property {string | null} parent the one that its giver has
 * @property {number} time_ms
 * @property {boolean} live
 * @property {string[]} why it is not in force
 * @property {string} says
 */
/** @typedef {{ device: string, name: string, key_name: string, this: boolean }} Device */
/** @typedef {{ device: string, name: string }} Removed a device that goes, or stays */
/**
 * What removing a device does: how many changes are hidden, the devices that it made, and who came in by way of it and stays.
 * @typedef {{ name: string, hidden: number, also: Removed[], stay: Removed[], guests: string[] }} Removal `also`, `stay`: the devices that it made
 */
/**
 * Two or more keys are said to be the root of one space.
 * @typedef {object} Dispute
 * @property {string} space
 * @property {string} name whose it is
 * @property {boolean} own whether it is the own one
 * @property {string[]} roots
 * @property {"words" | "guardians" | "nobody"} decided_by
 */
/** @typedef {{ path: string, reads: boolean, readers: { who: string, name: string, can: string }[] }} Apart a path that is kept apart */
/** @typedef {{ who: string, path: string, can: string, bytes_max: number, until_ms: number, preview?: boolean }} GrantWish */
/** @typedef {{ says: string[], hidden: number, changes: { paths: string[], name: string }[] }} Revoked */
/** @typedef {{ allowed: boolean, says: string[], fix: string | null, ask: { who: string, command: string } | null }} Reasons */
/**
 * A notice that somebody left.
 * @typedef {object} Left
 * @property {string} kind
 * @property {string} target
 * @property {string} source
 * @property {any} [body]
 * @property {string} from the key that signed it
 * @property {string} slot
 * @property {string} space whose it says it is
 * @property {string} name
 * @property {number} at_ms
 * @property {boolean | null} confirmed
 */
/** @typedef {{ notices: Left[], left_out: number, closed: boolean, bytes: number, bytes_max: number }} Inbox */
/** @typedef {{ name: string, help: string, labels: string, value: number }} Metric */
/** @typedef {{ body: string, type: string }} Content a value as it is sent: JSON, or text of a media type */

export {};
