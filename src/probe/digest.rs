//! Short names for things that are known by several values, some of them secret.

use sha2::{Digest, Sha256};

/// Stands for a list of values; gives none of them away.
pub(super) type Key = [u8; 32];

/// The key of these values, in this order.
pub(super) fn key(values: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    for value in values {
        // With its length, so that no two lists run together into the same bytes.
        hash.update(u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(value);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_differ_have_keys_that_differ() {
        let of =
            |values: &[&str]| key(&values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["ab"]), of(&["a", "b"]));
        assert_ne!(of(&["", "a"]), of(&["a", ""]));
    }
}
