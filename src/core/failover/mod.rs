//! Decides for one service: stay, move, or hold.
//!
//! A pure function of what is known at one moment. It keeps no state, publishes nothing and knows
//! neither probes nor timers; `engine` shows it a [`View`] and carries out the [`Verdict`].
//!
//! The order is: pinned, paused, blind (isolated or stalled), active lost, return to a better tier.
//!
//! Invariants
//! 1. A pin is obeyed before everything else, and nothing moves a service that is paused.
//! 2. An automatic move never goes to an endpoint that is drained, or known not to be usable.
//! 3. A usable active endpoint is left only for a better tier, or because of its score for one that
//!    is better by more than [`HYSTERESIS`].
//! 4. Nothing but the budget, blindness or a person delays leaving a dead endpoint for a proven one.

mod decide;
mod verdict;
mod view;

pub use decide::{HYSTERESIS, best_other, decide, refuge};
pub use verdict::{Next, Reason, Return, Verdict, Wait};
pub use view::{Budget, Candidate, Fault, Loss, Place, View};
