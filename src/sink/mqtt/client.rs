//! One connection to the broker. Only this module and `error.rs` use the MQTT library, which encodes
//! and decodes the packets.
//!
//! A connection is used once: a new one on which everything is published again is more reliable than
//! one that carries over half-sent queues and packet ids.
//!
//! [`ClientTask`] owns the socket and must be polled continuously, the session uses the
//! [`MqttClient`]; two bounded queues connect them. The task never waits for the session, so the
//! session may wait for the task.

mod codec;
mod connection;
mod exchange;
mod flow;
mod intake;
mod received;
mod v5;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rumqttc::{Packet, Publish, QoS, Subscribe, SubscribeFilter, Unsubscribe};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::error::MqttError;
use super::inbound::{Incoming, MessageParser};
use super::message::Message;
use super::topics;
use super::{STEP_LIMIT, Settings, Version};
use crate::tasks::Task;

use connection::{CONNECT_TIMEOUT, Connection};
use exchange::Exchange;
use flow::Flow;
use intake::Intake;
use received::Agreed;

/// Upper bound of what a packet contains besides topic and payload.
const PACKET_OVERHEAD: usize = 64;
/// Packets and batches waiting for room in the flow; few, because values grow old in the queue.
const OUTGOING_QUEUE: usize = 8;
/// Messages of QoS 0 pass through the queue in batches of this many bytes, or a few more.
const BATCH: usize = 1024;
/// More events than can arrive between two turns of the scheduler.
const EVENT_QUEUE: usize = 4096;

/// What the broker sent.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// It accepted the connection.
    Connected(Agreed),
    /// It answered a subscription and rejected this many of the filters.
    Subscribed(usize),
    Incoming(Incoming),
}

#[derive(Debug)]
struct Outgoing {
    content: Option<Content>,
    /// Signalled once this packet and all earlier ones are acknowledged.
    acknowledged: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Content {
    Packet(Packet),
    /// Encoded messages of QoS 0.
    Batch(Vec<u8>),
    /// Waits until the broker has all bytes so far.
    Delivery,
}

/// The session's handle on a connection.
#[derive(Debug)]
pub struct MqttClient {
    outgoing: mpsc::Sender<Outgoing>,
    events: mpsc::Receiver<Event>,
    /// Valid once the broker has accepted the connection.
    agreed: Agreed,
    /// Of the task that uses it.
    progress: Task,
}

/// Moves packets between the socket and a [`MqttClient`].
pub struct ClientTask {
    settings: Settings,
    parser: Arc<MessageParser>,
    outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Event>,
    /// Messages that wait for the socket or for an acknowledgement, for the metrics.
    queue_length: Arc<AtomicUsize>,
}

/// Nothing is sent before [`ClientTask::run`].
pub fn open(
    settings: &Settings,
    parser: MessageParser,
    queue_length: Arc<AtomicUsize>,
    progress: Task,
) -> (ClientTask, MqttClient) {
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_QUEUE);
    let (event_sender, events) = mpsc::channel(EVENT_QUEUE);
    let task = ClientTask {
        settings: settings.clone(),
        parser: Arc::new(parser),
        outgoing: outgoing_receiver,
        events: event_sender,
        queue_length,
    };
    (task, MqttClient { outgoing, events, agreed: Agreed::default(), progress })
}

impl MqttClient {
    pub async fn next(&mut self) -> Result<Event, MqttError> {
        let event = self.events.recv().await.ok_or(MqttError::Closed)?;
        if let Event::Connected(agreed) = &event {
            self.agreed = *agreed;
        }
        Ok(event)
    }

    /// The version that the broker has accepted.
    pub fn version(&self) -> Version {
        self.agreed.version
    }

    /// Queues messages in order; waits while the queue is full.
    pub async fn publish(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<(), MqttError> {
        let mut batch = Vec::new();
        for message in messages {
            if !is_sendable(&message, self.agreed.max_packet) {
                continue;
            }
            tracing::debug!("MQTT: {}, {} bytes", message.topic, message.payload.len());
            let is_value = !message.at_least_once;
            if is_value {
                codec::encode(&message, self.agreed.version, &mut batch);
            }
            if !batch.is_empty() && (!is_value || batch.len() >= BATCH) {
                self.send(Some(Content::Batch(std::mem::take(&mut batch))), None).await?;
            }
            if !is_value {
                let Message { topic, payload, retain, .. } = message;
                let publish = Publish::new(topic, QoS::AtLeastOnce, payload);
                self.send_packet(Packet::Publish(Publish { retain, ..publish })).await?;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.send(Some(Content::Batch(batch)), None).await }
    }

    /// The broker answers with [`Event::Subscribed`].
    pub async fn subscribe(&self, filters: Vec<String>) -> Result<(), MqttError> {
        // The broker sends messages of QoS 1 one acknowledgement at a time, so the echo of QoS 0
        // would overtake retained messages.
        let filters = filters.into_iter().map(|path| SubscribeFilter::new(path, QoS::AtMostOnce));
        self.send_packet(Packet::Subscribe(Subscribe::new_many(filters))).await
    }

    pub async fn unsubscribe(&self, topics: Vec<String>) -> Result<(), MqttError> {
        self.send_packet(Packet::Unsubscribe(Unsubscribe { pkid: 0, topics })).await
    }

    /// Waits until the broker has acknowledged every message. The task ends a connection on which it
    /// does not.
    pub async fn wait_acknowledged(&self) -> Result<(), MqttError> {
        self.acknowledged().await?.await.map_err(|_| MqttError::Closed)
    }

    /// Signalled once the broker has acknowledged every message so far.
    pub async fn acknowledged(&self) -> Result<oneshot::Receiver<()>, MqttError> {
        let (sender, acknowledged) = oneshot::channel();
        self.send(None, Some(sender)).await?;
        Ok(acknowledged)
    }

    /// Signalled once the broker has received every message so far, those of QoS 0, too. No packet is sent for it:
    /// the flow has a PINGREQ behind them.
    pub async fn delivered(&self) -> Result<oneshot::Receiver<()>, MqttError> {
        let (sender, delivered) = oneshot::channel();
        self.send(Some(Content::Delivery), Some(sender)).await?;
        Ok(delivered)
    }

    /// Nothing waits for room in the flow.
    pub fn is_idle(&self) -> bool {
        self.outgoing.capacity() == OUTGOING_QUEUE
    }

    /// Ends the connection without triggering the last will.
    pub async fn disconnect(&self) -> Result<(), MqttError> {
        let (sender, sent) = oneshot::channel();
        self.send(Some(Content::Packet(Packet::Disconnect)), Some(sender)).await?;
        sent.await.map_err(|_| MqttError::Closed)
    }

    async fn send_packet(&self, packet: Packet) -> Result<(), MqttError> {
        self.send(Some(Content::Packet(packet)), None).await
    }

    async fn send(
        &self,
        content: Option<Content>,
        acknowledged: Option<oneshot::Sender<()>>,
    ) -> Result<(), MqttError> {
        let outgoing = Outgoing { content, acknowledged };
        self.progress.progress(STEP_LIMIT);
        self.outgoing.send(outgoing).await.map_err(|_| MqttError::Closed)
    }
}

/// Dropping a message is better than losing the connection over it.
fn is_sendable(message: &Message, max_packet: usize) -> bool {
    let size = message.topic.len() + message.payload.len() + PACKET_OVERHEAD;
    if size > max_packet {
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
    pub async fn run(self) -> MqttError {
        let ClientTask { settings, parser, outgoing, events, queue_length } = self;
        let connection = timeout(CONNECT_TIMEOUT, Connection::open(&settings, &parser));
        let connection = match connection.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return error.with_host(&settings.host),
            Err(_) => return MqttError::NoAnswer,
        };
        let agreed = connection.agreed;
        let demanded = agreed.keep_alive.map(|seconds| Duration::from_secs(seconds.into()));
        let keep_alive = demanded.unwrap_or(settings.keep_alive);
        let flow = Flow::new(keep_alive, agreed.max_inflight, Instant::now());
        let intake = Intake::new(parser);
        let exchange = Exchange::new(connection, flow, intake, (outgoing, events), queue_length);
        exchange.run().await
    }
}
