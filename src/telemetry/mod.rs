//! Metric catalogue and logs.
