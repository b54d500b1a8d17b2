//! The `mcp-failover` command.

fn main() {}
