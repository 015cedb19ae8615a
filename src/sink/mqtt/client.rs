//! One connection to the broker. The only file that knows the MQTT library.
//!
//! A connection is used once: the library's own reconnecting knows no pause, and what it carries
//! over from a broken session (half-sent queues, packet ids, packets the broker chokes on) is worse
//! than nothing. Whoever wants to go on opens a new one and says everything again.
//!
//! A connection has two ends. [`Pump`] alone touches the socket and must be polled all the time;
//! [`Link`] is what the session holds. Between them are two bounded queues. The pump never waits
//! for the session, so the session may wait for the pump.

use std::net::Ipv6Addr;
use std::time::Duration;

use rumqttc::{
    Event as Happening, EventLoop, LastWill, MqttOptions, Packet, Publish, QoS, Request, Subscribe,
    SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Settings;
use super::error::MqttError;
use super::inbound::{Input, Router};
use super::message::Message;
use super::topics;
use crate::board::QueueLength;

/// Largest packet, both ways. The library's 10 KiB would break on the announcement of a device
/// with many cells.
const LARGEST_PACKET: usize = 1024 * 1024;
/// What a packet holds besides topic and payload, at most.
const PACKET_OVERHEAD: usize = 16;
/// Messages waiting for the socket: a read of a large pack, or several.
const ORDERS: usize = 512;
/// Inputs waiting for the session: more than fit between two turns of the scheduler.
const EVENTS: usize = 4096;
/// Messages sent but not yet confirmed.
const UNCONFIRMED: u16 = 1000;
/// A broker that takes nothing for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// A broker confirms at once; one that answers pings and confirms nothing must not hold us.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// What the broker says.
#[derive(Debug)]
pub enum Event {
    /// It let us in.
    Connected,
    /// It answered a subscription; so many filters were refused.
    Subscribed {
        /// How many.
        refused: usize,
    },
    /// A message that means something to us.
    Input(Input),
}

#[derive(Debug)]
enum Order {
    Publish(Message),
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    /// Answered once every message is confirmed.
    Settle(oneshot::Sender<()>),
    /// Answered once it left.
    Disconnect(oneshot::Sender<()>),
}

/// The session's end of a connection.
#[derive(Debug)]
pub struct Link {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
}

/// The socket's end of a connection.
pub struct Pump {
    eventloop: EventLoop,
    router: Router,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<Event>,
    /// Where others see how much waits for the socket or for the broker's confirmation.
    waiting: QueueLength,
    connected: bool,
    settling: Option<oneshot::Sender<()>>,
    overrun: bool,
}

/// Makes the two ends; nothing moves before [`Pump::run`].
pub fn open(
    settings: &Settings,
    router: Router,
    waiting: QueueLength,
) -> Result<(Pump, Link), MqttError> {
    let (orders_in, orders) = mpsc::channel(ORDERS);
    let (events, events_out) = mpsc::channel(EVENTS);
    // The library's own request queue stays empty: it flushes after each message.
    let eventloop = EventLoop::new(options(settings)?, 1);
    let pump = Pump {
        eventloop,
        router,
        orders,
        events,
        waiting,
        connected: false,
        settling: None,
        overrun: false,
    };
    Ok((pump, Link { orders: orders_in, events: events_out }))
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
    options.set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
    options.set_inflight(UNCONFIRMED);
    let will = topics::bridge_online(&settings.client_id);
    options.set_last_will(LastWill::new(will, "false", QoS::AtLeastOnce, true));
    if let Some((user, password)) = &settings.login {
        options.set_credentials(user, password.expose());
    }
    if let Some(tls) = &settings.tls {
        secure(&mut options, tls)?;
    }
    Ok(options)
}

#[cfg(feature = "tls")]
fn secure(options: &mut MqttOptions, tls: &super::Tls) -> Result<(), MqttError> {
    let config =
        super::tls::client_config(tls).map_err(|error| MqttError::Tls(error.to_string()))?;
    let config = rumqttc::TlsConfiguration::Rustls(config);
    options.set_transport(rumqttc::Transport::tls_with_config(config));
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn secure(_options: &mut MqttOptions, _tls: &super::Tls) -> Result<(), MqttError> {
    Err(MqttError::Tls("this program was built without TLS".to_owned()))
}

impl Link {
    /// The next thing the broker says.
    pub async fn next(&mut self) -> Result<Event, MqttError> {
        self.events.recv().await.ok_or(MqttError::Closed)
    }

    /// Hands over messages in order; waits while the queue is full.
    pub async fn publish(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<(), MqttError> {
        for message in messages {
            if is_sendable(&message) {
                tracing::debug!("MQTT: {}, {} bytes", message.topic, message.payload.len());
                self.order(Order::Publish(message)).await?;
            }
        }
        Ok(())
    }

    /// Asks for the messages of these topics; the broker's answer is [`Event::Subscribed`].
    pub async fn subscribe(&self, filters: Vec<String>) -> Result<(), MqttError> {
        self.order(Order::Subscribe(filters)).await
    }

    /// The opposite.
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), MqttError> {
        self.order(Order::Unsubscribe(filters)).await
    }

    /// Waits until the broker has confirmed every message.
    pub async fn settle(&self) -> Result<(), MqttError> {
        let (done, settled) = oneshot::channel();
        self.order(Order::Settle(done)).await?;
        match timeout(SETTLE_LIMIT, settled).await {
            Ok(settled) => settled.map_err(|_| MqttError::Closed),
            Err(_) => Err(MqttError::Stuck),
        }
    }

    /// Says goodbye, so that the broker does not publish the last will.
    pub async fn disconnect(&self) -> Result<(), MqttError> {
        let (done, left) = oneshot::channel();
        self.order(Order::Disconnect(done)).await?;
        left.await.map_err(|_| MqttError::Closed)
    }

    async fn order(&self, order: Order) -> Result<(), MqttError> {
        self.orders.send(order).await.map_err(|_| MqttError::Closed)
    }
}

/// A message that would end the connection is worse than a missing one.
fn is_sendable(message: &Message) -> bool {
    let size = message.topic.len() + message.payload.len() + PACKET_OVERHEAD;
    if size > LARGEST_PACKET {
        tracing::error!(topic = message.topic, size, "MQTT: a message is too large, not sent");
        return false;
    }
    if !topics::is_publishable(&message.topic) {
        tracing::error!(topic = message.topic, "MQTT: no such topic is allowed, not sent");
        return false;
    }
    true
}

impl Pump {
    /// Connects and moves packets until the connection ends.
    pub async fn run(mut self) -> MqttError {
        loop {
            let ready = self.connected && self.has_room();
            let result = tokio::select! {
                biased;
                happening = self.eventloop.poll() => match happening {
                    Ok(Happening::Incoming(packet)) => self.hear(packet),
                    Ok(Happening::Outgoing(_)) => Ok(()),
                    Err(error) => Err(MqttError::of(error, self.connected)),
                },
                Some(order) = self.orders.recv(), if ready => {
                    timeout(WRITE_LIMIT, self.write(order)).await.unwrap_or(Err(MqttError::Stuck))
                }
            };
            self.waiting.set(self.orders.len() + usize::from(self.eventloop.state.inflight()));
            if let Err(trouble) = result {
                return trouble;
            }
            if self.eventloop.state.inflight() == 0
                && let Some(settled) = self.settling.take()
            {
                // Nobody waits any more: nothing to do.
                let _ = settled.send(());
            }
        }
    }

    /// The library gives packet ids out again without asking whether they are free.
    fn has_room(&self) -> bool {
        let state = &self.eventloop.state;
        state.inflight() < UNCONFIRMED && state.collision.is_none()
    }

    fn hear(&mut self, packet: Packet) -> Result<(), MqttError> {
        let event = match packet {
            Packet::ConnAck(_) => {
                self.connected = true;
                Event::Connected
            }
            Packet::SubAck(ack) => {
                let refused = |code: &&SubscribeReasonCode| **code == SubscribeReasonCode::Failure;
                Event::Subscribed { refused: ack.return_codes.iter().filter(refused).count() }
            }
            Packet::Publish(publish) => {
                let Publish { topic, payload, retain, .. } = publish;
                match self.router.understand(&topic, &payload, retain) {
                    Some(input) => Event::Input(input),
                    None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        // The session may be waiting for us, so we must not wait for it.
        if self.events.try_send(event).is_err() && !self.overrun {
            self.overrun = true;
            tracing::warn!("MQTT: more messages come in than can be handled, some are dropped");
        }
        Ok(())
    }

    /// Writes this order and all that wait behind it, then flushes once.
    async fn write(&mut self, first: Order) -> Result<(), MqttError> {
        let mut next = Some(first);
        let mut left = None;
        while let Some(order) = next {
            let request = match order {
                Order::Publish(message) => Some(publish_request(message)),
                Order::Subscribe(filters) => {
                    // Confirmed messages would wait for each other at the broker and let our echo
                    // overtake what it is to come behind.
                    let filter = |path| SubscribeFilter::new(path, QoS::AtMostOnce);
                    Some(Subscribe::new_many(filters.into_iter().map(filter)).into())
                }
                Order::Unsubscribe(topics) => {
                    Some(Request::Unsubscribe(Unsubscribe { pkid: 0, topics }))
                }
                Order::Settle(done) => {
                    self.settling = Some(done);
                    None
                }
                Order::Disconnect(done) => {
                    left = Some(done);
                    Some(Request::Disconnect(rumqttc::Disconnect))
                }
            };
            if let Some(request) = request {
                self.feed(request).await?;
            }
            next = if self.has_room() { self.orders.try_recv().ok() } else { None };
        }
        if let Some(network) = &mut self.eventloop.network {
            network.flush().await.map_err(MqttError::of_state)?;
        }
        if let Some(left) = left {
            // Nobody waits any more: nothing to do.
            let _ = left.send(());
        }
        Ok(())
    }

    async fn feed(&mut self, request: Request) -> Result<(), MqttError> {
        let packet = self.eventloop.state.handle_outgoing_packet(request);
        let packet = packet.map_err(MqttError::of_state)?;
        match (packet, &mut self.eventloop.network) {
            (Some(packet), Some(network)) => {
                network.write(packet).await.map_err(MqttError::of_state)
            }
            _ => Ok(()),
        }
    }
}

fn publish_request(message: Message) -> Request {
    let qos = if message.confirmed { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let mut publish = Publish::new(message.topic, qos, message.payload);
    publish.retain = message.retain;
    Request::Publish(publish)
}

impl std::fmt::Debug for Pump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pump").field("connected", &self.connected).finish_non_exhaustive()
    }
}
