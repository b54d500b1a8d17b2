//! `render`: what the outputs would hold.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::{Terminal, Tone};
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::ordered::Gather as _;
use crate::core::record::SCHEMA;
use crate::output::{self, ActiveConfig, ActiveService};
use crate::policy::model::{File, Output, Policy};
use crate::policy::secret::Secret;

/// What stands for a value that is not shown.
const MASK: &str = "***";

/// Print what the outputs hold, or would hold, without writing anything.
///
/// The active endpoints are those of the running sidecar; where none runs, the preferred ones. Files only: sockets and proxies hold nothing.
#[derive(Args, Debug)]
pub(crate) struct Render {
    /// Print this output only, by its name or its path.
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Print what there would be with this endpoint; may be given for each service.
    #[arg(long, value_name = "SERVICE=NAME", value_parser = chosen)]
    endpoint: Vec<(String, String)>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Print the values of variables instead of `***`.
    #[arg(long)]
    show_secrets: bool,
    #[command(flatten)]
    control: ControlArgs,
}

/// Which endpoint is active, of every service.
type Active = BTreeMap<ServiceName, Option<EndpointName>>;

impl Render {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let policy = self.control.policy().load(terminal)?;
        let files = policy.outputs.iter().filter_map(|output| match output {
            Output::File(file) => Some(file),
            Output::Socket(_) | Output::Proxy(_) => None,
        });
        let wanted: Vec<&File> = files.filter(|file| self.wants(file)).collect();
        if let (Some(name), true) = (&self.output, wanted.is_empty()) {
            return Err(Failure::UnknownOutput { name: name.clone() });
        }
        let (revision, mut active) = self.active(&policy, terminal);
        self.choose(&policy, &mut active)?;
        let config = config(&policy, revision, &active, self.show_secrets);
        if self.json {
            terminal.print_json(&document(&wanted, &config)?)?;
            return Ok(Exit::Fine);
        }
        let alone = wanted.len() == 1;
        for file in wanted {
            if !alone {
                let title = format!("# {}", file.path.display());
                terminal.print(&format!("{}\n", terminal.paint(Tone::Quiet, title)))?;
            }
            terminal.print(&text(file, &config)?)?;
        }
        Ok(Exit::Fine)
    }

    fn wants(&self, file: &File) -> bool {
        self.output.as_deref().is_none_or(|name| {
            name == file.name || file.path.as_os_str() == std::ffi::OsStr::new(name)
        })
    }

    /// Puts the endpoints asked for in the place of the active ones.
    fn choose(&self, policy: &Policy, active: &mut Active) -> Result<(), Failure> {
        for (service, endpoint) in &self.endpoint {
            let known = policy.services.get(&ServiceName::new(service));
            let Some(known) = known else {
                return Err(Failure::UnknownService { service: service.clone() });
            };
            let name = EndpointName::new(endpoint);
            if !known.endpoints.contains_key(&name) {
                let (service, endpoint) = (service.clone(), endpoint.clone());
                return Err(Failure::UnknownEndpoint { service, endpoint });
            }
            active.insert(ServiceName::new(service), Some(name));
        }
        Ok(())
    }

    /// What the running sidecar has published, else what a fresh one would begin with.
    fn active(&self, policy: &Policy, terminal: Terminal) -> (Revision, Active) {
        let link = self.control.link();
        let asked = link.and_then(|link| block_on(async { link.status().await })?);
        let Ok(document) = asked else {
            terminal.say("no sidecar answers; shown with the preferred endpoints\n");
            return (Revision::default(), preferred(policy));
        };
        let active = document.services.into_iter().map(|(name, service)| (name, service.active));
        (document.revision, active.gather_map())
    }
}

/// A service and its endpoint, as given on the command line.
fn chosen(given: &str) -> Result<(String, String), String> {
    let (service, endpoint) = given.split_once('=').ok_or("write SERVICE=NAME")?;
    Ok((service.to_owned(), endpoint.to_owned()))
}

fn document(files: &[&File], config: &ActiveConfig) -> Result<serde_json::Value, Failure> {
    let endpoint = |active: &ActiveService| active.endpoint.clone();
    let one = |file: &&File| {
        let services = config.services.iter().filter(|(name, _)| file.wants(name));
        let active: Active = services.map(|(name, one)| (name.clone(), endpoint(one))).gather_map();
        let content = text(file, config)?;
        Ok(json!({ "name": file.name, "path": file.path, "active": active, "content": content }))
    };
    let outputs = files.iter().map(one).collect::<Result<Vec<_>, Failure>>()?;
    Ok(json!({ "schema": SCHEMA, "revision": config.revision, "outputs": outputs }))
}

fn preferred(policy: &Policy) -> Active {
    let first = |name: &ServiceName| {
        let rules = policy.rules.services.get(name)?;
        rules.endpoints.iter().min_by_key(|endpoint| endpoint.tier).map(|best| best.name.clone())
    };
    policy.services.keys().map(|name| (name.clone(), first(name))).gather_map()
}

fn config(policy: &Policy, revision: Revision, active: &Active, show: bool) -> ActiveConfig {
    let services = policy.services.iter().map(|(name, service)| {
        let endpoint = active.get(name).cloned().flatten();
        let known = endpoint.as_ref().and_then(|endpoint| service.endpoints.get(endpoint));
        let env = known.map(|endpoint| masked(&endpoint.env, show)).unwrap_or_default();
        let url = known.and_then(|endpoint| endpoint.url.clone());
        (name.clone(), ActiveService { endpoint, url, env, moved: None })
    });
    ActiveConfig { revision, services: services.gather_map() }
}

fn masked(env: &BTreeMap<String, Secret>, show: bool) -> BTreeMap<String, Secret> {
    let value = |value: &Secret| if show { value.clone() } else { Secret::from(MASK) };
    env.iter().map(|(name, secret)| (name.clone(), value(secret))).gather_map()
}

fn text(file: &File, config: &ActiveConfig) -> Result<String, Failure> {
    let failed = |source| Failure::Render { name: file.name.clone(), source };
    let bytes = output::render(file, config, None).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
