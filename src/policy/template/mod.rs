//! Fills templates in.
//!
//! Owns the language of templates: what they may use and how a value is written into their text.
//! Lies with the policy, because a template that cannot be filled in is a fault of the policy: it
//! is refused there, for every endpoint, before a switch would fail on it. The outputs render with
//! the same code.
//!
//! The language is Jinja's, without files: nothing is included or imported. A name that is not
//! defined is an error, never an empty text. The engine copies the values it is given, and those
//! copies are not wiped; the rendered text is.
//!
//! Invariants
//! 1. No [`Fault`] holds a value: only what kind of mistake it is, and where. The engine's own
//!    messages, which may quote values, are used for what is wrong with the text alone.
//! 2. Rendering ends, and its text is of at most [`MAX_BYTES`], whatever the template says.
//! 3. The same template and context give the same bytes.

mod fault;
mod filter;
mod quote;

use std::collections::BTreeMap;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};
use zeroize::Zeroizing;

use crate::core::id::Revision;
use crate::policy::model::{Quoting, Template};
use crate::policy::secret::Secret;

pub(crate) use fault::faults;
pub use fault::{Fault, FaultKind};

/// Most bytes that a template gives.
pub const MAX_BYTES: usize = 1 << 20;
/// Steps that one rendering may take, or 64 bytes of text for each: a few milliseconds.
const FUEL: u64 = 200_000;
/// What a template is called in the engine's errors, which nobody reads.
const NAME: &str = "template";
/// What is known at the top.
pub(crate) const NAMES: [&str; 2] = ["revision", "services"];
/// What is known of a service.
pub(crate) const SERVICE_NAMES: [&str; 6] = ["endpoint", "url", "env", "from", "cause", "kind"];

/// What a template can speak of.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    /// The publication's number: `revision`.
    pub revision: Revision,
    /// The services: `services.NAME`, or `services["na-me"]`.
    pub services: BTreeMap<&'a str, Facts<'a>>,
}

/// What a template can say of a service. A text is empty where there is nothing to say.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The active endpoint; empty when the service is to fail rather than to be served.
    pub endpoint: &'a str,
    /// Its address, without user info and query.
    pub url: &'a str,
    /// Its variables: `env.NAME`. None when there is no endpoint.
    pub env: &'a BTreeMap<String, Secret>,
    /// Where the service was before its latest move.
    pub from: &'a str,
    /// Why it moved.
    pub cause: &'a str,
    /// What sort of move: `failover`, `failback`, `switchover`, `reload` or `rollback`.
    pub kind: &'a str,
}

impl Context<'_> {
    fn value(&self) -> Value {
        let services = self.services.iter().map(|(name, facts)| (*name, facts.value()));
        Value::from_pairs([
            ("revision", Value::from(self.revision.get())),
            ("services", Value::from_pairs(services)),
        ])
    }
}

impl Facts<'_> {
    fn value(&self) -> Value {
        let env = self.env.iter().map(|(name, value)| (name.as_str(), value.expose()));
        Value::from_pairs([
            ("endpoint", Value::from(self.endpoint)),
            ("url", Value::from(self.url)),
            ("env", Value::from_pairs(env)),
            ("from", Value::from(self.from)),
            ("cause", Value::from(self.cause)),
            ("kind", Value::from(self.kind)),
        ])
    }
}

/// Fills a template in.
///
/// # Errors
/// When it cannot be filled in with this context, or would give more than [`MAX_BYTES`].
pub fn render(template: &Template, context: &Context<'_>) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let text = template.text.expose();
    render_text(text, template.quoting, context.value(), |_| {}).map(|rendered| rendered.bytes)
}

/// What became of a template.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// The text.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// What it took, at most [`FUEL`].
    pub(crate) steps: u64,
}

/// The same for a text and a value, in an environment that `prepare` may add to.
fn render_text(
    text: &str,
    quoting: Quoting,
    context: Value,
    prepare: impl FnOnce(&mut Environment<'_>),
) -> Result<Rendered, Fault> {
    let mut environment = environment(quoting)?;
    prepare(&mut environment);
    let template = environment.template_from_named_str(NAME, text)?;
    let mut page = Page::new(text.len());
    let captured = template.render_captured_to(context, &mut page)?;
    let steps = captured.state().fuel_levels().map_or(FUEL, |(consumed, _)| consumed);
    drop(captured);
    Ok(Rendered { bytes: page.0, steps })
}

/// What every template is rendered in.
fn environment<'t>(quoting: Quoting) -> Result<Environment<'t>, Error> {
    let mut environment = Environment::new();
    // A line with nothing but a tag on it leaves nothing behind.
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Otherwise errors keep the values of all variables that were in sight.
    environment.set_debug(false);
    environment.set_fuel(Some(FUEL));
    // One would print everything, the other lets lists nest without end.
    environment.remove_global("debug");
    environment.remove_global("namespace");
    environment.remove_filter("pprint");
    environment.set_auto_escape_callback(move |_| match quoting {
        Quoting::Plain => AutoEscape::None,
        Quoting::Json | Quoting::Yaml | Quoting::Toml => AutoEscape::Custom("whole value".into()),
    });
    environment.set_formatter(move |out, state, value| {
        let plain = value.is_safe() || matches!(state.auto_escape(), AutoEscape::None);
        quote::write(out, if plain { Quoting::Plain } else { quoting }, value)
    });
    filter::add(&mut environment);
    Ok(environment)
}

/// What has been rendered so far.
struct Page(Zeroizing<Vec<u8>>);

impl Page {
    fn new(template: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(template * 2 + 4096)))
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
