//! Follows whether what was published is in use.
//!
//! Every output, and the server when it is ours, has a reader. A *move* here is a publication that
//! changes what that reader is told of a service: its endpoint, or a variable of it. From then on
//! the service is awaited, until the reader proves that it uses this publication or a later one.
//! How that is known differs ([`Proof`]); what nothing can prove is awaited without consequences.
//!
//! Invariants
//! 1. The first publication is no move: a server that starts later is not late. Nor is a variable
//!    that an edit of the policy changed: it is awaited and shown, but there is no move to undo.
//! 2. People are told once a move, and once more when it is taken up after all.
//! 3. Nothing here decides: whether a service moves back is the engine's word.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::admin::document::{OutputDocument, StatusDocument};
use crate::core::id::{Revision, ServiceName};
use crate::core::input::Input;
use crate::core::time::Instant;
use crate::daemon::driver::Driver;
use crate::output::{ActiveConfig, ActiveService, Effect, Proof};
use crate::policy::model::{self, OnSwitch, Output, Policy};
use crate::telemetry::metric;

/// The name of the server that is ours, where outputs have theirs.
pub(crate) const CHILD: &str = "child";

/// What every reader is known to use.
#[derive(Debug, Default)]
pub(crate) struct Uptake {
    runs_child: bool,
    readers: BTreeMap<Arc<str>, Reader>,
    published: Option<Arc<ActiveConfig>>,
}

/// One output's.
#[derive(Debug, Default)]
struct Reader {
    rules: Option<model::Uptake>,
    services: Vec<ServiceName>,
    /// Whether a reader that never left a configuration need not prove it anew.
    returns: bool,
    awaited: BTreeMap<ServiceName, Awaited>,
    effective: Option<(Arc<ActiveConfig>, Proof)>,
}

/// What a proof brought.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Proven {
    /// Whether anything was open.
    news: bool,
    /// The moves that are in use.
    moves: Vec<Taken>,
}

/// A move that is in use.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Taken {
    service: ServiceName,
    revision: Revision,
    /// Whether it was told to be ineffective.
    late: bool,
}

/// A move that is not known to be in use.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    revision: Revision,
    since: Instant,
    /// Whether the endpoint is another one, and not only a variable.
    switched: bool,
    told: bool,
}

impl Uptake {
    /// The server is a process of ours.
    pub(crate) const fn with_child(&mut self) {
        self.runs_child = true;
    }

    /// Takes over the policy: who reads, and what is expected of them.
    pub(crate) fn apply(&mut self, policy: &Policy) {
        let mut before = std::mem::take(&mut self.readers);
        let child = &policy.child;
        let follows = self.runs_child && child.on_switch != OnSwitch::Nothing;
        let child = follows.then(|| (CHILD, Some(child.uptake), child.services.clone(), false));
        let wanted = policy.outputs.iter().map(of_output).chain(child);
        for (name, rules, services, returns) in wanted {
            let (name, known) =
                before.remove_entry(name).unwrap_or_else(|| (Arc::from(name), Reader::default()));
            self.readers.insert(name, Reader { rules, services, returns, ..known });
        }
    }

    /// A configuration was published.
    pub(crate) fn published(&mut self, config: &Arc<ActiveConfig>, now: Instant) {
        let before = self.published.replace(Arc::clone(config));
        let Some(before) = before else { return };
        for (name, reader) in &mut self.readers {
            reader.moved(&before, config, now);
            reader.measure(name);
        }
    }

    /// Somebody proves something.
    pub(crate) fn proven(&mut self, effect: &Effect, now: Instant) -> Proven {
        let Self { readers, published, .. } = self;
        let (Some(reader), Some(published)) = (readers.get_mut(&effect.output), published) else {
            return Proven::default();
        };
        let concerns = |service: &ServiceName, awaited: &Awaited| {
            effect.service.as_ref().is_none_or(|one| one == service)
                && awaited.revision <= effect.revision
        };
        let mut moves = Vec::new();
        let mut longest = None;
        reader.awaited.retain(|service, awaited| {
            let over = concerns(service, awaited);
            if over {
                longest = longest.max(Some(now - awaited.since));
                let (service, Awaited { revision, told, .. }) = (service.clone(), *awaited);
                moves.push(Taken { service, revision, late: told });
            }
            !over
        });
        if let Some(took) = longest {
            metric::effective(&effect.output, effect.proof.label(), took);
        }
        let news = longest.is_some() || reader.effective.is_none();
        if reader.awaited.is_empty() {
            reader.effective = Some((Arc::clone(published), effect.proof));
        }
        reader.measure(&effect.output);
        Proven { news, moves }
    }

    /// When the next move is late.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        let times = self.readers.values().filter_map(|reader| {
            let timeout = reader.rules?.timeout;
            let open = reader.awaited.values().filter(|awaited| awaited.switched && !awaited.told);
            open.map(|awaited| awaited.since + timeout).min()
        });
        times.min()
    }

    /// The moves that are late now, each named once.
    fn late(&mut self, now: Instant) -> Vec<Input> {
        let mut found = Vec::new();
        for (output, reader) in &mut self.readers {
            let Some(rules) = reader.rules else { continue };
            for (service, awaited) in &mut reader.awaited {
                if !awaited.switched || awaited.told || now < awaited.since + rules.timeout {
                    continue;
                }
                awaited.told = true;
                found.push(Input::Ineffective {
                    service: service.clone(),
                    output: Arc::clone(output),
                    revision: awaited.revision,
                    waited: now - awaited.since,
                    roll_back: rules.roll_back,
                });
            }
        }
        found
    }

    /// Adds what is known to a status.
    pub(crate) fn show(&self, document: &mut StatusDocument, now: Instant) {
        for (name, reader) in &self.readers {
            let ours = &**name == CHILD;
            if ours {
                let revision = self.published.as_ref().map(|config| config.revision);
                let shown = OutputDocument { revision, ..OutputDocument::default() };
                document.outputs.insert(Arc::clone(name), shown);
            }
            let Some(shown) = document.outputs.get_mut(name) else { continue };
            let effective = reader.effective.as_ref();
            shown.effective = effective.map(|(config, _)| config.revision);
            shown.proof = effective.map(|(_, proof)| proof.label().into());
            let oldest = reader.awaited.values().map(|awaited| awaited.since).min();
            shown.awaited_seconds = oldest.map(|since| (now - since).as_secs_f64());
        }
    }
}

impl Reader {
    fn measure(&self, name: &str) {
        if let Some((config, _)) = &self.effective {
            metric::effective_revision(name, config.revision);
        }
    }

    fn moved(&mut self, before: &ActiveConfig, config: &Arc<ActiveConfig>, now: Instant) {
        let known = self.effective.as_ref().map(|(known, _)| Arc::clone(known));
        for (service, active) in &config.services {
            if !(self.services.is_empty() || self.services.contains(service)) {
                continue;
            }
            let same = |other: Option<&ActiveService>| {
                other.is_some_and(|other| {
                    (&other.endpoint, &other.env) == (&active.endpoint, &active.env)
                })
            };
            if same(before.services.get(service)) {
                continue;
            }
            let returned = known.as_ref().is_some_and(|known| same(known.services.get(service)));
            if self.returns && returned {
                self.awaited.remove(service);
                continue;
            }
            let former = before.services.get(service).map(|former| &former.endpoint);
            let switched = former != Some(&active.endpoint);
            // A variable that changes while a switch is awaited is a part of that.
            let open = self.awaited.get(service).filter(|awaited| !switched && awaited.switched);
            let awaited = open.copied().unwrap_or(Awaited {
                revision: config.revision,
                since: now,
                switched,
                told: false,
            });
            self.awaited.insert(service.clone(), awaited);
        }
        self.awaited.retain(|service, _| config.services.contains_key(service));
        if self.awaited.is_empty()
            && let Some((known, _)) = &mut self.effective
        {
            *known = Arc::clone(config);
        }
    }
}

type Expected<'a> = (&'a str, Option<model::Uptake>, Vec<ServiceName>, bool);

fn of_output(output: &Output) -> Expected<'_> {
    match output {
        Output::File(file) => (&file.name, file.uptake, file.services.clone(), true),
        Output::Socket(socket) => (&socket.name, socket.uptake, socket.services.clone(), false),
        Output::Proxy(proxy) => (&proxy.name, None, vec![proxy.service.clone()], false),
    }
}

impl Driver {
    /// Somebody proves that a revision is in use.
    pub(super) fn on_effect(&mut self, effect: &Effect) {
        let now = self.clock.now();
        let Proven { news, moves } = self.effects.uptake.proven(effect, now);
        if news {
            tracing::info!(
                output = %effect.output,
                revision = %effect.revision,
                proof = effect.proof.label(),
                "in use"
            );
        }
        for Taken { service, revision, late } in moves {
            let output = Arc::clone(&effect.output);
            self.step(Input::Effective { service, output, revision, late });
        }
        self.drawn.outdate();
    }

    /// Tells the engine of moves that are not taken up in time.
    pub(super) fn judge_uptake(&mut self, now: Instant) {
        if self.effects.uptake.late_at().is_some_and(|at| at <= now) {
            for input in self.effects.uptake.late(now) {
                self.step(input);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::core::id::EndpointName;
    use crate::policy::secret::Secret;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::new(Duration::from_secs(seconds))
    }

    fn config(revision: u64, endpoints: &[(&str, &str)]) -> Arc<ActiveConfig> {
        let services = endpoints.iter().map(|(service, endpoint)| {
            let active = ActiveService {
                endpoint: Some(EndpointName::new(endpoint)),
                env: [("KEY".to_owned(), Secret::from(*endpoint))].into(),
                ..ActiveService::default()
            };
            (ServiceName::new(service), active)
        });
        Arc::new(ActiveConfig { revision: Revision::new(revision), services: services.collect() })
    }

    fn watched(returns: bool) -> Uptake {
        let rules = Some(model::Uptake { timeout: Duration::from_secs(30), roll_back: true });
        let reader = Reader { rules, returns, ..Reader::default() };
        Uptake { runs_child: false, readers: [(Arc::from("out"), reader)].into(), published: None }
    }

    fn proof(service: Option<&str>, revision: u64) -> Effect {
        Effect {
            output: Arc::from("out"),
            service: service.map(ServiceName::new),
            revision: Revision::new(revision),
            proof: Proof::Acknowledged,
        }
    }

    fn taken(revision: u64, late: bool) -> Taken {
        Taken { service: ServiceName::new("s"), revision: Revision::new(revision), late }
    }

    fn late(uptake: &mut Uptake, now: Instant) -> Vec<(ServiceName, u64)> {
        let late = uptake.late(now).into_iter();
        late.map(|input| {
            let Input::Ineffective { service, revision, .. } = input else { panic!("{input:?}") };
            (service, revision.get())
        })
        .collect()
    }

    #[test]
    fn the_first_publication_is_no_move() {
        let mut uptake = watched(false);
        uptake.published(&config(1, &[("s", "a")]), at(0));
        assert_eq!(uptake.late_at(), None);
        assert_eq!(late(&mut uptake, at(1_000)), []);
    }

    #[test]
    fn a_move_is_late_once_and_then_taken_up_after_all() {
        let mut uptake = watched(false);
        uptake.published(&config(1, &[("s", "a")]), at(0));
        uptake.published(&config(2, &[("s", "b")]), at(10));
        assert_eq!(uptake.late_at(), Some(at(40)));
        assert_eq!(late(&mut uptake, at(39)), []);
        assert_eq!(late(&mut uptake, at(40)), [(ServiceName::new("s"), 2)]);
        assert_eq!((late(&mut uptake, at(90)), uptake.late_at()), (vec![], None));
        let told = uptake.proven(&proof(Some("s"), 2), at(100));
        assert_eq!(told.moves, [taken(2, true)]);
        assert_eq!(uptake.proven(&proof(Some("s"), 2), at(101)), Proven::default());
    }

    #[test]
    fn what_is_taken_up_in_time_is_nobodys_concern() {
        let mut uptake = watched(false);
        uptake.published(&config(1, &[("s", "a")]), at(0));
        uptake.published(&config(2, &[("s", "b")]), at(10));
        assert_eq!(
            uptake.proven(&proof(None, 2), at(11)),
            Proven { news: true, moves: vec![taken(2, false)] }
        );
        assert_eq!(uptake.late_at(), None);
    }

    #[test]
    fn proof_of_another_service_or_of_an_older_move_proves_nothing() {
        let mut uptake = watched(false);
        uptake.published(&config(1, &[("s", "a"), ("t", "a")]), at(0));
        uptake.published(&config(2, &[("s", "b"), ("t", "b")]), at(10));
        uptake.proven(&proof(Some("t"), 2), at(11));
        uptake.proven(&proof(None, 1), at(12));
        assert_eq!(late(&mut uptake, at(50)), [(ServiceName::new("s"), 2)]);
    }

    #[test]
    fn a_publication_that_changes_nothing_for_a_reader_is_no_move() {
        let mut uptake = watched(false);
        uptake.published(&config(1, &[("s", "a")]), at(0));
        uptake.published(&config(2, &[("s", "a")]), at(10));
        assert_eq!(uptake.late_at(), None);
    }

    #[test]
    fn a_changed_variable_is_awaited_and_is_no_switch() {
        let mut uptake = watched(false);
        uptake.published(&config(1, &[("s", "a")]), at(0));
        let mut edited = ActiveConfig::clone(&config(1, &[("s", "a")]));
        let service = edited.services.values_mut().next().unwrap();
        service.env.insert("KEY".to_owned(), Secret::from("another"));
        uptake.published(&Arc::new(edited), at(10));
        assert_eq!((uptake.late_at(), late(&mut uptake, at(90))), (None, vec![]));
        assert!(uptake.proven(&proof(None, 1), at(91)).news, "it is shown as awaited");
    }

    #[test]
    fn a_reader_that_reads_when_it_starts_need_not_prove_what_it_never_left() {
        let mut uptake = watched(true);
        uptake.published(&config(1, &[("s", "a")]), at(0));
        uptake.proven(&proof(None, 1), at(1));
        uptake.published(&config(2, &[("s", "b")]), at(10));
        uptake.published(&config(3, &[("s", "a")]), at(11));
        assert_eq!(uptake.late_at(), None);
        let mut follows = watched(false);
        follows.published(&config(1, &[("s", "a")]), at(0));
        follows.proven(&proof(None, 1), at(1));
        follows.published(&config(2, &[("s", "b")]), at(10));
        follows.published(&config(3, &[("s", "a")]), at(11));
        assert_eq!(follows.late_at(), Some(at(41)), "it may be half on its way");
    }
}
