//! The supervised server from outside: the binary between clients and servers.

mod host;
mod process;
mod proxied;
mod run;
mod sdk;
mod sidecar;
mod switch;
