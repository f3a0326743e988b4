mod animals;
mod nature;

use animals::ANIMALS;
use nature::NATURE;

use crate::{PublicKey, hash};

/// A name for a key that people can say, like `river-otter-61`.
///
/// It follows from the key, so everybody sees the same name and nobody chooses it. There are only
/// 1 474 560 of them: good for telling a few dozen peers apart, proof of nothing.
#[must_use]
pub fn human_name(key: &PublicKey) -> String {
    let digest = hash("name", &[key.as_bytes()]);
    let nature = NATURE[usize::from(digest[0] % 128)];
    let animal = ANIMALS[usize::from(digest[1] % 128)];
    let number = 10 + u16::from_be_bytes([digest[2], digest[3]]) % 90;
    format!("{nature}-{animal}-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_word_appears_twice() {
        let words: BTreeSet<_> = NATURE.iter().chain(&ANIMALS).collect();
        assert_eq!(words.len(), 256);
    }

    #[test]
    fn words_are_short_and_plain() {
        for word in NATURE.iter().chain(&ANIMALS) {
            assert!((3..=11).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
        }
    }

    #[test]
    fn keeps_its_value() {
        assert_eq!(human_name(&PublicKey::from_bytes([0; 32])), "pebble-dove-67");
        assert_eq!(human_name(&PublicKey::from_bytes([1; 32])), "lilac-cheetah-38");
    }

    #[test]
    fn spreads_over_all_words() {
        let names = (0..4096_u32).map(|i| {
            let bytes = hash("test", &[&i.to_be_bytes()]);
            human_name(&PublicKey::from_bytes(bytes))
        });
        let (mut natures, mut animals, mut numbers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for name in names {
            let [nature, animal, number] = name.split('-').map(str::to_owned).collect::<Vec<_>>().try_into().expect("three parts");
            natures.insert(nature);
            animals.insert(animal);
            numbers.insert(number);
        }
        assert_eq!((natures.len(), animals.len(), numbers.len()), (128, 128, 90));
        assert_eq!(numbers.first().map(String::as_str), Some("10"));
        assert_eq!(numbers.last().map(String::as_str), Some("99"));
    }
}
