//! `replay`: a capture played back through the drivers, one JSON object per attempt on stdout.
//!
//! The drivers get what was received when it was received, and nothing else, so they must come to
//! the readings and errors that the capture holds; where they do not, that is told on stderr.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::line::Command;
use super::{FAILED, FINE};
use crate::capture::{DriverSetup, Entry, Event, FORMAT};
use crate::model::derive::derive;
use crate::model::plausible::PlausibilityFilter;
use crate::model::units::{Millis, Uptime};
use crate::model::{Attempt, DeviceId, DeviceState, Fault, FaultKind, Profile, Snapshot};
use crate::poll::CycleError;
use crate::protocol::{self, Driver, Step};
use crate::raw::raw;

/// A line of a capture holds at most one reading.
const LONGEST_LINE: u64 = 1024 * 1024;

pub(super) const COMMAND: Command = Command {
    name: "replay",
    does: "SimOptions a capture back through the drivers; one JSON object per attempt on stdout",
    operand: Some(("FILE", "what `read --capture` or BMS_CAPTURE wrote")),
    flags: &[],
    prepare: |given| {
        let file = PathBuf::from(given.operand_text());
        Ok(Box::pin(async move { run(&file) }))
    },
};

fn run(file: &Path) -> u8 {
    match replay(file) {
        Ok(0) => FINE,
        Ok(differences) => {
            eprintln!(
                "bms-reader: {differences} of the attempts came to another end than in the capture"
            );
            FAILED
        }
        Err(complaint) => {
            eprintln!("bms-reader: {}: {complaint}", file.display());
            FAILED
        }
    }
}

fn replay(file: &Path) -> Result<usize, String> {
    let file = File::open(file).map_err(|error| error.to_string())?;
    let mut input = BufReader::new(file);
    let mut batteries: BTreeMap<String, Battery> = BTreeMap::new();
    let mut differences = 0;
    for number in 1.. {
        let mut line = Vec::new();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            break;
        }
        let entry: Entry = serde_json::from_slice(&line)
            .map_err(|error| format!("line {number} is not a line of a capture: {error}"))?;
        let wrong = |why: String| format!("line {number}: {why}");
        if let Event::Driver(setup) = &entry.event {
            let driver = driver(setup).map_err(wrong)?;
            match batteries.get_mut(&entry.device) {
                Some(battery) => battery.renew(driver, setup.mac),
                None => {
                    batteries.insert(entry.device, Battery::new(driver, setup.mac));
                }
            }
            continue;
        }
        let Some(battery) = batteries.get_mut(&entry.device) else {
            return Err(wrong(format!("{} has no driver yet", entry.device)));
        };
        if let Some(ended) = battery.follow(entry.event, entry.at).map_err(wrong)? {
            println!("{}", ended.came_to);
            differences += usize::from(ended.differs());
        }
    }
    Ok(differences)
}

/// One battery while its conversation is played again.
struct Battery {
    driver: Box<dyn Driver>,
    /// Bluetooth address.
    mac: Option<[u8; 6]>,
    /// The last good reading, as the attempts that follow show it.
    snapshot: Option<Arc<Snapshot>>,
    gate: PlausibilityFilter,
    broken: bool,
}

/// An attempt that was played again.
struct Ended {
    came_to: Json,
    recorded: Json,
}

impl Ended {
    fn differs(&self) -> bool {
        self.came_to != self.recorded
    }
}

/// The driver of a new conversation.
fn driver(setup: &DriverSetup) -> Result<Box<dyn Driver>, String> {
    if setup.format != FORMAT {
        return Err(format!("format {} is not known, only {FORMAT}", setup.format));
    }
    let info =
        protocol::find(&setup.brand).ok_or_else(|| format!("no type named {}", setup.brand))?;
    Ok((info.new)(&setup.options()))
}

impl Battery {
    fn new(driver: Box<dyn Driver>, mac: Option<[u8; 6]>) -> Self {
        Battery { driver, mac, snapshot: None, gate: PlausibilityFilter::default(), broken: false }
    }

    /// A new conversation; with another address it is one with another battery.
    fn renew(&mut self, driver: Box<dyn Driver>, mac: Option<[u8; 6]>) {
        if mac != self.mac {
            self.gate = PlausibilityFilter::default();
        }
        (self.driver, self.mac) = (driver, mac);
    }

    fn follow(&mut self, event: Event, at: Millis) -> Result<Option<Ended>, String> {
        match event {
            Event::Driver(_) | Event::Gap { .. } => {}
            Event::Reset => self.driver.reset(),
            Event::Start { kind } => {
                self.broken = false;
                self.driver.start(kind);
                self.pass_pauses();
            }
            Event::Sent { .. } => {
                // What was blanked differs, so the bytes are not compared.
                if matches!(self.driver.step(), Step::Send(_)) {
                    self.driver.advance();
                }
                self.pass_pauses();
            }
            Event::Received { hex } => {
                let bytes = super::decode::from_hex(&hex).ok_or("this is not hex")?;
                self.driver.receive(&bytes);
                self.pass_pauses();
            }
            Event::Silence => {
                self.driver.handle_timeout();
                self.pass_pauses();
            }
            Event::Broken => self.broken = true,
            Event::Attempt { raw: recorded } => return self.end(recorded, at).map(Some),
        }
        Ok(None)
    }

    fn pass_pauses(&mut self) {
        while let Step::Pause(_) = self.driver.step() {
            self.driver.advance();
        }
    }

    /// What the attempt came to. Only the conversation is played again: who the battery is, when
    /// it was, and how its link broke is taken from the capture.
    fn end(&mut self, mut recorded: Json, at: Millis) -> Result<Ended, String> {
        let mut state = DeviceState::new(profile(&recorded)?);
        let mut fault = None;
        match self.driver.step() {
            _ if self.broken => fault = recorded_fault(&recorded),
            // The times of a capture stand in for a clock that runs; a jump at most lets a reading pass.
            Step::Done(reading) => match self.gate.check(*reading, Uptime(at.0)) {
                Ok(reading) => {
                    let (device, derived) = (state.profile.id.clone(), derive(&reading));
                    let taken = recorded["status"]["last_update"].as_f64().unwrap_or_default();
                    // A time in milliseconds is exact as a double.
                    let taken = Millis((taken * 1000.0).round() as u64);
                    let snapshot =
                        Snapshot { device, sequence: 1, taken, took_ms: 0, reading, derived };
                    self.snapshot = Some(Arc::new(snapshot));
                }
                Err(why) => fault = Some(CycleError::Implausible(why).fault()),
            },
            Step::Failed(error) => fault = Some(CycleError::Protocol(error).fault()),
            step => fault = Some(unfinished(&step)),
        }
        let connected = recorded["connected"] == Json::Bool(true);
        state.snapshot = self.snapshot.clone();
        state.attempt = Some(Attempt { number: 1, ended: Millis(0), took_ms: 0, connected, fault });
        let mut came_to = raw(&state);
        forget_the_past(&mut came_to);
        forget_the_past(&mut recorded);
        // Advice is this program's own, and gets better: a capture of an older one had another.
        let advice = "/error/hint";
        if let (Some(new), Some(old)) = (came_to.pointer(advice), recorded.pointer_mut(advice)) {
            old.clone_from(new);
        }
        Ok(Ended { came_to, recorded })
    }
}

/// Takes out what follows from earlier readings, settings and the radio: a capture holds none of them.
fn forget_the_past(raw: &mut Json) {
    for (part, keys) in [
        ("", &["rssi"][..]),
        ("/status", &["alarms"]),
        ("/status/cell_info", &["energy_charged", "energy_discharged"]),
        ("/status/cell_info", &["time_to_full", "time_to_empty"]),
    ] {
        if let Some(object) = raw.pointer_mut(part).and_then(Json::as_object_mut) {
            keys.iter().for_each(|key| drop(object.shift_remove(*key)));
        }
    }
}

fn profile(recorded: &Json) -> Result<Profile, String> {
    let text = |key: &str| recorded[key].as_str().map(str::to_owned);
    let id = text("id").as_deref().and_then(DeviceId::new).ok_or("the attempt has no id")?;
    Ok(Profile {
        name: id.to_string(),
        id,
        brand: text("type").unwrap_or_default(),
        title: String::new(),
        port: text("port"),
        address: text("address"),
        adapter: text("adapter"),
        interval_ms: 0,
        controls: Vec::new(),
    })
}

fn recorded_fault(recorded: &Json) -> Option<Fault> {
    let error = recorded["error"].as_object()?;
    let text = |key: &str| error.get(key).and_then(Json::as_str).unwrap_or_default();
    let kind = FaultKind::ALL.iter().find(|kind| kind.name() == text("type"))?;
    Some(Fault::new(*kind, text("message"), text("hint")))
}

fn unfinished(step: &Step) -> Fault {
    let wants = match step {
        Step::Send(_) => "wants to ask something",
        _ => "waits for more",
    };
    Fault::new(
        FaultKind::BadFrame,
        format!("the driver {wants} where the capture ends its read"),
        "the capture comes from another version, or lines are missing",
    )
}
