//! For whom a device made a change, as the change itself says it.
//!
//! A device signs for its owner, and for apps and people who ask it to. Names of versions, and sessions in texts, are of whoever gave
//! them; so it has to be known who that was as long as the change is there, also when the index is made anew. It is an op without
//! effect: a mark that this device alone can make and compare, so that nobody else learns who asked, nor whether one asked for two
//! changes that have other names.

use timebus_identity::SecretKey;

use crate::change::{Body, LABEL_BYTES_MAX};
use crate::codec::{DecodeError, Reader, Writer};
use crate::op::Op;
use crate::writer::Asker;

/// The tag of the op. Versions that do not know it keep it, so its fields are read leniently here, too.
pub const TAG: u8 = 9;

/// Stands for somebody who asked for something under a name.
pub(crate) type Mark = [u8; 16];

/// The mark of somebody who asks a device for a version of a name.
pub(crate) fn mark(device: &SecretKey, asker: &Asker, label: &str) -> Mark {
    let hash = timebus_identity::hash("asked for", &[device.seed(), &asker.0, label.as_bytes()]);
    *hash.first_chunk().expect("a hash is longer")
}

/// What a change says about who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Who it was, if not the owner.
    pub(crate) mark: Option<Mark>,
    /// What it was to be called, if it is not called so.
    pub(crate) wanted: Option<Box<str>>,
}

impl Asked {
    /// What there is to say of a change that gets a name, or none, where one was wanted. Nothing if it is the owner's and has it.
    pub(crate) fn of(device: &SecretKey, asker: Option<&Asker>, wanted: &str, given: Option<&str>) -> Option<Self> {
        let asked = Self {
            mark: asker.map(|asker| mark(device, asker, wanted)),
            wanted: (given != Some(wanted)).then(|| wanted.into()).filter(|_| wanted.len() <= LABEL_BYTES_MAX),
        };
        (asked.mark.is_some() || asked.wanted.is_some()).then_some(asked)
    }

    /// What the first such op of a body says.
    pub(crate) fn in_body(body: &Body) -> Option<Self> {
        body.ops.iter().find_map(|op| match op {
            Op::Unknown { tag: TAG, bytes } => Self::decode(bytes).ok(),
            _ => None,
        })
    }

    pub(crate) fn to_op(&self) -> Op {
        let mut out = Writer::new();
        out.flag(self.mark.is_some());
        self.mark.iter().for_each(|mark| out.raw(mark));
        out.flag(self.wanted.is_some());
        self.wanted.iter().for_each(|wanted| out.bytes(wanted.as_bytes()));
        Op::Unknown { tag: TAG, bytes: out.into_bytes().into() }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let mark = if input.flag("asked for by somebody")? { Some(input.array("mark")?) } else { None };
        let wanted = if input.flag("wanted name")? { Some(input.text(LABEL_BYTES_MAX, "wanted name")?.into()) } else { None };
        input.finish()?;
        Ok(Self { mark, wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_says_of_who_asked_is_read_again_and_anything_else_is_nothing() {
        let device = SecretKey::from_seed([7; 32]);
        let app = Asker::of("app", b"board");
        let body = |op: Op| Body { ops: vec![op], ..Body::default() };
        for (asker, given) in [(Some(&app), Some("a-1")), (Some(&app), None), (None, None)] {
            let asked = Asked::of(&device, asker, "a-1", given).expect("there is something to say");
            assert_eq!(Asked::in_body(&body(asked.to_op())), Some(asked));
        }
        assert_eq!(Asked::of(&device, None, "a-1", Some("a-1")), None);
        for bytes in [&[][..], &[1, 2], &[0, 1, 200], &[2], &[0, 0, 0]] {
            assert_eq!(Asked::in_body(&body(Op::Unknown { tag: TAG, bytes: bytes.into() })), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_mark_tells_nobody_else_anything() {
        let device = SecretKey::from_seed([7; 32]);
        let [one, other] = [b"board", b"chirp"].map(|name| Asker::of("app", name));
        let marks = [mark(&device, &one, "a-1"), mark(&device, &one, "a-2"), mark(&device, &other, "a-1")];
        assert!(marks[0] != marks[1] && marks[0] != marks[2]);
        assert_ne!(marks[0], mark(&SecretKey::from_seed([8; 32]), &one, "a-1"));
    }
}
