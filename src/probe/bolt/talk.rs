//! One Bolt conversation: bytes out, bytes and messages in.

use zeroize::Zeroizing;

use crate::probe::bolt::message::{self, Reply};
use crate::probe::codec::chunk::{self, Assembler, TooLong};
use crate::probe::finding::{Finding, Step};
use crate::probe::link::Link;
use crate::probe::trace::{Stage, Trace};

pub(super) struct Talk<'a> {
    link: Link,
    chunks: Assembler,
    pub(super) trace: &'a mut Trace,
}

impl<'a> Talk<'a> {
    pub(super) fn new(link: Link, trace: &'a mut Trace) -> Self {
        trace.enter(Stage::Answer);
        Self { link, chunks: Assembler::default(), trace }
    }

    /// Sends bytes as they are.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Step {
        self.link.say(bytes).await
    }

    /// Sends messages, all in one go.
    pub(super) async fn say(&mut self, messages: &[&[u8]]) -> Step {
        let total: usize = messages.iter().map(|message| message.len() + 4).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(total));
        for message in messages {
            chunk::frame(message, &mut out);
        }
        self.link.say(&out).await
    }

    /// Reads exactly this many bytes.
    pub(super) async fn exact<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.link.hear(self.trace, |bytes| Ok(bytes.first_chunk().map(|read| (*read, N)))).await
    }

    /// Reads one message.
    pub(super) async fn hear(&mut self) -> Step<Reply> {
        loop {
            let chunks = &mut self.chunks;
            let message = self.link.hear(self.trace, |bytes| take(chunks, bytes)).await?;
            if let Some(message) = message {
                return Reply::read(&message);
            }
        }
    }

    /// Says goodbye, if that can be done at once: the verdict stands.
    pub(super) async fn leave(self) {
        let mut out = Zeroizing::default();
        chunk::frame(&message::goodbye(), &mut out);
        self.link.part(&out).await;
    }
}

/// Takes what has come: the next message, or what there is of it so far.
fn take(chunks: &mut Assembler, bytes: &[u8]) -> Step<Option<(Option<Vec<u8>>, usize)>> {
    let mut rest = bytes;
    let long = |_: TooLong| Finding::protocol("message is too long");
    let message = chunks.take(&mut rest).map_err(long)?;
    Ok((!bytes.is_empty()).then_some((message, bytes.len() - rest.len())))
}
