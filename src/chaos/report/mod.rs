//! What is handed on of a programme: for programs, for build servers, for a page.
//!
//! Fields and columns are added, never renamed.

mod json;
mod junit;
mod markdown;

use std::time::Duration;

use crate::chaos::lab::Book;
use crate::chaos::suite::Outcome;
use crate::chaos::verdict::Verdict;

pub use json::json;
pub use junit::junit;
pub use markdown::markdown;

/// Everything that a report tells.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it was made, as RFC 3339.
    pub at: String,
    /// The policy's path; `None` for the one that is built in.
    pub policy: Option<String>,
    /// The services, those included that could not be played.
    pub book: Book,
    /// What the machine was allowed in each bound.
    pub allowance: Duration,
    /// What the first runs were drawn from.
    pub seed: u64,
    /// How often each drill was played.
    pub runs: u32,
    /// How many at the same time.
    pub jobs: usize,
    /// What came of each drill.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// The worst of all; a failure says more than an error, since something was seen to break.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let all = || self.outcomes.iter().map(Outcome::verdict);
        if all().any(|verdict| verdict == Verdict::Fail) {
            return Verdict::Fail;
        }
        all().max().unwrap_or(Verdict::Error)
    }
}
