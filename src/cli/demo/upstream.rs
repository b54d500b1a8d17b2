//! An upstream to break and heal: a small HTTP server of our own on loopback.
//!
//! Its port stays its own while it is broken, since a socket that is bound but does not listen
//! refuses connections and keeps anybody else from taking the port.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What an upstream does with those who connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mood {
    /// It serves.
    Healthy,
    /// It refuses connections, and has cut those it had.
    Broken,
    /// It serves after this long.
    Slow(Duration),
}

/// A running upstream; stops when dropped.
#[derive(Debug)]
pub(super) struct Upstream {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts one on a free port, healthy.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) fn start() -> io::Result<Self> {
        let keeper = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = keeper.local_addr()?;
        let (mood, moods) = watch::channel(Mood::Healthy);
        let task = tokio::spawn(serve(keeper, address, moods));
        Ok(Self { address, mood, task })
    }

    /// Where it listens, or would if it were not broken.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does now.
    pub(super) fn mood(&self) -> Mood {
        *self.mood.borrow()
    }

    /// Changes what it does.
    pub(super) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A bound socket that does not listen.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Lets the socket that listens and the one that only keeps the port share it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves by mood; `_keeper` holds the port all the while.
async fn serve(_keeper: TcpSocket, address: SocketAddr, mut moods: watch::Receiver<Mood>) {
    loop {
        let mood = *moods.borrow_and_update();
        let listener = match mood {
            Mood::Broken => None,
            Mood::Healthy | Mood::Slow(_) => {
                bind(address).and_then(|socket| socket.listen(64)).ok()
            }
        };
        tokio::select! {
            changed = moods.changed() => if changed.is_err() { return },
            () = accept(listener, mood) => {}
        }
    }
}

/// Accepts until it is dropped, and with it every connection.
async fn accept(listener: Option<TcpListener>, mood: Mood) {
    let Some(listener) = listener else { return std::future::pending().await };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, mood));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, mood: Mood) {
    let answer = move |_: Request<Incoming>| async move {
        if let Mood::Slow(delay) = mood {
            tokio::time::sleep(delay).await;
        }
        let body = Full::new(Bytes::from_static(b"{\"status\":\"ok\"}\n"));
        let mut response = Response::new(body);
        let kind = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
        Ok::<_, Infallible>(response)
    };
    // A client that leaves early is its own affair.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await);
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_broken_upstream_refuses_and_comes_back_on_its_own_port() {
        let upstream = Upstream::start().expect("a port");
        let address = upstream.address();
        for (mood, open) in [(Mood::Healthy, true), (Mood::Broken, false), (Mood::Healthy, true)] {
            upstream.set(mood);
            assert_eq!(upstream.mood(), mood);
            let reached = async {
                while TcpStream::connect(address).is_ok() != open {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
            reached.expect("the mood is in force");
        }
    }
}
