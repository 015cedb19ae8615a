//! What a Bluetooth proxy sends: advertisements, and replies about the batteries that it is connected to.
#![no_main]

use bms_reader::transport::esphome::bluetooth as api;
use bms_reader::transport::esphome::frame::Message;
use bms_reader::transport::esphome::peers::{Awaited, Notice, Peers, Reply, Request};
use bms_reader_fuzz::Input;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

/// That of the seeds, and others.
const ADDRESSES: [u64; 4] = [0xA4C1_3700_1234, 0, 1, u64::MAX];
/// Notifications that a battery keeps.
const NOTICES: usize = 4;
const MAX_DEVICES: usize = 255;
const MAX_CHARACTERISTICS: usize = 1024;
const MAX_ENTRIES: usize = 16;
/// Requests that were sent, and the replies to them.
const REPLIES: [(u64, u64); 8] = [
    (api::DEVICE_REQUEST, api::CONNECTION),
    (api::DEVICE_REQUEST, api::DEVICE_REQUEST),
    (api::SERVICES_REQUEST, api::SERVICES_DONE),
    (api::READ, api::READ_REPLY),
    (api::WRITE, api::WRITE_REPLY),
    (api::WRITE_DESCRIPTOR, api::WRITE_REPLY),
    (api::NOTIFY, api::NOTIFY_REPLY),
    (api::SLOTS_REQUEST, api::SLOTS),
];

#[derive(Default)]
struct Reader {
    notices: Vec<mpsc::Receiver<Notice>>,
    replies: Vec<oneshot::Receiver<Reply>>,
}

impl Reader {
    /// A request about a battery, as the links send them.
    fn request(&mut self, peers: &mut Peers, input: &mut Input, connects: bool) {
        let choice = input.byte();
        let address = ADDRESSES[usize::from(choice) % ADDRESSES.len()];
        let (kind, awaited) = match connects {
            true => REPLIES[0],
            false => REPLIES[usize::from(choice >> 2) % REPLIES.len()],
        };
        let (done, reply) = oneshot::channel();
        let opens = connects.then(|| {
            let (sender, receiver) = mpsc::channel(NOTICES);
            self.notices.push(receiver);
            sender
        });
        let reply_to = Awaited { kind: awaited, handle: input.byte().into(), done };
        let request = Request { address, kind, payload: Vec::new(), opens, reply: reply_to };
        let is_known = peers.begin(request);
        assert!(is_known || !connects, "a new connection is known");
        self.replies.push(reply);
    }

    fn check(&mut self, received: usize) {
        self.replies.retain_mut(|reply| match reply.try_recv() {
            Ok(Reply::Services(found)) => {
                assert!(found.len() <= MAX_CHARACTERISTICS.min(received));
                false
            }
            Ok(Reply::Value(value)) => {
                assert!(value.len() <= received);
                false
            }
            Ok(_) | Err(oneshot::error::TryRecvError::Closed) => false,
            Err(oneshot::error::TryRecvError::Empty) => true,
        });
        for notices in &mut self.notices {
            while let Ok(notice) = notices.try_recv() {
                assert!(notice.is_err() || notice.is_ok_and(|value| value.len() <= received));
            }
        }
    }
}

fn check_radio(peers: &Peers, now: Instant) {
    let radio = peers.radio.borrow();
    let mut count = 0;
    for (_, device) in radio.in_reach(now) {
        count += 1;
        let found = &device.advertised;
        assert!(found.services.len() <= MAX_ENTRIES && found.manufacturer.len() <= MAX_ENTRIES);
        assert!(!found.name.as_ref().is_some_and(|name| name.contains(char::is_control)));
    }
    assert!(count <= MAX_DEVICES);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (mut peers, mut reader, mut now) = (Peers::default(), Reader::default(), Instant::now());
    let mut received = 0;
    while !input.is_empty() {
        match input.byte() {
            0 => reader.request(&mut peers, &mut input, true),
            1 => reader.request(&mut peers, &mut input, false),
            2 => {
                reader.notices.clear();
                let dropped = peers.take_dropped();
                assert!(dropped.iter().all(|address| ADDRESSES.contains(address)));
                assert!(peers.take_dropped().is_empty(), "each battery is disconnected once");
            }
            3 => now += Duration::from_secs(input.byte().into()),
            _ => {
                let kind = input.word().into();
                let payload = input.chunk().unwrap_or_default().to_vec();
                received += payload.len();
                peers.handle(&Message { kind, payload }, now);
            }
        }
        reader.check(received);
    }
    check_radio(&peers, now);
});
