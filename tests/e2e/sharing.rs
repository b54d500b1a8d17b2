//! Services that ask one upstream the same thing ask it once.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};

use super::sidecar::{Home, Sidecar, eventually};
use crate::common::upstream::{Behaviour, Upstream};

/// One service for each credential, all of one upstream.
fn services(upstream: &Upstream, keys: &[&str]) -> String {
    let mut text = String::new();
    for (number, key) in keys.iter().enumerate() {
        let url = upstream.url();
        write!(
            text,
            r#"[services.s{number}.probe]
type = "http"
path = "/"
headers = {{ Api-Key = "{key}" }}
[[services.s{number}.endpoints]]
name = "only"
url = "{url}"
env = {{ URL_{number} = "{url}" }}
"#
        )
        .expect("memory");
    }
    text
}

/// A sidecar with metrics, and where they are.
fn start(home: &Home, services: &str) -> (Sidecar, String) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let listen = format!("listen = \"{address}\"");
    home.write_policy(&home.policy(services).replace("listen = \"off\"", &listen));
    (home.start(), address)
}

/// The sum over all series of a metric.
fn total(address: &str, metric: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let samples = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split('{').next()?;
        (name == metric).then(|| value.parse::<f64>().ok())?
    });
    Some(samples.sum())
}

fn all_are(sidecar: &Sidecar, health: &str, services: usize) {
    sidecar.wait_until(&format!("all {health}"), |status| {
        (0..services).all(|number| {
            status["services"][format!("s{number}")]["endpoints"]["only"]["health"] == health
        })
    });
}

#[test]
fn identical_probes_are_one_request_and_what_it_found_reaches_all() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let home = Home::new();
    let (sidecar, metrics) = start(&home, &services(&upstream, &["k", "k", "k", "k"]));
    all_are(&sidecar, "healthy", 4);
    let (probes, requests) = eventually("forty probes", || {
        let requests = upstream.requests();
        let probes = total(&metrics, "mcp_failover_probes_total")?;
        (probes >= 40.0).then_some((probes, requests))
    });
    let asked = u32::try_from(requests).map(f64::from).expect("few");
    assert!(asked <= probes / 2.0, "{asked} requests for {probes} probes of four services");
    assert!(total(&metrics, "mcp_failover_probes_shared_total") >= Some(probes / 2.0));

    upstream.set(Behaviour::Status(500));
    all_are(&sidecar, "unhealthy", 4);
    upstream.set(Behaviour::Healthy);
    all_are(&sidecar, "healthy", 4);
    assert!(sidecar.terminate().success());
}

#[test]
fn probes_with_different_credentials_are_never_shared() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let home = Home::new();
    let (sidecar, metrics) = start(&home, &services(&upstream, &["one", "two"]));
    all_are(&sidecar, "healthy", 2);
    eventually("twenty probes", || {
        total(&metrics, "mcp_failover_probes_total").filter(|probes| *probes >= 20.0)
    });
    assert_eq!(total(&metrics, "mcp_failover_probes_shared_total"), Some(0.0));
    assert!(upstream.requests() >= 20);
    assert!(sidecar.terminate().success());
}
