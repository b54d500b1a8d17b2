//! A local address that never changes, for servers that read their configuration once.
//!
//! Owns the listeners, the connections to the upstreams, and the choice of an endpoint for one
//! call among those that the engine says may be used. It tells the engine what it saw; it never
//! moves a service.
//!
//! Invariants
//! 1. The data path never waits for the engine: it reads the routing published last.
//! 2. An address is bound anew only when the policy names another one.
//! 3. When an endpoint is left because it is unusable, its connections are cut, so that callers
//!    try again elsewhere at once. When it is left for another reason they drain, up to a bound.
//! 4. A request is sent twice only where that is safe, and within a budget.
//! 5. Connections, requests, heads, replayed bodies and sessions are bounded.
//! 6. Nothing that a client or an upstream sends is logged, nor any header that is set for it.

mod authority;
mod choose;
mod desk;
mod dial;
mod http;
mod intercept;
mod lane;
mod latest;
mod listen;
mod postgres;
mod resolve;
mod routing;
mod sieve;
mod splice;
mod tally;
mod tcp;
mod tls;

pub(super) use listen::run;
