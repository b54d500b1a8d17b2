//! Servers with hard-coded hosts: real clients of other languages, told only what a child is told.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::caller::send;
use super::rig::{Plan, Rig};
use crate::common::skip;
use crate::common::upstream::{Behaviour, Upstream};

/// Two upstreams that stand in for a service whose host nobody can change.
fn rig(passthrough: bool) -> (Upstream, Upstream, Rig) {
    let (primary, backup) = (
        Upstream::start(Behaviour::Json("{\"from\":\"primary\"}".to_owned())),
        Upstream::start(Behaviour::Json("{\"from\":\"backup\"}".to_owned())),
    );
    let mut plan = Plan::new(&primary.url(), &backup.url(), "");
    // Probed over TCP, so that every request seen is the client's.
    plan.probe = "type = \"tcp\"".to_owned();
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    plan.output = format!(
        "mode = \"connect\"\nheaders = {{ Authorization = \"Bearer ${{endpoint.env.KEY}}\" }}\n\
         intercept = {{ hosts = [\"api.example.com\"], ca_file = \"{}\", passthrough = {passthrough} }}",
        folder.join("ca.pem").display()
    );
    let mut rig = Rig::start(&plan);
    rig.folder = Some(folder);
    (primary, backup, rig)
}

/// The variables that a child gets.
fn variables(rig: &Rig) -> Vec<(&'static str, String)> {
    let folder = rig.folder.as_deref().expect("a folder");
    let own = folder.join("ca.pem").display().to_string();
    let all = folder.join("ca.bundle.pem").display().to_string();
    vec![
        ("HTTPS_PROXY", format!("http://{}", rig.address)),
        ("NO_PROXY", "localhost,127.0.0.1,::1".to_owned()),
        ("NODE_USE_ENV_PROXY", "1".to_owned()),
        ("NODE_EXTRA_CA_CERTS", own),
        ("SSL_CERT_FILE", all.clone()),
        ("REQUESTS_CA_BUNDLE", all.clone()),
        ("CURL_CA_BUNDLE", all),
    ]
}

fn run(rig: &Rig, program: &Path, arguments: &[&str]) -> Option<Output> {
    let modules = tools().join("node_modules");
    let command = Command::new(program)
        .args(arguments)
        .envs(variables(rig))
        .env("NODE_PATH", modules)
        .output();
    command.ok()
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Both endpoints serve the client, one after the other, each with its own credential.
fn serves(program: &Path, arguments: &[&str]) {
    let (primary, backup, rig) = rig(true);
    let Some(output) = run(&rig, program, arguments) else {
        return skip(&format!("{} is not installed", program.display()));
    };
    let said_first = said(&output);
    assert!(said_first.contains("primary"), "{said_first}");
    let seen = primary.last_request().to_lowercase();
    assert!(seen.contains("authorization: bearer canary-one"), "{seen}");
    assert!(seen.contains(&format!("host: {}", primary.address())), "{seen}");
    primary.set(Behaviour::Refuse);
    let output = run(&rig, program, arguments).expect("it ran before");
    assert!(said(&output).contains("backup"), "{}", said(&output));
    assert!(backup.last_request().to_lowercase().contains("bearer canary-two"));
    assert!(!rig.log().contains("canary"), "{}", rig.log());
}

#[test]
fn curl_reaches_a_hard_coded_host_through_it() {
    serves(Path::new("curl"), &["-sS", "--max-time", "20", "https://api.example.com/search?q=1"]);
}

#[test]
fn pythons_requests_reaches_a_hard_coded_host_through_it() {
    let python = tools().join("venv/bin/python");
    let has = Command::new(&python).args(["-c", "import requests"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        return skip("the Python package requests is not installed");
    }
    let code = "import requests; print(requests.get('https://api.example.com/s', timeout=20).text)";
    serves(&python, &["-c", code]);
}

#[test]
fn nodes_axios_reaches_a_hard_coded_host_through_it() {
    // The client library of tavily-mcp, which makes its own tunnels from HTTPS_PROXY.
    if !tools().join("node_modules/axios").is_dir()
        || !tools().join("node_modules/https-proxy-agent").is_dir()
    {
        return skip("the Node packages axios and https-proxy-agent are not installed");
    }
    let code = "const {HttpsProxyAgent}=require('https-proxy-agent');require('axios').get('https://api.example.com/s',\
                {proxy:false,httpsAgent:new HttpsProxyAgent(process.env.HTTPS_PROXY)})\
                .then(r=>console.log(JSON.stringify(r.data)))";
    serves(Path::new("node"), &["-e", code]);
}

#[test]
fn other_hosts_pass_untouched_or_are_refused() {
    let other = Upstream::start(Behaviour::Json("{\"from\":\"elsewhere\"}".to_owned()));
    let target = format!("http://{}/", other.address());
    let tunnel = ["-sS", "--max-time", "20", "-p", "--noproxy", ""];
    for (passthrough, wanted) in [(true, "elsewhere"), (false, "403")] {
        let (_primary, _backup, rig) = rig(passthrough);
        let proxy = format!("http://{}", rig.address);
        let arguments: Vec<&str> = tunnel.into_iter().chain(["-x", &proxy, &target]).collect();
        let Some(output) = run(&rig, Path::new("curl"), &arguments) else {
            return skip("curl is not installed");
        };
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

#[test]
fn it_is_no_proxy_for_anything_else() {
    let (primary, backup, rig) = rig(true);
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://other.example.com/ HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
        "CONNECT nonsense HTTP/1.1\r\nHost: nonsense\r\n\r\n",
    ] {
        let status = send(rig.address, request.as_bytes()).map_or(400, |answer| answer.status);
        assert!(matches!(status, 400 | 403), "{request}: {status}");
    }
    let seen = format!("{}{}", primary.last_request(), backup.last_request());
    assert!(!seen.contains("other.example.com"));
}
