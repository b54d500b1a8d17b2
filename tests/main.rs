//! Every integration test, in one binary: on a small machine each further one costs a link.

mod admin;
mod cli;
mod common;
mod e2e;
mod model;
mod output;
mod policy;
mod probe;
mod reference;
mod simulation;
mod store;
mod tidy;
mod watch;
