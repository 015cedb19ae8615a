//! JBD (Jiabaida), known by the app Xiaoxiang: smart boards of many brands, over UART, RS485 and
//! Bluetooth with the same [frames](frame). A board has no address.
//!
//! The layout is that of the vendor's "General Protocol" in its versions 4 and 13, of the notes of
//! syssi/esphome-jbd-bms and FurTrader/OverkillSolarBMS, and of recorded frames; where they
//! disagree the comment says whom we follow.

mod decode;
mod frame;
mod handshake;
mod radio;

use std::time::Duration;

use super::advertisement::AdvertisementMatcher;
use super::info::{
    Characteristic, DriverInfo, GattChannel, GattProfile, SerialDefaults, WriteMode, uuid16,
};
use super::query::{Answer, Framing, Need, Pacing, RequestReply, Runner};
use crate::model::Reading;
use crate::model::reading::{Setting, Switch};
use crate::protocol::ProtocolError;
use crate::protocol::{Driver, Medium, Options};

pub use frame::checksum;
pub use handshake::scramble;
use radio::JbdBle;

/// What the rest of the program knows about this brand.
///
/// Balancing cannot be turned here: it is a bit of the function register, which takes the factory
/// mode and a write to the EEPROM, and the balance test of register E2 ends by the factory mode
/// only.
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600], 2),
    gatt: Some(GattProfile { channels: CHANNELS, streams: false }),
    matchers: MATCHERS,
    controls: &[Switch::Charging, Switch::Discharging],
    verified: "recorded frames of ten packs",
    ..DriverInfo::new("jbd", "JBD / Xiaoxiang", new)
};

fn new(options: &Options) -> Box<dyn Driver> {
    let runner = Runner::new(Jbd::new(options));
    match options.medium {
        Medium::Serial => Box::new(runner),
        Medium::Ble => Box::new(JbdBle::new(runner, options)),
    }
}

/// The second one is that of the DH04 boards.
const CHANNELS: &[GattChannel] = &[
    GattChannel {
        notify: &[Characteristic::short(0xFF00, 0xFF01)],
        write: Characteristic::short(0xFF00, 0xFF02),
        write_mode: WriteMode::Auto,
    },
    GattChannel {
        notify: &[Characteristic::short(0xFFF0, 0xFFF1)],
        write: Characteristic::short(0xFFF0, 0xFFF2),
        write_mode: WriteMode::Auto,
    },
];

/// The service and the first addresses are those of other brands' modules, too. Owners and brands
/// rename their boards freely; these are the names that were seen.
const MATCHERS: &[AdvertisementMatcher] = &[
    AdvertisementMatcher::Service(uuid16(0xFF00)),
    AdvertisementMatcher::ReversedAddress,
    AdvertisementMatcher::Name("JBD-*"),
    AdvertisementMatcher::Name("xiaoxiang*"),
    AdvertisementMatcher::Name("SP04S*"),
    AdvertisementMatcher::Name("SP16S*"),
    AdvertisementMatcher::Name("DP04S*"),
    AdvertisementMatcher::Name("AP21S*"),
    AdvertisementMatcher::Name("GJ-*"),
    AdvertisementMatcher::Name("SX1*"),
    AdvertisementMatcher::Name("SX60*"),
    AdvertisementMatcher::Name("SBL-*"),
    AdvertisementMatcher::Name("OGR-*"),
    AdvertisementMatcher::Name("LSG-*"),
    AdvertisementMatcher::Name("DWF*"),
    AdvertisementMatcher::Name("TZ-H*"),
    AdvertisementMatcher::Name("ECO-LFP*"),
    AdvertisementMatcher::Name("LT40AH*"),
    AdvertisementMatcher::Address("A4:C1:37"),
    AdvertisementMatcher::Address("A4:C1:38"),
    AdvertisementMatcher::Address("A5:C2:37"),
    AdvertisementMatcher::Address("A5:C2:39"),
    AdvertisementMatcher::Address("A5:C2:3A"),
    AdvertisementMatcher::Address("AA:C2:37"),
    AdvertisementMatcher::Address("70:3E:97"),
    AdvertisementMatcher::Address("10:A5:62"),
];

/// No document asks for quiet before a question, but half-duplex adapters need a moment to turn
/// round.
const GAP: Duration = Duration::from_millis(50);
/// Between an order and the look at what became of it.
const TURN: Duration = Duration::from_millis(500);
/// The longest answer takes 74 ms at 9600 baud; over Bluetooth 123 ms were measured at most.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;
/// On Bluetooth the operator's limit is for a whole read; readers wait 3 to 5 s for one answer.
const RADIO_ANSWER: Duration = Duration::from_secs(3);
/// A board that knows no counters says nothing to AA, and a battery that is let go after each read is asked
/// anew each time: so long an answer to what the others have given by then is worth waiting for.
const RADIO_COUNTERS: Duration = Duration::from_secs(1);

/// Cycles in a session in which the counters may be missing before they are asked no more.
const MISSES: u8 = 2;

/// The questions that are ever asked, and the only order that is ever given. The registers that
/// set limits, names and passwords are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// 03: everything but the cells' voltages.
    Basic,
    /// 04: the cells' voltages.
    Cells,
    /// 05: the name of the board.
    Name,
    /// AA: how often each protection has struck. Not every board has it.
    Counters,
    /// E1, written: which transistors may be on.
    Switches,
}

const PLAN: &[Query] = &[Query::Basic, Query::Cells, Query::Name, Query::Counters];
const WITHOUT_COUNTERS: &[Query] = &[Query::Basic, Query::Cells, Query::Name];

impl Query {
    fn register(self) -> u8 {
        match self {
            Query::Basic => 0x03,
            Query::Cells => 0x04,
            Query::Name => 0x05,
            Query::Counters => 0xAA,
            Query::Switches => 0xE1,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Query::Basic => "register 03 (basic information)",
            Query::Cells => "register 04 (cells)",
            Query::Name => "register 05 (name)",
            Query::Counters => "register AA (counters)",
            Query::Switches => "the order to register E1 (switches)",
        }
    }
}

/// The bytes of a question that only reads.
pub fn request(register: u8) -> Vec<u8> {
    frame::read(register)
}

/// The bytes of the order that lets these transistors be on.
pub fn order(charging: bool, discharging: bool) -> Vec<u8> {
    frame::write(Query::Switches.register(), u16::from(!charging) | u16::from(!discharging) << 1)
}

/// A conversation with a board.
#[derive(Debug)]
struct Jbd {
    medium: Medium,
    timeout: Duration,
    counters_missed: u8,
    /// What the order will say; the state of both switches, as it always sets both.
    charging: bool,
    discharging: bool,
    wanted: Option<Setting>,
    turning: bool,
}

impl Jbd {
    fn new(options: &Options) -> Self {
        let timeout = match options.medium {
            Medium::Serial => options.timeout,
            Medium::Ble => options.timeout.min(RADIO_ANSWER),
        };
        Jbd {
            medium: options.medium,
            timeout,
            counters_missed: 0,
            charging: true,
            discharging: true,
            wanted: None,
            turning: false,
        }
    }

    /// Older boards refuse the counters, or say nothing.
    fn miss(&mut self, query: Query) {
        if query == Query::Counters {
            self.counters_missed = self.counters_missed.saturating_add(1);
        }
    }

    /// Prepares the order from what register 03 says: nothing changes but what is wanted.
    fn prepare_order(&mut self, reading: &Reading) {
        let wanted = |switch| self.wanted.filter(|wanted| wanted.switch == switch);
        let state = |switch| {
            wanted(switch).map_or_else(|| decode::allowed(switch, reading), |wanted| wanted.on)
        };
        (self.charging, self.discharging) = (state(Switch::Charging), state(Switch::Discharging));
    }
}

impl RequestReply for Jbd {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        if self.counters_missed < MISSES { PLAN } else { WITHOUT_COUNTERS }
    }

    fn write_plan(&mut self, setting: Setting) -> Vec<Query> {
        if !INFO.controls.contains(&setting.switch) {
            return Vec::new();
        }
        self.wanted = Some(setting);
        vec![Query::Basic, Query::Switches, Query::Basic]
    }

    /// An answer names its register.
    fn is_self_describing(&self, _query: Query) -> bool {
        true
    }

    fn need(&self, query: Query) -> Need {
        match query {
            Query::Basic | Query::Cells | Query::Switches => Need::Required,
            Query::Name => Need::Once,
            Query::Counters => Need::Optional,
        }
    }

    fn describe(&self, query: Query) -> String {
        query.title().to_owned()
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        match query {
            Query::Switches => order(self.charging, self.discharging),
            _ => request(query.register()),
        }
    }

    fn frame(&self, query: Query, buffer: &[u8]) -> Framing {
        frame::find(query.register(), buffer)
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<Answer, ProtocolError> {
        let data = frame::data(frame, query.title())?;
        let decoded = match query {
            Query::Basic => decode::basic(data, into),
            Query::Cells => decode::cells(data, into),
            Query::Counters => decode::counters(data, into),
            Query::Name => {
                decode::name(data, into);
                Ok(())
            }
            Query::Switches => Ok(()),
        };
        decoded.map_err(|misfit| ProtocolError::BadFrame {
            query: self.describe(query),
            reason: misfit.to_string(),
        })?;
        match query {
            Query::Basic => self.prepare_order(into),
            Query::Counters => self.counters_missed = 0,
            _ => {}
        }
        self.turning = query == Query::Switches;
        Ok(Answer::Ours)
    }

    fn pacing(&self, query: Query) -> Pacing {
        let gap = if self.turning { TURN } else { GAP };
        let timeout = match (self.medium, query) {
            (Medium::Ble, Query::Counters) => self.timeout.min(RADIO_COUNTERS),
            _ => self.timeout,
        };
        Pacing { timeout, gap, settle: SETTLE, retries: RETRIES }
    }

    /// Code 82 says that the question arrived damaged.
    fn is_retryable(&mut self, query: Query, error: &ProtocolError) -> bool {
        match error {
            ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. } => true,
            ProtocolError::Refused { code: 0x82, .. } => true,
            _ => {
                self.miss(query);
                false
            }
        }
    }

    fn unanswered(&mut self, query: Query) {
        self.miss(query);
    }

    fn reset(&mut self) {
        self.counters_missed = 0;
        self.turning = false;
        self.wanted = None;
    }
}

#[cfg(test)]
mod tests;
