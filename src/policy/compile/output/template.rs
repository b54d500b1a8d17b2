//! Builds files from templates: reads the template and fills it in once for every endpoint.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::de::IgnoredAny;
use toml::de::DeTable;

use crate::core::id::Revision;
use crate::core::ordered::Gather as _;
use crate::core::rules::OnAllDown;
use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::output::{self, file, quotes};
use crate::policy::compile::service::Built;
use crate::policy::interpolate;
use crate::policy::mask;
use crate::policy::model::{Content, Endpoint, File, Quoting, Template};
use crate::policy::raw::{self, Ctx, Span, Text, nearest};
use crate::policy::secret::Secret;
use crate::policy::template::{Context, Facts, Fault, FaultKind, NAMES, SERVICE_NAMES, faults};

/// Steps that trying a template out may take in all: decisions wait for a policy to be compiled.
/// A common template takes some hundred, so that all endpoints are tried.
const STEPS: u64 = 2_000_000;
/// What a round with faults is counted as: each of them is looked for anew.
const STEPS_OF_A_FAULT: u64 = STEPS / 64;
/// Services that are looked at in all of its rounds, for the same reason.
const LOOKED_AT: usize = 200_000;
/// What to do about quotes around a value.
const OWN_QUOTES: &str = "leave the quotes out: `{{ … }}`, or `{{ \"…\" ~ … }}` for a part of a text; or write it as it \
                          is: `{{ …|safe }}`";
/// An expression that is longer is not quoted in a message.
const QUOTED: usize = 80;

/// Builds a file from a template.
///
/// Where the services are not `sound`, a variable that is missing already would be told again.
pub(super) fn build(
    raw: &raw::Output,
    services: &[Built],
    sound: bool,
    ctx: &mut Ctx<'_>,
) -> Option<File> {
    let text = text(raw, ctx);
    let quoting = quoting(raw);
    let content = text
        .as_ref()
        .map(|text| Content::Template(Template { text: Secret::from(&*text.text), quoting }));
    let file = file::file("template", content, raw, services, ctx);
    let (text, file) = (text?, file?);
    let services = services.iter().filter(|one| file.wants(&one.rules.name));
    let trial = Trial { text: &text, quoting, services: services.collect() };
    if sound {
        trial.fill_in(ctx);
    } else {
        trial.read(ctx);
    }
    Some(file)
}

/// The text of a template and where it stands.
struct Written {
    text: Arc<str>,
    /// The value of `source` or `text`.
    span: Span,
    /// The text's place in the policy, when it is written there without escapes.
    inner: Option<Span>,
    /// The file it was read from.
    file: Option<String>,
}

fn text(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<Written> {
    if raw.at.has("source") && raw.at.has("text") {
        let message = "`text` means nothing beside `source`";
        ctx.error(Code::NotApplicable, raw.at.of("text"), message, "leave one of them out");
    }
    let written = match (&raw.source, &raw.text) {
        (Some(source), _) => from_file(source, ctx)?,
        (None, Some(text)) => Written {
            text: Arc::from(text.value.as_str()),
            span: text.span,
            inner: text.inner,
            file: None,
        },
        (None, None) => {
            let help = "add `source = \"…\"` with the path of a template, or `text = \"…\"`";
            if !raw.at.has("text") {
                output::missing("source", raw, help, ctx);
            }
            return None;
        }
    };
    if written.text.trim().is_empty() {
        ctx.error(Code::EmptyValue, written.span, "an empty template", "");
        return None;
    }
    Some(written)
}

fn from_file(source: &Text, ctx: &mut Ctx<'_>) -> Option<Written> {
    let path = check::path(source, ctx)?;
    let text = interpolate::file(&path, source.span, ctx)?;
    // As written: a path may hold a variable.
    let file = Some(source.value.clone());
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Some(Written { text: Arc::from(text), span: source.span, inner: None, file })
}

/// As asked for, else as the file's ending says.
fn quoting(raw: &raw::Output) -> Quoting {
    if let Some(asked) = raw.quoting {
        return match asked.value {
            raw::Quoting::Plain => Quoting::Plain,
            raw::Quoting::Json => Quoting::Json,
            raw::Quoting::Yaml => Quoting::Yaml,
            raw::Quoting::Toml => Quoting::Toml,
        };
    }
    let path = raw.path.as_ref().map(|path| path.value.as_str()).unwrap_or_default();
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => Quoting::Json,
        Some("yaml" | "yml") => Quoting::Yaml,
        Some("toml") => Quoting::Toml,
        _ => Quoting::Plain,
    }
}

/// Which endpoint each service has; `None` when it is to fail.
type Cast<'a> = BTreeMap<&'a str, Option<&'a Endpoint>>;

/// A template on trial.
struct Trial<'a> {
    text: &'a Written,
    quoting: Quoting,
    services: Vec<&'a Built>,
}

impl<'a> Trial<'a> {
    /// Tells what is wrong with the text alone.
    fn read(&self, ctx: &mut Ctx<'_>) {
        let found = faults(&self.text.text, self.quoting, &Context::default());
        let found = found.err().unwrap_or_default();
        for fault in found.iter().filter(|fault| fault.kind == FaultKind::Syntax) {
            self.tell(fault, &Cast::new(), ctx);
        }
    }

    /// Fills the template in with each endpoint of each service, and without those that may be
    /// without one.
    fn fill_in(&self, ctx: &mut Ctx<'_>) {
        let most = self.services.iter().map(|one| one.rules.endpoints.len()).max();
        let affordable = LOOKED_AT / self.services.len().max(1);
        let mut left = STEPS;
        for round in 0..most.unwrap_or_default().min(affordable).max(1) {
            let Some(steps) = self.try_out(&self.cast(round), ctx) else { return };
            left = left.saturating_sub(steps);
            if left == 0 {
                break;
            }
        }
        let mut without = self.cast(0);
        let fails = |one: &&&Built| one.rules.failover.on_all_down == OnAllDown::Fail;
        for one in self.services.iter().filter(fails) {
            without.insert(one.rules.name.as_str(), None);
        }
        if without.values().any(Option::is_none) {
            self.try_out(&without, ctx);
        }
    }

    /// Fills the template in once; what that took, or `None` when once is enough.
    fn try_out(&self, cast: &Cast<'_>, ctx: &mut Ctx<'_>) -> Option<u64> {
        match faults(&self.text.text, self.quoting, &context(cast)) {
            Ok(rendered) => self.has_form(&rendered.bytes, ctx).then_some(rendered.steps),
            Err(found) => {
                for fault in &found {
                    self.tell(fault, cast, ctx);
                }
                // Another endpoint may lack something else; the text stays what it is.
                let hopeless = [FaultKind::Syntax, FaultKind::Unbounded];
                let again = !found.iter().any(|fault| hopeless.contains(&fault.kind));
                again.then_some(STEPS_OF_A_FAULT)
            }
        }
    }

    /// The endpoints of one round: a service with fewer than others begins again.
    fn cast(&self, round: usize) -> Cast<'a> {
        let endpoint = |one: &&'a Built| {
            let endpoints = &one.rules.endpoints;
            let rules = round.checked_rem(endpoints.len()).and_then(|at| endpoints.get(at));
            let chosen = rules.and_then(|rules| one.service.endpoints.get(&rules.name));
            (one.rules.name.as_str(), chosen)
        };
        self.services.iter().map(endpoint).gather_map()
    }

    /// Whether the text is what its readers take it for, as far as we can read it ourselves.
    fn has_form(&self, bytes: &[u8], ctx: &mut Ctx<'_>) -> bool {
        if self.quoting != Quoting::Plain
            && let Some(range) = quotes::quoted(&self.text.text, self.quoting)
        {
            let message = "a value that brings its own quotes stands in quotes";
            self.point(Code::NotOfFormat, Some(range), (message, OWN_QUOTES), ctx);
            return false;
        }
        let text = String::from_utf8_lossy(bytes);
        // The parsers' own messages may quote the text, which holds secrets.
        let (what, place) = match self.quoting {
            Quoting::Plain | Quoting::Yaml => return true,
            Quoting::Json => match serde_json::from_slice::<IgnoredAny>(bytes) {
                Ok(_) => return true,
                Err(error) => ("JSON", Some((error.line(), error.column()))),
            },
            Quoting::Toml => match DeTable::parse(&text) {
                Ok(_) => return true,
                Err(error) => ("TOML", error.span().map(|span| line_column(&text, span.start))),
            },
        };
        let place = place.map_or_else(String::new, |(line, column)| {
            format!(" at line {line}, column {column} of the file")
        });
        let message = format!("what the template gives is not {what}{place}");
        let help = "values are escaped rightly there, so it is the text around them; \
                    `quoting = \"plain\"` takes the file for anything";
        ctx.error(Code::NotOfFormat, self.text.span, message, help);
        false
    }

    fn tell(&self, fault: &Fault, cast: &Cast<'_>, ctx: &mut Ctx<'_>) {
        let code = match fault.kind {
            FaultKind::Syntax => Code::BadTemplate,
            FaultKind::Undefined
            | FaultKind::Unknown
            | FaultKind::Unbounded
            | FaultKind::Operation => Code::TemplateFails,
        };
        let range = fault.range.clone().or_else(|| line_range(&self.text.text, fault.line));
        let masked = mask::mask(&self.text.text);
        let expression = range.as_ref().and_then(|range| masked.get(range.clone()));
        let short = |text: &&str| text.len() <= QUOTED && !text.contains(char::is_control);
        let expression = expression.filter(short);
        let quoted = expression.filter(|_| fault.range.is_some() && code != Code::BadTemplate);
        let message = match quoted {
            Some(expression) => format!("{}: `{expression}`", fault.what),
            None => fault.what.to_string(),
        };
        let help = match fault.kind {
            FaultKind::Undefined => quoted.map_or_else(String::new, |path| hint(path, cast)),
            FaultKind::Unbounded => "a template is for some lines of configuration".to_owned(),
            FaultKind::Syntax | FaultKind::Unknown | FaultKind::Operation => String::new(),
        };
        self.point(code, range, (&message, &help), ctx);
    }

    /// Reports a finding at a place of the template.
    fn point(
        &self,
        code: Code,
        range: Option<Range<usize>>,
        (message, help): (&str, &str),
        ctx: &mut Ctx<'_>,
    ) {
        let inner = self.text.inner.zip(range.clone()).map(|(inner, range)| inner.part(&range));
        ctx.error(code, inner.unwrap_or(self.text.span), message, help);
        if let (Some(file), Some(range)) = (&self.text.file, range) {
            ctx.reporter.within(file, &self.text.text, range);
        }
    }
}

/// What the template is filled in with. The latest move is none: it is text in any case.
fn context<'a>(cast: &Cast<'a>) -> Context<'a> {
    static NONE: BTreeMap<String, Secret> = BTreeMap::new();
    let facts = |endpoint: Option<&'a Endpoint>| Facts {
        endpoint: endpoint.map_or("", |endpoint| endpoint.name.as_str()),
        url: endpoint.and_then(|endpoint| endpoint.url.as_deref()).unwrap_or_default(),
        env: endpoint.map_or(&NONE, |endpoint| &endpoint.env),
        from: "",
        cause: "",
        kind: "",
    };
    let services = cast.iter().map(|(name, endpoint)| (*name, facts(*endpoint)));
    Context { revision: Revision::new(1), services: services.gather_map() }
}

/// What might have been meant by a path that leads nowhere.
fn hint(path: &str, cast: &Cast<'_>) -> String {
    let parts: Vec<&str> = path
        .split(['.', '[', ']', '"', '\'', '|'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    let (root, service, member, variable) =
        (parts.first(), parts.get(1), parts.get(2), parts.get(3));
    let names: Vec<&str> = cast.keys().copied().collect();
    let minus = |half: &str| {
        let (front, back) = (format!("{half}-"), format!("-{half}"));
        let name = names.iter().find(|name| name.starts_with(&front) || name.ends_with(&back));
        name.map(|name| format!("write `services[\"{name}\"]`: a bare hyphen is a minus sign"))
    };
    let Some(root) = root else { return String::new() };
    if *root != "services" {
        return minus(root).unwrap_or_else(|| nearest(root, &NAMES, "known"));
    }
    let Some(service) = service else { return String::new() };
    let Some(endpoint) = cast.get(service) else {
        return minus(service).unwrap_or_else(|| nearest(service, &names, "services"));
    };
    match (member, variable, endpoint) {
        (Some(&"env"), Some(variable), Some(endpoint)) => {
            let names: Vec<&str> = endpoint.env.keys().map(String::as_str).collect();
            let known = if names.is_empty() {
                "no variable at all".to_owned()
            } else {
                nearest(variable, &names, "only")
            };
            format!("endpoint `{}` of `{service}` does not publish it; {known}", endpoint.name)
        }
        (Some(&"env"), Some(_), None) => format!(
            "`{service}` has no endpoint when all are down; ask `{{% if services.{service}.endpoint %}}` first"
        ),
        (Some(member), ..) => nearest(member, &SERVICE_NAMES, "known"),
        (None, ..) => String::new(),
    }
}

/// The bytes of a line, without its break.
fn line_range(text: &str, line: usize) -> Option<Range<usize>> {
    let mut start = 0;
    for (number, one) in (1..).zip(text.split_inclusive('\n')) {
        if number == line {
            return Some(start..start + one.trim_end().len());
        }
        start += one.len();
    }
    None
}

/// Line and column of a byte, from 1.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
