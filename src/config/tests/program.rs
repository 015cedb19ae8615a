//! The broker, the log and the other settings of the program.

use super::{TWO, diagnostics, error, load_valid, warnings};
use crate::model::TimeZone;
use crate::sink::mqtt::{Publish, Version};

#[test]
fn topic_of_several_batteries_needs_id() {
    let mqtt = ("MQTT_HOST", "broker");
    let topic = ("MQTT_BASE_TOPIC", "solar/{type}");
    assert!(
        error(&[mqtt, topic, ("DEVICES", TWO)]).starts_with("MQTT_BASE_TOPIC is \"solar/{type}\"")
    );
    assert_eq!(load_valid(&[mqtt, topic]).mqtt.unwrap().base_topic, "solar/{type}");
    assert!(error(&[mqtt, ("MQTT_BASE_TOPIC", "/bms/{id}")]).contains("a slash at either end"));
    assert!(error(&[mqtt, ("MQTT_TOPIC_PREFIX", "ha/#")]).starts_with("MQTT_TOPIC_PREFIX"));
}

#[test]
fn version_of_mqtt_has_several_spellings() {
    let version =
        |value| load_valid(&[("MQTT_HOST", "b"), ("MQTT_VERSION", value)]).mqtt.unwrap().version;
    assert_eq!(["", "3.1.1", "3", "4"].map(version), [Version::V311; 4]);
    assert_eq!(["5", "5.0"].map(version), [Version::V5; 2]);
    assert!(
        error(&[("MQTT_HOST", "b"), ("MQTT_VERSION", "6")]).starts_with("MQTT_VERSION is \"6\"")
    );
}

#[test]
fn retained_settings_need_both_variables() {
    let on = [("MQTT_HOST", "b"), ("MQTT_REMOTE_CONFIG", "true")];
    assert!(load_valid(&on).mqtt.unwrap().remote_config);
    assert!(!load_valid(&on[..1]).mqtt.unwrap().remote_config);
    let off = [on[0], on[1], ("ALLOW_CONFIG", "false")];
    assert_eq!(warnings(&off), ["MQTT_REMOTE_CONFIG is ignored, because ALLOW_CONFIG is off"]);
    assert!(!load_valid(&off).mqtt.unwrap().remote_config);
}

#[test]
fn tls_changes_the_port_and_needs_both_files() {
    let on = [("MQTT_HOST", "broker"), ("MQTT_TLS", "true")];
    let with = |more: &[(&'static str, &'static str)]| [&on[..], more].concat();
    if !cfg!(feature = "tls") {
        assert!(error(&on).starts_with("MQTT_TLS is \"true\""));
        return;
    }
    assert_eq!(load_valid(&on).mqtt.unwrap().port, 8883);
    assert_eq!(load_valid(&with(&[("MQTT_PORT", "1884")])).mqtt.unwrap().port, 1884);
    let message = error(&with(&[("MQTT_CLIENT_CERT_FILE", "/c.pem")]));
    assert!(
        message.starts_with("MQTT_CLIENT_KEY_FILE must be set: MQTT_CLIENT_CERT_FILE"),
        "{message}"
    );
    let files = with(&[("MQTT_CLIENT_CERT_FILE", "/c.pem"), ("MQTT_CLIENT_KEY_FILE", "/k.pem")]);
    let tls = load_valid(&files).mqtt.unwrap().tls.unwrap();
    assert_eq!(tls.client_files, Some(("/c.pem".into(), "/k.pem".into())));
    let insecure = [("MQTT_HOST", "broker"), ("MQTT_TLS_INSECURE", "true")];
    assert_eq!(warnings(&insecure), ["MQTT_TLS_INSECURE is ignored, because MQTT_TLS is off"]);
}

#[test]
fn tls_files_without_tls_are_refused() {
    for off in [&[][..], &[("MQTT_TLS", "false")]] {
        let pairs = [&[("MQTT_HOST", "broker"), ("MQTT_CA_FILE", "/ca.pem")], off].concat();
        let message = error(&pairs);
        assert!(message.starts_with("MQTT_TLS ") && message.contains("MQTT_CA_FILE"), "{message}");
    }
}

#[test]
fn config_command_is_allowed_by_default() {
    let allowed = |pairs: &[(&str, &str)]| load_valid(pairs).mqtt.unwrap().allow_config;
    assert!(allowed(&[("MQTT_HOST", "b")]));
    assert!(!allowed(&[("MQTT_HOST", "b"), ("ALLOW_CONFIG", "off")]));
}

#[test]
fn mqtt_host_is_a_name_or_address_without_port() {
    assert_eq!(load_valid(&[("MQTT_HOST", "[::1]")]).mqtt.unwrap().host, "::1");
    assert!(error(&[("MQTT_HOST", "broker:1883")]).contains("MQTT_PORT"));
}

#[test]
fn mqtt_keep_alive_has_bounds() {
    assert!(error(&[("MQTT_HOST", "b"), ("MQTT_KEEP_ALIVE", "0")]).contains("5 to 3600"));
}

#[test]
fn mqtt_publish_is_case_insensitive() {
    let mqtt = load_valid(&[("MQTT_HOST", "b"), ("MQTT_PUBLISH", "ALL")]).mqtt.unwrap();
    assert_eq!(mqtt.publish, Publish::All);
}

#[test]
fn client_id_without_a_battery_is_the_program_name() {
    assert_eq!(load_valid(&[("MQTT_HOST", "b")]).mqtt.unwrap().client_id, "bms-reader");
}

#[test]
fn log_filter_follows_level_and_rust_log() {
    let filter = |pairs: &[(&str, &str)]| load_valid(pairs).log.filter;
    assert_eq!(filter(&[("LOG_LEVEL", "error")]), "error,bms_reader=error");
    assert_eq!(filter(&[("LOG_LEVEL", "Warning")]), "warn,bms_reader=warn");
    assert_eq!(filter(&[("LOG_LEVEL", "DEBUG")]), "warn,bms_reader=debug");
    assert_eq!(filter(&[("LOG_LEVEL", "TRACE"), ("DEBUG_MODE", "1")]), "warn,bms_reader=trace");
    assert_eq!(filter(&[("RUST_LOG", "info"), ("DEBUG_MODE", "1")]), "info");
    assert!(load_valid(&[("LOG_FORMAT", "JSON")]).log.json);
}

#[test]
fn thresholds_can_be_off_but_not_crossed() {
    let config = load_valid(&[
        ("BMS_TYPE", "simulated"),
        ("ALARM_CELL_LOW", "off"),
        ("ALARM_TEMP_LOW", "0"),
    ]);
    let thresholds = &config.devices[0].thresholds;
    assert_eq!(thresholds.cell_low, None);
    assert_eq!(thresholds.temp_low.map(|t| t.0), Some(0));
    let message = error(&[("ALARM_CELL_LOW", "3.7")]);
    assert!(message.contains("less than ALARM_CELL_HIGH (3.65)"), "{message}");
    assert!(error(&[("ALARM_TEMP_LOW", "45")]).starts_with("ALARM_TEMP_LOW"));
}

#[test]
fn control_is_off_by_default() {
    assert!(!load_valid(&[]).allow_control);
    assert!(load_valid(&[("ALLOW_CONTROL", "yes")]).allow_control);
}

#[test]
fn password_warning_needs_a_valid_broker() {
    let ignored =
        |warnings: &[String]| warnings.iter().any(|w| w.starts_with("MQTT_PASSWORD is ignored"));
    let password = ("MQTT_PASSWORD", "secret");
    assert!(ignored(&load_valid(&[("MQTT_HOST", "broker"), password]).warnings));
    let found = diagnostics(&[("MQTT_HOST", "mqtt://broker"), password]);
    assert_eq!((found.errors.len(), ignored(&found.warnings)), (1, false));
}

#[test]
fn line_protocol_needs_a_database_and_ignores_what_loses() {
    const URL: (&str, &str) = ("INFLUX_URL", "https://host:8086/sub");
    assert!(load_valid(&[]).influx.is_none());
    let config = load_valid(&[
        URL,
        ("INFLUX_TOKEN", "abc=="),
        ("INFLUX_BUCKET", "bms"),
        ("INFLUX_INTERVAL", "60"),
        ("INFLUX_USER", "me"),
        ("INFLUX_DATABASE", "bms"),
    ]);
    let settings = config.influx.unwrap();
    assert_eq!(
        (settings.server.label().as_str(), settings.interval.as_secs()),
        ("https://host:8086", 60)
    );
    for warning in [
        "INFLUX_DATABASE has no effect, because INFLUX_BUCKET is set",
        "INFLUX_USER has no effect, because INFLUX_TOKEN is set",
    ] {
        assert!(config.warnings.iter().any(|it| it == warning), "{:?}", config.warnings);
    }
    let lonely = warnings(&[("INFLUX_ORG", "home"), ("INFLUX_PASSWORD", "secret")]);
    assert_eq!(
        lonely,
        ["INFLUX_ORG, INFLUX_PASSWORD has no effect, because INFLUX_URL is not set"]
    );
    let missing = error(&[URL]);
    assert!(
        missing.starts_with("INFLUX_BUCKET must be set: InfluxDB 2 and 3 need it"),
        "{missing}"
    );
    let plain = ("INFLUX_URL", "http://host:8086");
    let unsafe_ = error(&[plain, ("INFLUX_DATABASE", "bms"), ("INFLUX_CA_FILE", "/ca.pem")]);
    assert!(unsafe_.contains("begins with https:// because of INFLUX_CA_FILE"), "{unsafe_}");
    let login = error(&[("INFLUX_URL", "http://me:hunter2@host"), ("INFLUX_DATABASE", "bms")]);
    assert!(login.contains("http://***@host") && !login.contains("hunter2"), "{login}");
}

#[test]
fn notifications_have_several_urls_a_time_and_a_zone() {
    let urls =
        ("NOTIFY_URL", "ntfys://ntfy.sh/topic,\n gotify://host:8080/token json://[::1]/hook");
    let notify = |more: &[(&'static str, &'static str)]| {
        load_valid(&[&[urls], more].concat()).notify.unwrap()
    };
    let settings = notify(&[("TZ", "UTC")]);
    let labels: Vec<_> = settings.targets.iter().map(|target| target.label()).collect();
    assert_eq!(labels, ["ntfy at ntfy.sh:443", "Gotify at host:8080", "webhook at [::1]:80"]);
    assert_eq!((settings.daily, settings.zone), (None, TimeZone::find("UTC")));
    let berlin = TimeZone::find("Europe/Berlin");
    for zone in
        ["Europe/Berlin", ":/usr/share/zoneinfo/Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"]
    {
        let settings = notify(&[("TZ", zone), ("NOTIFY_DAILY", "7:30")]);
        assert_eq!((settings.daily, settings.zone), (Some(450), berlin), "{zone}");
    }
    let unknown = warnings(&[urls, ("TZ", "Mars/Base")]);
    assert!(
        unknown[0].starts_with(
            "TZ is \"Mars/Base\", which is no known time zone: notifications and days use UTC"
        ),
        "{unknown:?}"
    );
    let unused = warnings(&[("NOTIFY_DAILY", "7:30")]);
    assert_eq!(unused, ["NOTIFY_DAILY has no effect, because NOTIFY_URL is not set"]);
    assert!(load_valid(&[("TZ", "Mars/Base")]).notify.is_none());
    let many = "json://host ".repeat(11);
    let many: &'static str = Box::leak(many.into_boxed_str());
    assert!(error(&[("NOTIFY_URL", many)]).contains("1 to 10 URLs"));
}
