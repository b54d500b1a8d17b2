//! What several tests share.

pub(crate) mod again;
pub(crate) mod binary;
pub(crate) mod redis;
pub(crate) mod rig;
pub(crate) mod s3;
pub(crate) mod tls;
pub(crate) mod upstream;

/// Says loudly that a test could not run here, and why.
///
/// # Panics
/// When `MCPF_NO_SKIP=1`: the full test run installs everything, so nothing may be skipped there.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("MCPF_NO_SKIP").is_none(), "nothing may be skipped here: {why}");
    eprintln!("skipped: {why}");
}
