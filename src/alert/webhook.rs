//! One `POST` to one receiver.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect};
use rustls::ClientConfig;

use super::outbox::Item;
use crate::policy::model::Alert;
use crate::tls::{self, Roots};

/// The HTTP client that all alerts share: verified TLS, no redirects, no proxy.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
}

/// Why alerts cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be set up.
    #[error("set up TLS for alerts")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be built.
    #[error("build the HTTP client for alerts")]
    Http(#[source] reqwest::Error),
}

/// What a receiver made of an alert.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It has it.
    Taken,
    /// It may take it later; when, if it says so.
    Later(String, Option<Duration>),
    /// It will never take it.
    Never(String),
}

impl Client {
    /// Builds the client; the platform's roots are trusted, or bundled ones where there are none.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, ClientError> {
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(trusting()?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1)
            .user_agent(concat!("mcp-failover/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Http(error.without_url()))?;
        Ok(Self { inner })
    }

    pub(super) async fn post(&self, alert: &Alert, item: &Item) -> Verdict {
        let mut request = self
            .inner
            .post(alert.url.expose())
            .timeout(alert.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", &*item.id)
            .body(item.body.clone());
        for (name, value) in &alert.headers {
            let (Ok(name), Ok(mut value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
            else {
                return Verdict::Never(format!("the header `{name}` cannot be sent"));
            };
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(response) => judge(&response),
            Err(error) if error.is_builder() => {
                Verdict::Never(String::from("the address is not one that can be sent to"))
            }
            Err(error) => Verdict::Later(chain(&error.without_url()), None),
        }
    }
}

fn judge(response: &Response) -> Verdict {
    let status = response.status();
    let why = format!("HTTP {}", status.as_u16());
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Later(why, retry_after(response))
        }
        status if status.is_success() => Verdict::Taken,
        status if status.is_server_error() => Verdict::Later(why, retry_after(response)),
        status if status.is_redirection() => {
            Verdict::Never(format!("{why}: redirects are not followed"))
        }
        _ => Verdict::Never(why),
    }
}

/// The delay form only: the date form would need a clock we trust as much as theirs.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The error and its causes: the outermost alone says nearly nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn trusting() -> Result<ClientConfig, ClientError> {
    Ok(tls::client(Roots::Platform).map_err(ClientError::Tls)?.with_no_client_auth())
}
