//! The broker of the demo.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `sbin` is not in the search path of every user.
const MOSQUITTO: &[&str] = &["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
/// How long to wait for a broker on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a new Mosquitto may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

pub(super) const DEFAULT_PORT: u16 = 1883;

/// Whether a broker accepts connections on this machine.
pub(super) fn is_running(port: u16) -> bool {
    TcpStream::connect_timeout(&address(port), CONNECT_TIMEOUT).is_ok()
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A Mosquitto of our own. It ends when this is dropped, and what it retains is lost.
#[derive(Debug)]
pub(super) struct Mosquitto {
    pub(super) port: u16,
    process: Child,
}

impl Mosquitto {
    /// Starts it and waits until it accepts connections; `None` if it is not installed.
    pub(super) fn start() -> Option<Self> {
        let port = TcpListener::bind(address(0)).ok()?.local_addr().ok()?.port();
        let start = |program: &&str| {
            let mut command = Command::new(program);
            // Without a configuration file Mosquitto listens on this machine only and needs no
            // password. In a process group of its own it does not receive the Ctrl-C.
            command.args(["-p", &port.to_string()]).process_group(0).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        };
        let process = MOSQUITTO.iter().find_map(start)?;
        let mut broker = Mosquitto { port, process };
        let begin = Instant::now();
        while !is_running(port) {
            let has_ended = !matches!(broker.process.try_wait(), Ok(None));
            if has_ended || begin.elapsed() > START_TIMEOUT {
                return None;
            }
            sleep(START_POLL);
        }
        Some(broker)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
