//! What an invite link carries.
//!
//! `timebus://join/` and the base64url of the payload below, or `http(s)://host/.join#` and the same: the secret is in
//! the fragment, which browsers send to nobody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use timebus_identity::PublicKey;
use timebus_store::codec::{DecodeError, Reader, Writer};
use timebus_store::path::{Path, PathError};

/// What links that the peer opens by itself begin with.
pub const SCHEME: &str = "timebus://join/";
/// What stands in front of the payload in links that a browser opens.
pub const FRAGMENT: &str = "/.join#";
/// Most addresses of the inviter.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// Longest name of a person or an app.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest first paint: what is shown before anything was fetched.
pub const PAINT_BYTES_MAX: usize = 1024;
const PATH_BYTES_MAX: usize = 2048;
/// Most levels of guests that somebody may bring, also what is allowed if nothing is said.
pub const DEPTH_MAX: u8 = 3;
const VERSION: u8 = 1;
/// Of an invite into the space of somebody else than whoever gives it: with whose that is, behind all else.
const VERSION_OF_GUESTS: u8 = 2;

/// What an invite lets somebody do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read the space.
    Read,
    /// Read the same, and write at and below the path.
    Write,
    /// Everything, as another device of the owner.
    Device,
    /// What members of a community may do: read it, carry a name there, and write on its board if its rules say so.
    Member,
}

/// An invite, as the link carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Node key of the peer that gives it; the first peer of whoever takes it.
    pub node: PublicKey,
    /// Where that peer may be reached.
    pub addresses: Vec<String>,
    /// The space it leads to.
    pub space: PublicKey,
    /// The secret.
    pub token: [u8; 16],
    /// What it lets the bearer do.
    pub role: Role,
    /// Where.
    pub path: Path,
    /// Whether the path is kept apart, so that it is all that the bearer may read.
    pub only: bool,
    /// Bytes that the bearer may write there; 0 is no limit.
    pub bytes_max: u64,
    /// How many levels of guests the bearer may bring: 0 for none, 1 for people who may bring nobody themselves.
    pub depth: u8,
    /// Until when it can be taken; Unix milliseconds, 0 for always.
    pub expires_ms: u64,
    /// What the inviter calls himself.
    pub name: String,
    /// An app that comes with it: its name and the hash of its files.
    pub app: Option<(String, [u8; 32])>,
    /// What is shown before anything was fetched.
    pub paint: String,
    /// If the space is another one's than the inviter's: what its owner calls himself there, as the inviter says; empty if he does not know.
    pub whose: Option<String>,
}

/// Why a text is no invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It does not look like one.
    #[error("this is no invite: it begins with {SCHEME} or has {FRAGMENT} in it")]
    Form,
    /// Letters are missing or wrong.
    #[error("the invite is not complete or was changed on its way; copy the whole link")]
    Text,
    /// A version that this program does not know.
    #[error("the invite is of version {0}, which needs a newer timebus")]
    Version(u8),
    /// The content is malformed.
    #[error("the invite is damaged: {0}")]
    Content(#[from] DecodeError),
    /// The path is none.
    #[error("the invite is for a path that cannot be: {0}")]
    Path(#[from] PathError),
}

impl Invite {
    /// The payload as text.
    #[must_use]
    pub fn payload(&self) -> String {
        let mut out = Writer::new();
        out.u8(if self.whose.is_some() { VERSION_OF_GUESTS } else { VERSION });
        out.raw(self.node.as_bytes());
        out.raw(self.space.as_bytes());
        out.raw(&self.token);
        out.u8(match (self.role, self.only) {
            (Role::Read, false) => 0,
            (Role::Write, false) => 1,
            (Role::Device, _) => 2,
            (Role::Read, true) => 3,
            (Role::Write, true) => 4,
            (Role::Member, _) => 5,
        });
        out.bytes(self.path.to_string().as_bytes());
        out.var(self.bytes_max);
        out.u8(self.depth);
        out.var(self.expires_ms);
        out.var(self.addresses.len() as u64);
        self.addresses.iter().for_each(|address| out.bytes(address.as_bytes()));
        out.bytes(self.name.as_bytes());
        out.flag(self.app.is_some());
        if let Some((name, hash)) = &self.app {
            out.bytes(name.as_bytes());
            out.raw(hash);
        }
        out.bytes(self.paint.as_bytes());
        self.whose.iter().for_each(|whose| out.bytes(whose.as_bytes()));
        let mut bytes = out.into_bytes();
        // A letter that was lost or changed on the way shall be noticed before anything is tried.
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..4]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The link that the local peer opens.
    #[must_use]
    pub fn link(&self) -> String {
        format!("{SCHEME}{}", self.payload())
    }

    /// Reads a link.
    ///
    /// # Errors
    ///
    /// [`InviteError`].
    pub fn parse(link: &str) -> Result<Self, InviteError> {
        let link = link.trim();
        let payload = match (link.strip_prefix(SCHEME), link.split_once(FRAGMENT)) {
            (Some(payload), _) | (None, Some((_, payload))) => payload,
            (None, None) => return Err(InviteError::Form),
        };
        let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| InviteError::Text)?;
        let (bytes, check) = bytes.split_last_chunk::<4>().ok_or(InviteError::Text)?;
        // Before anything is believed that it says: half a link is of no version.
        if blake3::hash(bytes).as_bytes()[..4] != check[..] {
            return Err(InviteError::Text);
        }
        let is_of_guest = match bytes.first() {
            Some(&VERSION) => false,
            Some(&VERSION_OF_GUESTS) => true,
            Some(other) => return Err(InviteError::Version(*other)),
            None => return Err(InviteError::Text),
        };
        let mut input = Reader::new(&bytes[1..]);
        let node = PublicKey::from_bytes(input.array("node")?);
        let space = PublicKey::from_bytes(input.array("space")?);
        let token = input.array("token")?;
        let (role, only) = match input.u8("role")? {
            0 => (Role::Read, false),
            1 => (Role::Write, false),
            2 => (Role::Device, false),
            3 => (Role::Read, true),
            4 => (Role::Write, true),
            5 => (Role::Member, false),
            _ => return Err(DecodeError::Invalid { field: "role" }.into()),
        };
        let path = Path::parse(input.text(PATH_BYTES_MAX, "path")?)?;
        let bytes_max = input.var(u64::MAX, "byte limit")?;
        let depth = input.u8("depth")?;
        let expires_ms = input.var(u64::MAX, "expiry")?;
        let count = input.count(ADDRESSES_MAX, "addresses")?;
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            addresses.push(input.text(ADDRESS_BYTES_MAX, "address")?.to_owned());
        }
        let name = input.text(NAME_BYTES_MAX, "name")?.to_owned();
        let app = if input.flag("app")? { Some((input.text(NAME_BYTES_MAX, "app")?.to_owned(), input.array("app")?)) } else { None };
        let paint = input.text(PAINT_BYTES_MAX, "first paint")?.to_owned();
        let whose = if is_of_guest { Some(input.text(NAME_BYTES_MAX, "name of the owner")?.to_owned()) } else { None };
        input.finish()?;
        Ok(Self { node, addresses, space, token, role, path, only, bytes_max, depth, expires_ms, name, app, paint, whose })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timebus_identity::SecretKey;

    fn invite() -> Invite {
        Invite {
            node: SecretKey::from_seed([1; 32]).public(),
            addresses: vec!["192.168.1.7:4433".into(), "ws://localhost:7007".into()],
            space: SecretKey::from_seed([2; 32]).public(),
            token: [7; 16],
            role: Role::Write,
            path: Path::parse("/wall/für alle").expect("a path"),
            only: true,
            bytes_max: 50_000_000,
            depth: 2,
            expires_ms: 1_800_000_000_000,
            name: "river-otter-61".into(),
            app: Some(("chirp".into(), [9; 32])),
            paint: "{\"posts\":3}".into(),
            whose: None,
        }
    }

    #[test]
    fn a_link_carries_all_of_an_invite() {
        let link = invite().link();
        assert_eq!(Invite::parse(&link), Ok(invite()));
        assert_eq!(Invite::parse(&format!("  http://localhost:7007{FRAGMENT}{}\n", invite().payload())), Ok(invite()));
        assert!(link.len() < 400, "a QR code stays readable: {}", link.len());
        let of_guest = Invite { whose: Some("Alice".into()), ..invite() };
        assert_eq!(Invite::parse(&of_guest.link()), Ok(of_guest.clone()));
        let bytes = |invite: &Invite| URL_SAFE_NO_PAD.decode(invite.payload()).expect("base64");
        let (own, others) = (bytes(&invite()), bytes(&of_guest));
        assert_eq!((own[0], others[0]), (1, 2), "older programs say that they are too old for the second");
        assert_eq!(others[others.len() - 10..others.len() - 4], *b"\x05Alice");
    }

    #[test]
    fn a_part_of_a_link_is_that_and_of_no_other_version() {
        let link = invite().link();
        for end in SCHEME.len()..link.len() {
            assert_eq!(Invite::parse(&link[..end]), Err(InviteError::Text), "to {end}");
        }
        for begin in 1..link.len() - SCHEME.len() {
            assert_eq!(Invite::parse(&format!("{SCHEME}{}", &link[SCHEME.len() + begin..])), Err(InviteError::Text), "from {begin}");
        }
    }

    #[test]
    fn the_payload_is_these_bytes() {
        let invite = Invite {
            node: PublicKey::from_bytes([0x11; 32]),
            addresses: vec!["10.0.0.1:7".into()],
            space: PublicKey::from_bytes([0x22; 32]),
            token: [0x33; 16],
            role: Role::Write,
            path: Path::parse("/wall").expect("a path"),
            only: false,
            bytes_max: 300,
            depth: 3,
            expires_ms: 1_800_000_000_000,
            name: "Ada".into(),
            app: Some(("chirp".into(), [0x44; 32])),
            paint: "hi".into(),
            whose: None,
        };
        let expected = [
            "01",                         // version
            &"11".repeat(32),             // node key of the inviter
            &"22".repeat(32),             // space
            &"33".repeat(16),             // token
            "01",                         // role: write
            "05 2f77616c6c",              // path
            "ac02",                       // bytes that may be written
            "03",                         // levels of guests that the bearer may bring
            "80a0f1c2b134",               // until when, Unix milliseconds
            "01 0a 31302e302e302e313a37", // one address
            "03 416461",                  // what the inviter calls himself
            "01 05 6368697270",           // an app follows: its name
            &"44".repeat(32),             // and the hash of its files
            "02 6869",                    // first paint
            "b733ef34",                   // the first 4 bytes of the BLAKE3 hash of all that
        ];
        let hex: String = expected.concat().split_whitespace().collect();
        let bytes: Vec<u8> = URL_SAFE_NO_PAD.decode(invite.payload()).expect("base64url");
        let written: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, hex);
        assert_eq!(Invite::parse(&invite.link()), Ok(invite));
    }

    #[test]
    fn a_letter_that_is_missing_or_wrong_is_noticed() {
        let link = invite().link();
        for at in SCHEME.len()..link.len() {
            let mut wrong = link.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            assert!(Invite::parse(std::str::from_utf8(&wrong).expect("text")).is_err(), "letter {at}");
            assert!(Invite::parse(&link[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(Invite::parse("https://example.org/"), Err(InviteError::Form));
    }
}
