//! The proxy output, through the real binary: between real callers and real or hostile upstreams.

mod caller;
mod connect;
mod hostile;
mod http;
mod rig;
mod secured;
mod session;
mod tcp;
