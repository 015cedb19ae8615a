//! The notifications with a stand-in of each service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "tls")]
#[path = "../common/certificate.rs"]
mod certificate;
mod outages;
#[path = "../common/receiver.rs"]
mod receiver;
mod requests;

use bms_reader::sink::notify::Target;

/// A URL of each service for a server on this machine, and what must not appear anywhere.
const SERVICES: [(&str, &str); 4] = [
    ("ntfy{s}://user:pass-word@127.0.0.1:{port}/my-topic", "pass-word my-topic"),
    ("gotify{s}://127.0.0.1:{port}/sub/AbCdEf12", "AbCdEf12"),
    ("tgram://123456:AbCdEf12/-10042?api=http{s}://127.0.0.1:{port}", "AbCdEf12 -10042"),
    ("json{s}://127.0.0.1:{port}/hook/q1w2e3?key=r4t5z6", "q1w2e3 r4t5z6"),
];

fn url(pattern: &str, port: u16, tls: bool) -> String {
    pattern.replace("{s}", if tls { "s" } else { "" }).replace("{port}", &port.to_string())
}

fn target(pattern: &str, port: u16, tls: bool) -> Target {
    Target::parse(&url(pattern, port, tls)).unwrap()
}
