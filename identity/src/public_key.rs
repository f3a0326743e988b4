use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Verifier as _, VerifyingKey};

use crate::{BadSignature, Signature, Z32Error, z32};

/// Keys that a thread keeps ready to verify with, 200 bytes each: the authors of what comes in are mostly the same.
const KEYS_READY_MAX: usize = 256;

/// The points of small order in their canonical form.
const SMALL_ORDER: [[u8; 32]; 8] = {
    const fn point(low: [u8; 32], high: u8) -> [u8; 32] {
        let mut bytes = low;
        bytes[31] = high;
        bytes
    }
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    // The y coordinates of the points of order 8.
    let first = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33,
        0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    let second = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc,
        0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    [one, minus_one, [0; 32], point([0; 32], 0x80), first, point(first, 0x85), second, point(second, 0xfa)]
};

thread_local! {
    /// Keys as points, which take as long to work out as a fifth of a verification. `None` is no key of anybody.
    static KEYS_READY: RefCell<HashMap<PublicKey, Option<VerifyingKey>>> = RefCell::default();
}

/// Names an author, a device, a peer or a space: an ed25519 public key.
///
/// Any 32 bytes will do. Bytes that are no honest key are a name nobody can sign for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes, which are checked only when something is verified.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes that are stored and sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks that the holder of this key signed `message`.
    ///
    /// Strict, so that every peer gives the same answer for ever: `R` and `S` in their one
    /// canonical form, no key or `R` of small order, no multiplication by the cofactor; and,
    /// which `verify_strict` of ed25519-dalek leaves open, the key in its canonical form too.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] in every other case.
    pub fn verify(&self, message: &[u8], sig: &Signature) -> Result<(), BadSignature> {
        let key = self.ready().ok_or(BadSignature)?;
        // `R` is compared as bytes with the canonical form of what it should be. So it is no other form of a point of
        // small order either, and need not be made a point to be told from those, as `verify_strict` does.
        if SMALL_ORDER.iter().any(|point| *point == sig.as_bytes()[..32]) {
            return Err(BadSignature);
        }
        let signature = ed25519_dalek::Signature::from_bytes(sig.as_bytes());
        key.verify(message, &signature).map_err(|_| BadSignature)
    }

    /// The key as a point; `None` if nobody can sign for it.
    fn ready(&self) -> Option<VerifyingKey> {
        KEYS_READY.with_borrow_mut(|ready| {
            if let Some(key) = ready.get(self) {
                return *key;
            }
            if ready.len() >= KEYS_READY_MAX {
                ready.clear();
            }
            let key = VerifyingKey::from_bytes(&self.0).ok().filter(|key| self.is_canonical() && !key.is_weak());
            ready.insert(*self, key);
            key
        })
    }

    /// Whether the y coordinate, all but the top bit, is below 2^255 − 19.
    ///
    /// A sign bit where x = 0 is the other ambiguity; those two points are of small order.
    fn is_canonical(&self) -> bool {
        let [first, middle @ .., last] = &self.0;
        *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|&byte| byte != 0xff)
    }
}

/// The 52 characters of z-base-32.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&z32::encode(&self.0))
    }
}

/// `PublicKey(k7f3q2)`, the first six characters.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", &z32::encode(&self.0)[..6])
    }
}

/// Reads what `Display` writes.
impl FromStr for PublicKey {
    type Err = Z32Error;

    fn from_str(text: &str) -> Result<Self, Z32Error> {
        z32::decode_32(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;
    use proptest::prelude::*;
    use std::path::PathBuf;

    /// All 14 encodings of the 8 points of small order.
    const SMALL_ORDER_FORMS: [&str; 14] = [
        // order 1: canonical, with a sign bit, y + p, both
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // order 2: canonical, with a sign bit
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // order 4: two points, each canonical and as y + p
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // order 8: four points, canonical
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];

    /// The order of the group, which a lenient verifier lets one add to S.
    const GROUP_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex digits")).collect()
    }

    fn hex_32(text: &str) -> [u8; 32] {
        hex(text).try_into().expect("32 bytes")
    }

    fn signature(r: &[u8; 32], s: &[u8; 32]) -> Signature {
        let bytes = [*r, *s].concat().try_into().expect("64 bytes");
        Signature::from_bytes(bytes)
    }

    #[test]
    fn is_written_and_read_as_52_characters() {
        let key = PublicKey::from_bytes([0xa5; 32]);
        assert_eq!(key.to_string().len(), 52);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(format!("{key:?}"), format!("PublicKey({key:.6})"));
        assert!("k7f3q2".parse::<PublicKey>().is_err());
    }

    /// The 14 × 14 vectors of "It's 255:19AM": with S = 0 a lenient verifier accepts many of
    /// them, for any message, which would be a signature by everybody.
    #[test]
    fn refuses_every_small_order_key_with_every_small_order_r() {
        for key in SMALL_ORDER_FORMS {
            for r in SMALL_ORDER_FORMS {
                let forged = signature(&hex_32(r), &[0; 32]);
                for message in [&b"Zcash"[..], b"", b"1", b"2", b"3", b"4", b"5", b"6"] {
                    let verified = PublicKey::from_bytes(hex_32(key)).verify(message, &forged);
                    assert_eq!(verified, Err(BadSignature), "key {key}, R {r}");
                }
            }
        }
    }

    #[test]
    fn refuses_small_order_r_under_an_honest_key() {
        let key = SecretKey::from_seed([3; 32]);
        for r in SMALL_ORDER_FORMS {
            let forged = signature(&hex_32(r), &[0; 32]);
            assert_eq!(key.public().verify(b"", &forged), Err(BadSignature));
        }
    }

    #[test]
    fn the_points_of_small_order_are_these() {
        let all: std::collections::BTreeSet<[u8; 32]> = SMALL_ORDER.into_iter().collect();
        assert_eq!(all.len(), 8, "all that there are");
        for point in all {
            assert!(VerifyingKey::from_bytes(&point).expect("a point").is_weak());
            assert!(PublicKey::from_bytes(point).is_canonical());
        }
    }

    /// Many more keys than are kept ready, good ones and others, each more than once.
    #[test]
    fn keys_that_were_forgotten_are_worked_out_again() {
        let key = |n: usize| SecretKey::from_seed([(n % 251) as u8, (n / 251) as u8].repeat(16).try_into().expect("32 bytes"));
        for _ in 0..2 {
            for n in 0..2 * KEYS_READY_MAX {
                let key = key(n);
                assert_eq!(key.public().verify(b"x", &key.sign(b"x")), Ok(()));
                assert_eq!(PublicKey::from_bytes([0xff; 32]).verify(b"x", &key.sign(b"x")), Err(BadSignature));
            }
        }
        assert!(KEYS_READY.with_borrow(HashMap::len) <= KEYS_READY_MAX);
    }

    #[test]
    fn refuses_s_that_is_not_reduced() {
        let key = SecretKey::from_seed([3; 32]);
        let mut bytes = *key.sign(b"hello").as_bytes();
        let mut carry = 0;
        for (s, l) in bytes[32..].iter_mut().zip(hex_32(GROUP_ORDER)) {
            let sum = u16::from(*s) + u16::from(l) + carry;
            *s = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        let malleable = Signature::from_bytes(bytes);
        assert_eq!(key.public().verify(b"hello", &malleable), Err(BadSignature));
    }

    #[test]
    fn knows_canonical_keys() {
        // 2^255 − 19 + k for the k that fit; the sign bit plays no part.
        for low in 0xed..=0xff_u8 {
            for sign in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, sign);
                assert!(!PublicKey::from_bytes(bytes).is_canonical());
            }
        }
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xec, 0x7f);
        assert!(PublicKey::from_bytes(bytes).is_canonical());
        (bytes[0], bytes[30]) = (0xff, 0xfe);
        assert!(PublicKey::from_bytes(bytes).is_canonical());
    }

    #[test]
    fn agrees_with_wycheproof() {
        let data =
            std::env::var_os("TIMEBUS_DATA").map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")), PathBuf::from);
        let Ok(file) = std::fs::File::open(data.join("04-crypto/wycheproof-ed25519_test.json.gz")) else {
            eprintln!("skipped: no data");
            return;
        };
        let vectors: serde_json::Value = serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("vectors");
        let field = |value: &serde_json::Value, name: &str| hex(value[name].as_str().expect("a hex field"));
        let (mut valid, mut invalid) = (0, 0);
        for group in vectors["testGroups"].as_array().expect("groups") {
            let key = field(&group["publicKey"], "pk").try_into();
            let key = PublicKey::from_bytes(key.expect("32 bytes"));
            for test in group["tests"].as_array().expect("tests") {
                // A signature of another length is not even a `Signature`.
                let accepted = field(test, "sig").try_into().is_ok_and(|bytes| {
                    let signature = Signature::from_bytes(bytes);
                    key.verify(&field(test, "msg"), &signature).is_ok()
                });
                assert_eq!(accepted, test["result"] == "valid", "{test}");
                *(if accepted { &mut valid } else { &mut invalid }) += 1;
            }
        }
        assert_eq!(vectors["numberOfTests"].as_u64(), Some(valid + invalid), "{valid} valid, {invalid} invalid");
        assert!(valid > 0 && invalid > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn accepts_what_was_signed_and_nothing_else(
            seed: [u8; 32],
            message: Vec<u8>,
            flipped_bit in 0..512_usize,
        ) {
            let key = SecretKey::from_seed(seed);
            let signature = key.sign(&message);
            prop_assert_eq!(key.public().verify(&message, &signature), Ok(()));

            let longer = [&message[..], b"!"].concat();
            prop_assert_eq!(key.public().verify(&longer, &signature), Err(BadSignature));

            let mut bytes = *signature.as_bytes();
            bytes[flipped_bit / 8] ^= 1 << (flipped_bit % 8);
            let flipped = Signature::from_bytes(bytes);
            prop_assert_eq!(key.public().verify(&message, &flipped), Err(BadSignature));
        }

        /// A signature by the rules, and what a lenient verifier might take beside it, judged as ed25519-dalek does.
        #[test]
        fn judges_as_the_strict_verifier_does(
            seed: [u8; 32],
            message: Vec<u8>,
            which in 0..4_usize,
            form in 0..14_usize,
            flipped_bit in 0..512_usize,
        ) {
            let key = SecretKey::from_seed(seed);
            let mut bytes = *key.sign(&message).as_bytes();
            let mut public = *key.public().as_bytes();
            match which {
                0 => {}
                1 => bytes[flipped_bit / 8] ^= 1 << (flipped_bit % 8),
                2 => bytes[..32].copy_from_slice(&hex_32(SMALL_ORDER_FORMS[form])),
                _ => public = hex_32(SMALL_ORDER_FORMS[form]),
            }
            let strict = VerifyingKey::from_bytes(&public)
                .is_ok_and(|key| key.verify_strict(&message, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok());
            let ours = PublicKey::from_bytes(public).verify(&message, &Signature::from_bytes(bytes)).is_ok();
            prop_assert_eq!(ours, strict);
        }

        #[test]
        fn no_bytes_panic(key: [u8; 32], r: [u8; 32], s: [u8; 32], message: Vec<u8>) {
            let _ = PublicKey::from_bytes(key).verify(&message, &signature(&r, &s));
        }
    }
}
