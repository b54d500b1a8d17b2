//! One file a protocol over one dialler.
