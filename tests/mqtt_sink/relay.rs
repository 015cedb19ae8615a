//! Stands between the sink and its broker, and loses what it is told to lose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::mosquitto::Mosquitto;

/// Passes connections on to a broker.
pub struct Relay {
    port: u16,
    cuts: Arc<AtomicU32>,
}

impl Relay {
    pub fn to(broker: &Mosquitto) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (broker, cuts) = (broker.port(), Arc::new(AtomicU32::new(0)));
        let shared = cuts.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A broker that is away: the client's connection ends.
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), broker.try_clone()) else { continue };
                let (there, back) = (shared.clone(), shared.clone());
                thread::spawn(move || pass(from, to, &there));
                thread::spawn(move || pass(broker, client, &back));
            }
        });
        Relay { port, cuts }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, what is said on the present connections is lost; they stay open.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cuts: &AtomicU32) {
    let whole = cuts.load(Ordering::SeqCst);
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        if cuts.load(Ordering::SeqCst) == whole && to.write_all(&chunk[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
