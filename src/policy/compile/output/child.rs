//! Builds how a server of our own follows a switch.

use crate::policy::code::Code;
use crate::policy::compile::output::{self, hook};
use crate::policy::compile::service::Built;
use crate::policy::model::{Child, ChildStdio, OnSwitch};
use crate::policy::raw::{self, Ctx};

const MIB: usize = 1024 * 1024;
/// SIGHUP.
const HANGUP: i32 = 1;

pub(in crate::policy::compile) fn child(
    raw: Option<&raw::Child>,
    services: &[Built],
    ctx: &mut Ctx<'_>,
) -> Child {
    let default = Child::default();
    let Some(raw) = raw else { return default };
    let stdio = match raw.stdio.map(|at| at.value) {
        Some(raw::ChildStdio::Auto) | None => ChildStdio::Auto,
        Some(raw::ChildStdio::Mcp) => ChildStdio::Mcp,
        Some(raw::ChildStdio::Inherit) => ChildStdio::Inherit,
    };
    let chosen = output::chosen(raw.services.as_ref(), services, ctx);
    if let (Some(first), Some(longest)) = (raw.backoff, raw.backoff_max)
        && first.value > longest.value
    {
        let message = "`backoff` is longer than `backoff_max`";
        ctx.error(Code::BadOrder, first.span, message, "");
    }
    let backoff = raw.backoff.map_or(default.backoff, |span| span.value);
    let message_max = raw.message_max.and_then(|max| usize::try_from(max.value).ok());
    let tools = raw.retry_tools.iter().flat_map(|list| &list.items);
    Child {
        on_switch: on_switch(raw, ctx),
        stdio,
        start_timeout: raw.start_timeout.map_or(default.start_timeout, |span| span.value),
        stop_timeout: raw.stop_timeout.map_or(default.stop_timeout, |span| span.value),
        drain_timeout: raw.drain_timeout.map_or(default.drain_timeout, |span| span.value),
        backoff,
        backoff_max: raw.backoff_max.map_or(default.backoff_max.max(backoff), |span| span.value),
        stateful: raw.stateful.is_some_and(|stateful| stateful.value),
        retry_tools: tools.map(|tool| tool.value.clone()).collect(),
        message_max: message_max.map_or(default.message_max, |mib| mib.saturating_mul(MIB)),
        services: chosen,
        uptake: output::uptake::of_child(raw, default.uptake),
    }
}

fn on_switch(raw: &raw::Child, ctx: &mut Ctx<'_>) -> OnSwitch {
    let chosen = raw.on_switch.map(|at| at.value);
    if chosen != Some(raw::OnSwitch::Signal) && raw.at.has("signal") {
        let message = "`signal` means nothing unless `on_switch` is \"signal\"";
        ctx.error(Code::NotApplicable, raw.at.of("signal"), message, "");
    }
    match chosen {
        Some(raw::OnSwitch::Warm) | None => OnSwitch::Warm,
        Some(raw::OnSwitch::Restart) => OnSwitch::Restart,
        Some(raw::OnSwitch::Nothing) => OnSwitch::Nothing,
        Some(raw::OnSwitch::Signal) => {
            let signal = raw.signal.as_ref().and_then(|signal| hook::signal(signal, ctx));
            OnSwitch::Signal(signal.unwrap_or(HANGUP))
        }
    }
}
