//! `status` with a running service.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::fixture::{Packs, Service, objects, run};

fn status(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = run(&[&["status"], arguments].concat(), variables, "");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn status_shows_the_batteries_of_the_service() {
    let packs = Packs::on_terminal(&[1]);
    let service = Service::start(&[
        ("BMS_PORT", &packs.port),
        ("READ_INTERVAL", "0.5"),
        ("DEVICE_NAME", "House"),
    ]);
    service.wait_state("bms", "a good read", |state| state["status"].is_object());
    let listen = service.listen();
    let environment = [("HTTP_LISTEN", listen.as_str())];
    let (code, text) = status(&[], &environment);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("Battery  SoC %") && text.contains("\nHouse "), "{text}");
    let (code, by_url) = status(&["--url", &format!("http://{listen}/")], &[]);
    assert_eq!((code, &by_url), (Some(0), &text));

    let output = run(&["status", "--json"], &environment, "");
    let expected = service.get("/api/devices").unwrap().1;
    assert_eq!(objects(&output)[0]["id"], expected[0]["id"]);
    assert!(objects(&output)[0]["status"]["cell_info"]["total_voltage"].is_number());
}

#[test]
fn exit_code_is_1_while_a_battery_is_not_online() {
    let devices = r#"[{"id": "gone", "type": "daren", "port": "/dev/does-not-exist"}]"#;
    let service = Service::start(&[("DEVICES", devices)]);
    service.wait_state("gone", "a failed read", |state| state["error"].is_object());
    let (code, text) = status(&[], &[("HTTP_LISTEN", &service.listen())]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\nGone ") && text.contains("failed: "), "{text}");
}

#[test]
fn exit_code_is_2_without_the_service() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, text) = status(&["--url", &closed], &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("is bms-reader running?") && text.contains("--url"), "{text}");
    let (code, text) = status(&[], &[("HTTP_LISTEN", "off")]);
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = status(&["--url", "https://host"], &[]);
    assert_eq!(code, Some(2), "{text}");
}

/// Answers one request with this status line, and returns the request.
fn answer_once(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

#[test]
fn token_is_sent_and_a_refusal_names_it() {
    let (address, served) = answer_once("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let (code, text) = status(&["--url", &address], &[("HTTP_TOKEN", "secret-token")]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("HTTP_TOKEN") && !text.contains("secret-token"), "{text}");
    let request = served.join().unwrap().to_lowercase();
    assert!(request.contains("authorization: bearer secret-token"), "{request}");
}

#[test]
fn answer_of_another_program_is_an_error() {
    for answer in ["<html>", "{\"x\":1}", "[]"] {
        let response =
            format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        let (address, served) = answer_once(response.leak());
        let (code, text) = status(&["--url", &address], &[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("not that of bms-reader"), "{text}");
        served.join().unwrap();
    }
}
