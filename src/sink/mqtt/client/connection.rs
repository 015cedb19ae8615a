//! Opens the connection to the broker.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Connect, ConnectReturnCode, LastWill, Login, Packet, QoS};
use socket2::{SockRef, Socket};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use futures_util::{SinkExt, StreamExt};

use super::codec::PacketCodec;
use super::received::{Agreed, Received};
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::inbound::MessageParser;
use crate::sink::mqtt::topics;
use crate::sink::mqtt::{Settings, Version};
use crate::tls::{self, Stream};

/// For TCP, TLS and the broker's answer together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the answer to a CONNECT of MQTT 5. Some brokers that do not know it send none.
const V5_TIMEOUT: Duration = Duration::from_secs(4);

/// A connection that the broker has accepted.
pub struct Connection {
    pub packets: Framed<Box<dyn Stream>, PacketCodec>,
    pub agreed: Agreed,
    /// The same socket, to change its options.
    socket: Socket,
}

impl Connection {
    /// Falls back to MQTT 3.1.1 where the broker does not accept MQTT 5.
    pub async fn open(settings: &Settings, parser: &Arc<MessageParser>) -> Result<Self, MqttError> {
        match Connection::attempt(settings, settings.version, parser.clone()).await {
            Err(MqttError::VersionRefused) => {
                Connection::attempt(settings, Version::V311, parser.clone()).await
            }
            result => result,
        }
    }

    async fn attempt(
        settings: &Settings,
        version: Version,
        parser: Arc<MessageParser>,
    ) -> Result<Self, MqttError> {
        let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream).try_clone()?;
        // What is still queued when a connection breaks must not arrive later.
        socket.set_linger(Some(Duration::ZERO))?;
        let stream = tls::encrypt(settings.tls.as_ref(), &settings.host, stream).await?;
        let mut packets = Framed::new(stream, PacketCodec::new(version, parser));
        // `Flow` bounds the buffer. Filling it must not wait for the socket.
        packets.set_backpressure_boundary(usize::MAX);
        packets.send(Packet::Connect(connect(settings))).await?;
        let answer = match version {
            Version::V311 => packets.next().await,
            // Whatever else such a broker does, it does not know this version.
            Version::V5 => match timeout(V5_TIMEOUT, packets.next()).await {
                Ok(Some(Ok(answer @ Received::Answer(_)))) => Some(Ok(answer)),
                _ => return Err(MqttError::VersionRefused),
            },
        };
        match answer {
            Some(Ok(Received::Packet(Packet::ConnAck(answer)))) => match answer.code {
                ConnectReturnCode::Success => {
                    Ok(Connection { packets, agreed: Agreed::default(), socket })
                }
                code => Err(MqttError::from_code(code)),
            },
            Some(Ok(Received::Answer(agreed))) => {
                Ok(Connection { packets, agreed: agreed?, socket })
            }
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
