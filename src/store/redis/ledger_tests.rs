//! The ledger against a server that does what the script does.

use proptest::prelude::*;

use super::*;

fn id(revision: u64) -> Id {
    Id { revision, place: 0 }
}

fn entry(revision: u64) -> Entry {
    Entry { id: id(revision), line: format!("line {revision}").into_bytes() }
}

fn state(revision: u64) -> State {
    let services = vec![("search".to_owned(), format!("at {revision}"))];
    State { facts: 0, bytes: format!("state {revision}").into_bytes().into(), services }
}

/// A server that does what the script does.
#[derive(Clone, Debug, Default)]
struct Server {
    revision: u64,
    /// Whose keys they are; 1 is us.
    run: Option<u8>,
    /// Whether the run that has them lives.
    lives: bool,
    state: Option<State>,
    log: Vec<u64>,
    last: Id,
    writes: usize,
}

impl Server {
    fn take(&mut self, commit: &Commit) -> Answer {
        if self.revision > commit.revision {
            return Answer::Conflict { revision: self.revision, ahead: true };
        }
        if self.run.is_some_and(|run| run != 1) && self.lives && !commit.takes {
            return Answer::Conflict { revision: self.revision, ahead: false };
        }
        if (commit.state.is_none() && self.state.is_none()) || self.last < commit.last {
            return Answer::Missing { last: self.last };
        }
        for entry in &commit.entries {
            if entry.id > self.last {
                self.log.push(entry.id.revision);
                self.last = entry.id;
            }
        }
        if let Some(state) = &commit.state {
            self.state = Some(state.clone());
            self.writes += 1;
        }
        self.revision = commit.revision;
        (self.run, self.lives) = (Some(1), true);
        Answer::Written { last: self.last }
    }
}

/// A disk, a ledger over it, and a server.
#[derive(Debug)]
struct World {
    ledger: Ledger,
    server: Server,
    disk: Vec<u64>,
    revision: u64,
}

impl World {
    fn new(keep: usize) -> Self {
        let mut ledger = Ledger::new(keep);
        ledger.observe(1, state(1));
        ledger.note(Vec::new(), true);
        Self { ledger, server: Server::default(), disk: Vec::new(), revision: 1 }
    }

    fn decide(&mut self) -> u64 {
        self.revision += 1;
        self.disk.push(self.revision);
        self.ledger.observe(self.revision, state(self.revision));
        let tail = self.disk.len().saturating_sub(4);
        let tail = self.disk.iter().skip(tail).map(|revision| entry(*revision)).collect();
        self.ledger.note(tail, self.disk.len() <= 4)
    }

    /// Goes on until nothing is wanted; how many steps that took.
    fn settle(&mut self, due: bool) -> usize {
        let mut due = due;
        for step in 0..1000 {
            match self.ledger.next(due) {
                Need::Nothing => return step,
                Need::Refill => {
                    self.ledger.refill(self.disk.iter().map(|r| entry(*r)).collect());
                }
                Need::Commit(commit) => {
                    due = false;
                    let answer = self.server.take(&commit);
                    self.ledger.answered(&commit, &answer);
                }
            }
        }
        panic!("it never ends: {:?}", self.ledger);
    }
}

#[test]
fn everything_is_written_once_and_then_nothing() {
    let mut world = World::new(1000);
    for _ in 0..3 {
        world.decide();
    }
    world.settle(true);
    assert_eq!(world.server.log, [2, 3, 4]);
    assert_eq!(world.server.state, Some(state(4)));
    let writes = world.server.writes;
    assert_eq!(world.settle(false), 0, "nothing is wanted");
    world.settle(true);
    assert_eq!(world.server.writes, writes, "it is told that we live, and no state");
    world.decide();
    assert_eq!(world.settle(false), 1, "a decision and its state are one write");
    assert_eq!(world.server.log, [2, 3, 4, 5]);
}

#[test]
fn what_is_dropped_in_an_outage_comes_from_the_disk() {
    let mut world = World::new(10_000);
    world.settle(true);
    world.ledger.lost();
    let dropped: u64 = (0..OUTBOX_MAX + 50).map(|_| world.decide()).sum();
    assert_eq!((dropped, world.ledger.waiting()), (50, OUTBOX_MAX));
    assert_eq!(world.ledger.dropped(), 50);
    world.settle(true);
    assert_eq!(world.server.log, world.disk);
    assert_eq!((world.ledger.waiting(), world.ledger.dropped()), (0, 0));
}

#[test]
fn only_as_many_as_are_kept_are_sent() {
    let mut world = World::new(5);
    for _ in 0..20 {
        world.decide();
    }
    world.settle(true);
    assert_eq!(world.server.log, world.disk[15..]);
}

#[test]
fn a_server_that_lost_all_gets_all_again() {
    let mut world = World::new(1000);
    world.decide();
    world.decide();
    world.settle(true);
    world.server = Server::default();
    assert_eq!(world.settle(false), 0, "nobody knows yet");
    world.settle(true);
    assert_eq!((&world.server.log, &world.server.state), (&world.disk, &Some(state(3))));
    // Found out by a decision: the older ones come before it.
    world.server = Server::default();
    world.decide();
    world.settle(false);
    assert_eq!(world.server.log, world.disk);
}

#[test]
fn a_restart_takes_the_keys_over_and_two_of_one_name_are_told() {
    let mut world = World::new(1000);
    world.server = Server { revision: 1, run: Some(2), lives: true, ..Server::default() };
    world.decide();
    world.settle(true);
    assert_eq!((world.server.run, world.ledger.conflict()), (Some(1), None), "it was a restart");
    // The other one lives after all, and takes them back.
    (world.server.run, world.server.lives) = (Some(2), true);
    let before = world.server.clone();
    world.decide();
    world.settle(false);
    assert_eq!(world.ledger.conflict(), Some(before.revision));
    assert_eq!((&world.server.log, &world.server.state), (&before.log, &before.state));
    for _ in 0..5 {
        world.decide();
        world.settle(true);
    }
    assert_eq!(world.server.run, Some(2), "however high our revision: it lives");
    assert_eq!(world.server.log, before.log);
    // It is gone for good.
    world.server.lives = false;
    world.settle(true);
    assert_eq!((world.server.run, world.ledger.conflict()), (Some(1), None));
    assert_eq!(world.server.log, world.disk);
}

#[test]
fn a_higher_revision_is_never_overwritten() {
    let mut world = World::new(1000);
    world.server = Server { revision: 50, run: None, ..Server::default() };
    world.decide();
    world.settle(true);
    assert_eq!(world.ledger.conflict(), Some(50));
    world.decide();
    assert_eq!(world.settle(false), 0, "it is asked again only when that is due");
    world.settle(true);
    assert!(world.server.state.is_none() && world.server.log.is_empty());
}

#[test]
fn a_line_that_makes_no_sense_holds_up_no_other() {
    let mut world = World::new(1000);
    world.decide();
    world.settle(true);
    world.decide();
    let Need::Commit(commit) = world.ledger.next(false) else { panic!("a write") };
    // It was left out when the command was made.
    let last = world.server.last;
    world.ledger.answered(&commit, &Answer::Written { last });
    assert_eq!((world.settle(false), world.ledger.waiting()), (0, 0));
}

#[test]
fn a_large_backlog_goes_in_pieces() {
    let mut world = World::new(1000);
    for _ in 0..500 {
        world.decide();
    }
    let steps = world.settle(true);
    assert_eq!(world.server.log, world.disk);
    assert!(steps > 500 / BATCH, "{steps}");
    let large = |revision| Entry { id: id(revision), line: vec![b'x'; BATCH_BYTES] };
    let mut ledger = Ledger::new(1000);
    ledger.observe(9, state(9));
    ledger.note(Vec::new(), true);
    let Need::Commit(commit) = ledger.next(true) else { panic!("a look") };
    ledger.answered(&commit, &Answer::Missing { last: Id::default() });
    assert_eq!(ledger.next(false), Need::Refill);
    ledger.refill(vec![large(7), large(8)]);
    let Need::Commit(commit) = ledger.next(false) else { panic!("a write") };
    assert_eq!(commit.entries.len(), 1, "even one that is too large goes");
}

#[derive(Clone, Debug)]
enum Happens {
    Decide,
    Settle { due: bool },
    Answerless,
    Disconnect,
    Flush,
    GoesBack,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Decide),
        3 => any::<bool>().prop_map(|due| Happens::Settle { due }),
        1 => Just(Happens::Answerless),
        1 => Just(Happens::Disconnect),
        1 => Just(Happens::Flush),
        1 => Just(Happens::GoesBack),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_all_decisions_end_there_in_order_and_once(
        story in proptest::collection::vec(happens(), 0..60),
    ) {
        let mut world = World::new(1000);
        let mut saved = world.server.clone();
        for one in story {
            match one {
                Happens::Decide => { world.decide(); }
                Happens::Settle { due } => { world.settle(due); }
                // It is written, but the answer is lost, and with it the connection.
                Happens::Answerless => {
                    if let Need::Commit(commit) = world.ledger.next(true) {
                        world.server.take(&commit);
                    }
                    world.ledger.lost();
                }
                Happens::Disconnect => world.ledger.lost(),
                Happens::Flush => {
                    saved = std::mem::take(&mut world.server);
                }
                // A replica that lagged, or a backup of the server.
                Happens::GoesBack => {
                    world.server = saved.clone();
                    world.ledger.lost();
                }
            }
            prop_assert!(world.server.log.is_sorted_by(|a, b| a < b), "{:?}", world.server.log);
            prop_assert!(world.ledger.waiting() <= OUTBOX_MAX.max(world.disk.len()));
        }
        world.settle(true);
        prop_assert_eq!(&world.server.log, &world.disk);
        prop_assert_eq!(&world.server.state, &Some(state(world.revision)));
        prop_assert_eq!(world.ledger.conflict(), None);
    }
}
