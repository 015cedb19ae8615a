use serde_json::json;

use super::*;

const NOW: Millis = Millis(1_771_100_000_000);

fn value(key: &str, value: impl Into<Json>) -> Json {
    json!({"key": key, "value": value.into()})
}

fn battery(name: &str, soc: f64, volts: f64, amps: f64, status: &str) -> Json {
    let cell = volts / 16.0;
    json!({
        "id": "x", "name": name, "link": "online", "fault": null, "alarms": [],
        "values": [
            value("soc", soc), value("pack_voltage", volts), value("pack_current", amps),
            value("power", volts * amps), value("status", status), value("avg_temp", 21.5),
            value("min_cell_voltage", cell - 0.004), value("max_cell_voltage", cell + 0.008),
            value("cell_voltage_diff", 0.012),
        ],
    })
}

/// Every kind of row.
fn batteries() -> Vec<Json> {
    let mut alarmed = battery("Rack 2", 15.0, 51.52, -123.45, "discharging");
    alarmed["alarms"] = json!([
        {"words": "Rack 2: Cell undervoltage warning (lowest cell now: cell 9 at 2.790 V)"},
        {"words": "Rack 2: Cell difference warning"},
    ]);
    let fault = json!({
        "type": "timeout", "message": "no answer to service 42 (live values) at address 3",
        "hint": "check the address",
    });
    let offline = json!({
        "name": "Rack 3", "link": "offline", "since": NOW.0 - 185_000, "fault": fault,
        "values": [], "alarms": [],
    });
    let connecting = json!({"name": "Camper", "link": "connecting", "fault": null, "values": []});
    let failed = json!({"name": "Shed", "link": "connecting", "fault": fault, "values": []});
    vec![
        battery("Rack 1", 100.0, 53.02, 11.16, "charging"),
        alarmed,
        offline,
        connecting,
        failed,
        battery("Wechselrichter-Batterie im Keller", 64.0, 250.993, 0.0, "idle"),
        battery("客厅电池组客厅电池组", 7.5, 26.5, -0.2, "discharging"),
    ]
}

fn rendered(width: usize) -> Vec<String> {
    let rows: Vec<_> = batteries().iter().map(|battery| Row::from_json(battery, NOW)).collect();
    render(&rows, width)
}

#[test]
fn table_at_60_columns() {
    insta::assert_snapshot!(rendered(60).join("\n"));
}

#[test]
fn table_at_80_columns() {
    insta::assert_snapshot!(rendered(80).join("\n"));
}

#[test]
fn table_at_120_columns() {
    insta::assert_snapshot!(rendered(120).join("\n"));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 1..200 {
        for line in rendered(width) {
            assert!(columns(&line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn status_is_complete_from_60_columns() {
    for width in 60..200 {
        let lines = rendered(width);
        assert!(lines[7].ends_with("discharging"), "{width}: {}", lines[7]);
        assert!(lines[2].contains("  alarm"), "{width}: {}", lines[2]);
        assert!(lines[3].contains("offline 3 min"), "{width}: {}", lines[3]);
    }
}

#[test]
fn notes_have_each_alarm_and_the_remedy() {
    let batteries = batteries();
    assert_eq!(
        notes(&batteries[1]),
        [
            "Rack 2: alarm: Cell undervoltage warning (lowest cell now: cell 9 at 2.790 V)",
            "Rack 2: alarm: Cell difference warning",
        ]
    );
    assert_eq!(
        notes(&batteries[2]),
        ["Rack 3: no answer to service 42 (live values) at address 3\n  check the address"]
    );
    assert!(notes(&batteries[0]).is_empty());
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let evil = json!({
        "name": "a\x1b]0;title\x07", "link": "connecting",
        "fault": {"message": "b\x1b[2J\nc", "hint": "d\x1b[H"}, "values": [],
    });
    let lines = render(&[Row::from_json(&evil, NOW)], 80);
    let text = lines.iter().cloned().chain(notes(&evil)).collect::<String>();
    assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    assert_eq!(lines.len(), 2);
}
