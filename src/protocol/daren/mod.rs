//! Daren over RS485 ("service 42"): DR-JC03, DR48100 and their relatives, sold as Basen, PAPOOL,
//! Docan, SacredSun and others. The vendor calls the protocol DR-1363.
//!
//! Questions and answers are [ASCII frames](super::ascii_frame) of version 22 and CID1 4A. The
//! layout is that of the Basen document ("Energy Storage protocol", in cpttinkering/daren-485),
//! of the vendor's PC tool DR_22.09.01-5, and of recorded frames; where they disagree the comment
//! says whom we follow.

mod decode;
mod status;

use std::time::Duration;

use super::ascii_frame::{self, Frame};
use super::info::{DriverInfo, ImpliedBy, SerialDefaults};
use super::query::{Answer, Framing, Need, Pacing, RequestReply, Runner};
use crate::model::Reading;
use crate::protocol::Options;
use crate::protocol::ProtocolError;

/// What the rest of the program knows about this brand.
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600, 19_200], 2),
    addresses: 0..=15,
    implied_by: Some(ImpliedBy::Port),
    verified: "recorded frames of six packs",
    ..DriverInfo::new("daren", "Daren", |options| Box::new(Runner::new(Daren::new(options))))
};

/// VER of every frame.
pub const VERSION: u8 = 0x22;
/// CID1 of every frame.
pub const CID1: u8 = 0x4A;

/// Quiet time before a question: no document asks for it, but half-duplex adapters need a moment
/// to turn round.
const GAP: Duration = Duration::from_millis(100);
/// The longest answer takes 225 ms at 9600 baud.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;

/// The questions that are ever asked. Other services of the same protocol switch, calibrate or
/// flash the battery, many of them without a password, so the encoder knows only these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// 42: the live values.
    Live,
    /// B0, module 3: serial numbers, product, maker.
    Nameplate,
    /// 51: hardware and firmware.
    Manufacturer,
    /// B0, module 4: capacities.
    Capacities,
    /// 47: system parameters, of which only the bar codes are used.
    Parameters,
}

/// The nameplate comes before services 51 and 47 because the first name found is kept and its
/// names are the best.
const PLAN: &[Service] = &[
    Service::Live,
    Service::Nameplate,
    Service::Manufacturer,
    Service::Capacities,
    Service::Parameters,
];

impl Service {
    fn cid2(self) -> u8 {
        match self {
            Service::Live => 0x42,
            Service::Nameplate | Service::Capacities => 0xB0,
            Service::Manufacturer => 0x51,
            Service::Parameters => 0x47,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Service::Live => "service 42 (live values)",
            Service::Nameplate => "service B0 (nameplate)",
            Service::Manufacturer => "service 51 (manufacturer)",
            Service::Capacities => "service B0 (capacities)",
            Service::Parameters => "service 47 (parameters)",
        }
    }
}

/// The bytes of a question. `group` matters for [`Service::Live`] only.
pub fn request(service: Service, address: u8, group: u8) -> Vec<u8> {
    let module = |number| vec![address, decode::READ, number, decode::ALL, 0x00];
    let info = match service {
        Service::Live => vec![group],
        Service::Nameplate => module(decode::NAMEPLATE),
        Service::Capacities => module(decode::CAPACITIES),
        Service::Manufacturer => Vec::new(),
        Service::Parameters => vec![address],
    };
    Frame { version: VERSION, address, cid1: CID1, cid2: service.cid2(), info }.encode()
}

/// A conversation with the battery at one address.
#[derive(Debug)]
struct Daren {
    address: u8,
    timeout: Duration,
    /// The INFO byte of service 42. The Basen document wants 01 for every battery, the vendor's
    /// tool and daren2mqtt send the address. It belongs to the battery, not to the connection,
    /// so a new session does not forget it.
    group: u8,
    group_proven: bool,
}

/// The group byte of the Basen document.
const FIXED_GROUP: u8 = 0x01;

impl Daren {
    fn new(options: &Options) -> Self {
        Daren {
            address: options.address,
            timeout: options.timeout,
            group: options.address,
            group_proven: false,
        }
    }

    /// The other form of service 42 is worth a try as long as neither was answered.
    fn switch_group(&mut self) {
        if !self.group_proven {
            self.group = if self.group == FIXED_GROUP { self.address } else { FIXED_GROUP };
        }
    }
}

impl RequestReply for Daren {
    type Query = Service;

    fn plan(&self) -> &'static [Service] {
        PLAN
    }

    fn need(&self, query: Service) -> Need {
        if query == Service::Live { Need::Required } else { Need::Once }
    }

    fn describe(&self, query: Service) -> String {
        format!("{} at address {}", query.title(), self.address)
    }

    fn encode(&self, query: Service) -> Vec<u8> {
        request(query, self.address, self.group)
    }

    fn frame(&self, _query: Service, buffer: &[u8]) -> Framing {
        ascii_frame::find(buffer)
    }

    fn decode(
        &mut self,
        query: Service,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<Answer, ProtocolError> {
        let frame =
            Frame::parse(frame).map_err(|error| error.in_answer_to(self.describe(query)))?;
        if frame.address != self.address || is_question(&frame) {
            return Ok(Answer::Foreign);
        }
        self.accept(query, &frame)?;
        let decoded = match query {
            Service::Live => decode::live(&frame.info, into),
            Service::Nameplate => decode::nameplate(&frame.info, into),
            Service::Manufacturer => decode::manufacturer(&frame.info, into),
            Service::Capacities => decode::capacities(&frame.info, into),
            Service::Parameters => decode::parameters(&frame.info, into),
        };
        decoded.map_err(|misfit| ProtocolError::BadFrame {
            query: self.describe(query),
            reason: misfit.to_string(),
        })?;
        self.group_proven |= query == Service::Live;
        Ok(Answer::Ours)
    }

    fn pacing(&self, _query: Service) -> Pacing {
        Pacing { timeout: self.timeout, gap: GAP, settle: SETTLE, retries: RETRIES }
    }

    /// Codes 02 and 03 say that the question arrived damaged; 05 and 06 may be about the group.
    fn is_retryable(&mut self, query: Service, error: &ProtocolError) -> bool {
        match error {
            ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. } => true,
            ProtocolError::Refused { code: 0x02 | 0x03, .. } => true,
            ProtocolError::Refused { code: 0x05 | 0x06, .. } if query == Service::Live => {
                let before = self.group;
                self.switch_group();
                self.group != before && self.group == FIXED_GROUP
            }
            _ => false,
        }
    }

    fn unanswered(&mut self, query: Service) {
        if query == Service::Live {
            self.switch_group();
        }
    }
}

impl Daren {
    /// Is it of this protocol, and does it say yes?
    fn accept(&self, query: Service, frame: &Frame) -> Result<(), ProtocolError> {
        let unsupported = |what, got, wanted| ProtocolError::Unsupported {
            query: self.describe(query),
            reason: format!("{what} {got:02X} instead of {wanted:02X}"),
        };
        if frame.version != VERSION {
            return Err(unsupported("version", frame.version, VERSION));
        }
        if frame.cid1 != CID1 {
            return Err(unsupported("device class", frame.cid1, CID1));
        }
        match frame.cid2 {
            0 => Ok(()),
            code => Err(ProtocolError::Refused {
                query: self.describe(query),
                code: code.into(),
                reason: ascii_frame::refusal(code),
            }),
        }
    }
}

/// On a bus with another reader its questions can be heard. They look like answers with an odd
/// return code, which is in fact the number of a service. (90 is both; as a service it erases
/// firmware, so nobody sends it while a battery is read.)
fn is_question(frame: &Frame) -> bool {
    matches!(
        frame.cid2,
        0x42..=0x45 | 0x47 | 0x49 | 0x4D..=0x4F | 0x51 | 0x80..=0x83 | 0x8B | 0x8D | 0x8F | 0xB0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CycleKind, Driver, Step};

    fn driver(address: u8) -> Runner<Daren> {
        Runner::new(Daren::new(&Options { address, ..Options::default() }))
    }

    /// Goes on until something is awaited or the cycle is over; gives the last question.
    fn question(driver: &mut Runner<Daren>) -> Option<Vec<u8>> {
        let mut sent = None;
        loop {
            match driver.step() {
                Step::Pause(_) => driver.advance(),
                Step::Send(bytes) => {
                    sent = Some(bytes);
                    driver.advance();
                }
                _ => return sent,
            }
        }
    }

    fn refusal(address: u8, code: u8) -> Vec<u8> {
        Frame { version: VERSION, address, cid1: CID1, cid2: code, info: Vec::new() }.encode()
    }

    /// Service 42 of a battery with one cell and nothing special.
    fn live(address: u8) -> Vec<u8> {
        let mut info = vec![0, 0x19, 0x00, 0x14, 0xB6, 1, 0x0C, 0xED];
        info.extend([0; 2 * 3 + 1 + 2 * 3 + 1 + 2 * 3 + 2 * 5 + 2 * 5]);
        Frame { version: VERSION, address, cid1: CID1, cid2: 0, info }.encode()
    }

    #[test]
    fn a_refused_group_is_replaced_in_the_same_cycle() {
        let mut driver = driver(3);
        assert_eq!(question(&mut driver), Some(request(Service::Live, 3, 3)));
        driver.receive(&refusal(3, 0x05));
        assert!(matches!(driver.step(), Step::Await(_)));
        driver.handle_timeout();
        assert_eq!(question(&mut driver), Some(request(Service::Live, 3, 1)));
        driver.receive(&live(3));
        assert_eq!(question(&mut driver), Some(request(Service::Nameplate, 3, 1)));

        driver.reset();
        assert_eq!(question(&mut driver), Some(request(Service::Live, 3, 1)), "it is remembered");
        driver.handle_timeout();
        driver.start(CycleKind::Read);
        assert_eq!(question(&mut driver), Some(request(Service::Live, 3, 1)), "it has worked once");
    }

    #[test]
    fn two_refused_groups_are_a_refusal() {
        let mut driver = driver(3);
        question(&mut driver);
        driver.receive(&refusal(3, 0x06));
        driver.handle_timeout();
        question(&mut driver);
        driver.receive(&refusal(3, 0x06));
        assert!(matches!(
            driver.step(),
            Step::Failed(ProtocolError::Refused { code: 6, reason: "invalid data", .. })
        ));
    }

    #[test]
    fn silence_changes_the_group_of_the_next_cycle_to_and_fro() {
        let mut driver = driver(3);
        for group in [3, 1, 3] {
            assert_eq!(question(&mut driver), Some(request(Service::Live, 3, group)));
            driver.handle_timeout();
            assert!(matches!(driver.step(), Step::Failed(ProtocolError::Timeout { .. })));
            driver.start(CycleKind::Read);
        }
    }

    #[test]
    fn address_one_has_a_single_form_and_a_refusal_is_final() {
        let mut driver = driver(1);
        question(&mut driver);
        driver.receive(&refusal(1, 0x05));
        assert!(matches!(driver.step(), Step::Failed(ProtocolError::Refused { .. })));
    }

    #[test]
    fn questions_of_another_reader_are_not_answers() {
        let mut driver = driver(1);
        question(&mut driver);
        driver.receive(&request(Service::Manufacturer, 1, 1));
        driver.receive(&request(Service::Live, 2, 2));
        assert!(matches!(driver.step(), Step::Await(_)));
        driver.receive(&live(1));
        assert_eq!(question(&mut driver), Some(request(Service::Nameplate, 1, 1)));
    }

    #[test]
    fn a_question_that_arrived_damaged_is_repeated() {
        let mut driver = driver(1);
        question(&mut driver);
        driver.receive(&refusal(1, 0x02));
        driver.handle_timeout();
        assert_eq!(question(&mut driver), Some(request(Service::Live, 1, 1)));
    }

    #[test]
    fn a_damaged_answer_does_not_change_the_group() {
        let mut driver = driver(3);
        question(&mut driver);
        driver.receive(b"~2203\r");
        driver.handle_timeout();
        question(&mut driver);
        driver.handle_timeout();
        driver.start(CycleKind::Read);
        assert_eq!(question(&mut driver), Some(request(Service::Live, 3, 3)));
    }
}
