//! Marks a text of a server with the process that it comes from.
//!
//! Cursors and request states are opaque to the client, so it hands them back as they are; the
//! mark then tells whose they were.

use crate::output::child::session::Generation;

/// The text as the client sees it.
pub(super) fn wrap(generation: Generation, text: &str) -> String {
    format!("mf{generation}:{text}")
}

/// Whose it is, and as the server wrote it; `None` when it does not come from us.
pub(super) fn unwrap(text: &str) -> Option<(Generation, &str)> {
    let (generation, text) = text.strip_prefix("mf")?.split_once(':')?;
    Some((Generation::new(generation.parse().ok()?), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_off_as_it_was_put_on() {
        let generation = Generation::new(7);
        for text in ["", "abc", "mf3:x", "a:b"] {
            assert_eq!(unwrap(&wrap(generation, text)), Some((generation, text)));
        }
        for foreign in ["", "mf", "mfx:y", "eyJ:", "7:x"] {
            assert_eq!(unwrap(foreign), None);
        }
    }
}
