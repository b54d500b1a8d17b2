//! Bearer tokens: signed here, or asked for and kept until shortly before they end.
//!
//! Invariants
//! 1. A signing key never leaves; a client's secret goes to its token endpoint and nowhere else.
//! 2. Attempts that need the same token share one request for it.
//! 3. A kept token that is refused is forgotten, and the attempt tries once more with a new one:
//!    that it was taken back early is no fault of the endpoint's.

mod jwt;
mod oauth;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::policy::model::{OAuthClient, TokenSource};
use crate::policy::secret::Secret;
use crate::probe::clock;
use crate::probe::dial::Dialler;
use crate::probe::digest::{self, Key};
use crate::probe::finding::Step;
use crate::probe::trace::{Stage, Trace};

/// Clients whose tokens are kept. More than a policy plausibly names; a reload may bring new ones.
const CLIENTS_MAX: usize = 4 * 1024;

/// A token for one attempt.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    /// What goes into the header.
    pub(super) token: Secret,
    /// It was not made for this attempt, so it may have been taken back meanwhile.
    pub(super) kept: bool,
}

#[derive(Debug)]
struct Kept {
    token: Secret,
    until: Instant,
}

/// Held while a token is asked for, so that others wait for it instead of asking too.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// The tokens at hand.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<BTreeMap<Key, Slot>>);

impl Tokens {
    /// A token from `source`; `spent` is one that was refused.
    pub(super) async fn get(
        &self,
        dialler: &Dialler,
        source: &TokenSource,
        spent: Option<&Bearer>,
        trace: &mut Trace,
    ) -> Step<Bearer> {
        match source {
            TokenSource::Jwt(signer) => {
                let token = jwt::sign(signer, clock::since_1970())?;
                Ok(Bearer { token, kept: false })
            }
            TokenSource::OAuth(client) => {
                trace.enter(Stage::Token);
                let bearer = self.granted(dialler, client, spent).await?;
                trace.enter(Stage::Between);
                Ok(bearer)
            }
        }
    }

    async fn granted(
        &self,
        dialler: &Dialler,
        client: &OAuthClient,
        spent: Option<&Bearer>,
    ) -> Step<Bearer> {
        let slot = self.slot(client);
        let mut slot = slot.lock().await;
        let fresh = |kept: &&Kept| {
            kept.until > Instant::now() && spent.is_none_or(|spent| spent.token != kept.token)
        };
        if let Some(kept) = slot.as_ref().filter(fresh) {
            return Ok(Bearer { token: kept.token.clone(), kept: true });
        }
        *slot = None;
        let granted = Box::pin(oauth::ask(dialler, client)).await?;
        let until = Instant::now().checked_add(granted.usable);
        *slot = until.map(|until| Kept { token: granted.token.clone(), until });
        Ok(Bearer { token: granted.token, kept: false })
    }

    fn slot(&self, client: &OAuthClient) -> Slot {
        let key = key(client);
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= CLIENTS_MAX && !slots.contains_key(&key) {
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

fn key(client: &OAuthClient) -> Key {
    let OAuthClient { target, tls, path, client_id, client_secret, scope, resource } = client;
    let place = format!("{target} {tls:?} {scope:?} {resource:?}");
    let [path, id, secret] = [path, client_id, client_secret].map(Secret::expose);
    digest::key(&[place.as_bytes(), path.as_bytes(), id.as_bytes(), secret.as_bytes()])
}
