//! A link inside the process: where a simulator takes the place of a battery.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::LinkError;

/// Chunks that may be under way in one direction.
const CHUNKS: usize = 64;

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
        self.outgoing.send(bytes.to_vec()).await.map_err(|_| self.gone())
    }

    /// The next chunk, never an empty one.
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
        loop {
            match self.incoming.try_recv() {
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(self.gone()),
            }
        }
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
