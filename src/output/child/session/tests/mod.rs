//! The session keeper, row by row of what a change of the process must carry over.

mod hostile;
mod legacy;
mod lifecycle;
mod modern;
mod properties;
mod world;
