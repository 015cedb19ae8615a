//! Names that are no variables: most of them are misspelled, or those of other programs.

use std::collections::BTreeMap;

use super::values::Spelling;
use super::variables::VARIABLES;
use crate::did_you_mean::closest;

/// Prefixes that only this program uses: an unknown name with one of them is a mistake.
const OWN_PREFIXES: [&str; 3] = ["bms_", "mqtt_", "alarm_"];

/// Prefixes that other programs use, too: such a name is reported only if it is almost a known one.
const SHARED_PREFIXES: [&str; 10] = [
    "ha_", "history_", "http_", "read_", "device_", "allow_", "serial_", "log_", "notify_",
    "influx_",
];

/// Names that people try, most of them from other programs, and those that they mean.
const SYNONYMS: [(&str, &str); 44] = [
    ("address", "bms_address"),
    ("alarm_cell_diff", "alarm_cell_delta"),
    ("alarm_cell_max", "alarm_cell_high"),
    ("alarm_cell_min", "alarm_cell_low"),
    ("alarm_soc_min", "alarm_soc_low"),
    ("alarm_temp_max", "alarm_temp_high"),
    ("alarm_temp_min", "alarm_temp_low"),
    ("apprise_url", "notify_url"),
    ("baud_rate", "bms_baudrate"),
    ("baudrate", "bms_baudrate"),
    ("ble_address", "bms_address"),
    ("bms_brand", "bms_type"),
    ("bms_device", "bms_port"),
    ("bms_interval", "read_interval"),
    ("bms_mac", "bms_address"),
    ("bms_mac_address", "bms_address"),
    ("bms_model", "bms_type"),
    ("bms_name", "device_name"),
    ("bms_id", "device_id"),
    ("bms_pin", "bms_password"),
    ("bms_poll_interval", "read_interval"),
    ("bms_serial", "bms_port"),
    ("bms_serial_port", "bms_port"),
    ("bms_unit_id", "bms_slave_id"),
    ("http_port", "http_listen"),
    ("influxdb_token", "influx_token"),
    ("influxdb_url", "influx_url"),
    ("interval", "read_interval"),
    ("mac_address", "bms_address"),
    ("mqtt_address", "mqtt_host"),
    ("mqtt_broker_host", "mqtt_host"),
    ("mqtt_ip", "mqtt_host"),
    ("mqtt_pass", "mqtt_password"),
    ("mqtt_pwd", "mqtt_password"),
    ("mqtt_server", "mqtt_host"),
    ("mqtt_url", "mqtt_host"),
    ("mqtt_username", "mqtt_user"),
    ("notification_url", "notify_url"),
    ("ntfy_url", "notify_url"),
    ("poll_interval", "read_interval"),
    ("polling_interval", "read_interval"),
    ("slave_id", "bms_slave_id"),
    ("update_interval", "read_interval"),
    ("web_port", "http_listen"),
];

/// Warnings about names that are no variables, except for those that may belong to other programs.
pub(super) fn unknown_names<'a>(
    names: impl Iterator<Item = &'a String>,
    spelling: &Spelling,
) -> Vec<String> {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return Vec::new();
    }
    let variables = VARIABLES.iter().flat_map(|variable| spelling.names(variable));
    let files = VARIABLES.iter().filter_map(|variable| spelling.file_name(variable));
    let known: Vec<String> = variables.chain(files).collect();
    let by_letters: BTreeMap<_, _> =
        known.iter().rev().map(|known| (letters(known), known.as_str())).collect();
    names.filter_map(|name| unknown_name(name, spelling, &known, &by_letters)).collect()
}

/// `by_letters`: the known names without what separates their words.
fn unknown_name(
    name: &str,
    spelling: &Spelling,
    known: &[String],
    by_letters: &BTreeMap<String, &str>,
) -> Option<String> {
    let is_environment = matches!(spelling, Spelling::Environment);
    let has_prefix = |of: &[&str]| of.iter().any(|prefix| name.starts_with(prefix));
    let meant = synonym(name, known).or_else(|| by_letters.get(&letters(name)).copied());
    let has_our_prefix = has_prefix(&OWN_PREFIXES) || has_prefix(&SHARED_PREFIXES);
    if is_environment && meant.is_none() && !has_our_prefix {
        return None;
    }
    let near = closest(name, known.iter().map(String::as_str));
    let not_secret =
        name.strip_suffix("_file").filter(|stem| known.iter().any(|other| other == stem));
    let almost_known = not_secret.is_some() || near.is_some_and(|(_, errors)| errors <= 2);
    let is_ours = meant.is_some() || has_prefix(&OWN_PREFIXES) || almost_known;
    if is_environment && !is_ours {
        return None;
    }
    let cased = |name: &str| if is_environment { name.to_uppercase() } else { name.to_owned() };
    let meant = meant.or(near.map(|(near, _)| near));
    let advice = match (spelling, name, not_secret, meant) {
        // Older programs disable a battery with it.
        (Spelling::Element(_), "enabled", ..) => {
            "; to disable a battery, remove it from the list".to_owned()
        }
        (_, _, Some(stem), _) => format!("; only secrets may be in a file: set {}", cased(stem)),
        (.., Some(meant)) => format!("; did you mean {}?", cased(meant)),
        (.., None) => String::new(),
    };
    Some(format!("{} is unknown and ignored{advice}", spelling.display(name)))
}

/// The known name that this one certainly stands for.
fn synonym<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let (_, meant) = SYNONYMS.iter().find(|(wrong, _)| *wrong == name)?;
    // An element has the names without their prefix.
    let same = |known: &&String| {
        *known == meant || meant.split_once('_').is_some_and(|(_, key)| key == known.as_str())
    };
    known.iter().find(same).map(String::as_str)
}

fn letters(name: &str) -> String {
    name.replace(['_', '-', '.'], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variables::Variable;

    #[test]
    fn every_synonym_stands_for_a_variable() {
        let find = |name: &str| VARIABLES.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        for (wrong, meant) in SYNONYMS {
            assert!(find(meant).is_some(), "{meant}");
            let is_alias = |variable: &&&Variable| {
                variable.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(wrong))
            };
            assert!(find(wrong).is_none() && VARIABLES.iter().find(is_alias).is_none(), "{wrong}");
        }
    }
}
