//! When a process of the server is started, and when it is ended.
//!
//! A state machine like the session's: it is told what happened and says what to do. It knows
//! nothing of messages.
//!
//! Invariants
//! 1. At most one process is on its way to take over, and it has the newest configuration, or is
//!    replaced as soon as it serves or has had its time.
//! 2. Attempts that fail are repeated with growing waits, without end; a process that lived long
//!    makes them begin anew, and a new configuration is tried at once.
//! 3. After [`Plan::close`] nothing is started.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::id::Revision;
use crate::core::time::Instant;
use crate::output::child::session::Generation;
use crate::policy::model::OnSwitch;
use crate::policy::secret::Secret;

/// With nobody to serve, a process on its way has this long before a later configuration takes its
/// place.
const FAIR_START: Duration = Duration::from_secs(5);

/// The variables of a configuration, and which it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Its number.
    pub revision: Revision,
    /// What the server gets of it.
    pub variables: BTreeMap<String, Secret>,
}

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Start a process.
    Start(Generation, Wanted),
    /// Let the serving process finish what it has, and nothing new.
    Park,
    /// End a process.
    Stop(Generation),
    /// Signal the serving process.
    Signal(Generation, Revision, i32),
    /// The process that serves has all that the revision says.
    Effective(Generation, Revision),
}

/// By what is decided.
#[derive(Clone, Copy, Debug)]
pub struct PlanRules {
    /// What a switch does.
    pub on_switch: OnSwitch,
    /// Whether requests can be held back while there is no process.
    pub keeps_session: bool,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// A process that lived this long was well.
    pub steady: Duration,
}

#[derive(Clone, Debug)]
struct Process {
    wanted: Wanted,
    since: Instant,
}

/// The state of things.
#[derive(Debug)]
pub struct Plan {
    rules: PlanRules,
    wanted: Option<Wanted>,
    serving: Option<(Generation, Process)>,
    coming: Option<(Generation, Process)>,
    /// Told to end, so that another can be started.
    going: Option<Generation>,
    last: Generation,
    failures: u32,
    retry_at: Option<Instant>,
    closed: bool,
}

impl Plan {
    /// Nothing runs.
    #[must_use]
    pub fn new(rules: PlanRules) -> Self {
        Self {
            rules,
            wanted: None,
            serving: None,
            coming: None,
            going: None,
            last: Generation::default(),
            failures: 0,
            retry_at: None,
            closed: false,
        }
    }

    /// The process that serves.
    #[must_use]
    pub fn serving(&self) -> Option<Generation> {
        self.serving.as_ref().map(|(generation, _)| *generation)
    }

    /// The revision that a process was started with.
    #[must_use]
    pub fn revision(&self, generation: Generation) -> Revision {
        let known = [&self.serving, &self.coming].into_iter().flatten();
        let found = known.filter(|(one, _)| *one == generation).map(|(_, p)| p.wanted.revision);
        found.max().unwrap_or_default()
    }

    /// When to be told that time passed.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Goes on by other rules; waits that have begun end as they were to.
    pub const fn resettle(&mut self, on_switch: OnSwitch, backoff: Backoff) {
        self.rules.on_switch = on_switch;
        self.rules.backoff = backoff;
    }

    /// Starts nothing any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.retry_at = None;
    }

    /// There is a new configuration.
    #[must_use]
    pub fn configured(&mut self, now: Instant, wanted: Wanted) -> Vec<Order> {
        let wanted = &*self.wanted.insert(wanted);
        if self.closed || self.going.is_some() {
            return Vec::new();
        }
        if let Some((_, process)) = &mut self.coming
            && process.wanted.variables == wanted.variables
        {
            process.wanted.revision = wanted.revision;
            self.retry_at = None;
            return Vec::new();
        }
        if let Some((generation, process)) = &mut self.serving {
            if process.wanted.variables == wanted.variables {
                process.wanted.revision = wanted.revision;
                self.retry_at = None;
                let effective = Order::Effective(*generation, wanted.revision);
                let superseded = self.coming.take().map(|(coming, _)| Order::Stop(coming));
                return superseded.into_iter().chain([effective]).collect();
            }
            match self.rules.on_switch {
                OnSwitch::Signal(signal) => {
                    return vec![Order::Signal(*generation, wanted.revision, signal)];
                }
                OnSwitch::Nothing => return Vec::new(),
                OnSwitch::Warm | OnSwitch::Restart => {}
            }
        }
        self.failures = 0;
        if let (Some((_, process)), None) = (&self.coming, &self.serving) {
            // Changes that come faster than a process starts must not keep all of them from it.
            let fair = process.since + FAIR_START;
            if now < fair {
                self.retry_at = Some(fair);
                return Vec::new();
            }
        }
        self.replace(now)
    }

    /// A process serves now.
    #[must_use]
    pub fn serves(&mut self, now: Instant, generation: Generation) -> Vec<Order> {
        if self.coming.as_ref().is_none_or(|(coming, _)| *coming != generation) {
            return Vec::new();
        }
        self.serving = self.coming.take();
        let Some((_, process)) = &mut self.serving else { return Vec::new() };
        process.since = now;
        let mut orders = vec![Order::Effective(generation, process.wanted.revision)];
        self.retry_at = None;
        let outdated = |wanted: &&Wanted| wanted.variables != process.wanted.variables;
        let Some(newest) = self.wanted.as_ref().filter(outdated) else { return orders };
        match self.rules.on_switch {
            OnSwitch::Warm | OnSwitch::Restart => orders.extend(self.replace(now)),
            OnSwitch::Signal(signal) => {
                orders.push(Order::Signal(generation, newest.revision, signal));
            }
            OnSwitch::Nothing => {}
        }
        orders
    }

    /// A process cannot take over, and when it is tried again.
    #[must_use]
    pub fn unfit(&mut self, now: Instant, generation: Generation) -> (Vec<Order>, Duration) {
        if self.coming.as_ref().is_none_or(|(coming, _)| *coming != generation) {
            return (vec![Order::Stop(generation)], Duration::ZERO);
        }
        self.coming = None;
        (vec![Order::Stop(generation)], self.fail(now))
    }

    /// A process could not even be started; when it is tried again.
    #[must_use]
    pub fn not_started(&mut self, now: Instant, generation: Generation) -> Duration {
        self.coming = self.coming.take().filter(|(coming, _)| *coming != generation);
        self.fail(now)
    }

    /// A process owes nothing any more.
    #[must_use]
    pub fn released(&mut self, generation: Generation) -> Vec<Order> {
        vec![Order::Stop(generation)]
    }

    /// A process is gone.
    #[must_use]
    pub fn ended(&mut self, now: Instant, generation: Generation) -> Vec<Order> {
        if self.going == Some(generation) {
            self.going = None;
            return self.start(now);
        }
        if self.coming.as_ref().is_some_and(|(coming, _)| *coming == generation) {
            self.coming = None;
            self.fail(now);
            return Vec::new();
        }
        let Some((_, process)) = self.serving.take_if(|(serving, _)| *serving == generation) else {
            return Vec::new();
        };
        if self.coming.is_some() || self.closed {
            return Vec::new();
        }
        if now - process.since >= self.rules.steady {
            self.failures = 0;
            return self.start(now);
        }
        self.fail(now);
        Vec::new()
    }

    /// Time passed.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<Order> {
        if self.retry_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.retry_at = None;
        self.replace(now)
    }

    fn fail(&mut self, now: Instant) -> Duration {
        let wait = self.rules.backoff.period(self.failures);
        self.failures = self.failures.saturating_add(1);
        if !self.closed {
            self.retry_at = Some(now + wait);
        }
        wait
    }

    /// Another process for the one that serves, in the way that was asked for.
    fn replace(&mut self, now: Instant) -> Vec<Order> {
        let Some((serving, _)) = &self.serving else { return self.start(now) };
        let serving = *serving;
        if self.rules.keeps_session && self.rules.on_switch == OnSwitch::Warm {
            return self.start(now);
        }
        self.retry_at = None;
        self.going = Some(serving);
        self.serving = None;
        let superseded = self.coming.take().map(|(coming, _)| Order::Stop(coming));
        let leave = if self.rules.keeps_session { Order::Park } else { Order::Stop(serving) };
        superseded.into_iter().chain([leave]).collect()
    }

    fn start(&mut self, now: Instant) -> Vec<Order> {
        let Some(wanted) = self.wanted.clone().filter(|_| !self.closed) else {
            return Vec::new();
        };
        self.retry_at = None;
        self.last = self.last.next();
        self.coming = Some((self.last, Process { wanted: wanted.clone(), since: now }));
        vec![Order::Start(self.last, wanted)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(on_switch: OnSwitch, keeps_session: bool) -> PlanRules {
        PlanRules {
            on_switch,
            keeps_session,
            backoff: Backoff::doubling(Duration::from_secs(1), Duration::from_secs(8)),
            steady: Duration::from_secs(30),
        }
    }

    fn wanted(revision: u64, value: &str) -> Wanted {
        let variables = BTreeMap::from([("KEY".to_owned(), Secret::from(value))]);
        Wanted { revision: Revision::new(revision), variables }
    }

    fn at(seconds: u64) -> Instant {
        Instant::new(Duration::from_secs(seconds))
    }

    const fn number(generation: u64) -> Generation {
        Generation::new(generation)
    }

    /// One that serves revision 1.
    fn served(on_switch: OnSwitch, keeps_session: bool) -> Plan {
        let mut plan = Plan::new(rules(on_switch, keeps_session));
        let orders = plan.configured(at(0), wanted(1, "a"));
        assert_eq!(orders, [Order::Start(number(1), wanted(1, "a"))]);
        let orders = plan.serves(at(0), number(1));
        assert_eq!(orders, [Order::Effective(number(1), Revision::new(1))]);
        plan
    }

    #[test]
    fn a_warm_switch_starts_the_new_before_the_old_goes() {
        let mut plan = served(OnSwitch::Warm, true);
        let orders = plan.configured(at(1), wanted(2, "b"));
        assert_eq!(orders, [Order::Start(number(2), wanted(2, "b"))]);
        assert_eq!(plan.serving(), Some(number(1)));
        assert_eq!(plan.serves(at(2), number(2)), [Order::Effective(number(2), Revision::new(2))]);
        assert_eq!(plan.released(number(1)), [Order::Stop(number(1))]);
        assert_eq!(plan.ended(at(3), number(1)), []);
        assert_eq!(plan.deadline(), None);
    }

    #[test]
    fn a_revision_that_changes_no_variable_is_effective_at_once() {
        let mut plan = served(OnSwitch::Warm, true);
        let orders = plan.configured(at(1), wanted(2, "a"));
        assert_eq!(orders, [Order::Effective(number(1), Revision::new(2))]);
        // Also when it takes back one that was on its way.
        assert_eq!(plan.configured(at(2), wanted(3, "b")).len(), 1);
        let orders = plan.configured(at(3), wanted(4, "a"));
        assert_eq!(orders, [Order::Stop(number(2)), Order::Effective(number(1), Revision::new(4))]);
    }

    #[test]
    fn a_cold_switch_ends_the_old_before_the_new_comes() {
        for (keeps_session, leave) in [(true, Order::Park), (false, Order::Stop(number(1)))] {
            let mut plan = served(OnSwitch::Restart, keeps_session);
            assert_eq!(plan.configured(at(1), wanted(2, "b")), [leave]);
            assert_eq!(plan.configured(at(1), wanted(3, "c")), [], "only the newest counts");
            let orders = plan.ended(at(2), number(1));
            assert_eq!(orders, [Order::Start(number(2), wanted(3, "c"))]);
        }
    }

    #[test]
    fn without_a_session_to_keep_warm_is_cold() {
        let mut plan = served(OnSwitch::Warm, false);
        assert_eq!(plan.configured(at(1), wanted(2, "b")), [Order::Stop(number(1))]);
    }

    #[test]
    fn a_signal_is_all_that_is_done_when_so_ordered() {
        let mut plan = served(OnSwitch::Signal(10), false);
        let orders = plan.configured(at(1), wanted(2, "b"));
        assert_eq!(orders, [Order::Signal(number(1), Revision::new(2), 10)]);
        let mut plan = served(OnSwitch::Nothing, true);
        assert_eq!(plan.configured(at(1), wanted(2, "b")), []);
    }

    #[test]
    fn a_new_process_that_fails_is_tried_again_with_growing_waits() {
        let mut plan = served(OnSwitch::Warm, true);
        assert_eq!(plan.configured(at(1), wanted(2, "b")).len(), 1);
        let mut now = at(1);
        for (generation, wait) in [(2, 1), (3, 2), (4, 4), (5, 8), (6, 8)] {
            let (orders, retry) = plan.unfit(now, number(generation));
            assert_eq!(orders, [Order::Stop(number(generation))]);
            assert_eq!(retry, Duration::from_secs(wait));
            assert_eq!(plan.serving(), Some(number(1)), "the old one goes on");
            assert_eq!(plan.ended(now, number(generation)), []);
            assert_eq!(plan.tick(now), []);
            now = plan.deadline().unwrap();
            assert_eq!(plan.tick(now).len(), 1);
        }
        // A new configuration does not wait, and begins anew.
        drop(plan.unfit(now, number(7)));
        let orders = plan.configured(now, wanted(3, "c"));
        assert_eq!(orders, [Order::Start(number(8), wanted(3, "c"))]);
        assert_eq!(plan.unfit(now, number(8)).1, Duration::from_secs(1));
    }

    #[test]
    fn a_crash_is_followed_by_a_start_whatever_the_exit_code() {
        let mut plan = served(OnSwitch::Warm, true);
        let orders = plan.ended(at(60), number(1));
        assert_eq!(orders, [Order::Start(number(2), wanted(1, "a"))], "it had lived long");
        drop(plan.serves(at(60), number(2)));
        assert_eq!(plan.ended(at(61), number(2)), []);
        assert_eq!(plan.deadline(), Some(at(62)));
        let orders = plan.tick(at(62));
        assert_eq!(orders, [Order::Start(number(3), wanted(1, "a"))]);
    }

    #[test]
    fn changes_faster_than_a_start_do_not_keep_every_process_from_serving() {
        let mut plan = served(OnSwitch::Restart, true);
        assert_eq!(plan.configured(at(1), wanted(2, "b")), [Order::Park]);
        assert_eq!(plan.ended(at(2), number(1)), [Order::Start(number(2), wanted(2, "b"))]);
        assert_eq!(plan.configured(at(3), wanted(3, "c")), [], "the one on its way has its time");
        let orders = plan.serves(at(4), number(2));
        assert_eq!(orders, [Order::Effective(number(2), Revision::new(2)), Order::Park]);
        assert_eq!(plan.ended(at(5), number(2)), [Order::Start(number(3), wanted(3, "c"))]);
        // But one that hangs does not keep what would work from being tried.
        assert_eq!(plan.configured(at(6), wanted(4, "d")), []);
        assert_eq!(plan.deadline(), Some(at(10)));
        assert_eq!(plan.tick(at(10)), [Order::Start(number(4), wanted(4, "d"))]);
    }

    #[test]
    fn a_process_superseded_is_ended_and_no_failure() {
        let mut plan = served(OnSwitch::Warm, true);
        drop(plan.configured(at(1), wanted(2, "b")));
        let orders = plan.configured(at(2), wanted(3, "c"));
        assert_eq!(orders, [Order::Start(number(3), wanted(3, "c"))]);
        let (orders, retry) = plan.unfit(at(2), number(2));
        assert_eq!((orders, retry), (vec![Order::Stop(number(2))], Duration::ZERO));
        assert_eq!(plan.deadline(), None);
    }

    #[test]
    fn once_closed_nothing_is_started() {
        let mut plan = served(OnSwitch::Warm, true);
        plan.close();
        assert_eq!(plan.configured(at(1), wanted(2, "b")), []);
        assert_eq!(plan.ended(at(60), number(1)), []);
        assert_eq!(plan.deadline(), None);
    }
}
