//! A link inside the process: where a simulator takes the place of a battery.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::LinkError;

/// Chunks that may be under way in one direction.
const CHUNKS: usize = 64;

/// As long as a real port may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// One end of a link in memory.
#[derive(Debug)]
pub struct MemoryLink {
    place: Arc<str>,
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::Receiver<Vec<u8>>,
}

impl MemoryLink {
    /// Two ends that talk to each other.
    pub fn pair(place: &str) -> (MemoryLink, MemoryLink) {
        let (near, far_in) = mpsc::channel(CHUNKS);
        let (far, near_in) = mpsc::channel(CHUNKS);
        let end = |outgoing, incoming| MemoryLink { place: place.into(), outgoing, incoming };
        (end(near, near_in), end(far, far_in))
    }

    /// Sends all bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match timeout(WRITE_LIMIT, self.outgoing.send(bytes.to_vec())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(LinkError::Stuck { place: self.place.to_string() }),
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            match self.incoming.recv().await {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => return Ok(chunk),
                None => return Err(self.gone()),
            }
        }
    }

    pub(super) fn drain(&mut self) -> Result<(), LinkError> {
        for _ in 0..CHUNKS {
            match self.incoming.try_recv() {
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(self.gone()),
            }
        }
        Ok(())
    }

    fn gone(&self) -> LinkError {
        LinkError::Gone { place: self.place.to_string(), reason: "the other end closed".into() }
    }
}

/// A place where links in memory are opened: each opening hands the far end to the simulator.
#[derive(Debug, Clone)]
pub struct MemoryPort {
    place: Arc<str>,
    door: mpsc::Sender<MemoryLink>,
}

impl MemoryPort {
    /// A port of that name, and where its far ends come out.
    pub fn new(place: &str) -> (MemoryPort, mpsc::Receiver<MemoryLink>) {
        let (door, arrivals) = mpsc::channel(1);
        (MemoryPort { place: place.into(), door }, arrivals)
    }

    /// Opens a link; [`LinkError::NotFound`] when the simulator has ended.
    pub fn open(&self) -> Result<MemoryLink, LinkError> {
        let place = || self.place.to_string();
        let (near, far) = MemoryLink::pair(&self.place);
        match self.door.try_send(far) {
            Ok(()) => Ok(near),
            Err(mpsc::error::TrySendError::Full(_)) => Err(LinkError::Busy { place: place() }),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(LinkError::NotFound { place: place() })
            }
        }
    }
}

impl fmt::Display for MemoryPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_opened_port_hands_its_far_end_out() {
        let (port, mut arrivals) = MemoryPort::new("simulator");
        let mut near = port.open().unwrap();
        let mut far = arrivals.recv().await.unwrap();
        near.send(b"question").await.unwrap();
        far.send(b"").await.unwrap();
        far.send(b"answer").await.unwrap();
        assert_eq!(far.receive().await.unwrap(), b"question");
        assert_eq!(near.receive().await.unwrap(), b"answer");
        drop(far);
        assert!(matches!(near.receive().await, Err(LinkError::Gone { .. })));
        assert!(matches!(near.send(b"?").await, Err(LinkError::Gone { .. })));
        assert!(matches!(near.drain(), Err(LinkError::Gone { .. })));
    }

    #[tokio::test]
    async fn a_port_is_busy_until_its_far_end_is_fetched_and_missing_after_the_end() {
        let (port, mut arrivals) = MemoryPort::new("simulator");
        let _first = port.open().unwrap();
        assert_eq!(port.open().err(), Some(LinkError::Busy { place: "simulator".into() }));
        arrivals.recv().await.unwrap();
        let _second = port.open().unwrap();
        drop(arrivals);
        assert_eq!(port.open().err(), Some(LinkError::NotFound { place: "simulator".into() }));
    }

    #[tokio::test]
    async fn drain_forgets_what_came_and_nothing_that_comes_later() {
        let (mut near, mut far) = MemoryLink::pair("simulator");
        far.send(b"stale").await.unwrap();
        far.send(b"staler").await.unwrap();
        near.drain().unwrap();
        far.send(b"fresh").await.unwrap();
        assert_eq!(near.receive().await.unwrap(), b"fresh");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_reads_nothing_is_stuck() {
        let (mut near, _far) = MemoryLink::pair("simulator");
        for _ in 0..CHUNKS {
            near.send(b"?").await.unwrap();
        }
        assert_eq!(near.send(b"?").await, Err(LinkError::Stuck { place: "simulator".into() }));
    }
}
