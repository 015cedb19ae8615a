//! The README's tables are made from the tables of the code. `UPDATE_DOCS=1 cargo test --test
//! readme` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use bms_reader::model::catalog::{CATALOG, Get, Kind};
use bms_reader::model::reading::Switch;
use bms_reader::protocol::DRIVERS;

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

fn support() -> String {
    let mut table = String::from(
        "| `BMS_TYPE` | make | wired, baud | addresses | Bluetooth | switches | verified with |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for info in DRIVERS {
        let bauds = info.serial.map_or_else(none, |serial| {
            serial.bauds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        });
        let (first, last) = (info.addresses.start(), info.addresses.end());
        let addresses = match info.serial {
            Some(_) if first != last => format!("{first} to {last}"),
            _ => none(),
        };
        let bluetooth = if info.gatt.is_some() { "yes".to_owned() } else { none() };
        let (name, title, verified) = (info.name, info.title, info.verified);
        let controls = controls(info.controls);
        writeln!(
            table,
            "| `{name}` | {title} | {bauds} | {addresses} | {bluetooth} | {controls} | {verified} |"
        )
        .unwrap();
    }
    table
}

fn none() -> String {
    "-".to_owned()
}

fn controls(switches: &[Switch]) -> String {
    let word = |switch: &Switch| match switch {
        Switch::Charging => "charging",
        Switch::Discharging => "discharging",
        Switch::Balancing => "balancing",
    };
    if switches.is_empty() {
        return none();
    }
    switches.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_readme_shows_the_tables_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let mut readme = std::fs::read_to_string(path).unwrap();
    for (name, table) in [("keys", keys()), ("support", support())] {
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
