//! Wires everything: driver, dispatch, lifecycle.
