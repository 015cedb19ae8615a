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
mod flow;
mod intake;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use rumqttc::{
    Packet, PubAck, Publish, QoS, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::error::MqttError;
use super::inbound::{Incoming, MessageParser};
use super::limits::MAX_PACKET;
use super::message::Message;
use super::topics;
use super::{STEP_LIMIT, Settings};
use crate::clock;
use crate::tasks::Task;

use codec::Received;
use connection::{CONNECT_TIMEOUT, Connection};
use flow::Flow;
use intake::Intake;

/// Upper bound of what a packet contains besides topic and payload.
const PACKET_OVERHEAD: usize = 16;
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
    Connected,
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
    (task, MqttClient { outgoing, events, progress })
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
        let mut batch = Vec::new();
        for message in messages {
            if !is_sendable(&message) {
                continue;
            }
            tracing::debug!("MQTT: {}, {} bytes", message.topic, message.payload.len());
            let is_value = !message.at_least_once;
            if is_value {
                codec::encode(&message, &mut batch);
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
    pub async fn run(self) -> MqttError {
        let ClientTask { settings, parser, outgoing, events, queue_length } = self;
        let connection = timeout(CONNECT_TIMEOUT, Connection::open(&settings, parser.clone()));
        let connection = match connection.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return error.with_host(&settings.host),
            Err(_) => return MqttError::NoAnswer,
        };
        let flow = Flow::new(settings.keep_alive, Instant::now());
        let intake = Intake::new(parser);
        let mut exchange = Exchange {
            connection,
            flow,
            intake,
            outgoing,
            events,
            queue_length,
            progress: 0,
            flushed: true,
            waiting: VecDeque::new(),
        };
        exchange.report(Event::Connected);
        exchange.run().await
    }
}

/// A connection while it lasts.
struct Exchange {
    connection: Connection,
    flow: Flow,
    intake: Intake,
    outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Event>,
    queue_length: Arc<AtomicUsize>,
    /// See [`codec::PacketCodec::progress`].
    progress: u64,
    /// Nothing waits in the buffer of the connection.
    flushed: bool,
    /// Those who wait for the acknowledgement of a packet and all before it, and for the receipt of these bytes.
    waiting: VecDeque<(u64, u64, oneshot::Sender<()>)>,
}

impl Exchange {
    async fn run(&mut self) -> MqttError {
        loop {
            let ready = self.flow.has_room();
            let next_check = self.flow.next_check();
            // Not biased: a flood of incoming messages must not keep this client from sending.
            let result = tokio::select! {
                received = exchange(&mut self.connection, &mut self.flushed) => match received {
                    Ok(received) => self.receive(received),
                    Err(error) => Err(error),
                },
                Some(first) = self.outgoing.recv(), if ready => self.write(first),
                () = sleep_until(next_check) => Ok(()),
            };
            let result = result.and_then(|()| self.check());
            if let Err(error) = result {
                return error;
            }
            let waiting = self.outgoing.len() + self.flow.unacknowledged();
            self.queue_length.store(waiting, Ordering::Relaxed);
            while self.flushed
                && self.waiting.front().is_some_and(|(number, bytes, _)| {
                    self.flow.is_acknowledged(*number) && self.flow.is_received(*bytes)
                })
                && let Some((.., acknowledged)) = self.waiting.pop_front()
            {
                // The session may have stopped waiting.
                let _ = acknowledged.send(());
            }
        }
    }

    /// Part of a packet also counts as life.
    fn check(&mut self) -> Result<(), MqttError> {
        let (now, progress) = (Instant::now(), self.connection.packets.codec().progress);
        if std::mem::replace(&mut self.progress, progress) != progress {
            self.flow.receive(now);
        }
        if self.flow.mark_if_due(now) {
            self.feed(Packet::PingReq)?;
        }
        self.flow.check(now)
    }

    fn receive(&mut self, received: Option<Received>) -> Result<(), MqttError> {
        let event = match received {
            None => return Ok(()),
            Some(Received::TooLarge(message)) => {
                self.intake.report_too_large(&message, clock::uptime());
                return Ok(());
            }
            Some(Received::Packet(packet)) => self.handle(packet)?,
        };
        if let Some(event) = event {
            self.report(event);
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet) -> Result<Option<Event>, MqttError> {
        Ok(match packet {
            Packet::PingResp => {
                self.flow.confirm(Instant::now());
                None
            }
            Packet::PubAck(ack) => {
                self.flow.acknowledge(ack.pkid);
                None
            }
            Packet::UnsubAck(ack) => {
                self.flow.acknowledge(ack.pkid);
                None
            }
            Packet::SubAck(ack) => {
                self.flow.acknowledge(ack.pkid);
                let codes = ack.return_codes.into_iter();
                let rejected = codes.filter(|code| *code == SubscribeReasonCode::Failure).count();
                Some(Event::Subscribed(rejected))
            }
            Packet::Publish(publish) => {
                if publish.qos == QoS::AtLeastOnce {
                    self.feed(Packet::PubAck(PubAck { pkid: publish.pkid }))?;
                }
                let Publish { topic, payload, retain, .. } = publish;
                self.intake.take(&topic, &payload, retain, clock::uptime()).map(Event::Incoming)
            }
            _ => None,
        })
    }

    /// The session may be waiting for this task, so the task must not wait for the session.
    fn report(&mut self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.intake.report_overflow(clock::uptime());
        }
    }

    /// Takes this packet and all that are queued behind it, as far as there is room.
    fn write(&mut self, first: Outgoing) -> Result<(), MqttError> {
        let mut next = Some(first);
        while let Some(Outgoing { content, acknowledged }) = next {
            let is_delivery = matches!(content, Some(Content::Delivery));
            match content {
                Some(Content::Packet(Packet::Disconnect)) => {
                    self.connection.close_gently();
                    self.feed(Packet::Disconnect)?;
                }
                Some(Content::Packet(packet)) => self.send(packet)?,
                Some(Content::Batch(batch)) => {
                    self.connection.packets.write_buffer_mut().extend_from_slice(&batch);
                    self.flushed = false;
                    self.flow.send(batch.len(), Instant::now());
                }
                Some(Content::Delivery) | None => {}
            }
            let number = self.flow.last_number();
            let bytes = if is_delivery { self.flow.sent() } else { 0 };
            self.waiting.extend(acknowledged.map(|acknowledged| (number, bytes, acknowledged)));
            next = if self.flow.has_room() { self.outgoing.try_recv().ok() } else { None };
        }
        Ok(())
    }

    fn send(&mut self, mut packet: Packet) -> Result<(), MqttError> {
        let now = Instant::now();
        match &mut packet {
            Packet::Publish(publish) if publish.qos == QoS::AtMostOnce => {}
            Packet::Publish(Publish { pkid, .. })
            | Packet::Subscribe(Subscribe { pkid, .. })
            | Packet::Unsubscribe(Unsubscribe { pkid, .. }) => *pkid = self.flow.packet_id(now),
            _ => {}
        }
        let before = self.connection.packets.write_buffer().len();
        self.feed(packet)?;
        self.flow.send(self.connection.packets.write_buffer().len() - before, now);
        Ok(())
    }

    /// Adds a packet to the buffer of the connection, which never waits.
    fn feed(&mut self, packet: Packet) -> Result<(), MqttError> {
        self.flushed = false;
        match self.connection.packets.feed(packet).now_or_never() {
            Some(result) => result.map_err(|error| MqttError::new(error, true)),
            None => Err(MqttError::Stalled),
        }
    }
}

/// Writes what is buffered, and returns the next packet of the broker. `None`: all was written.
async fn exchange(
    connection: &mut Connection,
    flushed: &mut bool,
) -> Result<Option<Received>, MqttError> {
    let failed = |error| MqttError::new(error, true);
    poll_fn(|context| {
        let mut packets = Pin::new(&mut connection.packets);
        if !*flushed {
            match Sink::<Packet>::poll_flush(packets.as_mut(), context) {
                Poll::Ready(Ok(())) => {
                    *flushed = true;
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failed(error))),
                Poll::Pending => {}
            }
        }
        match packets.poll_next_unpin(context) {
            Poll::Ready(Some(received)) => Poll::Ready(received.map(Some).map_err(failed)),
            Poll::Ready(None) => Poll::Ready(Err(MqttError::Aborted)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
