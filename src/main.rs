//! The `mcp-failover` command; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_failover::cli::main()
}
