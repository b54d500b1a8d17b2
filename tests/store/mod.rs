//! State and history on disk.
