//! What an app that runs here was allowed, and by which token it is known.
//!
//! A token is good for one app, in the places that its card named when the owner installed it. A page may use it only
//! from the app's own origin. Minting and keeping tokens is the business of whoever installs apps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use timebus_identity::{PublicKey, Token, hash};
use timebus_store::path::Path;

use crate::authority::Verb;

/// Most tokens at once; each takes a few hundred bytes.
const TOKENS_MAX: usize = 4096;

/// Where an allowance of an app counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppSpace {
    /// In this one.
    One(PublicKey),
    /// In every space but the owner's own.
    Others,
}

/// One line of an app's card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// In which space.
    pub space: AppSpace,
    /// At this path and below it.
    pub path: Path,
    /// What.
    pub verbs: Vec<Verb>,
}

/// What an app may do.
#[derive(Debug)]
pub struct AppScope {
    app: String,
    allowances: Vec<Allowance>,
    /// Parts of `/.sys`, as paths that begin with `/.sys`.
    sys: Vec<(Path, Vec<Verb>)>,
    is_over: AtomicBool,
}

impl AppScope {
    /// What the card of an app says. `app` is its name on this peer, which is the label of its origin.
    #[must_use]
    pub fn new(app: String, allowances: Vec<Allowance>, sys: Vec<(Path, Vec<Verb>)>) -> Self {
        Self { app, allowances, sys, is_over: AtomicBool::new(false) }
    }

    /// Its name on this peer.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Whether it may do something at a path and below it.
    #[must_use]
    pub fn allows(&self, verb: Verb, space: &PublicKey, own: &PublicKey, path: &Path) -> bool {
        let is_there = |allowed: &Allowance| match allowed.space {
            AppSpace::One(one) => one == *space,
            AppSpace::Others => space != own,
        };
        self.is_good() && self.allowances.iter().any(|allowed| is_there(allowed) && allowed.verbs.contains(&verb) && allowed.path.contains(path))
    }

    /// Whether it may do something at a path in every space of others.
    #[must_use]
    pub fn allows_others(&self, verb: Verb, path: &Path) -> bool {
        let is_there = |allowed: &Allowance| allowed.space == AppSpace::Others && allowed.verbs.contains(&verb) && allowed.path.contains(path);
        self.is_good() && self.allowances.iter().any(is_there)
    }

    /// Whether it may do anything in every space of others.
    #[must_use]
    pub fn knows_others(&self) -> bool {
        self.is_good() && self.allowances.iter().any(|allowed| allowed.space == AppSpace::Others)
    }

    /// Whether it may use a part of `/.sys`.
    #[must_use]
    pub fn allows_sys(&self, verb: Verb, path: &Path) -> bool {
        self.is_good() && self.sys.iter().any(|(allowed, verbs)| verbs.contains(&verb) && allowed.contains(path))
    }

    fn is_good(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// The tokens that are good now.
#[derive(Debug, Default)]
pub struct AppTokens(RwLock<HashMap<[u8; 32], Arc<AppScope>>>);

impl AppTokens {
    /// Makes a token good. Answers whether there was room.
    #[must_use]
    pub fn insert(&self, token: &Token, scope: Arc<AppScope>) -> bool {
        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let has_room = tokens.len() < TOKENS_MAX;
        if has_room {
            tokens.insert(key(token), scope);
        }
        has_room
    }

    /// What the bearer of a token may do.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<AppScope>> {
        let token: Token = token.parse().ok()?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key(&token)).filter(|scope| scope.is_good()).cloned()
    }

    /// Ends all tokens of an app, also for what it has open. Who calls this has subscriptions looked at again:
    /// [`timebus_store::store::Store::recheck_rights`].
    pub fn remove(&self, app: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, scope| {
            let stays = scope.app != app;
            if !stays {
                scope.is_over.store(true, Ordering::Relaxed);
            }
            stays
        });
    }
}

/// Tokens are found by their hash, so that how long that takes says nothing about them.
fn key(token: &Token) -> [u8; 32] {
    hash("app token", &[token.as_bytes()])
}
