//! Masks secrets, hosts and Bluetooth addresses in a report that users publish.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::RedactedConfig;
use crate::config::variables::{MQTT_HOST, MQTT_USER};
use crate::model::Secret;
use crate::model::secret::MASK;

/// In bytes; shorter texts occur in a report by coincidence.
const MIN_SECRET: usize = 3;

/// Each is followed by a host.
const SCHEMES: [&str; 4] = ["tcp://", "esphome://", "mqtt://", "mqtts://"];

/// The value of a variable as the report shows it.
pub(super) fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    match name {
        _ if name == MQTT_HOST.name => masked_host(value),
        _ if name == MQTT_USER.name => "<user>",
        _ => value,
    }
}

/// Keeps whether the host is an address or a name, which helps; this machine is no secret.
fn masked_host(host: &str) -> &str {
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() || address.is_unspecified() => host,
        Ok(_) => "<address>",
        Err(_) if host == "localhost" => host,
        Err(_) => "<name>",
    }
}

/// Masks hosts after a scheme, the broker and all IPv4 addresses.
fn mask_hosts(report: &str, config: &RedactedConfig) -> String {
    let mut text = report.to_owned();
    let broker = config.values.iter().find(|(name, _)| *name == MQTT_HOST.name);
    // A name of one word may be any word of the report.
    if let Some((_, host)) = broker.filter(|(_, host)| host.contains(['.', ':'])) {
        text = text.replace(host, masked_host(host));
    }
    for scheme in SCHEMES {
        let mut parts: Vec<_> = text.split(scheme).map(str::to_owned).collect();
        parts.iter_mut().skip(1).for_each(|part| *part = mask_leading_host(part));
        text = parts.join(scheme);
    }
    mask_ipv4(&text)
}

fn mask_leading_host(text: &str) -> String {
    let host = leading_host(text);
    let masked = match host.starts_with('<') {
        true => host,
        false => masked_host(host.trim_matches(['[', ']'])),
    };
    text.replacen(host, masked, 1)
}

/// The host at the beginning of this text; an IPv6 address has brackets.
fn leading_host(text: &str) -> &str {
    let ends = |c: char| !(c.is_alphanumeric() || "-_.*@<>".contains(c));
    let end = match text.starts_with('[') {
        true => text.find(']').map(|at| at + 1),
        false => text.find(ends),
    };
    text.get(..end.unwrap_or(text.len())).unwrap_or(text)
}

fn mask_ipv4(text: &str) -> String {
    let masked = |piece: &str| {
        let number = piece.trim_end_matches(|c: char| !c.is_ascii_digit());
        let host = number.parse::<Ipv4Addr>().map_or(number, |_| masked_host(number));
        piece.replacen(number, host, 1)
    };
    text.split_inclusive(|c: char| !(c.is_ascii_digit() || c == '.')).map(masked).collect()
}

/// Masks secrets and hosts, and the second half of each Bluetooth address; the first half identifies
/// the manufacturer of the chip, which helps.
pub(super) fn masked(report: &str, config: &RedactedConfig) -> String {
    let mut text = report.to_owned();
    let secrets = config.secrets.iter().map(Secret::expose);
    for secret in secrets.filter(|secret| secret.len() >= MIN_SECRET) {
        text = text.replace(secret, MASK);
    }
    text = mask_hosts(&text, config);
    let mut shown = text.clone().into_bytes();
    for start in (0..text.len()).filter(|start| is_address(text.as_bytes(), *start)) {
        for offset in [9, 10, 12, 13, 15, 16] {
            shown[start + offset] = b'x';
        }
    }
    String::from_utf8(shown).unwrap_or_default()
}

/// Whether `AA:BB:CC:DD:EE:FF` starts there, with colons, hyphens or underscores.
fn is_address(text: &[u8], start: usize) -> bool {
    let Some(address) = text.get(start..start + 17) else { return false };
    let is_hex = |at: Option<&u8>| at.is_some_and(u8::is_ascii_hexdigit);
    !is_hex(start.checked_sub(1).and_then(|before| text.get(before)))
        && !is_hex(text.get(start + 17))
        && address.iter().enumerate().all(|(offset, byte)| match offset % 3 {
            2 => matches!(byte, b':' | b'-' | b'_'),
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_half_of_each_address_are_masked() {
        let config = RedactedConfig { values: Vec::new(), secrets: vec![Secret::new("hunter2")] };
        let report = "as hunter2 at C8:47:80:37:02:E8, dev_c8_47_80_37_02_e8; 12:34:56 is a time";
        let shown = masked(report, &config);
        assert_eq!(shown, "as *** at C8:47:80:xx:xx:xx, dev_c8_47_80_xx_xx_xx; 12:34:56 is a time");
    }

    #[test]
    fn short_secret_is_not_masked() {
        let config = RedactedConfig { values: Vec::new(), secrets: vec![Secret::new("a")] };
        assert_eq!(masked("a battery", &config), "a battery");
    }

    #[test]
    fn hosts_and_users_are_masked_by_kind() {
        let config = |host: &str| RedactedConfig {
            values: vec![("MQTT_HOST", host.to_owned())],
            secrets: Vec::new(),
        };
        assert_eq!(shown("MQTT_HOST", "192.0.2.10"), "<address>");
        assert_eq!(shown("MQTT_HOST", "core-mosquitto"), "<name>");
        assert_eq!(shown("MQTT_HOST", "127.0.0.1"), "127.0.0.1");
        assert_eq!(shown("MQTT_USER", "bob"), "<user>");
        for (report, masks) in [
            ("no route to 192.0.2.10.", "no route to <address>."),
            ("no such host as home.example.org", "no such host as <name>"),
            (
                "at tcp://192.0.2.7:8899, tcp://bridge:23",
                "at tcp://<address>:8899, tcp://<name>:23",
            ),
            (r#""port": "tcp://[2001:db8::1]:1""#, r#""port": "tcp://<address>:1""#),
            (r#"MQTT_HOST is "mqtt://a.b:1883", but"#, r#"MQTT_HOST is "mqtt://<name>:1883", but"#),
            (
                "tcp://localhost:1 127.0.0.1 0.0.0.0:8099",
                "tcp://localhost:1 127.0.0.1 0.0.0.0:8099",
            ),
            ("version 15.38, 1.2.3", "version 15.38, 1.2.3"),
        ] {
            assert_eq!(masked(report, &config("home.example.org")), masks);
        }
        assert_eq!(masked("a bms at home", &config("bms")), "a bms at home");
    }
}
