//! Builds sockets that servers ask.

use crate::policy::code::Code;
use crate::policy::compile::output;
use crate::policy::compile::service::Built;
use crate::policy::model::{ConfigSocket, Peers};
use crate::policy::raw::{self, Allow, Ctx, Int, List};
use crate::policy::url::MAX_SOCKET_PATH;

/// Connections at a time unless told otherwise.
const MAX_CLIENTS: usize = 1024;

pub(super) fn build(
    raw: &raw::Output,
    services: &[Built],
    ctx: &mut Ctx<'_>,
) -> Option<ConfigSocket> {
    let path = output::path(raw, ctx);
    let name = output::name("socket", raw.path.as_ref(), raw, ctx);
    let permissions = output::permissions(raw, 0o660, ctx);
    let chosen = output::chosen(raw.services.as_ref(), services, ctx);
    let path = path?;
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let message = "the path of a socket has at most 107 bytes";
        ctx.error(Code::BadPath, raw.at.of("path"), message, "choose a shorter directory");
    }
    let clients = raw.max_clients.and_then(|max| usize::try_from(max.value).ok());
    Some(ConfigSocket {
        name,
        path,
        permissions: permissions?,
        owner: output::owner(raw),
        services: chosen,
        allow: peers(raw.allow.as_ref()),
        expose_env: raw.expose_env.is_none_or(|expose| expose.value),
        max_clients: clients.unwrap_or(MAX_CLIENTS),
        uptake: output::uptake::of_output(raw, ctx),
    })
}

fn peers(raw: Option<&Allow>) -> Peers {
    type Numbers = Option<List<Int<0, 4_294_967_294>>>;
    let numbers = |list: &Numbers| {
        list.iter().flat_map(|list| &list.items).map(|number| number.value).collect()
    };
    raw.map_or_else(Peers::default, |raw| Peers {
        uids: numbers(&raw.uids),
        gids: numbers(&raw.gids),
    })
}
