/// The hash of timebus, written `H(context, x)` in the formats: BLAKE3 in its key derivation mode,
/// with the context `"timebus.v1 " + context`.
///
/// The parts are hashed one behind the other with nothing in between, so all but one of them need
/// a length known from the context. Contexts are constants in our code, never data.
///
/// ```
/// use timebus_identity::hash;
/// assert_eq!(hash("example", &[b"ab", b"c"]), hash("example", &[b"abc"]));
/// assert_ne!(hash("example", &[b"abc"]), hash("another", &[b"abc"]));
/// ```
#[must_use]
pub fn hash(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("timebus.v1 {context}"));
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_derive_key_under_our_name() {
        assert_eq!(hash("change", &[b"he", b"ader"]), blake3::derive_key("timebus.v1 change", b"header"));
    }
}
