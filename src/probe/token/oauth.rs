//! Asks a token endpoint with client credentials (RFC 6749, section 4.4; RFC 8707).
//!
//! The client says who it is by HTTP Basic, which every token endpoint must take (section 2.3.1).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpCheck, OAuthClient};
use crate::policy::secret::Secret;
use crate::probe::dial::Dialler;
use crate::probe::expect;
use crate::probe::finding::{Finding, Step};
use crate::probe::http;
use crate::probe::trace::Trace;

/// Bytes of a token. It goes into a header of every request.
const TOKEN_MAX: usize = 8 * 1024;
/// How long a token is used that does not say how long it is valid.
const UNDATED: Duration = Duration::from_secs(300);
/// Before its end a token is not used any more: a tenth of its life, but no more than this.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// A token, and how long it is to be used.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: Secret,
    pub(super) usable: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    expires_in: Option<f64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// One request for a token. What goes wrong is said of the token endpoint.
pub(super) async fn ask(dialler: &Dialler, client: &OAuthClient) -> Step<Granted> {
    let end = http::fetch(dialler, &request(client), &mut Trace::begin()).await;
    let end = end.and_then(|(status, headers, body)| {
        if status.is_success() {
            granted(&body)
        } else {
            Err(refused(status, &body).unwrap_or_else(|| expect::by_class(status, &headers)))
        }
    });
    end.map_err(|mut finding| {
        finding.detail = format!("token endpoint: {}", finding.detail).into();
        finding
    })
}

fn request(client: &OAuthClient) -> HttpCheck {
    let mut body = Serializer::new(String::new());
    body.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &client.scope {
        body.append_pair("scope", scope);
    }
    if let Some(resource) = &client.resource {
        body.append_pair("resource", resource);
    }
    let encoded = |secret: &Secret| byte_serialize(secret.expose().as_bytes()).collect::<String>();
    let login = format!("{}:{}", encoded(&client.client_id), encoded(&client.client_secret));
    let headers = [
        (AUTHORIZATION, Secret::new(format!("Basic {}", STANDARD.encode(login)))),
        (CONTENT_TYPE, Secret::from("application/x-www-form-urlencoded")),
    ];
    HttpCheck {
        tls: client.tls.clone(),
        method: "POST".to_owned(),
        path: client.path.clone(),
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), value)).into(),
        body: Some(Secret::new(body.finish())),
        ..HttpCheck::new(client.target.clone())
    }
}

fn granted(body: &[u8]) -> Step<Granted> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_error| Finding::protocol("answer holds no token"))?;
    let token = answer.access_token;
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || token.len() > TOKEN_MAX || !plain {
        return Err(Finding::protocol("token cannot be used"));
    }
    if !(answer.token_type.is_empty() || answer.token_type.eq_ignore_ascii_case("bearer")) {
        return Err(Finding::protocol("token is not a bearer token"));
    }
    Ok(Granted { token: Secret::new(token), usable: usable(answer.expires_in) })
}

fn usable(expires_in: Option<f64>) -> Duration {
    let Some(seconds) = expires_in else { return UNDATED };
    let life = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    life.saturating_sub(MARGIN_MAX.min(life / 10))
}

/// The refusals that RFC 6749 and RFC 8707 name; what else a server says is not repeated.
fn refused(status: StatusCode, body: &[u8]) -> Option<Finding> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let (outcome, name) = match refusal.error.as_str() {
        "invalid_client" => (Outcome::Auth, "invalid_client"),
        "unauthorized_client" => (Outcome::Auth, "unauthorized_client"),
        "invalid_grant" => (Outcome::Auth, "invalid_grant"),
        "access_denied" => (Outcome::Auth, "access_denied"),
        "invalid_request" => (Outcome::ClientError, "invalid_request"),
        "invalid_scope" => (Outcome::ClientError, "invalid_scope"),
        "invalid_target" => (Outcome::ClientError, "invalid_target"),
        "unsupported_grant_type" => (Outcome::ClientError, "unsupported_grant_type"),
        _ => return None,
    };
    // A server in trouble may say anything: then its status counts.
    status.is_client_error().then(|| {
        let code = status.as_u16();
        Finding::new(outcome, format!("HTTP {code}: {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Target;

    fn client() -> OAuthClient {
        OAuthClient {
            target: Target { host: "example.com".to_owned(), port: 443 },
            tls: None,
            path: Secret::from("/token"),
            client_id: Secret::from("me:and you"),
            client_secret: Secret::from("p@ss+word"),
            scope: Some("mcp read".to_owned()),
            resource: Some("https://mcp.example.com/mcp".to_owned()),
        }
    }

    #[test]
    fn the_request_is_as_the_standards_word_it() {
        let check = request(&client());
        assert_eq!((check.method.as_str(), check.path.expose()), ("POST", "/token"));
        let body = "grant_type=client_credentials&scope=mcp+read\
                    &resource=https%3A%2F%2Fmcp.example.com%2Fmcp";
        assert_eq!(check.body.unwrap().expose(), body);
        let basic = check.headers[0].1.expose().strip_prefix("Basic ").unwrap().to_owned();
        let login = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
        assert_eq!(login, "me%3Aand+you:p%40ss%2Bword");
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        let seconds = |expires_in| usable(expires_in).as_secs();
        assert_eq!(seconds(Some(3600.0)), 3540);
        assert_eq!(seconds(Some(100.0)), 90);
        assert_eq!(seconds(Some(0.0)), 0);
        assert_eq!(seconds(Some(-5.0)), 0);
        assert_eq!(seconds(Some(f64::INFINITY)), 0);
        assert_eq!(seconds(None), 300);
    }

    #[test]
    fn an_answer_must_hold_a_bearer_token_fit_for_a_header() {
        let of = |body: &str| granted(body.as_bytes()).map(|granted| granted.token);
        assert_eq!(of(r#"{"access_token":"t","token_type":"bearer"}"#).unwrap().expose(), "t");
        assert_eq!(of(r#"{"access_token":"t","expires_in":60}"#).unwrap().expose(), "t");
        let long = format!("{{\"access_token\":\"{}\"}}", "x".repeat(TOKEN_MAX + 1));
        for bad in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a\r\nb"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            &long,
        ] {
            assert_eq!(of(bad).unwrap_err().outcome, Outcome::Protocol);
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            refused(status, body.as_bytes()).map(|finding| finding.outcome)
        };
        assert_eq!(of(401, r#"{"error":"invalid_client"}"#), Some(Outcome::Auth));
        assert_eq!(of(400, r#"{"error":"unauthorized_client"}"#), Some(Outcome::Auth));
        assert_eq!(of(400, r#"{"error":"invalid_scope"}"#), Some(Outcome::ClientError));
        assert_eq!(of(400, r#"{"error":"invalid_target"}"#), Some(Outcome::ClientError));
        assert_eq!(of(400, r#"{"error":"canary"}"#), None);
        assert_eq!(of(503, r#"{"error":"invalid_client"}"#), None);
        assert_eq!(of(400, "<html>"), None);
    }
}
