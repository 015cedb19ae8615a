//! Several batteries as one: a device whose readings are computed.
//!
//! A value of the whole bank (a sum, a mean, the lowest cell, a spread) needs the value of every
//! member. When one is missing, the value is absent, because the sum of the others is that of
//! another battery; `members_missing` lists it. Alarms of the other members and the energy totals
//! remain; the totals of a missing member do not grow.

use super::derived::{BankSummary, Derived};
use super::device_state::DeviceState;
use super::energy::EnergyTotals;
use super::forecast::Forecast;
use super::named_enum::named_enum;
use super::reading::{Activity, ChargeLimits, Identity, Pack, Parts, Reading};
use super::snapshot::Snapshot;
use super::units::{CentiPercent, MilliampHours, Milliamps, Millivolts, Unit, Uptime, mean};

named_enum! {
    /// How the members are connected.
    #[derive(Default)]
    Wiring {
        /// One voltage, the currents add up.
        #[default]
        Parallel = "parallel",
        /// One current, the voltages add up.
        Series = "series",
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    pub state: &'a DeviceState,
    /// The last reading is recent enough.
    pub present: bool,
}

impl<'a> Member<'a> {
    /// The last reading of a present member.
    fn snapshot(&self) -> Option<&'a Snapshot> {
        self.state.snapshot.as_deref().filter(|_| self.present)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Bank {
    wiring: Wiring,
    forecast: Forecast,
}

impl Bank {
    pub fn new(wiring: Wiring) -> Self {
        Bank { wiring, forecast: Forecast::default() }
    }

    /// All members as one battery.
    pub fn combine(&mut self, members: &[Member<'_>], at: Uptime) -> (Reading, Derived) {
        let group = Group { wiring: self.wiring, members };
        let pack = group.pack();
        let id = |member: &Member<'_>| member.state.profile.id.clone();
        let (present, missing): (Vec<_>, Vec<_>) =
            members.iter().partition(|member| member.snapshot().is_some());
        let lowest = group.extreme(|derived| derived.lowest_cell, |voltage| voltage.0);
        let highest = group.extreme(|derived| derived.highest_cell, |voltage| -voltage.0);
        let summary = BankSummary {
            members: members.iter().map(id).collect(),
            missing: missing.into_iter().map(id).collect(),
            lowest_in: lowest.as_ref().map(|(name, _)| name.clone()),
            highest_in: highest.as_ref().map(|(name, _)| name.clone()),
            voltage_spread: group.spread(|s| s.reading.pack.voltage),
            soc_spread: group.spread(|s| s.reading.pack.soc),
            alarms: present.iter().flat_map(|member| member.state.active_alarms()).collect(),
        };
        let snapshots = members.iter().filter_map(|member| member.state.snapshot.as_ref());
        let derived = Derived {
            power: pack.power,
            lowest_cell: lowest.map(|(_, cell)| cell),
            highest_cell: highest.map(|(_, cell)| cell),
            min_temp: group.all(|s| s.derived.min_temp).and_then(|list| list.into_iter().min()),
            max_temp: group.all(|s| s.derived.max_temp).and_then(|list| list.into_iter().max()),
            avg_temp: group.mean(|s| s.derived.avg_temp),
            activity: pack.current.map(Activity::of),
            problem: group.problem(&summary),
            energy_since_start: snapshots
                .map(|snapshot| snapshot.derived.energy_since_start)
                .fold(EnergyTotals::default(), |sum, totals| sum + totals),
            times: self.forecast.update(at, &pack),
            bank: Some(Box::new(summary)),
            ..Derived::default()
        };
        let model = format!("{} batteries in {}", members.len(), self.wiring.name());
        let reading = Reading {
            identity: Identity { model: Some(model), ..Identity::default() }.into(),
            pack,
            limits: group.limits(),
            received: Parts { cell_info: !present.is_empty(), ..Parts::default() },
            ..Reading::default()
        };
        (reading, derived)
    }
}

struct Group<'a> {
    wiring: Wiring,
    members: &'a [Member<'a>],
}

impl Group<'_> {
    /// `None` when one member is missing or does not report the value.
    fn all<T>(&self, get: impl Fn(&Snapshot) -> Option<T>) -> Option<Vec<T>> {
        let values: Option<Vec<T>> =
            self.members.iter().map(|member| get(member.snapshot()?)).collect();
        values.filter(|values| !values.is_empty())
    }

    fn sum<T: Unit>(&self, get: impl Fn(&Snapshot) -> Option<T>) -> Option<T> {
        let mut values = self.all(get)?.into_iter().map(Unit::to_i64);
        T::from_i64(values.try_fold(0, i64::checked_add)?)
    }

    fn mean<T: Unit>(&self, get: impl Fn(&Snapshot) -> Option<T>) -> Option<T> {
        mean(&self.all(get)?)
    }

    fn spread<T: Unit>(&self, get: impl Fn(&Snapshot) -> Option<T>) -> Option<T> {
        let values = self.all(get)?;
        T::from_i64(values.iter().max()?.to_i64() - values.iter().min()?.to_i64())
    }

    fn pack(&self) -> Pack {
        let (voltage, current) =
            (|s: &Snapshot| s.reading.pack.voltage, |s: &Snapshot| s.reading.pack.current);
        let (voltage, current) = match self.wiring {
            Wiring::Parallel => (self.mean(voltage), self.sum(current)),
            Wiring::Series => (self.sum(voltage), self.mean(current)),
        };
        Pack {
            voltage,
            current,
            power: self.sum(|s| s.derived.power),
            soc: self.share(|pack| pack.soc),
            soh: self.share(|pack| pack.soh),
            remaining: self.charge(|pack| pack.remaining),
            full: self.charge(|pack| pack.full),
            design: self.charge(|pack| pack.design),
            remaining_energy: self.sum(|s| s.reading.pack.remaining_energy),
            ..Pack::default()
        }
    }

    /// In parallel, the currents add up and the strictest voltage applies; in series, the other way round.
    /// A battery that takes no charge adds none.
    fn limits(&self) -> ChargeLimits {
        let unless_off = |on, limit| if on == Some(false) { Some(Milliamps(0)) } else { limit };
        let charge =
            |s: &Snapshot| unless_off(s.reading.switches.charging, s.reading.limits.charge_current);
        let discharge = |s: &Snapshot| {
            unless_off(s.reading.switches.discharging, s.reading.limits.discharge_current)
        };
        let (highest, lowest) = (
            |s: &Snapshot| s.reading.limits.charge_voltage,
            |s: &Snapshot| s.reading.limits.discharge_voltage,
        );
        let limits = ChargeLimits::default();
        match self.wiring {
            Wiring::Parallel => ChargeLimits {
                charge_current: self.sum(charge),
                discharge_current: self.sum(discharge),
                charge_voltage: self.all(highest).and_then(|all| all.into_iter().min()),
                discharge_voltage: self.all(lowest).and_then(|all| all.into_iter().max()),
                ..limits
            },
            Wiring::Series => ChargeLimits {
                charge_current: self.all(charge).and_then(|all| all.into_iter().min()),
                // Discharge currents are negative.
                discharge_current: self.all(discharge).and_then(|all| all.into_iter().max()),
                charge_voltage: self.sum(highest),
                discharge_voltage: self.sum(lowest),
                ..limits
            },
        }
    }

    /// In parallel, charges add up; in series, the battery with the least ends it for all.
    fn charge(&self, get: impl Fn(&Pack) -> Option<MilliampHours>) -> Option<MilliampHours> {
        match self.wiring {
            Wiring::Parallel => self.sum(|s| get(&s.reading.pack)),
            Wiring::Series => self.all(|s| get(&s.reading.pack))?.into_iter().min(),
        }
    }

    /// In parallel, the mean weighted with the capacities; in series, the lowest share.
    fn share(&self, get: impl Fn(&Pack) -> Option<CentiPercent>) -> Option<CentiPercent> {
        if self.wiring == Wiring::Series {
            return self.all(|s| get(&s.reading.pack))?.into_iter().min();
        }
        let parts = self.all(|s| {
            let pack = &s.reading.pack;
            let capacity = pack.full.or(pack.design)?;
            Some((i128::from(get(pack)?.0), i128::from(capacity.0)))
        })?;
        let capacity: i128 = parts.iter().map(|(_, capacity)| capacity).sum();
        let charge: i128 = parts.iter().map(|(share, capacity)| share * capacity).sum();
        let mean = (charge + capacity / 2).checked_div(capacity.max(0))?;
        i32::try_from(mean).ok().map(CentiPercent)
    }

    /// The cell with the lowest rank, and the name of its battery.
    fn extreme(
        &self,
        get: impl Fn(&Derived) -> Option<(usize, Millivolts)>,
        rank: impl Fn(Millivolts) -> i32,
    ) -> Option<(String, (usize, Millivolts))> {
        let cells = self.all(|s| get(&s.derived))?;
        let named = self.members.iter().map(|member| &member.state.profile.name).zip(cells);
        named.min_by_key(|(_, cell)| rank(cell.1)).map(|(name, cell)| (name.clone(), cell))
    }

    /// A problem of one member is one of the bank; "no problem" needs every member.
    fn problem(&self, summary: &BankSummary) -> Option<bool> {
        let mut present = self.members.iter().filter_map(Member::snapshot);
        if !summary.alarms.is_empty() || present.any(|s| s.derived.problem == Some(true)) {
            return Some(true);
        }
        self.all(|s| s.derived.problem).map(|_| false)
    }
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
