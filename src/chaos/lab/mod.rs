//! A lab: upstreams, a fault proxy before each, a sidecar, and a directory for its files.

mod book;
mod dir;
mod sidecar;
mod stand;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::chaos::fault::Fault;
use crate::chaos::scenario::Whom;
use crate::chaos::upstream::Identity;
use crate::core::id::EndpointName;
use crate::core::ordered::Gather as _;

pub use book::{Book, BookError, Draft, Entry, Part};
pub(in crate::chaos) use book::{SEAL, Staged, URL};
pub use dir::TemporaryDir;
pub use sidecar::{Holding, Sidecar};
pub use stand::Stand;

const POLICY: &str = "failover.toml";
const STATE: &str = "state";
const LOG: &str = "sidecar.log";
/// The env file of a lab.
pub const ENV: &str = "failover.env";
/// The control socket of a lab.
pub const CONTROL: &str = "control.sock";
const SOCKET: &str = "config.sock";

/// Why a lab could not be built.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system refuses something basic.
    #[error("set up a lab")]
    System(#[from] io::Error),
    /// The policy does not compile at the addresses of the lab.
    #[error("set up a lab: {0}")]
    Policy(String),
}

/// A whole small world; everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Lab {
    // Before the directory: the sidecar ends before its files go.
    sidecar: Option<Sidecar>,
    stands: Vec<(EndpointName, Stand)>,
    staged: Staged,
    program: PathBuf,
    dir: TemporaryDir,
}

impl Lab {
    /// Builds one, with nothing running in it but the upstreams.
    ///
    /// # Errors
    /// When there is no directory, no port, or the policy does not compile there.
    pub async fn build(
        part: &Part,
        program: &Path,
        seed: u64,
        keep: bool,
    ) -> Result<Self, LabError> {
        let dir = TemporaryDir::new("mcp-failover-chaos", keep)?;
        let mut stands = Vec::new();
        for (at, (name, answer)) in part.endpoints.iter().enumerate() {
            let key = format!("seal-of-{name}");
            let identity = Identity { name: name.to_string(), key, answer: answer.clone() };
            let seed = seed.wrapping_add(u64::try_from(at).unwrap_or_default());
            let stand = Stand::start(stand::host(at), identity, seed).await?;
            stands.push((name.clone(), stand));
        }
        let places: Vec<SocketAddr> = stands.iter().map(|(_, stand)| stand.address()).collect();
        let staged = part.stage(&places, dir.path()).map_err(LabError::Policy)?;
        let lab = Self { sidecar: None, stands, staged, program: program.to_owned(), dir };
        lab.write_policy(&lab.staged.text)?;
        Ok(lab)
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its directory, when it outlives the lab.
    #[must_use]
    pub fn kept(&self) -> Option<&Path> {
        self.dir.is_kept().then(|| self.dir.path())
    }

    /// The policy played.
    pub(in crate::chaos) const fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Puts a text in the place of the policy, as an editor does: whole, by a rename.
    ///
    /// # Errors
    /// When the directory does not take it.
    pub fn write_policy(&self, text: &str) -> io::Result<()> {
        let fresh = self.path("failover.toml.new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, self.path(POLICY))
    }

    /// Makes the policy file valid again.
    ///
    /// # Errors
    /// When the directory does not take it.
    pub fn mend_policy(&self) -> io::Result<()> {
        self.write_policy(&self.staged.text)
    }

    /// Starts the sidecar.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self) -> io::Result<()> {
        self.sidecar = Some(Sidecar::start(&self.program, self.dir.path(), &self.staged)?);
        Ok(())
    }

    /// The sidecar's process, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.sidecar.as_ref().map(Sidecar::pid)
    }

    /// Whether the sidecar has ended without having been told to.
    pub fn lost_its_sidecar(&mut self) -> bool {
        self.sidecar.as_mut().is_some_and(Sidecar::has_ended)
    }

    /// Kills the sidecar.
    pub async fn kill(&mut self) {
        if let Some(sidecar) = self.sidecar.take() {
            sidecar.kill().await;
        }
    }

    /// Those meant by a step; `home` is the preferred one.
    pub fn whom<'a>(
        &'a self,
        whom: Whom,
        home: &'a EndpointName,
    ) -> impl Iterator<Item = &'a EndpointName> {
        let meant = move |name: &EndpointName| match whom {
            Whom::Home => name == home,
            Whom::Others => name != home,
            Whom::All => true,
        };
        self.stands.iter().map(|(name, _)| name).filter(move |name| meant(name))
    }

    /// Puts a fault in force.
    pub async fn arm(&self, name: &EndpointName, fault: Fault) {
        for (_, stand) in self.stands.iter().filter(|(known, _)| known == name) {
            stand.set(fault).await;
        }
    }

    /// The faults in force.
    #[must_use]
    pub fn armed(&self) -> BTreeMap<EndpointName, Fault> {
        let faults = self.stands.iter().map(|(name, stand)| (name.clone(), stand.fault()));
        faults.filter(|(_, fault)| *fault != Fault::None).gather_map()
    }

    /// Undoes everything and takes the lab down; tells what is left in spite of that.
    pub async fn tear_down(mut self) -> Vec<String> {
        let mut left = Vec::new();
        for name in self.armed().keys() {
            self.arm(name, Fault::None).await;
        }
        left.extend(self.armed().keys().map(|name| format!("a fault on {name}")));
        if let Some(sidecar) = self.sidecar.take() {
            let pid = sidecar.pid();
            if !sidecar.stop().await {
                left.push(format!("the sidecar (pid {pid}) did not end by itself"));
            }
        }
        left.extend(self.strange_files());
        let (path, kept) = (self.dir.path().to_owned(), self.dir.is_kept());
        drop(self);
        if !kept && path.exists() {
            left.push(format!("the directory {}", path.display()));
        }
        left
    }

    /// Files that nobody should have left.
    fn strange_files(&self) -> Vec<String> {
        let known = [POLICY, STATE, LOG, ENV, CONTROL, SOCKET];
        let Ok(entries) = fs::read_dir(self.dir.path()) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !known.contains(&&**name)).map(|name| format!("file {name}")).collect()
    }
}
