//! One battery's hold on the recorder: hears everything, blanks what is secret.

use tracing::{Level, enabled, trace};

use super::event::{DriverSetup, Entry, Event};
use super::recorder::Recorder;
use crate::clock;
use crate::model::{DeviceId, DeviceState};
use crate::protocol::driver::Side;
use crate::protocol::{CycleKind, Driver, Options};
use crate::raw::raw;

/// Bytes of each direction that are remembered: a frame that holds a secret may come in pieces, and
/// the longest of any brand is well below.
const MEMORY: usize = 1024;

/// Hears one battery's conversation, for the log of those who want every byte and for the capture
/// where there is one. Neither gets to see a secret.
#[derive(Debug)]
pub struct TrafficLog {
    device: DeviceId,
    recorder: Option<Recorder>,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl TrafficLog {
    /// A traffic on this battery's line; without a recorder nothing is kept.
    pub fn new(device: &DeviceId, recorder: Option<&Recorder>) -> Self {
        TrafficLog {
            device: device.clone(),
            recorder: recorder.cloned(),
            sent: Vec::new(),
            received: Vec::new(),
        }
    }

    /// A driver was made.
    pub fn driver(&mut self, brand: &str, options: &Options) {
        self.write(|| Event::Driver(Box::new(DriverSetup::of(brand, options))));
    }

    /// The driver forgot its session.
    pub fn reset(&mut self) {
        self.sent.clear();
        self.received.clear();
        self.write(|| Event::Reset);
    }

    /// A cycle begins.
    pub fn start(&mut self, kind: CycleKind) {
        self.write(|| Event::Start { kind });
    }

    /// We said this.
    pub fn sent(&mut self, driver: &dyn Driver, bytes: &[u8]) {
        let wanted = self.is_wanted();
        if let Some(hex) = blanked(driver, Side::Reader, &mut self.sent, bytes, wanted) {
            trace!(hex, "sent");
            self.write(|| Event::Sent { hex });
        }
    }

    /// The battery said this.
    pub fn received(&mut self, driver: &dyn Driver, bytes: &[u8]) {
        let wanted = self.is_wanted();
        if let Some(hex) = blanked(driver, Side::Battery, &mut self.received, bytes, wanted) {
            trace!(hex, "received");
            self.write(|| Event::Received { hex });
        }
    }

    /// The driver was told of silence.
    pub fn silence(&mut self) {
        self.write(|| Event::Silence);
    }

    /// The cycle ended without the driver.
    pub fn broken(&mut self) {
        self.write(|| Event::Broken);
    }

    /// An attempt was booked.
    pub fn attempt(&mut self, state: &DeviceState) {
        self.write(|| Event::Attempt { raw: raw(state) });
    }

    /// Whether anybody looks at the bytes.
    fn is_wanted(&self) -> bool {
        self.recorder.is_some() || enabled!(Level::TRACE)
    }

    fn write(&self, event: impl FnOnce() -> Event) {
        if let Some(recorder) = &self.recorder {
            recorder.write(Entry::new(clock::now(), &self.device, event()));
        }
    }
}

/// The bytes in hex where they are wanted, after the driver has overwritten what must not leave it. It sees them behind
/// those that came before, since frames are cut anywhere.
fn blanked(
    driver: &dyn Driver,
    side: Side,
    memory: &mut Vec<u8>,
    bytes: &[u8],
    wanted: bool,
) -> Option<String> {
    memory.extend_from_slice(bytes);
    let hex = wanted.then(|| {
        let mut copy = memory.clone();
        driver.redact(side, &mut copy);
        let from = copy.len().saturating_sub(bytes.len());
        copy.iter().skip(from).map(|byte| format!("{byte:02x}")).collect()
    });
    memory.drain(..memory.len().saturating_sub(MEMORY));
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Step;

    /// Whoever looks at its bytes is told.
    struct Shy;

    impl Driver for Shy {
        fn reset(&mut self) {}
        fn start(&mut self, _kind: CycleKind) {}
        fn step(&mut self) -> Step {
            Step::Await(std::time::Duration::ZERO)
        }
        fn advance(&mut self) {}
        fn receive(&mut self, _bytes: &[u8]) {}
        fn handle_timeout(&mut self) {}
        fn redact(&self, _side: Side, _bytes: &mut [u8]) {
            panic!("nobody wants to see it");
        }
    }

    #[test]
    fn bytes_that_nobody_looks_at_are_remembered_and_no_more() {
        let mut traffic = TrafficLog::new(&DeviceId::new("b").unwrap(), None);
        for _ in 0..3 {
            traffic.received(&Shy, &[7; 600]);
            traffic.sent(&Shy, &[8; 20]);
        }
        assert_eq!((traffic.received.len(), traffic.sent.len()), (MEMORY, 60));
    }
}
