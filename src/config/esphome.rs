//! Serial ports of ESPHome devices: `esphome://host[:port]/name?key=...`, also as Home Assistant and
//! serialx spell it.

use std::fmt;

use super::rule;
use crate::model::Secret;
use crate::model::secret::MASK;

const SCHEME: &str = "esphome://";
/// The port of the API unless the YAML of the device has another one.
const API_PORT: u16 = 6053;
/// Names of the query for the key and for the serial port.
const KEYS: [&str; 2] = ["key", "noise_psk"];
const NAMES: [&str; 2] = ["port_name", "port"];
/// Stands for a key, as in the documents.
const KEY_PLACEHOLDER: &str = "KEY";

/// A serial port of an ESPHome device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialPort {
    /// An IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// Name or number; `None`: the only one.
    pub name: Option<String>,
    pub key: Option<Key>,
}

/// The encryption key of a device. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Key {
    /// 32 bytes in base64, which are 44 characters.
    fn parse(text: &str) -> Option<Key> {
        let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
        let mut bytes = Vec::new();
        let (mut bits, mut count) = (0_u32, 0);
        for digit in digits.bytes() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            (bits, count) = (bits << 6 | u32::from(value), count + 6);
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        bytes.try_into().ok().map(Key)
    }
}

impl SerialPort {
    /// `None` if the text is something else, or invalid.
    pub fn parse(text: &str) -> Option<SerialPort> {
        let rest = text.strip_prefix(SCHEME)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority_parts(authority)?;
        let mut name = Some(decode(path)?).filter(|name| !name.is_empty());
        let mut key = None;
        for (field, value) in query.split('&').filter(|it| !it.is_empty()).map(split_field) {
            if KEYS.contains(&field) {
                // A plus means a blank in a query, but base64 has no blanks.
                key = Some(Key::parse(&decode(value)?.replace(' ', "+"))?);
            } else if NAMES.contains(&field) && name.is_none() {
                name = Some(decode(&value.replace('+', " "))?).filter(|name| !name.is_empty());
            } else {
                return None;
            }
        }
        Some(SerialPort { host, port, name, key })
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        format!("{}:{}", self.bracketed_host(), self.port)
    }

    /// The device without its serial port and its key.
    pub fn device(&self) -> String {
        match self.port {
            API_PORT => format!("{SCHEME}{}", self.bracketed_host()),
            port => format!("{SCHEME}{}:{port}", self.bracketed_host()),
        }
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    pub fn is_same_device(&self, other: &SerialPort) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// The key does not matter.
    pub fn is_same(&self, other: &SerialPort) -> bool {
        self.is_same_device(other) && self.name == other.name
    }
}

/// Without the key, in a form that can be parsed.
impl fmt::Display for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device())?;
        let Some(name) = &self.name else { return Ok(()) };
        f.write_str("/")?;
        for c in name.chars() {
            // A blank is read as it is, and names hardly have the others.
            match c {
                '%' | '?' => write!(f, "%{:02X}", u32::from(c))?,
                _ => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

fn authority_parts(authority: &str) -> Option<(String, u16)> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| is_port(port)) {
        Some((host, port)) => (host, port.parse().ok().filter(|port: &u16| *port != 0)?),
        None => (authority, API_PORT),
    };
    // Without brackets the end of an IPv6 address is ambiguous.
    let host = rule::host(host).filter(|_| host.starts_with('[') || !host.contains(':'))?;
    Some((host, port))
}

fn split_field(field: &str) -> (&str, &str) {
    field.split_once('=').unwrap_or((field, ""))
}

/// Decodes `%20`. `None` if that is incomplete or the text is no text of one line.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?].map(char::from);
                let [high, low] = digits.map(|digit| digit.to_digit(16));
                (high? * 16 + low?) as u8
            }
            byte => byte,
        };
        bytes.push(decoded);
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// The text without the query of a URL, which may contain a key, valid or not.
pub fn without_key(text: &str) -> String {
    match text.split_once('?') {
        Some((url, _)) if text.contains(SCHEME) || text.contains("key=") => format!("{url}?{MASK}"),
        _ => text.to_owned(),
    }
}

/// The text with a placeholder for its key, in a line to copy.
pub fn with_placeholder(text: &str) -> String {
    let Some((url, query)) = text.split_once('?').filter(|_| text.contains(SCHEME)) else {
        return text.to_owned();
    };
    // An unknown field may be a misspelled one for the key.
    let field = |field| match split_field(field) {
        (name, _) if NAMES.contains(&name) => field.to_owned(),
        (name, _) => format!("{name}={KEY_PLACEHOLDER}"),
    };
    let fields: Vec<_> = query.split('&').map(field).collect();
    format!("{url}?{}", fields.join("&"))
}

/// What the query of this URL contains, for a search in other texts.
pub fn secrets(text: &str) -> impl Iterator<Item = Secret> {
    let query = text.split_once('?').filter(|_| text.contains(SCHEME)).map(|(_, query)| query);
    let values = query.into_iter().flat_map(|query| query.split('&')).map(split_field);
    values.filter(|(field, _)| !NAMES.contains(field)).map(|(_, value)| Secret::new(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    /// Its base64 has both special digits.
    const PLUS: &str = "+++//////////////////////////////////////+8=";

    #[test]
    fn every_spelling_names_the_same_port() {
        let expected = SerialPort {
            host: "10.0.0.7".into(),
            port: 6053,
            name: Some("BMS bus".into()),
            key: Some(Key(std::array::from_fn(|index| index as u8))),
        };
        for text in [
            format!("esphome://10.0.0.7:6053/BMS%20bus?key={KEY}"),
            format!("esphome://10.0.0.7/BMS bus?key={KEY}"),
            format!("esphome://10.0.0.7/BMS%20bus?noise_psk={KEY}"),
            format!("esphome://10.0.0.7/?port_name=BMS+bus&key={KEY}"),
            format!("esphome://10.0.0.7?key={KEY}&port_name=BMS%20bus"),
            format!("esphome://10.0.0.7/BMS%20bus?key={}", KEY.replace('=', "%3D")),
        ] {
            assert_eq!(SerialPort::parse(&text).as_ref(), Some(&expected), "{text}");
        }
        let number = SerialPort::parse("esphome://garage.lan:6054/0").unwrap();
        assert_eq!((number.name.as_deref(), number.key), (Some("0"), None));
        let only = SerialPort::parse("esphome://[fe80::1]:7000/").unwrap();
        assert_eq!((only.name.as_deref(), only.address()), (None, "[fe80::1]:7000".into()));
    }

    #[test]
    fn plus_in_a_key_is_no_blank() {
        let key = Key::parse(PLUS).unwrap();
        for text in [PLUS.to_owned(), PLUS.replace('+', "%2B"), PLUS.replace('+', "%20")] {
            let port = SerialPort::parse(&format!("esphome://a/b?key={text}")).unwrap();
            assert_eq!(port.key.as_ref(), Some(&key), "{text}");
        }
    }

    #[test]
    fn invalid_address_is_rejected() {
        for text in [
            "esphome://",
            "esphome:///x",
            "esphome://host:0",
            "esphome://host:70000",
            "esphome://::1/x",
            "esphome://u@host/x",
            "esphome://host/%2",
            "esphome://host/a%0Ab",
            "esphome://host/x?key=",
            "esphome://host/x?key=AAEC",
            "esphome://host/x?password=1",
            "esphome://host/x?port_name=y",
            "tcp://host:1",
        ] {
            assert_eq!(SerialPort::parse(text), None, "{text}");
        }
    }

    #[test]
    fn key_is_never_shown() {
        let text = format!("esphome://10.0.0.7/BMS%20bus?key={KEY}");
        let port = SerialPort::parse(&text).unwrap();
        assert!(!format!("{port:?} {port}").contains(KEY));
        assert_eq!(port.to_string(), "esphome://10.0.0.7/BMS bus");
        assert_eq!(without_key(&text), "esphome://10.0.0.7/BMS%20bus?***");
        assert_eq!(without_key("/dev/tty?x"), "/dev/tty?x");
        assert_eq!(with_placeholder(&text), "esphome://10.0.0.7/BMS%20bus?key=KEY");
        for (field, shown) in
            [("port_name=BMS+bus&noise_psk", "port_name=BMS+bus&noise_psk=KEY"), ("kye", "kye=KEY")]
        {
            let text = with_placeholder(&format!("esphome://10.0.0.7/?{field}={KEY}"));
            assert_eq!(text, format!("esphome://10.0.0.7/?{shown}"));
        }
        assert_eq!(with_placeholder("/dev/tty?x=y"), "/dev/tty?x=y");
        let secrets: Vec<_> = secrets(&text).collect();
        assert_eq!(secrets, [Secret::new(KEY)]);
    }

    proptest! {
        #[test]
        fn shown_port_can_be_parsed(name in "[^\\pC]{1,20}", port in 1..=u16::MAX) {
            let key = None;
            let port = SerialPort { host: "garage.lan".into(), port, name: Some(name), key };
            prop_assert_eq!(SerialPort::parse(&port.to_string()), Some(port));
        }
    }
}
