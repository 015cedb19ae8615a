//! The README's tables are made from the tables of the code. `UPDATE_DOCS=1 cargo test --test
//! readme` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bms_reader::cli::COMMANDS;
use bms_reader::model::catalog::{CATALOG, Get, Kind};
use bms_reader::model::reading::{ChargeLimits, Switch};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{DRIVERS, DriverInfo, Options};
use bms_reader::sim::{BRANDS, Bus, Faults, SimBrand, pylontech_sc0500};
use common::{play, usual};

fn keys() -> String {
    let mut table = String::from("| key | unit | meaning |\n|---|---|---|\n");
    for quantity in CATALOG {
        let unit = quantity.kind.unit().unwrap_or(match quantity.kind {
            Kind::Flag | Kind::Problem => "`ON`/`OFF`",
            _ => "",
        });
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
        writeln!(table, "| `{}` | {} |", command.usage(), command.does).unwrap();
    }
    table
}

/// A line for each brand and way to reach it.
fn support() -> String {
    let mut table = String::from(
        "| `BMS_TYPE` | brand | reached by | values | switches | verified with |\n\
         |---|---|---|---|---|---|\n",
    );
    for info in DRIVERS {
        for (medium, way) in ways(info) {
            let (name, title, verified) = (info.name, info.title, info.verified);
            let (values, switches) = (values(info, medium), switches(info.controls_on(medium)));
            writeln!(table, "| `{name}` | {title} | {way} | {values} | {switches} | {verified} |")
                .unwrap();
        }
    }
    table
}

fn ways(info: &DriverInfo) -> Vec<(Medium, String)> {
    let mut ways = Vec::new();
    if let Some(serial) = info.serial {
        let bauds: Vec<_> = serial.bauds.iter().map(ToString::to_string).collect();
        let (first, last) = (info.addresses.start(), info.addresses.end());
        let addresses = match first == last {
            true => String::new(),
            false => format!(", addresses {first} to {last}"),
        };
        ways.push((Medium::Serial, format!("wire, {} baud{addresses}", bauds.join(" or "))));
    }
    if info.gatt.is_some() {
        ways.push((Medium::Ble, "Bluetooth".to_owned()));
    }
    ways
}

/// What the driver finds out about a simulated battery, which says what recorded ones say.
fn values(info: &DriverInfo, medium: Medium) -> String {
    let (by_radio, by_wire): (Vec<&'static SimBrand>, Vec<&'static SimBrand>) = BRANDS
        .iter()
        .copied()
        .filter(|brand| brand.driver() == info.name)
        .partition(|brand| brand.notification.is_some());
    // Some say the same both ways, and are simulated once.
    let (brands, others) = match medium {
        Medium::Ble => (by_radio, by_wire),
        Medium::Serial => (by_wire, by_radio),
    };
    let brands = if brands.is_empty() { others } else { brands };
    let said: BTreeSet<_> = brands.iter().flat_map(|brand| said(info, brand, medium)).collect();
    assert!(!said.is_empty(), "{} by {medium:?}", info.name);
    said.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(", ")
}

/// The values of one simulated battery, in words with their places in the list.
fn said(info: &DriverInfo, brand: &'static SimBrand, medium: Medium) -> Vec<(usize, &'static str)> {
    let address = *brand.addresses.start().max(&1);
    let mut bus = Bus::with_batteries(brand, &[address], 1, Faults::default());
    let variant = brand.variant().map(str::to_owned);
    // The console of a stack tells the most to those who know the number of its controller.
    let barcode = Some(pylontech_sc0500::BARCODE.to_owned());
    let options = Options { address, medium, variant, barcode, ..usual(info) };
    let reading = play((info.new)(&options).as_mut(), |question| {
        vec![bus.answer(question, 0.0), bus.unsolicited(0.0)]
    })
    .unwrap()
    .reading();
    let (pack, limits) = (&reading.pack, &reading.limits);
    let words = [
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
        (limits != &ChargeLimits::default(), "limits"),
        (reading.switches.charging.is_some(), "switch states"),
        (!reading.alarms.is_empty(), "alarms"),
    ];
    let said = words.into_iter().enumerate().filter(|(_, (said, _))| *said);
    said.map(|(place, (_, word))| (place, word)).collect()
}

fn switches(switches: &[Switch]) -> String {
    let word = |switch: &Switch| match switch {
        Switch::Charging => "charging",
        Switch::Discharging => "discharging",
        Switch::Balancing => "balancing",
    };
    match switches {
        [] => "-".to_owned(),
        some => some.iter().map(word).collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn the_readme_shows_the_tables_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let mut readme = std::fs::read_to_string(path).unwrap();
    for (name, table) in [("keys", keys()), ("support", support()), ("commands", commands())] {
        let (begin, end) = (format!("<!-- {name}: made from the code -->\n"), "<!-- end -->");
        let start =
            readme.find(&begin).unwrap_or_else(|| panic!("{name} has no place")) + begin.len();
        let stop = start + readme[start..].find(end).unwrap();
        if readme[start..stop] != table {
            assert!(
                std::env::var_os("UPDATE_DOCS").is_some(),
                "the table of {name} in README.md differs from the code: UPDATE_DOCS=1 cargo test --test readme"
            );
            readme.replace_range(start..stop, &table);
            std::fs::write(path, &readme).unwrap();
        }
    }
}
