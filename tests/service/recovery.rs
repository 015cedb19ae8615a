//! What may happen to the process from outside.

use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::process::{Command, Stdio};
use std::thread;

use crate::fixture::{Packs, PublishedBattery, Service, borrowed, legacy_environment, program};
use crate::mosquitto::Mosquitto;

const ID: &str = "bms_lifepo4_01";

/// A pipe that stays full until it is read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    thread::spawn(move || filler.write_all(&[b'\n'; 1024 * 1024]));
    (reader, writer)
}

/// Of all batteries together.
fn wait_for_reads(service: &Service, count: u64) {
    service.wait_json("/api/overview", "reads", |overview| {
        let batteries = overview["batteries"].as_array().unwrap().iter();
        batteries.filter_map(|battery| battery["reads"].as_u64()).sum::<u64>() >= count
    });
}

#[test]
fn unread_log_delays_neither_reads_nor_the_stop() {
    let (packs, broker) = (Packs::on_terminal(&[1]), Mosquitto::start());
    let mqtt = broker.subscribe();
    let variables = legacy_environment(&packs.port, &broker);
    let (unread, stderr) = full_pipe();
    let mut service = Service::start_logging_to(&borrowed(&variables), stderr);
    wait_for_reads(&service, 3);
    let online = format!("bms/{ID}/online");
    mqtt.wait_for(&online, "true");
    service.signal("-TERM");
    assert_eq!(service.wait_for_exit().code(), Some(0));
    mqtt.wait_for(&online, "false");
    drop(unread);
}

#[test]
fn lost_log_lines_are_counted() {
    // One line for each brand, because a line logs no more than its batteries send.
    let brands = bms_reader::sim::brands().iter().filter(|brand| brand.variant().is_none());
    let device =
        |name: &str| format!(r#"{{"id": "{name}", "type": "simulated", "variant": "{name}"}}"#);
    let devices =
        format!("[{}]", brands.map(|brand| device(brand.driver())).collect::<Vec<_>>().join(","));
    let variables = [
        ("DEVICES", &devices[..]),
        ("READ_INTERVAL", "0.5"),
        ("LOG_LEVEL", "TRACE"),
        ("LOG_FORMAT", "json"),
    ];
    let (reader, stderr) = full_pipe();
    let mut service = Service::start_logging_to(&variables, stderr);
    // Of more than 500 bytes each.
    // Each step has a time limit of its own, because a busy machine needs long for all.
    (1..=30).for_each(|tens| wait_for_reads(&service, 10 * tens));
    service.read_log(reader);
    service.wait_for_log("lines were lost, because stderr was not read");
    service.signal("-TERM");
    assert_eq!(service.wait_for_exit().code(), Some(0));
    service.wait_for_log("\"stopped\"");
    let log = service.log();
    let mut lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
    // The program waits for a moment only until its last line is read, and this test may be slow.
    lines.pop();
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn hang_up_is_a_clean_stop() {
    let (packs, broker) = (Packs::on_terminal(&[1]), Mosquitto::start());
    let variables = legacy_environment(&packs.port, &broker);
    let mut battery = PublishedBattery::start(broker, ID, &variables);
    battery.mqtt.wait_for(&battery.topic("online"), "true");
    battery.service.signal("-HUP");
    assert_eq!(battery.service.wait_for_exit().code(), Some(0));
    battery.mqtt.wait_for(&battery.topic("online"), "false");
    battery.service.wait_for_log("stopped");
}

#[test]
fn hang_up_is_ignored_under_nohup() {
    let mut command = Command::new("nohup");
    command.arg(program(&[]).get_program());
    command.env_clear().envs([
        ("BMS_TYPE", "simulated"),
        ("READ_INTERVAL", "0.5"),
        ("PATH", "/usr/bin:/bin"),
    ]);
    command.stdin(Stdio::null());
    let mut service = Service::start_command(command, Stdio::null());
    wait_for_reads(&service, 1);
    service.signal("-HUP");
    wait_for_reads(&service, 4);
    service.signal("-TERM");
    assert_eq!(service.wait_for_exit().code(), Some(0));
}

#[test]
fn core_dumps_are_disabled() {
    let service = Service::start(&[("BMS_TYPE", "simulated"), ("READ_INTERVAL", "0.5")]);
    wait_for_reads(&service, 1);
    assert_eq!(service.limit("Max core file size"), "Max core file size 0 0 bytes");
}
