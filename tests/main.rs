//! Black-box tests: they start real peers and talk to them as users, programs and attackers would.
//!
//! Every peer listens on port 0 in a temporary home and dies with its handle. Nothing waits by sleeping: every read
//! has a deadline. What says "skipped" on stderr had no data or not the rights it needs.

// Helpers, which test nothing.
mod author;
mod braid;
mod data;
mod http;
mod meeting;
mod networks;
mod peer;
mod socket;

// Verbs, media types, listings, conditions, time travel and errors of one peer without disturbance.
mod store_over_http;
// Files of any size: streams, ranges, uploads in parts, damage, media that a browser must not run.
mod files;
// Data that nobody here wrote goes in and comes out the same: trees, histories, hostile files.
mod real_input;
// What a subscriber may rely on, over Braid, server-sent events, JSON lines and websocket.
mod subscriptions;
// Who may do what: hosts, origins, tokens, signatures, other users of the machine.
mod who;
// Several peers: invites, links that come and go, rights across peers, devices, real networks.
mod peers;
// Bytes on the wire: malformed, slow, large, pipelined requests, and HTTP/2.
mod protocol;
// Programs of other people that speak Braid.
mod clients;
// Folders that are kept the same as a subtree.
mod folders;
// Power cuts, full and failing disks, copied homes: nothing acknowledged is lost.
mod crash;
// A relay of one's own: where it is, and that it stops.
mod relay;
// Apps: install cards, origins, tokens, and what a real browser makes of the pages.
mod apps;
// The commands of README.md, run as they stand.
mod readme;
// Which test proves what of the threats that were thought of.
mod threats;
// What we would otherwise argue about: stray files, long lines, traces of one machine.
mod tidy;
