//! Daren over RS485 ("service 42"): DR-JC03, DR48100 and their relatives, sold as Basen, PAPOOL,
//! Docan, SacredSun and others. The vendor calls the protocol DR-1363.
//!
//! Requests and replies are [ASCII frames](super::ascii_frame) of version 22 and CID1 4A. The
//! layout is that of the Basen document ("Energy Storage protocol", in cpttinkering/daren-485),
//! of the vendor's PC tool DR_22.09.01-5, and of recorded frames; comments name the one
//! that is followed where they disagree.

mod decode;
pub(crate) mod status;

use super::ascii_family::{ADDRESS, Alternative, Layout, Pack, Part, Service};
use super::{DriverInfo, ImpliedBy, Runner, SerialDefaults};

pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600, 19_200], 2),
    bluetooth: Some("daren-ble"),
    addresses: 0..=15,
    implied_by: Some(ImpliedBy::Port),
    verified: "recorded frames of six packs",
    ..DriverInfo::new("daren", "Daren", |options| {
        Box::new(Runner::new(Pack::new(&LAYOUT, options)))
    })
};

/// The nameplate comes before services 51 and 47 because the first name found is kept and its
/// names are the best. For live values the Basen document wants 01 in INFO for every battery, the
/// vendor's tool and daren2mqtt send the address.
static LAYOUT: Layout = Layout {
    version: 0x22,
    reply_versions: &[0x22],
    cid1: 0x4A,
    plan: &[
        &Service::new(0x42, "live values", Part::Live, ADDRESS, decode::live),
        &Service::new(0xB0, "nameplate", Part::Identity, Some(&[1, 3, 0xFF, 0]), decode::nameplate),
        &Service::new(0x51, "manufacturer", Part::Identity, None, decode::manufacturer),
        &Service::new(
            0xB0,
            "capacities",
            Part::Identity,
            Some(&[1, 4, 0xFF, 0]),
            decode::capacities,
        ),
        &Service::new(0x47, "parameters", Part::Identity, ADDRESS, decode::parameters),
    ],
    alternative: Alternative::FixedGroup,
    // 90 is a return code here. As a service it erases firmware, which does not happen while a
    // battery is read.
    is_service: |cid2| {
        matches!(
            cid2,
            0x42..=0x45 | 0x47 | 0x49 | 0x4D..=0x4F | 0x51 | 0x80..=0x83 | 0x8B | 0x8D | 0x8F | 0xB0
        )
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ascii_frame::Frame;
    use crate::protocol::testing::next_request;
    use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Step};

    fn driver(address: u8) -> Box<dyn Driver> {
        INFO.driver(&Options { address, ..Options::default() })
    }

    fn frame(address: u8, cid2: u8, info: &[u8]) -> Vec<u8> {
        Frame { version: 0x22, address, cid1: 0x4A, cid2, info: info.to_vec() }.encode()
    }

    fn live_request(address: u8, group: u8) -> Option<Vec<u8>> {
        Some(frame(address, 0x42, &[group]))
    }

    fn nameplate_request(address: u8) -> Option<Vec<u8>> {
        Some(frame(address, 0xB0, &[address, 1, 3, 0xFF, 0]))
    }

    /// Service 42 of a battery with one cell.
    fn live(address: u8) -> Vec<u8> {
        let mut info = vec![0, 0x19, 0x00, 0x14, 0xB6, 1, 0x0C, 0xED];
        info.extend([0; 2 * 3 + 1 + 2 * 3 + 1 + 2 * 3 + 2 * 5 + 2 * 5]);
        frame(address, 0, &info)
    }

    #[test]
    fn refused_group_is_replaced_in_the_same_cycle_and_remembered() {
        let driver = &mut *driver(3);
        assert_eq!(next_request(driver), live_request(3, 3));
        driver.receive(&frame(3, 0x05, &[]));
        assert!(matches!(driver.step(), Step::Await(_)));
        driver.handle_timeout();
        assert_eq!(next_request(driver), live_request(3, 1));
        driver.receive(&live(3));
        assert_eq!(next_request(driver), nameplate_request(3));

        driver.reset();
        assert_eq!(next_request(driver), live_request(3, 1));
        driver.handle_timeout();
        driver.start(CycleKind::Read);
        assert_eq!(next_request(driver), live_request(3, 1), "it has worked once");
    }

    #[test]
    fn two_refused_groups_are_a_refusal() {
        let driver = &mut *driver(3);
        next_request(driver);
        driver.receive(&frame(3, 0x06, &[]));
        driver.handle_timeout();
        next_request(driver);
        driver.receive(&frame(3, 0x06, &[]));
        assert!(matches!(
            driver.step(),
            Step::Failed(ProtocolError::Refused { code: 6, reason: "invalid data", .. })
        ));
    }

    #[test]
    fn timeout_changes_the_group_of_the_next_cycle() {
        let driver = &mut *driver(3);
        for group in [3, 1, 3] {
            assert_eq!(next_request(driver), live_request(3, group));
            driver.handle_timeout();
            assert!(matches!(driver.step(), Step::Failed(ProtocolError::Timeout { .. })));
            driver.start(CycleKind::Read);
        }
    }

    #[test]
    fn refusal_is_final_for_address_one() {
        let driver = &mut *driver(1);
        next_request(driver);
        driver.receive(&frame(1, 0x05, &[]));
        assert!(matches!(driver.step(), Step::Failed(ProtocolError::Refused { .. })));
    }

    #[test]
    fn requests_of_another_reader_are_no_replies() {
        let driver = &mut *driver(1);
        next_request(driver);
        driver.receive(&frame(1, 0x51, &[]));
        driver.receive(&frame(2, 0x42, &[2]));
        assert!(matches!(driver.step(), Step::Await(_)));
        driver.receive(&live(1));
        assert_eq!(next_request(driver), nameplate_request(1));
    }

    #[test]
    fn request_that_arrived_damaged_is_repeated() {
        let driver = &mut *driver(1);
        next_request(driver);
        driver.receive(&frame(1, 0x02, &[]));
        driver.handle_timeout();
        assert_eq!(next_request(driver), live_request(1, 1));
    }

    #[test]
    fn damaged_reply_does_not_change_the_group() {
        let driver = &mut *driver(3);
        next_request(driver);
        driver.receive(b"~2203\r");
        driver.handle_timeout();
        next_request(driver);
        driver.handle_timeout();
        driver.start(CycleKind::Read);
        assert_eq!(next_request(driver), live_request(3, 3));
    }
}
