//! `demo`: the service with simulated batteries: no hardware, broker or configuration needed.

mod broker;
mod screen;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::args::FlagValue::{self, One};
use super::args::{self, Flag};
use super::simulate::{SPEED, parse_speed};
use super::{Outcome, SUCCESS, failed, log, misconfigured};
use crate::app::{self, App, Past, SimOptions};
use crate::clock;
use crate::config::{self, Config};
use crate::sim::faults::{Fault, Rule};
use crate::sim::{Faults, load_profile};
use crate::sink::mqtt;
use broker::Mosquitto;
use screen::LogLines;

/// The IDs are unlikely for real batteries, so that no topics of real batteries are overwritten.
const DEVICES: &str = r#"[
    {"id": "demo_rack_1", "name": "Rack 1", "type": "simulated", "slave_id": 1, "interval": 2},
    {"id": "demo_rack_2", "name": "Rack 2", "type": "simulated", "slave_id": 2, "interval": 2},
    {"id": "demo_rack_3", "name": "Rack 3", "type": "simulated", "slave_id": 3, "interval": 2},
    {"id": "demo_garage_left", "name": "Garage left", "type": "simulated", "variant": "jbd", "interval": 2},
    {"id": "demo_garage_right", "name": "Garage right", "type": "simulated", "variant": "jbd", "interval": 2},
    {"id": "demo_camper", "name": "Camper", "type": "simulated", "variant": "jk", "interval": 2},
    {"id": "demo_cellar", "name": "Cellar stack", "type": "simulated", "variant": "pylontech-sc0500", "interval": 5}
]"#;
const BANKS: &str = r#"[
    {"id": "demo_rack", "name": "Rack", "members": ["demo_rack_1", "demo_rack_2", "demo_rack_3"]},
    {"id": "demo_garage", "name": "Garage", "members": ["demo_garage_left", "demo_garage_right"]}
]"#;
const CLIENT_ID: &str = "bms-reader-demo";

/// Beginnings of the variables that the demo takes from the environment.
const KEPT: [&str; 7] =
    ["ALARM_", "ALLOW_CONTROL", "DEBUG_MODE", "HISTORY_HOURS", "HTTP_", "LOG_", "RUST_LOG"];
/// Those that it also takes when it may publish.
const KEPT_TO_PUBLISH: [&str; 3] = ["MQTT_", "HA_DISCOVERY_PREFIX", "SUPERVISOR_"];

/// Days before the start of the demo in which the simulated batteries settle.
const SETTLED: u32 = 40;

pub(super) const COMMAND: args::Command = args::Command {
    name: "demo",
    about: "Run the service with simulated batteries: no hardware, broker or configuration needed",
    positional: None,
    flags: &[
        Flag::new("seconds", One("N"), "Stop after this many seconds"),
        SPEED,
        Flag::new(
            "publish",
            FlagValue::None,
            "Publish to MQTT_HOST or the broker on this machine, and remove everything at the end; \
             otherwise only to a broker that the demo starts",
        ),
    ],
    prepare: |matches| {
        let seconds = matches.parsed("seconds", "a whole number", |text| text.parse().ok())?;
        let publish = matches.has("publish");
        Ok(Box::pin(run(seconds, parse_speed(matches)?, publish)))
    },
};

async fn run(seconds: Option<u64>, speed: f64, publish: bool) -> Outcome {
    let own_broker = if publish { None } else { Mosquitto::start() };
    let mut config = config::load(environment(publish, own_broker.as_ref()))?;
    if publish && config.mqtt.is_none() {
        return Err(misconfigured(
            "--publish: no broker is configured and none runs on this machine; set MQTT_HOST",
        ));
    }
    let lines = LogLines::default();
    match screen::shows_log() {
        true => log::start_in(&config.log, lines.clone())?,
        false => log::start(&config.log)?,
    }
    let stop =
        app::stop_on_signal().map_err(|error| failed(format!("cannot handle signals: {error}")))?;
    let simulation = SimOptions {
        speed,
        start: load_profile::time(SETTLED, local_time_of_day()),
        faults: Faults::default(),
    };
    let header = vec![
        dashboard(&mut config),
        broker_line(&config, own_broker.is_some()),
        "Simulated batteries. Stop with Ctrl-C.".to_owned(),
    ];
    let app = App::build(&config, &simulation, &stop);
    let past = Past::new(&app, &config, &simulation, clock::now());
    tokio::spawn(stop.clone().run_until_cancelled_owned(inject_faults(simulation.faults)).boxed());
    let screen = tokio::spawn(screen::show(header, lines, app.board.clone(), stop.clone()).boxed());
    if let Some(seconds) = seconds {
        let stop = stop.clone();
        tokio::spawn(sleep(Duration::from_secs(seconds)).map(move |()| stop.cancel()).boxed());
    }
    // The history begins with the past. The batteries answer meanwhile.
    let _ = spawn_blocking(|| past.simulate()).await;
    app::run(app, &config, stop).await;
    // The screen ends at the same stop.
    let _ = screen.await;
    match config.mqtt.as_ref().filter(|_| publish) {
        Some(settings) => remove_published(&config, settings).await,
        None => Ok(SUCCESS),
    }
}

/// Repeats forever: a weak cell in the second pack, then a silent third pack.
async fn inject_faults(faults: Faults) {
    loop {
        sleep(Duration::from_secs(20)).await;
        faults.add(Rule::always(Fault::WeakCell).at(2));
        sleep(Duration::from_secs(25)).await;
        faults.clear();
        sleep(Duration::from_secs(15)).await;
        faults.add(Rule::always(Fault::Silence).at(3));
        sleep(Duration::from_secs(60)).await;
        faults.clear();
    }
}

/// The simulated batteries, and those settings of the user that cannot harm an installation: no
/// history file, no add-on options, and a broker only if it may be used.
fn environment(publish: bool, own_broker: Option<&Mosquitto>) -> BTreeMap<String, String> {
    let to_publish = if publish { &KEPT_TO_PUBLISH[..] } else { &[] };
    let kept: Vec<_> = KEPT.iter().chain(to_publish).collect();
    let mut environment = config::environment();
    environment.retain(|name, _| {
        let name = name.to_uppercase();
        kept.iter().any(|kept| name.starts_with(**kept))
    });
    let is_set = |name: &str| environment.keys().any(|key| key.eq_ignore_ascii_case(name));
    let has_broker = ["MQTT_HOST", "MQTT_BROKER", "SUPERVISOR_TOKEN"].iter().any(|it| is_set(it));
    let has_level = is_set("LOG_LEVEL");
    let mut set = |name: &str, value: &str| environment.insert(name.to_owned(), value.to_owned());
    set("DEVICES", DEVICES);
    set("BANKS", BANKS);
    set("BMS_OPTIONS_FILE", "/nonexistent/options.json");
    set("MQTT_CLIENT_ID", CLIENT_ID);
    if !has_level {
        set("LOG_LEVEL", "WARNING");
    }
    if let Some(Mosquitto { port, .. }) = own_broker {
        set("MQTT_HOST", &Ipv4Addr::LOCALHOST.to_string());
        set("MQTT_PORT", &port.to_string());
    } else if publish && !has_broker && broker::is_running(broker::DEFAULT_PORT) {
        set("MQTT_HOST", &Ipv4Addr::LOCALHOST.to_string());
    }
    environment
}

/// Chooses another port if the configured one is in use: the page there is that of another program.
fn dashboard(config: &mut Config) -> String {
    let Some(http) = &mut config.http else {
        return "Dashboard: off (HTTP_LISTEN)".to_owned();
    };
    let listen = http.listen;
    let is_free = |address: SocketAddr| {
        TcpListener::bind(address).and_then(|listener| listener.local_addr()).ok()
    };
    let free = is_free(listen).or_else(|| is_free((listen.ip(), 0).into()));
    let used = free.unwrap_or(listen);
    http.listen = used;
    let host = match used.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", used.port()),
        _ => used.to_string(),
    };
    let reason = match used.port() == listen.port() {
        true => String::new(),
        false => format!(" (port {} is in use)", listen.port()),
    };
    format!("Dashboard: http://{host}/{reason}")
}

fn broker_line(config: &Config, is_own: bool) -> String {
    match &config.mqtt {
        Some(mqtt) if is_own => {
            format!("Watch MQTT: mosquitto_sub -p {} -t 'bms/#' -v", mqtt.port)
        }
        Some(mqtt) if mqtt.supervisor.is_some() => {
            "Publishing to the broker of Home Assistant".into()
        }
        Some(mqtt) => format!("Publishing to {}:{}", mqtt.host, mqtt.port),
        None => "Not publishing: install Mosquitto, or use --publish".to_owned(),
    }
}

/// Clears everything that the demo published, so that Home Assistant forgets its batteries.
async fn remove_published(config: &Config, settings: &mqtt::Settings) -> Outcome {
    let batteries = config.devices.iter().map(|device| &device.profile.id);
    let banks = config.banks.iter().map(|bank| &bank.profile.id);
    let mut count = 0;
    for id in batteries.chain(banks) {
        let error = |error| failed(not_removed(settings, id.as_str(), error));
        let found = mqtt::find_retained(settings, id).await.map_err(error)?;
        mqtt::clear_retained(settings, &found.topics).await.map_err(error)?;
        count += found.topics.len();
    }
    let bridge = mqtt::bridge_topics(settings);
    let error = |error| failed(not_removed(settings, "its own state", error));
    mqtt::clear_retained(settings, &bridge).await.map_err(error)?;
    println!(
        "Removed {} retained topics from {}:{}",
        count + bridge.len(),
        settings.host,
        settings.port
    );
    Ok(SUCCESS)
}

fn not_removed(settings: &mqtt::Settings, what: &str, error: String) -> String {
    let mqtt::Settings { host, port, .. } = settings;
    format!("{what} was not removed from {host}:{port}: {error}; later: bms-reader remove ID")
}

/// Seconds since midnight in the time zone of the user, so that the sun of the simulation shines by
/// day; in UTC where the zone is unknown.
fn local_time_of_day() -> u32 {
    let mut date = Command::new("date");
    let output = date.arg("+%z").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let offset = text.ok().and_then(|text| parse_offset(&text)).unwrap_or_default();
    let utc = i64::try_from(clock::now().0 / 1000).unwrap_or_default();
    u32::try_from((utc + offset).rem_euclid(86_400)).unwrap_or_default()
}

/// Seconds east of Greenwich from `+0130`.
fn parse_offset(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).filter(|digits| digits.len() == 4)?;
    let number: i64 = digits.parse().ok()?;
    let seconds = (number / 100 * 60 + number % 100) * 60;
    Some(if text.starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_offset_is_parsed() {
        assert_eq!(parse_offset("+0000\n"), Some(0));
        assert_eq!(parse_offset("+0545\n"), Some(20_700));
        assert_eq!(parse_offset("-0330\n"), Some(-12_600));
        for wrong in ["", "CET", "+1", "+01:30", "+é12"] {
            assert_eq!(parse_offset(wrong), None, "{wrong}");
        }
    }
}
