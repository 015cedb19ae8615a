//! The past of simulated batteries: what they would have reported in the hours before the start.

use std::time::Duration;

use super::App;
use super::lines::{SimOptions, simulated_buses};
use crate::board::Board;
use crate::config::{self, Config};
use crate::history::History;
use crate::model::bank::{Bank, Member};
use crate::model::derived_state::DerivedState;
use crate::model::units::millis;
use crate::model::{
    DeviceId, DeviceState, Energy, EnergySource, EnergyTotals, Millis, MilliwattHours, Profile,
    Reading, Uptime,
};
use crate::poll::LineMember;
use crate::protocol::Driver;
use crate::sim::direct::DirectBus;
use crate::sim::load_profile;

/// From the middle of a block of constant load to that of the next one, so that the energy is right.
const STEP: Duration = Duration::from_secs(load_profile::BLOCK as u64);
/// Charts of the last hours have more points.
const RECENT: Duration = Duration::from_secs(2 * 3600);
const RECENT_STEP: Duration = Duration::from_secs(60);
/// A battery returns less energy than it is charged with.
const CHARGED_PER_DISCHARGED: (u64, u64) = (104, 100);

/// The batteries of the demo, and where their simulated readings of the last days are recorded.
pub(crate) struct Past {
    lines: Vec<(DirectBus, Vec<PastBattery>)>,
    banks: Vec<PastBank>,
    board: Board,
    history: History,
    /// Simulated time of `now`, in seconds.
    start: f64,
    now: Millis,
}

impl Past {
    /// The past of all simulated batteries and their banks, up to `now`.
    pub fn new(app: &App, config: &Config, sim: &SimOptions, now: Millis) -> Self {
        let battery = |member: LineMember| {
            let driver = member.driver?.driver(&member.options);
            let profile = app.board.latest(&member.id)?.profile;
            Some(PastBattery::new(Profile::clone(&profile), driver))
        };
        let lines = simulated_buses(&config.devices).into_iter().map(|(bus, members)| {
            (DirectBus::new(bus), members.into_iter().filter_map(battery).collect())
        });
        Past {
            lines: lines.collect(),
            banks: config.banks.iter().map(PastBank::new).collect(),
            board: app.board.clone(),
            history: app.history.clone(),
            start: sim.start,
            now,
        }
    }

    /// Fills the history, which must be empty, and sets the energy counters accordingly. Computes
    /// for a second or longer, depending on the machine.
    pub fn simulate(mut self) {
        for time in times(self.now, self.history.span) {
            self.read(time);
        }
        let batteries = self.lines.iter().flat_map(|(_, batteries)| batteries);
        let batteries = batteries.map(|battery| &battery.state);
        for state in batteries.chain(self.banks.iter().map(|bank| &bank.state)) {
            let energy = state.snapshot.as_ref().and_then(|snapshot| snapshot.derived.energy);
            self.board.restore(&state.profile.id, energy, EnergySource::File);
        }
    }

    fn read(&mut self, time: Millis) {
        // The past runs at the speed of the clock, whatever the speed of the simulation is.
        let seconds = self.start - Duration::from_millis(self.now.since(time)).as_secs_f64();
        for (bus, batteries) in &mut self.lines {
            for battery in batteries {
                battery.read(bus, seconds, time);
                self.history.add(&battery.state);
            }
        }
        let batteries = self.lines.iter().flat_map(|(_, batteries)| batteries);
        let states: Vec<_> = batteries.map(|battery| &battery.state).collect();
        for bank in &mut self.banks {
            bank.update(&states, time);
            self.history.add(&bank.state);
        }
    }
}

/// Times of the readings, oldest first.
fn times(now: Millis, span: Duration) -> impl Iterator<Item = Millis> {
    let step = move |time: &Millis| {
        let is_recent = now.since(*time) <= millis(RECENT);
        let step = if is_recent { RECENT_STEP } else { STEP };
        Some(Millis(time.0 + millis(step)))
    };
    std::iter::successors(Some(now.before(span)), step).take_while(move |time| *time < now)
}

struct PastBattery {
    state: DeviceState,
    driver: Box<dyn Driver>,
    derived: DerivedState,
}

impl PastBattery {
    fn new(profile: Profile, driver: Box<dyn Driver>) -> Self {
        let derived = DerivedState::default();
        PastBattery { state: DeviceState::new(profile), driver, derived }
    }

    fn read(&mut self, bus: &mut DirectBus, seconds: f64, time: Millis) {
        let Some(reading) = bus.read(self.driver.as_mut(), seconds) else { return };
        if self.state.energy.before_start.is_none() {
            self.state.restore(Some(lifetime_energy(&reading)), EnergySource::File);
        }
        let derived = self.derived.derive(&reading, Uptime(time.0), millis(STEP));
        self.state.accept((time, Uptime(time.0)), 0, reading, derived);
    }
}

/// The energy that fits the cycles of the battery.
fn lifetime_energy(reading: &Reading) -> EnergyTotals {
    let pack = &reading.pack;
    let capacity = pack.full.or(pack.design).zip(pack.voltage);
    let capacity = capacity.map_or(0, |(full, voltage)| full.0 * i64::from(voltage.0) / 1000);
    let discharged = i64::from(pack.cycles.unwrap_or_default()).saturating_mul(capacity);
    let discharged = Energy::of(MilliwattHours(discharged)).unwrap_or_default();
    let (charged, of) = CHARGED_PER_DISCHARGED;
    EnergyTotals { charged: Energy(discharged.0 / of * charged), discharged }
}

#[derive(Debug)]
struct PastBank {
    state: DeviceState,
    members: Vec<DeviceId>,
    bank: Bank,
}

impl PastBank {
    fn new(bank: &config::Bank) -> Self {
        PastBank {
            state: DeviceState::new(bank.profile.clone()),
            members: bank.members.clone(),
            bank: Bank::new(bank.wiring),
        }
    }

    fn update(&mut self, states: &[&DeviceState], time: Millis) {
        let is_member = |state: &&DeviceState| self.members.contains(&state.profile.id);
        let states: Vec<_> = states.iter().copied().filter(is_member).collect();
        let before = states.iter().filter_map(|state| state.energy.before_start);
        let before = before.fold(EnergyTotals::default(), |sum, energy| sum + energy);
        self.state.restore(Some(before), EnergySource::File);
        let members: Vec<_> =
            states.into_iter().map(|state| Member { state, present: true }).collect();
        let (reading, derived) = self.bank.combine(&members, Uptime(time.0));
        self.state.accept((time, Uptime(time.0)), 0, reading, derived);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::config;
    use crate::history::{Answer, Query};
    use crate::model::EntryKey;
    use tokio_util::sync::CancellationToken;

    const NOW: Millis = Millis(1_771_100_000_000);
    const DAYS: Duration = Duration::from_secs(48 * 3600);

    /// Three kinds of battery and a bank after two days.
    fn app() -> App {
        let devices = r#"[{"id": "daren", "type": "simulated", "slave_id": 1},
            {"id": "daren2", "type": "simulated", "slave_id": 2},
            {"id": "jk", "type": "simulated", "variant": "jk"},
            {"id": "stack", "type": "simulated", "variant": "pylontech-sc0500"}]"#;
        let environment = [
            ("BMS_OPTIONS_FILE", "/nonexistent/options.json"),
            ("DEVICES", devices),
            ("BANKS", r#"[{"id": "bank", "members": ["daren", "daren2"]}]"#),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config::load(environment.into()).unwrap();
        let sim = SimOptions { start: load_profile::time(9, 20 * 3600), ..SimOptions::default() };
        let app = App::build(&config, &sim, &CancellationToken::new());
        Past::new(&app, &config, &sim, NOW).simulate();
        app
    }

    fn series(app: &App, id: &str, key: &str) -> Vec<f64> {
        let query = Query {
            from: NOW.before(DAYS),
            to: NOW,
            step: Some(STEP),
            keys: EntryKey::parse(key).map(|key| vec![key]),
        };
        let Answer { columns, .. } =
            app.history.answer(&DeviceId::new(id).unwrap(), &query).unwrap();
        let (series, points) = &columns[0];
        let scale = 10_f64.powi(series.quantity().kind.decimals().into());
        points.iter().flatten().map(|point| point.mean as f64 / scale).collect()
    }

    #[tokio::test]
    async fn energy_agrees_with_the_state_of_charge() {
        let app = app();
        for (id, kilowatt_hours) in [("daren", 5.25), ("jk", 5.25), ("stack", 24.6), ("bank", 10.5)]
        {
            let change = |key| {
                let values = series(&app, id, key);
                values.last().unwrap() - values[0]
            };
            let stored = change("energy_charged") - change("energy_discharged");
            let expected = change("soc") / 100.0 * kilowatt_hours;
            let tolerance = kilowatt_hours * 0.05;
            assert!((stored - expected).abs() < tolerance, "{id}: {stored} kWh, {expected} kWh");
            assert!(change("energy_discharged") > kilowatt_hours / 2.0, "{id} was used");
            let total = *series(&app, id, "energy_discharged").last().unwrap();
            let board = app.board.latest(&DeviceId::new(id).unwrap()).unwrap();
            let counted = board.energy.before_start.unwrap().discharged.milliwatt_hours().0;
            assert!((counted as f64 / 1e6 - total).abs() < 0.2, "{id}: {counted} mWh, {total} kWh");
        }
    }

    #[tokio::test]
    async fn energy_agrees_with_the_cycles() {
        let app = app();
        let first = series(&app, "daren", "energy_discharged")[0];
        // 63 cycles of 100 Ah and 51.2 V, and those since the simulation began.
        assert!((63.0 * 5.1..75.0 * 5.3).contains(&first), "{first} kWh");
        let bank = series(&app, "bank", "energy_discharged")[0];
        assert!(bank > 1.9 * first, "{bank} kWh");
    }

    #[tokio::test]
    async fn charts_cover_two_days_with_day_and_night() {
        let app = app();
        for id in ["daren", "jk", "stack", "bank"] {
            let soc = series(&app, id, "soc");
            assert!(soc.len() >= 950, "{id}: {} points", soc.len());
            let (low, high) = soc
                .iter()
                .fold((100.0_f64, 0.0_f64), |(low, high), soc| (low.min(*soc), high.max(*soc)));
            assert!(low < 40.0 && high > 90.0, "{id}: {low} to {high} %");
            let power = series(&app, id, "power");
            assert!(power.iter().any(|watts| *watts > 300.0), "{id} charges");
            assert!(power.iter().any(|watts| *watts < -300.0), "{id} discharges");
        }
    }

    #[test]
    fn recent_readings_are_closer() {
        let all: Vec<_> = times(NOW, DAYS).collect();
        assert_eq!(all[0], NOW.before(DAYS));
        assert_eq!(all[1].since(all[0]), 180_000);
        let [.., before, last] = all[..] else { panic!("{} readings", all.len()) };
        assert_eq!((last.since(before), NOW.since(last)), (60_000, 60_000));
        assert!(all.is_sorted());
    }
}
