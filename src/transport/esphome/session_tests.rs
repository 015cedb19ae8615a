use proptest::prelude::*;

use super::super::fields::{put_bytes, put_number};
use super::super::noise::KEY;
use super::*;

/// A session without encryption, and what the device would receive and send.
struct Rig {
    session: Session,
    device: Framing,
    now: Instant,
}

impl Rig {
    fn new() -> Rig {
        let now = Instant::now();
        let device = Framing::new(None, &mut Vec::new()).unwrap();
        Rig { session: Session::new(None, now).unwrap(), device, now }
    }

    /// A device with this minor version of the API and one port.
    fn ready(api: u64) -> Rig {
        let mut rig = Rig::new();
        assert_eq!(rig.sent(), [api::HELLO]);
        let mut hello = Vec::new();
        put_number(&mut hello, 1, 1);
        put_number(&mut hello, 2, api);
        rig.answer(api::HELLO_REPLY, &hello).unwrap();
        assert_eq!(rig.sent(), [api::DEVICE_INFO]);
        let mut info = Vec::new();
        put_bytes(&mut info, 2, b"garage");
        put_bytes(&mut info, 25, b"\x0A\x07BMS bus");
        rig.answer(api::DEVICE_INFO_REPLY, &info).unwrap();
        assert_eq!(rig.session.next_event(), Some(Event::Ready));
        assert_eq!(rig.session.name(), Some("garage"));
        rig
    }

    /// The types of the messages that were sent.
    fn sent(&mut self) -> Vec<u64> {
        self.device.push(&self.session.take_outgoing());
        std::iter::from_fn(|| self.device.next_message().unwrap()).map(|it| it.kind).collect()
    }

    fn answer(&mut self, kind: u64, payload: &[u8]) -> Result<(), EsphomeFault> {
        let mut frame = Vec::new();
        self.device.write(kind, payload, &mut frame).unwrap();
        self.session.receive(&frame, self.now)
    }

    fn reply(&mut self, kind: u64, status: u64) {
        let mut reply = api::serial_request(0, kind);
        put_number(&mut reply, 3, status);
        self.answer(api::SERIAL_REPLY, &reply).unwrap();
    }

    fn open(&mut self) {
        self.session.open_port(0, 9600, self.now).unwrap();
        assert_eq!(self.sent(), [api::SERIAL_REQUEST, api::SERIAL_CONFIGURE, api::PING]);
    }

    fn pass_until_due(&mut self) -> Result<(), EsphomeFault> {
        self.now = self.session.deadline();
        self.session.handle_timeout(self.now)
    }
}

#[test]
fn every_step_of_the_start_has_a_limit() {
    let mut rig = Rig::new();
    assert_eq!(rig.pass_until_due(), Err(EsphomeFault::Silent));
    let mut rig = Rig::new();
    rig.answer(api::HELLO_REPLY, b"\x08\x01").unwrap();
    let asked = rig.now;
    assert_eq!(rig.pass_until_due(), Err(EsphomeFault::Silent));
    assert_eq!(rig.now - asked, STEP_LIMIT);
    let mut encrypted = Session::new(Some(&Key([1; KEY])), rig.now).unwrap();
    assert_eq!(encrypted.handle_timeout(rig.now + STEP_LIMIT), Err(EsphomeFault::Silent));
}

#[test]
fn silent_connection_is_asked_once_and_ends() {
    let mut rig = Rig::ready(19);
    let begin = rig.now;
    rig.pass_until_due().unwrap();
    assert_eq!((rig.sent(), rig.now - begin), (vec![api::PING], PING_AFTER));
    rig.answer(api::PONG, &[]).unwrap();
    rig.pass_until_due().unwrap();
    assert_eq!(rig.sent(), [api::PING]);
    assert_eq!(rig.pass_until_due(), Err(EsphomeFault::Silent));
    assert_eq!(rig.now - begin, PING_AFTER + DEAD_AFTER);
}

#[test]
fn ping_and_disconnect_request_of_the_device_are_answered() {
    let mut rig = Rig::ready(19);
    rig.answer(api::PING, &[]).unwrap();
    assert_eq!(rig.sent(), [api::PONG]);
    assert!(matches!(rig.answer(api::DISCONNECT, &[]), Err(EsphomeFault::Closed(_))));
    assert_eq!(rig.sent(), [api::DISCONNECT_REPLY]);
}

#[test]
fn port_is_open_when_everything_is_answered() {
    let mut rig = Rig::ready(16);
    rig.open();
    rig.answer(api::PONG, &[]).unwrap();
    rig.reply(api::SUBSCRIBE, 0);
    rig.answer(api::SERIAL_DATA, &api::serial_data(0, b"early")).unwrap();
    assert_eq!(rig.session.next_event(), None);
    rig.reply(api::CONFIGURE, 1);
    assert_eq!(rig.session.next_event(), Some(Event::PortOpened { port: 0 }));
    rig.answer(api::SERIAL_DATA, &api::serial_data(0, b"data")).unwrap();
    rig.answer(api::SERIAL_DATA, &api::serial_data(1, b"other")).unwrap();
    let data = Event::Data { port: 0, bytes: b"data".to_vec() };
    assert_eq!((rig.session.next_event(), rig.session.next_event()), (Some(data), None));
    // Another client takes it.
    rig.reply(api::SUBSCRIBE, api::STATUS_IN_USE);
    let lost = Event::PortFailed { port: 0, fault: EsphomeFault::PortBusy };
    assert_eq!(rig.session.next_event(), Some(lost));
}

#[test]
fn flood_of_replies_opens_the_port_once() {
    let mut rig = Rig::ready(16);
    rig.open();
    (0..256).for_each(|_| rig.reply(api::SUBSCRIBE, 0));
    assert_eq!(rig.session.next_event(), None);
    rig.answer(api::PONG, &[]).unwrap();
    assert_eq!(rig.session.next_event(), Some(Event::PortOpened { port: 0 }));
    assert_eq!(rig.session.next_event(), None);
}

#[test]
fn older_device_answers_only_the_ping() {
    let mut rig = Rig::ready(14);
    rig.open();
    rig.answer(api::PONG, &[]).unwrap();
    assert_eq!(rig.session.next_event(), Some(Event::PortOpened { port: 0 }));
}

#[test]
fn pong_of_an_earlier_ping_opens_no_port() {
    let mut rig = Rig::ready(14);
    rig.pass_until_due().unwrap();
    assert_eq!(rig.sent(), [api::PING]);
    rig.open();
    rig.answer(api::PONG, &[]).unwrap();
    assert_eq!(rig.session.next_event(), None);
    rig.answer(api::PONG, &[]).unwrap();
    assert_eq!(rig.session.next_event(), Some(Event::PortOpened { port: 0 }));
}

#[test]
fn refused_port_is_freed() {
    for (status, fault) in [
        (api::STATUS_IN_USE, EsphomeFault::PortBusy),
        (6, EsphomeFault::PortRefused { status: 6, text: String::new() }),
    ] {
        let mut rig = Rig::ready(16);
        rig.open();
        rig.reply(api::SUBSCRIBE, status);
        rig.reply(api::CONFIGURE, status);
        rig.answer(api::PONG, &[]).unwrap();
        assert_eq!(rig.session.next_event(), Some(Event::PortFailed { port: 0, fault }));
        assert_eq!(rig.sent(), [api::SERIAL_REQUEST]);
    }
}

#[test]
fn device_that_ignores_a_port_is_gone_unless_it_answers_the_ping() {
    let mut rig = Rig::ready(16);
    rig.open();
    assert_eq!(rig.pass_until_due(), Err(EsphomeFault::Silent));
    let mut rig = Rig::ready(16);
    rig.open();
    rig.answer(api::PONG, &[]).unwrap();
    rig.pass_until_due().unwrap();
    assert_eq!(rig.session.next_event(), Some(Event::PortOpened { port: 0 }));
}

proptest! {
    #[test]
    fn any_message_is_bounded(
        messages in prop::collection::vec((0..150_u64, prop::collection::vec(any::<u8>(), 0..40)), 0..20)
    ) {
        let mut rig = Rig::ready(16);
        rig.open();
        for (kind, payload) in messages {
            let result = rig.answer(kind, &payload);
            prop_assert!(rig.session.outgoing.len() < 1000 && rig.session.events.len() < 100);
            prop_assert!(rig.session.ports.len() <= 1);
            if result.is_err() {
                break;
            }
        }
    }
}
