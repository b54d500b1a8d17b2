//! Values that must not be seen.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A value that may come from a variable or a secret file.
///
/// It has no `Display` and no `Serialize`; `Debug` hides it; the memory is wiped when the last
/// clone goes. Only outputs and probes call [`Secret::expose`].
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes a value into custody.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Arc::new(Zeroizing::new(value)))
    }

    /// The value itself: only for the wire and for outputs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value.to_owned())
    }
}
