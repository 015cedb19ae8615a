//! Reads profiles and checks what their form cannot express.

use super::key::Key;
use super::scalar::{Count, Token};
use super::schema::{Check, Conditions, Field, Gatt, Kind, Profile, Reply, Request};
use super::yaml::{self, Error, Place, Result};
use super::{built_in, modbus, safety};

/// Longest profile that is read.
pub const MAX_SIZE: usize = 128 * 1024;

/// Reads a profile. The error names the line, the column and what is allowed there.
pub fn parse(text: &str) -> std::result::Result<Profile, String> {
    if text.len() > MAX_SIZE {
        return Err(format!("a profile has at most {} kB", MAX_SIZE / 1024));
    }
    read(text).map_err(|error| error.to_string())
}

fn read(text: &str) -> Result<Profile> {
    let mut profile: Profile = yaml::from_str(text)?;
    if let Some(like) = &profile.like {
        let base = built_in::text(&like.0).and_then(|text| yaml::from_str(&text).ok());
        let Some(base) = base.filter(|base: &Profile| base.like.is_none()) else {
            let message = format!("the profile `{}` has `like` itself", like.0);
            return Err(Error::at(profile.place, message));
        };
        if !profile.requests.is_empty() {
            let message = "a profile with `like` has no requests of its own";
            return Err(Error::at(profile.place, message));
        }
        let Profile { place, name, title, brands, verified, like, scan, ble, serial, .. } = profile;
        profile = Profile { place, name, title, brands, verified, like, scan, ble, serial, ..base };
    }
    complete(&mut profile);
    verify(&profile)?;
    modbus::expand(&mut profile);
    Ok(profile)
}

/// Gives the replies and numbers what all of the profile have in common.
fn complete(profile: &mut Profile) {
    let Profile { frame, order, requests, .. } = profile;
    let complete_check = |check: &mut Check| check.order = check.order.or(Some(*order));
    frame.check.iter_mut().for_each(complete_check);
    for reply in requests.iter_mut().flat_map(|request| &mut request.replies) {
        reply.head.get_or_insert_with(|| frame.head.clone());
        reply.tail.get_or_insert_with(|| frame.tail.clone());
        (reply.size, reply.length) = (reply.size.or(frame.size), reply.length.or(frame.length));
        reply.check = reply.check.take().or_else(|| frame.check.clone());
        reply.check.iter_mut().for_each(complete_check);
        let lengths = reply.length.iter_mut().map(|length| &mut length.order);
        let fields = reply.fields.iter_mut().map(|field| &mut field.order);
        lengths.chain(fields).for_each(|own| *own = own.or(Some(*order)));
    }
}

type Outcome = std::result::Result<(), String>;

/// An error for people unless this holds.
fn require(holds: bool, message: &str) -> Outcome {
    if holds { Ok(()) } else { Err(message.to_owned()) }
}

/// The error of a part of the profile.
fn at(place: Place, part: &str, outcome: Outcome) -> Result<()> {
    outcome.map_err(|message| Error::at(place, message).below(part))
}

fn verify(profile: &Profile) -> Result<()> {
    let Profile { place, scan, ble, serial, requests, .. } = profile;
    require(!ble.is_empty() || serial.is_some(), "the profile needs `ble` or `serial`, or both")
        .and_then(|()| {
            require(!requests.is_empty(), "the profile needs `requests` with at least one entry")
        })
        .map_err(|message| Error::at(*place, message))?;
    if let Some(serial) = serial {
        let has_rate = require(!serial.baud.is_empty(), "`baud` needs at least one rate");
        at(serial.place, "serial", has_rate)?;
    }
    let sends = requests.iter().any(|it| it.send.is_some() || it.read.is_some());
    for gatt in ble {
        at(gatt.place, "ble", check_gatt(gatt, sends))?;
    }
    for greeting in ble.iter().flat_map(|gatt| &gatt.greeting) {
        at(greeting.place, "greeting", safety::check_greeting(&greeting.bytes))?;
    }
    for mark in scan {
        let is_empty = mark.name.is_none() && mark.address.is_none() && mark.service.is_none();
        let message = "an entry needs a name, service, manufacturer or address";
        at(mark.place, "scan", require(!is_empty || mark.manufacturer.is_some(), message))?;
    }
    let mut variables = vec!["$medium"];
    for (number, request) in (1..).zip(requests) {
        let name = format!("requests[{number}]");
        at(request.place, &name, check_request(profile, request, &variables))?;
        for reply in &request.replies {
            at(reply.place, &name, check_reply(profile, request, reply))?;
            let mut before = Vec::new();
            for field in &reply.fields {
                let key = field.key.name();
                at(field.place, key, check_field(field, &before, &variables))
                    .map_err(|error| error.below(&name))?;
                before.push(key);
                variables.extend(key.starts_with('$').then_some(key));
            }
        }
    }
    Ok(())
}

fn check_gatt(gatt: &Gatt, sends: bool) -> Outcome {
    let reads = !gatt.read.is_empty();
    require(reads || !gatt.notify.is_empty(), "`notify` needs at least one characteristic")?;
    require(!reads || gatt.write.is_none(), "with `read`, nothing is sent to `write`")?;
    require(reads || gatt.write.is_some() || !sends, "requests are sent, so `write` is needed")
}

fn check_request(profile: &Profile, request: &Request, variables: &[&str]) -> Outcome {
    safety::check(profile, request)?;
    let Request { send, read, .. } = request;
    require(send.is_none() || read.is_none(), "it has both `send` and `read`")?;
    require(
        read.is_none() || profile.modbus.is_some(),
        "`read` needs `modbus:` in the profile; without it, write `send`",
    )?;
    require(
        send.is_some() || read.is_some() || !request.replies.is_empty(),
        "it needs `send`, `read` or `replies`",
    )?;
    known(names(&request.condition).chain(&request.packs), variables)
}

/// A reply with what it takes from the form of all frames.
fn check_reply(profile: &Profile, request: &Request, reply: &Reply) -> Outcome {
    let edges = [&reply.head, &reply.tail].into_iter().flatten().flat_map(|bytes| &bytes.0);
    let has_end = reply.tail.as_ref().is_some_and(|tail| !tail.0.is_empty());
    let has_length = reply.size.is_some() || reply.length.is_some() || request.read.is_some();
    require(
        has_end || has_length,
        "where a reply ends is not known: give `length`, `size` or `tail`",
    )?;
    let message = "`head` and `tail` have no {check}; `check` describes the checksum";
    require(edges.clone().all(|token| *token != Token::Check), message)?;
    let check = reply.check.as_ref().map_or(0, Check::width);
    let edges = edges.count() + check * if profile.frame.text { 2 } else { 1 };
    match reply.size {
        Some(size) if size < edges => Err(format!(
            "`size` is {size}, but head, tail and checksum are {edges} bytes; it is the size of the whole frame"
        )),
        _ => Ok(()),
    }
}

fn check_field(field: &Field, before: &[&str], variables: &[&str]) -> Outcome {
    let count = field.count.as_ref();
    let counted = count.and_then(|it| if let Count::Variable(it) = it { Some(it) } else { None });
    known(names(&field.condition).chain(counted), variables)?;
    require(
        field.after.as_ref().is_none_or(|key| before.contains(&key.as_str())),
        "`after` names a field that does not stand before it in this reply",
    )?;
    let (is_text, is_variable) = (field.kind == Kind::Text, matches!(field.key, Key::Variable(_)));
    require(
        matches!(field.key, Key::Text(_)) == is_text || is_variable,
        "a text has `type: text`, and a number has another type",
    )?;
    require(!is_text || field.size > 0, "a text needs its `size`")?;
    require(
        matches!(field.key, Key::Word(_)) || field.bits.is_empty() && field.values.is_empty(),
        "only `word NAME` has `bits` or `values`",
    )?;
    require(count.is_some() || !matches!(field.key, Key::Cells), "it needs a `count`")?;
    match field.bits.iter().find(|(bit, _)| usize::from(*bit) >= 8 * field.kind.width()) {
        Some((bit, _)) => Err(format!("bit {bit} does not exist in a number of this type")),
        None => Ok(()),
    }
}

fn names(conditions: &Conditions) -> impl Iterator<Item = &String> {
    conditions.iter().map(|(name, _)| name)
}

fn known<'a>(mut names: impl Iterator<Item = &'a String>, variables: &[&str]) -> Outcome {
    let unknown = names.find(|name| !variables.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| {
        Err(format!(
            "there is no variable `{name}`; a field with `key: {name}` must stand before it"
        ))
    })
}
