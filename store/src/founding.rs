//! The first change of a space that belongs to no person: of a community.
//!
//! The key that names such a space signs one change and is then forgotten. From there on those have a say whom the
//! change makes organizers; the first of them is also its guardian, who can name another root should one be needed.

use timebus_identity::{PublicKey, SecretKey, Verified};

use crate::change::{Body, Change, Header, Kind, OVERHEAD_BYTES};
use crate::grant::{Actions, Audience, Genesis, Grant, Scope, Timelines};
use crate::ids::TimelineId;
use crate::op::Op;

/// What an organizer may do: all that a device of an owner may, but for deciding what the space is. So nobody is taken
/// for the community itself.
pub const ORGANIZER: Actions =
    Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0 | Actions::GRANT.0 | Actions::MODERATE.0 | Actions::RUN.0);
/// How many more times what the first organizer may do can be handed on.
const DEPTH: u8 = 7;

/// What makes a key an organizer.
#[must_use]
pub fn organizer(key: &PublicKey) -> Grant {
    Grant {
        audience: Audience::Key(*key),
        scope: Scope::everything(),
        timelines: Timelines::All,
        actions: ORGANIZER,
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: DEPTH,
        label: "founder".into(),
    }
}

/// The first change of the space of `root`, which makes `founder` its organizer and guardian.
#[must_use]
pub fn founding(root: &SecretKey, founder: &PublicKey, time_ms: u64) -> Verified<Change> {
    let genesis = Genesis { next: None, guardians: Some((1, vec![*founder])) };
    let body = Body { ops: vec![Op::Genesis(genesis), Op::Grant(organizer(founder))], ..Body::default() }.encode();
    let header = Header {
        kind: Kind::Auth,
        timeline: TimelineId::named(&root.public(), "auth"),
        author: root.public(),
        seq: 1,
        prev: None,
        cap: None,
        parents: Vec::new(),
        lamport: 1,
        time_ms,
        cum: OVERHEAD_BYTES + body.len() as u64,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    };
    let change = Change::new(header, body.into()).expect("the header was made for this body");
    Verified::sign(change, root).expect("the root is the author")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Rights;
    use crate::path::Path;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_seed([number; 32])
    }

    #[test]
    fn its_founder_may_everything_and_is_not_the_space() {
        let (root, founder) = (key(1), key(2).public());
        let change = founding(&root, &founder, 5);
        assert_eq!(Change::decode(&crate::change::encode(&change)).expect("reads").verify().expect("signed").id(), change.id());
        let mut rights = Rights::new(root.public());
        rights.learn(change.id(), change.header(), &Body::decode(change.body_bytes()).expect("a body"));
        assert!(rights.writer_grant(&founder, &Path::parse("/rules").expect("a path")).is_some());
        assert!(rights.cap_to_state(&founder, &[Op::Grant(Grant { depth: 1, ..organizer(&key(3).public()) })]).is_some());
        assert_eq!((rights.device_grant(&founder), rights.devices().count()), (None, 0));
        assert_eq!(rights.root_state().and_then(|state| state.plan.guardians.clone()), Some((1, vec![founder])));
    }
}
