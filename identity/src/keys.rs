mod error;
mod incarnation;
mod key_dir;

use std::path::Path;

use zeroize::Zeroizing;

pub use error::KeysError;
use incarnation::{Incarnation, Place};
use key_dir::KeyDir;

use crate::kit::Words;
use crate::{Kit, KitError, PublicKey, SecretKey, Token, hash, random_bytes, z32};

const SPACE: &str = "space";
const ROOT: &str = "root.key";
const NEXT: &str = "next.key";
const NEXT_HASH: &str = "next.hash";
const DEVICE: &str = "device.key";
const DEVICE_NEW: &str = "device.key.new";
const INCARNATION: &str = "incarnation";
const TOKEN: &str = "token";
/// What `next.hash` says in a home that never had the root key.
const UNKNOWN: &str = "unknown\n";

/// What is to take their places when a rotation that was begun is over.
const ROOT_NEW: &str = "root.key.new";
const NEXT_NEW: &str = "next.key.new";
/// Which key is the root, once it is another than the one that names the space.
const ROOT_PUBLIC: &str = "root";

const ALL: [&str; 11] = [SPACE, ROOT, NEXT, NEXT_HASH, DEVICE, DEVICE_NEW, INCARNATION, TOKEN, ROOT_NEW, NEXT_NEW, ROOT_PUBLIC];

/// The keys folder of one home: mode 0700, every file in it 0600.
///
/// | file | content | when |
/// |---|---|---|
/// | `space` | public root key, 52 characters | always |
/// | `root.key` | seed of the root key, 32 bytes | until the recovery kit is confirmed |
/// | `next.key` | seed of the next root key, 32 bytes | likewise |
/// | `root` | public root key, 52 characters | once it is another than `space` |
/// | `root.key.new`, `next.key.new` | seeds of the root that is about to take over and the one after it | while a rotation is under way |
/// | `next.hash` | `H("next root", next public key)`, 52 characters, or `unknown` after [`Keys::create_for`] | always |
/// | `device.key` | seed of the device key, 32 bytes | always |
/// | `device.key.new` | the same, of a device key about to take over | within [`Keys::renew_device`] |
/// | `incarnation` | which life of the home this is, on which machine, and its device key | always |
/// | `token` | the owner's token, 52 characters | once [`Keys::owner_token`] was asked for |
///
/// Text files end with a line break. Files named `.….tmp` are writes a crash interrupted, erased
/// when the folder is opened. Every change is on disk when its method returns.
///
/// While the root key is on disk the root is *warm*, without it *cold*. Open the folder only while
/// holding the lock of the home: two processes in it at once are not provided for.
#[derive(Debug)]
pub struct Keys {
    dir: KeyDir,
    space: PublicKey,
    /// The public key of the root, as far as this home knows.
    root_public: PublicKey,
    root: Option<SecretKey>,
    next: Option<SecretKey>,
    next_hash: Option<[u8; 32]>,
    device: SecretKey,
    incarnation: Incarnation,
    is_copy: bool,
}

impl Keys {
    /// Opens the keys in `dir`, or makes the keys of a new space there if it is missing or empty.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when a file is open to others, a link, damaged or missing, or the disk fails.
    pub fn create_or_open(dir: &Path) -> Result<Self, KeysError> {
        let opened = KeyDir::open(dir)?;
        let is_new = match &opened {
            Some(dir) => dir.is_empty()?,
            None => true,
        };
        match opened {
            Some(dir) if !is_new => Self::open(dir),
            _ => Self::create(dir, &SecretKey::generate(), &SecretKey::generate()),
        }
    }

    /// Makes the keys folder of a new home for an old space, with the root keys that
    /// [`Kit::recover`] gives, and a device key of its own.
    ///
    /// # Errors
    ///
    /// [`KeysError::AlreadyThere`] when `dir` is not empty; else as [`Keys::create_or_open`].
    pub fn create_from(dir: &Path, root: &SecretKey, next: &SecretKey) -> Result<Self, KeysError> {
        match KeyDir::open(dir)? {
            Some(opened) if !opened.is_empty()? => Err(KeysError::AlreadyThere { path: dir.into() }),
            _ => Self::create(dir, root, next),
        }
    }

    /// Makes the keys folder of a new home for an old space whose root key is another than the one that names it, with
    /// the root keys that [`Kit::recover`] gives, and a device key of its own.
    ///
    /// # Errors
    ///
    /// [`KeysError::AlreadyThere`] when `dir` is not empty; else as [`Keys::create_or_open`].
    pub fn create_with_root(dir: &Path, space: &PublicKey, root: &SecretKey, next: &SecretKey) -> Result<Self, KeysError> {
        match KeyDir::open(dir)? {
            Some(opened) if !opened.is_empty()? => Err(KeysError::AlreadyThere { path: dir.into() }),
            _ => Self::write_new(dir, space, |dir| {
                write_32(dir, ROOT_PUBLIC, root.public().as_bytes())?;
                dir.write(ROOT, root.seed())?;
                dir.write(NEXT, next.seed())?;
                write_32(dir, NEXT_HASH, &hash_of_next(next))
            }),
        }
    }

    /// Makes the keys folder of a new device for a space whose root key is elsewhere: a device key, which has no
    /// rights until somebody grants it some, and no root key.
    ///
    /// # Errors
    ///
    /// [`KeysError::AlreadyThere`] when `dir` is not empty; else as [`Keys::create_or_open`].
    pub fn create_for(dir: &Path, space: &PublicKey) -> Result<Self, KeysError> {
        match KeyDir::open(dir)? {
            Some(opened) if !opened.is_empty()? => Err(KeysError::AlreadyThere { path: dir.into() }),
            _ => Self::write_new(dir, space, |dir| dir.write(NEXT_HASH, UNKNOWN.as_bytes())),
        }
    }

    /// The space of this home, named by its public root key.
    #[must_use]
    pub fn space(&self) -> PublicKey {
        self.space
    }

    /// The public key of the space's root, as far as this home knows: [`Keys::space`] until a new root took over here.
    #[must_use]
    pub fn root_public(&self) -> PublicKey {
        self.root_public
    }

    /// The root key, unless it is cold.
    #[must_use]
    pub fn root(&self) -> Option<&SecretKey> {
        self.root.as_ref()
    }

    /// `H("next root", public key)` of the key that may succeed the root key. A home made by [`Keys::create_for`] has
    /// only zeros here until its root is restored: it is known to all homes that have a root key.
    #[must_use]
    pub fn next_hash(&self) -> [u8; 32] {
        self.next_hash.unwrap_or_default()
    }

    /// The key that signs this home's changes.
    #[must_use]
    pub fn device(&self) -> &SecretKey {
        &self.device
    }

    /// Which life of the home this is. The device key is bound to it.
    #[must_use]
    pub fn incarnation(&self) -> [u8; 16] {
        self.incarnation.id
    }

    /// Whether the home was copied or restored: it is on another machine, or its keys folder is
    /// another folder, than when the device key was made.
    ///
    /// The original may still be writing with this device key, so a copy must not, before
    /// [`Keys::renew_device`].
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Begins a new life with a new device key, which has no rights until somebody grants it some.
    ///
    /// A crash within leaves the old device key and incarnation or the new ones.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when the disk fails; the device key is then as before, or, from the next
    /// opening on, the new one.
    pub fn renew_device(&mut self) -> Result<(), KeysError> {
        let device = SecretKey::generate();
        let incarnation = Incarnation { id: random_bytes(), device: device.public(), place: Place::of(&self.dir)? };
        // The second step decides: `incarnation` names the device key that counts.
        stage_device(&self.dir, &device)?;
        write_incarnation(&self.dir, &incarnation)?;
        self.dir.rename(DEVICE_NEW, DEVICE)?;
        self.device = device;
        self.incarnation = incarnation;
        self.is_copy = false;
        Ok(())
    }

    /// The words to write down, unless the root is cold.
    #[must_use]
    pub fn kit(&self) -> Option<Kit> {
        let root = self.root.as_ref()?;
        Some(Kit::new(root, self.next.as_ref()))
    }

    /// Makes the root cold, given the words of the kit as proof that the owner has them: those of
    /// the root key (24) or of both keys (48). Both keys are erased either way.
    ///
    /// # Errors
    ///
    /// [`KitError`] says which word is wrong. Nothing is erased then.
    pub fn confirm_kit(&mut self, words: &str) -> Result<(), KitError> {
        let kit = self.kit().ok_or(KitError::Cold)?;
        let words = Words::split(words)?;
        words.check(&kit)?;
        // The kit has no next key to compare with if the root was restored without it.
        self.check_next(words.keys()?.1.as_ref())?;
        // The root key goes last, so that it can be tried again after a crash or an error.
        self.dir.erase(NEXT)?;
        self.next = None;
        self.dir.erase(ROOT)?;
        self.root = None;
        Ok(())
    }

    /// Makes the root warm again, given its words (24), or those of both keys (48).
    ///
    /// # Errors
    ///
    /// [`KitError::OtherSpace`] and [`KitError::OtherNext`] when they are good words but not this
    /// home's, [`KitError::NextMissing`] when a home that never had a root gets only 24 of them, and
    /// whatever is wrong with the words themselves. Nothing is written then.
    pub fn restore_root(&mut self, words: &str) -> Result<(), KitError> {
        let (root, next) = Words::split(words)?.keys()?;
        let (expected, found) = (self.root_public, root.public());
        if expected != found {
            return Err(KitError::OtherSpace { expected, found });
        }
        self.check_next(next.as_ref())?;
        if self.next_hash.is_none() && next.is_none() {
            return Err(KitError::NextMissing);
        }
        if let Some(next) = next {
            if self.next_hash.is_none() {
                write_32(&self.dir, NEXT_HASH, &hash_of_next(&next))?;
                self.next_hash = Some(hash_of_next(&next));
            }
            self.dir.write(NEXT, next.seed())?;
            self.next = Some(next);
        }
        self.dir.write(ROOT, root.seed())?;
        self.root = Some(root);
        Ok(())
    }

    /// The next root key, unless it is cold.
    #[must_use]
    pub fn next(&self) -> Option<&SecretKey> {
        self.next.as_ref()
    }

    /// Begins to make `root` the root key, and answers the key that it has to commit to as the one after it. Asked again
    /// about the same root, it is the same key. Nothing else is changed before [`Keys::finish_rotation`].
    ///
    /// # Errors
    ///
    /// [`KeysError`] when the disk fails.
    pub fn begin_rotation(&mut self, root: &SecretKey) -> Result<SecretKey, KeysError> {
        if let Some((begun, after)) = self.rotation()?
            && begun.public() == root.public()
        {
            return Ok(after);
        }
        // Of an older attempt nothing is left that could be taken for a part of this one.
        self.dir.erase(ROOT_NEW)?;
        let after = SecretKey::generate();
        self.dir.write(NEXT_NEW, after.seed())?;
        self.dir.write(ROOT_NEW, root.seed())?;
        Ok(after)
    }

    /// The root key of a rotation that was begun, and the one after it.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when a file is open to others, a link or damaged.
    pub fn rotation(&self) -> Result<Option<(SecretKey, SecretKey)>, KeysError> {
        let Some(root) = self.dir.read_seed(ROOT_NEW)? else { return Ok(None) };
        Ok(self.dir.read_seed(NEXT_NEW)?.map(|after| (root, after)))
    }

    /// Makes the root of the rotation that was begun the root of this home. Call it when the space says so. The keys
    /// before it are erased. After a crash within, it can be called again.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when the disk fails.
    pub fn finish_rotation(&mut self) -> Result<(), KeysError> {
        let Some((root, after)) = self.rotation()? else { return Ok(()) };
        self.adopt_root(&root, &after)?;
        self.dir.erase(ROOT_NEW)?;
        self.dir.erase(NEXT_NEW)
    }

    /// Makes these the root key and the next one, whatever was before. For words of a kit, once it is known that they
    /// are of the space's root.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when the disk fails; the root may be cold then.
    pub fn adopt_root(&mut self, root: &SecretKey, next: &SecretKey) -> Result<(), KeysError> {
        // In an order in which each state that a crash can leave is one that opens.
        self.dir.erase(NEXT)?;
        self.dir.erase(ROOT)?;
        (self.next, self.root) = (None, None);
        write_32(&self.dir, ROOT_PUBLIC, root.public().as_bytes())?;
        self.root_public = root.public();
        write_32(&self.dir, NEXT_HASH, &hash_of_next(next))?;
        self.next_hash = Some(hash_of_next(next));
        self.dir.write(NEXT, next.seed())?;
        self.next = Some(SecretKey::from_seed(*next.seed()));
        self.dir.write(ROOT, root.seed())?;
        self.root = Some(SecretKey::from_seed(*root.seed()));
        Ok(())
    }

    /// The token that lets the owner in over HTTP, made when first asked for.
    ///
    /// # Errors
    ///
    /// [`KeysError`] when its file is open to others, a link or damaged, or the disk fails.
    pub fn owner_token(&self) -> Result<Token, KeysError> {
        match read_32(&self.dir, TOKEN)? {
            Some(bytes) => Ok(Token::from_bytes(*bytes)),
            None => {
                let token = Token::generate();
                write_32(&self.dir, TOKEN, token.as_bytes())?;
                Ok(token)
            }
        }
    }

    fn create(path: &Path, root: &SecretKey, next: &SecretKey) -> Result<Self, KeysError> {
        Self::write_new(path, &root.public(), |dir| {
            dir.write(ROOT, root.seed())?;
            dir.write(NEXT, next.seed())?;
            write_32(dir, NEXT_HASH, &hash_of_next(next))
        })
    }

    /// Makes a folder with a new device key and what `fill` knows of the root.
    fn write_new(path: &Path, space: &PublicKey, fill: impl FnOnce(&KeyDir) -> Result<(), KeysError>) -> Result<Self, KeysError> {
        KeyDir::create(path, |dir| {
            let device = SecretKey::generate();
            let incarnation = Incarnation { id: random_bytes(), device: device.public(), place: Place::of(dir)? };
            write_32(dir, SPACE, space.as_bytes())?;
            fill(dir)?;
            dir.write(DEVICE, device.seed())?;
            write_incarnation(dir, &incarnation)
        })?;
        let dir = KeyDir::open(path)?.ok_or_else(|| KeysError::Missing { path: path.into() })?;
        Self::open(dir)
    }

    fn open(dir: KeyDir) -> Result<Self, KeysError> {
        dir.erase_unfinished(&ALL)?;
        let missing = |name| KeysError::Missing { path: dir.path_of(name) };
        let damaged = |name, problem| KeysError::Damaged { path: dir.path_of(name), problem };

        let space = read_32(&dir, SPACE)?.ok_or_else(|| missing(SPACE))?;
        let space = PublicKey::from_bytes(*space);
        let root = dir.read_seed(ROOT)?;
        let root_public = read_32(&dir, ROOT_PUBLIC)?.map_or(space, |bytes| PublicKey::from_bytes(*bytes));
        if root.as_ref().is_some_and(|root| root.public() != root_public) {
            return Err(damaged(ROOT, "it is the root key of another space"));
        }
        let next_hash = match dir.read_text(NEXT_HASH)? {
            Some(text) if *text == UNKNOWN => None,
            _ => Some(*read_32(&dir, NEXT_HASH)?.ok_or_else(|| missing(NEXT_HASH))?),
        };
        let next = dir.read_seed(NEXT)?;
        if next.as_ref().is_some_and(|next| next_hash.is_some_and(|hash| hash_of_next(next) != hash)) {
            return Err(damaged(NEXT, "it is not the key whose hash is in next.hash"));
        }
        if next_hash.is_none() && root.is_some() {
            return Err(damaged(NEXT_HASH, "a home with a root key knows the next one"));
        }

        let incarnation = dir.read_text(INCARNATION)?;
        let incarnation = incarnation.ok_or_else(|| missing(INCARNATION))?;
        let incarnation = Incarnation::parse(&incarnation).ok_or_else(|| damaged(INCARNATION, "it does not read as an incarnation"))?;
        let device = settle_device(&dir, incarnation.device)?;
        let is_copy = incarnation.place != Place::of(&dir)?;
        Ok(Self { dir, space, root_public, root, next, next_hash, device, incarnation, is_copy })
    }

    fn check_next(&self, next: Option<&SecretKey>) -> Result<(), KitError> {
        match (next, self.next_hash) {
            (Some(next), Some(hash)) if hash_of_next(next) != hash => Err(KitError::OtherNext),
            _ => Ok(()),
        }
    }
}

fn hash_of_next(next: &SecretKey) -> [u8; 32] {
    hash("next root", &[next.public().as_bytes()])
}

fn stage_device(dir: &KeyDir, device: &SecretKey) -> Result<(), KeysError> {
    dir.write(DEVICE_NEW, device.seed())
}

fn write_incarnation(dir: &KeyDir, incarnation: &Incarnation) -> Result<(), KeysError> {
    dir.write(INCARNATION, incarnation.to_text().as_bytes())
}

/// The device key the incarnation names. Finishes or undoes a renewal that a crash interrupted.
fn settle_device(dir: &KeyDir, named: PublicKey) -> Result<SecretKey, KeysError> {
    let is_named = |key: &SecretKey| key.public() == named;
    let current = dir.read_seed(DEVICE)?;
    if let Some(device) = current.filter(is_named) {
        dir.erase(DEVICE_NEW)?;
        return Ok(device);
    }
    if let Some(device) = dir.read_seed(DEVICE_NEW)?.filter(is_named) {
        dir.rename(DEVICE_NEW, DEVICE)?;
        return Ok(device);
    }
    let path = dir.path_of(DEVICE);
    Err(match path.exists() {
        false => KeysError::Missing { path },
        true => KeysError::Damaged { path, problem: "it is not the device key named in the file incarnation" },
    })
}

/// 32 bytes written as a line of 52 characters, if the file exists.
fn read_32(dir: &KeyDir, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, KeysError> {
    let Some(text) = dir.read_text(name)? else {
        return Ok(None);
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match z32::decode_32(line) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(z32::Z32Error::WrongLength { expected, found }) => {
            Err(KeysError::WrongLength { path: dir.path_of(name), expected: expected as u64, found: found as u64 })
        }
        Err(_) => Err(KeysError::Damaged { path: dir.path_of(name), problem: "it is not z-base-32" }),
    }
}

fn write_32(dir: &KeyDir, name: &str, bytes: &[u8; 32]) -> Result<(), KeysError> {
    let mut line = Zeroizing::new(z32::encode(bytes));
    line.reserve_exact(1);
    line.push('\n');
    dir.write(name, line.as_bytes())
}

#[cfg(test)]
mod tests;
