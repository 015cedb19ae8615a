//! Reads profiles and checks what their form cannot express.

use super::key::Key;
use super::schema::{Conditions, Field, Profile, Reply, Request};
use super::{built_in, limits, safety, yaml};

/// Longest profile that is read.
pub const MAX_SIZE: usize = 128 * 1024;

/// Reads a profile. The error names the line, the column and what is allowed there.
pub fn parse(text: &str) -> Result<Profile, String> {
    if text.len() > MAX_SIZE {
        return Err(format!("a profile has at most {} kB", MAX_SIZE / 1024));
    }
    let mut profile: Profile = yaml::from_str(text).map_err(|error| error.to_string())?;
    if let Some(like) = &profile.like {
        let base: Profile = built_in::text(like)
            .and_then(|text| yaml::from_str(text).ok())
            .filter(|base: &Profile| base.like.is_none())
            .ok_or_else(|| format!("line 1: the profile `{like}` has `like` itself"))?;
        if !profile.requests.is_empty() {
            return Err("line 1: a profile with `like` has no requests of its own".into());
        }
        profile = Profile {
            name: profile.name,
            title: profile.title,
            brands: profile.brands,
            verified: profile.verified,
            like: profile.like,
            scan: profile.scan,
            ble: profile.ble,
            serial: profile.serial,
            ..base
        };
    }
    verify(&profile)?;
    Ok(profile)
}

/// What the form of a profile cannot express.
fn verify(profile: &Profile) -> Result<(), String> {
    if profile.ble.is_empty() && profile.serial.is_none() {
        return Err("line 1: the profile needs `ble` or `serial`, or both".into());
    }
    if profile.serial.as_ref().is_some_and(|serial| serial.baud.is_empty()) {
        return Err("line 1: `baud` of `serial` needs at least one rate".into());
    }
    let asks = profile.requests.iter().any(|it| it.send.is_some() || it.read.is_some());
    for gatt in &profile.ble {
        if gatt.notify.is_empty() {
            return Err("line 1: `notify` of `ble` needs at least one characteristic".into());
        }
        if gatt.write.is_none() && asks {
            return Err("line 1: requests are sent, so `ble` needs `write`".into());
        }
    }
    for greeting in profile.ble.iter().flat_map(|gatt| &gatt.greeting) {
        safety::check_greeting(&greeting.bytes)
            .map_err(|error| format!("line 1: `greeting` of `ble`: {error}"))?;
    }
    if profile.requests.is_empty() {
        return Err("line 1: the profile needs `requests` with at least one entry".into());
    }
    for (number, mark) in (1..).zip(&profile.scan) {
        let empty = mark.name.is_none() && mark.address.is_none() && mark.service.is_none();
        if empty && mark.manufacturer.is_none() {
            return Err(format!(
                "line 1: entry {number} of `scan` needs a name, service, manufacturer or address"
            ));
        }
    }
    let mut variables = vec!["$medium"];
    for (number, request) in (1..).zip(&profile.requests) {
        let line = request.line;
        verify_request(profile, request, &mut variables).map_err(|error| {
            let own = format!("line {line}: request {number}: {error}");
            if error.starts_with("line ") { error } else { own }
        })?;
    }
    Ok(())
}

fn verify_request<'a>(
    profile: &Profile,
    request: &'a Request,
    variables: &mut Vec<&'a str>,
) -> Result<(), String> {
    safety::check(profile, request)?;
    limits::check_request(request)?;
    if request.send.is_some() && request.read.is_some() {
        return Err("it has both `send` and `read`".into());
    }
    if request.read.is_some() && profile.modbus.is_none() {
        return Err("`read` needs `modbus:` in the profile; without it, write `send`".into());
    }
    if request.send.is_none() && request.read.is_none() && request.replies.is_empty() {
        return Err("it needs `send`, `read` or `replies`".into());
    }
    known(&request.condition, variables)?;
    if let Some(packs) = &request.packs {
        known_variable(packs, variables)?;
    }
    for reply in &request.replies {
        verify_reply(profile, request, reply, variables)?;
    }
    Ok(())
}

fn verify_reply<'a>(
    profile: &Profile,
    request: &Request,
    reply: &'a Reply,
    variables: &mut Vec<&'a str>,
) -> Result<(), String> {
    let frame = &profile.frame;
    let tail = reply.tail.as_ref().unwrap_or(&frame.tail);
    let ends = reply.size.or(frame.size).is_some()
        || reply.length.or(frame.length).is_some()
        || !tail.0.is_empty();
    if request.read.is_none() && !ends {
        return Err("where a reply ends is not known: give `length`, `size` or `tail`".into());
    }
    limits::check_reply(profile, reply)?;
    let mut arrays: Vec<&Key> = Vec::new();
    for field in &reply.fields {
        let place = |error| format!("line {}: {}: {error}", field.line, field.key.name());
        verify_field(field, &arrays, variables).map_err(place)?;
        if field.count.is_some() {
            arrays.push(&field.key);
        }
        if let Key::Variable(name) = field.key {
            variables.push(name);
        }
    }
    Ok(())
}

fn verify_field(field: &Field, arrays: &[&Key], variables: &[&str]) -> Result<(), String> {
    limits::check_field(field)?;
    known(&field.condition, variables)?;
    known(&field.negative, variables)?;
    for name in &field.less {
        known_variable(name, variables)?;
    }
    if let Some(super::scalar::Count::Variable(name)) = &field.count {
        known_variable(name, variables)?;
    }
    if field.after.as_ref().is_some_and(|array| !arrays.contains(&array)) {
        return Err("`after` names an array that does not stand before it in this reply".into());
    }
    let is_text = matches!(field.key, Key::Text(_));
    if is_text != (field.kind == super::schema::Kind::Text)
        && !matches!(field.key, Key::Variable(_))
    {
        return Err("a text has `type: text`, and a number has another type".into());
    }
    if field.kind == super::schema::Kind::Text && field.size == 0 {
        return Err("a text needs its `size`".into());
    }
    let has_meanings = !field.bits.is_empty() || !field.values.is_empty();
    if has_meanings && !matches!(field.key, Key::Word(_)) {
        return Err("only `word NAME` has `bits` or `values`".into());
    }
    if let Some(bit) = field.bits.keys().find(|bit| usize::from(**bit) >= 8 * field.kind.width()) {
        return Err(format!("bit {bit} does not exist in a number of this type"));
    }
    if matches!(field.key, Key::Cells | Key::Temperatures) && field.count.is_none() {
        return Err("it needs a `count`".into());
    }
    if field.mask == Some(0) {
        return Err("`mask` must not be 0".into());
    }
    Ok(())
}

fn known(conditions: &Conditions, variables: &[&str]) -> Result<(), String> {
    conditions.keys().try_for_each(|name| known_variable(name, variables))
}

fn known_variable(name: &str, variables: &[&str]) -> Result<(), String> {
    if variables.contains(&name) {
        return Ok(());
    }
    Err(format!("there is no variable `{name}`; a field with `key: {name}` must stand before it"))
}
