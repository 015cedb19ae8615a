//! The parts of a URL, which may be a secret.

use std::fmt::Write;

/// `scheme://user:password@authority/path?query`, still encoded.
#[derive(Debug, Clone, Copy)]
pub struct Url<'a> {
    pub scheme: &'a str,
    /// User name and password, separated by a colon.
    pub login: Option<&'a str>,
    /// Host and port, or what a service of notifications has in their place.
    pub authority: &'a str,
    /// Begins with a slash, unless it is empty.
    pub path: &'a str,
    pub query: &'a str,
}

impl<'a> Url<'a> {
    /// `None` unless it has a scheme and an authority, and consists of characters of a URL.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, authority) = match place.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, place),
        };
        let is_url = text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_url && !authority.is_empty()).then_some(Url { scheme, login, authority, path, query })
    }

    /// The parts of the path that are not empty.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
        self.path.split('/').filter(|part| !part.is_empty())
    }

    /// The last part of the path, decoded, and the path before it.
    pub fn last_segment(&self) -> Option<(&'a str, String)> {
        let path = self.path.trim_end_matches('/');
        let (folder, last) = path.rsplit_once('/')?;
        Some((folder, decode(last)?)).filter(|(_, last)| !last.is_empty())
    }

    /// The decoded value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        decode(pairs.find(|(key, _)| *key == name)?.1)
    }

    /// Host and port; an IPv6 address loses its brackets.
    pub fn host_and_port(&self, default_port: u16) -> Option<(String, u16)> {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (self.authority, default_port),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_name = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && is_name(host),
        };
        (is_host && port > 0).then(|| (bare.unwrap_or(host).to_owned(), port))
    }
}

/// Replaces `%40` by `@`. `None` for a result that a header or a path cannot contain.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                let digits = std::str::from_utf8(&digits).ok().filter(|_| is_hex)?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// The reverse of [`decode`], for the value of a parameter.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(byte.into());
            }
            // Writing into a String cannot fail.
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Base64, for logins.
pub fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            encoded.push(if digit <= chunk.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_split_into_its_parts() {
        let url = Url::parse("ntfys://a:b@host.example:80/x/y%20z/?api=http%3A//c&d=e#f").unwrap();
        assert_eq!(
            (url.scheme, url.login, url.query),
            ("ntfys", Some("a:b"), "api=http%3A//c&d=e")
        );
        assert_eq!(url.host_and_port(1), Some(("host.example".to_owned(), 80)));
        assert_eq!(url.segments().collect::<Vec<_>>(), ["x", "y%20z"]);
        assert_eq!(url.last_segment(), Some(("/x", "y z".to_owned())));
        assert_eq!(url.parameter("api").as_deref(), Some("http://c"));
        for wrong in ["", "host/x", "http://", "http:///x", "http://a b", "http://ä", "http://a\n"]
        {
            assert!(Url::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn host_may_be_an_address() {
        let host = |text: &str| Url::parse(text).and_then(|url| url.host_and_port(443));
        assert_eq!(host("x://[::1]:8080/a"), Some(("::1".to_owned(), 8080)));
        assert_eq!(host("x://[::1]"), Some(("::1".to_owned(), 443)));
        assert_eq!(host("x://10.0.0.1/"), Some(("10.0.0.1".to_owned(), 443)));
        for wrong in ["x://a:b", "x://a:0", "x://a:99999", "x://[x]", "x://a*", "x://:80"] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn decoded_text_contains_no_control_characters() {
        assert_eq!(decode("a%40b%C3%A4").as_deref(), Some("a@bä"));
        for wrong in ["%", "%4", "%zz", "%+1", "a%0d%0aX: y", "%ff"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn encoded_text_is_one_value() {
        let text = "my org/ä&b=1~";
        assert_eq!(encode(text), "my%20org%2F%C3%A4%26b%3D1~");
        assert_eq!(decode(&encode(text)).as_deref(), Some(text));
    }

    /// The examples of RFC 4648.
    #[test]
    fn base64_is_padded() {
        let of = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(base64);
        assert_eq!(of, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
