//! An RS485-to-Ethernet bridge.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::LinkError;

/// For the name, and again for all of its addresses together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const WRITE_LIMIT: Duration = Duration::from_secs(5);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// Longest chunk that one `receive` returns.
const CHUNK: usize = 4096;

/// Chunks that `drain` throws away at most.
const DRAIN_CHUNKS: usize = 64;

/// Which bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// An open connection.
#[derive(Debug)]
pub struct TcpLink {
    place: String,
    stream: TcpStream,
}

/// Connects.
pub async fn open(config: &TcpConfig) -> Result<TcpLink, LinkError> {
    let place = format!("tcp://{}:{}", config.host, config.port);
    let addresses = resolve(config, &place).await?;
    // Each address gets its share, so that a dead one in front cannot eat the time of the others.
    let share = CONNECT_LIMIT / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut reason = String::new();
    for address in addresses {
        match timeout(share, connect(address)).await {
            Ok(Ok(stream)) => return Ok(TcpLink { place, stream }),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("{address} does not answer"),
        }
    }
    Err(LinkError::Open { place, reason })
}

async fn resolve(config: &TcpConfig, place: &str) -> Result<Vec<SocketAddr>, LinkError> {
    let found = match timeout(CONNECT_LIMIT, lookup_host((&*config.host, config.port))).await {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES).collect(),
        Ok(Err(_)) => Vec::new(),
        Err(_) => {
            let reason = "the name server does not answer".into();
            return Err(LinkError::Open { place: place.into(), reason });
        }
    };
    if found.is_empty() { Err(LinkError::NotFound { place: place.into() }) } else { Ok(found) }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_keepalive(true)?;
    // A question is one small packet, and it must leave at once.
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

impl TcpLink {
    /// A connection that the other side opened, as to a simulator.
    pub fn accepted(place: String, stream: TcpStream) -> Self {
        TcpLink { place, stream }
    }

    /// Sends all bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match timeout(WRITE_LIMIT, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.gone(error.to_string())),
            Err(_) => Err(LinkError::Stuck { place: self.place.clone() }),
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut chunk = vec![0; CHUNK];
        match self.stream.read(&mut chunk).await {
            Ok(0) => Err(self.gone(HUNG_UP)),
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) => Err(self.gone(error.to_string())),
        }
    }

    pub(super) async fn drain(&mut self) -> Result<(), LinkError> {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..DRAIN_CHUNKS {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Err(self.gone(HUNG_UP)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.gone(error.to_string())),
            }
        }
        Ok(())
    }

    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_LIMIT, self.stream.shutdown()).await;
    }

    fn gone(&self, reason: impl Into<String>) -> LinkError {
        LinkError::Gone { place: self.place.clone(), reason: reason.into() }
    }
}

const HUNG_UP: &str = "the other side closed the connection";

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Long enough that only a hang fails a test.
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn bridge() -> (TcpListener, TcpConfig) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, TcpConfig { host: "127.0.0.1".into(), port })
    }

    async fn connected() -> (TcpStream, TcpLink) {
        let (listener, config) = bridge().await;
        let link = open(&config).await.unwrap();
        (listener.accept().await.unwrap().0, link)
    }

    #[tokio::test]
    async fn bytes_travel_both_ways_in_pieces() {
        let (mut far, mut link) = connected().await;
        assert!(link.stream.nodelay().unwrap());
        link.send(b"question").await.unwrap();
        let mut heard = [0; 8];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"question");
        for piece in [&b"ans"[..], b"wer"] {
            far.write_all(piece).await.unwrap();
            assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), piece);
        }
    }

    #[tokio::test]
    async fn a_closed_port_and_an_unknown_name_differ() {
        let (listener, config) = bridge().await;
        drop(listener);
        let place = format!("tcp://127.0.0.1:{}", config.port);
        let LinkError::Open { place: shown, reason } = open(&config).await.unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(shown, place);
        assert!(reason.contains("refused"), "{reason}");

        // A label longer than DNS allows (63) fails without asking any name server.
        let host = "x".repeat(64);
        let place = format!("tcp://{host}:1");
        let error = open(&TcpConfig { host, port: 1 }).await.unwrap_err();
        assert_eq!(error, LinkError::NotFound { place });
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_gone_everywhere() {
        let (far, mut link) = connected().await;
        drop(far);
        let gone = LinkError::Gone { place: link.place.clone(), reason: HUNG_UP.into() };
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap(), Err(gone.clone()));
        assert_eq!(link.drain().await, Err(gone));
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_still_delivered() {
        let (mut far, mut link) = connected().await;
        far.write_all(b"last words").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"last words");
        let end = timeout(PATIENCE, link.receive()).await.unwrap();
        assert!(matches!(end, Err(LinkError::Gone { .. })), "{end:?}");
    }

    #[tokio::test]
    async fn a_cancelled_receive_loses_nothing() {
        let (mut far, mut link) = connected().await;
        assert!(timeout(Duration::from_millis(1), link.receive()).await.is_err());
        far.write_all(b"slow").await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"slow");
    }

    #[tokio::test]
    async fn drain_forgets_what_came_and_nothing_that_comes_later() {
        let (mut far, mut link) = connected().await;
        link.drain().await.unwrap();
        far.write_all(b"stale").await.unwrap();
        timeout(PATIENCE, link.stream.readable()).await.unwrap().unwrap();
        link.drain().await.unwrap();
        far.write_all(b"fresh").await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"fresh");
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_stuck() {
        let (_far, mut link) = connected().await;
        tokio::time::pause();
        let sent = link.send(&vec![0; 64 << 20]).await;
        assert_eq!(sent, Err(LinkError::Stuck { place: link.place.clone() }));
    }

    #[tokio::test]
    async fn closing_tells_the_other_side() {
        let (mut far, link) = connected().await;
        link.close().await;
        let mut rest = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, b"");
    }
}
