//! A TCP proxy between the sink and its broker that can drop or delay data.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::mosquitto::Mosquitto;

/// Part of the topic of the sink's echo, which follows all retained messages.
const ECHO: &[u8] = b"/ping";

pub struct Proxy {
    port: u16,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// Connections opened before the last cut lose all data.
    cuts: AtomicU32,
    holds_echo: AtomicBool,
}

impl Proxy {
    pub fn to(broker: &Mosquitto) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (broker, faults) = (broker.port(), Arc::new(Faults::default()));
        let shared = faults.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Without a broker the client's connection is closed.
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), broker.try_clone()) else { continue };
                let (upstream, downstream) = (shared.clone(), shared.clone());
                thread::spawn(move || forward(from, to, &upstream, false));
                thread::spawn(move || forward(broker, client, &downstream, true));
            }
        });
        Proxy { port, faults }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The present connections lose all data from now on, but stay open.
    pub fn cut(&self) {
        self.faults.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Delays the broker's echo and all that follows it.
    pub fn hold_echo(&self, hold: bool) {
        self.faults.holds_echo.store(hold, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, faults: &Faults, is_downstream: bool) {
    let cuts = || faults.cuts.load(Ordering::SeqCst);
    let initial_cuts = cuts();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let chunk = &chunk[..length];
        let is_echo = is_downstream && chunk.windows(ECHO.len()).any(|window| window == ECHO);
        while is_echo && faults.holds_echo.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if cuts() == initial_cuts && to.write_all(chunk).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
