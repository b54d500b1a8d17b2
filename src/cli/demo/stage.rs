//! What the demo plays on: a directory, a policy, two upstreams.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::chaos::lab::{Stand, TemporaryDir};
use crate::chaos::upstream::Identity;
use crate::cli::failure::Failure;

/// The first line of the demo's policy: a file without it is somebody's own.
const MARK: &str = "# The policy of `mcp-failover demo`.";

/// The service of the demo.
pub(super) const SERVICE: &str = "search";
/// Failures in a row that make an endpoint unhealthy, until the policy is edited.
pub(super) const FALL: u32 = 3;
/// Passes in a row that make it healthy, until the policy is edited.
pub(super) const RISE: u32 = 2;
/// How long the primary must be well before the service returns to it, until then too.
pub(super) const HOLD: Duration = Duration::from_secs(4);

/// A directory with a policy, and two upstreams. Gone when dropped.
#[derive(Debug)]
pub(super) struct Stage {
    dir: TemporaryDir,
    admin: SocketAddr,
    pub(super) primary: Stand,
    pub(super) secondary: Stand,
}

impl Stage {
    /// Makes the directory, starts the upstreams and writes the policy.
    ///
    /// # Errors
    /// When the directory cannot be made or holds a policy that is not the demo's, or when no
    /// port can be had.
    pub(super) async fn set(dir: Option<PathBuf>, keep: bool) -> Result<Self, Failure> {
        let dir = match dir {
            Some(dir) => fs::create_dir_all(&dir)
                .and_then(|()| fs::canonicalize(&dir))
                .map(TemporaryDir::kept),
            None => TemporaryDir::new("mcp-failover-demo", keep),
        };
        let dir = dir.map_err(Failure::Stage)?;
        let stand = || Stand::start(Ipv4Addr::LOCALHOST, Identity::default(), 0);
        let primary = stand().await.map_err(Failure::Stage)?;
        let secondary = stand().await.map_err(Failure::Stage)?;
        let admin = admin_address().map_err(Failure::Stage)?;
        let stage = Self { dir, admin, primary, secondary };
        stage.write_policy()?;
        Ok(stage)
    }

    /// The policy.
    pub(super) fn policy_path(&self) -> PathBuf {
        self.dir.path().join("failover.toml")
    }

    /// What an MCP server would read.
    pub(super) fn env_path(&self) -> PathBuf {
        self.dir.path().join("failover.env")
    }

    /// The operators' socket.
    pub(super) fn socket_path(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// The directory, when it outlives the demo.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.dir.is_kept().then(|| self.dir.path())
    }

    /// Where the status page is.
    pub(super) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    fn write_policy(&self) -> Result<(), Failure> {
        let path = self.policy_path();
        if fs::read_to_string(&path).is_ok_and(|text| !text.starts_with(MARK)) {
            return Err(Failure::Foreign { path });
        }
        fs::write(&path, self.policy()).map_err(|source| Failure::Write { path, source })
    }

    fn policy(&self) -> String {
        let dir = self.dir.path().display();
        let (admin, hold) = (self.admin, HOLD.as_secs());
        let (primary, secondary) = (self.primary.address(), self.secondary.address());
        format!(
            r#"{MARK}
# Edit it while the demo runs; it takes effect when you save. Try `hold = "1s"`, or give
# `secondary` the priority 0 and `primary` 1, or make a mistake such as `interval = 1`.
version = 1

[sidecar]
name      = "demo"
state_dir = "{dir}/state"

[admin]
listen = "{admin}"

[control]
socket = "{dir}/control.sock"

[services.{SERVICE}]
critical = true

[services.{SERVICE}.probe]
type             = "http"
path             = "/health"
interval         = "1s"
standby_interval = "1s"
fast_interval    = "200ms"
down_interval    = "1s"
timeout          = "500ms"
rise             = {RISE}
fall             = {FALL}

[services.{SERVICE}.breaker]
failure_threshold = 3
reset_timeout     = "2s"

[services.{SERVICE}.failover]
failback = {{ mode = "auto", hold = "{hold}s", spread = "0s" }}
# A demo moves more often than anybody would want in earnest.
budget   = 1000
flap     = {{ penalty = 1 }}

[[services.{SERVICE}.endpoints]]
name     = "primary"
url      = "http://{primary}"
priority = 0
env      = {{ SEARCH_URL = "http://{primary}" }}

[[services.{SERVICE}.endpoints]]
name     = "secondary"
url      = "http://{secondary}"
priority = 1
env      = {{ SEARCH_URL = "http://{secondary}" }}

[[outputs]]
type = "env_file"
path = "{dir}/failover.env"
"#
        )
    }
}

/// The usual address of the status page, or another port when that one is taken.
fn admin_address() -> io::Result<SocketAddr> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    TcpListener::bind(usual).or_else(|_| TcpListener::bind(any))?.local_addr()
}
