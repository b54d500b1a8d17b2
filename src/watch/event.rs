//! What the watcher tells.

use std::path::PathBuf;
use std::sync::Arc;

use crate::watch::read::Digest;

/// One thing that happened to the watched files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceEvent {
    /// The policy file holds this text. Told for the first look, for every text that differs from
    /// the last one told, and for every [`crate::watch::Watcher::poke`].
    ///
    /// The text may be half of what an editor is still writing: whoever compiles it tries again
    /// before complaining, and the other half arrives as its own event.
    Changed {
        /// The whole text.
        text: Arc<str>,
        /// SHA-256 of the text.
        digest: Digest,
        /// Whether somebody asked, so that it must be answered even if nothing differs.
        forced: bool,
    },
    /// These secret files hold something else than before, or can no longer be read.
    ExtraChanged(Vec<PathBuf>),
    /// The policy file is gone.
    Missing,
    /// The policy file is there but cannot be used; why, with what to do about it.
    Unreadable(String),
    /// After [`SourceEvent::Missing`] or [`SourceEvent::Unreadable`]: it can be read again. If the
    /// text differs from the last one told, [`SourceEvent::Changed`] follows.
    Restored,
    /// What we see of the policy file will never change again, because it was bind-mounted as a
    /// single file and replaced on the other side; what to do about it.
    StaleBindMount(String),
    /// The policy file is bind-mounted as a single file: edits in place are seen, a replacement by
    /// rename on the other side would not be; what to do about it.
    FragileBindMount(String),
    /// How changes are noticed from now on, and why it is not by events.
    Mode(WatchMode, Option<String>),
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchMode {
    /// By kernel events, within about 0.1 s, and by looking every two seconds.
    Inotify,
    /// By looking every two seconds.
    Poll,
}

impl WatchMode {
    /// Its name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }
}
