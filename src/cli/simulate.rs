//! `simulate`: a simulated battery on a pseudo-terminal or a TCP port.

use std::path::PathBuf;

use serde_json::Value;

use crate::app;
use crate::sim::serve::{self, ListenAddr, SimServerOptions};
use crate::sim::{self, Battery, Faults, SimBrand, faults, gatt};

use super::line::{Command, Flag, Given, Takes};
use super::{FAILED, FINE, speed};

/// The rate that a line is paced at when nothing else is said.
const BAUD: u32 = 9600;

pub(super) const COMMAND: Command = Command {
    name: "simulate",
    does: "Simulate a battery on a pseudo-terminal or a TCP port, until stopped",
    operand: None,
    flags: &[
        Flag::new("type", Takes::One("TYPE"), "The brand").or("daren"),
        Flag::new(
            "address",
            Takes::List("N"),
            "Addresses on the bus, one battery each; left out, 1 or the first one that the brand has",
        ),
        Flag::new(
            "port-link",
            Takes::One("PATH"),
            "Make this symbolic link to the pseudo-terminal",
        ),
        Flag::new(
            "tcp",
            Takes::One("HOST:PORT"),
            "Listen on this TCP port instead; port 0 takes a free one",
        ),
        Flag::new(
            "baud-pacing",
            Takes::Maybe("BAUD"),
            "Answer no faster than a line of this baud rate could (9600 without a number)",
        ),
        Flag::new(
            "fault",
            Takes::One("LIST"),
            "What goes wrong: silence, noise, checksum, cut, echo, foreign, rtn=05, alarm=NAME, \
             cells=N, and at consoles modules=N, login, tbar, logout; a chance as in noise=0.2, an \
             address as in silence@2; several between commas",
        ),
        Flag::new("speed", Takes::One("FACTOR"), "Simulated seconds in a second").or("1"),
        Flag::new("seed", Takes::One("N"), "The same seed gives the same batteries").or("1"),
        // For the fake bluetoothd of the tests and the virtual boards of the lab.
        Flag::new("gatt-spec", Takes::One("MAC"), "Print a Bluetooth battery as JSON").hidden(),
    ],
    prepare: |given| match given.text("gatt-spec") {
        Some(address) => {
            let spec = spec(given, address)?;
            Ok(Box::pin(async move {
                println!("{spec}");
                FINE
            }))
        }
        None => Ok(Box::pin(run(options(given)?))),
    },
};

fn brand(given: &Given) -> Result<&'static SimBrand, String> {
    let name = given.text("type").unwrap_or_default();
    sim::find(name).ok_or_else(|| {
        let known: Vec<_> = sim::BRANDS.iter().map(|brand| brand.name).collect();
        format!("no simulated type named {name}; known are: {}", known.join(", "))
    })
}

fn seed(given: &Given) -> Result<u64, String> {
    Ok(given.value("seed", "a whole number", |text| text.parse().ok())?.unwrap_or_default())
}

/// A battery as the seed makes it, at its first moment.
fn spec(given: &Given, address: &str) -> Result<Value, String> {
    let state = Battery::active(seed(given)?).state(0.0);
    gatt::device(brand(given)?, address, state).map_err(|error| error.to_string())
}

fn options(given: &Given) -> Result<SimServerOptions, String> {
    let brand = on_a_wire(brand(given)?);
    let listen = match (given.text("tcp"), given.text("port-link")) {
        (Some(_), Some(_)) => return Err("--tcp and --port-link exclude each other".to_owned()),
        (Some(address), None) => ListenAddr::Tcp(address.to_owned()),
        (None, link) => ListenAddr::Terminal { link: link.map(PathBuf::from) },
    };
    let rules = faults::parse(given.text("fault").unwrap_or_default());
    Ok(SimServerOptions {
        brand,
        addresses: addresses(given, brand)?,
        seed: seed(given)?,
        speed: speed(given)?,
        pacing: pacing(given)?,
        faults: Faults::new(rules.map_err(|error| format!("--fault: {error}"))?),
        listen,
    })
}

fn addresses(given: &Given, brand: &SimBrand) -> Result<Vec<u8>, String> {
    let (first, last) = (*brand.addresses.start(), *brand.addresses.end());
    let Some(listed) = given.list("address") else {
        return Ok(vec![if brand.addresses.contains(&1) { 1 } else { first }]);
    };
    let address = |text: &String| text.parse().ok().filter(|it| brand.addresses.contains(it));
    let wrong = |text| format!("address {text} is not from {first} to {last}");
    listed.iter().map(|text| address(text).ok_or_else(|| wrong(text))).collect()
}

/// The rate that answers keep to; `None`: as fast as can be.
fn pacing(given: &Given) -> Result<Option<u32>, String> {
    let rate = given.value("baud-pacing", "a baud rate", |text| text.parse().ok())?;
    Ok(rate.or(given.has("baud-pacing").then_some(BAUD)))
}

/// The plain `jk` is the stream that a board sends by Bluetooth, which no reader expects on a wire.
fn on_a_wire(brand: &'static SimBrand) -> &'static SimBrand {
    if brand.name == sim::jk::BRAND.name { &sim::jk::TTL } else { brand }
}

/// Prints nothing but the port to stdout, so that a script can use it.
async fn run(options: SimServerOptions) -> u8 {
    let simulation = async {
        let stop = app::stop_on_signal()?;
        let server = serve::SimServer::open(&options).await?;
        println!("{}", server.port());
        server.serve(stop).await
    };
    match simulation.await {
        Ok(()) => FINE,
        Err(error) => {
            eprintln!("bms-reader: cannot simulate: {error}");
            FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::line::{self, Asked};
    use crate::cli::{COMMANDS, read};
    use crate::config;

    /// With what `--help` shows, and the type alone.
    #[tokio::test]
    async fn a_simulated_jk_is_read_as_jk() {
        let line = ["simulate", "--type", "jk", "--tcp", "127.0.0.1:0"];
        let asked = line::parse(COMMANDS, line.map(Into::into)).unwrap();
        let Asked::Command(given) = asked else { panic!("{asked:?}") };
        let options = options(&given).unwrap();
        let server = serve::SimServer::open(&options).await.unwrap();
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
        let board = read::read(&config.devices, None).await;
        let state = board.latest(&config.devices[0].profile.id).unwrap();
        assert!(state.snapshot.is_some(), "{:?}", state.attempt);
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
