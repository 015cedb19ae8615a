//! What is kept for years, and the history as a table.

use super::*;
use crate::model::{AlarmSet, Energy, MilliampHours};

#[tokio::test]
async fn energy_and_alarms_are_kept() {
    let server = TestServer::start().await;
    server.recorded().await;
    let mut snapshot = snapshot(now_ms(), 2);
    snapshot.reading.pack.full = Some(MilliampHours(100_000));
    snapshot.derived.energy_since_start.charged = Energy(1_250 * 3_600_000);
    snapshot.reading.alarms = AlarmSet::default();
    snapshot.reading.alarms.note(Alarm::CellOvervoltage, false);
    let (start, end) = (server.json("/api/alarms").await, snapshot.taken.0);
    server.board.update(&id("rack"), |state| state.snapshot = Some(Arc::new(snapshot)));
    let limit = Instant::now() + TIMEOUT;
    let energy = loop {
        let energy = server.json("/api/energy?days=1").await;
        if !energy["days"].as_array().unwrap().is_empty() || Instant::now() > limit {
            break energy;
        }
        sleep(Duration::from_millis(5)).await;
    };
    let today = energy["today"].clone();
    let known = json!({"id": "rack", "cycle": 5302.0, "charged": [1.3], "discharged": [0.0]});
    let unknown = json!({"id": "shed", "cycle": null, "charged": [null], "discharged": [null]});
    let house = json!({"cycle": null, "charged": [1.3], "discharged": [0.0]});
    let expected = json!({"unit": "Wh", "kept": false, "today": today, "days": [today], "house": house, "batteries": [known, unknown]});
    assert_eq!(energy, expected);

    let alarm = &start["alarms"][0];
    assert_eq!((&alarm["name"], &alarm["end"]), (&json!("cell_overvoltage"), &Json::Null));
    assert_eq!(alarm["values"]["max_cell_voltage"], 3.326);
    let ended = server.json("/api/alarms").await;
    assert_eq!((&ended["alarms"][0]["end"], &ended["alarms"][1]), (&json!(end), &Json::Null));
    for wrong in ["days=0", "days=x", "hours=1"] {
        assert_eq!(server.get(&format!("/api/energy?{wrong}")).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn history_is_a_table() {
    let server = TestServer::start().await;
    server.recorded().await;
    let taken = server.board.latest(&id("rack")).unwrap().snapshot.unwrap().taken;
    let path = "/api/devices/rack/history.csv?keys=soc,power";
    let (status, head, body) = server.get(path).await;
    assert!(status == 200 && head.contains("content-type: text/csv"), "{head}");
    let time = taken.iso8601();
    let row = format!("{time},63.5,63.5,63.5,-591.7,-591.7,-591.7");
    let columns = "time,soc (%),soc_min,soc_max,power (W),power_min,power_max";
    assert_eq!(body, format!("{columns}\r\n{row}\r\n"));
    let second = taken.0 / 1000;
    for (range, rows) in [
        (format!("from={second}"), 1),
        (format!("from={}", second + 1), 0),
        (format!("from={}&to={}", second - 60, second), 0),
        (format!("from={}&to={}", second - 60, second + 1), 1),
        (format!("from={}&to={}", second + 60, second - 60), 0),
    ] {
        let (_, _, body) = server.get(&format!("{path}&{range}")).await;
        // Without data there are no columns either.
        assert_eq!(body.lines().count(), 1 + rows, "{range}: {body}");
    }
}

#[tokio::test]
async fn health_of_new_batteries_is_not_known() {
    let server = TestServer::start().await;
    let no_data = "Not enough data yet: 0 of 3 days with the battery at rest, full or empty.";
    let summary = json!({"code": "no_data", "text": no_data, "days": 0, "needed": 3});
    let none = json!([]);
    let history = json!({"days": [], "spread_mv": {"rest": [], "full": [], "empty": []}, "capacity_ah": [], "resistance_mohm": []});
    let expected = json!({"id": "shed", "kept": false, "days": 0, "summary": summary, "spread_mv": {}, "cells": none, "history": history});
    assert_eq!(server.json("/api/devices/shed/health").await, expected);
    for (path, status) in [
        ("rack/health?days=366", 200),
        ("rack/health?days=0", 400),
        ("rack/health?hours=1", 400),
        ("nowhere/health", 404),
    ] {
        assert_eq!(server.get(&format!("/api/devices/{path}")).await.0, status, "{path}");
    }
}
