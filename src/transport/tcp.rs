//! An RS485-to-Ethernet bridge.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::LinkError;
use super::stream::{ByteStream, StreamLink};

/// For the name, and again for all of its addresses together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// Which bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for TcpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "tcp://[{}]:{}", self.host, self.port),
            false => write!(f, "tcp://{}:{}", self.host, self.port),
        }
    }
}

/// An open connection.
pub type TcpLink = StreamLink<TcpStream>;

impl ByteStream for TcpStream {
    const ENDED: &'static str = "the other side closed the connection";

    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        TcpStream::try_read(self, chunk)
    }
}

/// Connects.
pub async fn open(config: &TcpConfig) -> Result<TcpLink, LinkError> {
    let place = config.to_string();
    let addresses = resolve(config, &place).await?;
    // Each address gets its share, so that a dead one in front cannot eat the time of the others.
    let share = CONNECT_LIMIT / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut reason = String::new();
    for address in addresses {
        match timeout(share, connect(address)).await {
            Ok(Ok(stream)) => return Ok(TcpLink::new(place, stream)),
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
    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_LIMIT, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
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
        let gone = LinkError::Gone { place: link.place.clone(), reason: TcpStream::ENDED.into() };
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap(), Err(gone.clone()));
        assert_eq!(link.drain(), Err(gone));
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
        link.drain().unwrap();
        far.write_all(b"stale").await.unwrap();
        timeout(PATIENCE, link.stream.readable()).await.unwrap().unwrap();
        link.drain().unwrap();
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
