//! The batteries that a Bluetooth proxy is connected to: assigns messages of the proxy to the requests
//! that they answer. Without IO.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::debug;

use super::bluetooth::{self as api, Characteristic, ConnectionState, Slots};
use super::fields::number;
use super::frame::Message;
use super::radio::Radio;

/// More characteristics of one battery are ignored.
const MAX_CHARACTERISTICS: usize = 1024;

/// A request about one battery.
#[derive(Debug)]
pub struct Request {
    pub address: u64,
    /// The type of the message.
    pub kind: u64,
    pub payload: Vec<u8>,
    /// A new connection, and where its notifications go.
    pub opens: Option<mpsc::Sender<Notice>>,
    pub reply: Awaited,
}

/// The reply that a request has.
#[derive(Debug)]
pub struct Awaited {
    pub kind: u64,
    /// Of the characteristic or descriptor, if the reply names one.
    pub handle: u64,
    pub done: oneshot::Sender<Reply>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Connection(ConnectionState),
    Services(Vec<Characteristic>),
    Value(Vec<u8>),
    Done,
    /// The code of a GATT error.
    Failed(i32),
}

/// A notification, or with its reason the end of the connection.
pub type Notice = Result<Vec<u8>, i32>;

/// All batteries of one proxy.
#[derive(Debug, Default)]
pub struct Peers {
    peers: Vec<TaskPeer>,
    pub radio: watch::Sender<Radio>,
}

#[derive(Debug)]
struct TaskPeer {
    address: u64,
    notifications: mpsc::Sender<Notice>,
    waiting: Option<Awaited>,
    /// Those that were listed so far.
    characteristics: Vec<Characteristic>,
}

impl TaskPeer {
    /// Answers the request that waits, if it waits for a message of this kind about this handle.
    fn answer(&mut self, kind: u64, handle: u64, reply: Reply) {
        let is_reply =
            |it: &mut Awaited| it.handle == handle && (it.kind == kind || kind == api::GATT_ERROR);
        if let Some(waiting) = self.waiting.take_if(is_reply) {
            let _ = waiting.done.send(reply);
        }
    }
}

impl Peers {
    /// Registers a request that is about to be sent. False if its battery is not connected.
    pub fn begin(&mut self, request: Request) -> bool {
        let Request { address, opens, reply, .. } = request;
        if let Some(notifications) = opens {
            self.peers.retain(|peer| peer.address != address);
            let characteristics = Vec::new();
            self.peers.push(TaskPeer { address, notifications, waiting: None, characteristics });
        }
        let peer = self.find(address);
        let is_known = peer.is_some();
        if let Some(peer) = peer {
            peer.waiting = Some(reply);
        }
        is_known
    }

    fn find(&mut self, address: u64) -> Option<&mut TaskPeer> {
        self.peers.iter_mut().find(|peer| peer.address == address)
    }

    /// The batteries whose connections were dropped; they are forgotten.
    pub fn take_dropped(&mut self) -> Vec<u64> {
        let is_dropped = |peer: &&TaskPeer| peer.notifications.is_closed();
        let dropped: Vec<_> = self.peers.iter().filter(is_dropped).map(|it| it.address).collect();
        self.peers.retain(|peer| !dropped.contains(&peer.address));
        dropped
    }

    pub fn handle(&mut self, message: &Message, now: Instant) {
        let payload = &message.payload[..];
        self.radio.send_if_modified(|radio| note(radio, message, now));
        let (address, handle) = (number(payload, 1), number(payload, 2));
        let Some(peer) = self.find(address) else { return };
        match message.kind {
            api::CONNECTION => self.change(address, ConnectionState::read(payload)),
            api::SERVICES => {
                let room = MAX_CHARACTERISTICS.saturating_sub(peer.characteristics.len());
                peer.characteristics.extend(api::read_services(payload).into_iter().take(room));
            }
            api::SERVICES_DONE => {
                let services = Reply::Services(std::mem::take(&mut peer.characteristics));
                peer.answer(api::SERVICES_DONE, 0, services);
            }
            api::READ_REPLY => {
                let (_, _, value) = api::read_value(payload);
                peer.answer(message.kind, handle, Reply::Value(value.to_vec()));
            }
            api::WRITE_REPLY | api::NOTIFY_REPLY => peer.answer(message.kind, handle, Reply::Done),
            api::GATT_ERROR => {
                peer.answer(message.kind, handle, Reply::Failed(api::read_error(payload)));
            }
            api::NOTIFICATION => {
                let (_, _, value) = api::read_value(payload);
                // The stream of a battery is no more reliable than that of the proxy, which drops
                // notifications when its buffer is full.
                if let Err(TrySendError::Full(_)) = peer.notifications.try_send(Ok(value.to_vec()))
                {
                    debug!("notification lost, because it is not read");
                }
            }
            _ => {}
        }
    }

    fn change(&mut self, address: u64, state: ConnectionState) {
        let Some(peer) = self.find(address) else { return };
        if let Some(waiting) =
            peer.waiting.take_if(|it| !state.connected || it.kind == api::CONNECTION)
        {
            let _ = waiting.done.send(Reply::Connection(state));
        }
        if !state.connected {
            let _ = peer.notifications.try_send(Err(state.error));
            self.peers.retain(|peer| peer.address != address);
        }
    }
}

/// Updates what is known about the proxy; false if nothing has changed.
fn note(radio: &mut Radio, message: &Message, now: Instant) -> bool {
    let payload = &message.payload[..];
    // The number of free connections is reported to each client that requests it.
    if message.kind != api::SLOTS {
        radio.last = Some(now);
    }
    match message.kind {
        api::SLOTS => {
            (radio.slots, radio.slots_at) = (Some(Slots::read(payload)), Some(now));
        }
        api::SCANNER_STATE => {
            (radio.is_ours, radio.is_passive) = (true, number(payload, 2) == 0);
        }
        api::ADVERTISEMENTS => {
            api::read_advertisements(payload).for_each(|one| radio.receive(&one, now));
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::{put_bytes, put_number};
    use super::*;

    const BATTERY: u64 = 0xA4C1_3800_0001;

    fn message(kind: u64, numbers: &[u64], data: Option<(u32, &[u8])>) -> Message {
        let mut payload = Vec::new();
        (1..).zip(numbers).for_each(|(field, number)| put_number(&mut payload, field, *number));
        if let Some((field, bytes)) = data {
            put_bytes(&mut payload, field, bytes);
        }
        Message { kind, payload }
    }

    struct Rig {
        peers: Peers,
        notices: mpsc::Receiver<Notice>,
    }

    impl Rig {
        fn connected() -> Self {
            let (opens, notices) = mpsc::channel(4);
            let mut rig = Rig { peers: Peers::default(), notices };
            let mut reply = rig.begin(api::CONNECTION, 0, Some(opens));
            rig.receive(&message(api::CONNECTION, &[BATTERY, 1, 247], None));
            let state = ConnectionState { connected: true, mtu: 247, error: 0 };
            assert_eq!(reply.try_recv(), Ok(Reply::Connection(state)));
            rig
        }

        fn begin(
            &mut self,
            kind: u64,
            handle: u64,
            opens: Option<mpsc::Sender<Notice>>,
        ) -> oneshot::Receiver<Reply> {
            let (done, reply) = oneshot::channel();
            let reply_to = Awaited { kind, handle, done };
            let payload = Vec::new();
            let address = BATTERY;
            self.peers.begin(Request { address, kind: 0, payload, opens, reply: reply_to });
            reply
        }

        fn receive(&mut self, message: &Message) {
            self.peers.handle(message, Instant::now());
        }
    }

    #[test]
    fn reply_about_another_handle_or_battery_answers_nothing() {
        let mut rig = Rig::connected();
        let mut reply = rig.begin(api::WRITE_REPLY, 6, None);
        rig.receive(&message(api::WRITE_REPLY, &[BATTERY, 7], None));
        rig.receive(&message(api::WRITE_REPLY, &[BATTERY + 1, 6], None));
        rig.receive(&message(api::NOTIFY_REPLY, &[BATTERY, 6], None));
        assert!(reply.try_recv().is_err());
        rig.receive(&message(api::WRITE_REPLY, &[BATTERY, 6], None));
        assert_eq!(reply.try_recv(), Ok(Reply::Done));
        let mut reply = rig.begin(api::WRITE_REPLY, 6, None);
        rig.receive(&message(api::GATT_ERROR, &[BATTERY, 6, 133], None));
        assert_eq!(reply.try_recv(), Ok(Reply::Failed(133)));
    }

    #[test]
    fn lost_connection_fails_the_request_and_ends_the_notifications() {
        let mut rig = Rig::connected();
        rig.receive(&message(api::NOTIFICATION, &[BATTERY, 3], Some((3, b"data"))));
        let mut reply = rig.begin(api::WRITE_REPLY, 6, None);
        rig.receive(&message(api::CONNECTION, &[BATTERY, 0, 0, 8], None));
        let state = ConnectionState { connected: false, mtu: 0, error: 8 };
        assert_eq!(reply.try_recv(), Ok(Reply::Connection(state)));
        assert_eq!(rig.notices.try_recv(), Ok(Ok(b"data".to_vec())));
        assert_eq!(rig.notices.try_recv(), Ok(Err(8)));
        assert_eq!(rig.notices.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert!(rig.begin(api::WRITE_REPLY, 6, None).try_recv().is_err());
    }

    #[test]
    fn services_are_complete_with_the_last_message() {
        let mut rig = Rig::connected();
        let mut reply = rig.begin(api::SERVICES_DONE, 0, None);
        let services = super::super::message::tests::recorded("services, short UUIDs");
        let mut payload = Vec::new();
        put_number(&mut payload, 1, BATTERY);
        let service = super::super::fields::bytes(&services, 2);
        put_bytes(&mut payload, 2, service);
        rig.receive(&Message { kind: api::SERVICES, payload: payload.clone() });
        assert!(reply.try_recv().is_err());
        rig.receive(&Message { kind: api::SERVICES, payload });
        rig.receive(&message(api::SERVICES_DONE, &[BATTERY], None));
        let Ok(Reply::Services(found)) = reply.try_recv() else { panic!() };
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn dropped_connection_is_noticed_once() {
        let Rig { mut peers, notices } = Rig::connected();
        assert_eq!(peers.take_dropped(), [0; 0]);
        drop(notices);
        assert_eq!(peers.take_dropped(), [BATTERY]);
        assert_eq!(peers.take_dropped(), [0; 0]);
    }

    proptest! {
        #[test]
        fn any_message_is_bounded(
            messages in prop::collection::vec(
                (66..128_u64, prop::collection::vec(any::<u8>(), 0..40)), 0..40)
        ) {
            let mut rig = Rig::connected();
            let mut address = Vec::new();
            put_number(&mut address, 1, BATTERY);
            for (kind, payload) in messages {
                rig.receive(&Message { kind, payload: [&address[..], &payload].concat() });
                prop_assert!(rig.peers.peers.len() <= 1);
            }
        }
    }
}
