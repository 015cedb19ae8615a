//! `profile`: checks, shows and begins profiles, the files that describe a brand of battery.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::Command;
use super::decode::{Recording, all_options, from_hex, state, without_time};
use super::{CommandError, Outcome, SUCCESS, failed, misconfigured, print};
use crate::capture::{Entry, Event};
use crate::config::read_profile;
use crate::did_you_mean::closest;
use crate::model::{DeviceId, Fault, FaultKind};
use crate::poll::CycleError;
use crate::protocol::table::frame::{Numbers, compose};
use crate::protocol::table::guess::{self, Exchange};
use crate::protocol::table::schema::{Profile, Request, ScanMark};
use crate::protocol::{self, DriverInfo, Options, ProtocolError, Step, profiles, uuid16};
use crate::sim::conversation::{Conversation, ble_options};

/// In bytes; the largest capture.
const MAX_CAPTURE: u64 = 64 * 1024 * 1024;
/// In bytes; far more than the vectors of a profile.
const MAX_VECTORS: u64 = 4 * 1024 * 1024;

pub(super) const CHECK: Command = Command {
    name: "profile check",
    about: "Check a profile, play the recorded conversations in the .json file beside it, and print the readings",
    positional: Some(("FILE", "a profile: a .yaml file that describes a brand of battery")),
    flags: &[],
    prepare: |matches| {
        let path = PathBuf::from(matches.positional());
        Ok(Box::pin(async move { check(&path) }))
    },
};

pub(super) const SHOW: Command = Command {
    name: "profile show",
    about: "Print the profile of a built-in type, as a model for your own",
    positional: Some(("TYPE", "a type of battery, as in BMS_TYPE")),
    flags: &[],
    prepare: |matches| {
        let name = matches.positional().to_owned();
        Ok(Box::pin(async move { show(&name) }))
    },
};

pub(super) const NEW: Command = Command {
    name: "profile new",
    about: "Print the beginning of a profile for recorded requests and replies",
    positional: Some((
        "FILE",
        "a capture, or lines of hex: a request after >, the replies to it below",
    )),
    flags: &[],
    prepare: |matches| {
        let path = PathBuf::from(matches.positional());
        Ok(Box::pin(async move { new(&path) }))
    },
};

fn show(name: &str) -> Outcome {
    if let Some(text) = profiles::text(name) {
        print(text.trim_end())?;
        return Ok(SUCCESS);
    }
    let known: Vec<&str> = profiles::names().collect();
    if protocol::is_built_in(name) {
        let message = format!("{name} is code and has no profile; those with one are");
        return Err(failed(format!("{message} {}", known.join(", "))));
    }
    let near = closest(name, known.iter().copied());
    let near = near.map_or(".".to_owned(), |(near, _)| format!("; did you mean {near}?"));
    Err(misconfigured(format!(
        "there is no profile {name}{near} The profiles are {}",
        known.join(", ")
    )))
}

fn check(path: &Path) -> Outcome {
    let in_file = |error: String| misconfigured(format!("{}: {error}", path.display()));
    let profile = read_profile(path).map_err(in_file)?;
    print(summary(&profile).trim_end())?;
    let (info, vectors) = (profiles::info(profile), path.with_extension("json"));
    if !vectors.exists() {
        eprintln!("no recorded conversations: there is no file {}", vectors.display());
        return Ok(SUCCESS);
    }
    let in_vectors = |error: String| misconfigured(format!("{}: {error}", vectors.display()));
    let text = read(&vectors, MAX_VECTORS).map_err(in_vectors)?;
    let json: Value = serde_json::from_str(&text).map_err(|error| in_vectors(error.to_string()))?;
    let mut failures = 0;
    for conversation in Conversation::all(&json).map_err(in_vectors)? {
        let differences = play(info, &conversation)?;
        failures += usize::from(!differences.is_empty());
        for difference in differences {
            eprintln!("{}: {difference}", conversation.name);
        }
    }
    match failures {
        0 => Ok(SUCCESS),
        1 => Err(failed("1 conversation differs from what is expected")),
        _ => Err(failed(format!("{failures} conversations differ from what is expected"))),
    }
}

/// Prints the reading; returns where it differs from what is expected.
fn play(
    info: &'static DriverInfo,
    conversation: &Conversation,
) -> Result<Vec<String>, CommandError> {
    let id = DeviceId::new(info.name).ok_or_else(|| misconfigured("the name is too long"))?;
    let result =
        read_conversation(info, conversation).map_err(|error| CycleError::Protocol(error).fault());
    let failure = result.as_ref().err().map(Fault::to_string);
    let found = without_time(&state(info, id, result.into()));
    print(&found)?;
    Ok(match (failure, conversation.rejected) {
        (None, true) => vec!["the frames are damaged, but there is a reading".to_owned()],
        (Some(failure), false) if conversation.expected["error"].is_null() => vec![failure],
        _ => {
            let (mut differences, mut unknown) = (Vec::new(), BTreeSet::new());
            for (key, expected) in conversation.expected.as_object().into_iter().flatten() {
                match found.get(key) {
                    Some(found) => compare(expected, found, &format!("/{key}"), &mut differences),
                    None => drop(unknown.insert(key.as_str())),
                }
            }
            if !unknown.is_empty() {
                let unknown = Vec::from_iter(unknown).join(", ");
                let name = &conversation.name;
                eprintln!("{name}: not compared, because a reading has no such key: {unknown}");
            }
            differences
        }
    })
}

/// The first reading in any form that the profile allows, or the most specific error.
fn read_conversation(
    info: &DriverInfo,
    conversation: &Conversation,
) -> Result<crate::model::Reading, ProtocolError> {
    let mac = ble_options().mac;
    let mut failure: Option<ProtocolError> = None;
    for options in all_options(info) {
        let options = Options { mac, ..options };
        match conversation.play(info, &options, &|bytes, _| vec![bytes.to_vec()]) {
            Step::Done(reading) => return Ok(*reading),
            Step::Failed(error) if failure.as_ref().is_none_or(is_timeout) => {
                failure = Some(error);
            }
            _ => {}
        }
    }
    Err(failure.unwrap_or(ProtocolError::Timeout { query: "the frames".into(), received: 0 }))
}

fn is_timeout(error: &ProtocolError) -> bool {
    CycleError::Protocol(error.clone()).fault().kind == FaultKind::Timeout
}

/// Where the reading lacks a part of what is expected.
fn compare(expected: &Value, found: &Value, path: &str, differences: &mut Vec<String>) {
    let same_number = || expected.as_f64().is_some_and(|number| found.as_f64() == Some(number));
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, expected) in expected {
                let found = found.get(key).unwrap_or(&Value::Null);
                compare(expected, found, &format!("{path}/{key}"), differences);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(expected, found, &format!("{path}/{index}"), differences);
            }
        }
        _ if expected == found || same_number() => {}
        _ => differences.push(format!("{path} is {found} instead of {expected}")),
    }
}

/// What a profile contains, in lines.
fn summary(profile: &Profile) -> String {
    let mut rows = vec![
        ("name".to_owned(), profile.name.0.clone()),
        ("title".to_owned(), profile.title.clone()),
    ];
    if !profile.ble.is_empty() {
        let services: BTreeSet<String> =
            profile.ble.iter().flat_map(|gatt| &gatt.notify).map(|it| uuid(it.0.service)).collect();
        rows.push(("Bluetooth".to_owned(), Vec::from_iter(services).join(" or ")));
        let marks = profile.scan.iter().map(|mark| ("recognised by".to_owned(), describe(mark)));
        rows.extend(marks);
    }
    if let Some(serial) = &profile.serial {
        let bauds: Vec<String> = serial.baud.iter().map(ToString::to_string).collect();
        let text = format!(
            "{} baud, addresses {} to {}",
            bauds.join(" or "),
            serial.first_address,
            serial.last_address
        );
        rows.push(("serial port".to_owned(), text));
    }
    for (number, request) in (1..).zip(&profile.requests) {
        rows.push((format!("request {number}"), describe_request(profile, request)));
    }
    rows.iter().map(|(name, text)| format!("{name:15}{text}\n")).collect()
}

fn describe(mark: &ScanMark) -> String {
    let data = mark.data.fixed();
    let parts = [
        mark.name.as_ref().map(|name| format!("name {name}")),
        mark.service.map(|service| format!("service {}", uuid(service.0))),
        mark.manufacturer.map(|id| format!("manufacturer {id:#06X}")),
        (!data.is_empty()).then(|| format!("data {}", hex(&data))),
        mark.address.as_ref().map(|address| format!("address {address}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The bytes for the first battery.
fn describe_request(profile: &Profile, request: &Request) -> String {
    let name = request.name.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    if request.send.is_none() && request.read.is_none() {
        return format!("{name}none, the battery sends unasked");
    }
    let first = profile.serial.as_ref().map_or(1, |serial| serial.first_address);
    let unit = request.unit.or(profile.units.first().copied()).unwrap_or(first);
    format!("{name}{}", hex(&compose(profile, request, Numbers { unit, pack: 1 })))
}

fn uuid(uuid: u128) -> String {
    let short = (uuid >> 96) as u16;
    if uuid == uuid16(short) { format!("{short:04X}") } else { format!("{uuid:032X}") }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}

fn new(path: &Path) -> Outcome {
    let in_file = |error: String| misconfigured(format!("{}: {error}", path.display()));
    let text = read(path, MAX_CAPTURE).map_err(in_file)?;
    let exchanges = match text.trim_start().starts_with('{') {
        true => of_capture(&text),
        false => of_hex(&text),
    };
    let exchanges = exchanges.map_err(in_file)?;
    if exchanges.is_empty() {
        return Err(in_file("there is no request with a reply in it".to_owned()));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = stem.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let name = if name.is_empty() { "battery" } else { &name };
    print(guess::profile(name, &exchanges).trim_end())?;
    Ok(SUCCESS)
}

/// The traffic of the first battery in a capture.
fn of_capture(text: &str) -> Result<Vec<Exchange>, String> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut device = None;
    for (number, line) in (1..).zip(text.lines()) {
        let entry: Entry = serde_json::from_str(line)
            .map_err(|error| format!("line {number}: not a line of a capture: {error}"))?;
        let bytes = |hex: &str| from_hex(hex).ok_or_else(|| format!("line {number}: not hex"));
        if *device.get_or_insert_with(|| entry.device.clone()) != entry.device {
            continue;
        }
        match entry.event {
            Event::Sent { hex } => {
                exchanges.push(Exchange { request: bytes(&hex)?, reply: Vec::new() });
            }
            Event::Received { hex } => match exchanges.last_mut() {
                Some(last) if !last.request.is_empty() => last.reply.extend(bytes(&hex)?),
                _ => exchanges.push(Exchange { request: Vec::new(), reply: bytes(&hex)? }),
            },
            _ => {}
        }
    }
    exchanges.retain(|exchange| !exchange.reply.is_empty());
    Ok(exchanges)
}

/// The lines that `decode` reads.
fn of_hex(text: &str) -> Result<Vec<Exchange>, String> {
    let recording = Recording::parse(text).map_err(|fault| fault.to_string())?;
    let mut exchanges = Vec::new();
    for (request, chunks) in recording.exchanges {
        match request {
            Some(request) => exchanges.push(Exchange { request, reply: chunks.concat() }),
            None => {
                let unasked = |reply| Exchange { request: Vec::new(), reply };
                exchanges.extend(chunks.into_iter().map(unasked));
            }
        }
    }
    exchanges.retain(|exchange| !exchange.reply.is_empty());
    Ok(exchanges)
}

fn read(path: &Path, limit: u64) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(limit + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > limit {
        return Err(format!("the file is larger than {} MiB", limit / 1024 / 1024));
    }
    Ok(text)
}
