//! Keeps web pages out: every rule on every route.

use super::fixture::{Reply, Surface};

const ROUTES: [&str; 8] =
    ["/", "/status", "/history", "/events", "/metrics", "/healthz", "/readyz", "/unknown"];

/// The code for a request that passes the guard.
fn admitted(route: &str) -> u16 {
    if route == "/unknown" { 404 } else { 200 }
}

fn assert_reveals_nothing(reply: &Reply, what: &str) {
    assert!(reply.body.len() < 200, "{what}: {}", reply.body);
    for word in ["vectors", "primary", "revision", "mcp_failover_"] {
        assert!(!reply.body.contains(word), "{what}: {}", reply.body);
    }
}

#[tokio::test]
async fn only_our_own_names_are_served_on_any_route() {
    let surface = Surface::start().await;
    surface.vitals.set_policy_loaded(true);
    surface.vitals.set_outputs_written(true);
    let own = surface.address.to_string();
    let good = [
        own.as_str(),
        "localhost",
        "LocalHost:9464",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]:9464",
        "status.example.com",
        "status.example.com:9464",
        "a.example.com:81",
    ];
    let bad = [
        "example.com",
        "evil.example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "localhost@example.com",
        "example.com@localhost",
        "localhost.",
        "a.example.com",
        "a.example.com:82",
        "10.0.0.1",
        "169.254.169.254",
        "[::ffff:10.0.0.1]",
        "2130706433",
        "0.0.0.0",
        "localhost, example.com",
        "localhost/",
        "",
    ];
    for route in ROUTES {
        // An event stream never ends, so its head alone is asked for.
        let method = if route == "/events" { "HEAD" } else { "GET" };
        for host in good {
            let reply = surface.ask(method, route, &[&format!("host: {host}")]).await;
            assert_eq!(reply.code, admitted(route), "{route} by {host}");
        }
        for host in bad {
            let reply = surface.ask("GET", route, &[&format!("host: {host}")]).await;
            assert!(matches!(reply.code, 400 | 403), "{route} by {host}: {}", reply.code);
            assert_reveals_nothing(&reply, host);
        }
        let without = surface.ask("GET", route, &[]).await;
        assert!(matches!(without.code, 400 | 403), "{route}: {}", without.code);
        let twice = surface.ask("GET", route, &["host: localhost", "host: example.com"]).await;
        assert!(matches!(twice.code, 400 | 403), "{route}: {}", twice.code);
    }
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_on_every_route() {
    let surface = Surface::start().await;
    surface.vitals.set_policy_loaded(true);
    surface.vitals.set_outputs_written(true);
    let host = format!("host: {}", surface.address);
    let own = format!("origin: http://{}", surface.address);
    let own_tls = format!("origin: https://{}", surface.address);
    let good = [own.as_str(), &own_tls, "sec-fetch-site: same-origin", "sec-fetch-site: none"];
    let bad = [
        "origin: null",
        "origin: http://example.com",
        "origin: http://localhost:3000",
        "origin: http://127.0.0.1",
        "origin: file://",
        "origin: chrome-extension://abcdef",
        "origin:",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site",
        "sec-fetch-site: nonsense",
        "sec-fetch-site: none\r\nsec-fetch-site: cross-site",
        "origin: http://example.com\r\nsec-fetch-site: same-origin",
    ];
    for route in ROUTES {
        let method = if route == "/events" { "HEAD" } else { "GET" };
        for header in good {
            let reply = surface.ask(method, route, &[&host, header]).await;
            assert_eq!(reply.code, admitted(route), "{route} with {header}");
        }
        for header in bad {
            for method in ["GET", "HEAD", "OPTIONS", "POST"] {
                let reply = surface.ask(method, route, &[&host, header]).await;
                assert_eq!(reply.code, 403, "{method} {route} with {header}");
                assert_eq!(reply.header("access-control-allow-origin"), None);
                assert_reveals_nothing(&reply, header);
            }
        }
    }
}

#[tokio::test]
async fn nothing_but_reading_is_possible() {
    let surface = Surface::start().await;
    let host = format!("host: {}", surface.address);
    for route in ROUTES.into_iter().filter(|route| *route != "/unknown") {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"] {
            let reply = surface.ask(method, route, &[&host]).await;
            assert_eq!(reply.code, 405, "{method} {route}");
            assert_eq!(reply.header("allow"), Some("get, head"), "{method} {route}");
        }
        let request = format!("GET {route} HTTP/1.1\r\n{host}\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(surface.raw(request.as_bytes()).await.code, 413, "{route}");
    }
}

#[tokio::test]
async fn only_exact_paths_exist() {
    let surface = Surface::start().await;
    for target in [
        "/status/",
        "//status",
        "/Status",
        "/%73tatus",
        "/./status",
        "/x/../status",
        "/status;x",
        "/metrics%00",
        "/healthz/..",
        "/index.html",
        "/favicon.ico",
        "/.git/config",
    ] {
        assert_eq!(surface.get(target).await.code, 404, "{target}");
    }
    let long = format!("/status?{}", "x".repeat(2000));
    assert_eq!(surface.get(&long).await.code, 414);
}

#[tokio::test]
async fn the_absolute_form_must_name_us_too() {
    let surface = Surface::start().await;
    let host = format!("host: {}", surface.address);
    let own = format!("http://{}/status", surface.address);
    assert_eq!(surface.ask("GET", &own, &[&host]).await.code, 200);
    assert_eq!(surface.ask("GET", "http://example.com/status", &[&host]).await.code, 403);
}

#[tokio::test]
async fn every_answer_tells_the_browser_to_trust_it_with_nothing() {
    let surface = Surface::start().await;
    for route in ROUTES.into_iter().filter(|route| *route != "/events") {
        let reply = surface.get(route).await;
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{route}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{route}");
        assert_eq!(reply.header("x-frame-options"), Some("deny"), "{route}");
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"), "{route}");
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';"), "{route}: {policy}");
        assert!(!policy.contains("unsafe"), "{route}: {policy}");
    }
}
