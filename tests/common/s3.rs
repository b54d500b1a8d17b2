//! A real S3 server, which checks signatures.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::skip;

/// The key's id.
pub(crate) const ACCESS: &str = "AKIDEXAMPLE";

/// The key.
pub(crate) const SECRET: &str = "canary-of-the-bucket-5e1f";

/// The bucket that is there.
pub(crate) const BUCKET: &str = "backups";

/// Far beyond what a start takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server, ended when dropped.
pub(crate) struct S3Server {
    child: Child,
    port: u16,
    root: tempfile::TempDir,
}

impl S3Server {
    /// Starts it; skips the test where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let binary = binary.join("target/test-tools/bin/s3s-fs");
        if !binary.exists() {
            skip("s3s-fs is not installed");
            return None;
        }
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join(BUCKET)).expect("a bucket");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("a port").port();
        drop(free);
        let child = Self::spawn(&binary, port, &root);
        let server = Self { child, port, root };
        server.wait();
        Some(server)
    }

    fn spawn(binary: &PathBuf, port: u16, root: &tempfile::TempDir) -> Child {
        Command::new(binary)
            .args(["--access-key", ACCESS, "--secret-key", SECRET, "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .arg(root.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts")
    }

    fn wait(&self) {
        let since = tokio::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(since.elapsed() < PATIENCE, "the server listens");
            std::thread::sleep(Duration::from_millis(10)); // poll
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder in which it keeps the objects of the bucket.
    pub(crate) fn objects(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // It may have ended by itself already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
