//! AWS Signature Version 4 in the `Authorization` header: pure, held against the published examples.
//!
//! Forty lines of HMAC; the libraries that do it bring a clock, a calendar and a reader of XML of
//! their own.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::policy::secret::Secret;

/// Who asks, and where.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) access_key: Secret,
    pub(super) secret_key: Secret,
    pub(super) session_token: Option<Secret>,
    pub(super) region: String,
}

/// What is signed, in the form in which it is sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Host, with its port unless that is the scheme's own.
    pub(super) host: &'a str,
    /// Path, encoded.
    pub(super) path: &'a str,
    /// Query, encoded and sorted; see [`query`].
    pub(super) query: &'a str,
    /// A header that is signed too, its name in lower case.
    pub(super) header: Option<(&'static str, &'a str)>,
    /// [`digest`] of the body.
    pub(super) body: &'a str,
    /// The time of day as `20130524T000000Z`.
    pub(super) at: &'a str,
}

impl Signer {
    /// The headers to send with a request, besides the one it names itself.
    pub(super) fn headers(&self, request: &Request<'_>) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("host", request.host.to_owned()),
            ("x-amz-content-sha256", request.body.to_owned()),
            ("x-amz-date", request.at.to_owned()),
        ];
        let token = self.session_token.as_ref();
        headers.extend(token.map(|token| ("x-amz-security-token", token.expose().to_owned())));
        let mut signed = headers.clone();
        signed.extend(request.header.map(|(name, value)| (name, value.to_owned())));
        signed.sort_unstable();
        let authorization = self.authorization(request, &signed);
        // What the client itself sends is signed, but not set twice.
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", authorization));
        headers
    }

    fn authorization(&self, request: &Request<'_>, signed: &[(&'static str, String)]) -> String {
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim()));
        let Request { method, path, query, body, at, .. } = request;
        let canonical = [*method, path, query, &lines.collect::<String>(), &names, body].join("\n");
        let day = at.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", digest(canonical.as_bytes()));
        let mut key = Zeroizing::new(format!("AWS4{}", self.secret_key.expose()).into_bytes());
        for part in [day, &self.region, "s3", "aws4_request", &text] {
            key = mac(&key, part.as_bytes());
        }
        let (id, signature) = (self.access_key.expose(), hex(&key));
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}"
        )
    }
}

fn mac(key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Zeroizing::default() };
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// The digest of a body, in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}

/// A query as it is signed and sent; the parameters must be sorted by name.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| format!("{}={}", encode(name), encode(value));
    parameters.iter().map(one).collect::<Vec<_>>().join("&")
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail; the error type is that of the trait.
            let _never: Result<(), std::fmt::Error> = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// The signature of a request of the examples in "Signature Calculations for the Authorization
    /// Header" of the Amazon S3 API Reference.
    fn signature(request: &Request<'_>) -> String {
        let signer = Signer {
            access_key: Secret::from("AKIAIOSFODNN7EXAMPLE"),
            secret_key: Secret::from("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            region: "us-east-1".to_owned(),
        };
        let headers = signer.headers(request);
        let (_, value) = headers.iter().find(|(name, _)| *name == "authorization").expect("one");
        value.rsplit_once("Signature=").expect("a signature").1.to_owned()
    }

    const GET: Request<'_> = Request {
        method: "GET",
        host: "examplebucket.s3.amazonaws.com",
        path: "/",
        query: "",
        header: None,
        body: EMPTY,
        at: "20130524T000000Z",
    };

    #[test]
    fn the_published_examples_are_signed_as_published() {
        let range = Some(("range", "bytes=0-9"));
        assert_eq!(
            signature(&Request { path: "/test.txt", header: range, ..GET }),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(
            signature(&Request { query: &query(&[("max-keys", "2"), ("prefix", "J")]), ..GET }),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
        assert_eq!(
            signature(&Request { query: &query(&[("lifecycle", "")]), ..GET }),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
    }

    #[test]
    fn a_body_is_known_by_its_digest() {
        assert_eq!(digest(b""), EMPTY);
        assert_eq!(
            digest(b"Welcome to Amazon S3."),
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
        );
    }

    #[test]
    fn a_query_is_encoded_as_servers_expect_it() {
        assert_eq!(query(&[("a", "b/c d+e=~\u{fc}")]), "a=b%2Fc%20d%2Be%3D~%C3%BC");
    }
}
