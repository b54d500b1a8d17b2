//! Upstreams that speak TLS, to callers who do not.

use std::process::{Command, Output};

use super::caller::get;
use super::rig::{Plan, Rig, eventually};
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};
use crate::probe::peer::{self, Running};
use crate::probe::postgres::{Cluster, program};

/// Keys of an output that trusts this authority alone.
fn trusting(rig_folder: &std::path::Path, authority: &Authority) -> String {
    format!("ca_file = \"{}\"\n", peer::write(rig_folder, "ca.pem", &authority.pem()))
}

/// A service that is probed by whether it takes connections.
fn by_connection(mut plan: Plan) -> Plan {
    "type = \"tcp\"".clone_into(&mut plan.probe);
    plan
}

#[test]
fn an_upstreams_certificate_is_verified() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = tempfile::tempdir().expect("a folder");
    let server = |authority: &Authority| {
        let certified = authority.issue("localhost");
        Upstream::start_tls(Behaviour::Healthy, certified.server())
    };
    let (good, forged) = (server(&ours), server(&theirs));
    let url = |upstream: &Upstream| format!("https://localhost:{}", upstream.port());
    let output = trusting(files.path(), &ours);
    let rig = Rig::start(&by_connection(Plan::new(&url(&good), &url(&forged), &output)));
    let answer = get(rig.address, "/", "").expect("an answer");
    assert_eq!((answer.status, good.requests()), (200, 1));
    rig.switch("backup");
    let answer = get(rig.address, "/", "").expect("an answer");
    assert_eq!((answer.status, good.requests()), (200, 2), "the next one is taken");
    assert_eq!(forged.requests(), 0, "nothing is said to a stranger");
}

#[test]
fn nginx_is_spoken_to_in_http_2() {
    let Some(nginx) = peer::program("nginx") else { return };
    let (authority, files) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let certified = authority.issue("localhost");
    let write = |name: &str, text: &str| peer::write(files.path(), name, text);
    let address = peer::address();
    let (certificate, key) =
        (write("cert.pem", &certified.pem()), write("key.pem", &certified.key_pem()));
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = format!(
        "{user} daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}}\n\
         http {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;\n\
         uwsgi_temp_path d; scgi_temp_path e;\n\
         server {{ listen {address} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
         location / {{ return 200 \"$server_protocol $http_host\"; }} }} }}\n"
    );
    write("nginx.conf", &config);
    let mut command = Command::new(nginx);
    command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(files.path());
    let _nginx = Running::start(&mut command);
    let url = format!("https://{address}");
    let output = trusting(files.path(), &authority) + "server_name = \"localhost\"\n";
    let rig = Rig::start(&by_connection(Plan::new(&url, &url, &output)));
    let answer = eventually("nginx answers", || {
        get(rig.address, "/", "").filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.body, format!("HTTP/2.0 {address}"));
}

#[tokio::test]
async fn postgres_over_tls_is_reached_by_a_client_that_speaks_none() {
    let Some(cluster) = Cluster::new() else { return };
    let (authority, files) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let certified = authority.issue("db.example.com");
    cluster.write("server.crt", &certified.pem());
    cluster.write("server.key", &certified.key_pem());
    let postgres = cluster.launch(&["ssl=on"]);
    let url = format!("postgres://{}/postgres?sslmode=verify-full", postgres.address);
    let output =
        trusting(files.path(), &authority) + "mode = \"tcp\"\nserver_name = \"db.example.com\"\n";
    let ask = move || {
        let rig = Rig::start(&by_connection(Plan::new(&url, &url, &output)));
        // The server takes this user over TLS only.
        let answer = eventually("the database serves", || {
            let answer = psql(&rig, "secure");
            answer.status.success().then_some(answer)
        });
        String::from_utf8_lossy(&answer.stdout).into_owned()
    };
    let answer = tokio::task::spawn_blocking(ask).await.expect("no panic");
    assert_eq!(answer.trim(), "t", "the connection that the server sees is secured");
}

/// Asks the server, through the proxy, whether it sees TLS.
fn psql(rig: &Rig, user: &str) -> Output {
    let (host, port) = (rig.address.ip().to_string(), rig.address.port().to_string());
    let question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut command = program("psql");
    command.args(["-h", &host, "-p", &port, "-U", user, "-d", "postgres", "-At", "-c", question]);
    command.env("PGPASSWORD", "secret").env("PGCONNECT_TIMEOUT", "5");
    command.output().expect("psql starts")
}
