//! What can be typed about the keys of a space.

use clap::{Args, Subcommand};
use timebus_identity::PublicKey;

use super::Net;

/// Let the next root key take over: new words, and devices that were lost have no rights any more
///
/// Your recovery kit holds two keys: the root, and the next one, to which the root had committed. Here the next one becomes
/// the root and a new next one is made. You get 48 new words, and the old ones are good for nothing. The space keeps its
/// name, and everybody who has it follows. A device alone cannot do this once the words have left it (`timebus kit
/// --confirm`), so whoever has a stolen one cannot. The peer must be stopped.
///
/// Guardians are people who together may name a new root when you have lost your words (`timebus recover --by-guardians`).
/// The root names them when it takes over. They cannot outvote your words.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus rotate                                                 asks for your words if they are not on this disk
  timebus rotate --without og1oxkdq                              the laptop was stolen: it has no rights any more
  timebus rotate --guardian alice --guardian bob --guardian carol --needed 2
  timebus rotate --no-guardians
  timebus kit                                                    the new words, to write down
  timebus kit --confirm                                          and off this disk")]
pub(crate) struct Rotate {
    /// A device of yours that has no rights any more: its name, its key or the beginning of it; may be repeated
    #[arg(long, value_name = "DEVICE")]
    pub(crate) without: Vec<String>,

    /// Somebody who, with others, may name a new root if you lose your words; may be repeated [default: who it was]
    #[arg(long = "guardian", value_name = "WHO")]
    pub(crate) guardians: Vec<String>,

    /// How many guardians have to agree [default: more than half]
    #[arg(long, value_name = "N", requires = "guardians")]
    pub(crate) needed: Option<u8>,

    /// Have no guardians any more
    #[arg(long, conflicts_with = "guardians")]
    pub(crate) no_guardians: bool,
}

/// Show who your guardians are, and agree as a guardian of somebody else
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus guardians                                 yours, and whose you are
  timebus guardians agree timebus://recover/yb…     says who asks; nothing is signed yet
  timebus guardians agree timebus://recover/yb… --yes
  timebus rotate --guardian alice --guardian bob    names them")]
pub(crate) struct Guardians {
    #[command(subcommand)]
    pub(crate) action: Option<GuardiansAction>,
}

/// What to do with guardians.
#[derive(Debug, Subcommand)]
pub(crate) enum GuardiansAction {
    /// Sign that a space of somebody else has a new root
    ///
    /// Ask him himself, by voice or face to face, whether the new root has the name that is shown: whoever talks enough
    /// guardians into agreeing gets the whole space.
    #[command(after_help = "Examples:\n  timebus guardians agree timebus://recover/yb…\n  timebus guardians agree timebus://recover/yb… --yes")]
    Agree {
        /// What he gave you
        #[arg(value_name = "REQUEST")]
        request: String,

        /// You have asked him
        #[arg(long, short)]
        yes: bool,
    },
}

/// Get your space back: with the words of your kit, or with your guardians
///
/// With the words, in a home that does not exist yet: it becomes a device of your space, as soon as somebody who holds
/// the space can be reached, which is what --node and --at are for. In a home that exists: the root key is on its disk again.
///
/// Without them: --by-guardians makes new keys, new words, and a request to give to your guardians. When enough of them
/// have agreed, --answer takes what they give back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus recover                                               on a new machine: type the 48 words
  timebus --home ~/new recover                                  beside another home
  timebus --home ~/new recover --space se7tu1sk… --node rmpdfmiz… --at 192.168.1.7:4433
                                                                after a rotation the words do not say which space they are of
  timebus --home ~/new recover --by-guardians --space se7tu1sk… --node rmpdfmiz… --at 192.168.1.7:4433
  timebus --home ~/new up                                       until the space is here
  timebus --home ~/new recover --answer timebus://recovered/yb… --answer timebus://recovered/yf…

Whoever holds your space finds out node and addresses with `timebus peers --json`.")]
pub(crate) struct Recover {
    /// Your space [default: the one whose first root the words are]
    #[arg(long, value_name = "KEY")]
    pub(crate) space: Option<PublicKey>,

    /// The node key of a peer that holds it
    #[arg(long, value_name = "KEY", requires = "at")]
    pub(crate) node: Option<PublicKey>,

    /// Where that peer may be: an address, relay:URL or wss://HOST; may be repeated
    #[arg(long, value_name = "ADDR", requires = "node")]
    pub(crate) at: Vec<String>,

    /// The words are lost too: make new keys and a request for your guardians
    #[arg(long, requires = "space", conflicts_with = "answers")]
    pub(crate) by_guardians: bool,

    /// What a guardian gave you back; may be repeated
    #[arg(long = "answer", value_name = "ANSWER")]
    pub(crate) answers: Vec<String>,

    #[command(flatten, next_help_heading = "For a new home")]
    pub(crate) net: Net,
}

/// Show your recovery kit: 48 words that are your identity
///
/// Write them on paper. With them you can make a new home for the same space when this disk is gone; so can
/// everybody who has them. The peer must be stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus kit                 show the words
  timebus kit --confirm       type them, as proof that you have them; the root key then leaves this disk
  timebus kit --recover       type them, to bring the root key back, or into a new home")]
pub(crate) struct Kit {
    /// Ask for the words, then erase the root key from this disk
    #[arg(long)]
    pub(crate) confirm: bool,

    /// Ask for the words and write the root key to this disk
    #[arg(long, conflicts_with = "confirm")]
    pub(crate) recover: bool,
}
