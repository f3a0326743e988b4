//! Whose keys a command is about: those of the home, or those of a persona in it.

use std::fs::File;

use timebus_identity::{Kit as Words, KitError, PublicKey, SecretKey};
use timebus_net::personas::{home_of, keys_from, names_in};

use crate::Context;
use crate::failure::Failure;
use crate::home::Home;
use crate::peer::{keys_of, try_lock};

/// Keys that a command may look at, since no peer runs.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// About the home that has the keys.
    pub(crate) context: Context,
    /// Of a persona, the lock of the home that it is in.
    _whole: Option<File>,
}

impl Stopped {
    /// Whose keys a command is about. `may_begin`: whether the persona may be a new one.
    pub(crate) fn of(context: &Context, may_begin: bool) -> anyhow::Result<Self> {
        let home = context.home.of_persona();
        let Some(name) = context.home.persona() else { return Ok(Self { context: context.clone(), _whole: None }) };
        if !may_begin && !home.exists() {
            let fix = format!("`{}` makes it", Home::new(context.home.folder())?.command(&format!("personas new {name}")));
            return Err(Failure::refused(format!("none of your personas is called {name}")).fix(fix).into());
        }
        let whole = super::succession::stopped(context)?;
        Ok(Self { context: Context { home, ..context.clone() }, _whole: Some(whole) })
    }
}

/// The keys that somebody's words say, for the space whose root is expected: his own, or those of the persona that the
/// command is about.
pub(crate) fn said(context: &Context, words: &str, expected: Option<&PublicKey>) -> Result<(SecretKey, SecretKey), KitError> {
    let (root, next) = Words::recover(words)?;
    let Some(name) = context.home.persona() else { return Ok((root, next)) };
    let derived = keys_from(&root, &next, name);
    match expected {
        Some(expected) if derived.0.public() != *expected => Ok((root, next)),
        _ => Ok(derived),
    }
}

/// The personas whose keys come from these of their owner.
pub(crate) fn derived(context: &Context, root: &SecretKey, next: &SecretKey) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names_in(context.home.folder()) {
        let home = Home::new(&home_of(context.home.folder(), &name))?;
        if home.exists() && keys_of(&home)?.root_public() == keys_from(root, next, &name).0.public() {
            found.push(name);
        }
    }
    Ok(found)
}

/// Takes the root keys of those personas off the disk that come from the keys of their owner, whose words are on paper.
pub(crate) fn forget_derived(context: &Context, root: &SecretKey, next: &SecretKey) -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    for name in names_in(context.home.folder()) {
        let home = Home::new(&home_of(context.home.folder(), &name))?;
        if !home.exists() {
            continue;
        }
        let Some(_lock) = try_lock(&home)? else { continue };
        let mut keys = keys_of(&home)?;
        let derived = keys_from(root, next, &name).0.public();
        if let Some(kit) = keys.kit().filter(|_| keys.root_public() == derived) {
            keys.confirm_kit(&[Some(kit.root_words()), kit.next_words()].into_iter().flatten().collect::<Vec<_>>().join(" "))?;
            done.push(name);
        }
    }
    Ok(done)
}
