//! What ties a client to one process beyond its requests.
//!
//! Tasks, half-finished requests of the modern era, and elicitations by address live in the memory
//! of the process that made them. Whatever names one is sent there, and a process that is replaced
//! stays until they are done or their time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::time::Instant;
use crate::output::child::session::Generation;

/// Of each at most; the oldest go first.
const HELD_MAX: usize = 1_024;

#[derive(Clone, Debug)]
struct Task {
    generation: Generation,
    until: Instant,
    /// The progress token, which lives as long as the task.
    token: Option<Box<str>>,
}

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct Holds {
    tasks: BTreeMap<String, Task>,
    /// How many half-finished requests each process waits for, and until when.
    states: BTreeMap<Generation, (usize, Instant)>,
    elicitations: BTreeMap<String, Generation>,
}

impl Holds {
    pub(super) fn task(
        &mut self,
        id: String,
        generation: Generation,
        until: Instant,
        token: Option<Box<str>>,
    ) {
        if self.tasks.len() >= HELD_MAX {
            let oldest = self.tasks.iter().min_by_key(|(_, task)| task.until);
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.tasks.remove(&id);
            }
        }
        self.tasks.insert(id, Task { generation, until, token });
    }

    pub(super) fn task_owner(&self, id: &str) -> Option<Generation> {
        self.tasks.get(id).map(|task| task.generation)
    }

    pub(super) fn task_done(&mut self, id: &str) {
        self.tasks.remove(id);
    }

    /// Whether a task of this process reports progress under this token.
    pub(super) fn has_token(&self, generation: Generation, token: &str) -> bool {
        let its =
            |task: &Task| task.generation == generation && task.token.as_deref() == Some(token);
        self.tasks.values().any(its)
    }

    pub(super) fn state_given(&mut self, generation: Generation, now: Instant, ttl: Duration) {
        let (count, until) = self.states.entry(generation).or_insert((0, now));
        *count += 1;
        *until = now + ttl;
    }

    pub(super) fn state_returned(&mut self, generation: Generation) {
        if let Some((count, _)) = self.states.get_mut(&generation) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn elicitation(&mut self, id: String, generation: Generation) {
        if self.elicitations.len() >= HELD_MAX {
            self.elicitations.pop_first();
        }
        self.elicitations.insert(id, generation);
    }

    /// Whether an elicitation of that name is this process's; it is over now.
    pub(super) fn elicitation_over(&mut self, id: &str, generation: Generation) -> bool {
        let its = self.elicitations.get(id) == Some(&generation);
        if its {
            self.elicitations.remove(id);
        }
        its
    }

    /// Until when a process is needed; `None` when it is not.
    pub(super) fn until(&self, generation: Generation, now: Instant) -> Option<Instant> {
        let tasks = self.tasks.values().filter(|task| task.generation == generation);
        let tasks = tasks.map(|task| task.until);
        let state = self.states.get(&generation).filter(|(count, _)| *count > 0);
        tasks.chain(state.map(|(_, until)| *until)).max().filter(|until| *until > now)
    }

    /// Forgets a process that is gone.
    pub(super) fn forget(&mut self, generation: Generation) {
        self.tasks.retain(|_, task| task.generation != generation);
        self.elicitations.retain(|_, from| *from != generation);
        self.states.remove(&generation);
    }
}
