//! The traffic of one battery, with redacted secrets.

use tracing::{Level, enabled, trace};

use super::event::{DriverSetup, Entry, Event};
use super::recorder::Recorder;
use crate::clock;
use crate::model::{DeviceId, DeviceState};
use crate::protocol::driver::Side;
use crate::protocol::{self, Driver, Options};
use crate::raw::raw;

/// Bytes of each direction that are kept for the redaction, because a frame with a secret may
/// arrive in pieces. The longest frame of any brand is well below.
const MEMORY: usize = 1024;

/// Writes to the log (at `trace`) and to the capture, if there is one.
#[derive(Debug)]
pub struct TrafficLog {
    device: DeviceId,
    recorder: Option<Recorder>,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl TrafficLog {
    pub fn new(device: &DeviceId, recorder: Option<&Recorder>) -> Self {
        let (device, recorder) = (device.clone(), recorder.cloned());
        TrafficLog { device, recorder, sent: Vec::new(), received: Vec::new() }
    }

    /// The driver was reset.
    pub fn reset(&mut self) {
        self.sent.clear();
        self.received.clear();
        self.write(|| Event::Reset);
    }

    pub fn sent(&mut self, driver: &dyn Driver, bytes: &[u8]) {
        if let Some(hex) = self.redacted_hex(driver, Side::Reader, bytes) {
            trace!(hex, "sent");
            self.write(|| Event::Sent { hex });
        }
    }

    pub fn received(&mut self, driver: &dyn Driver, bytes: &[u8]) {
        if let Some(hex) = self.redacted_hex(driver, Side::Battery, bytes) {
            trace!(hex, "received");
            self.write(|| Event::Received { hex });
        }
    }

    pub fn driver(&mut self, brand: &str, options: &Options) {
        self.write(|| Event::Driver(Box::new(DriverSetup::new(brand, options))));
    }

    pub fn attempt(&mut self, state: &DeviceState) {
        self.write(|| Event::Attempt { raw: raw(state) });
    }

    /// Writes an event to the capture; `event` is not called if there is none.
    pub fn write(&self, event: impl FnOnce() -> Event) {
        if let Some(recorder) = &self.recorder {
            let device = self.device.to_string();
            recorder.write(Entry { at: clock::now(), device, event: event() });
        }
    }

    /// `None` when neither the log nor a capture wants the bytes. The driver sees them behind the
    /// previous ones, since a chunk may begin or end in the middle of a frame.
    fn redacted_hex(&mut self, driver: &dyn Driver, side: Side, bytes: &[u8]) -> Option<String> {
        let memory = match side {
            Side::Reader => &mut self.sent,
            Side::Battery => &mut self.received,
        };
        if self.recorder.is_none() && !enabled!(Level::TRACE) {
            return None;
        }
        memory.extend_from_slice(bytes);
        let copy = redacted(driver, side, memory);
        let start = copy.len().saturating_sub(bytes.len());
        memory.drain(..memory.len().saturating_sub(MEMORY));
        Some(copy.iter().skip(start).map(|byte| format!("{byte:02x}")).collect())
    }
}

fn redacted(driver: &dyn Driver, side: Side, bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    driver.redact(side, &mut copy);
    protocol::redact(side, &mut copy);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CycleKind, Step};

    struct PanicOnRedact;

    impl Driver for PanicOnRedact {
        fn reset(&mut self) {}
        fn start(&mut self, _kind: CycleKind) {}
        fn step(&mut self) -> Step {
            Step::Await(std::time::Duration::ZERO)
        }
        fn advance(&mut self) {}
        fn receive(&mut self, _bytes: &[u8]) {}
        fn handle_timeout(&mut self) {}
        fn redact(&self, _side: Side, _bytes: &mut [u8]) {
            panic!("unwanted bytes were redacted");
        }
    }

    #[test]
    fn passcodes_of_a_jk_board_are_redacted_for_every_type() {
        use crate::protocol::jk::record::{RECORD, RECORD_HEADER, checksum};
        const SECRET: &[u8] = b"Secret-Passcode!";
        let mut record = [&RECORD_HEADER[..], &[3, 1], &[b'7'; RECORD - 7]].concat();
        record[62..78].copy_from_slice(SECRET);
        record.push(checksum(&record));
        for info in protocol::drivers() {
            let driver = info.driver(&Options::default());
            let shown = redacted(driver.as_ref(), Side::Battery, &record);
            assert_eq!(shown[62..78], [0; 16], "{}", info.name);
            assert_eq!(checksum(&shown[..RECORD - 1]), shown[RECORD - 1], "{}", info.name);
            for at in 0..SECRET.len() + 62 {
                let (head, tail) = record.split_at(at);
                let damaged = [head, &[!tail[0]], &tail[1..]].concat();
                let doubled = [head, &tail[..1], tail].concat();
                for bytes in [[head, &tail[1..]].concat(), damaged, doubled] {
                    let shown = redacted(driver.as_ref(), Side::Battery, &bytes);
                    let reveals = |part: &[u8]| shown.windows(part.len()).any(|it| it == part);
                    let reveals = reveals(b"Secret") || reveals(b"Passcode");
                    assert!(!reveals, "{}, byte {at}", info.name);
                }
            }
        }
    }

    #[test]
    fn unwanted_bytes_are_neither_kept_nor_redacted() {
        let mut traffic = TrafficLog::new(&DeviceId::new("b").unwrap(), None);
        for _ in 0..3 {
            traffic.received(&PanicOnRedact, &[7; 600]);
            traffic.sent(&PanicOnRedact, &[8; 20]);
        }
        assert_eq!((traffic.received.capacity(), traffic.sent.capacity()), (0, 0));
    }
}
