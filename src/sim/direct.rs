//! Reads simulated batteries at any simulated time, without a line and without waiting.

use super::Bus;
use super::bus::RequestBuffer;
use crate::model::Reading;
use crate::protocol::{CycleKind, Driver, Step};

/// More steps than any cycle has.
const MAX_STEPS: usize = 4000;

/// A bus that is connected to its drivers directly.
#[derive(Debug)]
pub struct DirectBus {
    bus: Bus,
    requests: RequestBuffer,
}

impl DirectBus {
    pub fn new(mut bus: Bus) -> Self {
        let requests = bus.connect();
        DirectBus { bus, requests }
    }

    /// One cycle of a driver; `None` if it fails. Going back in time is expensive.
    pub fn read(&mut self, driver: &mut dyn Driver, seconds: f64) -> Option<Reading> {
        let mut received = Vec::new();
        driver.start(CycleKind::Read);
        for _ in 0..MAX_STEPS {
            match driver.step() {
                Step::Send(bytes) => {
                    self.requests.push(&bytes);
                    while let Some(request) = self.requests.next_request() {
                        received.extend(self.bus.reply(&request, seconds));
                    }
                    driver.advance();
                }
                Step::Pause(_) => driver.advance(),
                Step::Await(_) => {
                    if received.is_empty() && self.bus.brand().stream.is_some() {
                        received = self.bus.unsolicited(seconds);
                    }
                    match received.is_empty() {
                        true => driver.handle_timeout(),
                        false => driver.receive(&std::mem::take(&mut received)),
                    }
                }
                Step::Done(reading) => return Some(*reading),
                Step::Failed(_) => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::driver::Medium;
    use crate::protocol::{self, Options};
    use crate::sim::{Faults, daren, jbd, jk, pylontech_sc0500};

    #[test]
    fn replies_streams_and_consoles_are_read() {
        for brand in [&daren::BRAND, &jbd::BRAND, &jk::BRAND, &pylontech_sc0500::BRAND] {
            let info = protocol::find(brand.name).unwrap();
            let is_ble = brand.notification.is_some();
            let medium = if is_ble { Medium::Ble } else { Medium::Serial };
            let options = Options { medium, ..Options::default() };
            let mut driver = info.driver(&options);
            let bus = Bus::with_batteries(brand, &[options.address], 1, Faults::default());
            let mut bus = DirectBus::new(bus);
            let mut read = |hour| bus.read(driver.as_mut(), f64::from(hour) * 3600.0);
            let [morning, .., evening] = [0, 6, 12].map(|hour| read(hour).unwrap());
            assert!(morning.pack.soc.is_some(), "{}", brand.name);
            assert_ne!(morning.pack.voltage, evening.pack.voltage, "{}", brand.name);
        }
    }
}
