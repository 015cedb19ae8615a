//! One connection to the broker. Only this file and `error.rs` use the MQTT library.
//!
//! A connection is used once. The library's own reconnecting has no back-off and carries over the
//! state of the broken connection (half-sent queues, packet ids, packets that the broker rejects);
//! a new connection on which everything is published again is more reliable.
//!
//! [`ClientTask`] owns the socket and must be polled continuously, the session uses the
//! [`MqttClient`]; two bounded queues connect them. The task never waits for the session, so the
//! session may wait for the task.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::{
    Disconnect, Event as MqttEvent, EventLoop, LastWill, MqttOptions, Packet, Publish, QoS,
    Request, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Settings;
use super::error::MqttError;
use super::inbound::{Incoming, MessageParser};
use super::message::Message;
use super::topics;

/// Both ways. The library's default of 10 KiB is too small for the discovery of a device with many
/// cells.
const MAX_PACKET: usize = 1024 * 1024;
/// Upper bound of what a packet contains besides topic and payload.
const PACKET_OVERHEAD: usize = 16;
/// Messages waiting for the socket: a read of a large pack, or several.
const OUTGOING_QUEUE: usize = 512;
/// More events than can arrive between two turns of the scheduler.
const EVENT_QUEUE: usize = 4096;
/// Messages sent but not yet acknowledged.
const MAX_INFLIGHT: u16 = 1000;
/// A broker that does not read for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A broker acknowledges at once; one that answers pings but acknowledges nothing must not block
/// the session.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the broker sent.
#[derive(Debug)]
pub enum Event {
    /// It accepted the connection.
    Connected,
    /// It answered a subscription and rejected this many of the filters.
    Subscribed(usize),
    Incoming(Incoming),
}

#[derive(Debug)]
struct Outgoing {
    request: Option<Request>,
    /// Signalled once this request and all earlier messages are acknowledged.
    acknowledged: Option<oneshot::Sender<()>>,
}

/// The session's handle on a connection.
#[derive(Debug)]
pub struct MqttClient {
    outgoing: mpsc::Sender<Outgoing>,
    events: mpsc::Receiver<Event>,
}

/// Moves packets between the socket and a [`MqttClient`].
pub struct ClientTask {
    event_loop: EventLoop,
    parser: MessageParser,
    outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Event>,
    /// Messages that wait for the socket or for an acknowledgement, for the metrics.
    queue_length: Arc<AtomicUsize>,
    connected: bool,
    acknowledged: Option<oneshot::Sender<()>>,
    overflowed: bool,
    /// For messages.
    host: String,
}

/// Nothing is sent before [`ClientTask::run`].
pub fn open(
    settings: &Settings,
    parser: MessageParser,
    queue_length: Arc<AtomicUsize>,
) -> Result<(ClientTask, MqttClient), MqttError> {
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_QUEUE);
    let (event_sender, events) = mpsc::channel(EVENT_QUEUE);
    let task = ClientTask {
        // The library's own request queue stays empty, because it flushes after each message.
        event_loop: EventLoop::new(options(settings)?, 1),
        parser,
        outgoing: outgoing_receiver,
        events: event_sender,
        queue_length,
        connected: false,
        acknowledged: None,
        overflowed: false,
        host: settings.host.clone(),
    };
    Ok((task, MqttClient { outgoing, events }))
}

fn options(settings: &Settings) -> Result<MqttOptions, MqttError> {
    let host = match settings.host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => settings.host.clone(),
    };
    let mut options = MqttOptions::new(settings.client_id.clone(), host, settings.port);
    // Whole seconds in two bytes; the library panics on less than one.
    let keep_alive = settings.keep_alive.as_secs().clamp(1, u16::MAX.into());
    options.set_keep_alive(Duration::from_secs(keep_alive));
    options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
    options.set_inflight(MAX_INFLIGHT);
    let will = topics::bridge_online(&settings.client_id);
    options.set_last_will(LastWill::new(will, "false", QoS::AtLeastOnce, true));
    if let Some((user, password)) = &settings.login {
        options.set_credentials(user, password.expose());
    }
    if let Some(tls) = &settings.tls {
        enable_tls(&mut options, tls)?;
    }
    Ok(options)
}

#[cfg(feature = "tls")]
fn enable_tls(options: &mut MqttOptions, tls: &super::Tls) -> Result<(), MqttError> {
    let config = rumqttc::TlsConfiguration::Rustls(super::tls::client_config(tls)?);
    options.set_transport(rumqttc::Transport::tls_with_config(config));
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn enable_tls(_options: &mut MqttOptions, _tls: &super::Tls) -> Result<(), MqttError> {
    Err(MqttError::Tls("this program was built without TLS".to_owned()))
}

impl MqttClient {
    pub async fn next(&mut self) -> Result<Event, MqttError> {
        self.events.recv().await.ok_or(MqttError::Closed)
    }

    /// Queues messages in order; waits while the queue is full.
    pub async fn publish(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<(), MqttError> {
        for message in messages {
            if is_sendable(&message) {
                tracing::debug!("MQTT: {}, {} bytes", message.topic, message.payload.len());
                let Message { topic, payload, retain, at_least_once } = message;
                let qos = if at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                let publish = Publish { retain, ..Publish::new(topic, qos, payload) };
                self.send(Some(Request::Publish(publish)), None).await?;
            }
        }
        Ok(())
    }

    /// The broker answers with [`Event::Subscribed`].
    pub async fn subscribe(&self, filters: Vec<String>) -> Result<(), MqttError> {
        // The broker sends messages of QoS 1 one acknowledgement at a time, so the echo of QoS 0
        // would overtake retained messages.
        let filters = filters.into_iter().map(|path| SubscribeFilter::new(path, QoS::AtMostOnce));
        self.send(Some(Subscribe::new_many(filters).into()), None).await
    }

    pub async fn unsubscribe(&self, topics: Vec<String>) -> Result<(), MqttError> {
        self.send(Some(Request::Unsubscribe(Unsubscribe { pkid: 0, topics })), None).await
    }

    /// Waits until the broker has acknowledged every message.
    pub async fn wait_acknowledged(&self) -> Result<(), MqttError> {
        self.send_and_wait(None).await
    }

    /// Ends the connection without triggering the last will.
    pub async fn disconnect(&self) -> Result<(), MqttError> {
        self.send_and_wait(Some(Request::Disconnect(Disconnect))).await
    }

    async fn send_and_wait(&self, request: Option<Request>) -> Result<(), MqttError> {
        let (sender, acknowledged) = oneshot::channel();
        self.send(request, Some(sender)).await?;
        let result = timeout(ACKNOWLEDGE_TIMEOUT, acknowledged).await;
        result.map_err(|_| MqttError::Stalled)?.map_err(|_| MqttError::Closed)
    }

    async fn send(
        &self,
        request: Option<Request>,
        acknowledged: Option<oneshot::Sender<()>>,
    ) -> Result<(), MqttError> {
        let outgoing = Outgoing { request, acknowledged };
        self.outgoing.send(outgoing).await.map_err(|_| MqttError::Closed)
    }
}

/// Dropping a message is better than losing the connection over it.
fn is_sendable(message: &Message) -> bool {
    let size = message.topic.len() + message.payload.len() + PACKET_OVERHEAD;
    if size > MAX_PACKET {
        tracing::error!(topic = message.topic, size, "MQTT: message too large, not sent");
        return false;
    }
    if !topics::is_publishable(&message.topic) {
        tracing::error!(topic = message.topic, "MQTT: invalid topic, message not sent");
        return false;
    }
    true
}

impl ClientTask {
    /// Connects and moves packets until the connection ends.
    pub async fn run(mut self) -> MqttError {
        loop {
            let ready = self.connected && self.has_room();
            let result = tokio::select! {
                biased;
                event = self.event_loop.poll() => match event {
                    Ok(MqttEvent::Incoming(packet)) => {
                        self.receive(packet);
                        Ok(())
                    }
                    Ok(MqttEvent::Outgoing(_)) => Ok(()),
                    Err(error) => {
                        Err(MqttError::new(error, self.connected).with_host(&self.host))
                    }
                },
                Some(first) = self.outgoing.recv(), if ready => {
                    timeout(WRITE_TIMEOUT, self.write(first)).await.unwrap_or(Err(MqttError::Stalled))
                }
            };
            let inflight = self.event_loop.state.inflight();
            let waiting = self.outgoing.len() + usize::from(inflight);
            self.queue_length.store(waiting, Ordering::Relaxed);
            if let Err(error) = result {
                return error;
            }
            if inflight == 0
                && let Some(acknowledged) = self.acknowledged.take()
            {
                // The session may have stopped waiting.
                let _ = acknowledged.send(());
            }
        }
    }

    /// The library reuses packet ids without checking that they are free.
    fn has_room(&self) -> bool {
        let state = &self.event_loop.state;
        state.inflight() < MAX_INFLIGHT && state.collision.is_none()
    }

    fn receive(&mut self, packet: Packet) {
        let event = match packet {
            Packet::ConnAck(_) => {
                self.connected = true;
                Event::Connected
            }
            Packet::SubAck(ack) => {
                let codes = ack.return_codes.into_iter();
                Event::Subscribed(
                    codes.filter(|code| *code == SubscribeReasonCode::Failure).count(),
                )
            }
            Packet::Publish(Publish { topic, payload, retain, .. }) => {
                let Some(incoming) = self.parser.parse(&topic, &payload, retain) else { return };
                Event::Incoming(incoming)
            }
            _ => return,
        };
        // The session may be waiting for this task, so the task must not wait for the session.
        if self.events.try_send(event).is_err() && !self.overflowed {
            self.overflowed = true;
            tracing::warn!("MQTT: messages arrive faster than they are handled, some are dropped");
        }
    }

    /// Writes this request and all that are queued behind it, then flushes once.
    async fn write(&mut self, first: Outgoing) -> Result<(), MqttError> {
        let mut next = Some(first);
        while let Some(Outgoing { request, acknowledged }) = next {
            if let Some(request) = request
                && let Some(packet) = self.event_loop.state.handle_outgoing_packet(request)?
                && let Some(network) = &mut self.event_loop.network
            {
                network.write(packet).await?;
            }
            self.acknowledged = acknowledged.or(self.acknowledged.take());
            next = if self.has_room() { self.outgoing.try_recv().ok() } else { None };
        }
        if let Some(network) = &mut self.event_loop.network {
            network.flush().await?;
        }
        Ok(())
    }
}
