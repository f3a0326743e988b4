//! What can be typed about personas.

use clap::{Args, Subcommand};

/// Be several people: identities of yours that others cannot tell are one person's
///
/// A persona is a space of its own on the same peer, with keys, contacts, apps and an inbox of its own. Your peer keeps them
/// apart: each has a node key and a port of its own, and nothing that one sends names another. `--persona NAME` makes any
/// verb ask as that persona, and `@NAME/path` is a path in its space.
///
/// What others can still see: the same IP address, when both are reachable at the same hours; a relay that both use sees
/// that, too. Who watches your network can tell. Personas are not announced on the local network. What you write, and
/// whom you follow, can give you away as it does everywhere.
///
/// Its keys come from the words of your recovery kit and its name, so write the names down with the words. After `timebus
/// rotate` the words of before are still those of the personas that there were.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus personas                          list them
  timebus personas new work                 a new one; nobody is told
  timebus --persona work put /profile/name '\"W.\"'
  timebus --persona work invite             a link that names work, and not you
  timebus --persona work peers              whom work knows
  timebus personas use work chirp           chirp writes as work; `timebus app install chirp --persona work` is the same
  timebus personas link work                say in both spaces that they are yours
  timebus personas of @alice                who alice says that she is, too, and whether they say so
  timebus --persona work backup > work.tar  its space alone; `timebus backup` has all of them
  timebus personas remove work --yes

On a new machine, with your 48 words: timebus --persona work recover --node KEY --at ADDR")]
pub(crate) struct Personas {
    #[command(subcommand)]
    pub(crate) action: Option<PersonasAction>,
}

/// What to do with personas.
#[derive(Debug, Subcommand)]
pub(crate) enum PersonasAction {
    /// List them
    #[command(after_help = "Examples:\n  timebus personas ls\n  timebus personas ls --json | jq -r '.personas[].id'")]
    Ls {},
    /// Make one
    #[command(after_help = "\
Examples:
  timebus personas new work
  timebus personas new work --kit           after `timebus kit --confirm`: type the 48 words it comes from
  timebus personas new work --own-kit       with words of its own: `timebus --persona work kit` shows them")]
    New {
        /// What you call it: lower-case letters, digits and dashes. Only you see it
        #[arg(value_name = "NAME")]
        name: String,

        /// Type the words of your kit, where the root key is not on this disk
        #[arg(long)]
        kit: bool,

        /// Give it keys that have nothing to do with yours, and words of its own
        #[arg(long, conflicts_with = "kit")]
        own_kit: bool,
    },
    /// Tell all about one
    #[command(after_help = "Examples:\n  timebus personas show work")]
    Show {
        /// A persona
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Install an app that is this persona
    #[command(after_help = "Examples:\n  timebus personas use work chirp --yes")]
    Use {
        /// A persona
        #[arg(value_name = "NAME")]
        name: String,

        /// The name of an app that comes with timebus, @who/name, or a folder
        #[arg(value_name = "APP")]
        app: String,

        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Say to everybody that a persona and you are one person
    ///
    /// Each space then names the other, signed by a device of its owner, at /profile/also. Whoever has read it may remember it.
    #[command(after_help = "Examples:\n  timebus personas link work --yes")]
    Link {
        /// A persona
        #[arg(value_name = "NAME")]
        name: String,

        /// You want everybody to know
        #[arg(long, short)]
        yes: bool,
    },
    /// Say it no more
    ///
    /// It stays in the history of both spaces, and with whoever has read it.
    #[command(after_help = "Examples:\n  timebus personas unlink work")]
    Unlink {
        /// A persona
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show who somebody says that he is, too
    #[command(
        after_help = "Examples:\n  timebus personas of @alice\n  timebus personas of @alice --json | jq '.links[] | select(.state == \"linked\")'"
    )]
    Of {
        /// A name that you gave, or a key
        #[arg(value_name = "WHO")]
        who: String,
    },
    /// Remove one from this disk: keys, space, contacts, apps
    ///
    /// What others hold of its space stays with them. With your words and its name the keys can be made again.
    #[command(after_help = "Examples:\n  timebus --persona work backup > work.tar\n  timebus personas remove work --yes")]
    Remove {
        /// A persona
        #[arg(value_name = "NAME")]
        name: String,

        /// You know that it is gone then
        #[arg(long, short)]
        yes: bool,
    },
}
