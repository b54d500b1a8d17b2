//! Drills: faults on purpose, and whether the sidecar keeps what its policy promises.
//!
//! A lab is a whole small world on loopback: upstreams that answer a policy's own probes, a fault
//! proxy before each, the real sidecar as a child process, a reader of its env file and a client
//! that uses whatever the file says. A drill plays one scenario in a lab of its own, measures, and
//! holds what was measured against bounds computed from the policy.
//!
//! What is pure stands apart: `fault`, `scenario`, `bounds` and `verdict` know no clock and no
//! file, so what must happen, and by when, can be printed without a run.
//!
//! Invariants
//! 1. A fault that did not show to a probe of our own is an error of the drill, never a pass.
//! 2. Whatever becomes of a drill, its faults, processes and files end with it; what is found left
//!    is told.
//! 3. Nothing outside loopback is contacted, and no credential of the policy enters a lab.
//! 4. The same seed gives the same script.

pub mod bounds;
pub mod check;
pub mod drill;
pub mod fault;
pub mod lab;
pub mod observe;
pub mod proxy;
pub mod report;
pub mod scenario;
pub mod suite;
pub mod upstream;
pub mod verdict;
