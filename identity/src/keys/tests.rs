//! What happens to a home: first start, restart, copying, the kit, crashes, careless permissions.

use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

struct Home {
    temp: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("a temporary folder");
        Self { temp }
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join("keys")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn open(&self) -> Keys {
        Keys::create_or_open(&self.path()).expect("a good home")
    }

    fn error(&self) -> KeysError {
        Keys::create_or_open(&self.path()).expect_err("a home that is not good")
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path()).expect("our folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.into_string().expect("a name of ours")).collect()
    }

    /// As `cp -a` does it: files and modes, into a new folder.
    fn copy(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(copy.path()).expect("a new folder");
        chmod(&copy.path(), 0o700);
        for name in self.files() {
            fs::copy(self.file(&name), copy.file(&name)).expect("room");
        }
        copy
    }
}

fn chmod(path: &Path, mode: u32) {
    let mode = PermissionsExt::from_mode(mode);
    fs::set_permissions(path, mode).expect("our own file");
}

fn all_words(keys: &Keys) -> String {
    let kit = keys.kit().expect("a warm root");
    format!("{} {}", kit.root_words(), kit.next_words().expect("a whole kit"))
}

fn with_word(words: &str, number: usize, word: &str) -> String {
    let mut words: Vec<_> = words.split(' ').collect();
    words[number - 1] = word;
    words.join(" ")
}

/// What a crash must not mix up.
fn device_and_incarnation(keys: &Keys) -> (PublicKey, [u8; 16]) {
    (keys.device().public(), keys.incarnation())
}

#[test]
fn the_first_start_makes_everything() {
    let home = Home::new();
    let keys = home.open();
    assert_eq!(keys.root().map(SecretKey::public), Some(keys.space()));
    assert!(!keys.is_copy());
    let expected = ["device.key", "incarnation", "next.hash", "next.key", "root.key", "space"];
    assert!(home.files().iter().eq(expected));
    let space = fs::read_to_string(home.file(SPACE)).expect("a file");
    assert_eq!(space, format!("{}\n", keys.space()));
    assert_eq!(fs::read_dir(home.temp.path()).expect("the home").count(), 1);
}

#[test]
fn every_start_after_it_finds_the_same_keys() {
    let home = Home::new();
    let (first, second) = (home.open(), home.open());
    assert_eq!(first.space(), second.space());
    assert_eq!(device_and_incarnation(&first), device_and_incarnation(&second));
    assert_eq!(first.next_hash(), second.next_hash());
    assert_eq!(all_words(&first), all_words(&second));
    assert!(!second.is_copy());
}

#[test]
fn two_homes_share_nothing() {
    let (one, two) = (Home::new().open(), Home::new().open());
    let keys = [&one, &two].map(|keys| (keys.space(), keys.device().public()));
    let distinct: BTreeSet<_> = keys.iter().flat_map(|(a, b)| [a, b]).collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn an_empty_folder_will_do() {
    let home = Home::new();
    fs::create_dir(home.path()).expect("a new folder");
    chmod(&home.path(), 0o700);
    assert!(!home.open().is_copy());
}

#[test]
fn a_first_start_cut_short_is_as_if_it_never_was() {
    let home = Home::new();
    let unfinished = home.temp.path().join(".keys.new");
    fs::create_dir(&unfinished).expect("a new folder");
    fs::write(unfinished.join(ROOT), [1; 32]).expect("room");
    let keys = home.open();
    assert_ne!(keys.root().expect("a warm root").seed(), &[1; 32]);
    assert!(!unfinished.exists());
}

#[test]
fn debug_shows_no_secret() {
    let home = Home::new();
    let keys = home.open();
    let shown = format!("{keys:?}");
    assert!(shown.contains("SecretKey(..)"));
    for seed in [keys.device().seed(), keys.root().expect("warm").seed()] {
        assert!(!shown.contains(&format!("{seed:?}")));
    }
}

#[test]
fn refuses_a_key_file_others_may_read() {
    for name in [SPACE, ROOT, NEXT, NEXT_HASH, DEVICE, INCARNATION] {
        let home = Home::new();
        home.open();
        chmod(&home.file(name), 0o644);
        let message = home.error().to_string();
        let path = home.file(name).display().to_string();
        assert!(message.starts_with(&path), "{message}");
        assert!(message.contains("0644"), "{message}");
        assert!(message.contains("chmod 600 "), "{message}");
        chmod(&home.file(name), 0o600);
        home.open();
    }
}

#[test]
fn refuses_a_folder_others_may_enter() {
    let home = Home::new();
    home.open();
    chmod(&home.path(), 0o755);
    let message = home.error().to_string();
    assert!(message.contains("0755"), "{message}");
    assert!(message.contains("chmod 700 "), "{message}");
}

#[test]
fn refuses_links() {
    for name in [SPACE, ROOT, NEXT, NEXT_HASH, DEVICE, INCARNATION] {
        let home = Home::new();
        home.open();
        let elsewhere = home.temp.path().join("elsewhere");
        fs::rename(home.file(name), &elsewhere).expect("our file");
        symlink(&elsewhere, home.file(name)).expect("a link");
        assert!(matches!(home.error(), KeysError::SymbolicLink { path } if path == home.file(name)));
    }
    let home = Home::new();
    home.open();
    let elsewhere = home.temp.path().join("elsewhere");
    fs::rename(home.path(), &elsewhere).expect("our folder");
    symlink(&elsewhere, home.path()).expect("a link");
    assert!(matches!(home.error(), KeysError::SymbolicLink { .. }));
}

#[test]
fn refuses_files_of_the_wrong_length() {
    for name in [SPACE, ROOT, NEXT, NEXT_HASH, DEVICE] {
        let home = Home::new();
        home.open();
        fs::write(home.file(name), [b'y'; 31]).expect("room");
        assert!(matches!(home.error(), KeysError::WrongLength { path, found: 31, .. } if path == home.file(name)));
    }
}

#[test]
fn refuses_files_that_do_not_belong_together() {
    let other = Home::new();
    other.open();
    for name in [SPACE, ROOT, NEXT, NEXT_HASH, DEVICE, INCARNATION] {
        let home = Home::new();
        home.open();
        fs::copy(other.file(name), home.file(name)).expect("room");
        assert!(matches!(home.error(), KeysError::Damaged { .. }), "{name}");
    }
    let home = Home::new();
    home.open();
    fs::write(home.file(INCARNATION), "incarnation ?\n").expect("room");
    assert!(matches!(home.error(), KeysError::Damaged { .. }));
}

/// A home without its `space` must not be taken for a new one: that would lose the space.
#[test]
fn refuses_to_start_without_a_file_it_needs() {
    for name in [SPACE, NEXT_HASH, DEVICE, INCARNATION] {
        let home = Home::new();
        home.open();
        fs::remove_file(home.file(name)).expect("our file");
        assert!(matches!(home.error(), KeysError::Missing { path } if path == home.file(name)));
    }
}

#[test]
fn a_copy_knows_it_is_one_until_it_is_renewed() {
    let home = Home::new();
    let original = home.open();
    let copy = home.copy();
    let mut keys = copy.open();
    assert!(keys.is_copy());
    assert_eq!(device_and_incarnation(&keys), device_and_incarnation(&original));

    keys.renew_device().expect("room");
    assert!(!keys.is_copy());
    assert_eq!(copy.files(), home.files(), "nothing is left over");
    assert_eq!(keys.space(), original.space());
    assert_ne!(keys.device().public(), original.device().public());
    assert_ne!(keys.incarnation(), original.incarnation());

    let reopened = copy.open();
    assert!(!reopened.is_copy());
    assert_eq!(device_and_incarnation(&reopened), device_and_incarnation(&keys));
    assert!(!home.open().is_copy());
}

#[test]
fn a_home_that_moved_within_its_disk_is_no_copy() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let keys = home.open();
    fs::rename(home.path(), elsewhere.path()).expect("one disk");
    let moved = elsewhere.open();
    assert!(!moved.is_copy());
    assert_eq!(device_and_incarnation(&keys), device_and_incarnation(&moved));
}

#[test]
fn another_machine_is_another_place() {
    let home = Home::new();
    home.open();
    let text = fs::read_to_string(home.file(INCARNATION)).expect("a file");
    let line = text.lines().nth(2).expect("the machine");
    let text = text.replace(line, "machine elsewhere");
    fs::write(home.file(INCARNATION), text).expect("room");
    assert!(home.open().is_copy());
}

/// Steps of a renewal are: 1 the new device key is staged, 2 the incarnation is replaced, 3 the
/// new device key takes over. Within a step only an `.….tmp` file is written.
#[test]
fn a_crash_while_renewing_leaves_the_old_or_the_new_device() {
    for steps_done in 0..3 {
        for torn in [None, Some(DEVICE_NEW), Some(INCARNATION)] {
            let home = Home::new();
            home.open();
            let copy = home.copy();
            let keys = copy.open();
            let old = device_and_incarnation(&keys);

            let device = SecretKey::generate();
            let incarnation = Incarnation { id: [9; 16], device: device.public(), place: Place::of(&keys.dir).expect("our folder") };
            if steps_done >= 1 {
                stage_device(&keys.dir, &device).expect("room");
            }
            if steps_done >= 2 {
                write_incarnation(&keys.dir, &incarnation).expect("room");
            }
            if let Some(name) = torn {
                fs::write(copy.file(&format!(".{name}.tmp")), b"to").expect("room");
            }
            drop(keys);

            let mut keys = copy.open();
            if steps_done < 2 {
                assert_eq!(device_and_incarnation(&keys), old);
                assert!(keys.is_copy());
            } else {
                let new = (device.public(), incarnation.id);
                assert_eq!(device_and_incarnation(&keys), new);
                assert!(!keys.is_copy());
            }
            assert_eq!(copy.files(), home.files(), "nothing is left over");
            keys.renew_device().expect("room");
            assert!(!copy.open().is_copy());
        }
    }
}

#[test]
fn confirming_the_kit_makes_the_root_cold() {
    for with_next in [false, true] {
        let home = Home::new();
        let mut keys = home.open();
        let words = match with_next {
            false => keys.kit().expect("warm").root_words().to_owned(),
            true => all_words(&keys),
        };
        keys.confirm_kit(&words).expect("the right words");
        for keys in [&keys, &home.open()] {
            assert!(keys.root().is_none());
            assert!(keys.kit().is_none());
        }
        assert!(!home.file(ROOT).exists());
        assert!(!home.file(NEXT).exists());
        assert!(matches!(keys.confirm_kit(&words), Err(KitError::Cold)));
    }
}

#[test]
fn a_cold_home_still_knows_its_space_and_what_is_next() {
    let home = Home::new();
    let mut keys = home.open();
    let (space, next_hash) = (keys.space(), keys.next_hash());
    let words = all_words(&keys);
    keys.confirm_kit(&words).expect("the right words");
    assert_eq!(home.open().space(), space);
    assert_eq!(home.open().next_hash(), next_hash);
    let (root, next) = Kit::recover(&words).expect("the right words");
    assert_eq!(root.public(), space);
    assert_eq!(hash("next root", &[next.public().as_bytes()]), next_hash);
}

#[test]
fn a_further_device_has_the_space_and_no_root() {
    let (first, second) = (Home::new(), Home::new());
    let owner = first.open();
    let made = Keys::create_for(&second.path(), &owner.space()).expect("a new folder");
    let again = second.open();
    assert_eq!((again.space(), device_and_incarnation(&again)), (owner.space(), device_and_incarnation(&made)));
    assert!(again.root().is_none() && again.kit().is_none() && !again.is_copy());
    assert_ne!(again.device().public(), owner.device().public());
    assert!(matches!(Keys::create_for(&second.path(), &owner.space()), Err(KeysError::AlreadyThere { .. })));
    assert!(matches!(Keys::create_for(&first.path(), &owner.space()), Err(KeysError::AlreadyThere { .. })));
}

#[test]
fn a_further_device_takes_the_root_only_by_the_words_of_its_space() {
    let (first, second) = (Home::new(), Home::new());
    let owner = first.open();
    let mut device = Keys::create_for(&second.path(), &owner.space()).expect("a new folder");
    let stranger = Home::new().open();
    assert!(matches!(device.restore_root(&all_words(&stranger)), Err(KitError::OtherSpace { .. })));
    assert!(matches!(device.restore_root(owner.kit().expect("warm").root_words()), Err(KitError::NextMissing)));
    assert!(second.open().root().is_none());
    device.restore_root(&all_words(&owner)).expect("the right words");
    let again = second.open();
    assert_eq!((again.root().map(SecretKey::public), again.next_hash()), (Some(owner.space()), owner.next_hash()));
}

#[test]
fn wrong_words_erase_nothing_and_are_named() {
    let home = Home::new();
    let mut keys = home.open();
    let words = all_words(&keys);
    for number in [1, 7, 24, 25, 48] {
        let right = words.split(' ').nth(number - 1);
        let wrong = if right == Some("zoo") { "art" } else { "zoo" };
        let error = keys.confirm_kit(&with_word(&words, number, wrong)).expect_err("a wrong word");
        assert!(matches!(error, KitError::WrongWord { number: n } if n == number));
        let error = keys.confirm_kit(&with_word(&words, number, "timebus")).expect_err("no word");
        assert!(matches!(error, KitError::UnknownWord { number: n } if n == number));
    }
    assert!(matches!(keys.confirm_kit("zoo zoo"), Err(KitError::WordCount { found: 2, .. })));
    assert!(keys.root().is_some());
    assert!(home.open().kit().is_some());
}

#[test]
fn the_root_can_be_restored_whole() {
    let home = Home::new();
    let mut keys = home.open();
    let words = all_words(&keys);
    keys.confirm_kit(&words).expect("the right words");
    keys.restore_root(&words).expect("the right words");
    for keys in [&keys, &home.open()] {
        assert_eq!(keys.root().map(SecretKey::public), Some(keys.space()));
        assert_eq!(all_words(keys), words);
    }
}

#[test]
fn the_root_can_be_restored_without_the_next_key() {
    let home = Home::new();
    let mut keys = home.open();
    let both = all_words(&keys);
    let words = keys.kit().expect("warm").root_words().to_owned();
    keys.confirm_kit(&words).expect("the right words");
    keys.restore_root(&words).expect("the right words");
    assert!(keys.root().is_some());
    assert_eq!(keys.kit().expect("warm").next_words(), None);

    let other = Home::new().open();
    let kit = other.kit().expect("warm");
    let mixed = format!("{words} {}", kit.next_words().expect("a whole kit"));
    assert!(matches!(keys.confirm_kit(&mixed), Err(KitError::OtherNext)));
    keys.confirm_kit(&both).expect("the right words");
    assert!(keys.root().is_none());
}

#[test]
fn refuses_to_restore_another_root() {
    let home = Home::new();
    let mut keys = home.open();
    let words = all_words(&keys);
    keys.confirm_kit(&words).expect("the right words");

    let other = Home::new().open();
    let kit = other.kit().expect("warm");
    match keys.restore_root(kit.root_words()) {
        Err(KitError::OtherSpace { expected, found }) => {
            assert_eq!((expected, found), (keys.space(), other.space()));
        }
        result => panic!("{result:?}"),
    }
    let root_words = words.split(' ').take(24).collect::<Vec<_>>().join(" ");
    let mixed = format!("{root_words} {}", kit.next_words().expect("a whole kit"));
    assert!(matches!(keys.restore_root(&mixed), Err(KitError::OtherNext)));
    assert!(keys.root().is_none());
    assert!(home.open().root().is_none());
}

/// Overwriting `root.key` in place would, after a crash at the wrong moment, leave a home with a
/// root key of zeros that refuses to start. So a key loses its name before it is overwritten.
#[test]
fn a_crash_while_keys_are_erased_leaves_a_home_that_starts() {
    let erased_so_far: [&[&str]; 2] = [&[NEXT], &[NEXT, ROOT]];
    for erased in erased_so_far {
        for wiped in [false, true] {
            let home = Home::new();
            let words = all_words(&home.open());
            for name in erased {
                let aside = home.file(&format!(".{name}.tmp"));
                fs::rename(home.file(name), &aside).expect("our file");
                if wiped {
                    fs::write(&aside, [0; 32]).expect("room");
                }
            }
            let mut keys = home.open();
            assert_eq!(keys.root().is_some(), !erased.contains(&ROOT));
            if keys.root().is_some() {
                keys.confirm_kit(&words).expect("the right words");
            }
            assert!(home.open().root().is_none());
            let expected = [DEVICE, INCARNATION, NEXT_HASH, SPACE];
            assert!(home.files().iter().eq(expected), "nothing is left over");
        }
    }
}

#[test]
fn a_new_home_can_be_made_from_the_kit() {
    let (lost, home) = (Home::new().open(), Home::new());
    let (root, next) = Kit::recover(&all_words(&lost)).expect("the right words");
    let keys = Keys::create_from(&home.path(), &root, &next).expect("a new home");
    assert_eq!(keys.space(), lost.space());
    assert_eq!(keys.next_hash(), lost.next_hash());
    assert_ne!(keys.device().public(), lost.device().public());
    assert!(!keys.is_copy());
    assert!(matches!(Keys::create_from(&home.path(), &root, &next), Err(KeysError::AlreadyThere { .. })));
}

#[test]
fn the_owner_token_stays() {
    let home = Home::new();
    let token = home.open().owner_token().expect("room");
    assert_eq!(home.open().owner_token().expect("a file"), token);
    let text = fs::read_to_string(home.file(TOKEN)).expect("a file");
    assert_eq!(text.trim_end().parse(), Ok(token));
    chmod(&home.file(TOKEN), 0o640);
    assert!(matches!(home.open().owner_token(), Err(KeysError::OpenToOthers { .. })));
}

#[test]
fn a_rotation_makes_the_next_key_the_root() {
    let home = Home::new();
    let mut keys = home.open();
    let (old, space) = (all_words(&keys), keys.space());
    let next = SecretKey::from_seed(*keys.next().expect("warm").seed());
    let after = keys.begin_rotation(&next).expect("room");
    assert_eq!(keys.begin_rotation(&next).expect("room").public(), after.public(), "asked again it is the same");
    assert_eq!(home.open().root_public(), space, "nothing has changed yet");
    keys.finish_rotation().expect("room");
    for keys in [keys, home.open()] {
        assert_eq!((keys.space(), keys.root_public()), (space, next.public()));
        assert_eq!(keys.next_hash(), hash_of_next(&after));
        assert!(keys.rotation().expect("no file").is_none());
        assert_ne!(all_words(&keys), old);
    }
    let mut keys = home.open();
    let words = all_words(&keys);
    keys.confirm_kit(&words).expect("the new words");
    assert!(matches!(keys.restore_root(&old), Err(KitError::OtherSpace { .. })), "the old words are good for nothing");
    keys.restore_root(&words).expect("the new words");
    // Another attempt with another key begins anew.
    let first = keys.begin_rotation(&SecretKey::from_seed([1; 32])).expect("room").public();
    assert_ne!(keys.begin_rotation(&SecretKey::from_seed([2; 32])).expect("room").public(), first);
}

/// Every state that a crash within `finish_rotation` can leave opens, and knows both keys.
#[test]
fn a_rotation_that_was_cut_short_goes_on() {
    let steps: [fn(&Home); 5] = [
        |home| fs::remove_file(home.file(NEXT)).expect("there"),
        |home| fs::remove_file(home.file(ROOT)).expect("there"),
        |home| fs::write(home.file(ROOT_PUBLIC), format!("{}\n", SecretKey::from_seed([7; 32]).public())).expect("room"),
        |home| {
            let after = SecretKey::from_seed(fs::read(home.file(NEXT_NEW)).expect("there").try_into().expect("32 bytes"));
            fs::write(home.file(NEXT_HASH), format!("{}\n", z32::encode(&hash_of_next(&after)))).expect("room");
        },
        |home| assert_eq!(fs::copy(home.file(NEXT_NEW), home.file(NEXT)).expect("room"), 32),
    ];
    for count in 0..=steps.len() {
        let home = Home::new();
        let after = home.open().begin_rotation(&SecretKey::from_seed([7; 32])).expect("room").public();
        for step in &steps[..count] {
            step(&home);
            if home.file(ROOT_PUBLIC).exists() {
                chmod(&home.file(ROOT_PUBLIC), 0o600);
            }
        }
        let mut keys = home.open();
        let rotation = keys.rotation().expect("a file").map(|(root, after)| (root.public(), after.public()));
        assert_eq!(rotation, Some((SecretKey::from_seed([7; 32]).public(), after)), "after {count} steps");
        keys.finish_rotation().expect("room");
        let keys = home.open();
        assert_eq!(keys.root().map(SecretKey::public), Some(SecretKey::from_seed([7; 32]).public()));
        assert_eq!(keys.next().map(SecretKey::public), Some(after));
    }
}

#[test]
fn words_of_a_later_root_make_a_new_home() {
    let home = Home::new();
    let (space, root, next) = (SecretKey::from_seed([1; 32]).public(), SecretKey::from_seed([2; 32]), SecretKey::from_seed([3; 32]));
    let keys = Keys::create_with_root(&home.path(), &space, &root, &next).expect("a new folder");
    assert_eq!((keys.space(), keys.root_public()), (space, root.public()));
    assert!(home.open().kit().is_some());
    assert!(matches!(Keys::create_with_root(&home.path(), &space, &root, &next), Err(KeysError::AlreadyThere { .. })));
}
