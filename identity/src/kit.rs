use std::fmt;

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use crate::{KeysError, PublicKey, SecretKey};

/// Words per key: 32 bytes and a checksum of one byte, eleven bits to a word.
pub(crate) const KEY_WORDS: usize = 24;

/// The longest sentence: 24 words of at most 8 letters, with spaces.
const SENTENCE_BYTES_MAX: usize = KEY_WORDS * 9;

/// The owner's recovery kit: 24 words for the root key, 24 for the next root key.
///
/// Words are BIP-39 English. They *are* the keys: show them to the owner, keep them nowhere.
pub struct Kit {
    root: Zeroizing<String>,
    next: Option<Zeroizing<String>>,
}

/// Why words are not the kit they should be. Words are counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// Words are missing, or there are too many.
    #[error("expected {expected} words, found {found}")]
    WordCount {
        /// How many words this takes.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Probably a typing mistake: look this word up in the kit again.
    #[error("word {number} is not in the word list")]
    UnknownWord {
        /// Which word.
        number: usize,
    },
    /// A word of the list, but another one than in the kit.
    #[error("word {number} is not the word in the kit")]
    WrongWord {
        /// Which word.
        number: usize,
    },
    /// One of these words is wrong, or two changed places.
    #[error("the checksum of words {first} to {last} fails: one of them is wrong")]
    Checksum {
        /// The first of the words the checksum is over.
        first: usize,
        /// The last of them.
        last: usize,
    },
    /// A good kit, but of another space.
    #[error("these are the words of space {found}, not of {expected}")]
    OtherSpace {
        /// The space of this home.
        expected: PublicKey,
        /// The space whose root key the words are.
        found: PublicKey,
    },
    /// Words 1 to 24 are right; words 25 to 48 are a good key, but not the next root key.
    #[error("words 25 to 48 are not the next root key of this space")]
    OtherNext,
    /// This home never had a root key and cannot tell whether the next one would be the right one.
    #[error("this device needs all 48 words of the kit, since it never had the root key")]
    NextMissing,
    /// There is no root key on disk to compare with: the kit was confirmed before.
    #[error("the root key is not on this disk, the kit was confirmed already")]
    Cold,
    /// The words are right, but a key file could not be changed.
    #[error("could not change the key files")]
    Keys(#[from] KeysError),
}

impl Kit {
    pub(crate) fn new(root: &SecretKey, next: Option<&SecretKey>) -> Self {
        Self { root: sentence(root), next: next.map(sentence) }
    }

    /// The 24 words of the root key, with single spaces.
    #[must_use]
    pub fn root_words(&self) -> &str {
        &self.root
    }

    /// The 24 words of the next root key. Absent when the root was restored without them.
    #[must_use]
    pub fn next_words(&self) -> Option<&str> {
        self.next.as_ref().map(|words| words.as_str())
    }

    /// The root key and the next root key of a whole kit, 48 words.
    ///
    /// # Errors
    ///
    /// [`KitError`] says which word is wrong, as far as the words themselves can tell.
    pub fn recover(words: &str) -> Result<(SecretKey, SecretKey), KitError> {
        let (root, next) = Words::split(words)?.keys()?;
        let next = next.ok_or(KitError::WordCount { expected: "48", found: KEY_WORDS })?;
        Ok((root, next))
    }
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kit(..)")
    }
}

/// What somebody typed: 24 or 48 words, all of them in the word list.
pub(crate) struct Words(Vec<&'static str>);

impl Words {
    /// Splits at white space and ignores case.
    pub(crate) fn split(text: &str) -> Result<Self, KitError> {
        let text = Zeroizing::new(text.to_lowercase());
        let found = text.split_whitespace().count();
        if found != KEY_WORDS && found != 2 * KEY_WORDS {
            return Err(KitError::WordCount { expected: "24 or 48", found });
        }
        let words = text.split_whitespace().enumerate().map(|(index, word)| {
            let known = Language::English.find_word(word);
            let number = index + 1;
            known.map(|place| Language::English.word_list()[usize::from(place)]).ok_or(KitError::UnknownWord { number })
        });
        Ok(Self(words.collect::<Result<_, _>>()?))
    }

    /// Compares with the sentences of a kit, and names the first word that differs.
    pub(crate) fn check(&self, kit: &Kit) -> Result<(), KitError> {
        let expected = kit.root.split(' ');
        let expected = expected.chain(kit.next.iter().flat_map(|next| next.split(' ')));
        match self.0.iter().zip(expected).position(|(a, b)| *a != b) {
            Some(index) => Err(KitError::WrongWord { number: index + 1 }),
            None => Ok(()),
        }
    }

    /// The root key, and the next root key if there are 48 words.
    pub(crate) fn keys(&self) -> Result<(SecretKey, Option<SecretKey>), KitError> {
        let (root, next) = self.0.split_at(KEY_WORDS);
        let root = key(root, 1)?;
        let next = match next {
            [] => None,
            words => Some(key(words, KEY_WORDS + 1)?),
        };
        Ok((root, next))
    }
}

fn sentence(key: &SecretKey) -> Zeroizing<String> {
    let mnemonic = Mnemonic::from_entropy_in(Language::English, key.seed()).expect("32 bytes are a size of BIP-39");
    join(mnemonic.words())
}

fn key(words: &[&'static str], first: usize) -> Result<SecretKey, KitError> {
    let checksum = KitError::Checksum { first, last: first + KEY_WORDS - 1 };
    // The words are known and counted, so that only the checksum can fail.
    let sentence = join(words.iter().copied());
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &sentence).map_err(|_| checksum)?;
    let entropy = Zeroizing::new(mnemonic.to_entropy_array().0);
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&entropy[..32]);
    Ok(SecretKey::from_seed(*seed))
}

/// Room is reserved, because growing would leave copies behind.
fn join(words: impl Iterator<Item = &'static str>) -> Zeroizing<String> {
    let mut sentence = Zeroizing::new(String::with_capacity(SENTENCE_BYTES_MAX));
    for word in words {
        if !sentence.is_empty() {
            sentence.push(' ');
        }
        sentence.push_str(word);
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kit(root: [u8; 32], next: [u8; 32]) -> Kit {
        let [root, next] = [root, next].map(SecretKey::from_seed);
        Kit::new(&root, Some(&next))
    }

    fn all_words(kit: &Kit) -> String {
        let next = kit.next_words().expect("a whole kit");
        format!("{} {next}", kit.root_words())
    }

    fn with_word(words: &str, number: usize, word: &str) -> String {
        let mut words: Vec<_> = words.split(' ').collect();
        words[number - 1] = word;
        words.join(" ")
    }

    #[test]
    fn agrees_with_the_vectors_of_bip_39() {
        let zeros = format!("{}art", "abandon ".repeat(23));
        let ones = format!("{}vote", "zoo ".repeat(23));
        let kit = kit([0; 32], [0xff; 32]);
        assert_eq!(kit.root_words(), zeros);
        assert_eq!(kit.next_words(), Some(&*ones));
    }

    #[test]
    fn never_prints_itself() {
        assert_eq!(format!("{:?}", kit([1; 32], [2; 32])), "Kit(..)");
    }

    #[test]
    fn ignores_case_and_layout() {
        let words = all_words(&kit([1; 32], [2; 32]));
        let typed = format!("  {}\n", words.to_uppercase().replace(' ', "\n\t"));
        let (root, _) = Kit::recover(&typed).expect("the same words");
        assert_eq!(root.seed(), &[1; 32]);
    }

    #[test]
    fn counts_words() {
        let kit = kit([1; 32], [2; 32]);
        for (words, count) in [("", 0), ("zoo", 1), (kit.root_words(), 24)] {
            match Kit::recover(words) {
                Err(KitError::WordCount { found, .. }) => assert_eq!(found, count),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn names_the_unknown_word() {
        let words = with_word(&all_words(&kit([1; 32], [2; 32])), 31, "timebus");
        let error = Kit::recover(&words).expect_err("no such word");
        assert_eq!(error.to_string(), "word 31 is not in the word list");
    }

    #[test]
    fn names_the_words_whose_checksum_fails() {
        let kit = kit([0; 32], [0; 32]);
        for (number, first, last) in [(24, 1, 24), (48, 25, 48)] {
            match Kit::recover(&with_word(&all_words(&kit), number, "abandon")) {
                Err(KitError::Checksum { first: f, last: l }) => {
                    assert_eq!((f, l), (first, last));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn recovers_what_it_was_made_from(root: [u8; 32], next: [u8; 32]) {
            let (root_again, next_again) = Kit::recover(&all_words(&kit(root, next)))
                .expect("a kit of ours");
            prop_assert_eq!(root_again.seed(), &root);
            prop_assert_eq!(next_again.seed(), &next);
        }

        #[test]
        fn no_words_panic(words in proptest::collection::vec("zoo|abandon|vote|art|x", 22..50)) {
            let _ = Kit::recover(&words.join(" "));
        }
    }
}
