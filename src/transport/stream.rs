//! What a serial port and a TCP connection have in common once they are open: bytes in and out.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::LinkError;

/// A question is shorter than any buffer on the way; what cannot take it in this time is dead.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Longest chunk that one `receive` returns.
const CHUNK: usize = 4096;

/// Chunks that `drain` throws away at most: a line that talks without end must not hold us.
const DRAIN_CHUNKS: usize = 64;

/// Something open that bytes go through.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin {
    /// What it means that the stream has ended.
    const ENDED: &'static str;

    /// Reads what is there, without waiting.
    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize>;

    /// What must be undone before it is closed.
    fn leave(&mut self) {}
}

/// An open stream, and what people call it.
#[derive(Debug)]
pub struct StreamLink<S: ByteStream> {
    pub(super) place: String,
    pub(super) stream: S,
}

impl<S: ByteStream> StreamLink<S> {
    /// One that is open already: also the far end, where a simulator sits.
    pub fn new(place: String, stream: S) -> Self {
        StreamLink { place, stream }
    }

    /// Sends all bytes. Does not wait until they have left: on a serial port `flush` would block
    /// the whole thread, and the answer tells more.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match timeout(WRITE_LIMIT, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.gone(error.to_string())),
            Err(_) => Err(LinkError::Stuck { place: self.place.clone() }),
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        // Not on the stack: it would make every future larger that waits for this one.
        let mut chunk = vec![0; CHUNK];
        match self.stream.read(&mut chunk).await {
            Ok(0) => Err(self.gone(S::ENDED)),
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) => Err(self.gone(error.to_string())),
        }
    }

    pub(super) fn drain(&mut self) -> Result<(), LinkError> {
        let mut chunk = [0; CHUNK];
        for _ in 0..DRAIN_CHUNKS {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Err(self.gone(S::ENDED)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.gone(error.to_string())),
            }
        }
        Ok(())
    }

    fn gone(&self, reason: impl Into<String>) -> LinkError {
        LinkError::Gone { place: self.place.clone(), reason: reason.into() }
    }
}

impl<S: ByteStream> Drop for StreamLink<S> {
    fn drop(&mut self) {
        self.stream.leave();
    }
}
