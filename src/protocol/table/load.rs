//! Reads profiles and checks what their form cannot express.

use super::key::Key;
use super::scalar::{Bytes, Count, Token};
use super::schema::{Conditions, Field, Gatt, Kind, Profile, Reply, Request};
use super::yaml::{self, Error, Result};
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
        let base = built_in::text(&like.0).and_then(|text| yaml::from_str(text).ok());
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
    verify(&profile)?;
    modbus::expand(&mut profile);
    Ok(profile)
}

type Check = std::result::Result<(), String>;

/// An error for people unless this holds.
fn require(holds: bool, message: &str) -> Check {
    if holds { Ok(()) } else { Err(message.to_owned()) }
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
        has_rate.map_err(|message| Error::at(serial.place, message).below("serial"))?;
    }
    let sends = requests.iter().any(|it| it.send.is_some() || it.read.is_some());
    for gatt in ble {
        check_gatt(gatt, sends).map_err(|message| Error::at(gatt.place, message).below("ble"))?;
    }
    for greeting in ble.iter().flat_map(|gatt| &gatt.greeting) {
        safety::check_greeting(&greeting.bytes)
            .map_err(|message| Error::at(greeting.place, message).below("greeting"))?;
    }
    for mark in scan {
        let is_empty = mark.name.is_none() && mark.address.is_none() && mark.service.is_none();
        let message = "an entry needs a name, service, manufacturer or address";
        require(!is_empty || mark.manufacturer.is_some(), message)
            .map_err(|message| Error::at(mark.place, message).below("scan"))?;
    }
    let mut variables = vec!["$medium"];
    for (number, request) in (1..).zip(requests) {
        let name = || format!("requests[{number}]");
        check_request(profile, request, &variables)
            .map_err(|message| Error::at(request.place, message).below(name()))?;
        for reply in &request.replies {
            check_reply(profile, request, reply)
                .map_err(|message| Error::at(reply.place, message).below(name()))?;
            check_fields(&reply.fields, &mut variables).map_err(|error| error.below(name()))?;
        }
    }
    Ok(())
}

fn check_gatt(gatt: &Gatt, sends: bool) -> Check {
    let reads = !gatt.read.is_empty();
    require(reads || !gatt.notify.is_empty(), "`notify` needs at least one characteristic")?;
    require(!reads || gatt.write.is_none(), "with `read`, nothing is sent to `write`")?;
    require(reads || gatt.write.is_some() || !sends, "requests are sent, so `write` is needed")
}

fn check_request(profile: &Profile, request: &Request, variables: &[&str]) -> Check {
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

/// The form of a reply, with what it takes from the form of all frames.
fn check_reply(profile: &Profile, request: &Request, reply: &Reply) -> Check {
    let frame = &profile.frame;
    let size = reply.size.or(frame.size);
    let head = reply.head.as_ref().unwrap_or(&frame.head);
    let tail = reply.tail.as_ref().unwrap_or(&frame.tail);
    require(
        request.read.is_some()
            || size.is_some()
            || reply.length.or(frame.length).is_some()
            || !tail.0.is_empty(),
        "where a reply ends is not known: give `length`, `size` or `tail`",
    )?;
    let has_check = |bytes: &Bytes| bytes.0.contains(&Token::Check);
    let message = "`head` and `tail` have no {check}; `check` describes the checksum";
    require(!has_check(head) && !has_check(tail), message)?;
    let check = reply.check.as_ref().or(frame.check.as_ref());
    let check = check.map_or(0, |check| check.kind.width() * if frame.text { 2 } else { 1 });
    let edges = head.0.len() + tail.0.len() + check;
    match size {
        Some(size) if size < edges => Err(format!(
            "`size` is {size}, but head, tail and checksum are {edges} bytes; it is the size of the whole frame"
        )),
        _ => Ok(()),
    }
}

fn check_fields<'a>(fields: &'a [Field], variables: &mut Vec<&'a str>) -> Result<()> {
    let mut arrays: Vec<&str> = Vec::new();
    for field in fields {
        check_field(field, &arrays, variables)
            .map_err(|message| Error::at(field.place, message).below(field.key.name()))?;
        arrays.extend(field.count.as_ref().map(|_| field.key.name()));
        if let Key::Variable(name) = field.key {
            variables.push(name);
        }
    }
    Ok(())
}

fn check_field(field: &Field, arrays: &[&str], variables: &[&str]) -> Check {
    let count = field.count.as_ref();
    let counted = count.and_then(|it| if let Count::Variable(it) = it { Some(it) } else { None });
    let conditions = names(&field.condition).chain(names(&field.negative));
    known(conditions.chain(&field.less).chain(counted), variables)?;
    require(
        field.after.as_ref().is_none_or(|array| arrays.contains(&array.as_str())),
        "`after` names an array that does not stand before it in this reply",
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
    require(
        count.is_some() || !matches!(field.key, Key::Cells | Key::Temperatures),
        "it needs a `count`",
    )?;
    match field.bits.iter().find(|(bit, _)| usize::from(*bit) >= 8 * field.kind.width()) {
        Some((bit, _)) => Err(format!("bit {bit} does not exist in a number of this type")),
        None => Ok(()),
    }
}

fn names(conditions: &Conditions) -> impl Iterator<Item = &String> {
    conditions.iter().map(|(name, _)| name)
}

fn known<'a>(mut names: impl Iterator<Item = &'a String>, variables: &[&str]) -> Check {
    let unknown = names.find(|name| !variables.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| {
        Err(format!(
            "there is no variable `{name}`; a field with `key: {name}` must stand before it"
        ))
    })
}
