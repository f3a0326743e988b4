//! kit: the words that are one's identity.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use serde_json::json;
use timebus_identity::{Keys, Kit as Words, PublicKey, SecretKey, human_name};

use crate::Context;
use crate::cli::Kit;
use crate::failure::Failure;
use crate::peer::{keys_of, try_lock};
use crate::verbs::keys::{forget_derived, said};
use crate::verbs::succession::{bring_back, refuse_if_frozen, stopped};

/// Words of the root key and the next one.
const WORDS_OF_BOTH: usize = 48;
/// More than the 48 longest words.
const WORDS_BYTES_MAX: u64 = 4096;

pub(crate) async fn run(context: &Context, args: Kit) -> anyhow::Result<()> {
    let out = context.out;
    let exists = context.home.exists();
    if !exists && !args.recover {
        let fix =
            format!("`{}` makes a new identity; `{}` brings an old one back", context.home.command("up"), context.home.command("kit --recover"));
        return Err(Failure::refused(format!("there is no timebus home at {}", context.home.folder().display())).fix(fix).into());
    }
    // The keys are for whoever holds the lock, so that nobody writes with a key that is just being erased.
    let Some(lock) = try_lock(&context.home)? else {
        let title = "the peer is running, and only a stopped one lets its keys be looked at";
        return Err(Failure::refused(title).fix(format!("`{}`, then try again", context.home.command("down"))).into());
    };
    let told =
        |error: timebus_identity::KitError| Failure::refused(error.to_string()).fix("nothing was changed; look at the words again and try once more");
    if args.recover {
        let words = ask(context)?;
        let keys = match exists {
            true => {
                let mut keys = keys_of(&context.home)?;
                // The space may have a root by now that this folder has not heard of; the space itself knows.
                match words.split_whitespace().count() {
                    WORDS_OF_BOTH => {
                        bring_back(context, lock, &mut keys, &words).await?;
                    }
                    _ => keys.restore_root(&words).map_err(told)?,
                }
                keys
            }
            false => {
                let (root, next) = said(context, &words, None).map_err(told)?;
                Keys::create_from(&context.home.folder().join("keys"), &root, &next)?
            }
        };
        let (id, name) = (keys.space().to_string(), human_name(&keys.space()));
        return out.result(&json!({"recovered": true, "id": id, "name": name}), || format!("the root key of {name} is on this disk\nspace  {id}"));
    }
    let mut keys = keys_of(&context.home)?;
    if keys.kit().is_none() {
        return Err(Failure::refused("the root key is not on this disk: the kit was confirmed")
            .fix("your words are on the paper you wrote them on")
            .into());
    }
    refuse_if_frozen(context, lock, &keys).await?;
    let _lock = stopped(context)?;
    // Opening the store may have finished a rotation that was cut short.
    keys = keys_of(&context.home)?;
    let kit = keys.kit().context("the root key was on this disk a moment ago")?;
    if args.confirm {
        let words = ask(context)?;
        let derives =
            |keys: &Keys| keys.root().zip(keys.next()).map(|(root, next)| (SecretKey::from_seed(*root.seed()), SecretKey::from_seed(*next.seed())));
        let owner = derives(&keys);
        keys.confirm_kit(&words).map_err(told)?;
        let personas = match owner {
            Some((root, next)) if context.home.persona().is_none() => forget_derived(context, &root, &next)?,
            _ => Vec::new(),
        };
        return out.result(&json!({"confirmed": true, "personas": personas}), || {
            let mut text =
                "confirmed: the root key has left this disk. Your words are now the only way to name a successor or to let a new device in."
                    .to_owned();
            if !personas.is_empty() {
                text.push_str(&format!("\nSo have those of your personas: {}. Their names and your words are their keys.", personas.join(", ")));
            }
            text
        });
    }
    let words = words(&kit);
    let (space, name) = (keys.space(), human_name(&keys.space()));
    out.result(&json!({"id": space.to_string(), "name": name, "words": words}), || sheet(&name, &space, &words, context))
}

fn words(kit: &Words) -> Vec<String> {
    let sentences = [Some(kit.root_words()), kit.next_words()];
    sentences.into_iter().flatten().flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The words of the keys of a home, if they are on its disk.
pub(crate) fn words_of(keys: &Keys) -> Option<Vec<String>> {
    keys.kit().map(|kit| words(&kit))
}

/// The kit as it is to be written down.
pub(crate) fn sheet(name: &str, space: &PublicKey, words: &[String], context: &Context) -> String {
    let mut text = format!("The recovery kit of {name}. Write this on paper, in order, and keep it where you keep your passport.\n");
    text.push_str(&format!("\n   space   {space}\n           (the KEY of `timebus recover --space KEY`, which the words of a rotation need)\n"));
    for (row, chunk) in words.chunks(6).enumerate() {
        text.push('\n');
        for (at, word) in chunk.iter().enumerate() {
            text.push_str(&format!("{:>4} {word:<9}", row * 6 + at + 1));
        }
        text.truncate(text.trim_end().len());
    }
    text.push_str(&format!("\n\nThen prove it with `{}`; the root key leaves this disk.", context.home.command("kit --confirm")));
    text
}

/// Reads words from standard input.
pub(crate) fn ask(context: &Context) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let mut words = String::new();
    if stdin.is_terminal() {
        context.out.note("type the words, in order; an empty line ends them:");
        loop {
            let mut line = String::new();
            if stdin.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            words.push_str(&line);
            if words.split_whitespace().count() >= 48 {
                break;
            }
        }
    } else {
        stdin.lock().take(WORDS_BYTES_MAX).read_to_string(&mut words).context("could not read standard input")?;
    }
    match words.trim().is_empty() {
        true => Err(Failure::usage("no words came").fix("type them, or send them to standard input").into()),
        false => Ok(words),
    }
}
