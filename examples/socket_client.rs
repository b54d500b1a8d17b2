//! Follows a service over the config socket: `cargo run --example socket_client SOCKET SERVICE`
use std::io::{BufRead, BufReader, Result, Write, stdout};
use std::{env::args, os::unix::net::UnixStream, thread::sleep, time::Duration};

use serde_json::{Value, json};
/// One connection: `using` gets what is active now and after every switch.
fn follow(path: &str, service: &str, latest: &mut Value, using: fn(&Value)) -> Result<()> {
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "{}", json!({ "id": 1, "op": "subscribe", "service": service }))?;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        let [era, seq] = ["gen", "seq"].map(|key| message.get(key));
        let ack = json!({ "op": "ack", "service": service, "gen": era, "seq": seq });
        if let Some(endpoint) = message.get("endpoint").filter(|_| *latest != ack) {
            using(endpoint);
            *latest = ack;
            writeln!(stream, "{latest}")?;
        }
    }
    Ok(())
}

fn main() -> ! {
    let (path, service) = (args().nth(1).unwrap_or_default(), args().nth(2).unwrap_or_default());
    let mut latest = Value::Null; // When the sidecar goes, the last endpoint stays in use.
    loop {
        follow(&path, &service, &mut latest, |new| drop(writeln!(stdout(), "{new}"))).ok();
        sleep(Duration::from_millis(500));
    }
}
