//! A battery on Bluetooth, written down: every question that its driver asks, with the answer.
//!
//! Whoever plays radios needs no code of ours: the fake bluetoothd of the tests and the virtual
//! boards of the lab read the same JSON.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::battery::Battery;
use super::faults::Faults;
use super::state::PackState;
use super::{Responder, SimBrand};
use crate::model;
use crate::protocol::driver::{AdvertisementMatcher, Driver, GattChannel, Medium};
use crate::protocol::{self, CycleKind, Options, ProtocolError, Step};

/// Longer than any cycle.
const STEPS: usize = 200;

/// What a notification of a module holds where nobody has said otherwise.
const NOTIFICATION: usize = 20;

/// Milliseconds until an answer.
const ANSWER: u64 = 10;

/// First cycles of a session: some things are asked once, and some later than others.
const CYCLES: [CycleKind; 4] =
    [CycleKind::Identify, CycleKind::Read, CycleKind::Read, CycleKind::Read];

/// Why a brand cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// It has no Bluetooth.
    #[error("{0} is not reached by Bluetooth")]
    Wired(&'static str),
    /// Driver and simulator do not understand each other.
    #[error(transparent)]
    Conversation(#[from] ProtocolError),
}

/// A battery at this Bluetooth address that never changes. Under `says` is what a reader must
/// publish of it, by the names of the contract.
pub fn device(brand: &SimBrand, address: &str, state: PackState) -> Result<Value, Unwritable> {
    let wired = || Unwritable::Wired(brand.name);
    let info = protocol::find(brand.driver()).ok_or_else(wired)?;
    let place = info.gatt.and_then(|gatt| gatt.places.first().copied()).ok_or_else(wired)?;
    let says = says(&state);
    let variant = brand.variant().map(str::to_owned);
    let options = Options { medium: Medium::Ble, variant, ..Options::default() };
    let mut scribe = Scribe {
        board: (brand.new)(*brand.addresses.start(), Battery::fixed(state), Faults::default()),
        stream: brand.stream,
        place,
        asked: BTreeSet::new(),
        replies: Vec::new(),
    };
    let mut driver = (info.new)(&options);
    for ask in CYCLES {
        scribe.write_down(driver.as_mut(), ask)?;
    }
    let name = info.matchers.iter().find_map(|sign| match sign {
        AdvertisementMatcher::Name(prefix) => Some(format!("{prefix}SIM")),
        _ => None,
    });
    Ok(json!({
        "address": address, "name": name.unwrap_or_else(|| brand.name.to_owned()),
        "adv_services": [uuid(place.service)],
        "fragment": brand.notification.unwrap_or(NOTIFICATION),
        "services": [{"uuid": uuid(place.service), "characteristics": characteristics(place)}],
        "replies": scribe.replies, "says": says,
    }))
}

/// Old modules have one characteristic for both directions.
fn characteristics(place: GattChannel) -> Value {
    let (notify, write) = (uuid(place.notify), uuid(place.write));
    let writes = ["write-without-response", "write"];
    if notify == write {
        return json!([{"uuid": notify, "properties": ["notify", writes[0], writes[1]]}]);
    }
    json!([{"uuid": notify, "properties": ["notify"]}, {"uuid": write, "properties": writes}])
}

/// Listens to a driver and a board.
struct Scribe {
    board: Box<dyn Responder>,
    stream: Option<f64>,
    place: GattChannel,
    asked: BTreeSet<Vec<u8>>,
    replies: Vec<Value>,
}

impl Scribe {
    fn write_down(&mut self, driver: &mut dyn Driver, ask: CycleKind) -> Result<(), ProtocolError> {
        let mut answer = None;
        driver.start(ask);
        for _ in 0..STEPS {
            match driver.step() {
                Step::Send(question) => {
                    answer = self.answer(&question);
                    driver.advance();
                }
                Step::Pause(_) => driver.advance(),
                Step::Await(_) => match answer.take().or_else(|| self.board.unsolicited(0.0)) {
                    Some(said) => driver.receive(&said),
                    None => driver.handle_timeout(),
                },
                Step::Done(_) => break,
                Step::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        let answer = self.board.respond(question, 0.0)?;
        if self.asked.insert(question.to_vec()) {
            let says = uuid(self.place.notify);
            let mut notify = vec![json!({"char": says, "after_ms": ANSWER, "hex": hex(&answer)})];
            if let Some((seconds, said)) = self.stream.zip(self.board.unsolicited(0.0)) {
                // Whole milliseconds, far below the limit.
                let pause = (seconds * 1000.0) as u64;
                notify.push(
                    json!({"char": says, "after_ms": pause, "hex": hex(&said), "repeat": -1}),
                );
            }
            let on = uuid(self.place.write);
            self.replies.push(json!({"on": on, "match": hex(question), "notify": notify}));
        }
        Some(answer)
    }
}

/// What every brand can say about a battery.
fn says(state: &PackState) -> Map<String, Value> {
    let mut says = Map::new();
    let mut add = |key: &str, value: model::Value| {
        says.insert(key.to_owned(), value.to_string().into());
    };
    add("pack_voltage", state.voltage.into());
    add("pack_current", state.current.into());
    add("soc", state.soc.into());
    add("remaining_capacity", state.remaining.into());
    for (number, cell) in (1..).zip(&state.cells) {
        add(&format!("cell_{number}_voltage"), (*cell).into());
    }
    says
}

/// The short form where Bluetooth has one: an advertisement has no room for the long one.
fn uuid(uuid: u128) -> String {
    let short = (uuid >> 96) as u16;
    if uuid == protocol::driver::uuid16(short) {
        return format!("{short:04x}");
    }
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{BRANDS, jbd, jk};

    const ADDRESS: &str = "A4:C1:37:00:12:34";

    #[test]
    fn a_brand_that_answers_has_an_answer_for_each_question() {
        let device = device(&jbd::BRAND, ADDRESS, PackState::at_rest()).unwrap();
        let replies = device["replies"].as_array().unwrap();
        let questions: Vec<_> = replies.iter().map(|it| it["match"].as_str().unwrap()).collect();
        for register in ["03", "04", "05"] {
            let asked = |it: &&&str| it.starts_with(&format!("dda5{register}"));
            assert_eq!(questions.iter().filter(asked).count(), 1, "{questions:?}");
        }
        assert_eq!(
            (&device["says"]["soc"], &device["says"]["cell_9_voltage"]),
            (&json!("64.0"), &json!("3.326"))
        );
        assert_eq!(replies[0]["notify"].as_array().unwrap().len(), 1);
        let characteristics = &device["services"][0]["characteristics"];
        assert_eq!(characteristics[0], json!({"uuid": "ff01", "properties": ["notify"]}));
        assert_eq!(characteristics[1]["uuid"], "ff02");
    }

    #[test]
    fn a_stream_goes_on_by_itself_after_its_question() {
        let device = device(&jk::BRAND, ADDRESS, PackState::at_rest()).unwrap();
        let stream = &device["replies"][1];
        assert!(stream["match"].as_str().unwrap().starts_with("aa5590eb96"));
        let record = &stream["notify"][1];
        assert!(record["hex"].as_str().unwrap().starts_with("55aaeb9002"));
        assert_eq!((&record["repeat"], &record["after_ms"]), (&json!(-1), &json!(500)));
        assert_eq!(device["services"][0]["characteristics"].as_array().unwrap().len(), 1);
        assert_eq!(device["name"], "JK_SIM");
    }

    #[test]
    fn every_brand_is_written_down_or_has_no_bluetooth() {
        for brand in BRANDS {
            // JK boards have these dialects on their wires only.
            let wire = ["jk:ttl", "jk:pb"].contains(&brand.name);
            let radio = !wire && protocol::find(brand.driver()).unwrap().gatt.is_some();
            let written = device(brand, ADDRESS, PackState::at_rest());
            assert_eq!(written.is_ok(), radio, "{}: {written:?}", brand.name);
        }
    }

    #[test]
    fn long_uuids_keep_their_form() {
        assert_eq!(
            uuid(0x6e40_0001_b5a3_f393_e0a9_e50e_24dc_ca9e),
            "6e400001-b5a3-f393-e0a9-e50e24dcca9e"
        );
        assert_eq!(uuid(protocol::driver::uuid16(0xFFE0)), "ffe0");
    }
}
