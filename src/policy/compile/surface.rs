//! Builds what the sidecar shows of itself: name, state, admin, control socket, alerts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::action::Event;
use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::interpolate::Scope;
use crate::policy::model::{Admin, Alert, Control, Sidecar};
use crate::policy::raw::{self, Ctx, List, nearest};
use crate::policy::url;

/// Where the admin surface listens unless told otherwise.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);
/// Who we are and where our state lives.
pub(super) fn sidecar(raw: Option<&raw::Sidecar>, ctx: &mut Ctx<'_>) -> Sidecar {
    let name = raw.and_then(|raw| raw.name.as_ref());
    let name = name.and_then(|name| {
        let value = check::text(name, Scope::Global, ctx)?.expose().trim().to_owned();
        if value.is_empty() {
            ctx.error(Code::EmptyValue, name.span, "an empty name", "");
        }
        Some(value)
    });
    let name = name.or_else(|| variable("HOSTNAME", ctx)).unwrap_or_else(|| "local".to_owned());
    let dir = raw.and_then(|raw| raw.state_dir.as_ref()).and_then(|path| check::path(path, ctx));
    Sidecar { name, state_dir: dir.unwrap_or_else(|| state_dir(ctx)) }
}

fn variable(name: &str, ctx: &Ctx<'_>) -> Option<String> {
    ctx.lookup.var(name).filter(|value| !value.is_empty())
}

/// systemd's directory, else the XDG one, else the system's.
fn state_dir(ctx: &Ctx<'_>) -> PathBuf {
    let systemd = variable("STATE_DIRECTORY", ctx);
    let systemd = systemd.as_deref().and_then(|list| list.split(':').next()).map(PathBuf::from);
    let xdg = || variable("XDG_STATE_HOME", ctx).map(PathBuf::from);
    let home = || variable("HOME", ctx).map(|home| PathBuf::from(home).join(".local/state"));
    systemd
        .or_else(|| xdg().or_else(home).map(|base| base.join("mcp-failover")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/mcp-failover"))
}

/// The read-only HTTP surface.
pub(super) fn admin(raw: Option<&raw::Admin>, ctx: &mut Ctx<'_>) -> Admin {
    let listen = raw.and_then(|raw| raw.listen.as_ref());
    let listen = listen.map_or(Some(LISTEN), |text| {
        let value = check::text(text, Scope::Global, ctx)?;
        if value.expose() == "off" {
            return None;
        }
        let address = value.expose().parse::<SocketAddr>().ok();
        match address {
            None => {
                let help = "an IP address with a port, such as \"127.0.0.1:9464\", or \"off\"";
                ctx.error(Code::BadListen, text.span, "not an address to listen on", help);
            }
            Some(address) if !address.ip().is_loopback() => {
                let message = "the status page is reachable from other machines";
                let help = "it has no login; `127.0.0.1:9464` keeps it to this one";
                ctx.error(Code::PublicListen, text.span, message, help);
            }
            Some(_) => {}
        }
        address
    });
    let hosts = raw.and_then(|raw| raw.allowed_hosts.as_ref());
    let hosts = hosts.iter().flat_map(|list| &list.items);
    let allowed_hosts = hosts
        .filter_map(|host| check::text(host, Scope::Global, ctx))
        .map(|host| host.expose().to_ascii_lowercase())
        .collect();
    Admin { listen, allowed_hosts }
}

/// The operators' socket: as given, else where `MCP_FAILOVER_CONTROL` says, else in the runtime
/// directory, else beside the state.
pub(super) fn control(
    raw: Option<&raw::Control>,
    state_dir: &std::path::Path,
    ctx: &mut Ctx<'_>,
) -> Control {
    let given = raw.and_then(|raw| raw.socket.as_ref());
    if let Some(text) = given
        && let Some(socket) = check::path(text, ctx)
    {
        if socket.as_os_str().len() > url::MAX_SOCKET_PATH {
            let message = "the path of a socket has at most 107 bytes";
            ctx.error(Code::BadPath, text.span, message, "choose a shorter directory");
        }
        return Control { socket };
    }
    // Where the commands look by themselves is where the sidecar listens by itself.
    if let Some(socket) = variable("MCP_FAILOVER_CONTROL", ctx) {
        return Control { socket: PathBuf::from(socket) };
    }
    let systemd = variable("RUNTIME_DIRECTORY", ctx);
    let systemd = systemd.as_deref().and_then(|list| list.split(':').next()).map(PathBuf::from);
    let xdg =
        || variable("XDG_RUNTIME_DIR", ctx).map(|dir| PathBuf::from(dir).join("mcp-failover"));
    let dir = systemd.or_else(xdg).unwrap_or_else(|| state_dir.to_owned());
    Control { socket: dir.join("control.sock") }
}

/// Who is told of events.
pub(super) fn alerts(raw: Option<&List<raw::Alert>>, ctx: &mut Ctx<'_>) -> Vec<Alert> {
    let mut names = BTreeSet::new();
    let mut alerts = Vec::new();
    for (position, raw) in (1..).zip(raw.iter().flat_map(|list| &list.items)) {
        let name = match &raw.name {
            Some(name) => check::name(name, ctx),
            None => Some(format!("webhook-{position}")),
        };
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            let place = raw.at.of("name");
            ctx.error(Code::DuplicateName, place, "an alert name used twice", "");
        }
        alerts.extend(name.and_then(|name| alert(name, raw, ctx)));
    }
    alerts
}

fn alert(name: String, raw: &raw::Alert, ctx: &mut Ctx<'_>) -> Option<Alert> {
    let headers = check::headers(raw.headers.as_ref(), Scope::Global, ctx);
    let events: Vec<_> = raw.events.iter().flat_map(|list| &list.items).collect();
    for event in &events {
        if !Event::LABELS.contains(&event.value.as_str()) {
            let help = nearest(&event.value, &Event::LABELS, "events");
            ctx.error(Code::UnknownEvent, event.span, "an unknown event", help);
        }
    }
    let text = raw.url.0.as_ref()?;
    let url = check::text(text, Scope::Global, ctx)?;
    match url::parse(url.expose(), None) {
        Err(error) => {
            let help = "write `https://host[:port][/path]`";
            ctx.error(Code::BadUrl, text.span, error.to_string(), help);
        }
        Ok(address) if !matches!(address.scheme, "http" | "https") || address.user.is_some() => {
            let message = "an alert needs an http or https address without user info";
            ctx.error(Code::WrongScheme, text.span, message, "use an `Authorization` header");
        }
        Ok(_) => {}
    }
    Some(Alert {
        name,
        url: url.text,
        headers: headers.into_iter().map(|(name, value)| (name, value.text)).collect(),
        events: events.iter().map(|event| event.value.clone()).collect(),
        timeout: raw.timeout.map_or(Duration::from_secs(10), |span| span.value),
    })
}
