//! Tells apart what may not share a connection, without keeping a secret or a certificate.

use sha2::{Digest as _, Sha256};

use crate::policy::model::{Target, TlsOptions};

/// A digest of everything that two must have in common to share.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Identity([u8; 32]);

impl Identity {
    /// The identity made of these parts, in this order.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            // The length keeps neighbours apart.
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    /// The identity of a place to connect to: an address, how it is verified, and `more`.
    pub(super) fn of_place(target: &Target, tls: Option<&TlsOptions>, more: &[&[u8]]) -> Self {
        let port = target.port.to_le_bytes();
        let secured = [u8::from(tls.is_some())];
        let mut parts = vec![target.host.as_bytes(), &port, &secured];
        let text = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        let verified = tls.map(|tls| {
            let trust = format!("{:?}", tls.trust).into_bytes();
            [trust, text(&tls.server_name), text(&tls.ca_pem)]
        });
        parts.extend(verified.iter().flatten().map(Vec::as_slice));
        parts.extend(more);
        Self::of(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_kept_apart() {
        assert_eq!(Identity::of(&[b"ab", b"c"]), Identity::of(&[b"ab", b"c"]));
        assert_ne!(Identity::of(&[b"ab", b"c"]), Identity::of(&[b"a", b"bc"]));
        assert_ne!(Identity::of(&[b"ab"]), Identity::of(&[b"ab", b""]));
    }

    #[test]
    fn who_is_verified_otherwise_is_somebody_else() {
        let target = Target { host: "example.com".to_owned(), port: 443 };
        let place = |tls: Option<&TlsOptions>| Identity::of_place(&target, tls, &[]);
        let platform = TlsOptions::default();
        let named = TlsOptions { server_name: Some("other".to_owned()), ..platform.clone() };
        let rooted = TlsOptions { ca_pem: Some("other".to_owned()), ..platform.clone() };
        let all = [place(None), place(Some(&platform)), place(Some(&named)), place(Some(&rooted))];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| other != one));
        }
    }
}
