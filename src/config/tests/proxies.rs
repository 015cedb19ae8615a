//! `BLE_PROXIES` in both forms, and adapters that name a proxy.

use super::{environment, error, load_valid};
use crate::config::{Config, Endpoint, redacted};
use crate::model::Secret;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Address, name and whether there is a key.
fn proxies(config: &Config) -> Vec<(String, Option<&str>, bool)> {
    let shown = config.proxies.iter();
    shown.map(|it| (it.device.address(), it.name.as_deref(), it.device.key.is_some())).collect()
}

#[test]
fn short_form_and_list_are_the_same() {
    let short = format!("10.0.0.7?key={KEY}, garage.lan:6054\n[fe80::1]");
    let found = load_valid(&[("BLE_PROXIES", &short)]);
    let expected = [
        ("10.0.0.7:6053".to_owned(), None, true),
        ("garage.lan:6054".to_owned(), None, false),
        ("[fe80::1]:6053".to_owned(), None, false),
    ];
    assert_eq!(proxies(&found), expected);
    let list = format!(
        r#"[{{"host": "10.0.0.7", "key": "{KEY}"}}, "garage.lan:6054", {{"Host": "fe80::1", "port": 6053}}]"#
    );
    assert_eq!(load_valid(&[("BLE_PROXIES", &list)]).proxies, found.proxies);
    let named = r#"[{"host": "10.0.0.7", "name": "garage"}]"#;
    assert_eq!(proxies(&load_valid(&[("BLE_PROXIES", named)]))[0].1, Some("garage"));
    assert!(load_valid(&[]).proxies.is_empty());
}

#[test]
fn invalid_proxy_is_named_by_its_number_and_not_shown() {
    let digits = KEY.trim_end_matches('=');
    for (text, expected) in [
        (format!("10.0.0.7, 10.0.0.8?key={digits}"), "BLE_PROXIES, proxy 2"),
        (format!(r#"[{{"host": "a", "psk": "{KEY}"}}]"#), "an object with host"),
        (format!(r#"[{{"key": "{KEY}"}}]"#), "an object with host"),
        (format!(r#"[{{"host": "a", "key": "{digits}"}}]"#), "host?key="),
        (r#"[{"host": "a", "name": "proxies"}]"#.to_owned(), "other than proxies"),
        ("10.0.0.7 10.0.0.7:6053".to_owned(), "not listed before"),
        ("10.0.0.7/BMS".to_owned(), "host:port"),
        ("10.0.0.7:0".to_owned(), "host:port"),
    ] {
        let message = error(&[("BLE_PROXIES", &text)]);
        assert!(message.contains(expected) && !message.contains(digits), "{text}: {message}");
    }
}

#[test]
fn any_proxy_needs_a_list_of_proxies() {
    let battery = [("BMS_TYPE", "jbd"), ("BMS_ADDRESS", "C8:47:80:37:02:E8")];
    let [brand, address] = battery;
    let message = error(&[brand, address, ("BMS_ADAPTER", "proxies")]);
    assert!(message.contains("BLE_PROXIES") && message.contains("BMS_ADAPTER"), "{message}");
    let all = [brand, address, ("BMS_ADAPTER", "proxies"), ("BLE_PROXIES", "10.0.0.7")];
    let config = load_valid(&all);
    assert_eq!(config.devices[0].profile.adapter.as_deref(), Some("proxies"));
    load_valid(&[brand, address, ("BMS_ADAPTER", "garage-proxy.lan")]);
}

#[test]
fn proxy_lends_its_key_to_its_serial_ports() {
    let config = load_valid(&[
        ("BMS_TYPE", "jbd"),
        ("BMS_PORT", "esphome://10.0.0.7/BMS bus"),
        ("BLE_PROXIES", &format!("10.0.0.7?key={KEY}")),
    ]);
    let Endpoint::Esphome(port) = &config.devices[0].endpoint else { panic!() };
    assert_eq!(port.key, config.proxies[0].device.key);
    assert!(port.key.is_some() && !format!("{config:?}").contains(KEY));
}

#[test]
fn key_is_in_no_report() {
    let list = format!(r#"[{{"host": "10.0.0.7", "key": "{KEY}"}}, "10.0.0.8?key={KEY}"]"#);
    for text in [format!("10.0.0.7?key={KEY}"), list] {
        let config = redacted(environment(&[("BLE_PROXIES", &text)]));
        assert!(!format!("{:?}", config.values).contains("10.0.0.7"), "{:?}", config.values);
        assert!(config.secrets.contains(&Secret::new(KEY)), "{text}");
    }
}
