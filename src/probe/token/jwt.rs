//! A JSON Web Token signed with HMAC-SHA-256 (RFC 7515, RFC 7519). Pure: the time is passed in.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::policy::model::JwtSigner;
use crate::policy::secret::Secret;
use crate::probe::finding::{Finding, Step};

/// How far a verifier's clock may be behind ours before it takes a token for one of the future.
const LEEWAY: Duration = Duration::from_secs(30);

/// A token that is valid from now, in seconds since 1970.
pub(super) fn sign(signer: &JwtSigner, now: Duration) -> Step<Secret> {
    let mut claims: Map<String, Value> = serde_json::from_str(signer.claims.expose())
        .map_err(|_error| Finding::misconfigured("claims of the token are no JSON object"))?;
    let end = now.saturating_add(signer.lifetime);
    claims.insert("iat".to_owned(), now.saturating_sub(LEEWAY).as_secs().into());
    claims.insert("exp".to_owned(), end.as_secs().into());
    let header = json!({ "alg": "HS256", "typ": "JWT" }).to_string();
    let claims = Value::Object(claims).to_string();
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(signer.secret.expose().as_bytes())
        .map_err(|_length| Finding::misconfigured("key of the token cannot be used"))?;
    mac.update(signed.as_bytes());
    let signature = encode(mac.finalize().into_bytes());
    Ok(Secret::new(format!("{signed}.{signature}")))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outcome::Outcome;

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    fn signer(secret: &str, claims: &str) -> JwtSigner {
        JwtSigner {
            secret: Secret::from(secret),
            claims: Secret::from(claims),
            lifetime: Duration::from_secs(3600),
        }
    }

    fn parts(token: &Secret) -> Vec<String> {
        token.expose().split('.').map(str::to_owned).collect()
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn the_claims_are_dated_and_the_rest_is_as_given() {
        let given = r#"{"iss":"graphlit","aud":"https://portal.graphlit.io","https://graphlit.io/jwt/claims":{"x-graphlit-organization-id":"o","x-graphlit-environment-id":"e","x-graphlit-role":"Owner"}}"#;
        let token = sign(&signer("key", given), NOW).unwrap();
        let parts = parts(&token);
        assert_eq!(decoded(&parts[0]), json!({ "alg": "HS256", "typ": "JWT" }));
        let mut claims = decoded(&parts[1]);
        let dates = claims.as_object_mut().unwrap();
        assert_eq!(dates.remove("iat"), Some(json!(1_794_999_970)));
        assert_eq!(dates.remove("exp"), Some(json!(1_795_003_600)));
        assert_eq!(claims, serde_json::from_str::<Value>(given).unwrap());
    }

    /// Made with Python's `hmac` and `base64`.
    #[test]
    fn another_implementation_signs_the_same() {
        let token = sign(&signer("a-string-secret-at-least-256-bits-long", "{}"), NOW).unwrap();
        assert_eq!(token.expose(), EXPECTED);
    }

    const EXPECTED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTUwMDM2MDAsImlhdCI6MTc5NDk5OTk3MH0.lLPftRw0xn52WC5ZHROVUqBR0ZdwlA9QPSxYpX427II";

    #[test]
    fn the_key_is_not_in_the_token_and_a_date_of_the_policys_does_not_hold() {
        let token = sign(&signer("canary-key", r#"{"exp":1}"#), NOW).unwrap();
        assert!(!token.expose().contains("canary"));
        assert_eq!(decoded(&parts(&token)[1])["exp"], json!(1_795_003_600));
    }

    #[test]
    fn claims_that_are_no_object_are_the_probes_fault() {
        for claims in ["", "[]", "1", "{"] {
            let end = sign(&signer("key", claims), NOW);
            assert_eq!(end.unwrap_err().outcome, Outcome::ClientError, "{claims:?}");
        }
    }
}
