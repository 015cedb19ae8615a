use serde_json::json;

use super::*;
use crate::model::Millis;
use crate::sink::notify::event::{Event, EventKind};

fn target(text: &str) -> Target {
    Target::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Host, port and path; the header; the body for a test message.
fn request(text: &str) -> (String, String, Value) {
    let target = target(text);
    let events = [Event::new(EventKind::Test, Level::Warning, Millis(0), "works")];
    let body = target.body(&Message::new(&events, 0, Millis(0), None));
    let scheme = if target.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", target.host, target.port, target.path.expose());
    let header = target.header.map(|(name, value)| format!("{name}: {}", value.expose()));
    (url, header.unwrap_or_default(), serde_json::from_str(&body).unwrap())
}

#[test]
fn example_of_every_service_is_valid() {
    for service in SERVICES {
        let target = target(service.example);
        assert!(std::ptr::eq(target.service, service), "{}", service.name);
        assert!(target.tls, "{}", service.name);
        let (plain, secure) = service.schemes;
        assert!(plain.is_none_or(|plain| format!("{plain}s") == secure), "{}", service.name);
        assert!(service.example.starts_with(&format!("{secure}://")), "{}", service.name);
        let short = service.example.split('/').take(3).collect::<Vec<_>>().join("/");
        let error = Target::parse(&short).err();
        // A webhook may be at the root.
        if service.name != "webhook" {
            assert!(error.unwrap().starts_with(&service.pattern()), "{short}");
        }
    }
}

#[test]
fn request_is_that_of_the_service() {
    let (url, header, body) = request("ntfy://10.0.0.1:8080/batteries");
    assert_eq!((url.as_str(), header.as_str()), ("http://10.0.0.1:8080/", ""));
    let expected = json!({"topic": "batteries", "title": "Test", "message": "works", "priority": 4,
        "tags": ["warning"]});
    assert_eq!(body, expected);

    let (url, header, body) = request("gotifys://host/sub/folder/AbC-1_2");
    assert_eq!(
        (url.as_str(), header.as_str()),
        ("https://host:443/sub/folder/message", "X-Gotify-Key: AbC-1_2")
    );
    assert_eq!(body, json!({"title": "Test", "message": "works", "priority": 6}));

    let (url, header, body) = request("TGRAM://12:aB-c/-100/");
    assert_eq!(
        (url.as_str(), header.as_str()),
        ("https://api.telegram.org:443/bot12:aB-c/sendMessage", "")
    );
    assert_eq!(
        body,
        json!({"chat_id": "-100", "text": "Test\nworks", "disable_notification": false})
    );
    let (url, ..) = request("tgram://12:aB-c/@channel?api=http://[::1]:8081/api/");
    assert_eq!(url, "http://::1:8081/api/bot12:aB-c/sendMessage");

    let (url, header, body) = request("https://me:p%40ss@host:8443/hook?key=1");
    assert_eq!(
        (url.as_str(), header.as_str()),
        ("https://host:8443/hook?key=1", "Authorization: Basic bWU6cEBzcw==")
    );
    let expected = json!({"title": "Test", "message": "works", "type": "warning", "event": "test",
        "time": "1970-01-01T00:00:00Z"});
    assert_eq!(body, expected);
    assert_eq!(request("json://host").0, "http://host:80/");
}

#[test]
fn ntfy_has_logins_and_tokens() {
    let header = |text: &str| request(text).1;
    assert_eq!(header("ntfys://tk_abc@host/t"), "Authorization: Bearer tk_abc");
    assert_eq!(header("ntfys://:tk_abc@host/t"), "Authorization: Bearer tk_abc");
    assert_eq!(header("ntfy://a:b@host/t"), "Authorization: Basic YTpi");
    assert_eq!(request("https://ntfy.sh/t").2["topic"], "t");
    assert_eq!(
        request("https://ntfy.example/t").2["event"],
        "test",
        "an unknown server is a webhook"
    );
}

#[test]
fn error_shows_what_is_allowed_and_nothing_of_the_text() {
    for (text, expected) in [
        ("ntfy.sh/secret-topic", "one of ntfys://HOST/TOPIC, gotifys://HOST/TOKEN, tgram://"),
        ("nfty://host/secret-topic", "did you mean ntfy://?"),
        ("telegram://secret", "did you mean tgram://?"),
        ("ntfy://host", "ntfys://HOST/TOPIC for ntfy"),
        ("ntfy://host/secret.topic", "ntfys://HOST/TOPIC for ntfy"),
        ("ntfy://user@host/secret", "ntfys://HOST/TOPIC for ntfy"),
        ("gotify://host/", "gotifys://HOST/TOKEN for Gotify"),
        ("gotify://host/a%0ab", "gotifys://HOST/TOKEN"),
        ("tgram://secret/1", "tgram://BOTTOKEN/CHATID for Telegram"),
        ("tgram://12:secret/1/2", "tgram://BOTTOKEN/CHATID"),
        ("tgram://12:secret/1?api=ftp://x", "tgram://BOTTOKEN/CHATID"),
        ("https://ho st/secret", "jsons://HOST/PATH for webhook"),
        ("json://host:port/secret", "jsons://HOST/PATH"),
        ("://secret", "one of "),
    ] {
        let error = Target::parse(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("secret"), "{text}: {error}");
    }
    assert!(Target::parse(&format!("json://host/{}", "a".repeat(MAX_URL))).is_err());
}

#[test]
fn secrets_appear_in_no_text() {
    for (text, hidden) in [
        ("ntfys://user:hunter22@host.example/topic123", vec!["hunter22", "topic123"]),
        ("ntfys://tk_abcdef@host.example/topic123", vec!["tk_abcdef"]),
        ("gotify://host.example/ZyXwVu98", vec!["ZyXwVu98"]),
        ("tgram://123456:ZyXwVu98/-10042", vec!["123456:ZyXwVu98", "-10042"]),
        ("https://host.example/hook/q1w2e3?key=r4t5%20z6", vec!["q1w2e3", "r4t5%20z6", "r4t5 z6"]),
    ] {
        let target = target(text);
        let shown = format!("{target:?} {}", target.label());
        for secret in hidden {
            assert!(!shown.contains(secret), "{secret} in {shown}");
            let text = target.redact(&format!("no access to <{secret}>"));
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(target("ntfys://host.example/topic123").label(), "ntfy at host.example:443");
}
