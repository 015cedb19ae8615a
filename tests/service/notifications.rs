//! Notifications of the running program: from a simulated alarm to the message.

use std::time::Duration;

use crate::fixture::{Packs, Service, run};
use crate::mosquitto::free_port;
use crate::receiver::{ACCEPTED, Receiver};

/// A battery is offline after 30 s without an answer.
const LIMIT: Duration = Duration::from_secs(90);

const SECRETS: [&str; 4] = ["hidden-topic", "hidden-token", "hidden-path", "hidden-key"];

fn assert_masked(text: &str) {
    assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
}

#[test]
fn alarm_and_outage_of_a_battery_arrive_as_messages() {
    let packs = Packs::on_terminal(&[1]);
    let receiver = Receiver::start(&[ACCEPTED]);
    let url = format!("ntfy://127.0.0.1:{}/hidden-topic", receiver.port());
    let service = Service::start(&[
        ("BMS_PORT", &packs.port),
        ("READ_INTERVAL", "0.5"),
        ("BMS_TIMEOUT", "0.2"),
        ("DEVICE_NAME", "Rack 1"),
        ("NOTIFY_URL", &url),
    ]);
    service.wait_state("bms", "a good read", |state| state["status"].is_object());
    packs.set_faults("alarm=cell_overvoltage");
    receiver.wait(1, LIMIT);
    packs.set_faults("");
    receiver.wait(2, LIMIT);
    packs.set_faults("silence");
    receiver.wait(3, LIMIT);
    packs.set_faults("");
    let requests = receiver.wait(4, LIMIT);
    let texts: Vec<_> = requests.iter().map(|request| request.text()).collect();
    assert!(texts[0].starts_with("Alarm: Rack 1: cell voltage high, now "), "{texts:?}");
    assert_eq!(texts[1], texts[0].replacen("Alarm", "Alarm ended", 1));
    assert!(
        texts[2].starts_with("Battery offline: Rack 1: ") && texts[2].contains('\n'),
        "{texts:?}"
    );
    assert!(texts[3].starts_with("Battery back: Rack 1: answers again after "), "{texts:?}");
    let topics = requests.iter().all(|request| request.body["topic"] == "hidden-topic");
    assert!(topics, "{requests:?}");
    assert_masked(&service.log());
}

#[test]
fn dead_server_is_one_line_in_the_log_and_a_counter() {
    let packs = Packs::on_terminal(&[1]);
    let (dead, receiver) = (free_port(), Receiver::start(&[ACCEPTED]));
    let urls = format!(
        "gotify://127.0.0.1:{dead}/hidden-token, json://127.0.0.1:{}/hidden-path?k=hidden-key",
        receiver.port()
    );
    let service = Service::start(&[
        ("BMS_PORT", &packs.port),
        ("READ_INTERVAL", "0.5"),
        ("ALARM_SOC_LOW", "99"),
        ("NOTIFY_URL", &urls),
    ]);
    let event = receiver.wait(1, LIMIT).remove(0).body;
    assert_eq!((&event["event"], &event["battery"]), (&"alarm_started".into(), &"bms".into()));
    assert_eq!(event["alarm"]["limit"], 99.0);
    let metric = |name: &str| {
        let text = service.text("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("bms_notifications_{name}_total ")));
        line.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    let deadline = std::time::Instant::now() + LIMIT;
    while metric("failed") < 2 {
        assert!(std::time::Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(metric("sent"), 1);
    let label = format!("notify: Gotify at 127.0.0.1:{dead}: ");
    service.assert_logged(1, &label);
    assert_eq!(service.logged("check the host, the port and the scheme"), 1, "{}", service.log());
    assert_masked(&service.log());
    let state = service.get("/api/devices/bms").unwrap().1;
    assert!(state["error"].is_null(), "reading goes on: {state}");
}

#[test]
fn commands_test_the_services_and_mask_their_secrets() {
    let (dead, receiver) = (free_port(), Receiver::start(&[ACCEPTED]));
    let folder = std::env::temp_dir().join(format!("bms-reader-notify-url-{}", std::process::id()));
    let good = format!("ntfy://127.0.0.1:{}/hidden-topic", receiver.port());
    std::fs::write(&folder, format!("{good}\ngotify://127.0.0.1:{dead}/hidden-token\n")).unwrap();
    let file = folder.to_str().unwrap();
    let text = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = run(arguments, variables, "");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_masked(&text);
        (output.status.code(), text)
    };
    let (code, shown) = text(&["notify"], &[("NOTIFY_URL_FILE", file)]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains(&format!("OK    ntfy at 127.0.0.1:{}: accepted", receiver.port())),
        "{shown}"
    );
    assert!(shown.contains(&format!("FAIL  Gotify at 127.0.0.1:{dead}: ")), "{shown}");
    assert_eq!(receiver.requests()[0].text(), "Test: bms-reader can send notifications.");
    let (code, _) = text(&["notify"], &[("NOTIFY_URL", &good)]);
    assert_eq!(code, Some(0));
    assert_eq!(text(&["notify"], &[]).0, Some(2));

    let simulated = ("DEVICES", r#"[{"id": "a", "type": "simulated"}]"#);
    let (code, shown) = text(&["check"], &[simulated, ("NOTIFY_URL_FILE", file)]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains(": reachable; `bms-reader notify` sends a test message"), "{shown}");
    let (_, shown) = text(&["diagnose"], &[("NOTIFY_URL_FILE", file)]);
    assert!(shown.contains("NOTIFY_URL=***") && shown.contains("\nntfy, Gotify\n"), "{shown}");
    assert_eq!(receiver.requests().len(), 2, "neither sends a message");

    let wrong = "ntfy://host/hidden-topic, nfty://host/hidden-topic gotify://host";
    let (code, shown) = text(&["check"], &[("NOTIFY_URL", wrong), ("NOTIFY_DAILY", "7 am")]);
    assert_eq!(code, Some(2), "{shown}");
    for expected in [
        "NOTIFY_URL, URL 2 must be one of ntfys://HOST/TOPIC",
        "did you mean ntfy://?",
        "NOTIFY_URL, URL 3 must be gotifys://HOST/TOKEN for Gotify",
        "NOTIFY_DAILY is \"7 am\", but must be a local time such as 07:00, or off",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    std::fs::remove_file(&folder).unwrap();
}
