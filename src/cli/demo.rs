//! `demo`: the service with simulated batteries: no hardware, broker or configuration needed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::args::FlagValue::One;
use super::args::{self, Flag};
use super::simulate::parse_speed;
use super::{Outcome, SUCCESS, failed, start_log};
use crate::app::{self, App, SimOptions};
use crate::board::Board;
use crate::config::{self, Config};
use crate::model::{Alarm, DeviceState, LinkState, Value};
use crate::sim::Faults;
use crate::sim::faults::{Fault, Rule};

const DEVICES: &str = r#"[
    {"id": "rack_1", "name": "Rack 1", "type": "simulated", "slave_id": 1, "interval": 2},
    {"id": "rack_2", "name": "Rack 2", "type": "simulated", "slave_id": 2, "interval": 2},
    {"id": "rack_3", "name": "Rack 3", "type": "simulated", "slave_id": 3, "interval": 2},
    {"id": "garage_left", "type": "simulated", "variant": "jbd", "interval": 2},
    {"id": "garage_right", "type": "simulated", "variant": "jbd", "interval": 2},
    {"id": "camper", "type": "simulated", "variant": "jk", "interval": 2},
    {"id": "cellar", "name": "Cellar stack", "type": "simulated", "variant": "pylontech-sc0500", "interval": 5}
]"#;
const BANKS: &str = r#"[
    {"id": "rack", "name": "Rack", "members": ["rack_1", "rack_2", "rack_3"]},
    {"id": "garage", "name": "Garage", "members": ["garage_left", "garage_right"]}
]"#;
/// How long to wait for a broker on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// `sbin` is not in the search path of every user.
const MOSQUITTO: &[&str] = &["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

pub(super) const COMMAND: args::Command = args::Command {
    name: "demo",
    about: "Run the service with simulated batteries: no hardware, broker or configuration needed",
    positional: None,
    flags: &[
        Flag::new("seconds", One("N"), "Stop after this many seconds"),
        Flag::new("speed", One("FACTOR"), "Simulated seconds per second").default("60"),
    ],
    prepare: |matches| {
        let seconds = matches.parsed("seconds", "a whole number", |text| text.parse().ok())?;
        Ok(Box::pin(run(seconds, parse_speed(matches)?)))
    },
};

async fn run(seconds: Option<u64>, speed: f64) -> Outcome {
    let mut environment = config::environment();
    let configured =
        ["MQTT_HOST", "MQTT_BROKER"].iter().any(|name| environment.contains_key(*name));
    let broker = if configured { None } else { find_broker() };
    configure(&mut environment, broker.as_ref());
    let config = config::load(environment)?;
    start_log(&config.log)?;
    let stop =
        app::stop_on_signal().map_err(|error| failed(format!("cannot handle signals: {error}")))?;
    if let Some(listen) = config.http.as_ref().map(|http| http.listen) {
        println!("Dashboard: http://{listen}/");
    }
    println!("{}", description(broker.as_ref(), &config));
    let simulation = SimOptions { speed, faults: Faults::default() };
    let app = App::build(&config, &simulation, &stop);
    tokio::spawn(stop.clone().run_until_cancelled_owned(inject_faults(simulation.faults)).boxed());
    let table = tokio::spawn(show(app.board.clone(), stop.clone()).boxed());
    if let Some(seconds) = seconds {
        let stop = stop.clone();
        tokio::spawn(sleep(Duration::from_secs(seconds)).map(move |()| stop.cancel()).boxed());
    }
    app::run(app, &config, stop).await;
    // The table ends at the same stop.
    let _ = table.await;
    if let Some(mut child) = broker.and_then(|broker| broker.started) {
        // It may have ended by itself, on the same Ctrl-C.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(SUCCESS)
}

/// Repeats forever: a full cell in the second pack, then a silent third pack.
async fn inject_faults(faults: Faults) {
    loop {
        sleep(Duration::from_secs(20)).await;
        faults.add(Rule::always(Fault::Alarm(Alarm::CellOvervoltageWarning)).at(2));
        sleep(Duration::from_secs(25)).await;
        faults.clear();
        sleep(Duration::from_secs(15)).await;
        faults.add(Rule::always(Fault::Silence).at(3));
        sleep(Duration::from_secs(60)).await;
        faults.clear();
    }
}

/// Keeps the settings of the program, and replaces the batteries by simulated ones.
fn configure(environment: &mut BTreeMap<String, String>, broker: Option<&Broker>) {
    environment.retain(|name, _| !name.starts_with("BMS_") && name != "BANK");
    environment.insert("DEVICES".into(), DEVICES.into());
    environment.insert("BANKS".into(), BANKS.into());
    environment.entry("LOG_LEVEL".into()).or_insert_with(|| "WARNING".into());
    if let Some(Broker { port, .. }) = broker {
        environment.insert("MQTT_HOST".into(), Ipv4Addr::LOCALHOST.to_string());
        environment.insert("MQTT_PORT".into(), port.to_string());
    }
}

/// A broker on this machine.
struct Broker {
    port: u16,
    /// Mosquitto, if it was started for the demo.
    started: Option<Child>,
}

fn find_broker() -> Option<Broker> {
    let port = 1883;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok() {
        return Some(Broker { port, started: None });
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port();
    // Without a configuration file Mosquitto listens on this machine only and needs no password.
    let start = |program: &&str| {
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string()]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
    };
    MOSQUITTO.iter().find_map(start).map(|child| Broker { port, started: Some(child) })
}

fn description(broker: Option<&Broker>, config: &Config) -> String {
    match (broker, &config.mqtt) {
        (Some(Broker { port, started }), _) => {
            let name = if started.is_some() { "a new Mosquitto" } else { "the broker" };
            format!(
                "Publishing to {name} on localhost:{port}; watch with: mosquitto_sub -p {port} -t 'bms/#' -v"
            )
        }
        (None, Some(mqtt)) => format!("Publishing to {}:{}", mqtt.host, mqtt.port),
        (None, None) => "Not publishing: no MQTT broker found. Set MQTT_HOST, or install one: \
                         apt install mosquitto mosquitto-clients"
            .to_owned(),
    }
}

/// On a terminal a table that is updated in place, otherwise a line per read.
async fn show(board: Board, stop: CancellationToken) {
    let devices: Vec<_> = board.devices().cloned().collect();
    let is_terminal = std::io::stdout().is_terminal();
    let mut shown = vec![0; devices.len()];
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    if is_terminal {
        println!("Stop with Ctrl-C.\n\n{HEADING}{}", "\n".repeat(devices.len()));
    }
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let states: Vec<_> = devices.iter().filter_map(|id| board.latest(id)).collect();
        if is_terminal {
            let rows: String =
                states.iter().map(|state| format!("\x1b[2K{}\n", row(state))).collect();
            let _ = write!(std::io::stdout(), "\x1b[{}A{rows}", states.len());
        } else {
            for (state, shown) in states.iter().zip(&mut shown) {
                let number = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
                if number > *shown {
                    *shown = number;
                    println!("{}", line(state));
                }
            }
        }
        // A reader that is gone does not end the demo.
        let _ = std::io::stdout().flush();
    }
}

const HEADING: &str =
    "battery         SoC     volts      amps      watts    cells min - max    temp  state";

fn row(state: &DeviceState) -> String {
    let name = &state.profile.name;
    let Some(snapshot) = state.snapshot.as_deref() else { return format!("{name:<12} connecting") };
    let (pack, derived) = (&snapshot.reading.pack, &snapshot.derived);
    let soc = text(pack.soc, 1, "%");
    let volts = text(pack.voltage, 2, "V");
    let amps = text(pack.current, 2, "A");
    let watts = text(derived.power, 0, "W");
    let low = text(derived.lowest_cell.map(|cell| cell.1), 3, "");
    let high = text(derived.highest_cell.map(|cell| cell.1), 3, "V");
    let temp = text(derived.avg_temp, 1, "°C");
    let status = match state.link {
        LinkState::Offline { .. } => "offline",
        _ => derived.activity.map_or("", |activity| activity.name()),
    };
    format!(
        "{name:<12}{soc:>8}{volts:>10}{amps:>10}{watts:>10}  {low:>6} - {high:>7} {temp:>8}  {status}"
    )
}

fn line(state: &DeviceState) -> String {
    match state.attempt.as_ref().and_then(|attempt| attempt.fault.as_ref()) {
        Some(fault) => format!("{}: {fault}", state.profile.id),
        None => row(state).split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// With a fixed number of digits, so that the columns of the table stay in place.
fn text(value: Option<impl Into<Value>>, decimals: usize, unit: &str) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let number = value.into().to_json().as_f64().unwrap_or_default();
    format!("{number:.decimals$} {unit}").trim_end().to_owned()
}
