use bip39::Language;

/// Words that are said, of eleven bits each.
const WORDS: usize = 8;

/// Eight words for a hash, to be compared by voice: of 88 bits, so that nobody finds another text with the same words.
///
/// They are of the word list of the kit, and no secret. A [`crate::human_name`] is shorter, and proof of nothing.
#[must_use]
pub fn spoken(hash: &[u8; 32]) -> String {
    let bit = |at: usize| u16::from(hash[at / 8] >> (7 - at % 8) & 1);
    let word = |number: usize| (0..11).fold(0, |word, at| word << 1 | bit(number * 11 + at));
    let words: Vec<&str> = (0..WORDS).map(|number| Language::English.word_list()[usize::from(word(number))]).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_88_bits_is_heard() {
        let zeros = spoken(&[0; 32]);
        assert_eq!(zeros, ["abandon"; 8].join(" "));
        assert_eq!(spoken(&[255; 32]), ["zoo"; 8].join(" "));
        for at in 0..96 {
            let mut hash = [0; 32];
            hash[at / 8] |= 128 >> (at % 8);
            let changed = spoken(&hash).split(' ').zip(zeros.split(' ')).position(|(a, b)| a != b);
            assert_eq!(changed, (at < 88).then_some(at / 11), "bit {at}");
        }
    }
}
