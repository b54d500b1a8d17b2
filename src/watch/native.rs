//! Kernel events, as hints that it is time to look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::watch::hops::Places;

/// After a failure to start, how many looks pass before the next attempt.
const PATIENCE: u32 = 30;

/// The kernel's watches on a set of places. What it misses, the regular looks find.
#[derive(Debug)]
pub(super) struct Native {
    watcher: Option<RecommendedWatcher>,
    watched: Places,
    hint: Arc<Notify>,
    moved: Arc<AtomicBool>,
    wait: u32,
    failure: Option<String>,
}

impl Native {
    pub(super) fn new(hint: Arc<Notify>) -> Self {
        let moved = Arc::new(AtomicBool::new(false));
        Self { watcher: None, watched: Places::new(), hint, moved, wait: 0, failure: None }
    }

    /// Watches exactly these places. Returns why some could not be watched.
    pub(super) fn sync(&mut self, wanted: Places) -> Option<&str> {
        self.start();
        // The library drops watches of its own accord when something is moved or removed, so what
        // we believe to be watched is worth nothing from then on.
        if self.moved.swap(false, Ordering::AcqRel) {
            self.drop_all();
        }
        let Some(watcher) = self.watcher.as_mut() else { return self.failure.as_deref() };
        self.failure = None;
        self.watched.retain(|node, path| {
            let keep = wanted.get(node) == Some(path);
            if !keep {
                drop(watcher.unwatch(path));
            }
            keep
        });
        for (node, path) in wanted {
            if self.watched.contains_key(&node) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(node, path)),
                Err(error) => note(&mut self.failure, &error),
            }
        }
        self.failure.as_deref()
    }

    fn start(&mut self) {
        if self.watcher.is_some() {
            return;
        }
        if let Some(less) = self.wait.checked_sub(1) {
            self.wait = less;
            return;
        }
        let (hint, moved) = (Arc::clone(&self.hint), Arc::clone(&self.moved));
        match notify::recommended_watcher(move |event| on_event(&event, &hint, &moved)) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                self.wait = PATIENCE;
                self.failure = None;
                note(&mut self.failure, &error);
            }
        }
    }

    fn drop_all(&mut self) {
        let watched = std::mem::take(&mut self.watched);
        if let Some(watcher) = self.watcher.as_mut() {
            for path in watched.values() {
                drop(watcher.unwatch(path));
            }
        }
    }
}

fn on_event(event: &notify::Result<notify::Event>, hint: &Notify, moved: &AtomicBool) {
    let kind = event.as_ref().map_or(EventKind::Other, |event| event.kind);
    match kind {
        // Our own reading makes these; only the end of somebody's writing is news.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) | EventKind::Other => {
            moved.store(true, Ordering::Release);
        }
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) => {}
    }
    hint.notify_one();
}

/// Keeps the first failure, in words that a person can act on.
fn note(failure: &mut Option<String>, error: &notify::Error) {
    let why = match &error.kind {
        // It vanished since we saw it; the next look finds what took its place.
        ErrorKind::PathNotFound | ErrorKind::WatchNotFound => return,
        ErrorKind::MaxFilesWatch => {
            "no inotify watches are left; raise fs.inotify.max_user_watches".to_owned()
        }
        ErrorKind::Io(error) => match rustix::io::Errno::from_io_error(error) {
            Some(rustix::io::Errno::MFILE) => {
                "no inotify instances are left; raise fs.inotify.max_user_instances".to_owned()
            }
            Some(rustix::io::Errno::NOENT) => return,
            Some(_) | None => error.to_string(),
        },
        ErrorKind::Generic(why) => why.clone(),
        ErrorKind::InvalidConfig(_) => error.to_string(),
    };
    failure.get_or_insert(why);
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
