//! The tables of the documents are generated from the tables of the code. `UPDATE_DOCS=1 cargo test
//! --test readme` updates them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bms_reader::cli::COMMANDS;
use bms_reader::model::Reading;
use bms_reader::model::catalog::{CATALOG, Get, Kind};
use bms_reader::model::reading::{ChargeLimits, Switch};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, DriverInfo, Options, Step, drivers};
use bms_reader::sim::{Bus, Faults, SimBrand, brands, pylontech_sc0500};
use bms_reader::sink::notify::{SERVICES, Service};
use common::play;

const CYCLES: usize = 3;

fn keys() -> String {
    let mut table = String::from("| key | unit and possible values | meaning |\n|---|---|---|\n");
    for quantity in CATALOG {
        let unit = quantity.kind.unit().unwrap_or(match quantity.kind {
            Kind::Flag | Kind::Problem => "`ON`/`OFF`",
            _ => "",
        });
        let unit = match quantity.possible {
            Some((low, high)) => format!("{low} to {high} {unit}").trim_end().to_owned(),
            None => unit.to_owned(),
        };
        let key = quantity.key.replace("{}", "N");
        let name = match quantity.key {
            "alarm_{}" => "one for each protection and warning that the battery knows".to_owned(),
            _ => quantity.name.replace("{}", "N"),
        };
        let of_module = matches!(quantity.get, Get::Module(_));
        let name = if of_module { format!("{name} of module N of a stack") } else { name };
        let key = if quantity.key == "alarm_{}" { "alarm_NAME".to_owned() } else { key };
        writeln!(table, "| `{key}` | {unit} | {name} |").unwrap();
    }
    table
}

fn commands() -> String {
    let mut table = String::from("| command | does |\n|---|---|\n");
    writeln!(table, "| `bms-reader` | Run the service |").unwrap();
    for command in COMMANDS {
        writeln!(table, "| `{}` | {} |", command.usage(), command.about).unwrap();
    }
    table
}

fn services() -> String {
    let mut table = String::from("| service | `NOTIFY_URL` | example | |\n|---|---|---|---|\n");
    for Service { name, form, example, help, schemes, .. } in SERVICES {
        let forms = schemes.0.into_iter().chain([schemes.1]);
        let forms: Vec<_> = forms.map(|scheme| format!("`{scheme}://{form}`")).collect();
        writeln!(table, "| {name} | {} | `{example}` | {help} |", forms.join("<br>")).unwrap();
    }
    table
}

/// One row per brand and medium.
fn support() -> String {
    let mut table = String::from(
        "| `BMS_TYPE` | brand | reached by | values | switches | verified with |\n\
         |---|---|---|---|---|---|\n",
    );
    for info in drivers() {
        for (medium, link) in media(info) {
            let (name, title, verified) = (info.name, title(info), info.verified_on(medium));
            let (values, switches) = (values(info, medium), switches(info.controls_on(medium)));
            writeln!(table, "| `{name}` | {title} | {link} | {values} | {switches} | {verified} |")
                .unwrap();
        }
    }
    table
}

/// The brand with the names under which people search for it.
fn title(info: &DriverInfo) -> String {
    let brands = info.source.profile().map_or(&[][..], |profile| &profile.brands);
    let others = brands.iter().map(String::as_str).filter(|name| !info.title.contains(name));
    let others: Vec<&str> = others.collect();
    match others.is_empty() {
        true => info.title.to_owned(),
        false => format!("{}: {}", info.title, others.join(", ")),
    }
}

/// The media of a brand, with their description.
fn media(info: &DriverInfo) -> Vec<(Medium, String)> {
    let mut media = Vec::new();
    if let Some(serial) = info.serial {
        let bauds: Vec<_> = serial.bauds.iter().map(ToString::to_string).collect();
        let (first, last) = (info.addresses.start(), info.addresses.end());
        let addresses = match first == last {
            true => String::new(),
            false => format!(", addresses {first} to {last}"),
        };
        media.push((Medium::Serial, format!("wire, {} baud{addresses}", bauds.join(" or "))));
    }
    if info.gatt.is_some() {
        media.push((Medium::Ble, "Bluetooth".to_owned()));
    }
    media
}

/// The values that the driver reads from the simulated batteries of its brand.
fn values(info: &DriverInfo, medium: Medium) -> String {
    let (ble, serial): (Vec<&'static SimBrand>, Vec<&'static SimBrand>) = brands()
        .iter()
        .copied()
        .filter(|brand| brand.driver() == info.name)
        .partition(|brand| brand.notification.is_some());
    // A brand with the same frames on both media has one simulator.
    let (brands, others) = match medium {
        Medium::Ble => (ble, serial),
        Medium::Serial => (serial, ble),
    };
    let brands = if brands.is_empty() { others } else { brands };
    let readings: Vec<Reading> = match brands.is_empty() {
        false => brands.iter().map(|brand| simulated(info, brand, medium)).collect(),
        // Without a simulator, the recorded conversations show what is read.
        true => common::vectors::conversations(info)
            .iter()
            .map(|it| it.play(info, &it.options, &|bytes, _| vec![bytes.to_vec()]))
            .filter_map(|end| match end {
                Step::Done(reading) => Some(*reading),
                _ => None,
            })
            .collect(),
    };
    let names: BTreeSet<_> = readings.iter().flat_map(value_names).collect();
    assert!(!names.is_empty(), "{} over {medium:?}", info.name);
    names.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ")
}

fn simulated(info: &DriverInfo, brand: &'static SimBrand, medium: Medium) -> Reading {
    let address = *brand.addresses.start().max(&1);
    let mut bus = Bus::with_batteries(brand, &[address], 1, Faults::default());
    let variant = brand.variant().map(str::to_owned);
    // With the serial number of its controller, the console of a stack prints the most values.
    let barcode = Some(pylontech_sc0500::BARCODE.to_owned());
    let options = Options { address, medium, variant, barcode, ..Options::default() };
    let mut driver = info.driver(&options);
    // Within a few cycles a driver finds its dialect and the identity of the battery.
    let mut cycle = || {
        driver.start(CycleKind::Read);
        let reply = |request: &[u8]| vec![bus.reply(request, 0.0), bus.unsolicited(0.0)];
        play(driver.as_mut(), reply).unwrap()
    };
    let last = (0..CYCLES).map(|_| cycle()).filter(|outcome| matches!(outcome.end, Step::Done(_)));
    last.last().unwrap_or_else(|| panic!("{} over {medium:?}", info.name)).reading()
}

/// The names of the values, with their order in the table.
fn value_names(reading: &Reading) -> Vec<(usize, &'static str)> {
    let (pack, limits) = (&reading.pack, &reading.limits);
    let values = [
        (pack.soc.is_some(), "SoC"),
        (pack.soh.is_some(), "SoH"),
        (pack.voltage.is_some(), "V"),
        (pack.current.is_some(), "A"),
        (pack.remaining.is_some(), "Ah"),
        (pack.remaining_energy.is_some(), "Wh"),
        (pack.cycles.is_some(), "cycles"),
        (!reading.cells.is_empty(), "cells"),
        (!reading.probes.is_empty(), "temperatures"),
        (reading.cells.iter().any(|cell| cell.balancing.is_some()), "balancing"),
        (*limits != ChargeLimits::default(), "limits"),
        (reading.switches.charging.is_some(), "switch states"),
        (!reading.alarms.is_empty(), "alarms"),
    ];
    let present = values.into_iter().enumerate().filter(|(_, (present, _))| *present);
    present.map(|(order, (_, name))| (order, name)).collect()
}

fn switches(switches: &[Switch]) -> String {
    let name = |switch: &Switch| match switch {
        Switch::Charging => "charging",
        Switch::Discharging => "discharging",
        Switch::Balancing => "balancing",
    };
    match switches {
        [] => "-".to_owned(),
        some => some.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn documents_contain_the_tables_of_the_code() {
    let tables = [
        ("docs/topics.md", "keys", keys()),
        ("docs/batteries.md", "support", support()),
        ("docs/commands.md", "commands", commands()),
        ("docs/notifications.md", "services", services()),
    ];
    for (file, name, table) in tables {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let mut text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = (format!("<!-- {name}: generated from the code -->\n"), "<!-- end -->");
        let start =
            text.find(&begin).unwrap_or_else(|| panic!("{file} has no place for the table {name}"))
                + begin.len();
        let stop = start + text[start..].find(end).unwrap();
        if text[start..stop] != table {
            assert!(
                std::env::var_os("UPDATE_DOCS").is_some(),
                "the table {name} in {file} differs from the code; \
                 update it: UPDATE_DOCS=1 cargo test --test readme"
            );
            text.replace_range(start..stop, &table);
            std::fs::write(path, &text).unwrap();
        }
    }
}
