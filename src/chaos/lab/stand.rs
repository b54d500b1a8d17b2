//! An endpoint of a lab: an upstream, and the proxy through which it is reached.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::chaos::fault::Fault;
use crate::chaos::proxy::Proxy;
use crate::chaos::upstream::{Identity, Upstream};

/// The host of the endpoint at this place in the file: each has one of its own, as endpoints that
/// are worth failing over to have.
pub(super) fn host(place: usize) -> Ipv4Addr {
    let last = u8::try_from(place % 250).unwrap_or_default();
    Ipv4Addr::new(127, 0, 0, last.saturating_add(1))
}

/// An endpoint to break and heal; gone when dropped.
#[derive(Debug)]
pub struct Stand {
    proxy: Proxy,
    _upstream: Upstream,
}

impl Stand {
    /// Starts one at a loopback address, on a free port and without a fault. Random delays come
    /// from the seed.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(host: Ipv4Addr, identity: Identity, seed: u64) -> io::Result<Self> {
        let upstream = Upstream::start(identity).await?;
        let proxy = Proxy::start(host, upstream.address(), seed)?;
        Ok(Self { proxy, _upstream: upstream })
    }

    /// Where it is reached, or would be if it were not refusing.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// The fault asked for last.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.proxy.fault()
    }

    /// Asks for a fault, which is in force a moment later.
    pub fn ask(&self, fault: Fault) {
        self.proxy.ask(fault);
    }

    /// Puts a fault in force.
    pub async fn set(&self, fault: Fault) {
        self.proxy.set(fault).await;
    }
}
