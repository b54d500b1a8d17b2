//! Checks that speak MCP.

use std::time::Duration;

use crate::policy::model::probe::{ExecCheck, HttpCheck};

/// An MCP server over streamable HTTP.
#[derive(Clone, Debug)]
pub struct McpCheck {
    /// Address, headers and token; method, body and expectations are the protocol's.
    pub http: HttpCheck,
    /// Which era of the protocol is spoken.
    pub era: McpEra,
    /// What the answer must be.
    pub expect: McpExpect,
}

/// An MCP server over the standard streams of a private child.
#[derive(Clone, Debug)]
pub struct McpStdioCheck {
    /// Program, arguments and environment.
    pub exec: ExecCheck,
    /// Which era of the protocol is spoken.
    pub era: McpEra,
    /// What the answer must be.
    pub expect: McpExpect,
    /// Keep the child for the next attempt instead of starting one each time.
    pub keep: bool,
}

/// An era of the MCP protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum McpEra {
    /// Found out by asking, and remembered.
    #[default]
    Auto,
    /// 2026-07-28: `server/discover`, no sessions.
    Modern,
    /// Up to 2025-11-25: `initialize`, `ping`, `DELETE`.
    Legacy,
}

/// What an MCP server must be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct McpExpect {
    /// Tools that it must list; when empty its tools are not asked for.
    pub tools: Vec<String>,
    /// The name that it must give for itself.
    pub server: Option<String>,
    /// An answer that only asks for a credential is a pass: the server is there, and no more is known.
    pub unauthorized: bool,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}
