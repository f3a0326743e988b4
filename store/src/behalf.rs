//! On whose behalf a device made a change, as the change itself says it.
//!
//! A device signs for its owner, and for people who ask it to by signing their requests. Who reads a timeline may see who wrote there,
//! as he would if they had written by a device of their own; so this is their plain key, in an op without effect. It is the word of
//! the device that signed the change, and of nobody else: a device can say of anybody that he asked it.

use timebus_identity::PublicKey;

use crate::change::Body;
use crate::op::Op;

/// The tag of the op. Versions that do not know it keep it, so its field is read leniently here, too.
pub const TAG: u8 = 10;

/// Says who asked for a change.
pub(crate) fn to_op(key: &PublicKey) -> Op {
    Op::Unknown { tag: TAG, bytes: key.as_bytes().as_slice().into() }
}

/// Who asked for a change, as the first such op of its body says.
#[must_use]
pub fn in_body(body: &Body) -> Option<PublicKey> {
    body.ops.iter().find_map(of_op)
}

/// Whom an op names, if it says who asked for the change that it is in.
#[must_use]
pub fn of_op(op: &Op) -> Option<PublicKey> {
    match op {
        Op::Unknown { tag: TAG, bytes } => Some(PublicKey::from_bytes(bytes[..].try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_is_read_again_and_anything_else_is_nobody() {
        let [one, other] = [1, 2].map(|number| PublicKey::from_bytes([number; 32]));
        let body = |ops: Vec<Op>| Body { ops, ..Body::default() };
        assert_eq!(in_body(&body(vec![to_op(&one), to_op(&other)])), Some(one));
        assert_eq!(in_body(&body(Vec::new())), None);
        for (tag, bytes) in [(TAG, vec![1; 31]), (TAG, vec![1; 33]), (TAG, Vec::new()), (TAG + 1, vec![1; 32])] {
            let op = Op::Unknown { tag, bytes: bytes.clone().into() };
            assert_eq!(in_body(&body(vec![op.clone()])), None, "{tag} {bytes:?}");
            assert_eq!(in_body(&body(vec![op, to_op(&one)])), Some(one));
        }
    }
}
