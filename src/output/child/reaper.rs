//! As the first process of a container: buries the dead that nobody else will.
//!
//! A process whose parent ended becomes our child, and when it ends somebody must ask after it.
//! Children that the rest of the program started are asked after by their owners at once, so what
//! is still dead at a second look is nobody's.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use crate::core::ordered::Gather as _;
use rustix::process::{Pid, WaitOptions, getpid, waitpid};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Whether we are the first process.
pub(super) fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// Looks for ever.
#[expect(clippy::infinite_loop, reason = "it is raced against what ends")]
pub(super) async fn reap() -> Infallible {
    let mut seen = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let dead = dead_children();
        for &pid in dead.intersection(&seen) {
            if let Some(pid) = Pid::from_raw(pid) {
                // Somebody else may have asked meanwhile, and that is as well.
                waitpid(Some(pid), WaitOptions::NOHANG).ok();
            }
        }
        seen = dead;
    }
}

fn dead_children() -> BTreeSet<i32> {
    let own = getpid().as_raw_nonzero().get();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        fields.next() == Some("Z") && fields.next().and_then(|one| one.parse().ok()) == Some(own)
    })
    .gather_set()
}
