//! A plain HTTP caller, and upstreams that are told byte by byte what to do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::rig::PATIENCE;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends bytes on a fresh connection, and reads one answer; `None` when none comes.
pub(super) fn send(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(bytes).ok()?;
    read_answer(&mut BufReader::new(stream))
}

/// `GET` with further header lines.
pub(super) fn get(address: SocketAddr, path: &str, lines: &str) -> Option<Answer> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n");
    send(address, head.as_bytes())
}

/// `POST` with a JSON body.
pub(super) fn post(address: SocketAddr, path: &str, body: &str) -> Option<Answer> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    send(address, head.as_bytes())
}

/// Head and headers of one message, in lower case.
pub(super) fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some((first.trim_end().to_owned(), headers));
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// One answer with its whole body.
pub(super) fn read_answer(reader: &mut impl BufRead) -> Option<Answer> {
    let (first, headers) = read_head(reader)?;
    let status = first.split(' ').nth(1)?.parse().ok()?;
    let body = read_body(reader, &headers)?;
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A body by its framing; `None` when it breaks off.
pub(super) fn read_body(
    reader: &mut impl BufRead,
    headers: &[(String, String)],
) -> Option<Vec<u8>> {
    let of = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, v)| v);
    let mut body = Vec::new();
    if of("transfer-encoding").is_some() {
        loop {
            let chunk = read_chunk(reader)?;
            if chunk.is_empty() {
                return Some(body);
            }
            body.extend(chunk);
        }
    }
    let length: u64 = of("content-length").map_or(Some(0), |text| text.parse().ok())?;
    reader.take(length).read_to_end(&mut body).ok()?;
    (u64::try_from(body.len()).ok()? == length).then_some(body)
}

/// One chunk; empty at the end, `None` when the body breaks off.
pub(super) fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk).ok()?;
    chunk.truncate(length);
    Some(chunk)
}

/// An upstream whose every connection is handled by a function in a thread of its own.
#[derive(Debug)]
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
}

impl Scripted {
    /// Runs `script` for each connection, until the test's process ends.
    pub(super) fn start(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(stream));
            }
        });
        Self { address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
