//! Probes against nginx: a server that nobody here wrote.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, Target, TlsCheck, TlsOptions};
use mcp_failover::policy::secret::Secret;

use super::{PATIENT, assert_end, attempt, get, outcome, pointer};
use crate::common;
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

struct Nginx {
    server: Child,
    plain: u16,
    secure: u16,
    authority: Authority,
    _files: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.exists())
}

impl Nginx {
    async fn start() -> Option<Self> {
        let Some(binary) = binary() else {
            common::skip("nginx is not installed");
            return None;
        };
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let authority = Authority::new();
        let certified = authority.issue("localhost");
        std::fs::write(path("cert.pem"), certified.pem()).unwrap();
        std::fs::write(path("key.pem"), certified.key_pem()).unwrap();
        std::fs::write(path("big"), "x".repeat(1 << 20)).unwrap();
        // Their ports stay theirs while they refuse, so nobody takes them before nginx does.
        let (plain, secure) = (free_port(), free_port());
        std::fs::write(path("nginx.conf"), config(plain, secure)).unwrap();
        let server = Command::new(binary)
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(files.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let nginx = Self { server, plain, secure, authority, _files: files };
        Box::pin(nginx.wait_until_it_serves()).await;
        Some(nginx)
    }

    async fn wait_until_it_serves(&self) {
        let serving = async {
            while outcome(&get(&self.plain("/"), PATIENT).await) != Outcome::Ok {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENT, serving).await.expect("nginx serves");
    }

    fn plain(&self, path: &str) -> HttpCheck {
        HttpCheck {
            path: Secret::from(path),
            ..HttpCheck::new(Target { host: "localhost".to_owned(), port: self.plain })
        }
    }

    fn secure(&self, path: &str) -> HttpCheck {
        let mut check = self.plain(path);
        check.target.port = self.secure;
        check.tls = Some(self.options());
        check
    }

    fn options(&self) -> TlsOptions {
        TlsOptions { ca_pem: Some(self.authority.pem()), ..TlsOptions::default() }
    }
}

/// A port that was free just now.
fn free_port() -> u16 {
    Upstream::start(Behaviour::Refuse).port()
}

fn config(plain: u16, secure: u16) -> String {
    let root = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"
daemon off; master_process off; pid nginx.pid; {root}
events {{ worker_connections 64; }}
http {{
  access_log off; default_type text/plain; gzip on; gzip_min_length 1; gzip_types "*";
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl;
    ssl_certificate cert.pem; ssl_certificate_key key.pem;
    location = / {{ return 200 "serving\n"; }}
    location = /json {{ default_type application/json; return 200 '{{"dimension":1536}}'; }}
    location = /moved {{ return 301 https://example.com/; }}
    location = /denied {{ return 403; }}
    location = /limited {{ add_header Retry-After 12 always; return 429; }}
    location = /broken {{ return 502; }}
    location = /hangup {{ return 444; }}
    location = /big {{ root .; }}
  }}
}}
"#
    )
}

#[tokio::test]
async fn nginx_is_understood() {
    let Some(nginx) = Nginx::start().await else { return };
    let retry_after = Some(Duration::from_secs(12));
    let cases = [
        ("/", Outcome::Ok, ""),
        ("/big", Outcome::Ok, ""),
        ("/moved", Outcome::Protocol, "HTTP 301: redirect to another address"),
        ("/denied", Outcome::Auth, "HTTP 403"),
        ("/absent", Outcome::ClientError, "HTTP 404"),
        ("/limited", Outcome::Throttled { retry_after }, "HTTP 429"),
        ("/broken", Outcome::ServerError, "HTTP 502"),
        ("/hangup", Outcome::Reset, "connection closed without an answer"),
    ];
    for (path, outcome, detail) in cases {
        assert_end(&get(&nginx.plain(path), PATIENT).await, outcome, detail);
        assert_end(&get(&nginx.secure(path), PATIENT).await, outcome, detail);
    }
}

#[tokio::test]
async fn nginx_answers_are_held_against_expectations() {
    let Some(nginx) = Nginx::start().await else { return };
    for mut check in [nginx.plain("/json"), nginx.secure("/json")] {
        check.expect.json = pointer("/dimension", "1536");
        assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
        check.expect.json = pointer("/dimension", "768");
        assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "JSON /dimension differs");
    }
}

#[tokio::test]
async fn nginx_speaks_tls_where_it_should() {
    let Some(nginx) = Nginx::start().await else { return };
    let target = |port| Target { host: "localhost".to_owned(), port };
    let check = TlsCheck { target: target(nginx.secure), tls: nginx.options() };
    let report = attempt(Check::Tls(check), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.certificate_expires_in.is_some());
    let check = TlsCheck { target: target(nginx.plain), tls: nginx.options() };
    let report = attempt(Check::Tls(check), PATIENT).await;
    assert_end(&report, Outcome::Tls, "what answered does not speak TLS properly");
    let mut plain = nginx.plain("/");
    plain.target.port = nginx.secure;
    assert_end(&get(&plain, PATIENT).await, Outcome::ClientError, "HTTP 400");
}
