//! Rules of the engine, by theme, in virtual time.

mod moving;
mod world;
