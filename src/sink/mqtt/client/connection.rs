//! Opens the connection to the broker.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Connect, ConnectReturnCode, LastWill, Login, Packet, QoS};
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use futures_util::{SinkExt, StreamExt};

use super::codec::{PacketCodec, Received};
use crate::sink::mqtt::Settings;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::inbound::MessageParser;
use crate::sink::mqtt::topics;

/// For TCP, TLS and the broker's answer together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that the broker has accepted.
pub struct Connection {
    pub packets: Framed<Box<dyn Stream>, PacketCodec>,
    /// The same socket, to change its options.
    socket: Socket,
}

impl Connection {
    pub async fn open(settings: &Settings, parser: Arc<MessageParser>) -> Result<Self, MqttError> {
        let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream).try_clone()?;
        // What is still queued when a connection breaks must not arrive later.
        socket.set_linger(Some(Duration::ZERO))?;
        let stream = encrypt(settings, stream).await?;
        let mut packets = Framed::new(stream, PacketCodec::new(parser));
        // `Flow` bounds the buffer. Filling it must not wait for the socket.
        packets.set_backpressure_boundary(usize::MAX);
        packets.send(Packet::Connect(connect(settings))).await?;
        match packets.next().await {
            Some(Ok(Received::Packet(Packet::ConnAck(answer)))) => match answer.code {
                ConnectReturnCode::Success => Ok(Connection { packets, socket }),
                code => Err(MqttError::from_code(code)),
            },
            Some(Ok(_)) => Err(MqttError::NoAnswer),
            Some(Err(error)) => Err(MqttError::new(error, false)),
            None => Err(MqttError::HungUp),
        }
    }

    /// What was sent last arrives although the socket is closed.
    pub fn close_gently(&self) {
        // On failure the broker publishes the last will, which is the same as what was sent.
        let _ = self.socket.set_linger(None);
    }
}

fn connect(settings: &Settings) -> Connect {
    let mut connect = Connect::new(settings.client_id.clone());
    let keep_alive = settings.keep_alive.as_secs().max(1);
    connect.keep_alive = u16::try_from(keep_alive).unwrap_or(u16::MAX);
    let will = topics::bridge_online(&settings.client_id);
    connect.last_will = Some(LastWill::new(will, "false", QoS::AtLeastOnce, true));
    connect.login = settings.login.as_ref().map(|(user, password)| Login {
        username: user.clone(),
        password: password.expose().to_owned(),
    });
    connect
}

#[cfg(feature = "tls")]
async fn encrypt(settings: &Settings, stream: TcpStream) -> Result<Box<dyn Stream>, MqttError> {
    let Some(tls) = &settings.tls else { return Ok(Box::new(stream)) };
    let config = crate::sink::mqtt::tls::client_config(tls)?;
    let name = rustls::pki_types::ServerName::try_from(settings.host.clone())
        .map_err(|error| MqttError::Tls(format!("{}: {error}", settings.host)))?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = connector.connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| MqttError::from_tls(&error))?))
}

#[cfg(not(feature = "tls"))]
async fn encrypt(settings: &Settings, stream: TcpStream) -> Result<Box<dyn Stream>, MqttError> {
    match settings.tls {
        None => Ok(Box::new(stream)),
        Some(_) => Err(MqttError::Tls("this program was built without TLS".to_owned())),
    }
}
