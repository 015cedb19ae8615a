//! Stands between the sink and its broker, and loses what it is told to lose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::mosquitto::Mosquitto;

/// The sink's own message, which comes behind all that the broker keeps.
const ECHO: &[u8] = b"/ping";

/// Passes connections on to a broker.
pub struct Relay {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cuts: AtomicU32,
    holding: AtomicBool,
}

impl Relay {
    pub fn to(broker: &Mosquitto) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (broker, state) = (broker.port(), Arc::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A broker that is away: the client's connection ends.
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), broker.try_clone()) else { continue };
                let (there, back) = (shared.clone(), shared.clone());
                thread::spawn(move || pass(from, to, &there, false));
                thread::spawn(move || pass(broker, client, &back, true));
            }
        });
        Relay { port, state }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, what is said on the present connections is lost; they stay open.
    pub fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the broker's echo, and all behind it, waits.
    pub fn hold_echo(&self, hold: bool) {
        self.state.holding.store(hold, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, state: &State, back: bool) {
    let cuts = || state.cuts.load(Ordering::SeqCst);
    let before = cuts();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let chunk = &chunk[..length];
        let is_echo = back && chunk.windows(ECHO.len()).any(|it| it == ECHO);
        while is_echo && state.holding.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if cuts() == before && to.write_all(chunk).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
