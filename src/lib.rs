//! Keeps MCP servers working when the services behind them die.

pub mod admin;
pub mod alert;
pub mod chaos;
pub mod cli;
pub mod core;
pub mod daemon;
pub mod output;
pub mod policy;
pub mod probe;
pub mod resp;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod unix;
pub mod watch;
