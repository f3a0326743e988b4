//! Changes as writers make them: on top of what they have, or, by a liar, on top of something older.

use timebus_identity::{PublicKey, SecretKey, Signature, Verified};
use timebus_store::change::{Change, Header, Kind, OVERHEAD_BYTES, PARENTS_MAX, encode};
use timebus_store::ids::{ChangeId, TimelineId};

/// Who writes, and whether his signatures are real. Signing takes most of the time of a run.
pub(crate) struct Author {
    pub(crate) key: PublicKey,
    secret: Option<SecretKey>,
}

impl Author {
    /// Signs with zeros.
    pub(crate) fn pretended(number: u8) -> Self {
        Self { key: PublicKey::from_bytes([number; 32]), secret: None }
    }

    pub(crate) fn real(number: u8) -> Self {
        let secret = SecretKey::from_seed([number; 32]);
        Self { key: secret.public(), secret: Some(secret) }
    }
}

/// What a new change needs to know of one that is here.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) id: ChangeId,
    pub(crate) seq: u64,
    pub(crate) lamport: u64,
}

/// The bytes of a change on top of the author's last one and some heads.
pub(crate) fn change(author: &Author, timeline: TimelineId, prev: Option<Place>, heads: &[Place], body: Vec<u8>) -> Vec<u8> {
    let mut parents: Vec<ChangeId> = heads.iter().map(|head| head.id).filter(|id| prev.is_none_or(|prev| prev.id != *id)).collect();
    parents.sort_unstable();
    parents.truncate(PARENTS_MAX);
    let lamport = heads.iter().chain(prev.iter()).map(|place| place.lamport).max().unwrap_or(0) + 1;
    let header = Header {
        kind: Kind::Data,
        timeline,
        author: author.key,
        seq: prev.map_or(1, |prev| prev.seq + 1),
        prev: prev.map(|prev| prev.id),
        cap: None,
        parents,
        lamport,
        time_ms: 1_700_000_000_000,
        cum: OVERHEAD_BYTES + body.len() as u64,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    };
    let change = Change::new(header, body.into()).expect("a body that fits its header");
    match &author.secret {
        Some(secret) => encode(&Verified::sign(change, secret).expect("the author's key")),
        None => {
            let mut out = Vec::new();
            change.write(&Signature::from_bytes([0; 64]), &mut out);
            out
        }
    }
}
