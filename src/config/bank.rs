//! Groups of batteries that are also published as one.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Bank;
use super::device::{Batteries, display_name};
use super::error::ConfigError;
use super::source::resolve;
use super::values::{Spelling, Values, label};
use super::variables::{BANK, BANKS, DEVICE_ID, DEVICE_NAME, VICTRON};
use super::victron;
use crate::model::bank::Wiring;
use crate::model::profile::BANK_TYPE;
use crate::model::{DeviceId, Profile};

/// An element of `BANKS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BankEntry {
    id: String,
    name: Option<String>,
    wiring: Option<String>,
    members: Vec<String>,
}

/// ID of the bank that `BANK` makes.
const BANK_NAME: &str = "bank";

/// The banks of `BANKS`, or the bank of all batteries that `BANK` makes.
pub(super) fn all(values: &Values, batteries: &Batteries) -> Vec<Bank> {
    if !values.is_set(&BANKS) {
        return bank_of_all(values, batteries);
    }
    if values.is_on(&BANK) {
        let [one, all] = [&BANK, &BANKS].map(|variable| values.name_of(variable));
        values.warn(format!("{one} is ignored, because {all} is set"));
    }
    let list = values.json_array(&BANKS).unwrap_or_default();
    let mut banks = Vec::new();
    for (index, mut element) in list.into_iter().enumerate() {
        let victron = victron_values(index, &mut element, values);
        match serde_json::from_value::<BankEntry>(element) {
            Ok(entry) => {
                entry.check(index, &banks, batteries, values);
                banks.extend(entry.bank(batteries, &victron));
            }
            Err(error) => {
                let example = BANKS.example.trim_matches(['[', ']']);
                let allowed = format!("an object with id, name, wiring and members ({error})");
                let name = label("bank", index, &values.name_of(&BANKS), None);
                values.error(ConfigError::new(name, allowed, example));
            }
        }
    }
    banks
}

fn bank_of_all(values: &Values, batteries: &Batteries) -> Vec<Bank> {
    if !values.is_on(&BANK) {
        return Vec::new();
    }
    if batteries.ids.len() < 2 {
        let name = values.name_of(&BANK);
        values.warn(format!("{name} is ignored: a bank needs at least two batteries"));
        return Vec::new();
    }
    if batteries.ids.iter().any(|id| id == BANK_NAME) {
        let banks = values.name_of(&BANKS);
        let allowed =
            format!("off, because a battery has the id bank; {banks} can name the bank otherwise");
        values.error(values.invalid(&BANK, allowed).with_example("false"));
    }
    let (id, members) = (BANK_NAME.to_owned(), batteries.ids.clone());
    let entry = BankEntry { id, name: None, wiring: None, members };
    let mut victron = Values::new(values.spelling.clone(), values.reporter.clone());
    victron.inherit(&VICTRON, values);
    entry.bank(batteries, &victron).into_iter().collect()
}

/// Takes the fields for Venus OS out of an element, which are variables of a battery as well.
fn victron_values(index: usize, element: &mut Value, program: &Values) -> Values {
    let fields = element.as_object_mut().map(std::mem::take).unwrap_or_default();
    let id = fields.get("id").and_then(Value::as_str);
    let label = label("bank", index, &program.name_of(&BANKS), id);
    let (own, rest): (Map<_, _>, Map<_, _>) =
        fields.into_iter().partition(|(key, _)| key.starts_with("victron"));
    if let Some(object) = element.as_object_mut() {
        *object = rest;
    }
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let entries = own.into_iter().map(|(key, value)| (key, text(value))).collect();
    let mut values = resolve(entries, Spelling::Element(label.into()), &program.reporter);
    values.inherit(&VICTRON, program);
    values
}

impl BankEntry {
    /// `None` if something is invalid, which has been reported.
    fn bank(self, batteries: &Batteries, victron: &Values) -> Option<Bank> {
        let members: Option<Vec<_>> = self.members.iter().map(|id| DeviceId::new(id)).collect();
        let members = members?;
        let profiles = batteries.devices.iter().map(|device| &device.profile);
        let profiles = profiles.filter(|profile| members.contains(&profile.id));
        let slowest = profiles.map(|profile| profile.interval_ms).max().unwrap_or_default();
        Some(Bank {
            profile: Profile {
                name: self.name.unwrap_or_else(|| display_name(&self.id)),
                // A bank is complete only as often as its slowest member is read.
                interval_ms: slowest,
                ..Profile::new(DeviceId::new(&self.id)?, BANK_TYPE, "Battery bank")
            },
            wiring: self.wiring.as_deref().map_or(Some(Wiring::default()), wiring)?,
            members,
            victron: victron::settings(victron, Duration::from_millis(slowest)),
        })
    }

    fn check(&self, index: usize, banks: &[Bank], batteries: &Batteries, values: &Values) {
        let error = |field: &str, value: &str, allowed: &str, example: &str| {
            let label = label("bank", index, &values.name_of(&BANKS), Some(&self.id));
            let name = format!("{label}: {field}");
            values.error(ConfigError::new(name, allowed, example).with_value(value));
        };
        let BankEntry { id, name, wiring: word, members } = self;
        if !DEVICE_ID.rule.accepts(id) {
            error("id", id, &DEVICE_ID.rule.to_string(), "house");
        }
        if batteries.ids.contains(id) || banks.iter().any(|bank| bank.profile.id.as_str() == id) {
            error("id", id, "an id that no battery and no other bank has", "house");
        }
        if let Some(name) = name.as_ref().filter(|name| !DEVICE_NAME.rule.accepts(name)) {
            error("name", name, &DEVICE_NAME.rule.to_string(), "House bank");
        }
        if let Some(word) = word.as_ref().filter(|word| wiring(word).is_none()) {
            error("wiring", word, "parallel or series", "series");
        }
        let example = r#"["rack1", "rack2"]"#;
        if members.is_empty() {
            error("members", "[]", "a list with the id of at least one battery", example);
        }
        for (position, member) in members.iter().enumerate() {
            if !batteries.ids.contains(member) {
                let known = batteries.ids.join(", ");
                error("members", member, &format!("a list of battery ids ({known})"), example);
            } else if members[..position].contains(member) {
                error("members", member, "a list that contains each battery once", example);
            }
        }
    }
}

fn wiring(word: &str) -> Option<Wiring> {
    Wiring::ALL.iter().copied().find(|wiring| wiring.name().eq_ignore_ascii_case(word.trim()))
}
