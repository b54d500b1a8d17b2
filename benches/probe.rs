//! CPU time a probe costs this process, the server's not counted.
//!
//! Run with `cargo bench --bench probe`. The first line is the floor: tokio and hyper doing one
//! request on a fresh connection, with nothing of ours around it. Compare within one run only:
//! what the kernel charges for a connection differs between machines and moments.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{
    Check, ExecCheck, GrpcCheck, HttpCheck, HttpVersion, Probe, Target, TcpCheck, TlsCheck,
    TlsOptions,
};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Prober;
use rustix::time::{ClockId, clock_gettime};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

type Failure = Box<dyn std::error::Error>;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts before counting: first-time costs are not a probe's.
const WARM_UP: u32 = 200;
/// Attempts in one sample.
const SAMPLE: u32 = 500;
/// Samples, of which the median is shown.
const SAMPLES: usize = 9;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";

fn main() -> Result<(), Failure> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let plain = serve(None)?;
    let secure = serve(Some(acceptor(&key)?))?;
    let modern = serve_http2()?;
    let files = tempfile::tempdir()?;
    let socket = files.path().join("http.sock");
    serve_local(&socket)?;
    let local = HttpCheck { socket: Some(socket), ..http(plain, None) };
    let two = HttpCheck { version: HttpVersion::Http2, ..http(modern, None) };
    let tls = TlsOptions {
        server_name: Some("localhost".to_owned()),
        ca_pem: Some(key.cert.pem()),
        ..TlsOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let prober = Prober::new()?;
    show("floor: tokio + hyper", &runtime, || async { floor(plain).await.is_ok() });
    let checks = [
        ("http", Check::Http(Box::new(http(plain, None)))),
        ("http, json looked at", Check::Http(Box::new(expecting_json(http(plain, None))))),
        ("http, kept", kept(http(plain, None))),
        ("http, local socket", Check::Http(Box::new(local))),
        ("http/2", Check::Http(Box::new(two.clone()))),
        ("http/2, kept", kept(two)),
        ("grpc", Check::Grpc(Box::new(grpc(modern, false)))),
        ("grpc, watched", Check::Grpc(Box::new(grpc(modern, true)))),
        ("tcp", Check::Tcp(TcpCheck { target: target(plain), send: None, expect: None })),
        ("https", Check::Http(Box::new(http(secure, Some(tls.clone()))))),
        ("https, kept", kept(http(secure, Some(tls.clone())))),
        ("tls", Check::Tls(TlsCheck { target: target(secure), tls })),
        ("exec /bin/true", Check::Exec(ExecCheck { argv: vec!["true".into()], env: [].into() })),
    ];
    for (name, check) in checks {
        let probe = Probe::new(TIMEOUT, check);
        show(name, &runtime, || async {
            prober.run(&probe, TIMEOUT).await.observation.outcome == Outcome::Ok
        });
    }
    Ok(())
}

/// Prints the median of the samples, in microseconds of CPU an attempt.
#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn show<F: Future<Output = bool>>(
    name: &str,
    runtime: &tokio::runtime::Runtime,
    attempt: impl Fn() -> F,
) {
    let run = |times: u32| {
        runtime.block_on(async {
            for _ in 0..times {
                assert!(black_box(attempt().await), "{name} fails");
            }
        });
    };
    run(WARM_UP);
    let mut samples: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let before = cpu_time();
            run(SAMPLE);
            cpu_time().saturating_sub(before) / SAMPLE
        })
        .collect();
    samples.sort_unstable();
    let [low, median, high] = [0, SAMPLES / 2, SAMPLES - 1]
        .map(|place| samples.get(place).map_or(0, Duration::as_micros));
    println!("{name:<24} {median:>6} µs CPU an attempt   ({low} to {high})");
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

async fn floor(address: SocketAddr) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let served = answer.status() == StatusCode::OK;
    answer.into_body().collect().await?;
    driver.abort();
    if served { Ok(()) } else { Err("not served".into()) }
}

fn target(address: SocketAddr) -> Target {
    Target { host: "127.0.0.1".to_owned(), port: address.port() }
}

fn http(address: SocketAddr, tls: Option<TlsOptions>) -> HttpCheck {
    HttpCheck {
        tls,
        headers: vec![("Api-Key".to_owned(), Secret::from("key"))],
        ..HttpCheck::new(target(address))
    }
}

fn kept(check: HttpCheck) -> Check {
    Check::Http(Box::new(HttpCheck { reuse: true, ..check }))
}

fn grpc(address: SocketAddr, watch: bool) -> GrpcCheck {
    GrpcCheck {
        target: target(address),
        tls: None,
        service: String::new(),
        metadata: Vec::new(),
        watch,
        slow: None,
    }
}

fn expecting_json(mut check: HttpCheck) -> HttpCheck {
    check.expect.json = [("/status".to_owned(), Some("ok".into()))].into();
    check
}

fn acceptor(key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<TlsAcceptor, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Starts a server on a thread of its own, which ends with the process.
fn serve(tls: Option<TlsAcceptor>) -> Result<SocketAddr, Failure> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            tell.send(listener.local_addr()?).ok();
            loop {
                let (stream, _) = listener.accept().await?;
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream).await,
                        Some(tls) => answer(tls.accept(stream).await?).await,
                    }
                });
            }
        })
    });
    Ok(told.recv()?)
}

/// Starts a server on a local socket.
fn serve_local(path: &Path) -> Result<(), Failure> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(answer(stream));
            }
        })
    });
    Ok(())
}

/// Starts a server of HTTP/2, which is healthy by gRPC too.
fn serve_http2() -> Result<SocketAddr, Failure> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            tell.send(listener.local_addr()?).ok();
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(answer_http2(stream));
            }
        })
    });
    Ok(told.recv()?)
}

async fn answer_http2(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut watched = Vec::new();
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let path = request.uri().path().to_owned();
        let health = path.starts_with("/grpc");
        let mut head = Response::new(());
        if health {
            head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        }
        let mut body = respond.send_response(head, false)?;
        if !health {
            body.send_data(Bytes::from_static(b"{\"status\":\"ok\"}"), true)?;
            continue;
        }
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false)?;
        if path.ends_with("Watch") {
            watched.push(body);
        } else {
            let status = ("grpc-status".parse().ok(), HeaderValue::from_static("0"));
            let end = status.0.map(|name| (name, status.1));
            body.send_trailers(end.into_iter().collect())?;
        }
    }
    Ok(())
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}
