//! Keys, ids and tokens as people paste them.

use timebus_identity::{Kit, PublicKey, Token, z32};
use timebus_store::ids::{ChangeId, OpId};
use timebus_store::succession::{Answer, Request, by_guardians};

/// A text that may be any of them: one thing has one text.
pub(crate) fn texts(data: &[u8]) -> bool {
    let printed = z32::encode(data);
    assert_eq!(z32::decode(&printed).as_deref(), Ok(data), "printed and not read back");
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let accepted = z32::decode(text).inspect(|bytes| assert_eq!(z32::encode(bytes), text, "a second spelling")).is_ok();
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text, "a second spelling of a key");
    }
    if let Ok(id) = text.parse::<ChangeId>() {
        assert_eq!(id.to_string(), text, "a second spelling of a change");
    }
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(*token.text(), text, "a second spelling of a token");
    }
    let op = text.parse::<OpId>().inspect(|id| assert_eq!(id.to_string(), text, "a second spelling of an op")).is_ok();
    let kit = Kit::recover(text).is_ok();
    accepted || op || kit
}

/// What guardians are given, and give back: the fields, and the texts made of them.
pub(crate) fn recovery(data: &[u8]) -> bool {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(request.encode(), data, "a second spelling of a request");
        assert_eq!(Request::parse(&request.text()).ok(), Some(request));
        return true;
    }
    let Ok(answer) = Answer::decode(data) else { return false };
    assert_eq!(answer.encode(), data, "a second spelling of an answer");
    let _ = by_guardians(&[answer.clone(), answer]);
    true
}
