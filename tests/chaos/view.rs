//! What the observer knows, and how it judges what arrives and what time brings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rumqttc::Publish;

use crate::line::Pack;
use crate::promise::{Broken, Promise};
use crate::rig::BRIDGE;

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
pub struct PackView {
    pub pack: Pack,
    pub online: Option<bool>,
    /// When the values of the last good read left the pack.
    pub last_good: Option<Instant>,
    /// The first good read since `online` is false.
    pub good_since: Option<Instant>,
    /// When the last value of each cell left the pack.
    pub cells: BTreeMap<String, Instant>,
    /// The counters, and whether the broker has kept all of their values.
    pub energy: BTreeMap<String, (f64, bool)>,
    /// When the program was killed, until it publishes a counter again.
    pub killed: Option<Instant>,
}

#[derive(Debug)]
pub struct View {
    pub start: Instant,
    pub packs: BTreeMap<String, PackView>,
    pub bridge: Option<bool>,
    /// The program has been asked to end.
    pub stopping: bool,
    /// When the last suspend was over that makes every value old.
    pub resumed: Option<Instant>,
    /// The first attempt afterwards that the broker received.
    pub reported: Option<Instant>,
    /// When the present process was started.
    pub started: Option<Instant>,
    /// When the beat was sent that came back last.
    pub beat: Instant,
    pub gaps: Vec<(Instant, Instant)>,
    /// When processes waited for a processor, and how long.
    pub waits: Vec<(Instant, Duration)>,
    /// The sum since their start.
    pub waited: Duration,
    pub ignored: BTreeSet<String>,
    pub broken: Vec<Broken>,
    pub judged: u64,
}

impl View {
    pub fn new(packs: &[Pack], start: Instant) -> Self {
        let view = |pack: &Pack| PackView {
            pack: pack.clone(),
            online: None,
            last_good: None,
            good_since: None,
            cells: BTreeMap::new(),
            energy: BTreeMap::new(),
            killed: None,
        };
        View {
            start,
            packs: packs.iter().map(|pack| (pack.id.clone(), view(pack))).collect(),
            bridge: None,
            stopping: false,
            resumed: None,
            reported: None,
            started: None,
            beat: start,
            gaps: Vec::new(),
            waits: Vec::new(),
            waited: Duration::ZERO,
            ignored: BTreeSet::new(),
            broken: Vec::new(),
            judged: 0,
        }
    }

    pub fn report(&mut self, promise: Promise, at: Instant, detail: String) {
        // One cause breaks a promise many times.
        let same = self.broken.iter().filter(|broken| broken.promise == promise).count();
        if same < 5 {
            self.broken.push(Broken { promise, at: at - self.start, detail });
        }
    }

    /// How much longer than usual something between these times may have taken.
    pub fn delay(&self, from: Instant, to: Instant) -> Duration {
        let overlap = |(start, end): &(Instant, Instant)| {
            let end = (*end + AFTER_GAP).min(to);
            end.saturating_duration_since((*start).max(from))
        };
        let waits = self.waits.iter().rev().take_while(|(at, _)| *at > from);
        let waits = waits.filter(|(at, _)| *at <= to + GAP).map(|(_, wait)| *wait);
        GAP + self.gaps.iter().map(overlap).chain(waits).sum::<Duration>()
    }

    pub fn judge(&mut self, message: &Publish, at: Instant) {
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
            self.reported.get_or_insert(at);
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
    pub fn judge_times(&mut self, now: Instant) {
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
                    && let Some(reported) = self.reported
                    && now.duration_since(reported) > RESUME + self.delay(reported, now)
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
