//! Spaces told statement by statement, and then in every other order.

use timebus_identity::{PublicKey, SecretKey};
use timebus_store::auth::{CapError, Rights};
use timebus_store::change::{Body, Header};
use timebus_store::grant::{Authority, Genesis, Grant, Revoke, Succeed};
use timebus_store::ids::{ChangeId, GrantId, OpId};
use timebus_store::op::Op;

use crate::dice::Dice;
use crate::oracle::Statement;
use crate::world::header;

/// Somebody with a key, the same in every run.
pub(crate) fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub(crate) struct Script {
    pub(crate) root: PublicKey,
    pub(crate) rights: Rights,
    told: Vec<(ChangeId, Header, Body)>,
}

/// The id of the grant that is the first op of a change.
pub(crate) fn given(change: ChangeId) -> GrantId {
    OpId { change, index: 0 }.grant()
}

pub(crate) fn revoke(grant: GrantId) -> Op {
    Op::Revoke(Revoke { grant, cascade: false, keep: Vec::new() })
}

impl Script {
    pub(crate) fn new(root: PublicKey) -> Self {
        Self { root, rights: Rights::new(root), told: Vec::new() }
    }

    /// All changes so far.
    pub(crate) fn heads(&self) -> Vec<ChangeId> {
        self.told.iter().map(|(id, ..)| *id).collect()
    }

    /// A statement on top of some others, if it is admitted.
    pub(crate) fn try_say(&mut self, author: PublicKey, cap: Option<GrantId>, on: &[ChangeId], ops: Vec<Op>) -> Result<ChangeId, CapError> {
        let id = ChangeId([self.told.len() as u8 + 1; 32]);
        let statement = Statement { id, author, cap, deps: Vec::new(), ops: Vec::new() };
        let header = header(&self.root, &statement, on.to_vec());
        let body = Body { ops, ..Body::default() };
        self.rights.check_statements(&header, &body.encode())?;
        self.rights.learn(id, &header, &body);
        self.told.push((id, header, body));
        Ok(id)
    }

    /// A statement that is admitted.
    pub(crate) fn say(&mut self, author: PublicKey, cap: Option<GrantId>, on: &[ChangeId], ops: Vec<Op>) -> ChangeId {
        self.try_say(author, cap, on, ops).expect("admitted")
    }

    /// A grant on top of some statements.
    pub(crate) fn grant(&mut self, author: PublicKey, cap: Option<GrantId>, on: &[ChangeId], grant: Grant) -> (ChangeId, GrantId) {
        let id = self.say(author, cap, on, vec![Op::Grant(grant)]);
        (id, given(id))
    }

    /// Tells the same in other orders, and checks each time.
    pub(crate) fn in_any_order(&self, check: impl Fn(&Rights)) {
        check(&self.rights);
        for seed in 0..40 {
            let mut dice = Dice::new(seed);
            let mut waiting: Vec<_> = self.told.iter().collect();
            let mut here: Vec<ChangeId> = Vec::new();
            let mut rights = Rights::new(self.root);
            let mut rounds = 0;
            while !waiting.is_empty() {
                dice.shuffle(&mut waiting);
                waiting.retain(|(id, header, body)| {
                    let stands = header.deps().all(|dep| here.contains(dep));
                    if !stands || rights.check_statements(header, &body.encode()).is_err() {
                        return true;
                    }
                    rights.learn(*id, header, body);
                    here.push(*id);
                    false
                });
                rounds += 1;
                assert!(rounds < 100, "order {seed}: {} statements are never admitted", waiting.len());
            }
            check(&rights);
        }
    }
}

/// A succession signed by the old root.
pub(crate) fn by_root(from: [u8; 32], old: &SecretKey, root: PublicKey, plan: Genesis) -> Succeed {
    let mut succeed = Succeed { from, root, plan, authority: Authority::Guardians(Vec::new()) };
    succeed.authority = Authority::Root(old.sign(&succeed.signing_message()));
    succeed
}

/// A succession signed by guardians.
pub(crate) fn by_guardians(from: [u8; 32], guardians: &[&SecretKey], root: PublicKey, plan: Genesis) -> Succeed {
    let mut succeed = Succeed { from, root, plan, authority: Authority::Guardians(Vec::new()) };
    let message = succeed.signing_message();
    let mut signatures: Vec<_> = guardians.iter().map(|key| (key.public(), key.sign(&message))).collect();
    signatures.sort_unstable_by_key(|(key, _)| *key);
    succeed.authority = Authority::Guardians(signatures);
    succeed
}
