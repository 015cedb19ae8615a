//! Profiles as users write them: the documentation, the commands, and wrong files.
//!
//! `UPDATE_DOCS=1 cargo test --test profiles` updates the list of alarms in `docs/profiles.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use bms_reader::model::Alarm;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::table::key::Key;
use bms_reader::protocol::table::load;
use bms_reader::protocol::{CycleKind, Options, Step, profiles};
use bms_reader::sim::rng::Rng;
use bms_reader::sim::table::TablePack;
use bms_reader::sim::{Responder, SimPack};

fn docs_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/profiles.md")
}

fn docs() -> String {
    fs::read_to_string(docs_path()).unwrap()
}

/// The blocks of code of this language, in order.
fn blocks(language: &str) -> Vec<String> {
    let docs = docs();
    let begin = format!("\n```{language}\n");
    let each = docs.split(begin.as_str()).skip(1);
    each.map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// A folder that is removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bms-reader-profiles-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        files.iter().for_each(|(name, text)| fs::write(path.join(name), text).unwrap());
        Folder(path)
    }

    /// Runs a command in this folder with `BMS_PROFILES` set to it.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
        command.env_clear().env("BMS_PROFILES", ".").current_dir(&self.0).args(arguments);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn documented_example_works() {
    let (recording, vectors) = (&blocks("text")[0], &blocks("json")[0]);
    let [guessed, finished] = &blocks("yaml")[..] else { panic!("two profiles") };
    let folder = Folder::new(&[("nova.txt", recording)]);
    let (code, guess, errors) = folder.run(&["profile", "new", "nova.txt"]);
    assert_eq!((code, &guess), (Some(0), guessed), "{errors}");
    load::parse(&guess).unwrap();

    let folder = Folder::new(&[("nova.yaml", finished), ("nova.json", vectors)]);
    let (code, output, errors) = folder.run(&["profile", "check", "nova.yaml"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(output.contains("request 1      values: 5A A5 01 00 00\n"), "{output}");
    assert!(output.contains(r#""temperatures":[21.5]"#), "{output}");

    let wrong = vectors.replace("13.26", "13.27").replace("3.316", "3.3");
    let folder = Folder::new(&[("nova.yaml", finished), ("nova.json", &wrong)]);
    let (code, _, errors) = folder.run(&["profile", "check", "nova.yaml"]);
    assert_eq!(code, Some(1), "{errors}");
    let differences = "idle: /status/cell_info/total_voltage is 13.26 instead of 13.27\n\
                       idle: /status/cell_info/voltages/1 is 3.316 instead of 3.3\n";
    assert!(errors.starts_with(differences), "{errors}");
}

#[test]
fn capture_is_the_beginning_of_a_profile() {
    let lines = [
        r#"{"at":1,"device":"a","event":"sent","hex":"5AA5010000"}"#,
        r#"{"at":2,"device":"b","event":"received","hex":"0102"}"#,
        r#"{"at":2,"device":"a","event":"received","hex":"5AA5010E052EFF06"}"#,
        r#"{"at":3,"device":"a","event":"received","hex":"18B0271039030000"}"#,
        r#"{"at":4,"device":"a","event":"silence"}"#,
    ];
    let folder = Folder::new(&[("My BMS.jsonl", &lines.join("\n")), ("empty.txt", "> 01\n")]);
    let (code, profile, errors) = folder.run(&["profile", "new", "My BMS.jsonl"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(profile.contains("\nname: my-bms\n"), "{profile}");
    assert!(profile.contains("  - send: 5A A5 01 00 00\n"), "{profile}");
    let (code, _, errors) = folder.run(&["profile", "new", "empty.txt"]);
    assert_eq!(code, Some(2), "{errors}");
}

#[test]
fn built_in_profiles_are_shown() {
    let folder = Folder::new(&[]);
    let (code, output, _) = folder.run(&["profile", "show", "litime"]);
    assert_eq!(
        (code, Some(output.trim_end())),
        (Some(0), profiles::text("litime").as_deref().map(str::trim_end))
    );
    let (code, _, errors) = folder.run(&["profile", "show", "jk"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("jk is code and has no profile"), "{errors}");
    let (code, _, errors) = folder.run(&["profile", "show", "lietime"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("did you mean litime?"), "{errors}");
}

/// One bad file does not affect the others, and a replaced type is reported.
#[test]
fn every_file_of_a_folder_counts_alone() {
    let nova = &blocks("yaml")[1];
    let own = nova.replace("name: nova\n", "name: daren\n");
    let files = [
        ("a.yaml", "name: [\n"),
        ("b.yml", nova),
        ("c.yaml", nova),
        ("d.yaml", &own),
        ("e.txt", "not a profile"),
        ("f.yaml", "name: auto\n"),
    ];
    let folder = Folder::new(&files);
    let recording = Folder::new(&[]);
    fs::write(recording.0.join("x"), "").unwrap();
    let (code, _, errors) = folder.run(&["decode", "--type", "nova"]);
    assert_eq!(code, Some(1), "{errors}");
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 4, "{errors}");
    assert!(lines[0].contains("the profile ./a.yaml is ignored: line "), "{errors}");
    assert!(lines[1].contains("./c.yaml is ignored: ./b.yml has the name nova too"), "{errors}");
    assert!(lines[2].contains("./d.yaml replaces the built-in type daren"), "{errors}");
    assert!(lines[3].contains("./f.yaml is ignored: line 1, column 1: "), "{errors}");
}

/// The start of a profile that is right.
const START: &str = "name: x\ntitle: X\nserial: {baud: [9600]}\nframe: {head: AA, size: 8}\n";

fn with_field(field: &str) -> String {
    format!(
        "{START}requests:\n  - send: AA 01\n    replies:\n      - fields:\n          - {field}\n"
    )
}

#[test]
fn error_names_the_place_and_what_is_allowed() {
    let files = [
        ("misspelled key", format!("{START}requests:\n  - send: AA 01\n    replys: []\n")),
        ("misspelled field", with_field("{key: pack_voltge, at: 1, type: u16}")),
        ("half a byte", format!("{START}requests:\n  - send: AA 0\n")),
        ("text in place of a number", with_field("{key: soc, at: one}")),
        ("unknown type of number", with_field("{key: soc, at: 1, type: word}")),
        ("tab", format!("{START}requests:\n\t- send: AA 01\n")),
        ("key written twice", format!("{START}title: Y\nrequests: []\n")),
        ("missing key", "title: X\nserial: {baud: [9600]}\nrequests: []\n".to_owned()),
        ("blank in the name", START.replace("name: x", "name: my bms")),
        ("neither wire nor Bluetooth", "name: x\ntitle: X\nrequests: [{send: AA}]\n".to_owned()),
        ("unknown variable", with_field("{key: cells, at: 1, type: u16, count: $n}")),
        ("bit outside of its word", with_field("{key: word w, at: 1, bits: {9: short_circuit}}")),
        ("misspelled alarm", with_field("{key: word w, at: 1, bits: {1: cell_overvoltge}}")),
        ("array without a count", with_field("{key: cells, at: 1, type: u16}")),
        ("wrong scale", with_field("{key: soc, at: 1, scale: 0,1}")),
        ("write", format!("{START}requests:\n  - send: 01 06 00 00 00 01 48 0A\n")),
        ("negative time", format!("{START}timeout: -1\nrequests: []\n")),
        ("frame of no size", with_field("{key: soc}").replace("size: 8", "size: 0")),
        ("place beyond all frames", with_field("{key: soc, at: 9999999999}")),
        ("no way to end", with_field("{key: soc}").replace(", size: 8", "")),
        ("unknown base", "name: x\ntitle: X\nserial: {baud: [9600]}\nlike: litme\n".to_owned()),
    ];
    let report = files
        .iter()
        .map(|(what, text)| format!("{what}\n    {}\n", load::parse(text).expect_err(what)));
    insta::assert_snapshot!(report.collect::<String>());
}

/// Bytes of a request, as `send` has them.
#[test]
fn known_writes_are_refused() {
    let writes = [
        "DD 5A E1 02 00 00 FF 1D 77",
        "7E A1 51 03 00 00 00 00 AA 55",
        "A5 A5 FF 01 01 00",
        "00 00 04 01 0A 55 AA 0E",
        "AA 50 01 01 52 00",
        "7B 1D 02 00 01 7D",
        "EA D1 01 04 FF 19 E2 F5",
        "AA 55 90 EB 1D 01 00 00",
        "01 10 00 00 00 01 02 00 01 67 90",
        "46 16 02 09 04 6B",
        "F0 FF 04",
        "F0 FF 05",
        "55 06 01 00",
        "DD C0 00 00 00 77",
        "FF AA 16 06 30 30 30 30 30 30 3C",
        "FF 08 05 00 0B 01 00",
        "'APP+PWR=1'",
        "A5 40 D9 08 00 00 00 00 00 00 00 00 C6",
    ];
    for send in writes {
        let text = format!("{START}requests:\n  - {{send: \"{send}\", replies: []}}\n");
        let error = load::parse(&text).expect_err(send);
        assert!(error.contains("A profile only reads"), "{send}: {error}");
        assert!(error.starts_with("line 6, column "), "{send}: {error}");
    }
}

#[test]
fn huge_files_and_repeated_aliases_are_refused() {
    let bomb: String = (1..12).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let before = level - 1;
        text + &format!("a{level}: &a{level} [*a{before}, *a{before}, *a{before}, *a{before}]\n")
    });
    let error = load::parse(&bomb).expect_err("a bomb");
    assert!(error.contains("too long"), "{error}");
    let deep = format!("name: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    load::parse(&deep).expect_err("deep nesting");
    let long = format!("{START}# {}\n", "x".repeat(1 << 20));
    assert_eq!(load::parse(&long).expect_err("1 MB"), "a profile has at most 128 kB");
    let folder = Folder::new(&[("long.yaml", &long)]);
    let (code, _, errors) = folder.run(&["profile", "check", "long.yaml"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("long.yaml: a profile has at most 128 kB"), "{errors}");
}

/// The keys that a profile may have at a place, from the error about another one.
fn allowed(at: &str) -> BTreeSet<String> {
    let error = load::parse(&at.replace("HERE", "\"-\": 1")).expect_err(at);
    let keys = error.split("(allowed: ").nth(1).unwrap_or_else(|| panic!("{at}: {error}"));
    keys.trim_end_matches(')').split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    let docs = docs();
    let request = |inside: &str| format!("{START}requests: [{{send: AA, {inside}}}]\n");
    let field = "replies: [{fields: [{key: soc, HERE}]}]";
    for (heading, text) in [
        ("### The file", "{HERE}".to_owned()),
        ("### `scan`", "scan: [{HERE}]\n".to_owned()),
        ("### `ble`", "ble: [{HERE}]\n".to_owned()),
        ("### `greeting`", "ble: [{greeting: [{HERE}]}]\n".to_owned()),
        ("### `serial`", "serial: {HERE}\n".to_owned()),
        ("### `frame`", "frame: {HERE}\n".to_owned()),
        ("### `length`", "frame: {length: {HERE}}\n".to_owned()),
        ("### `check`", "frame: {check: {HERE}}\n".to_owned()),
        ("### `modbus`", "modbus: {HERE}\n".to_owned()),
        ("### `requests`", request("HERE")),
        ("### `replies`", request("replies: [{HERE}]")),
        ("### `fields`", request(field)),
    ] {
        let section = docs.split(&format!("\n{heading}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("no section {heading}"));
        let section = section.split("\n##").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
        assert_eq!(documented, allowed(&text), "{heading}");
    }
}

#[test]
fn every_value_is_documented() {
    let docs = docs();
    let one_of = |text: String| {
        let error = load::parse(&text).expect_err(&text);
        let values = error.split("expected one of ").nth(1).expect(&error).to_owned();
        values.split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let kinds = one_of(with_field("{key: soc, type: x}"));
    let orders = one_of(format!("{START}order: x\n"));
    let checks = one_of("frame: {check: {type: x}}\n".to_owned());
    let needs = one_of(format!("{START}requests: [{{send: AA, need: x}}]\n"));
    let keys = Key::names().map(str::to_owned);
    for value in keys.chain(kinds).chain(orders).chain(checks).chain(needs) {
        assert!(docs.contains(&format!("`{value}`")), "{value} is not in docs/profiles.md");
    }
}

#[test]
fn list_of_alarms_is_current() {
    let mut list = String::from("| alarm | text |\n|---|---|\n");
    for alarm in Alarm::ALL {
        list += &format!("| `{}` | {} |\n", alarm.name(), alarm.text());
    }
    let (begin, end) = ("<!-- alarms: generated from the code -->\n", "<!-- end -->");
    let docs = docs();
    let (before, rest) = docs.split_once(begin).expect("the mark");
    let (_, after) = rest.split_once(end).expect("the end mark");
    let current = format!("{before}{begin}{list}{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(docs_path(), &current).unwrap();
    }
    let hint = "run UPDATE_DOCS=1 cargo test --test profiles";
    assert!(fs::read_to_string(docs_path()).unwrap() == current, "{hint}");
}

/// Profiles with any mistake are refused, or read and simulate any bytes without a panic.
#[test]
fn mutated_profile_never_panics() {
    let extremes =
        ["0", "-1", "255", "65536", "-9223372036854775808", "18446744073709551615", "1e30", "$x"];
    let texts: Vec<String> = profiles::names().filter_map(profiles::text).collect();
    let (mut random, mut loaded) = (Rng::new(7), 0);
    for round in 0..1500 {
        let text = &texts[round % texts.len()];
        let mut words: Vec<&str> = text.split_inclusive([' ', '\n', ',', '}', ']']).collect();
        for _ in 0..=random.below(2) {
            let at = random.below(words.len());
            match random.below(3) {
                0 => drop(words.remove(at)),
                1 => words[at] = extremes[random.below(extremes.len())],
                _ => words.swap(at, 0),
            }
        }
        let Ok(profile) = load::parse(&words.concat()) else { continue };
        loaded += 1;
        let info = profiles::info(profile);
        let options = Options { medium: Medium::Ble, ..Options::default() };
        let mut driver = info.driver(&options);
        let profile = info.source.profile().expect("a profile");
        let mut pack = TablePack::new(profile, Medium::Ble, SimPack::fixed(1));
        driver.start(CycleKind::Read);
        for _ in 0..60 {
            match driver.step() {
                Step::Send(bytes) => {
                    driver.advance();
                    driver.receive(&pack.respond(&bytes, 0.0).unwrap_or(bytes));
                }
                Step::Pause(_) => driver.advance(),
                Step::Await(_) => {
                    let bytes: Vec<u8> = (0..80).map(|_| random.below(256) as u8).collect();
                    driver.receive(&bytes);
                    driver.handle_timeout();
                }
                _ => break,
            }
        }
    }
    assert!(loaded > 100, "{loaded}");
}
