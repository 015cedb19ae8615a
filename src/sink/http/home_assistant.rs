//! A dashboard for Home Assistant that shows the batteries with its standard cards.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::AppState;
use crate::model::entries::intermittent;
use crate::model::{DeviceState, EntryKey, Profile, Switch, entries};

/// Values with a tile of their own.
const TILES: [&str; 11] = [
    "problem",
    "power",
    "pack_current",
    "pack_voltage",
    "remaining_energy",
    "time_to_full",
    "time_to_empty",
    "min_cell_voltage",
    "max_cell_voltage",
    "cell_voltage_diff",
    "avg_temp",
];

const HEAD: &str = "\
# A dashboard with the entities that bms-reader has announced so far.
# Home Assistant: Settings, Dashboards, Add dashboard, New dashboard from scratch. Open it, then Edit, menu, Raw
# configuration editor, and replace everything with this text.
title: Batteries
views:
  - title: Batteries
    path: batteries
    icon: mdi:home-battery
    type: sections
    max_columns: 3
    sections:
";

/// Banks come before single batteries.
pub(super) async fn dashboard(State(app): State<AppState>) -> Response {
    let mut states: Vec<DeviceState> = app.board.states().collect();
    states.sort_by_key(|state| !state.profile.is_bank());
    let sections: String = states.iter().map(section).collect();
    let content_type = [(header::CONTENT_TYPE, "text/yaml; charset=utf-8")];
    (content_type, format!("{HEAD}{sections}")).into_response()
}

/// A column with the cards of one battery.
fn section(state: &DeviceState) -> String {
    let profile = &state.profile;
    let known = entries(state).into_iter().map(|entry| entry.key).chain(intermittent(state));
    let known: Vec<EntryKey> = known.collect();
    let entity = |key: &str| {
        let key = EntryKey::parse(key).filter(|key| known.contains(key))?;
        Some(profile.id.entity(key.quantity().kind.component(), &key.to_string()))
    };
    // The heading names the battery already.
    let tile = |key: &str| {
        let (entity, key) = (entity(key)?, EntryKey::parse(key)?);
        Some([("entity", entity), ("name", quoted(&key.name()))])
    };
    let mut cards = Cards("      - type: grid\n        cards:\n".to_owned());
    cards.add("heading", &[("heading", quoted(&profile.name)), ("icon", "mdi:battery".into())]);
    if let Some(soc) = entity("soc") {
        cards
            .add("gauge", &[("entity", soc), ("name", "Charge".into()), ("needle", "true".into())]);
        cards.line("severity: {green: 40, yellow: 20, red: 0}");
    }
    TILES.iter().filter_map(|key| tile(key)).for_each(|fields| cards.add("tile", &fields));
    let connection = profile.id.entity("binary_sensor", "connection");
    let alarm = profile.id.entity("event", "alarm");
    for (entity, name) in [(connection, "Connection"), (alarm, "Last alarm")] {
        cards.add("tile", &[("entity", entity), ("name", name.to_owned())]);
    }
    profile.controls.iter().for_each(|switch| cards.add_switch(profile, *switch));
    if let (Some(soc), Some(power)) = (entity("soc"), entity("power")) {
        cards.add("history-graph", &[("hours_to_show", "24".into())]);
        cards.line(&format!("entities: [{soc}, {power}]"));
    }
    if let (Some(charged), Some(discharged)) =
        (entity("energy_charged"), entity("energy_discharged"))
    {
        let fields = [("period", "day"), ("days_to_show", "14"), ("chart_type", "bar")];
        cards.add("statistics-graph", &fields.map(|(name, value)| (name, value.to_owned())));
        cards.line(&format!(
            "stat_types: [change]\n            entities: [{charged}, {discharged}]"
        ));
    }
    cards.0
}

/// The YAML of cards.
struct Cards(String);

impl Cards {
    fn add(&mut self, kind: &str, fields: &[(&str, String)]) {
        self.0 += &format!("          - type: {kind}\n");
        for (name, value) in fields {
            self.line(&format!("{name}: {value}"));
        }
    }

    fn add_switch(&mut self, profile: &Profile, switch: Switch) {
        let entity = profile.id.entity("switch", &format!("{}_switch", switch.name()));
        self.add("tile", &[("entity", entity), ("name", switch.title().to_owned())]);
        let question = quoted(&format!("Switch {} of {}?", switch.name(), profile.name));
        for action in ["tap_action", "icon_tap_action"] {
            self.line(&format!("{action}: {{action: toggle, confirmation: {{text: {question}}}}}"));
        }
    }

    /// A line of the last card.
    fn line(&mut self, line: &str) {
        self.0 += &format!("            {line}\n");
    }
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
