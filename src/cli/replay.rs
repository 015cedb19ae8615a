//! `replay`: replays a capture through the drivers; one JSON object per attempt on stdout.
//!
//! The drivers receive what was received then and nothing else, so they must produce the readings
//! and errors of the capture. Differences are reported on stderr.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::args::Command;
use super::decode::{from_hex, snapshot, state_after_attempt};
use super::{Outcome, SUCCESS, failed};
use crate::capture::{DriverSetup, Entry, Event, FORMAT};
use crate::model::plausible::PlausibilityFilter;
use crate::model::units::{Millis, Uptime};
use crate::model::{DeviceId, Fault, FaultKind, Profile, Snapshot};
use crate::poll::CycleError;
use crate::protocol::{self, Driver, Step};
use crate::raw::raw;

/// In bytes; a line of a capture contains at most one reading.
const MAX_LINE: usize = 1024 * 1024;

pub(super) const COMMAND: Command = Command {
    name: "replay",
    about: "Replay a capture through the drivers; one JSON object per attempt on stdout",
    positional: Some(("FILE", "written by `read --capture` or BMS_CAPTURE")),
    flags: &[],
    prepare: |matches| {
        let path = PathBuf::from(matches.positional());
        Ok(Box::pin(async move { run(&path) }))
    },
};

fn run(path: &Path) -> Outcome {
    let file = File::open(path).map_err(|error| error.to_string());
    let replayed = file.and_then(|file| replay(BufReader::new(file), &mut io::stdout()));
    match replayed.map_err(|error| failed(format!("{}: {error}", path.display())))? {
        0 => Ok(SUCCESS),
        count => Err(failed(format!("{count} attempts ended differently than in the capture"))),
    }
}

/// Writes the results to `out`; returns the number of attempts that ended differently.
pub fn replay(mut capture: impl BufRead, out: &mut impl Write) -> Result<usize, String> {
    let mut batteries: BTreeMap<String, Battery> = BTreeMap::new();
    let mut differences = 0;
    for number in 1.. {
        let in_line = |error: String| format!("line {number}: {error}");
        let mut line = Vec::new();
        let read = capture.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line);
        match read.map_err(|error| error.to_string())? {
            0 => break,
            MAX_LINE => return Err(in_line("longer than 1 MiB: not a line of a capture".into())),
            _ => {}
        }
        let entry: Entry = serde_json::from_slice(&line)
            .map_err(|error| in_line(format!("not a line of a capture: {error}")))?;
        let battery = batteries.entry(entry.device).or_default();
        if let Some((result, recorded)) = battery.apply(entry.event, entry.at).map_err(in_line)? {
            writeln!(out, "{result}").map_err(|error| error.to_string())?;
            differences += usize::from(result != recorded);
        }
    }
    Ok(differences)
}

fn driver(setup: &DriverSetup) -> Result<Box<dyn Driver>, String> {
    if setup.format != FORMAT {
        return Err(format!("unknown format {}; this version reads {FORMAT}", setup.format));
    }
    let info =
        protocol::find(&setup.brand).ok_or_else(|| format!("unknown type {}", setup.brand))?;
    Ok(info.driver(&setup.options()))
}

/// The state of one battery during the replay.
#[derive(Default)]
struct Battery {
    driver: Option<Box<dyn Driver>>,
    /// Of a battery on Bluetooth; another one means another battery.
    mac: Option<[u8; 6]>,
    /// The last good reading, which later failed attempts contain.
    snapshot: Option<Arc<Snapshot>>,
    filter: PlausibilityFilter,
    /// The connection broke during this attempt.
    broken: bool,
}

impl Battery {
    /// At the end of an attempt its result, and the recorded one.
    fn apply(&mut self, event: Event, at: Millis) -> Result<Option<(Json, Json)>, String> {
        if let Event::Driver(setup) = &event {
            if setup.mac != self.mac {
                self.filter = PlausibilityFilter::default();
            }
            (self.driver, self.mac) = (Some(driver(setup)?), setup.mac);
            return Ok(None);
        }
        let driver = self.driver.as_mut().ok_or("no driver yet")?;
        match event {
            Event::Driver(_) | Event::Gap { .. } => return Ok(None),
            Event::Reset => {
                driver.reset();
                return Ok(None);
            }
            Event::Start { kind } => {
                self.broken = false;
                driver.start(kind);
            }
            Event::Sent { .. } => {
                // The bytes are not compared: secrets are masked in the capture.
                if matches!(driver.step(), Step::Send(_)) {
                    driver.advance();
                }
            }
            Event::Received { hex } => driver.receive(&from_hex(&hex).ok_or("not hex")?),
            Event::Silence => driver.handle_timeout(),
            Event::Broken => self.broken = true,
            Event::Attempt { raw: recorded } => {
                let step = driver.step();
                return self.end(step, recorded, at).map(Some);
            }
        }
        while let Step::Pause(_) = driver.step() {
            driver.advance();
        }
        Ok(None)
    }

    /// The result of the attempt, and the recorded one. Only the traffic is replayed: the identity
    /// of the battery, the time, and how the connection broke are copied from the capture.
    fn end(&mut self, step: Step, mut recorded: Json, at: Millis) -> Result<(Json, Json), String> {
        let profile = profile(&recorded)?;
        let fault = match step {
            _ if self.broken => recorded_fault(&recorded),
            // The capture's wall clock replaces the uptime; if it jumps, one more reading passes.
            Step::Done(reading) => match self.filter.check(*reading, Uptime(at.0)) {
                Ok(reading) => {
                    let taken = recorded["status"]["last_update"].as_f64().unwrap_or_default();
                    // A double holds milliseconds exactly.
                    let taken = Millis((taken * 1000.0).round() as u64);
                    self.snapshot = Some(snapshot(&profile, taken, reading));
                    None
                }
                Err(implausible) => Some(CycleError::Implausible(implausible).fault()),
            },
            Step::Failed(error) => Some(CycleError::Protocol(error).fault()),
            step => Some(unfinished(&step)),
        };
        let connected = recorded["connected"] == Json::Bool(true);
        let state = state_after_attempt(profile, self.snapshot.clone(), connected, fault);
        let mut result = raw(&state);
        remove_unrecorded(&mut result);
        remove_unrecorded(&mut recorded);
        // Hints change between versions.
        let hint = "/error/hint";
        if let (Some(new), Some(old)) = (result.pointer(hint), recorded.pointer_mut(hint)) {
            old.clone_from(new);
        }
        Ok((result, recorded))
    }
}

/// Removes what follows from earlier readings, settings and the adapter: a capture does not contain
/// them.
fn remove_unrecorded(raw: &mut Json) {
    for (parent, keys) in [
        ("", &["rssi"][..]),
        ("/status", &["alarms"]),
        (
            "/status/cell_info",
            &["energy_charged", "energy_discharged", "time_to_full", "time_to_empty"],
        ),
    ] {
        if let Some(object) = raw.pointer_mut(parent).and_then(Json::as_object_mut) {
            keys.iter().for_each(|key| drop(object.shift_remove(*key)));
        }
    }
}

fn profile(recorded: &Json) -> Result<Profile, String> {
    let text = |key: &str| recorded[key].as_str().map(str::to_owned);
    let id = text("id").as_deref().and_then(DeviceId::new).ok_or("the attempt has no id")?;
    Ok(Profile {
        port: text("port"),
        address: text("address"),
        adapter: text("adapter"),
        ..Profile::new(id, &text("type").unwrap_or_default(), "")
    })
}

fn recorded_fault(recorded: &Json) -> Option<Fault> {
    let error = recorded["error"].as_object()?;
    let text = |key: &str| error.get(key).and_then(Json::as_str).unwrap_or_default();
    let kind = FaultKind::ALL.iter().find(|kind| kind.name() == text("type"))?;
    Some(Fault::new(*kind, text("message"), text("hint")))
}

fn unfinished(step: &Step) -> Fault {
    let state = if matches!(step, Step::Send(_)) { "sends a request" } else { "awaits an answer" };
    Fault::new(
        FaultKind::BadFrame,
        format!("the driver {state} where the capture ends the attempt"),
        "the capture comes from another version, or lines are missing",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_without_end_is_not_read_into_memory() {
        let error = replay(BufReader::new(io::repeat(b'x')), &mut io::sink()).unwrap_err();
        assert_eq!(error, "line 1: longer than 1 MiB: not a line of a capture");
    }
}
