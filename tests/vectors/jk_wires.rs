//! What the keys of `jk.json` mean where a wire carried them.

use bms_reader::model::Reading;
use bms_reader::model::reading::SensorLocation;
use bms_reader::protocol::jk::pb::{self, Topic};
use serde_json::Value;

use crate::Compared;
use crate::common::Vector;
use crate::jk::recorded;

/// On a wire the answer under test, and what another board said to the other questions.
pub fn session_on_wire(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if question == vector.request {
        return Some(vector.response.clone());
    }
    let others = [
        (Topic::Live, "jk_pb_rs485_addr3_status"),
        (Topic::Settings, "jk_pb_rs485_addr3_settings"),
        (Topic::Device, "jk_pb_rs485_addr3_about"),
    ];
    let (_, id) = others.into_iter().find(|(topic, _)| question == pb::trigger(*topic, 3))?;
    recorded(id)
}

/// The values of a "4E 57" answer.
pub fn tags(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack) = (&vector.id, &reading.pack);
    let number = expected.as_i64();
    let state = |name: &str| reading.states.get(name).copied();
    let names = &reading.identity;
    let at = |place| {
        let probe = reading.probes.iter().find(|probe| probe.location == place).unwrap();
        Some(i64::from(probe.value.unwrap().0) / 10)
    };
    match key {
        "cell_mv" => {
            let cells = reading.cells.iter().map(|cell| cell.voltage.unwrap().0);
            assert_eq!(Value::from(cells.collect::<Vec<_>>()), *expected, "{id}");
        }
        "cell_count" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "temp_mos_c" => assert_eq!(at(SensorLocation::Mosfet), number, "{id}"),
        "temp_box_c" => assert_eq!(at(SensorLocation::Ambient), number, "{id}"),
        "temp_batt_c" => assert_eq!(at(SensorLocation::Cells), number, "{id}"),
        "pack_cv" => assert_eq!(pack.voltage.map(|v| i64::from(v.0) / 10), number, "{id}"),
        "current_ca" => assert_eq!(pack.current.map(|v| i64::from(v.0) / 10), number, "{id}"),
        "soc_pct" => assert_eq!(pack.soc.map(|v| i64::from(v.0) / 100), number, "{id}"),
        "cycles" => assert_eq!(pack.cycles.map(i64::from), number, "{id}"),
        "warning_bits" => {
            let bits = expected.as_array().unwrap().len();
            assert_eq!(reading.alarms.active().count(), bits, "{id}");
            assert!(!reading.alarms.is_empty());
        }
        "charge_mos_on" => assert_eq!(reading.switches.charging, expected.as_bool(), "{id}"),
        "discharge_mos_on" => assert_eq!(reading.switches.discharging, expected.as_bool(), "{id}"),
        "balancing" | "charge_switch" | "discharge_switch" => {
            assert_eq!(state(key), expected.as_bool(), "{id}");
        }
        "capacity_ah" => assert_eq!(pack.design.map(|v| v.0 / 1000), number, "{id}"),
        "software" => {
            let both = expected.as_str().unwrap();
            let parts = [names.hardware.as_deref().unwrap(), names.software.as_deref().unwrap()];
            assert!(
                both.starts_with(parts[0]) && both.contains(&format!("_S{}", parts[1])),
                "{id}"
            );
        }
        "manufacturer_id" => {
            let model = expected.as_str().and_then(|text| text.get(12..));
            let model = model.filter(|text| text.starts_with("JK"));
            assert_eq!(names.model.as_deref(), model, "{id}");
        }
        "command" | "source" | "frame_type" => return Compared::No("checked by the driver"),
        "warnings" | "status" => return Compared::No("bit by bit"),
        "protocol_version" => return Compared::No("in the sign of the current"),
        "ntc_count" | "cycle_capacity_ah" | "working_min" => {
            return Compared::No("no part of a reading");
        }
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}
