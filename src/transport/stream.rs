//! Reading and writing an open byte stream, for serial ports and TCP connections.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{LinkError, WRITE_LIMIT};

/// Bytes that one `receive` returns at most. Nearly every reply fits, and each wait allocates as much.
const CHUNK: usize = 1024;

/// An open serial port or TCP connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin {
    /// Reason to report when the stream has ended.
    const END_REASON: &'static str;

    /// Undoes what closing alone would not.
    fn before_close(&mut self) {}
}

/// An open stream and the path or address to name it by.
#[derive(Debug)]
pub struct StreamLink<S: ByteStream> {
    pub(super) endpoint: String,
    pub(super) stream: S,
}

impl<S: ByteStream> StreamLink<S> {
    /// Wraps an open stream; also the far end, for a simulator.
    pub fn new(endpoint: String, stream: S) -> Self {
        StreamLink { endpoint, stream }
    }

    /// Queues all bytes. Does not wait until they are sent: on a serial port `flush` would block the
    /// thread, and the reply proves more.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match timeout(WRITE_LIMIT, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.gone(error.to_string())),
            Err(_) => Err(LinkError::Stuck { endpoint: self.endpoint.clone() }),
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        // On the heap, or every future that awaits this one would contain it.
        let mut chunk = vec![0; CHUNK];
        match self.stream.read(&mut chunk).await {
            Ok(0) => Err(self.gone(S::END_REASON)),
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) => Err(self.gone(error.to_string())),
        }
    }

    fn gone(&self, reason: impl Into<String>) -> LinkError {
        LinkError::Gone { endpoint: self.endpoint.clone(), reason: reason.into() }
    }
}

impl<S: ByteStream> Drop for StreamLink<S> {
    fn drop(&mut self) {
        self.stream.before_close();
    }
}
