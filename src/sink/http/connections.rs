//! The open connections, and which one makes way for a new one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::limits::{MAX_CONNECTIONS, MAX_PER_ADDRESS, RESERVED_CONNECTIONS};

/// All connections of the server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, Entry>,
    /// Number of the last connection or request. Requests are ordered by it.
    last: u64,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    last_request: u64,
    has_events: bool,
    replaced: CancellationToken,
}

/// Clients that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    ThisMachine,
    Address(IpAddr),
}

/// Counts a connection until it is closed.
#[derive(Debug)]
pub(super) struct Place {
    connection: Connection,
    replaced: CancellationToken,
}

/// A connection; part of each of its requests.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    connections: Connections,
    number: u64,
}

/// While it exists, the connection is one of a client that receives events.
#[derive(Debug)]
pub(super) struct EventMark(Connection);

impl Connections {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a client that connected to the address `local`, and replaces another
    /// connection if necessary.
    pub(super) fn admit(&self, client: IpAddr, local: IpAddr) -> Place {
        let mut table = self.table();
        let origin = Origin::new(client, local);
        if let Some(number) = table.to_replace(origin)
            && let Some(entry) = table.open.remove(&number)
        {
            entry.replaced.cancel();
        }
        let (number, replaced) = (table.next(), CancellationToken::new());
        let (last_request, has_events) = (number, false);
        let entry = Entry { origin, last_request, has_events, replaced: replaced.clone() };
        table.open.insert(number, entry);
        drop(table);
        Place { connection: Connection { connections: self.clone(), number }, replaced }
    }
}

impl Table {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The connection that makes way for one of this origin; `None` while there is room. Streams of
    /// events never fill a limit, so there always is one.
    fn to_replace(&self, origin: Origin) -> Option<u64> {
        let count = |is_counted: &dyn Fn(Origin) -> bool| {
            self.open.values().filter(|entry| is_counted(entry.origin)).count()
        };
        let is_remote = |origin: Origin| origin != Origin::ThisMachine;
        let is_own = |other: Origin| other == origin;
        let is_candidate: &dyn Fn(Origin) -> bool = if count(&is_own) >= MAX_PER_ADDRESS {
            &is_own
        } else if is_remote(origin) && count(&is_remote) >= MAX_CONNECTIONS - RESERVED_CONNECTIONS {
            &is_remote
        } else if self.open.len() >= MAX_CONNECTIONS {
            &|_| true
        } else {
            return None;
        };
        let candidates = || {
            let open = self.open.iter().filter(|(_, entry)| !entry.has_events);
            open.filter(|(_, entry)| is_candidate(entry.origin))
        };
        let mut counts = BTreeMap::<Origin, usize>::new();
        for (_, entry) in candidates() {
            *counts.entry(entry.origin).or_default() += 1;
        }
        // One client with many connections does not push out those with few.
        let (largest, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let of_largest = candidates().filter(|(_, entry)| entry.origin == largest);
        of_largest.min_by_key(|(_, entry)| entry.last_request).map(|(number, _)| *number)
    }
}

impl Origin {
    fn new(client: IpAddr, local: IpAddr) -> Self {
        let client = client.to_canonical();
        if client.is_loopback() || client == local.to_canonical() {
            return Origin::ThisMachine;
        }
        Origin::Address(match client {
            IpAddr::V4(_) => client,
            // A machine may use every address of its network.
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

impl Place {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits until another connection has this place.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Connection { connections, number } = &self.connection;
        connections.table().open.remove(number);
    }
}

impl Connection {
    /// Takes note of a request.
    pub(super) fn touch(&self) {
        let mut table = self.connections.table();
        let number = table.next();
        if let Some(entry) = table.open.get_mut(&self.number) {
            entry.last_request = number;
        }
    }

    pub(super) fn mark_events(self) -> EventMark {
        self.set_events(true);
        EventMark(self)
    }

    fn set_events(&self, has_events: bool) {
        if let Some(entry) = self.connections.table().open.get_mut(&self.number) {
            entry.has_events = has_events;
        }
    }
}

impl Drop for EventMark {
    fn drop(&mut self) {
        self.0.set_events(false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::MAX_EVENT_CLIENTS;
    use super::*;

    /// Admits clients at addresses of the network 10.0.0.0, or of this machine.
    struct Crowd(Connections, Vec<(u8, Place)>);

    const THIS_MACHINE: u8 = 0;

    impl Crowd {
        fn new() -> Self {
            Crowd(Connections::default(), Vec::new())
        }

        /// The number of the connection in the list.
        fn connect(&mut self, address: u8) -> usize {
            let local = IpAddr::from([10, 0, 0, 254]);
            let client = match address {
                THIS_MACHINE => IpAddr::from([127, 0, 0, 1]),
                _ => IpAddr::from([10, 0, 0, address]),
            };
            self.1.push((address, self.0.admit(client, local)));
            self.1.len() - 1
        }

        fn is_open(&self, index: usize) -> bool {
            !self.1[index].1.replaced.is_cancelled()
        }

        fn connection(&self, index: usize) -> Connection {
            self.1[index].1.connection().clone()
        }

        /// The number of open connections of an address.
        fn open(&self, address: u8) -> usize {
            (0..self.1.len())
                .filter(|&index| self.1[index].0 == address && self.is_open(index))
                .count()
        }

        fn total(&self) -> usize {
            let total = self.0.table().open.len();
            assert_eq!(total, (0..self.1.len()).filter(|&index| self.is_open(index)).count());
            total
        }
    }

    #[test]
    fn address_replaces_its_own_unused_connections() {
        let mut crowd = Crowd::new();
        let other = crowd.connect(2);
        let first = crowd.connect(1);
        let second = crowd.connect(1);
        for _ in 2..MAX_PER_ADDRESS {
            crowd.connect(1);
        }
        crowd.connection(first).touch();
        crowd.connect(1);
        assert_eq!(crowd.open(1), MAX_PER_ADDRESS);
        assert!(!crowd.is_open(second) && crowd.is_open(first));
        for _ in 0..1000 {
            crowd.connect(1);
        }
        assert!(crowd.is_open(other));
        assert_eq!((crowd.open(1), crowd.total()), (MAX_PER_ADDRESS, MAX_PER_ADDRESS + 1));
    }

    #[test]
    fn places_for_this_machine_stay_free() {
        let mut crowd = Crowd::new();
        for address in 1..=200 {
            crowd.connect(address);
        }
        assert_eq!(crowd.total(), MAX_CONNECTIONS - RESERVED_CONNECTIONS);
        for _ in 0..RESERVED_CONNECTIONS {
            crowd.connect(THIS_MACHINE);
        }
        for address in 1..=200 {
            crowd.connect(address);
        }
        assert_eq!(crowd.open(THIS_MACHINE), RESERVED_CONNECTIONS);
        assert_eq!(crowd.total(), MAX_CONNECTIONS);
        let newest = crowd.connect(THIS_MACHINE);
        assert!(crowd.is_open(newest));
        assert_eq!(crowd.total(), MAX_CONNECTIONS);
    }

    #[test]
    fn streams_of_events_are_not_replaced() {
        let mut crowd = Crowd::new();
        let streams: Vec<usize> = (0..MAX_EVENT_CLIENTS).map(|_| crowd.connect(1)).collect();
        let marks: Vec<EventMark> =
            streams.iter().map(|&index| crowd.connection(index).mark_events()).collect();
        for address in 2..=250 {
            crowd.connect(address);
            crowd.connect(THIS_MACHINE);
            crowd.connect(1);
        }
        assert!(streams.iter().all(|&index| crowd.is_open(index)));
        assert_eq!(crowd.total(), MAX_CONNECTIONS);
        drop(marks);
        for _ in 0..MAX_PER_ADDRESS {
            crowd.connect(1);
        }
        assert!(!streams.iter().any(|&index| crowd.is_open(index)));
    }

    #[test]
    fn closed_connection_frees_its_place() {
        let mut crowd = Crowd::new();
        for _ in 0..MAX_PER_ADDRESS {
            crowd.connect(1);
        }
        crowd.1.clear();
        assert_eq!(crowd.total(), 0);
    }

    #[test]
    fn network_of_a_machine_shares_a_limit() {
        let origin = |client: &str, local: &str| {
            Origin::new(client.parse().unwrap(), local.parse().unwrap())
        };
        let lan = "192.168.1.5";
        assert_eq!(origin("::ffff:127.0.0.1", lan), Origin::ThisMachine);
        assert_eq!(origin("192.168.1.5", "::ffff:192.168.1.5"), Origin::ThisMachine);
        assert_eq!(origin("::ffff:192.168.1.6", lan), origin("192.168.1.6", lan));
        assert_ne!(origin("192.168.1.6", lan), origin("192.168.1.7", lan));
        assert_eq!(origin("2001:db8::1", "::1"), origin("2001:db8::2:1", "::1"));
        assert_ne!(origin("2001:db8::1", "::1"), origin("2001:db8:0:1::1", "::1"));
    }
}
