//! Who an endpoint is to its service: the fingerprint of what authenticates.
//!
//! A refused credential is escaped only to another one, and by default a used-up quota too. So it
//! matters that a host never takes part while there is a credential: two replicas with one
//! password are one credential, two keys at one address are two.

use std::collections::BTreeMap;

use crate::policy::compile::address::Located;
use crate::policy::compile::fingerprint;
use crate::policy::interpolate::Value;
use crate::policy::mask;
use crate::policy::model::{Check, Endpoint, HttpCheck, Login, TokenSource};
use crate::policy::preset::Preset;

/// Ends of names that say on whose behalf a credential is used.
const ACCOUNTS: [&str; 4] = ["USER", "USERNAME", "CLIENT_ID", "ACCOUNT"];

/// What may tell an endpoint's credential, the surest first.
pub(super) struct Sources<'a> {
    pub(super) preset: Option<&'a Preset>,
    pub(super) env: &'a BTreeMap<String, Value>,
    pub(super) address: Option<&'a Located>,
    pub(super) endpoint: &'a Endpoint,
}

impl Sources<'_> {
    /// What tells the endpoint apart when it has no credential at all: a refusal there says
    /// nothing of others.
    pub(super) fn place(&self, service: &str) -> String {
        match self.address {
            Some(located) => located.address.place().to_owned(),
            None => format!("{service}/{}", self.endpoint.name),
        }
    }
}

/// The fingerprint of the credential: of the variables, else of the address, else of the probe.
pub(super) fn of(sources: &Sources<'_>, service: &str) -> u64 {
    let variables = |wanted: fn(&Sources<'_>, &str) -> bool| {
        sources.env.iter().filter(move |(name, _)| wanted(sources, name))
    };
    if variables(is_secret).next().is_some() {
        return fingerprint::of_values(variables(|sources, name| {
            is_secret(sources, name) || is_account(sources, name)
        }));
    }
    if let Some(user) = sources.address.and_then(|located| located.address.user.as_ref()) {
        let password = user.password.as_ref().map_or("", |password| password.expose());
        return fingerprint::of([user.name.expose().as_bytes(), password.as_bytes()]);
    }
    let mut sent = Vec::new();
    let probes = [Some(&sources.endpoint.probe), sources.endpoint.deep_probe.as_ref()];
    probes.into_iter().flatten().for_each(|probe| of_check(&probe.check, &mut sent));
    if sent.is_empty() {
        return fingerprint::of([b"none".as_slice(), sources.place(service).as_bytes()]);
    }
    fingerprint::of(sent.into_iter().map(str::as_bytes))
}

fn is_secret(sources: &Sources<'_>, name: &str) -> bool {
    let known = sources.preset.into_iter().flat_map(|preset| preset.variables);
    match known.into_iter().find(|variable| variable.name == name) {
        Some(variable) => variable.secret,
        None => mask::is_credential_name(name),
    }
}

fn is_account(sources: &Sources<'_>, name: &str) -> bool {
    let known = sources.preset.into_iter().flat_map(|preset| preset.variables);
    match known.into_iter().find(|variable| variable.name == name) {
        Some(variable) => variable.account,
        None => ACCOUNTS.iter().any(|end| name.to_ascii_uppercase().ends_with(end)),
    }
}

/// What a check sends to authenticate.
fn of_check<'a>(check: &'a Check, sent: &mut Vec<&'a str>) {
    match check {
        Check::Http(http) => of_http(http, sent),
        Check::Mcp(mcp) => of_http(&mcp.http, sent),
        Check::Neo4j(neo4j) => of_http(&neo4j.http, sent),
        Check::Bolt(bolt) => bolt.login.iter().for_each(|login| of_login(login, sent)),
        Check::Redis(redis) => redis.login.iter().for_each(|login| of_login(login, sent)),
        Check::Postgres(postgres) if !postgres.login.password.expose().is_empty() => {
            of_login(&postgres.login, sent);
        }
        Check::Grpc(grpc) => {
            let secret = grpc.metadata.iter().filter(|(name, _)| mask::is_credential_name(name));
            sent.extend(secret.map(|(_, value)| value.expose()));
        }
        Check::Several(several) => {
            several.checks.iter().for_each(|(_, check)| of_check(check, sent));
        }
        Check::Postgres(_)
        | Check::Tcp(_)
        | Check::Tls(_)
        | Check::Exec(_)
        | Check::McpStdio(_)
        | Check::Dns(_) => {}
    }
}

fn of_login<'a>(login: &'a Login, sent: &mut Vec<&'a str>) {
    sent.extend([login.username.expose(), login.password.expose()]);
}

fn of_http<'a>(http: &'a HttpCheck, sent: &mut Vec<&'a str>) {
    let secret = http.headers.iter().filter(|(name, _)| mask::is_credential_name(name));
    sent.extend(secret.map(|(_, value)| value.expose()));
    match &http.token {
        Some(TokenSource::Jwt(jwt)) => sent.extend([jwt.secret.expose(), jwt.claims.expose()]),
        Some(TokenSource::OAuth(oauth)) => {
            sent.extend([oauth.client_id.expose(), oauth.client_secret.expose()]);
        }
        None => {}
    }
}
