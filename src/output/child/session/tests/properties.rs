//! Whatever happens in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{MODERN, Server, World, answer, call, generation, modern, note, request};
use crate::output::child::session::{Input, SessionRules};

/// Something that may happen.
#[derive(Clone, Debug)]
enum Event {
    Call(bool),
    Cancel(usize),
    /// One of the living processes reads and answers, all or only its first messages.
    Serve(usize, usize),
    Ask(usize),
    AnswerAsked,
    Progress(usize),
    Garbage(usize),
    Start,
    End(usize),
    Park,
    Wait(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => any::<bool>().prop_map(Event::Call),
        1 => (0..8usize).prop_map(Event::Cancel),
        8 => (0..4usize, 1..9usize).prop_map(|(one, most)| Event::Serve(one, most)),
        2 => (0..4usize).prop_map(Event::Ask),
        2 => Just(Event::AnswerAsked),
        2 => (0..4usize).prop_map(Event::Progress),
        1 => (0..4usize).prop_map(Event::Garbage),
        2 => Just(Event::Start),
        2 => (0..4usize).prop_map(Event::End),
        1 => Just(Event::Park),
        2 => any::<u16>().prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..160)
}

/// The world, and what the client is owed.
struct Game {
    world: World,
    server: Server,
    alive: Vec<u64>,
    unread: BTreeMap<u64, Vec<Value>>,
    started: u64,
    ids: i64,
    /// Requests without an answer, as the client sees it.
    open: BTreeSet<i64>,
    cancelled: BTreeSet<i64>,
    asked: Vec<Value>,
    /// Calls that may not be made twice, with how often a process read them.
    writes: BTreeMap<i64, usize>,
    progress: BTreeMap<i64, i64>,
    ticks: i64,
    era: &'static str,
}

impl Game {
    fn new(era: &'static str) -> Self {
        let server = Server { version: era, ..Server::default() };
        let rules = SessionRules::default();
        let world = if era == MODERN {
            World::modern(rules, &server)
        } else {
            World::legacy(rules, &server)
        };
        Self {
            world,
            server,
            alive: vec![1],
            unread: BTreeMap::new(),
            started: 1,
            ids: 100,
            open: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            asked: Vec::new(),
            writes: BTreeMap::new(),
            progress: BTreeMap::new(),
            ticks: 0,
            era,
        }
    }

    fn living(&self, which: usize) -> Option<u64> {
        self.alive.get(which % self.alive.len().max(1)).copied()
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Call(safe) => self.call(safe),
            Event::Cancel(which) => {
                let picked = self.open.iter().nth(which).copied();
                if let Some(id) = picked {
                    let note = note("notifications/cancelled", &json!({ "requestId": id }));
                    self.world.client(&note);
                    self.cancelled.insert(id);
                }
            }
            Event::Serve(which, most) => self.serve(which, most),
            Event::Ask(which) => {
                if let Some(number) = self.living(which) {
                    self.world.server(number, &request(self.ids, "roots/list", &json!({})));
                }
            }
            Event::AnswerAsked => {
                if let Some(asked) = self.asked.pop() {
                    self.world.client(&answer(&asked["id"], &json!({ "roots": [] })));
                }
            }
            Event::Progress(which) => {
                self.ticks += 1;
                if let (Some(number), Some(id)) = (self.living(which), self.open.first()) {
                    let value = self.ticks % 7;
                    let params = json!({ "progressToken": id, "progress": value });
                    self.world.server(number, &note("notifications/progress", &params));
                }
            }
            Event::Garbage(which) => {
                if let Some(number) = self.living(which) {
                    for line in ["{", "[]", r#"{"id":1}"#, r#"{"id":424242,"result":{}}"#] {
                        self.world.step(Input::Server(generation(number), line.into()));
                    }
                }
            }
            Event::Start => {
                if self.alive.len() < 6 {
                    self.started += 1;
                    self.alive.push(self.started);
                    self.world.start(self.started);
                }
            }
            Event::End(which) => {
                if let Some(number) = self.living(which) {
                    self.end(number);
                }
            }
            Event::Park => self.world.step(Input::Park),
            Event::Wait(millis) => self.world.wait(Duration::from_millis(u64::from(millis))),
        }
        self.settle();
    }

    fn call(&mut self, safe: bool) {
        self.ids += 1;
        let tool = if safe { "read" } else { "write" };
        let mut message = if self.era == MODERN {
            modern(self.ids, "tools/call", &json!({ "name": tool }))
        } else {
            call(self.ids, tool)
        };
        message["params"]["_meta"]["progressToken"] = json!(self.ids);
        self.open.insert(self.ids);
        if !safe {
            self.writes.insert(self.ids, 0);
        }
        self.world.client(&message);
    }

    fn serve(&mut self, which: usize, most: usize) {
        let Some(number) = self.living(which) else { return };
        let mut unread = self.unread.remove(&number).unwrap_or_default();
        unread.extend(self.world.told(number));
        let rest = unread.split_off(most.min(unread.len()));
        self.unread.insert(number, rest);
        for message in unread {
            let is_call = message["method"] == "tools/call";
            let id = message["id"].as_i64().filter(|_| is_call).unwrap_or_default();
            if let Some(count) = self.writes.get_mut(&id) {
                *count += 1;
                assert_eq!(*count, 1, "a call that may do harm is made once");
            }
            for line in self.server.answer(&message) {
                self.world.server(number, &line);
            }
        }
    }

    fn end(&mut self, number: u64) {
        self.alive.retain(|one| *one != number);
        self.unread.remove(&number);
        self.world.told(number);
        self.world.end(number);
    }

    /// What the client reads, held against what it waits for.
    fn settle(&mut self) {
        for number in std::mem::take(&mut self.world.released) {
            let gone = self.alive.iter().find(|one| generation(**one) == number).copied();
            if let Some(gone) = gone {
                self.end(gone);
            }
        }
        for (number, _) in std::mem::take(&mut self.world.unfit) {
            let gone = self.alive.iter().find(|one| generation(**one) == number).copied();
            if let Some(gone) = gone {
                self.end(gone);
            }
        }
        for message in self.world.heard() {
            self.read(&message);
        }
    }

    fn read(&mut self, message: &Value) {
        let id = message["id"].as_i64().unwrap_or_default();
        match message["method"].as_str() {
            Some("roots/list") => self.asked.push(message.clone()),
            Some("notifications/progress") => {
                let id = message["params"]["progressToken"].as_i64().unwrap();
                assert!(self.open.contains(&id), "progress of what nobody waits for: {message}");
                *self.progress.entry(id).or_default() += 1;
            }
            Some("notifications/cancelled") => {
                let face = &message["params"]["requestId"];
                self.asked.retain(|asked| asked["id"] != *face);
            }
            Some(method) => assert!(method.starts_with("notifications/"), "{message}"),
            None => {
                assert!(self.open.remove(&id), "an answer that nobody waits for: {message}");
                assert!(!self.cancelled.contains(&id), "{message}");
            }
        }
        for id in &self.cancelled {
            self.open.remove(id);
        }
    }
}

fn play(era: &'static str, events: &[Event]) {
    let mut game = Game::new(era);
    for event in events {
        game.play(event);
    }
    // In the end a good process comes, and everything that is open is answered.
    for _ in 0..4 {
        game.started += 1;
        game.alive.push(game.started);
        game.world.start(game.started);
        for _ in 0..8 {
            for which in 0..game.alive.len() {
                game.serve(which, usize::MAX);
            }
            game.settle();
        }
        game.world.wait(Duration::from_secs(120));
        game.settle();
    }
    let open: Vec<_> = game.open.difference(&game.cancelled).collect();
    assert!(open.is_empty(), "never answered: {open:?}");
    assert_eq!(game.world.keeper.in_flight(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_once_in_the_legacy_era(events in events()) {
        play("2025-11-25", &events);
    }

    #[test]
    fn every_request_is_answered_once_in_the_modern_era(events in events()) {
        play(MODERN, &events);
    }

    #[test]
    fn no_line_of_anybody_ends_it(
        lines in proptest::collection::vec((any::<bool>(), "\\PC{0,60}"), 0..40),
    ) {
        let mut world = World::legacy(SessionRules::default(), &Server::default());
        for (client, line) in lines {
            let line = line.into_bytes().into();
            world.step(if client { Input::Client(line) } else { Input::Server(generation(1), line) });
        }
    }
}
