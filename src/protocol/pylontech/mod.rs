//! Pylontech's low-voltage modules over RS485: US2000, US3000, US5000, UP2500 and their relatives.
//!
//! [ASCII frames](super::ascii_frame) of version 20 and CID1 46, as in "RS485 protocol, low
//! voltage, V3.3" (2018) and V2.8 (2016), and in recorded frames. The battery ignores the version
//! of a question, and puts its own into some answers. Services 60 to 63 are those of other lines of
//! the maker and in neither document, so they are not asked; 94 (set) and 95 (switch off) never.

mod decode;

use super::ascii_family::{Layout, Pack, Part, Service};
use super::info::{DriverInfo, SerialDefaults};
use super::query::Runner;

/// What the rest of the program knows about this brand. The first module of the first group has
/// address 2, the one of group 3 has 32 (hex).
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[115_200, 9600], 2),
    addresses: 2..=0xFE,
    verified: "recorded frames of six modules; alarms from the document only",
    ..DriverInfo::new("pylontech", "Pylontech", |options| {
        Box::new(Runner::new(Pack::new(&LAYOUT, options)))
    })
};

static LAYOUT: Layout = Layout {
    version: 0x20,
    answers: &[],
    cid1: 0x46,
    plan: &[&LIVE, &ALARMS, &MANAGEMENT, &SERIAL, &FIRMWARE, &PARAMETERS, &MAKER],
    groups: true,
};

static LIVE: Service = Service {
    cid2: 0x42,
    title: "live values",
    part: Part::Live,
    addressed: true,
    decode: decode::live,
};
static ALARMS: Service = Service {
    cid2: 0x44,
    title: "alarms",
    part: Part::Alarms,
    addressed: true,
    decode: decode::alarms,
};
static PARAMETERS: Service = Service {
    cid2: 0x47,
    title: "parameters",
    part: Part::Name,
    addressed: false,
    decode: decode::parameters,
};
/// Comes after [`FIRMWARE`], whose version says more.
static MAKER: Service = Service {
    cid2: 0x51,
    title: "manufacturer",
    part: Part::Name,
    addressed: false,
    decode: decode::manufacturer,
};
static MANAGEMENT: Service = Service {
    cid2: 0x92,
    title: "charge and discharge management",
    part: Part::Extra,
    addressed: true,
    decode: decode::management,
};
static SERIAL: Service = Service {
    cid2: 0x93,
    title: "serial number",
    part: Part::Name,
    addressed: true,
    decode: decode::serial,
};
static FIRMWARE: Service = Service {
    cid2: 0x96,
    title: "firmware",
    part: Part::Name,
    addressed: true,
    decode: decode::firmware,
};
