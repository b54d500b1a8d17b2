//! Events over SSE: order, resumption, and readers who do not read.

use std::time::Duration;

use mcp_failover::admin::http::Limits;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fixture::{self, DEADLINE, Surface};

/// An open event stream.
struct Stream {
    reader: BufReader<TcpStream>,
}

/// One block of the stream.
#[derive(Debug, Default, PartialEq)]
struct Block {
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
    comment: bool,
}

impl Stream {
    async fn open(surface: &Surface, target: &str, last_id: Option<&str>) -> Self {
        let mut stream = surface.connect().await;
        let last = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let host = surface.address;
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.expect("taken");
        let mut stream = Self { reader: BufReader::new(stream) };
        let head = stream.lines_until_empty().await;
        assert!(head[0].starts_with("HTTP/1.1 200"), "{head:?}");
        assert!(head.contains(&String::from("content-type: text/event-stream")), "{head:?}");
        let hello = stream.block().await;
        assert_eq!(hello, Block::default(), "the first block only sets the retry time");
        stream
    }

    async fn lines_until_empty(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = timeout(DEADLINE, self.reader.read_line(&mut line)).await.expect("in time");
            assert_ne!(read.expect("a line"), 0, "the stream ended after {lines:?}");
            if line.trim().is_empty() {
                return lines;
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    /// The next block; chunk sizes of the transfer coding stand between.
    async fn block(&mut self) -> Block {
        loop {
            let lines = self.lines_until_empty().await;
            let field = |name: &str| {
                lines.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            let block = Block {
                id: field("id: "),
                event: field("event: "),
                data: field("data: "),
                comment: lines.iter().any(|line| line.starts_with(':')),
            };
            let is_hello = lines.iter().any(|line| line.starts_with("retry: "));
            if is_hello || block != Block::default() {
                return block;
            }
        }
    }

    async fn next(&mut self) -> (String, u64) {
        loop {
            let block = self.block().await;
            if block.comment {
                continue;
            }
            let data: serde_json::Value =
                serde_json::from_str(&block.data.expect("data")).expect("a record");
            assert_eq!(data["schema"], 1);
            return (block.id.expect("an id"), data["seq"].as_u64().expect("a number"));
        }
    }

    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            seqs.push(self.next().await.1);
        }
        seqs
    }
}

#[tokio::test]
async fn a_reader_hears_events_and_resumes_where_it_stopped() {
    let surface = Surface::start().await;
    (1..=3).for_each(|seq| surface.hub.publish(fixture::event(seq)));
    let mut first = Stream::open(&surface, "/events?last=2", None).await;
    assert_eq!(first.seqs(1).await, [2]);
    let (id, seq) = first.next().await;
    assert_eq!(seq, 3);
    drop(first);
    (4..=6).for_each(|seq| surface.hub.publish(fixture::event(seq)));
    let mut second = Stream::open(&surface, "/events?last=2", Some(&id)).await;
    surface.hub.publish(fixture::event(7));
    assert_eq!(second.seqs(4).await, [4, 5, 6, 7], "neither a gap nor a repetition");
}

#[tokio::test]
async fn without_a_wish_only_new_events_are_told() {
    let surface = Surface::start().await;
    surface.hub.publish(fixture::event(1));
    let mut stream = Stream::open(&surface, "/events", None).await;
    surface.hub.publish(fixture::event(2));
    assert_eq!(stream.seqs(1).await, [2]);
}

#[tokio::test]
async fn what_is_no_longer_known_is_told_as_a_gap() {
    let surface = Surface::start().await;
    (1..=300).for_each(|seq| surface.hub.publish(fixture::event(seq)));
    for id in ["0-1", "nonsense", "ffffffff-299"] {
        let mut stream = Stream::open(&surface, "/events", Some(id)).await;
        assert_eq!(stream.block().await.event.as_deref(), Some("gap"), "{id}");
        assert_eq!(stream.seqs(1).await, [45], "the oldest remembered, for {id}");
    }
}

#[tokio::test]
async fn a_quiet_stream_shows_signs_of_life() {
    let limits = Limits { heartbeat: Duration::from_millis(20), ..Limits::default() };
    let surface = Surface::start_with(limits).await;
    let mut stream = Stream::open(&surface, "/events", None).await;
    assert!(stream.block().await.comment);
}

#[tokio::test]
async fn nonsense_is_refused() {
    let surface = Surface::start().await;
    for query in ["last=x", "last=257", "since=1", "last"] {
        assert_eq!(surface.get(&format!("/events?{query}")).await.code, 400, "{query}");
    }
}

#[tokio::test]
async fn streams_never_take_every_place() {
    let limits = Limits { streams: 2, ..Limits::default() };
    let surface = Surface::start_with(limits).await;
    let first = Stream::open(&surface, "/events", None).await;
    let _second = Stream::open(&surface, "/events", None).await;
    assert_eq!(surface.get("/events").await.code, 503);
    assert_eq!(surface.get("/healthz").await.code, 200);
    drop(first);
    // The place is free again once the server has noticed.
    let reopened = async {
        loop {
            let request = format!("GET /events HTTP/1.1\r\nhost: {}\r\n\r\n", surface.address);
            let mut stream = surface.connect().await;
            stream.write_all(request.as_bytes()).await.expect("taken");
            let mut code = [0; 12];
            stream.read_exact(&mut code).await.expect("an answer");
            if &code == b"HTTP/1.1 200" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, reopened).await.expect("a place");
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_dropped_and_delays_nobody() {
    let limits = Limits { stall: Duration::from_millis(200), ..Limits::default() };
    let surface = Surface::start_with(limits).await;
    let slow = Stream::open(&surface, "/events", None).await;
    let mut quick = Stream::open(&surface, "/events", None).await;
    // Far more than the socket's buffers hold; publishing never waits for either reader.
    for seq in 1..=10_000 {
        surface.hub.publish(fixture::event(seq));
        if seq % 100 == 0 {
            assert_eq!(quick.seqs(100).await.last(), Some(&seq));
        }
    }
    let mut slow = slow.reader.into_inner();
    let mut heard = Vec::new();
    let ended = timeout(DEADLINE, slow.read_to_end(&mut heard)).await.expect("it is dropped");
    let last = format!("\"seq\":{}", 10_000);
    assert!(!String::from_utf8_lossy(&heard).contains(&last), "it cannot have kept up: {ended:?}");
    assert_eq!(surface.get("/healthz").await.code, 200);
}
