//! `healthcheck`: asks the running service, as Docker's HEALTHCHECK does in an image without a
//! shell. The result is about the program, not about the batteries.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::args::Command;
use super::{FAILED, Outcome, SUCCESS, load_config};

/// Less than the 5 s that Docker waits.
const TIMEOUT: Duration = Duration::from_secs(3);
/// In bytes; the answer is a header and a small object.
const MAX_ANSWER: u64 = 16 * 1024;

pub(super) const COMMAND: Command = Command {
    name: "healthcheck",
    about: "Ask the running service whether it is healthy (for Docker's HEALTHCHECK)",
    positional: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(async { run() })),
};

fn run() -> Outcome {
    let Some(listen) = load_config()?.http.map(|http| http.listen) else {
        println!("not checked: HTTP_LISTEN is off");
        return Ok(SUCCESS);
    };
    match get_healthz(loopback(listen)) {
        Ok(answer) if answer.starts_with("HTTP/") && answer.split(' ').nth(1) == Some("200") => {
            println!("healthy");
            return Ok(SUCCESS);
        }
        Ok(answer) => println!("unhealthy: {}", answer.lines().last().unwrap_or_default()),
        Err(error) => println!("no answer from {listen}: {error}; is bms-reader running?"),
    }
    Ok(FAILED)
}

/// The address of this machine for a service that listens on all interfaces.
fn loopback(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listen.port()).into(),
        _ => listen,
    }
}

fn get_healthz(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0 without keep-alive: the server closes the connection after the answer.
    write!(stream, "GET /healthz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
