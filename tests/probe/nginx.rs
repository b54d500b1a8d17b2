//! Probes against nginx: a server that nobody here wrote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{
    Check, HttpCheck, HttpVersion, MappedOutcome, Probe, Target, TlsCheck, TlsOptions,
};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Prober;

use super::{PATIENT, assert_end, attempt, get, outcome, pointer};
use crate::common;
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

struct Nginx {
    server: Child,
    plain: u16,
    secure: u16,
    prior: u16,
    authority: Authority,
    files: tempfile::TempDir,
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
        std::fs::create_dir_all(path("html")).unwrap();
        std::fs::write(path("cert.pem"), certified.pem()).unwrap();
        std::fs::write(path("key.pem"), certified.key_pem()).unwrap();
        std::fs::write(path("html/small"), "serving").unwrap();
        std::fs::write(path("big"), "x".repeat(1 << 20)).unwrap();
        // Their ports stay theirs while they refuse, so nobody takes them before nginx does.
        let ports = [free_port(), free_port(), free_port()];
        std::fs::write(path("nginx.conf"), config(ports, &path("nginx.sock"))).unwrap();
        let [plain, secure, prior] = ports;
        let server = Command::new(binary)
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(files.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let nginx = Self { server, plain, secure, prior, authority, files };
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

    /// The same request in every way that this server can be asked.
    fn every_way(&self, path: &str) -> Vec<(&'static str, HttpCheck)> {
        let version = HttpVersion::Http2;
        let mut prior = HttpCheck { version, ..self.plain(path) };
        prior.target.port = self.prior;
        let secure = HttpCheck { version, ..self.secure(path) };
        let socket = Some(self.files.path().join("nginx.sock"));
        vec![
            ("plain", self.plain(path)),
            ("TLS", self.secure(path)),
            ("HTTP/2 over TLS", secure),
            ("HTTP/2 with prior knowledge", prior),
            ("a local socket", HttpCheck { socket, ..self.plain(path) }),
        ]
    }

    fn options(&self) -> TlsOptions {
        TlsOptions { ca_pem: Some(self.authority.pem()), ..TlsOptions::default() }
    }
}

/// A port that was free just now.
fn free_port() -> u16 {
    Upstream::start(Behaviour::Refuse).port()
}

fn config([plain, secure, prior]: [u16; 3], socket: &Path) -> String {
    let socket = socket.display();
    let root = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"
daemon off; master_process off; pid nginx.pid; {root}
events {{ worker_connections 64; }}
http {{
  limit_req_zone $request_uri zone=busy:32k rate=1r/m; limit_req_status 429;
  access_log off; default_type text/plain; gzip on; gzip_min_length 1; gzip_types "*";
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl http2; listen unix:{socket};
    listen 127.0.0.1:{prior} http2;
    ssl_certificate cert.pem; ssl_certificate_key key.pem;
    location = / {{ return 200 "serving\n"; }}
    location = /json {{ default_type application/json; return 200 '{{"dimension":1536}}'; }}
    location = /moved {{ return 301 https://example.com/; }}
    location = /denied {{ return 403; }}
    location = /limited {{ add_header Retry-After 12 always; return 429; }}
    location = /busy {{
      limit_req zone=busy; add_header Retry-After 30 always; add_header RateLimit-Limit 1 always;
      try_files /small =404;
    }}
    location = /overload {{
      add_header Retry-After "Fri, 31 Dec 9999 23:59:59 GMT" always; return 503;
    }}
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
        for (_, check) in nginx.every_way(path) {
            let report = get(&check, PATIENT).await;
            if path == "/hangup" && check.version == HttpVersion::Http2 {
                // There nginx says why it breaks off, and calls it our error.
                assert_end(&report, Outcome::Protocol, "server broke off with HTTP/2 error 1");
            } else {
                assert_end(&report, outcome, detail);
            }
        }
    }
}

#[tokio::test]
async fn nginx_keeps_its_connections_for_the_next_attempt() {
    let Some(nginx) = Nginx::start().await else { return };
    for (way, check) in nginx.every_way("/json") {
        let prober = Prober::new().unwrap();
        let check = Check::Http(Box::new(HttpCheck { reuse: true, ..check }));
        let probe = Probe::new(PATIENT, check);
        for round in 0..20 {
            let report = prober.run(&probe, PATIENT).await;
            assert_end(&report, Outcome::Ok, "");
            assert_eq!(report.phases.connect.is_some(), round == 0, "{way}, round {round}");
        }
    }
}

#[tokio::test]
async fn nginx_throttles_and_says_for_how_long() {
    let Some(nginx) = Nginx::start().await else { return };
    assert_end(&get(&nginx.plain("/busy"), PATIENT).await, Outcome::Ok, "");
    let retry_after = Some(Duration::from_secs(30));
    for (_, check) in nginx.every_way("/busy") {
        let report = get(&check, PATIENT).await;
        assert_end(&report, Outcome::Throttled { retry_after }, "HTTP 429");
        assert_eq!(report.quota.and_then(|quota| quota.limit), Some(1));
    }
    let mut check = nginx.plain("/overload");
    assert_end(&get(&check, PATIENT).await, Outcome::ServerError, "HTTP 503");
    check.expect.outcomes.insert(503, MappedOutcome::Throttled);
    let retry_after = Some(Duration::from_secs(24 * 60 * 60));
    assert_end(&get(&check, PATIENT).await, Outcome::Throttled { retry_after }, "HTTP 503");
}

#[tokio::test]
async fn nginx_without_http2_is_told_apart() {
    let Some(nginx) = Nginx::start().await else { return };
    let check = HttpCheck { version: HttpVersion::Http2, ..nginx.plain("/") };
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "answer is not HTTP/2");
    let old = Authority::new();
    let upstream = Upstream::start_tls(Behaviour::Healthy, old.issue("localhost").server());
    let mut check = HttpCheck { version: HttpVersion::Http2, ..nginx.secure("/") };
    check.target.port = upstream.port();
    check.tls = Some(TlsOptions { ca_pem: Some(old.pem()), ..TlsOptions::default() });
    let detail = "server does not offer HTTP/2 over TLS";
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, detail);
}

#[tokio::test]
async fn nginx_answers_are_held_against_expectations() {
    let Some(nginx) = Nginx::start().await else { return };
    for (_, mut check) in nginx.every_way("/json") {
        check.expect.json = pointer("/dimension", "1536");
        assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
        check.expect.json = pointer("/dimension", "768");
        assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "JSON /dimension differs");
        check.path = Secret::from("/big");
        let detail = "body is too long to be read as JSON";
        assert_end(&get(&check, PATIENT).await, Outcome::Protocol, detail);
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
