//! `floor PORT BROKER BYTES` makes the system calls that a read cannot do without, and nothing else: what the kernel
//! alone needs for a cycle. Each second it sends a request to the pack on the terminal `PORT`, waits for the reply,
//! and publishes `BYTES` bytes with one write to the broker on the TCP port `BROKER`, which confirms them.

#![allow(clippy::expect_used, reason = "a program for developers")]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

const CONNECT: &[u8] = b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05floor";
const PUBLISH: &[u8] = b"\x30\x1c\0\x15bms/pack/pack_voltage53.10";
const PING: &[u8] = b"\xc0\0";

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [port, broker, size] = &arguments[..] else { return };
    let [broker, size] = [broker, size].map(|number| number.parse::<u16>().expect("a number"));
    let mut port = OpenOptions::new().read(true).write(true).open(port).expect("a terminal");
    let mut broker = TcpStream::connect(("127.0.0.1", broker)).expect("a broker");
    broker.set_nodelay(true).expect("a socket");
    broker.write_all(CONNECT).expect("a broker");
    broker.read_exact(&mut [0; 4]).expect("an answer");
    let batch = [PUBLISH.repeat(usize::from(size) / PUBLISH.len()), PING.to_vec()].concat();
    let mut reply = [0; 1024];
    loop {
        sleep(Duration::from_secs(1));
        port.write_all(b"~22014A42E00201FD28\r").expect("a terminal");
        let mut length = 0;
        while !reply[..length].ends_with(b"\r") {
            length = port.read(&mut reply).expect("a reply");
        }
        broker.write_all(&batch).expect("a broker");
        broker.read_exact(&mut [0; 2]).expect("an answer");
    }
}
