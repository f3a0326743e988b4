use rand::TryRng;
use rand::rngs::SysRng;

/// `N` unpredictable bytes from the operating system.
///
/// # Panics
///
/// When the operating system has no randomness to give; nothing safe can be done without.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system provides randomness, without which no key is safe");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differs_every_time() {
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
    }
}
