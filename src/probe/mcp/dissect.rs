//! Everything that is done with a server's bytes, done at once: for fuzzing.

use hyper::StatusCode;
use hyper::header::HeaderMap;

use crate::policy::model::McpExpect;
use crate::probe::mcp::message::{Ask, Found, Reply, find};
use crate::probe::mcp::reading::{Answer, Content, read};
use crate::probe::mcp::result::{self, Tools};
use crate::probe::mcp::sse::Events;

/// The id of the request that is looked for.
const ID: u64 = 7;

/// Reads the bytes as an event stream in pieces of this size, and as one message; takes every
/// reply for the answer to each question. Says how many replies there were.
pub(in crate::probe) fn dissect(bytes: &[u8], piece: usize) -> usize {
    let mut events = Events::default();
    let mut texts = vec![bytes.to_vec()];
    for piece in bytes.chunks(piece.max(1)) {
        let Ok(complete) = events.feed(piece) else { break };
        texts.extend(complete);
    }
    texts.extend(events.finish());
    let mut replies = 0;
    for text in texts {
        if let Found::Reply(reply) = find(&text, ID) {
            replies += 1;
            question(&reply);
        }
    }
    replies
}

fn question(reply: &Reply) {
    let page = Ask::Tools { cursor: None };
    for ask in [Ask::Discover, Ask::Initialize, Ask::Initialized, Ask::Ping, page] {
        for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND] {
            let content = Content::Reply(reply.clone());
            let answer = Answer { status, headers: HeaderMap::new(), content };
            // Only that it is survived matters here.
            drop(read(&ask, true, answer));
        }
    }
    let Reply::Result(found) = reply else { return };
    let expect = McpExpect {
        tools: vec!["greet".to_owned()],
        server: Some("a".to_owned()),
        ..McpExpect::default()
    };
    drop(result::discovered(found, &expect));
    drop(result::initialized(found, &expect));
    if let Some(mut tools) = Tools::expected(&expect) {
        drop(tools.turn(found));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_are_found_in_either_form() {
        let reply = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"a"}]}}"#;
        assert_eq!(dissect(reply.as_bytes(), 3), 1);
        assert_eq!(dissect(format!("data: {reply}\n\ndata: {reply}\n\n").as_bytes(), 5), 2);
        assert_eq!(dissect(b"", 0), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_survived(
            bytes in proptest::collection::vec(any::<u8>(), 0..800),
            piece in 0_usize..64,
        ) {
            dissect(&bytes, piece);
        }

        #[test]
        fn so_is_almost_json(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("{"), Just("}"), Just("["), Just("]"), Just(":"), Just(","), Just("\""),
                    Just("\n"), Just("data: "), Just("\"jsonrpc\":\"2.0\""), Just("\"id\":7"),
                    Just("\"result\":"), Just("\"error\":"), Just("\"code\":-32022"),
                    Just("\"tools\":"), Just("\"name\":"), Just("1e999"), Just("\\u0000"), Just("null"),
                ],
                0..60,
            ),
            piece in 1_usize..16,
        ) {
            dissect(parts.concat().as_bytes(), piece);
        }
    }
}
