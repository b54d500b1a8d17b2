//! An HTTP/2 peer that sends whatever bytes a test wants, and the frames to make them of.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::PATIENT;

/// What is sent once the request has come: this, then that again and again.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) begin: Vec<u8>,
    pub(super) repeat: Vec<u8>,
}

impl Script {
    /// These bytes, and then silence.
    pub(super) const fn once(begin: Vec<u8>) -> Self {
        Self { begin, repeat: Vec::new() }
    }
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    sent: AtomicUsize,
    cut: AtomicUsize,
}

/// A running peer; stops when dropped.
#[derive(Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub(super) fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port");
        let seen = Arc::new(Seen::default());
        let known = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if known.stop.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever hangs up ends its own connection only.
                drop(stream.and_then(|stream| talk(stream, &script, &known)));
                known.cut.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    pub(super) const fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn sent(&self) -> u64 {
        u64::try_from(self.seen.sent.load(Ordering::SeqCst)).expect("a length fits")
    }

    /// Waits until a connection has ended.
    pub(super) async fn wait_until_cut(&self) {
        let cut = async {
            while self.seen.cut.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENT, cut).await.expect("the connection ends");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn talk(mut stream: TcpStream, script: &Script, seen: &Seen) -> std::io::Result<()> {
    // A test that fails must not hang in its own peer.
    stream.set_read_timeout(Some(PATIENT))?;
    stream.set_write_timeout(Some(PATIENT))?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    read_request(&mut stream)?;
    stream.write_all(&script.begin)?;
    seen.sent.fetch_add(script.begin.len(), Ordering::SeqCst);
    let burst = script.repeat.repeat(64);
    while !burst.is_empty() && !seen.stop.load(Ordering::SeqCst) {
        let count = stream.write(&burst)?;
        // Cut within a burst, the frames go on where they were.
        stream.write_all(&burst[count..])?;
        seen.sent.fetch_add(burst.len(), Ordering::SeqCst);
    }
    let mut rest = [0; 1024];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}

/// Reads the preface, and frames until the head of a request.
fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24])?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = head[..3].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        stream.read_exact(&mut vec![0; length])?;
        if head[3] == HEADERS {
            return Ok(());
        }
    }
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// `:status: 200`, packed.
pub(super) const OK: u8 = 0x88;

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length fits").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A head or an end, whole.
pub(super) fn headers(block: &[u8], end: bool) -> Vec<u8> {
    frame(HEADERS, 4 | u8::from(end), 1, block)
}

/// A piece of a body.
pub(super) fn data(bytes: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, u8::from(end), 1, bytes)
}

/// A header, packed as it is.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127);
    let lengths = length(name).zip(length(value)).expect("short texts");
    [&[0, lengths.0], name.as_bytes(), &[lengths.1], value.as_bytes()].concat()
}
