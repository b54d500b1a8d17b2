//! Under which names things stand.

use crate::policy::model::Redis;

/// The names of one sidecar's keys: one hash slot in a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keys {
    tag: String,
}

impl Keys {
    /// The keys of the sidecar of this name.
    #[must_use]
    pub fn new(policy: &Redis, sidecar: &str) -> Self {
        Self { tag: format!("{{{}:{}}}", policy.prefix, plain(sidecar)) }
    }

    /// What all of them begin with, such as `{mcpf:web}`.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The state: a string.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{}:state", self.tag)
    }

    /// Who wrote it, and when: a hash.
    #[must_use]
    pub fn about(&self) -> String {
        format!("{}:about", self.tag)
    }

    /// Where each service is, for readers: a hash.
    #[must_use]
    pub fn services(&self) -> String {
        format!("{}:services", self.tag)
    }

    /// The decisions: a stream.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}:log", self.tag)
    }

    /// The channel on which each decision is told.
    #[must_use]
    pub fn channel(&self) -> String {
        format!("{}:events", self.tag)
    }
}

/// A name as part of a key: letters, digits and `._-`; other bytes as `%` and two digits.
fn plain(name: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02x}")
        }
    };
    name.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_tag_and_no_two_share_one() {
        assert_eq!(plain("web-1.example"), "web-1.example");
        assert_eq!(plain("a}b{c:*? d"), "a%7db%7bc%3a%2a%3f%20d");
        assert_ne!(plain("a%7d"), plain("a}"));
        assert_eq!(plain("\u{fc}"), "%c3%bc");
    }
}
