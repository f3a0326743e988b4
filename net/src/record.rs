//! Peer records: where a peer is, who else holds its space, and who takes notices for it, signed by its node key.
//!
//! Each record has a number that is higher than in all before it, so that nobody can bring an old one in the place of a
//! newer. Whoever holds a record may hand it on; what is in it is the peer's own word.
//!
//! Deliberately not: a record gives no right to anything. Whoever is reached at its addresses has to prove the node key.

use timebus_identity::{PublicKey, Signable, Signature, Signed, Verified};
use timebus_store::codec::{DecodeError, Reader, Writer};

/// The format.
pub const VERSION: u8 = 1;
/// Largest record with its signature.
pub const RECORD_BYTES_MAX: usize = 2560;
/// Most addresses, as in a session's Auth.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// Most peers that hold its space, and that take notices for it.
pub const NODES_MAX: usize = 8;
/// Most communities.
pub const COMMUNITIES_MAX: usize = 16;
/// Before what is signed.
const DOMAIN: &[u8] = b"timebus.v1 peer record\0";

/// What a peer says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Its node key, which signs this.
    pub node: PublicKey,
    /// The space it calls its own.
    pub space: PublicKey,
    /// Higher than in all its records before: Unix milliseconds of when it was made, or more. At least 1.
    pub seq: u64,
    /// Where it can be called.
    pub addresses: Vec<String>,
    /// Node keys of other peers that hold its space; ascending.
    pub mirrors: Vec<PublicKey>,
    /// Node keys of peers that take notices for its space; ascending.
    pub inbox: Vec<PublicKey>,
    /// Communities that it says it is in, by their spaces; ascending.
    pub communities: Vec<PublicKey>,
}

impl PeerRecord {
    fn write(&self) -> Writer {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.raw(self.node.as_bytes());
        out.raw(self.space.as_bytes());
        out.var(self.seq);
        out.var(self.addresses.len() as u64);
        self.addresses.iter().for_each(|address| out.bytes(address.as_bytes()));
        for keys in [&self.mirrors, &self.inbox, &self.communities] {
            out.var(keys.len() as u64);
            keys.iter().for_each(|key| out.raw(key.as_bytes()));
        }
        out
    }

    /// The bytes of a record and its signature.
    #[must_use]
    pub fn encode(record: &Signed<Self>) -> Vec<u8> {
        let mut out = record.content().write();
        out.raw(record.signature().as_bytes());
        out.into_bytes()
    }

    /// The same of one that was checked.
    #[must_use]
    pub fn encode_verified(record: &Verified<Self>) -> Vec<u8> {
        let mut out = record.write();
        out.raw(record.signature().as_bytes());
        out.into_bytes()
    }

    /// Reads a record; its signature is not checked.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for anything but what [`PeerRecord::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Signed<Self>, DecodeError> {
        let mut input = Reader::new(bytes);
        if input.u8("version")? != VERSION {
            return Err(DecodeError::Invalid { field: "version" });
        }
        let node = PublicKey::from_bytes(input.array("node")?);
        let space = PublicKey::from_bytes(input.array("space")?);
        let seq = input.var(u64::MAX, "seq")?;
        if seq == 0 {
            return Err(DecodeError::Invalid { field: "seq" });
        }
        let count = input.count(ADDRESSES_MAX, "addresses")?;
        let addresses = (0..count).map(|_| Ok(input.text(ADDRESS_BYTES_MAX, "address")?.to_owned())).collect::<Result<_, DecodeError>>()?;
        let mut keys = |max: usize, field: &'static str| {
            let mut keys: Vec<PublicKey> = Vec::new();
            for _ in 0..input.count(max, field)? {
                let key = PublicKey::from_bytes(input.array(field)?);
                if keys.last().is_some_and(|last| *last >= key) {
                    return Err(DecodeError::Order { field });
                }
                keys.push(key);
            }
            Ok(keys)
        };
        let (mirrors, inbox, communities) = (keys(NODES_MAX, "mirrors")?, keys(NODES_MAX, "inbox")?, keys(COMMUNITIES_MAX, "communities")?);
        let signature = Signature::from_bytes(input.array("signature")?);
        input.finish()?;
        Ok(Signed::new(Self { node, space, seq, addresses, mirrors, inbox, communities }, signature))
    }
}

impl Signable for PeerRecord {
    fn author(&self) -> PublicKey {
        self.node
    }

    fn signing_message(&self) -> Vec<u8> {
        [DOMAIN, &self.write().into_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timebus_identity::SecretKey;

    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    fn record() -> Signed<PeerRecord> {
        let record = PeerRecord {
            node: key(0x11),
            space: key(0x22),
            seq: 300,
            addresses: vec!["a:1".to_owned(), String::new()],
            mirrors: vec![key(0x31), key(0x32)],
            inbox: vec![key(0x11)],
            communities: vec![],
        };
        Signed::new(record, Signature::from_bytes([0x99; 64]))
    }

    #[test]
    fn bytes_of_a_record() {
        let k = |byte: &str| byte.repeat(32);
        let text = format!(
            "01             # version
             {}             # node key
             {}             # space
             ac02           # number 300
             02 03 613a31 00 # two addresses: a:1, and an empty one
             02 {} {}       # two peers hold the space
             01 {}          # one takes notices
             00             # no communities
             {}             # signature",
            k("11"),
            k("22"),
            k("31"),
            k("32"),
            k("11"),
            "99".repeat(64)
        );
        let digits: Vec<u8> = text.lines().flat_map(|line| line.split('#').next().unwrap_or("").bytes()).filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits");
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        assert_eq!(PeerRecord::encode(&record()), bytes);
        assert_eq!(PeerRecord::decode(&bytes), Ok(record()));
        for len in 0..bytes.len() {
            assert!(PeerRecord::decode(&bytes[..len]).is_err(), "cut off at {len}");
        }
        assert!(PeerRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_message_that_is_signed_has_a_domain_of_its_own() {
        let message = record().content().signing_message();
        assert!(message.starts_with(b"timebus.v1 peer record\0\x01"));
        assert_eq!(message.len(), DOMAIN.len() + PeerRecord::encode(&record()).len() - 64);
    }

    #[test]
    fn refuses_more_than_the_limits() {
        let is_refused = |change: &dyn Fn(&mut PeerRecord)| {
            let mut new = record().content().clone();
            change(&mut new);
            let bytes = PeerRecord::encode(&Signed::new(new, Signature::from_bytes([0; 64])));
            assert!(bytes.len() <= RECORD_BYTES_MAX || PeerRecord::decode(&bytes).is_err(), "a record of {} bytes", bytes.len());
            PeerRecord::decode(&bytes).is_err()
        };
        let keys = |count: usize| (0..count).map(|at| key(at as u8)).collect::<Vec<_>>();
        let largest = |record: &mut PeerRecord| {
            record.seq = u64::MAX;
            record.addresses = vec!["x".repeat(ADDRESS_BYTES_MAX); ADDRESSES_MAX];
            (record.mirrors, record.inbox, record.communities) = (keys(NODES_MAX), keys(NODES_MAX), keys(COMMUNITIES_MAX));
        };
        assert!(!is_refused(&largest));
        assert!(is_refused(&|record| record.seq = 0));
        assert!(is_refused(&|record| record.addresses = vec![String::new(); ADDRESSES_MAX + 1]));
        assert!(is_refused(&|record| record.addresses = vec!["x".repeat(ADDRESS_BYTES_MAX + 1)]));
        assert!(is_refused(&|record| record.mirrors = keys(NODES_MAX + 1)));
        assert!(is_refused(&|record| record.inbox = keys(NODES_MAX + 1)));
        assert!(is_refused(&|record| record.communities = keys(COMMUNITIES_MAX + 1)));
        assert!(is_refused(&|record| record.mirrors = vec![key(2), key(1)]));
        assert!(is_refused(&|record| record.mirrors = vec![key(2), key(2)]));
    }

    #[test]
    fn nobody_else_can_make_one_or_change_it() {
        let (own, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let content = PeerRecord { node: own.public(), ..record().content().clone() };
        assert!(Verified::sign(content.clone(), &other).is_err());
        let good = Verified::sign(content, &own).expect("our own");
        let bytes = PeerRecord::encode_verified(&good);
        assert_eq!(PeerRecord::decode(&bytes).expect("reads").verify(), Ok(good));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(PeerRecord::decode(&bad).map_or(true, |bad| bad.verify().is_err()), "byte {at}");
        }
    }

    fn records() -> impl Strategy<Value = Signed<PeerRecord>> {
        let keys = |max| {
            prop::collection::btree_set(any::<[u8; 32]>(), 0..=max).prop_map(|keys| keys.into_iter().map(PublicKey::from_bytes).collect::<Vec<_>>())
        };
        let addresses = prop::collection::vec("\\PC{0,30}", 0..=ADDRESSES_MAX);
        let content = (any::<[u8; 32]>(), any::<[u8; 32]>(), 1..=u64::MAX, addresses, keys(NODES_MAX), keys(NODES_MAX), keys(COMMUNITIES_MAX));
        content.prop_map(|(node, space, seq, addresses, mirrors, inbox, communities)| {
            let (node, space) = (PublicKey::from_bytes(node), PublicKey::from_bytes(space));
            Signed::new(PeerRecord { node, space, seq, addresses, mirrors, inbox, communities }, Signature::from_bytes([7; 64]))
        })
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(record in records()) {
            prop_assert_eq!(PeerRecord::decode(&PeerRecord::encode(&record)), Ok(record));
        }

        #[test]
        fn what_is_accepted_has_one_spelling(bytes: Vec<u8>) {
            if let Ok(record) = PeerRecord::decode(&bytes) {
                prop_assert_eq!(PeerRecord::encode(&record), bytes);
            }
        }
    }
}
