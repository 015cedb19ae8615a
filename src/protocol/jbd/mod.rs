//! JBD (Jiabaida), known by the app Xiaoxiang: smart boards of many brands, over UART, RS485 and
//! Bluetooth with the same [frames](frame). A board has no address.
//!
//! The layout is that of the vendor's "General Protocol" in its versions 4 and 13, of the notes of
//! syssi/esphome-jbd-bms and FurTrader/OverkillSolarBMS, and of recorded frames; comments
//! name the one that is followed where they disagree.

mod ble;
pub(crate) mod decode;
pub(crate) mod frame;
pub(crate) mod handshake;

use std::time::Duration;

use super::query::TURN_ROUND;
use super::{
    AdvertisementMatcher, CycleKind, DecodeError, Driver, DriverInfo, FrameShape, Framing,
    GattChannel, GattProfile, Medium, Need, Options, Pacing, ProtocolError, RequestReply, Runner,
    SerialDefaults, short, uuid16,
};
use crate::model::{Reading, Setting, Switch};
use ble::JbdBle;

/// Balancing is no switch here: it is a bit of the function register, which takes the factory mode
/// and a write to the EEPROM, and the balance test of register E2 ends by the factory mode only.
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
    GattChannel::new(&[short(0xFF00, 0xFF01)], short(0xFF00, 0xFF02)),
    GattChannel::new(&[short(0xFFF0, 0xFFF1)], short(0xFFF0, 0xFFF2)),
];

const SERVICE: AdvertisementMatcher = AdvertisementMatcher::Service(uuid16(0xFF00));

/// The service and the first addresses are those of other brands' modules, too. Owners and brands
/// rename their boards freely; these are the names that were seen.
const MATCHERS: &[AdvertisementMatcher] = &[
    SERVICE,
    AdvertisementMatcher::ReversedAddress,
    AdvertisementMatcher::All(&[AdvertisementMatcher::ReversedAddress, SERVICE]),
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
    AdvertisementMatcher::Name("TZ-H*"),
    AdvertisementMatcher::Name("ECO-LFP*"),
    AdvertisementMatcher::Name("LT40AH*"),
    // Names that other brands may have as well.
    AdvertisementMatcher::All(&[AdvertisementMatcher::Name("12???BL*"), SERVICE]),
    AdvertisementMatcher::All(&[AdvertisementMatcher::Name("24???BL*"), SERVICE]),
    AdvertisementMatcher::All(&[AdvertisementMatcher::Name("@KsM:*"), SERVICE]),
    AdvertisementMatcher::All(&[AdvertisementMatcher::Name("N-?????BL*"), SERVICE]),
    AdvertisementMatcher::All(&[AdvertisementMatcher::Name("SJ-???-*"), SERVICE]),
    AdvertisementMatcher::All(&[AdvertisementMatcher::Name("TITAN-*"), SERVICE]),
    AdvertisementMatcher::Address("10:A5:62"),
    AdvertisementMatcher::Address("A2:C2:37"),
    AdvertisementMatcher::Address("A4:C1:37"),
    AdvertisementMatcher::Address("A4:C1:38"),
    AdvertisementMatcher::Address("A5:C2:37"),
    AdvertisementMatcher::Address("A5:C2:39"),
    AdvertisementMatcher::Address("A5:C2:3A"),
    AdvertisementMatcher::Address("AA:C2:37"),
    AdvertisementMatcher::Address("70:3E:97"),
    AdvertisementMatcher::Address("10:A5:62"),
];

/// Between setting a switch and reading it back.
const SWITCH_DELAY: Duration = Duration::from_millis(500);
/// The longest reply takes 74 ms at 9600 baud; over Bluetooth 123 ms were measured at most.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;
/// On Bluetooth the operator's limit is for a whole read; readers wait 3 to 5 s for one reply.
const BLE_TIMEOUT: Duration = Duration::from_secs(3);
/// A board without counters does not reply to AA, and a battery that is disconnected after each
/// read is asked for them in every new session. Every other reply has arrived by then, so this one
/// may not delay the read for long.
const BLE_COUNTERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Cycles in a session without counters after which they are not requested again.
const MAX_MISSES: u8 = 2;

/// Every request that can be sent, and the only one that writes. The registers that set limits,
/// names and passwords are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Basic,
    Cells,
    Name,
    /// How often each protection has triggered. Not every board has it.
    Counters,
    /// Which transistors may be on.
    Switches,
}

const PLAN: &[Query] = &[Query::Basic, Query::Cells, Query::Name, Query::Counters];
const WITHOUT_COUNTERS: &[Query] = &[Query::Basic, Query::Cells, Query::Name];

impl Query {
    fn register_and_title(self) -> (u8, &'static str) {
        match self {
            Query::Basic => (0x03, "register 03 (basic information)"),
            Query::Cells => (0x04, "register 04 (cells)"),
            Query::Name => (0x05, "register 05 (name)"),
            Query::Counters => (0xAA, "register AA (counters)"),
            Query::Switches => (0xE1, "the write to register E1 (switches)"),
        }
    }

    fn register(self) -> u8 {
        self.register_and_title().0
    }
}

/// A conversation with a board.
#[derive(Debug)]
struct Jbd {
    medium: Medium,
    timeout: Duration,
    /// Cycles of this session without counters.
    misses: u8,
    /// What the next write sets: it always sets both switches.
    charging: bool,
    discharging: bool,
    setting: Option<Setting>,
    /// The last reply confirmed a write.
    switched: bool,
}

impl Jbd {
    fn new(options: &Options) -> Self {
        let timeout = match options.medium {
            Medium::Serial => options.timeout,
            Medium::Ble => options.timeout.min(BLE_TIMEOUT),
        };
        Jbd {
            medium: options.medium,
            timeout,
            misses: 0,
            charging: true,
            discharging: true,
            setting: None,
            switched: false,
        }
    }

    /// Older boards refuse the counters, or do not reply.
    fn note_failure(&mut self, query: Query) {
        if query == Query::Counters {
            self.misses = self.misses.saturating_add(1);
        }
    }

    /// Prepares a write from register 03: nothing changes but the wanted switch.
    fn prepare_write(&mut self, reading: &Reading) {
        let wanted = |switch| self.setting.filter(|setting| setting.switch == switch);
        let state = |switch| {
            wanted(switch).map_or_else(|| decode::is_allowed(switch, reading), |wanted| wanted.on)
        };
        (self.charging, self.discharging) = (state(Switch::Charging), state(Switch::Discharging));
    }
}

impl RequestReply for Jbd {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        if self.misses < MAX_MISSES { PLAN } else { WITHOUT_COUNTERS }
    }

    fn write_plan(&mut self, setting: Setting) -> Vec<Query> {
        if !INFO.controls.contains(&setting.switch) {
            return Vec::new();
        }
        self.setting = Some(setting);
        vec![Query::Basic, Query::Switches, Query::Basic]
    }

    /// A reply contains its register.
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
        query.register_and_title().1.to_owned()
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        let register = query.register();
        match query {
            Query::Switches => {
                let off = u16::from(!self.charging) | u16::from(!self.discharging) << 1;
                frame::write(register, off)
            }
            _ => frame::read(register),
        }
    }

    fn frame(&self, query: Query, buffer: &[u8]) -> Framing {
        frame::Reply { register: query.register() }.find(buffer)
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let data = frame::data(frame)?;
        match query {
            Query::Basic => {
                decode::basic(data, into)?;
                self.prepare_write(into);
            }
            Query::Cells => decode::cells(data, into)?,
            Query::Counters => {
                decode::counters(data, into)?;
                self.misses = 0;
            }
            Query::Name => decode::name(data, into),
            Query::Switches => {}
        }
        self.switched = query == Query::Switches;
        Ok(())
    }

    fn pacing(&self, query: Query) -> Pacing {
        let gap = if self.switched { SWITCH_DELAY } else { TURN_ROUND };
        let timeout = match (self.medium, query) {
            (Medium::Ble, Query::Counters) => self.timeout.min(BLE_COUNTERS_TIMEOUT),
            _ => self.timeout,
        };
        Pacing { timeout, gap, settle: SETTLE, retries: RETRIES }
    }

    /// Code 82 means that the request arrived damaged.
    fn is_retryable(&mut self, query: Query, error: &ProtocolError) -> bool {
        match error {
            ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. } => true,
            ProtocolError::Refused { code: 0x82, .. } => true,
            _ => {
                self.note_failure(query);
                false
            }
        }
    }

    fn fallback_plan(&mut self, query: Query, _kind: CycleKind) -> Option<Vec<Query>> {
        self.note_failure(query);
        None
    }

    fn reset(&mut self) {
        self.misses = 0;
        self.switched = false;
        self.setting = None;
    }
}

#[cfg(test)]
mod tests;
