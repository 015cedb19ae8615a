//! What the vectors of the low-voltage consoles mean.

use std::sync::LazyLock;

use bms_reader::model::reading::SensorLocation;
use bms_reader::model::{FaultKind, Reading};
use bms_reader::protocol::console::reply::{Listener, Reply};
use bms_reader::protocol::console::table::field;
use bms_reader::protocol::pylontech_console::INFO;
use bms_reader::protocol::{Options, Step};
use serde_json::Value;

use crate::common::{Vector, play, vectors};
use crate::{Compared, Role, SimBrand};

pub const BRAND: SimBrand = SimBrand {
    name: "pylontech-console",
    session,
    role,
    request: check_request,
    value,
    detail,
    bare,
};

fn command(vector: &Vector) -> &str {
    std::str::from_utf8(&vector.request).unwrap().trim_end()
}

fn role(vector: &Vector) -> Role {
    match command(vector) {
        "pwr" => Role::Required,
        "bat 1" | "stat 1" | "info 1" => Role::Optional,
        _ => Role::NeverAsked,
    }
}

static GOOD: LazyLock<Vec<Vector>> = LazyLock::new(|| vectors("pylontech-console"));

fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if question == vector.request {
        return Some(vector.response.clone());
    }
    let good = GOOD.iter().find(|it| it.id == "us2000c-pwr").unwrap();
    if question == good.request {
        return Some(good.response.clone());
    }
    let command = std::str::from_utf8(question).unwrap().trim_end();
    let unknown = format!("Unknown command '{command}' - try 'help'");
    Some(format!("{command}\r\n@\r\n{unknown}\r\n$$\r\npylon>").into())
}

fn check_request(vector: &Vector) {
    let outcome = play((INFO.new)(&Options::default()).as_mut(), |question| {
        // The vector of a question has no answer: here its question gets none.
        let answered = question != vector.request;
        vec![answered.then(|| session(vector, question)).flatten().unwrap_or_default()]
    });
    let asked = outcome.unwrap().asked;
    assert!(asked.contains(&vector.request), "{}: {asked:?}", vector.id);
    assert_eq!(vector.json["expected"]["command"], command(vector));
}

fn reply(vector: &Vector) -> Reply {
    let mut listener = Listener::for_answer_to(command(vector));
    vector.response.iter().find_map(|byte| listener.hear(*byte)).expect(&vector.id)
}

/// Commands that are never sent: their answers show that the frame is understood.
fn bare(vector: &Vector) {
    let reply = reply(vector);
    assert!(reply.succeeded());
    if vector.kind == "bad" {
        return;
    }
    let fields: Vec<(String, &str)> = reply.lines.iter().filter_map(|line| field(line)).collect();
    let first = |key: &str| {
        let (_, value) = fields.iter().find(|(name, _)| name == key).expect(key);
        value.split_whitespace().next().unwrap().to_owned()
    };
    for (key, expected) in vector.json["expected"].as_object().unwrap() {
        let name = match &**key {
            "test_result" => "Test result",
            "voltage_mv" => "Voltage",
            "current_ma" => "Current",
            "soc_pct" if command(vector) == "pwrsys" => "System SOC",
            "soc_pct" => "Coulomb",
            "total_mah" => "Total Coulomb",
            "base" => "Basic Status",
            "system_voltage_mv" => "System Volt",
            "system_current_ma" => "System Curr",
            "remaining_mah" => "System RC",
            "full_mah" => "System FCC",
            "soh_pct" if command(vector) == "pwrsys" => "System SOH",
            "soh_pct" => "SOH",
            "present" => "Present Num",
            "cycle_times" => "CYCLE Times",
            "pwr_percent" => "Pwr Percent",
            _ => panic!("{}: what is {key}?", vector.id),
        };
        let expected = expected.as_str().map_or_else(|| expected.to_string(), str::to_owned);
        assert_eq!(first(name), expected, "{}: {key}", vector.id);
    }
}

fn detail(key: &str, expected: &Value, message: &str) -> Compared {
    match key {
        "field" => assert!(message.contains(expected.as_str().unwrap()), "{message}"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// The reading of the pack with this number.
fn pack(vector: &Vector, address: u8) -> Step {
    let options = Options { address, ..Options::default() };
    let outcome = play((INFO.new)(&options).as_mut(), |question| {
        session(vector, question).into_iter().collect()
    });
    outcome.unwrap().end
}

fn probe(reading: &Reading, location: SensorLocation) -> Option<i64> {
    let probe = reading.probes.iter().find(|probe| probe.location == location)?;
    probe.value.map(|value| i64::from(value.0) * 100)
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack_read) = (&vector.id, &reading.pack);
    let cell = |index: usize| &reading.cells[index];
    match key {
        "present" | "absent" => {
            for number in expected.as_array().unwrap() {
                let end = pack(vector, u8::try_from(number.as_u64().unwrap()).unwrap());
                let absent = matches!(&end, Step::Failed(it) if it.kind() == FaultKind::BmsError);
                assert_eq!(absent, key == "absent", "{id}: {number}: {end:?}");
            }
        }
        "module_1" => module(id, expected, reading),
        "module_3_mos_temp" => {
            let Step::Done(third) = pack(vector, 3) else { panic!("{id}: no third pack") };
            assert_eq!(probe(&third, SensorLocation::Mosfet), expected.as_i64());
        }
        "cells" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "cell_0_mv" => assert_eq!(cell(0).voltage.map(|v| v.0.into()), expected.as_i64(), "{id}"),
        "cell_4_mv" => assert_eq!(cell(4).voltage.map(|v| v.0.into()), expected.as_i64(), "{id}"),
        "cell_0_balancing" => assert_eq!(cell(0).balancing, expected.as_bool(), "{id}"),
        "balancing_cells" => {
            let cells = reading.cells.iter().zip(1..);
            let on: Vec<i32> =
                cells.filter(|(cell, _)| cell.balancing == Some(true)).map(|(_, n)| n).collect();
            assert_eq!(serde_json::json!(on), *expected, "{id}");
        }
        "raised" => {
            let raised: Vec<_> = reading.alarms.raised().collect();
            assert_eq!(serde_json::json!(raised), *expected, "{id}");
        }
        "cycle_times" => assert_eq!(pack_read.cycles.map(u64::from), expected.as_u64(), "{id}"),
        "soh_pct" => assert_eq!(pack_read.soh.map(|v| (v.0 / 100).into()), expected.as_i64()),
        "device_name" => assert_eq!(reading.identity.model.as_deref(), expected.as_str()),
        "barcode" => assert_eq!(reading.identity.serial.as_deref(), expected.as_str()),
        "main_soft_version" => assert_eq!(reading.identity.software.as_deref(), expected.as_str()),
        "rated_capacity_ah" => {
            assert_eq!(pack_read.design.map(|v| v.0 / 1000), expected.as_i64());
        }
        "cell_0_soc_pct" | "cell_0_mah" => return Compared::No("a share of the pack's"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn module(id: &str, expected: &Value, reading: &Reading) {
    let pack = &reading.pack;
    for (key, expected) in expected.as_object().unwrap() {
        let number = expected.as_i64();
        match &**key {
            "voltage_mv" => assert_eq!(pack.voltage.map(|v| v.0.into()), number, "{id}"),
            "current_ma" => assert_eq!(pack.current.map(|v| v.0.into()), number, "{id}"),
            "temp_mc" => assert_eq!(probe(reading, SensorLocation::Ambient), number, "{id}"),
            "mos_temp_mc" => assert_eq!(probe(reading, SensorLocation::Mosfet), number, "{id}"),
            "soc_pct" => assert_eq!(pack.soc.map(|v| (v.0 / 100).into()), number, "{id}"),
            "base" => assert_eq!(pack.console_status.base.as_deref(), expected.as_str(), "{id}"),
            "cell_low_mv" | "cell_high_mv" => assert!(reading.cells.is_empty(), "`bat` tells it"),
            _ => panic!("{id}: what is {key}?"),
        }
    }
}
