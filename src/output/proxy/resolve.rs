//! Names to addresses for the data path: the last good answer is kept, and used while the
//! resolver is slow or broken.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::policy::model::Target;

/// An answer older than this is asked for again, in the background.
const FRESH: Duration = Duration::from_secs(10);
/// Resolver calls in flight of all proxies, and so threads that a hung resolver can hold.
static CALLS: Semaphore = Semaphore::const_new(32);

/// The addresses of one target.
#[derive(Debug)]
pub(super) struct Addresses {
    target: Target,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Arc<[SocketAddr]>,
    at: Option<Instant>,
    asking: bool,
}

impl Addresses {
    pub(super) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self { target, known: Mutex::default() })
    }

    /// Where to connect, best first; waits for the resolver only when nothing is known yet.
    pub(super) async fn get(self: &Arc<Self>) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(ip) = self.target.host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(ip, self.target.port)].into());
        }
        let (known, stale) = self.look();
        if known.is_empty() {
            return self.ask().await;
        }
        if stale {
            let own = Arc::clone(self);
            // Nobody waits for it: what is known serves until then.
            drop(tokio::spawn(async move { own.ask().await.map(drop).ok() }));
        }
        Ok(known)
    }

    /// What was known did not work: the next call asks anew, and waits if it must.
    pub(super) fn doubt(&self) {
        self.lock().at = None;
    }

    fn look(&self) -> (Arc<[SocketAddr]>, bool) {
        let mut known = self.lock();
        let stale = !known.asking && known.at.is_none_or(|at| at.elapsed() > FRESH);
        known.asking |= stale && !known.addresses.is_empty();
        (Arc::clone(&known.addresses), stale)
    }

    async fn ask(&self) -> io::Result<Arc<[SocketAddr]>> {
        let found = lookup(&self.target.host, self.target.port).await;
        let mut known = self.lock();
        known.asking = false;
        if let Ok(found) = &found {
            known.addresses = Arc::clone(found);
            known.at = Some(Instant::now());
        }
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of a name, IPv4 first; never empty.
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
    let slot = CALLS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        // Until here the call holds its slot, also when nobody waits for it any more.
        drop(slot);
        found
    });
    let mut found: Vec<SocketAddr> = found.await.map_err(io::Error::other)??.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "name has no address"));
    }
    Ok(found.into())
}
