//! One message and the answer to it.

use std::time::Duration;

use bms_reader::sink::notify::{probe, send_test};
use bms_reader::tls::Tls;
use serde_json::json;

use crate::receiver::{ACCEPTED, Answer, Receiver, Request};
use crate::{SERVICES, target};

/// What each service requires of a request.
fn assert_exact(number: usize, request: &Request) {
    let text = "bms-reader can send notifications.";
    let (line, header, body) = match number {
        0 => (
            "POST /",
            "Authorization: Basic dXNlcjpwYXNzLXdvcmQ=",
            json!({"topic": "my-topic", "title": "Test", "message": text, "priority": 3,
                "tags": ["white_check_mark"]}),
        ),
        1 => (
            "POST /sub/message",
            "X-Gotify-Key: AbCdEf12",
            json!({"title": "Test", "message": text, "priority": 4}),
        ),
        2 => (
            "POST /bot123456:AbCdEf12/sendMessage",
            "Content-Type: application/json",
            json!({"chat_id": "-10042", "text": format!("Test\n{text}"), "disable_notification": false}),
        ),
        _ => {
            let time = &request.body["time"];
            let body = json!({"title": "Test", "message": text, "type": "success", "event": "test", "time": time});
            ("POST /hook/q1w2e3?key=r4t5z6", "Content-Type: application/json", body)
        }
    };
    assert_eq!(request.line, line);
    assert!(request.head.lines().any(|line| line == header), "{}", request.head);
    assert_eq!(request.body, body);
}

#[tokio::test]
async fn every_service_gets_its_request() {
    for (number, (pattern, _)) in SERVICES.iter().enumerate() {
        let receiver = Receiver::start(&[ACCEPTED]);
        let target = target(pattern, receiver.port(), false);
        send_test(&target, &Tls::default()).await.unwrap();
        assert_exact(number, &receiver.wait(1, Duration::from_secs(5))[0]);
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn self_signed_server_is_trusted_only_if_it_is_configured() {
    use crate::certificate::{path, self_signed};
    let folder = std::env::temp_dir().join(format!("bms-reader-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    self_signed(&folder, "CA:FALSE");
    let (certificate, key) = (path(&folder, "self.pem"), path(&folder, "self.key"));
    for (number, (pattern, secrets)) in SERVICES.iter().enumerate() {
        let receiver = Receiver::start_tls(&certificate, &key, &[ACCEPTED]);
        let target = target(pattern, receiver.port(), true);
        let error = send_test(&target, &Tls::default()).await.unwrap_err();
        assert!(error.starts_with("TLS: ") && error.contains("NOTIFY_CA_FILE"), "{error}");
        assert!(secrets.split(' ').all(|secret| !error.contains(secret)), "{error}");
        assert!(receiver.requests().is_empty(), "nothing is sent to a server that is not trusted");
        let tls = Tls { ca_file: Some(certificate.clone()), ..Tls::default() };
        send_test(&target, &tls).await.unwrap();
        assert_exact(number, &receiver.wait(1, Duration::from_secs(5))[0]);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn error_names_cause_and_remedy_without_secrets() {
    let echo = r#"{"error": "no access to my-topic", "errorDescription": "token AbCdEf12 is wrong",
        "description": "Unauthorized: 123456:AbCdEf12"}"#;
    for (answer, expected) in [
        (Answer::Http("403 Forbidden", echo), ["refused with status 403", "check the token"]),
        (Answer::Http("500 Internal Server Error", "<html>"), ["status 500", "log of the server"]),
        (
            Answer::Http("429 Too Many Requests\r\nRetry-After: 9", echo),
            ["status 429", "log of the server"],
        ),
        (
            Answer::Http("301 Moved\r\nLocation: https://other.example/my-topic/q1w2e3", ""),
            [
                "status 301: redirected to https://other.example",
                "write the new address in NOTIFY_URL",
            ],
        ),
        (Answer::Raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"), ["the answer is not HTTP", "check the host"]),
        (Answer::Raw("HTTP/1.1 200"), ["the answer is not HTTP", "check the host"]),
        (Answer::Close, ["closed the connection without an answer", "check the host, the port"]),
    ] {
        for (pattern, secrets) in SERVICES {
            let receiver = Receiver::start(std::slice::from_ref(&answer));
            let target = target(pattern, receiver.port(), false);
            let error = send_test(&target, &Tls::default()).await.unwrap_err();
            assert!(expected.iter().all(|part| error.contains(part)), "{answer:?}: {error}");
            assert!(secrets.split(' ').all(|secret| !error.contains(secret)), "{error}");
        }
    }
}

#[tokio::test]
async fn slow_answer_is_accepted_and_an_endless_one_is_not_read() {
    let receiver = Receiver::start(&[Answer::Slow, Answer::Raw(str::from_utf8(&ENDLESS).unwrap())]);
    let target = target(SERVICES[0].0, receiver.port(), false);
    send_test(&target, &Tls::default()).await.unwrap();
    let error = send_test(&target, &Tls::default()).await.unwrap_err();
    assert!(error.contains("not HTTP"), "{error}");
}

/// More than is read.
static ENDLESS: [u8; 100_000] = [b'x'; 100_000];

/// Time passes as soon as nothing else happens, so the test does not wait.
#[tokio::test(start_paused = true)]
async fn hung_server_is_given_up() {
    let receiver = Receiver::start(&[Answer::Hang]);
    let target = target(SERVICES[0].0, receiver.port(), false);
    let error = send_test(&target, &Tls::default()).await.unwrap_err();
    assert!(error.starts_with("no answer within 20 s"), "{error}");
}

#[tokio::test]
async fn probe_connects_and_sends_nothing() {
    let receiver = Receiver::start(&[ACCEPTED]);
    let open = target(SERVICES[1].0, receiver.port(), false);
    probe(&open, &Tls::default()).await.unwrap();
    assert!(receiver.requests().is_empty());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = probe(&target(SERVICES[1].0, closed, false), &Tls::default()).await.unwrap_err();
    assert!(error.contains("refused") && error.contains("whether the server runs"), "{error}");
}
