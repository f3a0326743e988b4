use zeroize::Zeroizing;

use crate::{SecretKey, hash};

/// The key a device shows on the network, `H("node key", device seed)`.
///
/// It is not the device key, so that nothing signed for the transport can pass for a change.
#[must_use]
pub fn node_key(device: &SecretKey) -> SecretKey {
    grow("node key", &[device.seed()])
}

/// The root key of one of the owner's personas, `H("partition", root seed ‖ label)`.
///
/// The same root and label always give the same persona, so the recovery kit covers them all;
/// nobody without the root can tell that two personas belong together.
#[must_use]
pub fn persona_root(root: &SecretKey, label: &str) -> SecretKey {
    grow("partition", &[root.seed(), label.as_bytes()])
}

fn grow(context: &str, parts: &[&[u8]]) -> SecretKey {
    let seed = Zeroizing::new(hash(context, parts));
    SecretKey::from_seed(*seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_key_depends_on_all_it_is_derived_from() {
        let (key, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let derived = [
            key.public(),
            node_key(&key).public(),
            node_key(&other).public(),
            persona_root(&key, "").public(),
            persona_root(&key, "work").public(),
            persona_root(&key, "play").public(),
            persona_root(&other, "work").public(),
        ];
        let distinct: std::collections::BTreeSet<_> = derived.iter().collect();
        assert_eq!(distinct.len(), derived.len());
    }

    #[test]
    fn derivation_keeps_its_value() {
        let key = SecretKey::from_seed([1; 32]);
        assert_eq!(node_key(&key).public().to_string(), "isptwna9dbdkcsma6gjntjpjh7oiuhc3sphbytxqyroquj4o4gso");
        assert_eq!(persona_root(&key, "work").public().to_string(), "7njwo1soxia5qeaaykattuxeomjo57t6ofdfnxu9h9tseso57hoo");
    }
}
