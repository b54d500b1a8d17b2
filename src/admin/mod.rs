//! Read-only HTTP and the operators' control socket.
