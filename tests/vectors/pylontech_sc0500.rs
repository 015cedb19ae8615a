//! What the vectors of the SC0500's console mean.
//!
//! Those of `login`, `tbar`, `info` and `getpwr` are played to the way with a log-in, those of `pwr`,
//! `unit` and `bat` to the way without.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bms_reader::model::Reading;
use bms_reader::model::reading::{Cell, SensorLocation};
use bms_reader::protocol::{Options, Step};
use bms_reader::protocol::{barcode::Barcode, pylontech_sc0500::INFO};
use serde_json::Value;

use crate::common::{Delivery, Vector, play, vectors};
use crate::{Compared, Role, SimBrand};

pub const BRAND: SimBrand = SimBrand {
    name: "pylontech-sc0500",
    session,
    role,
    request: check_request,
    value,
    detail,
    bare,
};

/// The controller of `sc0500-info-5`.
pub const OURS: &str = "PPTAP00000000050";
const LOGIN: &str = "login debug\n";
const GETPWR: &str = "getpwr\n";
const NO_DATA: &str = "getpwr\r\n@\r\nUnknown command 'getpwr' - try 'help'\r\n$$\r\npylon_debug>";

fn command(vector: &Vector) -> String {
    String::from_utf8(vector.request.clone()).unwrap()
}

fn is_of_user(vector: &Vector) -> bool {
    ["pwr\n", "unit\n", "bat\n"].contains(&&*command(vector))
}

pub fn options(vector: &Vector) -> Options {
    let barcode = (!is_of_user(vector)).then(|| OURS.to_owned());
    Options { barcode, ..Options::default() }
}

fn role(vector: &Vector) -> Role {
    match command(vector).split_whitespace().next() {
        // Needs a console that remembers what it was told.
        Some("tbar") if vector.kind == "response" => Role::NeverAsked,
        Some("getpwr" | "login" | "tbar" | "pwr") => Role::Required,
        _ => Role::Optional,
    }
}

static GOOD: LazyLock<Vec<Vector>> = LazyLock::new(|| vectors("pylontech-sc0500"));

fn good(id: &str) -> Vec<u8> {
    GOOD.iter().find(|vector| vector.id == id).unwrap().response.clone()
}

/// The answer under test as if it had been given to this question: the recorded numbers of `tbar`
/// and the wrong log-in are nothing that the driver ever sends.
fn as_asked(vector: &Vector, question: &str) -> Vec<u8> {
    let text = String::from_utf8(vector.response.clone()).unwrap();
    text.replacen(command(vector).trim_end(), question.trim_end(), 1).into_bytes()
}

fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    let question = std::str::from_utf8(question).unwrap();
    let word = |text: &str| text.split_whitespace().next().map(str::to_owned);
    if word(question) == word(&command(vector)) {
        return Some(as_asked(vector, question));
    }
    match word(question).as_deref() {
        Some("login") => Some(good("sc0500-login")),
        Some("getpwr") if command(vector).starts_with("tbar") => Some(NO_DATA.into()),
        Some("getpwr") => Some(good("sc0500-getpwr-5-modules")),
        Some("pwr") => Some(good("cmu-pwr-8-modules")),
        Some("tbar") => Some(format!("{question}@\nTest result:pass\n$$\npylon_debug>").into()),
        Some(command) => {
            let prompt = if is_of_user(vector) { "pylon>" } else { "pylon_debug>" };
            Some(format!("{question}@\nUnknown command '{command}'\n$$\n{prompt}").into())
        }
        None => None,
    }
}

/// What the driver types is what the documents say, but for the number.
fn check_request(vector: &Vector) {
    let command = vector.json["expected"]["command"].as_str().unwrap();
    let recorded = command.split_whitespace().last().unwrap();
    if let Some(number) = command.strip_prefix("tbar ") {
        assert!(Barcode::parse(number).is_err(), "the number of a document is never sent");
    }
    let mut asked = Vec::new();
    let outcome = play((INFO.new)(&options(vector)).as_mut(), |question| {
        let question = std::str::from_utf8(question).unwrap();
        asked.push(question.trim_end().replace(OURS, recorded));
        let reply = match question {
            LOGIN => good("sc0500-login"),
            GETPWR => NO_DATA.into(),
            "pwr\n" => good("cmu-pwr-8-modules"),
            _ => format!("{question}@\nCommand completed successfully\npylon>")
                .replace("pylon>", if is_of_user(vector) { "pylon>" } else { "pylon_debug>" })
                .into(),
        };
        vec![reply]
    });
    assert!(outcome.is_ok());
    assert!(asked.contains(&command.to_owned()), "{command}: {asked:?}");
}

fn bare(vector: &Vector) {
    match (&*vector.id, &*vector.kind) {
        ("sc0500-getpwr-first-line", "fragment") => {
            let head = vector.json["response_text"].as_str().unwrap().trim_end_matches(" ...");
            let cells = "3280# 24000# Normal# Normal#\r\n".repeat(15);
            let response = format!(
                "getpwr\r\n@\r\n{head}\r\n{cells}0#\r\n7#\r\nCommand completed successfully\r\n$$\r\npylon_debug>"
            );
            played(&Vector { response: response.into(), ..vector.clone() });
        }
        (_, "fragment") => {
            let rows = vector.json["response_text"].as_str().unwrap();
            let response = format!("unit\n@\n{rows}\nCommand completed successfully\n$$\npylon>");
            let reading = played(&Vector { response: response.into(), ..vector.clone() });
            assert_eq!(reading.modules.len(), 1);
            assert_eq!(
                reading.modules[0].range.map(|(low, high)| (low.0, high.0)),
                Some((3378, 3380))
            );
        }
        ("sc0500-tbar-ok", _) => tbar(vector),
        other => panic!("{other:?}"),
    }
}

fn played(vector: &Vector) -> Reading {
    let outcome = play((INFO.new)(&options(vector)).as_mut(), |question| {
        session(vector, question).into_iter().collect()
    });
    let reading = outcome.unwrap().reading();
    let known = ["index", "temperature_c", "remaining_wh", "soc_pct", "remaining_mah"];
    for (key, expected) in vector.json["expected"].as_object().unwrap() {
        // Of a module only its cells are told; the rest of the row is its share of the stack.
        if vector.id != "cmu-unit-row" {
            let compared = value(vector, key, expected, &reading);
            assert!(!matches!(compared, Compared::UnknownKey), "what is {key}?");
        } else {
            assert!(
                known.contains(&&**key) || ["voltage_v", "current_a"].contains(&&**key),
                "{key}"
            );
        }
    }
    reading
}

/// A console that gives its values only after the right number.
fn tbar(vector: &Vector) {
    for delivery in Delivery::all() {
        let mut open = false;
        let mut driver = (INFO.new)(&options(vector));
        let outcome = play(driver.as_mut(), |question| {
            let text = std::str::from_utf8(question).unwrap();
            let response = match text {
                LOGIN => good("sc0500-login"),
                GETPWR if open => good("sc0500-getpwr-5-modules"),
                GETPWR => NO_DATA.into(),
                "info\n" => good("sc0500-info-5"),
                _ => {
                    assert_eq!(text, format!("tbar {OURS}\n"));
                    open = true;
                    as_asked(vector, text)
                }
            };
            delivery.chunks(question, &response)
        });
        assert_eq!(outcome.unwrap().reading().cells.len(), 75);
        driver.start(bms_reader::protocol::CycleKind::Read);
        let again = play(driver.as_mut(), |question| {
            delivery.chunks(question, &good("sc0500-getpwr-5-modules"))
        });
        let again = again.unwrap();
        assert!(matches!(again.end, Step::Done(_)));
        assert_eq!(again.asked, [GETPWR.as_bytes()], "the log-in is kept");
    }
}

fn detail(key: &str, expected: &Value, message: &str) -> Compared {
    match key {
        "prompt" => return Compared::No("the prompt is the reason, not the message"),
        "field" => {
            let field = expected.as_str().unwrap().replace('_', " ");
            assert!(message.contains(&field), "{message}: no {field}");
        }
        "value" => assert!(message.contains(&format!("is {expected}")), "{message}"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// A number of the vector in the model's small unit.
fn scaled(expected: &Value, unit: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)]
    let exact = (expected.as_f64().expect("a number") * unit).round() as i64;
    Some(exact)
}

fn probe(reading: &Reading, location: SensorLocation) -> Option<i64> {
    let probe = reading.probes.iter().find(|probe| probe.location == location)?;
    probe.value.map(|value| value.0.into())
}

fn words(reading: &Reading, word: fn(&Cell) -> &Option<String>) -> Value {
    let words: BTreeSet<_> = reading.cells.iter().filter_map(|cell| word(cell).clone()).collect();
    serde_json::json!(words)
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack) = (&vector.id, &reading.pack);
    let text = expected.as_str();
    match key {
        "voltage_v" => assert_eq!(pack.voltage.map(|v| v.0.into()), scaled(expected, 1e3), "{id}"),
        "current_a" => assert_eq!(pack.current.map(|v| v.0.into()), scaled(expected, 1e3), "{id}"),
        "header_temperature_c" | "average_temperature_c" => {
            assert_eq!(probe(reading, SensorLocation::Average), scaled(expected, 10.0), "{id}");
        }
        "controller_temperature_c" => {
            assert_eq!(probe(reading, SensorLocation::Ambient), scaled(expected, 10.0), "{id}");
        }
        "capacity_raw" | "remaining_wh" => {
            assert_eq!(pack.remaining_energy.map(|v| v.0), scaled(expected, 1e3), "{id}");
        }
        "remaining_mah" => assert_eq!(pack.remaining.map(|v| v.0), expected.as_i64(), "{id}"),
        "soc_ah_pct" => assert_eq!(pack.soc.map(|v| v.0.into()), scaled(expected, 100.0), "{id}"),
        "status" => assert_eq!(pack.console_status.base.as_deref(), text, "{id}"),
        "voltage_status" => assert_eq!(pack.console_status.voltage.as_deref(), text, "{id}"),
        "current_status" => assert_eq!(pack.console_status.current.as_deref(), text, "{id}"),
        "temperature_status" => {
            assert_eq!(pack.console_status.temperature.as_deref(), text, "{id}")
        }
        "cell_count" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "module_count" => {
            assert_eq!(Some(reading.modules.len() as u64), expected.as_u64(), "{id}");
        }
        "cell_voltages_mv" => {
            let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap().0).collect();
            assert_eq!(serde_json::json!(cells), *expected, "{id}");
        }
        "cell_temperatures_c" => {
            let expected = expected.as_array().unwrap().iter().map(|value| scaled(value, 10.0));
            let cells = reading.cells.iter().map(|c| c.temperature.map(|value| value.0.into()));
            assert!(cells.eq(expected), "{id}");
        }
        "cell_status_1" => assert_eq!(words(reading, |cell| &cell.voltage_status), *expected),
        "cell_status_2" => assert_eq!(words(reading, |cell| &cell.temperature_status), *expected),
        "error_code" => assert_eq!(pack.error_code.map(u64::from), expected.as_u64(), "{id}"),
        "cycle_count" => assert_eq!(pack.cycles.map(u64::from), expected.as_u64(), "{id}"),
        "raised" => {
            let raised: Vec<_> = reading.alarms.raised().collect();
            assert_eq!(serde_json::json!(raised), *expected, "{id}");
        }
        "module_ranges_mv" => {
            let range = |m: &bms_reader::model::reading::Module| m.range.map(|(l, h)| [l.0, h.0]);
            let ranges: Vec<_> = reading.modules.iter().map(range).collect();
            assert_eq!(serde_json::json!(ranges), *expected, "{id}");
        }
        _ => return identity(key, expected, reading),
    }
    Compared::Yes
}

fn identity(key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (text, names) = (expected.as_str(), &reading.identity);
    match key {
        "device_name" => assert_eq!(names.model.as_deref(), text),
        "module_barcode" => assert_eq!(names.serial.as_deref(), text),
        "rated_capacity_ah" => {
            assert_eq!(reading.pack.design.map(|v| v.0), scaled(expected, 1e3));
        }
        "bmu_serials" => {
            let expected: Vec<Option<String>> = (0..reading.modules.len())
                .map(|n| expected[n.to_string()].as_str().map(str::to_owned))
                .collect();
            let serials = reading.modules.iter().map(|module| module.serial.clone());
            assert_eq!(serials.collect::<Vec<_>>(), expected);
        }
        "specification" | "rated_voltage_v" => return Compared::No("only its charge is told"),
        "cell_number" | "module_count_from_cells" => {
            return Compared::No("the cells that are read are counted");
        }
        "mode" => return Compared::No("that the cycle goes on says it"),
        "capacity_unit" => return Compared::No("a remark"),
        "soc_wh_pct" => return Compared::No("the share of the charge is told"),
        _ if key.starts_with("cell_") || key.starts_with("unit_") => {
            return Compared::No("the cells themselves tell it");
        }
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}
