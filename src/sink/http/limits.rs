//! The limits of everything that clients can use up: connections, memory, time and work.
//!
//! Ports and the broker need file descriptors, too, and all tasks share one thread with the reads.

use std::time::Duration;

/// Connections at a time. Each has two buffers of 8 kB, which the allocator keeps after a crowd. Beyond
/// a limit of connections the one that has been without a request for longest is replaced, so a crowd
/// that only holds connections excludes no client.
pub const MAX_CONNECTIONS: usize = 32;
/// Of these, the ones that only clients on this machine get: the health check must get through.
pub const RESERVED_CONNECTIONS: usize = 4;
/// Connections of one address, or of one IPv6 network of 64 bits. Behind a proxy, and in Home
/// Assistant, all users have the same one.
pub const MAX_PER_ADDRESS: usize = 20;
/// Clients of `/api/events`. Their connections are never replaced.
pub const MAX_EVENT_CLIENTS: usize = 16;
const _: () = assert!(MAX_EVENT_CLIENTS < MAX_PER_ADDRESS);
const _: () = assert!(MAX_PER_ADDRESS < MAX_CONNECTIONS - RESERVED_CONNECTIONS);

/// A connection without a complete request for this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose client reads nothing for this long is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// An older connection is closed after its response.
pub const MAX_AGE: Duration = Duration::from_secs(600);
/// Longest response, counted from that age; browsers then open a new stream of events.
pub const MAX_RESPONSE_TIME: Duration = Duration::from_secs(3600);
/// Pause after a failure to accept, for example when no descriptor is left.
pub const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);
/// Replaced connections that complete their response. Beyond this number new clients wait.
pub const MAX_REPLACED: usize = 8;
/// Time for a replaced connection to complete its response.
pub const REPLACED_GRACE: Duration = Duration::from_secs(2);

/// Longest head of a request in bytes. It is also the size of the buffers of a connection.
pub const MAX_HEAD: usize = 16 * 1024;
/// Longest body in bytes. The largest one adds the packs of a bus.
pub const MAX_BODY: usize = 16 * 1024;

/// Requests of all clients: this many at once, then one per interval. The others wait for their turn,
/// and a connection has one request at a time, so the longest wait is that of all connections.
pub const REQUEST_BURST: u32 = 200;
pub const REQUEST_INTERVAL: Duration = Duration::from_millis(10);
/// Queries of the history at a time. Each needs a thread and memory for its answer.
pub const MAX_QUERIES: usize = 1;
/// Rendered texts that no client requested for this long are dropped.
pub const TEXT_LIFETIME: Duration = Duration::from_secs(30);
