//! The dashboard for Home Assistant.

#[path = "../../../../tests/common/yaml.rs"]
mod yaml;

use super::*;
use crate::model::Switch;

/// Entities by battery.
async fn sections(server: &TestServer) -> Vec<(String, Vec<String>)> {
    let (status, head, body) = server.get("/api/homeassistant/dashboard.yaml").await;
    assert!(status == 200 && head.contains("content-type: text/yaml"), "{head}");
    let dashboard: Json = yaml::from_str(&body).unwrap();
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let sections = dashboard["views"][0]["sections"].as_array().unwrap();
    let section = |section: &Json| {
        let cards = section["cards"].as_array().unwrap();
        let entities = cards.iter().filter_map(|card| card.get("entity")).map(text);
        (text(&cards[0]["heading"]), entities.collect())
    };
    sections.iter().map(section).collect()
}

#[tokio::test]
async fn dashboard_has_the_known_values_of_each_battery() {
    let server = TestServer::start().await;
    let found = sections(&server).await;
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Rack \"1\" <b>", "shed"]);
    for entity in ["sensor.rack_soc", "sensor.rack_power", "binary_sensor.rack_problem"] {
        assert!(found[0].1.contains(&entity.to_owned()), "{:?}", found[0]);
    }
    assert_eq!(found[1].1, ["binary_sensor.shed_connection", "event.shed_alarm"]);

    let allow = |profile: &mut Profile| profile.controls = vec![Switch::Charging];
    server.board.update_profile(&id("shed"), allow);
    let switched = sections(&server).await;
    assert_eq!(switched[1].1[2..], ["switch.shed_charging_switch"]);
    assert_eq!(switched[0], found[0]);
}
