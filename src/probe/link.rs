//! A connection for protocols of questions and answers, plain or secure.
//!
//! What was said may meet a peer that has already answered and gone, as servers do that are full:
//! then the answer counts, not the broken pipe.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::core::outcome::Outcome;
use crate::policy::model::{Target, TlsOptions};
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::tls;
use crate::probe::trace::Trace;
use crate::probe::wire::{Meter, Wire};

/// Bytes read from one connection at most.
const READ_MAX: usize = 128 * 1024;
/// Bytes asked for at once.
const PIECE: usize = 1024;

/// A connection with what came over it and is not taken yet.
pub(super) struct Link {
    wire: Wire,
    meter: Arc<Meter>,
    unread: Vec<u8>,
    /// Why the last words did not arrive.
    unheard: Option<Finding>,
}

impl Link {
    /// Connects, by TLS when there are options for it.
    pub(super) async fn open(
        dialler: &Dialler,
        target: &Target,
        options: Option<&TlsOptions>,
        trace: &mut Trace,
    ) -> Step<Self> {
        match options {
            None => Ok(Self::plain(dialler.connect(target, trace).await?)),
            Some(options) => {
                let stream = dialler.connect_tls(target, options, None, trace).await?;
                Ok(Self::secure(stream))
            }
        }
    }

    /// Over a connection that is open already.
    pub(super) fn plain(stream: TcpStream) -> Self {
        let meter = Arc::new(Meter::default());
        Self::new(Wire::new(Box::new(stream), Arc::clone(&meter)), meter)
    }

    /// The same, secured already.
    pub(super) fn secure(stream: TlsStream<TcpStream>) -> Self {
        let meter = Arc::new(Meter::default());
        Self::new(Wire::new(Box::new(stream), Arc::clone(&meter)), meter)
    }

    fn new(wire: Wire, meter: Arc<Meter>) -> Self {
        meter.allow(READ_MAX);
        Self { wire, meter, unread: Vec::new(), unheard: None }
    }

    /// Sends all of this. That the peer has gone is told by the next [`Link::hear`], unless it
    /// left an answer.
    pub(super) async fn say(&mut self, words: &[u8]) -> Step {
        let sent = match self.wire.write_all(words).await {
            Ok(()) => self.wire.flush().await,
            Err(error) => Err(error),
        };
        match sent.map_err(|error| sort(&error)) {
            Err(finding) if finding.outcome == Outcome::Reset => {
                self.unheard.get_or_insert(finding);
                Ok(())
            }
            other => other,
        }
    }

    /// Waits until `read` finds an answer in what has come; it also says how many bytes that took.
    pub(super) async fn hear<T>(
        &mut self,
        trace: &mut Trace,
        mut read: impl FnMut(&[u8]) -> Step<Option<(T, usize)>>,
    ) -> Step<T> {
        loop {
            if let Some((answer, used)) = read(&self.unread)? {
                self.unread.drain(..used.min(self.unread.len()));
                return Ok(answer);
            }
            self.more(trace).await?;
        }
    }

    /// Says these last words and closes, as far as that can be done at once: the verdict stands,
    /// whether or not they arrive.
    pub(super) async fn part(mut self, words: &[u8]) {
        let parting = async {
            self.wire.write_all(words).await?;
            self.wire.shutdown().await
        };
        tokio::select! {
            biased;
            _told = parting => {}
            () = std::future::ready(()) => {}
        }
    }

    async fn more(&mut self, trace: &mut Trace) -> Step {
        if self.meter.exhausted() {
            return Err(Finding::protocol("answer has no end"));
        }
        self.unread.reserve(PIECE);
        let came = self.wire.read_buf(&mut self.unread).await;
        if let Some(moment) = self.meter.first_byte() {
            trace.first_byte_at(moment);
        }
        match came {
            Ok(0) => Err(self.gone()),
            Ok(_) => Ok(()),
            Err(error) => Err(sort(&error)),
        }
    }

    /// How it is told that the peer has closed.
    fn gone(&mut self) -> Finding {
        self.unheard.take().unwrap_or_else(|| {
            Finding::cut(if self.meter.first_byte().is_some() {
                "connection closed before the answer was complete"
            } else {
                "connection closed without an answer"
            })
        })
    }

    /// Says goodbye as far as that works at once: the verdict stands, whatever becomes of it.
    pub(super) async fn leave(mut self, farewell: &[u8]) {
        let goodbye = async {
            if self.wire.write_all(farewell).await.is_ok() {
                self.wire.shutdown().await.ok();
            }
        };
        tokio::select! {
            biased;
            () = goodbye => {}
            () = std::future::ready(()) => {}
        }
    }
}

fn sort(error: &io::Error) -> Finding {
    tls::sort(error).unwrap_or_else(|| Finding::from_io(error))
}
