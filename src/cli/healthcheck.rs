//! `healthcheck`: asks the running service, as Docker's HEALTHCHECK does in an image without a
//! shell. It says whether the program does its work, not whether a battery can be reached.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::line::Command;
use super::{FAILED, FINE, complain};
use crate::config;

/// Docker waits five seconds.
const LIMIT: Duration = Duration::from_secs(3);
/// The answer is one line and a small object.
const LONGEST_ANSWER: u64 = 16 * 1024;

pub(super) const COMMAND: Command = Command {
    name: "healthcheck",
    does: "Ask the running service whether it is well (for Docker's HEALTHCHECK)",
    operand: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(async { run() })),
};

fn run() -> u8 {
    let config = match config::load(config::environment()) {
        Ok(config) => config,
        Err(rejected) => return complain(&rejected),
    };
    let Some(listen) = config.http_listen else {
        println!("HTTP_LISTEN is off: nothing to ask");
        return FINE;
    };
    match ask(reachable(listen)) {
        Ok(answer)
            if answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 ") =>
        {
            println!("well");
            FINE
        }
        Ok(answer) => {
            println!("not well: {}", answer.lines().last().unwrap_or_default());
            FAILED
        }
        Err(error) => {
            println!("no answer from {listen}: {error}; is bms-reader running?");
            FAILED
        }
    }
}

/// A service that listens everywhere is asked on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // Version 1.0 without keep-alive: the answer ends with the connection.
    write!(stream, "GET /healthz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
