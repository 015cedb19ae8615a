//! A serial bus behind an RS485-to-Ethernet bridge.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::LinkError;
use super::stream::{ByteStream, StreamLink};

/// For resolving the name, and again for trying all its addresses.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 4;

pub type TcpLink = StreamLink<TcpStream>;

impl ByteStream for TcpStream {
    const END_REASON: &'static str = "the other side closed the connection";
}

/// Connects to `host:port`.
pub async fn open(address: &str) -> Result<TcpLink, LinkError> {
    let endpoint = format!("tcp://{address}");
    let stream = connect(address, &endpoint).await?;
    Ok(TcpLink::new(endpoint, stream))
}

/// Connects to `host:port`, which errors call `endpoint`.
pub(super) async fn connect(address: &str, endpoint: &str) -> Result<TcpStream, LinkError> {
    let endpoint = endpoint.to_owned();
    let Ok(found) = timeout(CONNECT_LIMIT, lookup_host(address)).await else {
        let reason = "the name server does not answer".into();
        return Err(LinkError::Open { endpoint, reason });
    };
    let addresses: Vec<_> = found.into_iter().flatten().take(MAX_ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(LinkError::NotFound { endpoint });
    }
    // Each address gets its share, so that a dead one leaves time for the others.
    let share = CONNECT_LIMIT / addresses.len() as u32;
    let mut reason = String::new();
    for address in addresses {
        match timeout(share, connect_to(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("{address} does not answer"),
        }
    }
    Err(LinkError::Open { endpoint, reason })
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_keepalive(true)?;
    // A request is one small packet and must be sent at once.
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
    use crate::transport::{Channel, Link};

    /// Long enough that only a hang fails a test.
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn bridge() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    async fn connected() -> (TcpStream, TcpLink) {
        let (listener, address) = bridge().await;
        let link = open(&address).await.unwrap();
        (listener.accept().await.unwrap().0, link)
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions() {
        let (mut far, mut link) = connected().await;
        assert!(link.stream.nodelay().unwrap());
        link.send(b"request").await.unwrap();
        let mut received = [0; 7];
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"request");
        for piece in [&b"re"[..], b"ply"] {
            far.write_all(piece).await.unwrap();
            assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), piece);
        }
    }

    #[tokio::test]
    async fn closed_port_is_an_open_error() {
        let (listener, address) = bridge().await;
        drop(listener);
        let endpoint = format!("tcp://{address}");
        let LinkError::Open { endpoint: shown, reason } = open(&address).await.unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(shown, endpoint);
        assert!(reason.contains("refused"), "{reason}");
    }

    #[tokio::test]
    async fn unknown_host_is_not_found() {
        // A label longer than DNS allows (63) fails without asking any name server.
        let address = format!("{}:1", "x".repeat(64));
        let endpoint = format!("tcp://{address}");
        let error = open(&address).await.unwrap_err();
        assert_eq!(error, LinkError::NotFound { endpoint });
    }

    #[tokio::test]
    async fn end_of_stream_is_gone() {
        let (far, mut link) = connected().await;
        drop(far);
        let gone = LinkError::Gone {
            endpoint: link.endpoint.clone(),
            reason: TcpStream::END_REASON.into(),
        };
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap(), Err(gone.clone()));
        assert_eq!(Link::from(link).drain(), Err(gone));
    }

    #[tokio::test]
    async fn bytes_before_the_end_are_delivered() {
        let (mut far, mut link) = connected().await;
        far.write_all(b"the end").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"the end");
        let end = timeout(PATIENCE, link.receive()).await.unwrap();
        assert!(matches!(end, Err(LinkError::Gone { .. })), "{end:?}");
    }

    #[tokio::test]
    async fn cancelled_receive_loses_nothing() {
        let (mut far, mut link) = connected().await;
        assert!(timeout(Duration::from_millis(1), link.receive()).await.is_err());
        far.write_all(b"slow").await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"slow");
    }

    #[tokio::test]
    async fn drain_discards_only_what_has_arrived() {
        let (mut far, link) = connected().await;
        let mut link = Link::from(link);
        link.drain().unwrap();
        far.write_all(b"stale").await.unwrap();
        let Channel::Tcp(connection) = &link.channel else { panic!("another link") };
        timeout(PATIENCE, connection.stream.readable()).await.unwrap().unwrap();
        link.drain().unwrap();
        far.write_all(b"fresh").await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"fresh");
    }

    #[tokio::test]
    async fn peer_that_reads_nothing_is_stuck() {
        let (_far, mut link) = connected().await;
        tokio::time::pause();
        let sent = link.send(&vec![0; 64 << 20]).await;
        assert_eq!(sent, Err(LinkError::Stuck { endpoint: link.endpoint.clone() }));
    }

    #[tokio::test]
    async fn close_ends_the_stream_for_the_peer() {
        let (mut far, link) = connected().await;
        link.close().await;
        let mut rest = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, b"");
    }
}
