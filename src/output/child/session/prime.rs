//! A new process takes over the session before anybody relies on it.
//!
//! It is opened as the client opened the old one, told what the client told the old one, and asked
//! for its lists; the client sees none of it. It is fit when it answered everything, can do what
//! the client was told, and has the tools that the client knows. Some servers add tools only
//! after they were opened, so a list that lacks some is asked for again until time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::value::RawValue;

use crate::core::time::Instant;
use crate::output::child::session::answered::about;
use crate::output::child::session::lists::{Kind, List};
use crate::output::child::session::message::{Id, Object, Outcome, notification, request, text};
use crate::output::child::session::opening::{Era, Told};
use crate::output::child::session::{Effect, Generation, Keeper, Stage, Unfit};

/// How long to wait before a list that lacks tools is asked for again.
const RECHECK: Duration = Duration::from_millis(250);
/// How often that is done when nobody serves meanwhile.
const RECHECKS_ALONE: usize = 4;
/// Pages of a list at most; a list with more is taken as it is.
const PAGES_MAX: usize = 256;

/// A request of ours that a new process has not answered yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ask {
    Open,
    Discover,
    State,
    List(Kind, usize),
}

/// What has been told to a new process of what may change meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Replayed {
    pub(super) initialized: bool,
    pub(super) level: Option<Box<str>>,
    pub(super) subscriptions: BTreeSet<String>,
    pub(super) listens: BTreeSet<Id>,
}

/// A new process on its way.
#[derive(Debug)]
pub(super) struct Priming {
    pub(super) generation: Generation,
    until: Instant,
    /// The client has not opened the session yet.
    pub(super) waits: bool,
    asks: BTreeMap<Id, Ask>,
    /// Subscriptions without an acknowledgement.
    unheard: BTreeSet<Id>,
    pub(super) lists: BTreeMap<Kind, List>,
    pub(super) replayed: Replayed,
    recheck: Option<Instant>,
    rechecks: usize,
    /// Fit, but the process that serves is busy with what no other can take over: until when that
    /// is waited for.
    idle_until: Option<Instant>,
}

impl Priming {
    fn new(generation: Generation, until: Instant) -> Self {
        Self {
            generation,
            until,
            waits: true,
            asks: BTreeMap::new(),
            unheard: BTreeSet::new(),
            lists: BTreeMap::new(),
            replayed: Replayed::default(),
            recheck: None,
            rechecks: 0,
            idle_until: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let recheck = self.recheck.map_or(self.until, |at| at.min(self.until));
        self.idle_until.unwrap_or(recheck)
    }
}

impl Keeper {
    /// A process is there: to serve at once when there is no session yet, else to be primed.
    pub(super) fn started(&mut self, generation: Generation) {
        if let Some(earlier) = self.priming.take() {
            self.unfit(earlier.generation, Unfit::Superseded);
        }
        let untouched = self.opening.era.is_none() && self.flights.len() == 0;
        if !self.opening.is_open() && (self.serving.is_none() || untouched) {
            return self.serve(generation);
        }
        self.stages.insert(generation, Stage::Priming);
        self.priming = Some(Priming::new(generation, self.now + self.rules.start_timeout));
        self.begin_waiting();
    }

    /// Opens the new process, once the client has opened the session.
    pub(super) fn begin_waiting(&mut self) {
        if !self.opening.is_open() {
            return;
        }
        let Some(generation) = self.priming.as_mut().filter(|p| p.waits).map(|priming| {
            priming.waits = false;
            priming.generation
        }) else {
            return;
        };
        let id = self.private(generation);
        let (line, ask) = match self.opening.era {
            Some(Era::Legacy) => (self.opening.replay(&id), Ask::Open),
            Some(Era::Modern) | None => {
                let params = self.private_params();
                (Some(request(&id, "server/discover", Some(&params))), Ask::Discover)
            }
        };
        match line {
            Some(line) => {
                self.expect(id, ask);
                self.tell_server(generation, line);
            }
            None => self.unfit(generation, Unfit::Version),
        }
    }

    fn expect(&mut self, id: Id, ask: Ask) {
        if let Some(priming) = &mut self.priming {
            priming.asks.insert(id, ask);
        }
    }

    /// Whether an answer of that name is to a request of ours.
    pub(super) fn is_private(&self, generation: Generation, id: &Id) -> bool {
        let priming = self.priming.as_ref().filter(|p| p.generation == generation);
        priming.is_some_and(|priming| priming.asks.contains_key(id))
    }

    pub(super) fn private_answer(&mut self, id: &Id, result: Option<&RawValue>) {
        let Some(priming) = &mut self.priming else { return };
        let Some(ask) = priming.asks.remove(id) else { return };
        let generation = priming.generation;
        let outcome = result.map(Outcome::read);
        let verdict = match (ask, outcome) {
            (Ask::Open, Some(outcome)) => self.reopened(generation, &outcome),
            (Ask::Discover, Some(outcome)) => self.discovered(generation, &outcome),
            (Ask::List(kind, pages), Some(outcome)) => {
                self.listed(generation, (kind, pages), &outcome)
            }
            (Ask::Open | Ask::Discover | Ask::List(Kind::Tools, _), None) => Err(Unfit::Refused),
            // What worked with the old process and does not with this one costs no more than that.
            (Ask::State, _) | (Ask::List(..), None) => Ok(()),
        };
        match verdict {
            Ok(()) => self.check_fit(),
            Err(why) => self.unfit(generation, why),
        }
    }

    fn reopened(&mut self, generation: Generation, outcome: &Outcome<'_>) -> Result<(), Unfit> {
        let fresh = Told::read(outcome);
        self.can(&fresh)?;
        if self.opening.told.as_ref().is_some_and(|told| told.version != fresh.version) {
            return Err(Unfit::Version);
        }
        if !self.opening.initialized {
            // Before that a server answers no more than this.
            return Ok(());
        }
        let line = notification::<Object>("notifications/initialized", None);
        self.tell_server(generation, line);
        let level = self.opening.level.clone();
        let subscriptions = self.opening.subscriptions.clone();
        let level_params = level.as_ref().map(ToString::to_string);
        let told = level_params.into_iter().map(|params| ("logging/setLevel", params));
        let subscribed = subscriptions.iter().map(|uri| ("resources/subscribe", about(uri)));
        for (method, params) in told.chain(subscribed) {
            let Ok(params) = RawValue::from_string(params) else { continue };
            let id = self.private(generation);
            self.expect(id.clone(), Ask::State);
            self.tell_server(generation, request(&id, method, Some(&params)));
        }
        if let Some(priming) = &mut self.priming {
            let replayed = &mut priming.replayed;
            replayed.initialized = true;
            replayed.level = level;
            replayed.subscriptions = subscriptions;
        }
        self.ask_lists(generation, &fresh);
        Ok(())
    }

    fn discovered(&mut self, generation: Generation, outcome: &Outcome<'_>) -> Result<(), Unfit> {
        let fresh = Told::read(outcome);
        self.can(&fresh)?;
        let key = "io.modelcontextprotocol/protocolVersion";
        let spoken = text(self.opening.meta.as_ref().and_then(|meta| meta.get(key)));
        let versions = outcome.supported_versions.map(RawValue::get).unwrap_or_default();
        let versions: Vec<String> = serde_json::from_str(versions).unwrap_or_default();
        if !versions.is_empty() && spoken.is_some_and(|spoken| !versions.contains(&spoken)) {
            return Err(Unfit::Version);
        }
        self.ask_lists(generation, &fresh);
        let listens = self.flights.listens();
        let listens: Vec<_> = listens
            .filter_map(|(id, flight, _)| Some((id.clone(), flight.line.clone()?)))
            .collect();
        for (id, line) in listens {
            self.tell_server(generation, line);
            if let Some(priming) = &mut self.priming {
                priming.replayed.listens.insert(id.clone());
                priming.unheard.insert(id);
            }
        }
        Ok(())
    }

    fn can(&self, fresh: &Told) -> Result<(), Unfit> {
        let known = self.opening.told.as_ref();
        let covered = known.is_none_or(|known| fresh.covers(known));
        if covered || self.serving.is_none() { Ok(()) } else { Err(Unfit::Capability) }
    }

    fn ask_lists(&mut self, generation: Generation, fresh: &Told) {
        for kind in Kind::ALL {
            let known = self.lists.seen(kind).is_some();
            if fresh.has(kind.capability()) && (known || kind == Kind::Tools) {
                self.ask_list(generation, kind, 0, None);
            }
        }
    }

    fn ask_list(&mut self, generation: Generation, kind: Kind, page: usize, cursor: Option<&str>) {
        let id = self.private(generation);
        let mut params = self.private_params();
        if let Some(cursor) = cursor {
            params.set("cursor", &cursor);
        }
        self.expect(id.clone(), Ask::List(kind, page));
        self.tell_server(generation, request(&id, kind.method(), Some(&params)));
    }

    /// What a request of ours carries: nothing, or what the modern era asks of every request.
    fn private_params(&self) -> Object {
        let mut params = Object::default();
        if self.opening.era == Some(Era::Modern)
            && let Some(meta) = &self.opening.meta
        {
            params.set("_meta", meta);
        }
        params
    }

    fn listed(
        &mut self,
        generation: Generation,
        (kind, page): (Kind, usize),
        outcome: &Outcome<'_>,
    ) -> Result<(), Unfit> {
        let Some(priming) = &mut self.priming else { return Ok(()) };
        if page == 0 {
            priming.lists.remove(&kind);
        }
        let whole = priming.lists.entry(kind).or_default().add(kind, outcome);
        if !whole && kind == Kind::Tools {
            return Err(Unfit::Refused);
        }
        if let Some(cursor) = text(outcome.next_cursor).filter(|_| page + 1 < PAGES_MAX) {
            self.ask_list(generation, kind, page + 1, Some(&cursor));
        }
        Ok(())
    }

    /// A new process acknowledges a subscription that the client has.
    pub(super) fn listen_granted(&mut self, generation: Generation, id: &Id, granted: &str) {
        let priming = self.priming.as_mut().filter(|p| p.generation == generation);
        if !priming.is_some_and(|priming| priming.unheard.remove(id)) {
            return;
        }
        let listen = self.flights.get(id).and_then(|flight| flight.listen.as_ref());
        let known = listen.and_then(|listen| listen.granted.as_deref()).unwrap_or("{}");
        let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
        if grants(&read(granted), &read(known)) {
            self.check_fit();
        } else {
            self.unfit(generation, Unfit::Subscription);
        }
    }

    /// A new process has other tools than a moment ago.
    pub(super) fn recheck(&mut self, generation: Generation, method: &str) {
        if let Some(priming) = self.priming.as_mut().filter(|p| p.generation == generation)
            && method == Kind::Tools.changed()
            && priming.recheck.is_some()
        {
            priming.recheck = Some(self.now);
        }
    }

    /// What the new process still has to do; takes it into service when that is nothing.
    pub(super) fn check_fit(&mut self) {
        let Some(priming) = &self.priming else { return };
        if priming.waits || !priming.asks.is_empty() || !priming.unheard.is_empty() {
            return;
        }
        let lacking = self.lacking();
        let Some(priming) = &mut self.priming else { return };
        // With nobody to serve, a server with less is better than none.
        let lenient = self.serving.is_none() && priming.rechecks >= RECHECKS_ALONE;
        if lacking > 0 && !lenient {
            priming.recheck.get_or_insert(self.now + RECHECK);
            return;
        }
        let busy = self.rules.stateful
            && self.serving.is_some_and(|serving| {
                self.flights.owed_by(serving) > 0 || self.holds.until(serving, self.now).is_some()
            });
        let until = *priming.idle_until.get_or_insert(self.now + self.rules.drain_timeout);
        if !busy || until <= self.now {
            self.commit();
        }
    }

    fn lacking(&self) -> usize {
        let Some(known) = self.lists.seen(Kind::Tools) else { return 0 };
        let fresh = self.priming.as_ref().and_then(|priming| priming.lists.get(&Kind::Tools));
        fresh.map_or(0, |fresh| fresh.lacks(known))
    }

    pub(super) fn priming_on_time(&mut self) {
        let Some(priming) = &mut self.priming else { return };
        let generation = priming.generation;
        if priming.idle_until.is_some() {
            return self.check_fit();
        }
        if priming.until <= self.now {
            let lacking = self.lacking();
            let why = if lacking > 0 { Unfit::Tools(lacking) } else { Unfit::Silent };
            return self.unfit(generation, why);
        }
        if priming.recheck.is_some_and(|at| at <= self.now) {
            priming.recheck = None;
            priming.rechecks += 1;
            self.ask_list(generation, Kind::Tools, 0, None);
        }
    }

    /// Gives a new process up.
    pub(super) fn unfit(&mut self, generation: Generation, why: Unfit) {
        self.priming = self.priming.take().filter(|priming| priming.generation != generation);
        self.let_go(generation);
        self.out.push(Effect::Unfit(generation, why));
    }
}

/// Whether a subscription's filter has all that another has.
fn grants(new: &serde_json::Value, known: &serde_json::Value) -> bool {
    use serde_json::Value;
    let Value::Object(known) = known else { return true };
    known.iter().all(|(name, known)| match (known, new.get(name)) {
        (Value::Bool(true), given) => given == Some(&Value::Bool(true)),
        (Value::Array(known), Some(Value::Array(given))) => {
            known.iter().all(|one| given.contains(one))
        }
        (Value::Array(known), _) => known.is_empty(),
        _ => true,
    })
}
