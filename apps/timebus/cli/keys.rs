//! What can be typed about the keys of a space.

use clap::{Args, Subcommand};
use timebus_identity::PublicKey;

use super::Net;

/// Let the next root key take over: new words, and devices that were lost have no rights any more
///
/// Your recovery kit holds two keys: the root, and the next one, to which the root had committed. Here the next one becomes
/// the root, and right after it a new one that was on no sheet and on no disk before. You get 48 new words. The space keeps
/// its name, and everybody who has it follows. A device alone cannot do this once the words have left it (`timebus kit
/// --confirm`), so whoever has a stolen one cannot. The peer must be stopped.
///
/// The words of before bring nothing back any more. Burn them all the same: whoever has them, or a device on whose disk
/// they were, gets nothing of yours, but can have it disputed who the root is. Then what roots said since does not count,
/// so a device that was taken out has its rights again. Guardians whom you had when those words were made can decide that;
/// without them nobody can, and you begin anew with your friends' word (`timebus recover --by-friends`).
///
/// What friends had let a lost device do, they let this one do as soon as their peers hear of it. Communities do not: another
/// device of yours that is in them lets this one in, or an invite.
///
/// Guardians are people who together may name a new root when you have lost your words (`timebus recover --by-guardians`).
/// The root names them when it takes over. They cannot outvote your words, but decide where two were made root by the same words.
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

    /// Those devices are meant, also where only another device calls one so
    #[arg(long, short, requires = "without")]
    pub(crate) yes: bool,
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
    /// Ask him himself, by voice or face to face, for the eight words that he was shown, and compare them all: whoever talks
    /// enough guardians into agreeing gets the whole space, and he may be the one who carried the request to you.
    #[command(after_help = "Examples:\n  timebus guardians agree timebus://recover/yb…\n  timebus guardians agree timebus://recover/yb… --yes")]
    Agree {
        /// What he gave you
        #[arg(value_name = "REQUEST")]
        request: String,

        /// You have asked him, and the eight words are the same
        #[arg(long, short)]
        yes: bool,
    },
}

/// Get your space back: with the words of your kit, with your guardians, or begin again with your friends' word
///
/// With the words, in a home that does not exist yet: it becomes a device of your space, as soon as somebody who holds
/// the space can be reached, which is what --node and --at are for. In a home that exists: the root key is on its disk again.
/// What friends had let a lost device do goes over to the new one, without any invite, when --without says that it is lost, or
/// later `timebus rotate --without`: that one also makes a root that was on no disk before, so that whoever has a stolen device
/// with the root key on it gets nothing more of yours. See there what he still can do.
///
/// Without them: --by-guardians makes new keys, new words, and a request to give to your guardians, with eight words that each
/// of them hears from you by voice. When enough of them have agreed, --answer takes what they give back.
///
/// Without any of that the space is lost, and what others have of it stays theirs. --by-friends begins another one and says
/// what to tell your friends: each says, signed, that it is you (`timebus vouch`), and all who know you are shown that.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus recover                                               on a new machine: type the 48 words
  timebus --home ~/new recover                                  beside another home
  timebus recover --without all --node rmpdfmiz… --at 192.168.1.7:4433
                                                                none of the other devices is left: what friends let them do is this one's
  timebus --home ~/new recover --space se7tu1sk… --node rmpdfmiz… --at 192.168.1.7:4433
                                                                after a rotation the words do not say which space they are of
  timebus --home ~/new recover --by-guardians --space se7tu1sk… --node rmpdfmiz… --at 192.168.1.7:4433
  timebus --home ~/new up                                       until the space is here
  timebus --home ~/new recover --answer timebus://recovered/yb… --answer timebus://recovered/yf…
  timebus --home ~/new recover --by-friends                     nothing is left: a new space, and what to tell your friends

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

    /// Words and guardians are lost: begin a new space, and have your friends say that it is yours
    #[arg(long, conflicts_with_all = ["by_guardians", "answers", "space", "node"])]
    pub(crate) by_friends: bool,

    /// A device that is lost: its name, its key or the beginning of it, or `all` for every other one; may be repeated
    ///
    /// It has no rights any more, and what friends had let it do is this home's.
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["by_guardians", "by_friends"])]
    pub(crate) without: Vec<String>,

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

/// Say who a friend is now who lost all his keys and begins again
///
/// He has a new space and cannot prove that he is who he was. You can say it: all who know you both are shown it, and each
/// decides for himself whether to move the name (`timebus rebind`). It stands in your space, signed, for all who may read
/// there. Ask him himself, by voice or face to face, what his new key is called: whoever talks you into this is taken for him.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus vouch bob og1oxkdq…           shows what would be said, and says nothing yet
  timebus vouch bob og1oxkdq… --yes     you have asked him
  timebus vouch bob --withdraw          you do not say it any more
  timebus rebind                        what your friends say, and you")]
pub(crate) struct Vouch {
    /// Who lost his keys: what you call him, or his old space
    #[arg(value_name = "WHO")]
    pub(crate) who: String,

    /// His new space, as `timebus id` tells him
    #[arg(value_name = "KEY", required_unless_present = "withdraw")]
    pub(crate) now: Option<String>,

    /// You have asked him
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Do not say it any more
    #[arg(long, conflicts_with_all = ["now", "yes"])]
    pub(crate) withdraw: bool,
}

/// Show who of your contacts is said to have a new key, and move a name there
///
/// Nothing moves by itself. When you say --yes, your name for him, whether you follow, hear or block him, and what he may
/// keep here are his new key's; the old one becomes "NAME (before)" and what you have of it stays readable. --undo takes
/// all of that back. Where your contacts name several keys nothing can be moved, until they agree or you have vouched
/// for one of them yourself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus rebind                all contacts of whom something is said
  timebus rebind bob            what would move
  timebus rebind bob --yes
  timebus rebind bob --undo")]
pub(crate) struct Rebind {
    /// Whom: what you call him, or his old space [default: list them]
    #[arg(value_name = "WHO")]
    pub(crate) who: Option<String>,

    /// Move the name
    #[arg(long, short, requires = "who")]
    pub(crate) yes: bool,

    /// Move it back
    #[arg(long, requires = "who", conflicts_with = "yes")]
    pub(crate) undo: bool,
}
