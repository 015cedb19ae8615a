//! A client of the broker, beside the program and its proxy, that checks what the program promises.
//!
//! It sends a beat to itself over the broker. While beats are late, for example because the broker
//! is stopped or the machine is busy, it cannot judge times: such a gap extends every limit. So does
//! the time for which the program and what it talks to waited for a processor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, Publish, QoS};

use crate::line::Pack;
use crate::promise::{Broken, Promise};
use crate::rig::BRIDGE;

const BEAT: &str = "chaos/beat";
const BEAT_PAUSE: Duration = Duration::from_millis(250);
/// A beat that takes longer begins a gap.
const GAP: Duration = Duration::from_secs(1);
/// The program may need this after a gap, for a connection and everything it publishes first.
const AFTER_GAP: Duration = Duration::from_secs(10);

/// A reading lives this long, or three intervals.
const LIFETIME: Duration = Duration::from_secs(30);
/// Data that the broker has not confirmed for so long end a connection.
const IN_FLIGHT: Duration = Duration::from_secs(10);
/// A read under way ends within this time.
const READ: Duration = Duration::from_secs(10);
/// The broker ends a silent connection after one and a half times the keep-alive.
const WILL: Duration = Duration::from_secs(15);
/// From the first attempt after a suspend until older values are replaced or their battery is offline.
const RESUME: Duration = Duration::from_secs(10);
/// From a good read to `online`.
const ONLINE: Duration = Duration::from_secs(10);

/// Seen from the broker.
#[derive(Debug)]
struct PackView {
    pack: Pack,
    online: Option<bool>,
    /// When the values of the last good read left the pack.
    last_good: Option<Instant>,
    /// The first good read since `online` is false.
    good_since: Option<Instant>,
    /// When the last value of each cell left the pack.
    cells: BTreeMap<String, Instant>,
    /// The counters, and whether the broker has kept all of their values.
    energy: BTreeMap<String, (f64, bool)>,
    /// When the program was killed, until it publishes a counter again.
    killed: Option<Instant>,
}

#[derive(Debug)]
struct View {
    start: Instant,
    packs: BTreeMap<String, PackView>,
    bridge: Option<bool>,
    /// The program has been asked to end.
    stopping: bool,
    /// When the last suspend was over that makes every value old.
    resumed: Option<Instant>,
    /// The first attempt afterwards that the broker heard of.
    heard: Option<Instant>,
    /// When the present process was started.
    started: Option<Instant>,
    /// When the beat was sent that came back last.
    beat: Instant,
    gaps: Vec<(Instant, Instant)>,
    /// When processes waited for a processor, and how long.
    waits: Vec<(Instant, Duration)>,
    /// The sum since their start.
    waited: Duration,
    ignored: BTreeSet<String>,
    broken: Vec<Broken>,
    judged: u64,
}

pub struct Observer {
    view: Arc<Mutex<View>>,
    client: Client,
    end: Arc<AtomicBool>,
}

impl Observer {
    pub fn start(broker_port: u16, packs: &[Pack]) -> Self {
        let mut options = MqttOptions::new("observer", "127.0.0.1", broker_port);
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(300_000_000, 300_000_000);
        let (client, connection) = Client::new(options, 64);
        let view = |pack: &Pack| PackView {
            pack: pack.clone(),
            online: None,
            last_good: None,
            good_since: None,
            cells: BTreeMap::new(),
            energy: BTreeMap::new(),
            killed: None,
        };
        let start = Instant::now();
        let view = Arc::new(Mutex::new(View {
            start,
            packs: packs.iter().map(|pack| (pack.id.clone(), view(pack))).collect(),
            bridge: None,
            stopping: false,
            resumed: None,
            heard: None,
            started: None,
            beat: start,
            gaps: Vec::new(),
            waits: Vec::new(),
            waited: Duration::ZERO,
            ignored: BTreeSet::new(),
            broken: Vec::new(),
            judged: 0,
        }));
        let end = Arc::new(AtomicBool::new(false));
        let observer = Observer { view: view.clone(), client: client.clone(), end: end.clone() };
        let (receiving, ended, subscriber) = (view.clone(), end.clone(), client.clone());
        thread::spawn(move || receive(connection, &subscriber, &receiving, &ended, start));
        thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let elapsed = start.elapsed().as_millis().to_string();
                let _ = client.try_publish(BEAT, QoS::AtMostOnce, false, elapsed);
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
        (view.resumed, view.heard) = (Some(Instant::now()), None);
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
        self.end.store(true, Ordering::Relaxed);
        let _ = self.client.try_disconnect();
    }
}

fn receive(
    mut connection: Connection,
    client: &Client,
    view: &Mutex<View>,
    end: &AtomicBool,
    start: Instant,
) {
    while !end.load(Ordering::Relaxed) {
        match connection.recv() {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                let _ = client.try_subscribe("#", QoS::AtMostOnce);
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

impl View {
    fn report(&mut self, promise: Promise, at: Instant, detail: String) {
        // One cause breaks a promise many times.
        let same = self.broken.iter().filter(|broken| broken.promise == promise).count();
        if same < 5 {
            self.broken.push(Broken { promise, at: at - self.start, detail });
        }
    }

    /// How much longer than usual something between these times may have taken.
    fn delay(&self, from: Instant, to: Instant) -> Duration {
        let overlap = |(start, end): &(Instant, Instant)| {
            let end = (*end + AFTER_GAP).min(to);
            end.saturating_duration_since((*start).max(from))
        };
        let waits = self.waits.iter().rev().take_while(|(at, _)| *at > from);
        let waits = waits.filter(|(at, _)| *at <= to + GAP).map(|(_, wait)| *wait);
        GAP + self.gaps.iter().map(overlap).chain(waits).sum::<Duration>()
    }

    fn judge(&mut self, message: &Publish, at: Instant) {
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        let is_foreign = payload.is_empty() || self.ignored.contains(&payload);
        if is_foreign && !message.topic.contains("/energy_") {
            return;
        }
        if message.topic == BRIDGE {
            self.bridge = payload.parse().ok();
            return;
        }
        let Some((id, key)) = message.topic.strip_prefix("bms/").and_then(|t| t.split_once('/'))
        else {
            return;
        };
        let (id, key) = (id.to_owned(), key.to_owned());
        if !self.packs.contains_key(&id) {
            return;
        }
        match key.as_str() {
            _ if is_foreign => {
                let pack = self.pack(&id);
                pack.energy.entry(key).and_modify(|(_, kept)| *kept = false);
                if pack.killed.is_some() {
                    pack.energy.clear();
                }
            }
            "online" => self.judge_online(&id, payload.parse().ok(), message.retain, at),
            "raw" => self.note_read(&id, &payload, at),
            // What the broker kept may be older than what it forwarded.
            _ if message.retain => {}
            "energy_charged" | "energy_discharged" => self.judge_energy(&id, &key, &payload, at),
            "problem" if payload != "OFF" => {
                self.report(Promise::Values, at, format!("{id}/problem is {payload}"));
            }
            _ => self.judge_value(&id, &key, &payload, at),
        }
    }

    fn pack(&mut self, id: &str) -> &mut PackView {
        self.packs.get_mut(id).expect("a pack of the schedule")
    }

    fn judge_value(&mut self, id: &str, key: &str, payload: &str, at: Instant) {
        let Ok(value) = payload.parse() else { return };
        let pack = self.pack(id);
        let Some(sent) = pack.pack.sent.last_sent(key, value) else { return };
        self.judged += 1;
        let Ok(sent) = sent else {
            let detail = format!("{id}/{key} is {payload}, which the pack did not send");
            return self.report(Promise::Values, at, detail);
        };
        if key.starts_with("cell_") && key != "cell_voltage_diff" {
            self.pack(id).cells.insert(key.to_owned(), sent);
        }
        let age = at.saturating_duration_since(sent);
        if age > LIFETIME + IN_FLIGHT + self.delay(sent, at) {
            self.report(Promise::Fresh, at, format!("{id}/{key} arrived {age:.1?} old"));
        }
    }

    fn note_read(&mut self, id: &str, payload: &str, at: Instant) {
        if self.resumed.is_some_and(|resumed| at > resumed + GAP * 2) {
            self.heard.get_or_insert(at);
        }
        let raw: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
        // It may be on its way for a while, and the last one is published again after a reconnect.
        let first_cell = raw["status"]["cell_info"]["voltages"][0].as_f64();
        let (resumed, started) = (self.resumed.map(|at| at + GAP * 2), self.started);
        let pack = self.pack(id);
        let sent = first_cell.and_then(|cell| pack.pack.sent.last_sent("cell_1_voltage", cell));
        let sent = sent
            .and_then(Result::ok)
            .filter(|sent| resumed.max(started).is_none_or(|from| *sent > from));
        if raw["error"].is_null()
            && let Some(sent) = sent
        {
            pack.last_good = pack.last_good.max(Some(sent));
            if pack.online == Some(false) && at.duration_since(sent) < ONLINE {
                pack.good_since.get_or_insert(at);
            }
        }
    }

    fn judge_online(&mut self, id: &str, online: Option<bool>, retained: bool, at: Instant) {
        let stopping = self.stopping;
        let pack = self.pack(id);
        let before = std::mem::replace(&mut pack.online, online);
        if online != Some(false) {
            return;
        }
        pack.good_since = None;
        let last_good = pack.last_good;
        if before == Some(true)
            && !stopping
            && !retained
            && let Some(last_good) = last_good
            && at.duration_since(last_good) + self.delay(last_good, at) < LIFETIME
        {
            let age = at.duration_since(last_good);
            let detail = format!("{id} is offline {age:.1?} after a good read");
            self.report(Promise::Online, at, detail);
        }
    }

    fn judge_energy(&mut self, id: &str, key: &str, payload: &str, at: Instant) {
        let Ok(value) = payload.parse::<f64>() else { return };
        let pack = self.pack(id);
        // Older messages may still be on their way.
        pack.killed.take_if(|killed| at.duration_since(*killed) > IN_FLIGHT);
        let energy = &mut pack.energy;
        let kept = energy.get(key).is_none_or(|(_, kept)| *kept);
        let before = energy.insert(key.to_owned(), (value, kept));
        if let Some((before, _)) = before.filter(|(before, _)| *before > value) {
            let detail = format!("{id}/{key} fell from {before:?} to {payload}");
            self.report(Promise::Energy, at, detail);
        }
    }

    /// What is wrong because time has passed.
    fn judge_times(&mut self, now: Instant) {
        if now.duration_since(self.beat) > GAP {
            let start = self.beat;
            match self.gaps.last_mut().filter(|gap| gap.1 >= start) {
                Some(gap) => gap.1 = now,
                None => self.gaps.push((start, now)),
            }
        }
        if self.bridge != Some(true) || self.stopping {
            return;
        }
        let mut found = Vec::new();
        for (id, pack) in &self.packs {
            let oldest = pack.cells.iter().min_by_key(|(_, at)| **at);
            if let (Some(true), Some((key, sent))) = (pack.online, oldest) {
                let age = now.duration_since(*sent);
                if age > LIFETIME + READ + WILL + self.delay(*sent, now) {
                    found.push((Promise::Fresh, format!("{id}/{key} is {age:.1?} old and online")));
                }
                // Without a connection, its will follows as after any other loss.
                if self.resumed.is_some_and(|resumed| *sent < resumed)
                    && let Some(heard) = self.heard
                    && now.duration_since(heard) > RESUME + self.delay(heard, now)
                {
                    let detail = format!("{id}/{key} is from before the suspend, and online");
                    found.push((Promise::Fresh, detail));
                }
            }
            if let (Some(false), Some(good)) = (pack.online, pack.good_since) {
                let late = now.duration_since(good);
                if late > ONLINE + self.delay(good, now) {
                    found.push((Promise::Online, format!("{id} answers, offline for {late:.1?}")));
                }
            }
        }
        for (promise, detail) in found {
            self.report(promise, now, detail);
        }
    }
}
