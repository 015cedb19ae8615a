use super::*;
use crate::model::EntryKey;
use crate::model::reading::Activity;

#[test]
fn every_threshold_has_a_row() {
    for threshold in &Threshold::ALL {
        let key = format!("alarm_{}", threshold.name());
        assert!(CATALOG.iter().any(|quantity| quantity.key == key), "{key}");
    }
}

#[test]
fn keys_are_unique() {
    let mut keys: Vec<_> = CATALOG.iter().map(|quantity| quantity.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), CATALOG.len());
}

#[test]
fn keys_are_parsed() {
    for (key, row) in [
        ("soc", Some("soc")),
        ("cell_12_voltage", Some("cell_{}_voltage")),
        ("cell_12_temp", Some("cell_{}_temp")),
        ("temp_3", Some("temp_{}")),
        ("alarm_cell_overvoltage", Some("alarm_{}")),
        ("alarm_unknown", None),
        ("cell_x_voltage", None),
        ("temp_", None),
        ("", None),
    ] {
        assert_eq!(EntryKey::parse(key).map(|key| key.quantity().key), row, "{key}");
    }
}

#[test]
fn status_lists_every_activity() {
    assert!(Activity::ALL.iter().map(|activity| activity.name()).eq(ACTIVITIES.iter().copied()));
}
