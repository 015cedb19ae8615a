//! Batteries that are also shown as one.

use serde::Deserialize;

use super::Bank;
use super::device::Batteries;
use super::fault::{ConfigError, Findings};
use super::values::Values;
use super::variables::{BANK, BANKS};
use crate::model::bank::Wiring;
use crate::model::{DeviceId, Profile};

/// An element of `BANKS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    name: Option<String>,
    wiring: Option<String>,
    members: Vec<String>,
}

/// The type of a bank, where a battery has the name of its brand.
const BRAND: &str = "bank";
const EXAMPLE_WIRING: &str = "series";

/// The banks that somebody described, or the one of all batteries that they switched on.
pub(super) fn all(values: &Values, batteries: &Batteries, findings: &mut Findings) -> Vec<Bank> {
    if !values.mentions(&BANKS) {
        return bank_of_all(values, batteries, findings);
    }
    if values.switch(&BANK) {
        findings.warn(format!("{} is ignored, because BANKS is set", values.name(&BANK)));
    }
    let list = values.list(&BANKS, findings).unwrap_or_default();
    let mut banks = Vec::new();
    for (index, element) in list.into_iter().enumerate() {
        match serde_json::from_value::<Entry>(element) {
            Ok(entry) => {
                check(index, &entry, &banks, batteries, findings);
                banks.extend(bank(entry, batteries));
            }
            Err(error) => {
                let example = BANKS.example.trim_matches(['[', ']']);
                let allowed = format!("an object with id, name, wiring and members ({error})");
                findings.fault(ConfigError::new(format!("BANKS[{index}]"), allowed, example));
            }
        }
    }
    banks
}

fn bank_of_all(values: &Values, batteries: &Batteries, findings: &mut Findings) -> Vec<Bank> {
    if !values.switch(&BANK) {
        return Vec::new();
    }
    if batteries.ids.len() < 2 {
        let name = values.name(&BANK);
        findings.warn(format!("{name} is ignored: a bank takes two batteries or more"));
        return Vec::new();
    }
    if batteries.ids.iter().any(|id| id == "bank") {
        let allowed = "off while a battery has the id bank, or BANKS must give the bank another id";
        findings.fault(ConfigError { example: "false".into(), ..values.fault(&BANK, allowed) });
    }
    let id = "bank".to_owned();
    bank(Entry { id, name: None, wiring: None, members: batteries.ids.clone() }, batteries)
        .into_iter()
        .collect()
}

/// `None` only where something is wrong, which is then among the findings.
fn bank(entry: Entry, batteries: &Batteries) -> Option<Bank> {
    let members: Option<Vec<DeviceId>> = entry.members.iter().map(|id| DeviceId::new(id)).collect();
    let members = members?;
    let of_members = batteries.devices.iter().filter(|it| members.contains(&it.profile.id));
    // Complete only as often as its slowest member speaks.
    let interval_ms = of_members.map(|it| it.profile.interval_ms).max().unwrap_or_default();
    Some(Bank {
        profile: Profile {
            name: entry.name.unwrap_or_else(|| super::device::title(&entry.id)),
            id: DeviceId::new(&entry.id)?,
            brand: BRAND.to_owned(),
            title: "Battery bank".to_owned(),
            port: None,
            address: None,
            adapter: None,
            interval_ms,
            controls: Vec::new(),
        },
        wiring: entry.wiring.as_deref().map_or(Some(Wiring::default()), wiring)?,
        members,
    })
}

fn wiring(word: &str) -> Option<Wiring> {
    Wiring::ALL.iter().copied().find(|wiring| wiring.name().eq_ignore_ascii_case(word.trim()))
}

fn check(
    index: usize,
    entry: &Entry,
    banks: &[Bank],
    batteries: &Batteries,
    findings: &mut Findings,
) {
    let mut fault = |field: &str, value: &str, allowed: &str, example: &str| {
        let place = format!("BANKS[{index}].{field}");
        findings.fault(ConfigError::new(place, allowed, example).showing(value));
    };
    if DeviceId::new(&entry.id).is_none() || entry.id.len() > 64 {
        fault("id", &entry.id, "letters, digits, _ and -, at most 64 of them", "house");
    }
    if batteries.ids.contains(&entry.id)
        || banks.iter().any(|bank| bank.profile.id.as_str() == entry.id)
    {
        fault("id", &entry.id, "an id that no battery and no other bank has", "house");
    }
    if let Some(name) = entry.name.as_ref().filter(|name| !super::rule::is_title(name)) {
        fault("name", name, "one line of at most 100 letters", "House bank");
    }
    if let Some(word) = entry.wiring.as_ref().filter(|word| wiring(word).is_none()) {
        fault("wiring", word, "parallel or series", EXAMPLE_WIRING);
    }
    let example = r#"["rack1", "rack2"]"#;
    if entry.members.is_empty() {
        fault("members", "[]", "a list with the id of one battery or more", example);
    }
    for (at, member) in entry.members.iter().enumerate() {
        if !batteries.ids.contains(member) {
            let known = batteries.ids.join(", ");
            fault("members", member, &format!("a list of ids of batteries ({known})"), example);
        } else if entry.members[..at].contains(member) {
            fault("members", member, "a list that names each battery once", example);
        }
    }
}
