//! An event stream (`text/event-stream`), fed piece by piece as it comes off the wire. Pure.
//!
//! Only `data` matters here. What a stream may look like is the HTML standard's business, and
//! servers use all of it: lines end with `\n`, `\r\n` or `\r`, an event's data may span lines,
//! `id`, `event`, `retry` and comments come and go, and an event may have no data at all.

/// Bytes of one event, its line under way included.
pub(super) const EVENT_MAX: usize = 1024 * 1024;

/// A byte order mark, which a stream may begin with.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// An event is longer than anybody reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLong;

/// What was read of a stream so far.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The last byte was a `\r`: a `\n` right after it belongs to the same line end.
    returned: bool,
    begun: bool,
}

impl Events {
    /// The data of every event that this piece completes; events without data are left out.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut complete = Vec::new();
        for &byte in piece {
            let second = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if second => {}
                b'\n' | b'\r' => complete.extend(self.end_line()),
                _ if self.line.len() + self.data.len() >= EVENT_MAX => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(complete)
    }

    /// The event that a stream broke off in, if it is worth a look: not every server ends its last
    /// one with an empty line.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        let ended = self.end_line();
        ended.or_else(|| self.end_event())
    }

    /// An empty line ends the event.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(MARK).unwrap_or(&line) } else { &line };
        if line.is_empty() {
            return self.end_event();
        }
        if let Some(value) = value_of_data(line) {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        None
    }

    fn end_event(&mut self) -> Option<Vec<u8>> {
        let data = std::mem::take(&mut self.data);
        (!data.is_empty()).then_some(data)
    }
}

/// The value of a line whose field is `data`; one space after the colon does not belong to it.
fn value_of_data(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest.strip_prefix(b":") {
        Some(value) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        None => rest.is_empty().then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mut events = Events::default();
        let found = events.feed(text.as_bytes()).unwrap();
        found.into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn lines_end_in_each_of_the_three_ways() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("event: message{end}data: one{end}{end}data: two{end}{end}");
            assert_eq!(read(&text), ["one", "two"], "{end:?}");
        }
    }

    #[test]
    fn an_event_without_data_is_none() {
        assert_eq!(read("id: 7\ndata: \n\nid: 8\n\nretry: 5\n\ndata: x\n\n"), ["x"]);
    }

    #[test]
    fn data_may_span_lines() {
        assert_eq!(read("data: {\"a\":\ndata: 1}\n\n"), ["{\"a\":\n1}"]);
    }

    #[test]
    fn comments_other_fields_and_the_mark_are_passed_over() {
        assert_eq!(read("\u{feff}data: a\n: ping\ndatum: b\nid\nevent:x\n\n: ping\n\n"), ["a"]);
        assert_eq!(read("data:no space\n\ndata:  two\n\ndata\n\n"), ["no space", " two"]);
    }

    #[test]
    fn a_stream_may_break_off_without_an_empty_line() {
        for text in ["data: x", "data: x\n", "data: x\r"] {
            let mut events = Events::default();
            assert_eq!(events.feed(text.as_bytes()), Ok(Vec::new()));
            assert_eq!(events.finish().as_deref(), Some(b"x".as_slice()), "{text:?}");
        }
        assert_eq!(Events::default().finish(), None);
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut events = Events::default();
        let flood = vec![b'x'; EVENT_MAX + 1];
        assert_eq!(events.feed(&flood), Err(TooLong));
        let mut events = Events::default();
        let lines = b"data: x\n".repeat(EVENT_MAX);
        assert_eq!(events.feed(&lines), Err(TooLong));
    }

    proptest! {
        #[test]
        fn how_a_stream_is_cut_up_does_not_matter(
            text in "(data: ?|id: 1|: c|x|\\{|\n|\r|\r\n){0,40}",
            cuts in proptest::collection::vec(1_usize..9, 1..40),
        ) {
            let mut whole = Events::default();
            let mut expected = whole.feed(text.as_bytes()).unwrap();
            expected.extend(whole.finish());
            let (mut events, mut found, mut rest) = (Events::default(), Vec::new(), text.as_bytes());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                found.extend(events.feed(piece).unwrap());
                rest = left;
            }
            found.extend(events.finish());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut events = Events::default();
            let found = events.feed(&bytes).unwrap();
            let total: usize = found.iter().map(Vec::len).sum();
            prop_assert!(total <= bytes.len());
            let rest = events.finish().map_or(0, |data| data.len());
            prop_assert!(total + rest <= bytes.len());
        }
    }
}
