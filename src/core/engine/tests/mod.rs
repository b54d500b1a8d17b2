//! Rules of the engine, by theme, in virtual time.

mod at_scale;
mod crowded;
mod effective;
mod failing_back;
mod isolated;
mod leasing;
mod moving;
mod ordered;
mod outages;
mod probing;
mod properties;
mod reloading;
mod restarting;
mod starting;
mod telling;
mod world;
