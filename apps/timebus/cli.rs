//! What can be typed.

#![allow(rustdoc::broken_intra_doc_links, reason = "these comments are help texts, in which brackets are brackets")]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod app;
mod cluster;
mod community;
mod copies;
mod history;
mod keys;
mod lab;
mod peer;
mod people;
mod personas;
mod rights;
mod values;

pub(crate) use app::{App, AppAction};
pub(crate) use cluster::{Cluster, ClusterAction};
pub(crate) use community::{Community, CommunityVerb, RuleArgs, Switch};
pub(crate) use copies::{Backup, Export, Folder, Format, Fsck, Import, Restore};
pub(crate) use history::{Blame, Conflicts, Diff, Log, Undo};
pub(crate) use keys::{Guardians, GuardiansAction, Kit, Rebind, Recover, Rotate, Vouch};
pub(crate) use lab::{Feed, Groups, Lab, LabVerb, Swarm};
pub(crate) use peer::{Completions, Doctor, Down, Gen, Id, LogFormat, Net, Relay, Status, Up};
pub(crate) use people::{
    Answer, Block, Can, Devices, DevicesAction, Files, FilesVerb, Find, Follow, Invite, Invites, InvitesAction, Join, Mute, Peers, PeersAction,
    PublicDht, Role, Unblock, Unfollow, Unmute,
};
pub(crate) use personas::{Personas, PersonasAction};
pub(crate) use rights::{
    Allow, Asked, Grant, Grants, HeldArgs, Inbox, InboxVerb, Limits, May, Private, Quarantine, QuarantineAction, Refs, Revoke, Top, Why, WhyHidden,
};
pub(crate) use values::{Conditions, Edit, Get, Inc, Ls, Mv, Patch, Post, Put, Rm, TreeArgs, View, Watch};

/// A tree of values that you keep, share and watch: a local-first hierarchical key-value store
#[derive(Debug, Parser)]
#[command(
    name = "timebus",
    version,
    max_term_width = 100,
    after_help = "\
Without a verb, timebus starts your peer, like `timebus up`.

Examples:
  timebus                                          start, and print a link to open
  timebus put /notes/hi '\"hello\"'                  write a value
  timebus get /notes                               read it back
  timebus watch /notes                             see every change as it happens
  timebus invite                                   a link that lets somebody read along
  timebus join LINK                                read along with somebody

A path that begins with @ is of another space: @alice/notes, by the name you gave it or by its key.

Exit codes: 0 done, 1 refused or absent, 2 usage, 3 peer not reachable, 4 conflict.
Verbs about other peers need a running one; all others work without it, too."
)]
pub(crate) struct Cli {
    /// Folder of the peer [env: TIMEBUS_HOME] [default: timebus in the platform's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,

    /// Be one of your personas, see `timebus personas`: every verb about data, people, rights and keys takes it
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) persona: Option<String>,

    /// Print JSON for programs, also for errors (on stderr)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(Up),
    Down(Down),
    Status(Status),
    Doctor(Doctor),
    Get(Get),
    Put(Put),
    Patch(Patch),
    Post(Post),
    Inc(Inc),
    Mv(Mv),
    Rm(Rm),
    Ls(Ls),
    Tree(TreeArgs),
    Edit(Edit),
    Watch(Watch),
    Log(Log),
    Diff(Diff),
    Blame(Blame),
    Conflicts(Conflicts),
    Undo(Undo),
    Import(Import),
    Export(Export),
    Folder(Folder),
    Files(Files),
    Id(Id),
    Kit(Kit),
    Rotate(Rotate),
    Guardians(Guardians),
    Recover(Recover),
    Vouch(Vouch),
    Rebind(Rebind),
    Personas(Personas),
    Backup(Backup),
    Restore(Restore),
    Fsck(Fsck),
    Gen(Gen),
    Invite(Invite),
    Join(Join),
    Invites(Invites),
    Private(Private),
    Community(Community),
    Inbox(Inbox),
    Refs(Refs),
    Peers(Peers),
    Find(Find),
    PublicDht(PublicDht),
    Follow(Follow),
    Unfollow(Unfollow),
    Block(Block),
    Unblock(Unblock),
    Mute(Mute),
    Unmute(Unmute),
    Devices(Devices),
    Grant(Grant),
    Grants(Grants),
    Revoke(Revoke),
    Why(Why),
    WhyHidden(WhyHidden),
    Quarantine(Quarantine),
    Held(HeldArgs),
    Allow(Allow),
    Limits(Limits),
    Top(Top),
    App(App),
    Cluster(Cluster),
    Lab(Lab),
    Relay(Relay),
    Completions(Completions),
}

impl Default for Verb {
    fn default() -> Self {
        // As if it had been typed, so that its options have the values that its help says.
        let cli = Cli::try_parse_from(["timebus", "up"]).expect("`up` can be said without arguments");
        cli.verb.expect("a verb was named")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn reads_groups_and_spans_of_a_lab() {
        let parse = |args: &[&str]| match Cli::try_parse_from([&["timebus", "lab"], args].concat()).map(|cli| cli.verb) {
            Ok(Some(Verb::Lab(lab))) => Ok((lab.partition.map(|groups| groups.0), lab.skew.map(|span| span.0))),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(parse(&["--partition", "a,bob/c", "--skew", "5m"]), Ok((Some(vec![vec![0, 1], vec![2]]), Some(300_000))));
        assert_eq!(parse(&["--skew", "10ms"]), Ok((None, Some(10))));
        for bad in [["--partition", "a,z"], ["--partition", "a//b"], ["--skew", "5"], ["--skew", "-5m"], ["--skew", "99999999999d"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        fn look(verb: &clap::Command, above: &str) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = format!("{above} {}", verb.get_name());
            assert!(help.contains("Examples:") && help.contains(&name), "{name}");
            verb.get_subcommands().for_each(|part| look(part, &name));
        }
        Cli::command().get_subcommands().for_each(|verb| look(verb, "timebus"));
    }

    #[test]
    fn no_verb_means_up() {
        let cli = Cli::try_parse_from(["timebus", "--json"]).expect("good arguments");
        let (is_json, verb) = (cli.json, cli.verb.unwrap_or_default());
        assert!(is_json && matches!(verb, Verb::Up(up) if up.cache.is_none() && up.links == peer::LINKS_MAX && up.name.is_none()));
    }

    #[test]
    fn values_may_look_like_flags() {
        for value in ["-", "-1", "-0.5"] {
            let cli = Cli::try_parse_from(["timebus", "put", "/a", value]).expect("good arguments");
            assert!(matches!(cli.verb, Some(Verb::Put(put)) if put.value == value));
        }
    }
}
