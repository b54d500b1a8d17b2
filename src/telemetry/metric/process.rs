//! What the process uses, as the kernel tells it. Where there is no `/proc`, nothing is said.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::ledger::set;
use super::{PROCESS_CPU, PROCESS_FDS, PROCESS_FDS_MAX, PROCESS_RSS, float};

pub(super) fn observe() {
    set(&PROCESS_CPU, &[], cpu_seconds());
    if let Some(bytes) = resident_bytes() {
        set(&PROCESS_RSS, &[], bytes);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // Reading the folder takes one descriptor itself.
        set(&PROCESS_FDS, &[], float(descriptors.count().saturating_sub(1)));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        set(&PROCESS_FDS_MAX, &[], float(most));
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u32 = line.trim().trim_end_matches("kB").trim_end().parse().ok()?;
    Some(f64::from(kibibytes) * 1024.0)
}

fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    float(u64::try_from(spent.tv_sec).unwrap_or_default())
        + float(u64::try_from(spent.tv_nsec).unwrap_or_default()) / 1e9
}
