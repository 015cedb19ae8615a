//! A client of the broker, beside the program and its proxy, that checks what the program promises.
//!
//! It sends a beat to itself over the broker. While beats are late, for example because the broker
//! is stopped or the machine is busy, it cannot judge times: such a gap extends every limit. So does
//! the time for which the program and what it talks to waited for a processor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};

use crate::line::Pack;
use crate::promise::{Broken, Promise};
use crate::view::View;

const BEAT: &str = "chaos/beat";
const BEAT_PAUSE: Duration = Duration::from_millis(250);

pub struct Observer {
    view: Arc<Mutex<View>>,
    client: Client,
    link: Arc<Link>,
}

#[derive(Debug, Default)]
struct Link {
    connected: AtomicBool,
    subscribed: AtomicBool,
    end: AtomicBool,
}

impl Observer {
    pub fn start(broker_port: u16, packs: &[Pack]) -> Self {
        let mut options = MqttOptions::new("observer", "127.0.0.1", broker_port);
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(300_000_000, 300_000_000);
        let (client, connection) = Client::new(options, 64);
        let start = Instant::now();
        let view = Arc::new(Mutex::new(View::new(packs, start)));
        let link = Arc::new(Link::default());
        let observer = Observer { view: view.clone(), client: client.clone(), link: link.clone() };
        let (receiving, received) = (view.clone(), link.clone());
        thread::spawn(move || receive(connection, &receiving, &received, start));
        thread::spawn(move || {
            while !link.end.load(Ordering::Relaxed) {
                // Without a connection the requests of the client would wait, until none fits.
                if link.connected.load(Ordering::Relaxed) {
                    if !link.subscribed.load(Ordering::Relaxed) {
                        let sent = client.try_subscribe("#", QoS::AtMostOnce).is_ok();
                        link.subscribed.store(sent, Ordering::Relaxed);
                    }
                    let elapsed = start.elapsed().as_millis().to_string();
                    let _ = client.try_publish(BEAT, QoS::AtMostOnce, false, elapsed);
                }
                view.lock().expect("no panic").judge_times(Instant::now());
                thread::sleep(BEAT_PAUSE);
            }
        });
        observer
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().expect("no panic")
    }

    pub fn report(&self, promise: Promise, detail: String) {
        let mut view = self.view();
        let at = Instant::now();
        view.report(promise, at, detail);
    }

    /// A payload that a fault publishes in the name of the program.
    pub fn ignore(&self, payload: &str) {
        self.view().ignored.insert(payload.to_owned());
    }

    /// The program was restarted on purpose: its batteries may be offline until they answer.
    pub fn forget_reads(&self) {
        self.view().packs.values_mut().for_each(|pack| pack.last_good = None);
    }

    /// Every value is old from now on, and every battery offline until it answers.
    pub fn age_values(&self) {
        self.forget_reads();
        let mut view = self.view();
        (view.resumed, view.reported) = (Some(Instant::now()), None);
    }

    /// The program ends without a chance to store anything. Its energy counters continue from the
    /// broker, unless another user has overwritten them there or the broker has lost them.
    pub fn expect_kill(&self) {
        self.forget_reads();
        let mut view = self.view();
        for pack in view.packs.values_mut() {
            pack.energy.retain(|_, (_, kept)| *kept);
            pack.killed = Some(Instant::now());
        }
    }

    /// A new process has started. What the killed one read may still arrive.
    pub fn expect_start(&self) {
        self.forget_reads();
        self.view().started = Some(Instant::now());
    }

    /// From now on `online` may be false.
    pub fn expect_stop(&self) {
        self.view().stopping = true;
    }

    /// What is not online, or has values that are older than `age`.
    pub fn complaints(&self, age: Duration) -> Vec<String> {
        let (view, now) = (self.view(), Instant::now());
        let bridge = (view.bridge != Some(true)).then(|| format!("bridge {:?}", view.bridge));
        let packs = view.packs.iter().filter_map(|(id, pack)| {
            let oldest = pack.cells.values().min().map(|at| now.duration_since(*at));
            let is_fresh = |oldest: Duration| oldest < age + view.delay(now - oldest, now);
            let is_well = pack.online == Some(true) && oldest.is_some_and(is_fresh);
            let state = (pack.online, oldest.map(|oldest| oldest.as_secs()));
            (!is_well).then(|| format!("{id} online and oldest value (s): {state:?}"))
        });
        bridge.into_iter().chain(packs).collect()
    }

    /// What is still online, or unknown.
    pub fn not_offline(&self) -> Vec<String> {
        let view = self.view();
        let bridge = (view.bridge != Some(false)).then(|| format!("bridge {:?}", view.bridge));
        let packs = view.packs.iter().filter(|(_, pack)| pack.online != Some(false));
        bridge
            .into_iter()
            .chain(packs.map(|(id, pack)| format!("{id} {:?}", pack.online)))
            .collect()
    }

    /// All processes together have waited this long for a processor since they started.
    pub fn note_waiting(&self, waited: Duration) {
        let mut view = self.view();
        // Less than before: one of them is new.
        let wait = waited.saturating_sub(view.waited);
        view.waited = waited;
        if wait > Duration::from_millis(10) {
            view.waits.push((Instant::now(), wait));
        }
    }

    /// How much the observer was delayed since then.
    pub fn delay_since(&self, since: Instant) -> Duration {
        self.view().delay(since, Instant::now())
    }

    /// Broken promises, and the number of values that were compared.
    pub fn results(&self) -> (Vec<Broken>, u64) {
        let view = self.view();
        (view.broken.clone(), view.judged)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.link.end.store(true, Ordering::Relaxed);
        let _ = self.client.try_disconnect();
    }
}

fn receive(mut connection: Connection, view: &Mutex<View>, link: &Link, start: Instant) {
    while !link.end.load(Ordering::Relaxed) {
        match connection.recv() {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                link.subscribed.store(false, Ordering::Relaxed);
                link.connected.store(true, Ordering::Relaxed);
            }
            Ok(Ok(Event::Incoming(Packet::Publish(message)))) => {
                let mut view = view.lock().expect("no panic");
                if message.topic == BEAT {
                    let sent = std::str::from_utf8(&message.payload).ok();
                    let sent = sent.and_then(|sent| sent.parse().ok()).unwrap_or(0);
                    view.beat = view.beat.max(start + Duration::from_millis(sent));
                } else {
                    view.judge(&message, Instant::now());
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                link.connected.store(false, Ordering::Relaxed);
                let mut view = view.lock().expect("no panic");
                view.bridge = None;
                for pack in view.packs.values_mut() {
                    pack.online = None;
                    pack.energy.values_mut().for_each(|(_, kept)| *kept = false);
                    if pack.killed.is_some() {
                        pack.energy.clear();
                    }
                }
                drop(view);
                thread::sleep(Duration::from_millis(100));
            }
            Err(_) => return,
        }
    }
}
