//! How both sides prove who they are, so that nothing of it can be used anywhere else.

use bytes::Bytes;
use timebus_identity::{PublicKey, Signature, hash};

use crate::sync::frame::{Auth, Hello};

/// What every signature of a session begins with.
const DOMAIN: &[u8] = b"timebus.v1 session sig\0";

/// Who began the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We dialled.
    Initiator,
    /// We were dialled.
    Responder,
}

impl Role {
    /// The other side's.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// What a session is tied to, the same on both sides and on no other connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding(pub [u8; 32]);

impl Binding {
    /// For a websocket: the name of the host as the client wrote it, in lower case and with its port. It keeps a proof
    /// for one host from being used at another, which is all that can be had where TLS ends in front of the peer.
    #[must_use]
    pub fn websocket(host: &str) -> Self {
        Self(*blake3::hash(host.as_bytes()).as_bytes())
    }
}

/// Signs a message with every key that is to be proven, at most [`KEYS_MAX`], once.
///
/// [`KEYS_MAX`]: crate::sync::frame::KEYS_MAX
pub type Prove = Box<dyn FnOnce(&[u8]) -> Vec<(PublicKey, Signature)> + Send>;

/// Who the other side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its node key, as the transport proved it; zeros on a websocket.
    pub node: PublicKey,
    /// The space it calls its own: to be believed once that space grants one of the keys, or one of them is its root.
    pub space: PublicKey,
    /// The keys it proved to hold, ascending.
    pub keys: Vec<PublicKey>,
    /// What it calls itself.
    pub name: String,
    /// Where it says it can be dialled.
    pub addresses: Vec<String>,
}

/// What both sides sign, but for who signs.
#[derive(Debug)]
pub(crate) struct Transcript {
    role: Role,
    binding: Binding,
    node: PublicKey,
    remote_node: PublicKey,
    /// Own nonce, BLAKE3 of own Hello.
    own: ([u8; 32], [u8; 32]),
    remote: ([u8; 32], [u8; 32]),
}

impl Transcript {
    pub(crate) fn new(role: Role, binding: Binding, nodes: [PublicKey; 2], own: (&Hello, &Bytes), remote: (&Hello, &Bytes)) -> Self {
        let side = |(hello, bytes): (&Hello, &Bytes)| (hello.nonce, *blake3::hash(bytes).as_bytes());
        Self { role, binding, node: nodes[0], remote_node: nodes[1], own: side(own), remote: side(remote) }
    }

    /// What the side in `role` signs, calling `space` its own.
    fn message(&self, role: Role, space: &PublicKey) -> Vec<u8> {
        let (initiator, responder) = if self.role == Role::Initiator { (&self.own, &self.remote) } else { (&self.remote, &self.own) };
        let (own_node, other_node) = if self.role == role { (&self.node, &self.remote_node) } else { (&self.remote_node, &self.node) };
        let digest = hash(
            "session",
            &[
                &self.binding.0,
                &initiator.0,
                &responder.0,
                &initiator.1,
                &responder.1,
                &[u8::from(role == Role::Responder)],
                space.as_bytes(),
                own_node.as_bytes(),
                other_node.as_bytes(),
            ],
        );
        [DOMAIN, &digest].concat()
    }

    /// What we sign.
    pub(crate) fn own_message(&self, space: &PublicKey) -> Vec<u8> {
        self.message(self.role, space)
    }

    /// Checks what the other side signed.
    pub(crate) fn check(&self, auth: Auth) -> Option<Remote> {
        let message = self.message(self.role.other(), &auth.space);
        if !auth.proofs.iter().all(|(key, signature)| key.verify(&message, signature).is_ok()) {
            return None;
        }
        let keys = auth.proofs.iter().map(|(key, _)| *key).collect();
        Some(Remote { node: self.remote_node, space: auth.space, keys, name: crate::words::plain(&auth.name), addresses: auth.addresses })
    }
}
