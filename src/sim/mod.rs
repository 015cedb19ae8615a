//! The other side of every driver: simulated batteries.
//!
//! A [`Responder`] is pure: bytes of a request in, bytes of the answer out. `serve` puts it on a
//! pseudo-terminal, a TCP port or a link in memory.

/// The battery's side of a protocol, for one address on a bus.
pub trait Responder: Send {
    /// What the battery says when these bytes came along the line, and nothing when they were not
    /// for it. `seconds` is the simulated time since the start.
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>>;
}
