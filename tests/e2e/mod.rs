//! The whole sidecar as a process, between real upstreams and real readers.

mod backup;
mod clients;
mod isolation;
mod lifecycle;
mod operators;
mod redis;
mod reload;
mod restart;
mod secrets;
mod servers;
mod sharing;
mod sidecar;
mod switch;
mod template;
mod uptake;
