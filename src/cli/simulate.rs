//! `simulate`: a simulated battery on a pseudo-terminal or a TCP port.

use std::path::PathBuf;

use serde_json::Value;

use crate::app;
use crate::sim::serve::{self, Place, SimulateOptions};
use crate::sim::{self, Battery, Faults, Make, faults, gatt};

use super::{FAILED, FINE, MISCONFIGURED};

/// The rate that a line is paced at when nothing else is said.
const BAUD: u32 = 9600;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The make
    #[arg(long = "type", value_name = "TYPE", default_value = "daren")]
    make: String,
    /// Addresses on the bus, one battery each; left out, 1 or the first one that the make has
    #[arg(long, value_name = "N", value_delimiter = ',')]
    address: Vec<u8>,
    /// Make this symbolic link to the pseudo-terminal
    #[arg(long, value_name = "PATH", conflicts_with = "tcp")]
    port_link: Option<PathBuf>,
    /// Listen on this TCP port instead; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// Answer no faster than a line of this baud rate could (9600 without a number)
    #[arg(long, value_name = "BAUD", num_args = 0..=1, default_missing_value = "9600")]
    baud_pacing: Option<u32>,
    /// What goes wrong: silence, noise, checksum, cut, echo, foreign, rtn=05, alarm=NAME,
    /// cells=N, and at consoles modules=N, login, tbar, logout; a chance as in noise=0.2, an address as in silence@2; several between commas
    #[arg(long, value_name = "LIST", default_value = "")]
    fault: String,
    /// Simulated seconds in a second
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// The same seed gives the same batteries
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print what the Bluetooth module of a battery at this address says to each question, as JSON
    /// for programs that play radios, and end
    #[arg(long, value_name = "MAC", hide = true, conflicts_with_all = ["port_link", "tcp"])]
    gatt_spec: Option<String>,
}

impl Arguments {
    fn make(&self) -> Result<&'static Make, String> {
        sim::find(&self.make).ok_or_else(|| {
            let known: Vec<_> = sim::MAKES.iter().map(|make| make.name).collect();
            format!("no simulated type named {}; known are: {}", self.make, known.join(", "))
        })
    }

    /// A battery as the seed makes it, at its first moment.
    fn spec(&self, address: &str) -> Result<Value, String> {
        let state = Battery::living(self.seed).state(0.0);
        gatt::device(self.make()?, address, state).map_err(|error| error.to_string())
    }

    fn options(self) -> Result<SimulateOptions, String> {
        let make = on_a_wire(self.make()?);
        let usual = if make.addresses.contains(&1) { 1 } else { *make.addresses.start() };
        let addresses = if self.address.is_empty() { vec![usual] } else { self.address.clone() };
        if let Some(address) = addresses.iter().find(|it| !make.addresses.contains(it)) {
            let (first, last) = (make.addresses.start(), make.addresses.end());
            return Err(format!("address {address} is not from {first} to {last}"));
        }
        if !(self.speed.is_finite() && self.speed >= 0.0) {
            return Err(format!("--speed {} must be 0 or more", self.speed));
        }
        let rules = faults::parse(&self.fault).map_err(|error| format!("--fault: {error}"))?;
        let terminal = Place::Terminal { link: self.port_link };
        Ok(SimulateOptions {
            make,
            addresses,
            seed: self.seed,
            speed: self.speed,
            pacing: self.baud_pacing.map(|baud| if baud == 0 { BAUD } else { baud }),
            faults: Faults::new(rules),
            place: self.tcp.map_or(terminal, Place::Tcp),
        })
    }
}

/// The plain `jk` is the stream that a board sends by Bluetooth, which no reader expects on a wire.
fn on_a_wire(make: &'static Make) -> &'static Make {
    if make.name == sim::jk::MAKE.name { &sim::jk::TTL } else { make }
}

/// The place is the only thing on stdout, so that a script can take it from there.
pub(super) async fn run(arguments: Arguments) -> u8 {
    if let Some(address) = &arguments.gatt_spec {
        return print(arguments.spec(address));
    }
    let options = match arguments.options() {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("bms-reader: {complaint}");
            return MISCONFIGURED;
        }
    };
    let simulation = async {
        let stop = app::stop_on_signal()?;
        let stand = serve::Stand::open(&options).await?;
        println!("{}", stand.place());
        stand.serve(stop).await
    };
    match simulation.await {
        Ok(()) => FINE,
        Err(error) => {
            eprintln!("bms-reader: cannot simulate: {error}");
            FAILED
        }
    }
}

fn print(spec: Result<Value, String>) -> u8 {
    match spec {
        Ok(spec) => {
            println!("{spec}");
            FINE
        }
        Err(complaint) => {
            eprintln!("bms-reader: {complaint}");
            MISCONFIGURED
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::read;
    use crate::config;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// With what `--help` shows, and the type alone.
    #[tokio::test]
    async fn a_simulated_jk_is_read_as_jk() {
        let line = ["simulate", "--type", "jk", "--tcp", "127.0.0.1:0"];
        let options = Line::try_parse_from(line).unwrap().arguments.options().unwrap();
        let stand = serve::Stand::open(&options).await.unwrap();
        let place = stand.place();
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(stand.serve(stop.clone()));
        let environment = [
            ("BMS_OPTIONS_FILE", "/nonexistent/options.json"),
            ("BMS_TYPE", "jk"),
            ("BMS_PORT", &place),
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
