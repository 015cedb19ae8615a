//! `demo`: the main job with simulated batteries: no hardware, no broker, no configuration needed.

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::line::{self, Flag, Takes};
use super::{FAILED, FINE, complain, speed, start_log};
use crate::app::{self, App, SimOptions};
use crate::board::Board;
use crate::config::{self, Config};
use crate::model::{Alarm, DeviceState, LinkState, Value};
use crate::sim::Faults;
use crate::sim::faults::{Fault, Rule};

/// A rack on one bus, two boards in the garage, one in the camper, and a stack with its controller.
const HOUSE: &str = r#"[
    {"id": "rack_1", "name": "Rack 1", "type": "simulated", "slave_id": 1, "interval": 2},
    {"id": "rack_2", "name": "Rack 2", "type": "simulated", "slave_id": 2, "interval": 2},
    {"id": "rack_3", "name": "Rack 3", "type": "simulated", "slave_id": 3, "interval": 2},
    {"id": "garage_left", "type": "simulated", "variant": "jbd", "interval": 2},
    {"id": "garage_right", "type": "simulated", "variant": "jbd", "interval": 2},
    {"id": "camper", "type": "simulated", "variant": "jk", "interval": 2},
    {"id": "cellar", "name": "Cellar stack", "type": "simulated", "variant": "pylontech-sc0500", "interval": 5}
]"#;
/// The rack as one battery, and the two in the garage.
const BANKS: &str = r#"[
    {"id": "rack", "name": "Rack", "members": ["rack_1", "rack_2", "rack_3"]},
    {"id": "garage", "name": "Garage", "members": ["garage_left", "garage_right"]}
]"#;
/// What happens in the demo, again and again: so long after the last event.
const STORY: &[(u64, Event)] = &[
    (20, Event::AlarmStarts),
    (25, Event::AlarmEnds),
    (15, Event::DropsOut),
    (60, Event::Returns),
];
/// A broker on this machine answers at once or not at all.
const PATIENCE: Duration = Duration::from_millis(300);
/// Where Mosquitto is installed when it is not in the search path of a user.
const MOSQUITTO: &[&str] = &["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

pub(super) const COMMAND: line::Command = line::Command {
    name: "demo",
    does: "Everything at once with simulated batteries: no hardware, no broker, no configuration",
    operand: None,
    flags: &[
        Flag::new("seconds", Takes::One("N"), "Stop after so many seconds"),
        Flag::new(
            "speed",
            Takes::One("FACTOR"),
            "Simulated seconds in a second: at 60 a day passes in 24 minutes",
        )
        .or("60"),
    ],
    prepare: |given| {
        let seconds = given.value("seconds", "a number", |text| text.parse().ok())?;
        let speed = speed(given)?;
        Ok(Box::pin(run(seconds, speed)))
    },
};

async fn run(seconds: Option<u64>, speed: f64) -> u8 {
    let (broker, config) = match prepare() {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    if let Err(code) = start_log(&config.log) {
        return code;
    }
    let Ok(stop) = app::stop_on_signal() else { return FAILED };
    if let Some(listen) = config.http_listen {
        println!("Dashboard: http://{listen}/");
    }
    println!("{}", broker.words(&config));
    let play = SimOptions { speed, faults: Faults::default() };
    let house = App::build(&config, &play, &stop);
    tokio::spawn(stop.clone().run_until_cancelled_owned(tell_story(play.faults)).boxed());
    let board = house.board().clone();
    let show = tokio::spawn(show(board, stop.clone()).boxed());
    if let Some(seconds) = seconds {
        let stop = stop.clone();
        tokio::spawn(
            async move {
                sleep(Duration::from_secs(seconds)).await;
                stop.cancel();
            }
            .boxed(),
        );
    }
    app::run(house, &config, stop).await;
    // The table ends with the same stop; what it still had to say does not matter.
    let _ = show.await;
    broker.end();
    FINE
}

/// Something to watch.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A cell of the second pack is too full.
    AlarmStarts,
    AlarmEnds,
    /// The third pack says no more.
    DropsOut,
    Returns,
}

async fn tell_story(faults: Faults) {
    for (pause, event) in STORY.iter().cycle() {
        sleep(Duration::from_secs(*pause)).await;
        match event {
            Event::AlarmStarts => {
                faults.add(Rule::always(Fault::Alarm(Alarm::CellOvervoltageWarning)).at(2));
            }
            Event::DropsOut => faults.add(Rule::always(Fault::Silence).at(3)),
            Event::AlarmEnds | Event::Returns => faults.clear(),
        }
    }
}

/// The configuration of the demo: what the environment says about the broker, and our own rack.
fn prepare() -> Result<(Broker, Config), u8> {
    let mut environment = config::environment();
    environment.retain(|name, _| !name.starts_with("BMS_") && name != "BANKS" && name != "BANK");
    environment.insert("DEVICES".into(), HOUSE.into());
    environment.insert("BANKS".into(), BANKS.into());
    environment.entry("LOG_LEVEL".into()).or_insert_with(|| "WARNING".into());
    let named = ["MQTT_HOST", "MQTT_BROKER"].iter().any(|name| environment.contains_key(*name));
    let broker = if named { Broker::Configured } else { Broker::find() };
    if let Some(port) = broker.port() {
        environment.insert("MQTT_HOST".into(), Ipv4Addr::LOCALHOST.to_string());
        environment.insert("MQTT_PORT".into(), port.to_string());
    }
    let config = config::load(environment).map_err(|rejected| complain(&rejected))?;
    Ok((broker, config))
}

/// Where the demo publishes.
enum Broker {
    /// To `MQTT_HOST`.
    Configured,
    /// To one that runs on this machine.
    Local(u16),
    /// To one that was started for the demo.
    Own(Child, u16),
    /// Nowhere.
    Missing,
}

impl Broker {
    fn find() -> Self {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        if TcpStream::connect_timeout(&local, PATIENCE).is_ok() {
            return Broker::Local(1883);
        }
        Broker::start().unwrap_or(Broker::Missing)
    }

    /// Mosquitto without a configuration file listens on this machine only and asks no password.
    fn start() -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = free.local_addr().ok()?.port();
        drop(free);
        let start = |program: &&str| {
            let mut command = Command::new(program);
            command.args(["-p", &port.to_string()]).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        };
        let child = MOSQUITTO.iter().find_map(start)?;
        Some(Broker::Own(child, port))
    }

    fn port(&self) -> Option<u16> {
        match self {
            Broker::Local(port) | Broker::Own(_, port) => Some(*port),
            Broker::Configured | Broker::Missing => None,
        }
    }

    fn words(&self, config: &Config) -> String {
        let watch = |port| format!("watch it with: mosquitto_sub -p {port} -t 'bms/#' -v");
        match self {
            Broker::Configured => {
                let place = config.mqtt.as_ref().map(|mqtt| format!("{}:{}", mqtt.host, mqtt.port));
                format!("Publishing to {}", place.unwrap_or_default())
            }
            Broker::Local(port) => {
                format!("Publishing to the broker on localhost:{port}; {}", watch(port))
            }
            Broker::Own(_, port) => {
                format!("Publishing to a mosquitto started on localhost:{port}; {}", watch(port))
            }
            Broker::Missing => "Not publishing: no broker here; get one with `apt install \
                                mosquitto mosquitto-clients`, or set MQTT_HOST"
                .to_owned(),
        }
    }

    fn end(self) {
        if let Broker::Own(mut child, _) = self {
            // It may have ended by itself, on the same Ctrl-C.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A live table on a terminal, a line for each read otherwise.
async fn show(board: Board, stop: CancellationToken) {
    let devices: Vec<_> = board.devices().cloned().collect();
    let terminal = std::io::stdout().is_terminal();
    let mut shown = vec![0; devices.len()];
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    if terminal {
        println!("Stop with Ctrl-C.\n\n{HEADING}{}", "\n".repeat(devices.len()));
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let states: Vec<_> = devices.iter().filter_map(|id| board.latest(id)).collect();
        if terminal {
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
        // A reader that went away ends the demo no sooner than its user does.
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
    let fault = state.attempt.as_ref().and_then(|attempt| attempt.fault.as_ref());
    match fault {
        Some(fault) => format!("{}: {fault}", state.profile.id),
        None => row(state).split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Fixed digits, because a table whose columns dance cannot be read.
fn text(value: Option<impl Into<Value>>, decimals: usize, unit: &str) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let number = value.into().to_json().as_f64().unwrap_or_default();
    format!("{number:.decimals$} {unit}").trim_end().to_owned()
}
