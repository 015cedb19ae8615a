//! A link inside the process, to a simulator.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::timeout;

use super::{LinkError, WRITE_LIMIT};

/// Chunks that one direction holds.
const CHUNKS: usize = 64;

/// One end of a link in memory.
#[derive(Debug)]
pub struct MemoryLink {
    endpoint: Arc<str>,
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::Receiver<Vec<u8>>,
}

impl MemoryLink {
    /// Both ends of a new link.
    pub fn pair(endpoint: &str) -> (MemoryLink, MemoryLink) {
        let (to_far, from_near) = mpsc::channel(CHUNKS);
        let (to_near, from_far) = mpsc::channel(CHUNKS);
        let end = |outgoing, incoming| MemoryLink { endpoint: endpoint.into(), outgoing, incoming };
        (end(to_far, from_far), end(to_near, from_near))
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match timeout(WRITE_LIMIT, self.outgoing.send(bytes.to_vec())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(LinkError::Stuck { endpoint: self.endpoint.to_string() }),
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

    fn gone(&self) -> LinkError {
        let endpoint = self.endpoint.to_string();
        LinkError::Gone { endpoint, reason: "the other end closed".into() }
    }
}

/// Opens links in memory: each time, the simulator receives the far end.
#[derive(Debug, Clone)]
pub struct MemoryPort {
    endpoint: Arc<str>,
    far_ends: mpsc::Sender<MemoryLink>,
}

impl MemoryPort {
    /// A port of that name, and the receiver of its far ends.
    pub fn new(endpoint: &str) -> (MemoryPort, mpsc::Receiver<MemoryLink>) {
        let (far_ends, accepted) = mpsc::channel(1);
        (MemoryPort { endpoint: endpoint.into(), far_ends }, accepted)
    }

    /// Opens a link; [`LinkError::NotFound`] when the simulator has ended.
    pub fn open(&self) -> Result<MemoryLink, LinkError> {
        let endpoint = self.endpoint.to_string();
        let (near, far) = MemoryLink::pair(&endpoint);
        match self.far_ends.try_send(far) {
            Ok(()) => Ok(near),
            Err(TrySendError::Full(_)) => Err(LinkError::Busy { endpoint, program: None }),
            Err(TrySendError::Closed(_)) => Err(LinkError::NotFound { endpoint }),
        }
    }

    /// Waits until the simulator has accepted every earlier link.
    pub(super) async fn accepted(self) {
        if self.far_ends.reserve().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Display for MemoryPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Link, LinkConfig};

    #[tokio::test]
    async fn bytes_pass_in_both_directions() {
        let (mut near, mut far) = MemoryLink::pair("simulator");
        near.send(b"request").await.unwrap();
        far.send(b"").await.unwrap();
        far.send(b"reply").await.unwrap();
        assert_eq!(far.receive().await.unwrap(), b"request");
        assert_eq!(near.receive().await.unwrap(), b"reply");
    }

    #[tokio::test]
    async fn dropped_far_end_is_gone() {
        let (mut near, far) = MemoryLink::pair("simulator");
        drop(far);
        assert!(matches!(near.receive().await, Err(LinkError::Gone { .. })));
        assert!(matches!(near.send(b"?").await, Err(LinkError::Gone { .. })));
        assert!(matches!(Link::from(near).drain(), Err(LinkError::Gone { .. })));
    }

    #[tokio::test]
    async fn port_is_busy_until_accepted_and_missing_after_the_end() {
        let (port, mut accepted) = MemoryPort::new("simulator");
        let _first = port.open().unwrap();
        assert_eq!(
            port.open().err(),
            Some(LinkError::Busy { endpoint: "simulator".into(), program: None })
        );
        accepted.recv().await.unwrap();
        let _second = port.open().unwrap();
        drop(accepted);
        assert_eq!(port.open().err(), Some(LinkError::NotFound { endpoint: "simulator".into() }));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_makes_sense_once_the_simulator_accepts() {
        let (port, mut far_ends) = MemoryPort::new("simulator");
        let config = LinkConfig::Memory(port.clone());
        let _near = port.open().unwrap();
        let busy = port.open().unwrap_err();
        let signal = config.retry_signal(&busy).unwrap();
        assert!(timeout(WRITE_LIMIT, signal.clone()).await.is_err());
        far_ends.recv().await.unwrap();
        timeout(WRITE_LIMIT, signal).await.unwrap();

        let _near = port.open().unwrap();
        let signal = config.retry_signal(&busy).unwrap();
        drop(far_ends);
        assert!(timeout(WRITE_LIMIT, signal).await.is_err());
        assert!(config.retry_signal(&port.open().unwrap_err()).is_none());
    }

    #[tokio::test]
    async fn drain_discards_only_what_has_arrived() {
        let (near, mut far) = MemoryLink::pair("simulator");
        let mut near = Link::from(near);
        far.send(b"stale").await.unwrap();
        far.send(b"staler").await.unwrap();
        near.drain().unwrap();
        far.send(b"fresh").await.unwrap();
        assert_eq!(near.receive().await.unwrap(), b"fresh");
    }

    #[tokio::test(start_paused = true)]
    async fn end_that_reads_nothing_is_stuck() {
        let (mut near, _far) = MemoryLink::pair("simulator");
        for _ in 0..CHUNKS {
            near.send(b"?").await.unwrap();
        }
        assert_eq!(near.send(b"?").await, Err(LinkError::Stuck { endpoint: "simulator".into() }));
    }
}
