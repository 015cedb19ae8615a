//! A TCP proxy that can refuse connections, and drop, delay or add data.

#![allow(dead_code, reason = "every test crate uses its own part of it")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Part of the topic of the sink's echo, which follows all retained messages.
const ECHO: &[u8] = b"/ping";

#[derive(Debug, Clone)]
pub struct Proxy {
    port: u16,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Connections opened before the last cut lose all data.
    cuts: AtomicU32,
    /// Connections opened before the last drop are closed.
    drops: AtomicU32,
    stalled: AtomicBool,
    holds_echo: AtomicBool,
    refuses: AtomicBool,
    /// Every n-th connection is closed at once; 0: none.
    drops_every: AtomicU32,
    /// Milliseconds that each chunk waits.
    delay: AtomicU64,
    /// Junk for the client, in bytes per 20 ms.
    flood: AtomicU64,
    /// Bytes per second in each direction; 0: unlimited.
    speed: AtomicU64,
    /// Bytes that were forwarded to the server.
    upstream: AtomicU64,
}

impl Proxy {
    /// To this port of the machine.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        thread::spawn(move || {
            for (number, client) in (1..).zip(listener.incoming().map_while(Result::ok)) {
                let drops_every = shared.drops_every.load(Ordering::SeqCst);
                let is_dropped = drops_every > 0 && number % drops_every == 0;
                if is_dropped || shared.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                // Without a server the client's connection is closed.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                let (upstream, downstream) = (shared.clone(), shared.clone());
                thread::spawn(move || forward(from, to, &upstream, false));
                thread::spawn(move || forward(server, client, &downstream, true));
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

    /// Limits the speed of each connection and direction.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.faults.speed.store(bytes_per_second, Ordering::SeqCst);
    }

    /// New connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.faults.refuses.store(refuse, Ordering::SeqCst);
    }

    /// Every n-th new connection is closed at once; 0: none.
    pub fn drop_every(&self, number: u32) {
        self.faults.drops_every.store(number, Ordering::SeqCst);
    }

    /// Delays each chunk by this time.
    pub fn delay(&self, delay: Duration) {
        self.faults.delay.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Sends this amount of junk to the client every 20 ms.
    pub fn flood(&self, bytes: u64) {
        self.faults.flood.store(bytes, Ordering::SeqCst);
    }

    /// Bytes that were forwarded to the server.
    pub fn upstream(&self) -> u64 {
        self.faults.upstream.load(Ordering::SeqCst)
    }

    /// Nothing is forwarded meanwhile, and what the client sends stays in its socket.
    pub fn stall(&self, stall: bool) {
        self.faults.stalled.store(stall, Ordering::SeqCst);
    }

    /// Closes the present connections.
    pub fn drop_connections(&self) {
        self.faults.drops.fetch_add(1, Ordering::SeqCst);
    }

    /// Delays the broker's echo and all that follows it.
    pub fn hold_echo(&self, hold: bool) {
        self.faults.holds_echo.store(hold, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, faults: &Faults, is_downstream: bool) {
    let cuts = || faults.cuts.load(Ordering::SeqCst);
    let initial_cuts = cuts();
    let drops = || faults.drops.load(Ordering::SeqCst);
    let initial_drops = drops();
    from.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let mut chunk = [0; 4096];
    loop {
        let speed = faults.speed.load(Ordering::SeqCst);
        let size = if speed == 0 { chunk.len() } else { 512 };
        if drops() != initial_drops {
            break;
        }
        if faults.stalled.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let flood = faults.flood.load(Ordering::SeqCst) as usize;
        if is_downstream && flood > 0 {
            let junk: Vec<_> = (0..flood).map(|n| (n * 131 + n / 7) as u8).collect();
            if to.write_all(&junk).is_err() {
                break;
            }
        }
        let length = match from.read(&mut chunk[..size]) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        if speed > 0 {
            thread::sleep(Duration::from_secs_f64(length as f64 / speed as f64));
        }
        thread::sleep(Duration::from_millis(faults.delay.load(Ordering::SeqCst)));
        if !is_downstream {
            faults.upstream.fetch_add(length as u64, Ordering::SeqCst);
        }
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
    let _ = from.shutdown(Shutdown::Both);
}
