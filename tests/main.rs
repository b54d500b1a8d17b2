//! Every integration test, in one binary: on a small machine each further one costs a link.
//!
//! Each room is marked as test code, so that the lints grant it what they grant to tests.

#![expect(
    clippy::unchecked_time_subtraction,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong in one of these ways fails, which is what it is for"
)]

#[cfg(test)]
mod admin;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod child;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod common;
#[cfg(test)]
mod e2e;
#[cfg(test)]
mod model;
#[cfg(test)]
mod output;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod watch;
