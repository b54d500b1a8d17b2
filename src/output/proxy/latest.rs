//! The latest of something that is read with every call and replaced now and then.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Shows the latest value. Nobody holds the lock for longer than a copy of the pointer takes.
#[derive(Default)]
pub(super) struct Latest<T>(Mutex<Arc<T>>);

impl<T> Latest<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    /// The latest value; it stays as it is for whoever holds it.
    pub(super) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces it.
    pub(super) fn store(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T: fmt::Debug> fmt::Debug for Latest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
