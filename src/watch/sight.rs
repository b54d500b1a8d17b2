//! What is known of one watched file, and what a look at it adds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::watch::event::SourceEvent;
use crate::watch::read::{
    Digest, POLICY_LIMIT, Print, ReadError, SECRET_LIMIT, digest, load, read_bytes,
};

/// How a look is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// Bad news may be a moment between two steps of a writer: do not tell it yet.
    Patient,
    /// Bad news has lasted: tell it.
    Firm,
    /// Somebody asked: tell whatever there is.
    Forced,
}

/// What a look brought.
#[derive(Debug)]
pub(super) enum Glance<T> {
    /// Nothing to tell.
    Same,
    /// Bad news that was held back: look again soon.
    Again,
    /// News.
    News(T),
}

/// Decides whether a file must be read, by what the file system says of it.
///
/// Two writes within one tick of the file system's clock leave the same [`Print`], so a new print
/// is believed only once the file was read again at a later look.
#[derive(Debug, Default)]
struct Freshness {
    print: Option<Print>,
    believed: bool,
}

impl Freshness {
    fn is_known(&self, now: &Print) -> bool {
        self.believed && self.print.as_ref() == Some(now)
    }

    fn note(&mut self, read: Print) {
        self.believed = self.print == Some(read);
        self.print = Some(read);
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The policy file.
#[derive(Debug)]
pub(super) struct PolicySight {
    path: PathBuf,
    fresh: Freshness,
    told: Option<Digest>,
    trouble: Option<Trouble>,
}

#[derive(Debug, Eq, PartialEq)]
enum Trouble {
    Missing,
    Unreadable(String),
}

impl Trouble {
    fn of(error: &ReadError) -> Self {
        match error {
            ReadError::Missing { .. } => Self::Missing,
            ReadError::NotAFile { .. }
            | ReadError::TooLarge { .. }
            | ReadError::NotUtf8 { .. }
            | ReadError::Changing { .. }
            | ReadError::Io { .. } => Self::Unreadable(error.explain()),
        }
    }

    fn event(&self) -> SourceEvent {
        match self {
            Self::Missing => SourceEvent::Missing,
            Self::Unreadable(why) => SourceEvent::Unreadable(why.clone()),
        }
    }
}

impl PolicySight {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, fresh: Freshness::default(), told: None, trouble: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn look(&mut self, look: Look) -> Glance<Vec<SourceEvent>> {
        match self.read(look) {
            Ok(None) => Glance::Same,
            Ok(Some((text, digest))) => self.tell(text, digest, look),
            Err(error) => self.complain(&error, look),
        }
    }

    fn read(&mut self, look: Look) -> Result<Option<(Arc<str>, Digest)>, ReadError> {
        let known = self.fresh.is_known(&Print::take(&self.path)?);
        if known && look != Look::Forced && self.trouble.is_none() {
            return Ok(None);
        }
        let (bytes, print) = read_bytes(&self.path, POLICY_LIMIT)?;
        let loaded = load(&self.path, &bytes)?;
        self.fresh.note(print);
        Ok(Some((loaded.text, loaded.digest)))
    }

    fn tell(&mut self, text: Arc<str>, digest: Digest, look: Look) -> Glance<Vec<SourceEvent>> {
        let mut news = Vec::new();
        if self.trouble.take().is_some() {
            news.push(SourceEvent::Restored);
        }
        let forced = look == Look::Forced;
        if forced || self.told != Some(digest) {
            self.told = Some(digest);
            news.push(SourceEvent::Changed { text, digest, forced });
        }
        if news.is_empty() { Glance::Same } else { Glance::News(news) }
    }

    fn complain(&mut self, error: &ReadError, look: Look) -> Glance<Vec<SourceEvent>> {
        self.fresh.forget();
        let trouble = Trouble::of(error);
        if self.trouble.as_ref() == Some(&trouble) && look != Look::Forced {
            return Glance::Same;
        }
        if look == Look::Patient {
            return Glance::Again;
        }
        let event = trouble.event();
        self.trouble = Some(trouble);
        Glance::News(vec![event])
    }
}

/// A secret file.
#[derive(Debug)]
pub(super) struct SecretSight {
    fresh: Freshness,
    known: Known,
}

#[derive(Debug, Eq, PartialEq)]
enum Known {
    Nothing,
    Unreadable,
    Holds(Digest),
}

impl SecretSight {
    /// Takes whatever the first look finds as already known.
    pub(super) fn new() -> Self {
        Self { fresh: Freshness::default(), known: Known::Nothing }
    }

    /// Takes what somebody else saw as known; `None` when it could not be read.
    pub(super) fn seen(digest: Option<Digest>) -> Self {
        let known = digest.map_or(Known::Unreadable, Known::Holds);
        Self { fresh: Freshness::default(), known }
    }

    pub(super) fn look(&mut self, path: &Path, look: Look) -> Glance<()> {
        let now = match self.read(path) {
            Ok(None) => return Glance::Same,
            Ok(Some(digest)) => Known::Holds(digest),
            Err(_) if look == Look::Patient && matches!(self.known, Known::Holds(_)) => {
                self.fresh.forget();
                return Glance::Again;
            }
            Err(_) => {
                self.fresh.forget();
                Known::Unreadable
            }
        };
        let before = std::mem::replace(&mut self.known, now);
        if before == Known::Nothing || before == self.known {
            return Glance::Same;
        }
        Glance::News(())
    }

    fn read(&mut self, path: &Path) -> Result<Option<Digest>, ReadError> {
        if self.fresh.is_known(&Print::take(path)?) {
            return Ok(None);
        }
        let (bytes, print) = read_bytes(path, SECRET_LIMIT)?;
        self.fresh.note(print);
        Ok(Some(digest(&bytes)))
    }
}

#[cfg(test)]
#[path = "sight_tests.rs"]
mod tests;
