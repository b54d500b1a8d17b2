//! Checks of MCP servers.

use crate::policy::compile::probe::http::request;
use crate::policy::compile::probe::{Site, exec, expect, server};
use crate::policy::model::{McpCheck, McpEra, McpExpect, McpStdioCheck};
use crate::policy::raw::{self, Ctx, Era, ProbeKind};

/// Over streamable HTTP.
pub(super) fn http(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<McpCheck> {
    let http = request(ProbeKind::Mcp, raw, site, ctx)?;
    Some(McpCheck { http, era: era(raw), expect: expectations(raw) })
}

/// Over the standard streams of a private child.
pub(super) fn stdio(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<McpStdioCheck> {
    let exec = exec(raw, site, ctx)?;
    let keep = raw.keep.is_none_or(|keep| keep.value);
    Some(McpStdioCheck { exec, era: era(raw), expect: expectations(raw), keep })
}

fn era(raw: &raw::Probe) -> McpEra {
    match raw.era.map(|era| era.value) {
        Some(Era::Modern) => McpEra::Modern,
        Some(Era::Legacy) => McpEra::Legacy,
        Some(Era::Auto) | None => McpEra::Auto,
    }
}

fn expectations(raw: &raw::Probe) -> McpExpect {
    let expect = raw.expect.as_ref();
    McpExpect {
        tools: expect::texts(expect.and_then(|expect| expect.tools.as_ref())),
        server: server::name(raw),
        unauthorized: expect.and_then(|expect| expect.unauthorized).is_some_and(|at| at.value),
        slow: server::slow(raw),
    }
}
