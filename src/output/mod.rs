//! Where the active configuration goes.
