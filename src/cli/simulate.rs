//! `simulate`: a simulated battery on a pseudo-terminal or a TCP port.

use std::path::PathBuf;

use super::args::FlagValue::{List, One, Optional};
use super::args::{Command, Flag, Matches};
use super::{Outcome, SUCCESS, failed, unknown_type};
use crate::app;
use crate::sim::serve::{ListenAddr, MAX_SPEED, SimServer, SimServerOptions};
use crate::sim::{self, Battery, Faults, SimBrand, faults, gatt};

pub(super) const SPEED: Flag =
    Flag::new("speed", One("FACTOR"), "Simulated seconds per second; at 0 time stands still")
        .default("1");

/// The rate of `--baud-pacing` without a value.
const DEFAULT_PACING: u32 = 9600;

pub(super) const COMMAND: Command = Command {
    name: "simulate",
    about: "Simulate a battery on a pseudo-terminal or a TCP port, until stopped",
    positional: None,
    flags: &[
        Flag::new("type", One("TYPE"), "Type of the battery").default("daren"),
        Flag::new(
            "address",
            List("N"),
            "Bus addresses, one battery each [default: 1 or the first]",
        ),
        Flag::new("port-link", One("PATH"), "Create this symbolic link to the pseudo-terminal"),
        Flag::new("tcp", One("HOST:PORT"), "Listen on this TCP port instead; 0 picks a free one"),
        Flag::new(
            "baud-pacing",
            Optional("BAUD"),
            "Answer at this baud rate (9600 without a value)",
        ),
        Flag::new(
            "fault",
            One("LIST"),
            "Faults, separated by commas: silence, noise, checksum, cut, echo, foreign, rtn=05, \
             alarm=NAME, weak_cell, stuck, cells=N, and for consoles modules=N, login, tbar, logout; with a \
             probability as in noise=0.2, at one address as in silence@2",
        ),
        SPEED,
        Flag::new("seed", One("N"), "The same seed gives the same batteries").default("1"),
        // For the fake bluetoothd of the tests and the virtual boards of the lab.
        Flag {
            hidden: true,
            ..Flag::new("gatt-spec", One("MAC"), "Print a Bluetooth battery as JSON")
        },
    ],
    prepare: |matches| match matches.value("gatt-spec") {
        Some(address) => {
            let start = Battery::active(seed(matches)?).state(0.0);
            let spec = gatt::device(brand(matches)?, address, start);
            let spec = spec.map_err(|error| error.to_string())?;
            Ok(Box::pin(async move {
                println!("{spec}");
                Ok(SUCCESS)
            }))
        }
        None => Ok(Box::pin(run(options(matches)?))),
    },
};

fn brand(matches: &Matches) -> Result<&'static SimBrand, String> {
    let name = matches.value("type").unwrap_or_default();
    sim::find(name).ok_or_else(|| unknown_type(name, COMMAND.name))
}

fn seed(matches: &Matches) -> Result<u64, String> {
    let seed = matches.parsed("seed", "a whole number", |text| text.parse().ok())?;
    Ok(seed.unwrap_or_default())
}

pub(super) fn parse_speed(matches: &Matches) -> Result<f64, String> {
    let expected = format!("from 0 (time stands still) to {MAX_SPEED}");
    let parse = |text: &str| text.parse().ok().filter(|speed| (0.0..=MAX_SPEED).contains(speed));
    Ok(matches.parsed("speed", &expected, parse)?.unwrap_or(1.0))
}

fn options(matches: &Matches) -> Result<SimServerOptions, String> {
    // The plain `jk` is the stream that a board sends over Bluetooth; on a serial line it is `jk:ttl`.
    let brand = match brand(matches)? {
        brand if std::ptr::eq(brand, &sim::jk::BRAND) => &sim::jk::TTL,
        brand => brand,
    };
    let listen = match (matches.value("tcp"), matches.value("port-link")) {
        (Some(_), Some(_)) => return Err("--tcp and --port-link exclude each other".to_owned()),
        (Some(address), None) if is_host_and_port(address) => ListenAddr::Tcp(address.to_owned()),
        (Some(address), None) => {
            return Err(format!(
                "--tcp is {address:?}, but must be a host and a port, such as 127.0.0.1:8899 or \
                 0.0.0.0:8899"
            ));
        }
        (None, link) => ListenAddr::Terminal { link: link.map(PathBuf::from) },
    };
    let rules = faults::parse(matches.value("fault").unwrap_or_default());
    let pacing = matches.parsed("baud-pacing", "a baud rate", |text| text.parse().ok())?;
    Ok(SimServerOptions {
        brand,
        addresses: addresses(matches, brand)?,
        seed: seed(matches)?,
        speed: parse_speed(matches)?,
        pacing: pacing.or(matches.has("baud-pacing").then_some(DEFAULT_PACING)),
        faults: Faults::new(rules.map_err(|error| format!("--fault: {error}"))?),
        listen,
    })
}

fn is_host_and_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn addresses(matches: &Matches, brand: &SimBrand) -> Result<Vec<u8>, String> {
    let (first, last) = (*brand.addresses.start(), *brand.addresses.end());
    let Some(listed) = matches.values("address") else {
        return Ok(vec![if brand.addresses.contains(&1) { 1 } else { first }]);
    };
    let parse = |text: &String| {
        let address = text.parse().ok().filter(|address| brand.addresses.contains(address));
        let allowed = match first == last {
            true => format!("{first}, the only address of this type"),
            false => format!("from {first} to {last}"),
        };
        address.ok_or_else(|| format!("--address {text}: must be {allowed}"))
    };
    listed.iter().map(parse).collect()
}

/// The endpoint is the only output on stdout, so that a script can read it.
async fn run(options: SimServerOptions) -> Outcome {
    let simulation = async {
        let stop = app::stop_on_signal()?;
        let server = SimServer::open(&options).await?;
        println!("{}", server.port());
        server.serve(stop).await
    };
    simulation.await.map_err(|error| failed(format!("cannot simulate: {error}")))?;
    Ok(SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app;
    use crate::cli::COMMANDS;
    use crate::cli::args::{self, Invocation};
    use crate::config;
    use crate::transport::Bluetooth;

    #[test]
    fn impossible_value_is_explained() {
        for (line, words) in [
            ("simulate --tcp 99999", "--tcp is \"99999\", but must be a host and a port"),
            ("simulate --tcp 127.0.0.1:99999", "such as 127.0.0.1:8899"),
            ("simulate --type jbd --address 5", "must be 1, the only address of this type"),
            ("simulate --type jkbms", "unknown type jkbms; did you mean jk?"),
            ("simulate --type x", "bms-reader simulate --help` lists all types"),
        ] {
            let invocation = args::parse(COMMANDS, line.split(' ').map(Into::into)).unwrap();
            let Invocation::Command(matches) = invocation else { panic!("{invocation:?}") };
            let error = options(&matches).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[tokio::test]
    async fn simulated_jk_on_a_port_is_read_as_jk() {
        let line = ["simulate", "--type", "jk", "--tcp", "127.0.0.1:0"];
        let invocation = args::parse(COMMANDS, line.map(Into::into)).unwrap();
        let Invocation::Command(matches) = invocation else { panic!("{invocation:?}") };
        let options = options(&matches).unwrap();
        let server = SimServer::open(&options).await.unwrap();
        let port = server.port();
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(server.serve(stop.clone()));
        let environment = [
            ("BMS_OPTIONS_FILE", "/nonexistent/options.json"),
            ("BMS_TYPE", "jk"),
            ("BMS_PORT", &port),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config::load(environment.into()).unwrap();
        let state = app::read(&config.devices, &Bluetooth::default(), None).await.remove(0);
        assert!(state.snapshot.is_some(), "{:?}", state.attempt);
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
