//! How TLS is verified.

use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::probe::Site;
use crate::policy::interpolate::{self, Scope};
use crate::policy::model::{TlsOptions, Trust};
use crate::policy::raw::{self, Ctx, Span, Text};
use crate::policy::url;

/// A certificate that ends sooner than this makes a pass `degraded`.
const EXPIRY_WARNING: Duration = Duration::from_secs(48 * 3600);

/// How TLS is verified towards this address.
pub(super) fn options(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<TlsOptions> {
    let unverified = site.address.filter(|located| {
        let address = &located.address;
        let require = address.scheme.starts_with("postgres")
            && address.parameter("sslmode") == Some("require");
        address.scheme.ends_with("+ssc") || require
    });
    let trust = match unverified {
        Some(located) => {
            warn_unverified(located.span, ctx);
            Trust::SelfSigned
        }
        None => Trust::Verified,
    };
    let server_name = match &raw.server_name {
        Some(name) => Some(server_name(name, site.scope(), ctx)?),
        None => None,
    };
    let ca_pem = match &raw.ca_file {
        Some(file) => Some(ca_file(file, ctx)?),
        None => None,
    };
    let expiry_warning = raw.expiry_warning.map_or(EXPIRY_WARNING, |span| span.value);
    Some(TlsOptions { trust, server_name, ca_pem, expiry_warning })
}

/// As [`options`], if the scheme of the address asks for TLS; `Err` when they were wrong.
pub(super) fn by_scheme(
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Result<Option<TlsOptions>, ()> {
    if site.address.is_some_and(|located| located.address.tls) {
        options(raw, site, ctx).map(Some).ok_or(())
    } else {
        Ok(None)
    }
}

/// Options for an address that no key describes, but the roots to trust.
pub(super) fn of_roots(ca: Option<&Text>, ctx: &mut Ctx<'_>) -> Option<TlsOptions> {
    let ca_pem = match ca {
        Some(file) => Some(ca_file(file, ctx)?),
        None => None,
    };
    Some(TlsOptions { ca_pem, expiry_warning: EXPIRY_WARNING, ..TlsOptions::default() })
}

fn warn_unverified(span: Span, ctx: &mut Ctx<'_>) {
    let message = "an address whose certificate is not verified";
    let help = "anybody on the way can answer for it; `+s`, or `sslmode=verify-full`, verifies";
    ctx.error(Code::UnverifiedTls, span, message, help);
}

/// The name to be verified in a certificate.
pub(in crate::policy::compile) fn server_name(
    raw: &Text,
    scope: Scope<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<String> {
    let name = check::text(raw, scope, ctx)?.expose().to_owned();
    if url::check_name(&name).is_err() {
        ctx.error(Code::BadUrl, raw.span, "not a server name", "write the name in the certificate");
        return None;
    }
    Some(name)
}

/// Reads a file of roots.
pub(in crate::policy::compile) fn ca_file(raw: &Text, ctx: &mut Ctx<'_>) -> Option<String> {
    let path = check::path(raw, ctx)?;
    let pem = interpolate::file(&path, raw.span, ctx)?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        ctx.error(Code::BadCertificate, raw.span, "not a PEM certificate file", "");
        return None;
    }
    Some(pem)
}
