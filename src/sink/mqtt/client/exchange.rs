//! Moves packets between the socket and the two queues of a connection.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use rumqttc::{
    Packet, PubAck, Publish, QoS, Subscribe, SubscribeFilter, SubscribeReasonCode, UnsubAck,
    Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::flow::Flow;
use super::intake::Intake;
use super::received::Received;
use super::{Content, Event, Outgoing};
use crate::clock;
use crate::sink::mqtt::Version;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::limits::{LOG_LINES, Rate};

/// In front of its filter, for the log.
const SUBSCRIPTION: &str = "the subscription to ";

/// A connection while it lasts.
pub struct Exchange {
    connection: Connection,
    flow: Flow,
    intake: Intake,
    outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Event>,
    queue_length: Arc<AtomicUsize>,
    /// See [`super::codec::PacketCodec::progress`].
    progress: u64,
    /// Nothing waits in the buffer of the connection.
    flushed: bool,
    /// Those who wait for the acknowledgement of a packet and all before it, and for the receipt of these bytes.
    waiting: VecDeque<(u64, u64, oneshot::Sender<()>)>,
    /// With MQTT 5: the topics of unacknowledged packets by their ID, to name those that the broker refuses.
    parts: BTreeMap<u16, Vec<String>>,
    /// Limits the log lines about them.
    refusals: Rate,
}

impl Exchange {
    pub fn new(
        connection: Connection,
        flow: Flow,
        intake: Intake,
        (outgoing, events): (mpsc::Receiver<Outgoing>, mpsc::Sender<Event>),
        queue_length: Arc<AtomicUsize>,
    ) -> Self {
        Exchange {
            connection,
            flow,
            intake,
            outgoing,
            events,
            queue_length,
            progress: 0,
            flushed: true,
            waiting: VecDeque::new(),
            parts: BTreeMap::new(),
            refusals: Rate::new(LOG_LINES),
        }
    }

    /// Moves packets until the connection ends.
    pub async fn run(mut self) -> MqttError {
        self.report(Event::Connected(self.connection.agreed));
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
            Some(Received::Reasons(id, reasons)) => self.handle_reasons(id, &reasons),
            Some(Received::Ended(reason)) => return Err(MqttError::Ended(reason)),
            Some(Received::Answer(_)) => None,
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
            Packet::PubAck(PubAck { pkid }) | Packet::UnsubAck(UnsubAck { pkid }) => {
                self.flow.acknowledge(pkid);
                self.parts.remove(&pkid);
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

    /// Names in the log what the broker has refused. The rest continues, as with MQTT 3.1.1.
    fn handle_reasons(&mut self, id: u16, reasons: &[Option<String>]) -> Option<Event> {
        self.flow.acknowledge(id);
        let parts = self.parts.remove(&id).unwrap_or_default();
        let mut refused = 0;
        for (part, reason) in parts.iter().zip(reasons) {
            let Some(reason) = reason else { continue };
            refused += 1;
            if self.refusals.admit(clock::uptime()).is_some() {
                tracing::warn!("MQTT: the broker refuses {part}: {reason}. Check its access rules");
            }
        }
        // The reply to a message has one reason and is no event.
        let is_subscription = parts.first().is_none_or(|part| part.starts_with(SUBSCRIPTION));
        is_subscription.then_some(Event::Subscribed(refused))
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
        if self.connection.agreed.version == Version::V5 {
            self.remember_parts(&packet);
        }
        let before = self.connection.packets.write_buffer().len();
        self.feed(packet)?;
        self.flow.send(self.connection.packets.write_buffer().len() - before, now);
        Ok(())
    }

    fn remember_parts(&mut self, packet: &Packet) {
        let (id, parts) = match packet {
            Packet::Publish(publish) => {
                (publish.pkid, vec![format!("the message on {}", publish.topic)])
            }
            Packet::Subscribe(subscribe) => {
                let part = |filter: &SubscribeFilter| format!("{SUBSCRIPTION}{}", filter.path);
                (subscribe.pkid, subscribe.filters.iter().map(part).collect())
            }
            _ => return,
        };
        self.parts.insert(id, parts);
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
