//! Several batteries as one: a device whose readings are computed.
//!
//! The rule for a member that is missing: a value that stands for all members (sums, means, the
//! lowest cell, spreads) is absent, because the sum of the others is the sum of another battery;
//! `members_missing` says who it is. The same holds for a value that one of them does not report.
//! What remains are the alarms of those who answer, and the energy counters, which count what was
//! counted and stand still for a member while it is away.

use super::active_alarms::ActiveAlarm;
use super::energy::EnergyTotals;
use super::forecast::Forecast;
use super::profile::DeviceId;
use super::reading::{Identity, Pack, Parts, Reading};
use super::snapshot::{Activity, Derived, DeviceState, Snapshot};
use super::units::{
    CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts, MilliwattHours, Milliwatts,
    Uptime, divide_rounded,
};

/// How the members are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wiring {
    /// Side by side: one voltage, the currents add up.
    #[default]
    Parallel,
    /// One behind the other: one current, the voltages add up.
    Series,
}

impl Wiring {
    /// Every kind.
    pub const ALL: &[Wiring] = &[Wiring::Parallel, Wiring::Series];

    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Wiring::Parallel => "parallel",
            Wiring::Series => "series",
        }
    }
}

/// What only a bank has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BankSummary {
    /// Every member, in the order of the configuration.
    pub members: Vec<DeviceId>,
    /// Members that do not answer, in the order of the configuration.
    pub missing: Vec<DeviceId>,
    /// Name of the battery with the lowest cell.
    pub lowest_in: Option<String>,
    /// Name of the battery with the highest cell.
    pub highest_in: Option<String>,
    /// Between the highest and the lowest pack voltage.
    pub voltage_spread: Option<Millivolts>,
    /// Between the fullest and the emptiest battery.
    pub soc_spread: Option<CentiPercent>,
    /// Active alarms of the members that answer.
    pub alarms: Vec<ActiveAlarm>,
}

/// A member as the bank sees it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The newest that is known of it.
    pub state: &'a DeviceState,
    /// It answers, and what it said last is young enough.
    pub present: bool,
}

impl<'a> Member<'a> {
    /// What it said last, while that still holds.
    fn snapshot(&self) -> Option<&'a Snapshot> {
        self.state.snapshot.as_deref().filter(|_| self.present)
    }
}

/// A bank, with the past of its current.
#[derive(Debug, Clone, Default)]
pub struct Bank {
    wiring: Wiring,
    forecast: Forecast,
}

impl Bank {
    /// With its members connected like this.
    pub fn new(wiring: Wiring) -> Self {
        Bank { wiring, forecast: Forecast::default() }
    }

    /// All members as one battery. `at` is a moment of a clock that never jumps.
    pub fn combine(&mut self, members: &[Member<'_>], at: Uptime) -> (Reading, Derived) {
        let group = Group { wiring: self.wiring, members };
        let pack = group.pack();
        let id = |member: &Member<'_>| member.state.profile.id.clone();
        let missing = members.iter().filter(|member| member.snapshot().is_none());
        let lowest = group.extreme(|derived| derived.lowest_cell, |voltage| voltage.0);
        let highest = group.extreme(|derived| derived.highest_cell, |voltage| -voltage.0);
        let answering = || members.iter().filter(|member| member.snapshot().is_some());
        let whole = BankSummary {
            members: members.iter().map(id).collect(),
            missing: missing.map(id).collect(),
            lowest_in: lowest.as_ref().map(|it| it.0.clone()),
            highest_in: highest.as_ref().map(|it| it.0.clone()),
            voltage_spread: group.spread(|s| s.reading.pack.voltage.map(|it| it.0)).map(Millivolts),
            soc_spread: group.spread(|s| s.reading.pack.soc.map(|it| it.0)).map(CentiPercent),
            alarms: answering().flat_map(|member| member.state.active_alarms()).collect(),
        };
        let counted = members.iter().filter_map(|member| member.state.snapshot.as_ref());
        let derived = Derived {
            power: pack.power,
            lowest_cell: lowest.map(|it| it.1),
            highest_cell: highest.map(|it| it.1),
            min_temp: group.every(|s| s.derived.min_temp).and_then(|list| list.into_iter().min()),
            max_temp: group.every(|s| s.derived.max_temp).and_then(|list| list.into_iter().max()),
            avg_temp: group.mean(|s| s.derived.avg_temp.map(|it| it.0)).map(DeciCelsius),
            activity: pack.current.map(Activity::of),
            problem: group.problem(&whole),
            energy_since_start: counted
                .fold(EnergyTotals::default(), |sum, it| sum + it.derived.energy_since_start),
            times: self.forecast.look(at, &pack),
            bank: Some(Box::new(whole)),
            ..Derived::default()
        };
        let wiring = self.wiring.name();
        let model = format!("{} batteries in {wiring}", members.len());
        let reading = Reading {
            identity: Identity { model: Some(model), ..Identity::default() },
            pack,
            received: Parts { cell_info: answering().next().is_some(), ..Parts::default() },
            ..Reading::default()
        };
        (reading, derived)
    }
}

/// The members at one moment.
struct Group<'a> {
    wiring: Wiring,
    members: &'a [Member<'a>],
}

impl Group<'_> {
    /// The value of each member; `None` as soon as one member is missing or does not tell it.
    fn every<T>(&self, get: impl Fn(&Snapshot) -> Option<T>) -> Option<Vec<T>> {
        let list: Option<Vec<T>> =
            self.members.iter().map(|member| get(member.snapshot()?)).collect();
        list.filter(|list| !list.is_empty())
    }

    fn sum(&self, get: impl Fn(&Snapshot) -> Option<i64>) -> Option<i64> {
        self.every(get)?.into_iter().try_fold(0i64, i64::checked_add)
    }

    fn mean(&self, get: impl Fn(&Snapshot) -> Option<i32>) -> Option<i32> {
        let list = self.every(get)?;
        let count = i64::try_from(list.len()).ok()?;
        i32::try_from(divide_rounded(list.into_iter().map(i64::from).sum(), count)).ok()
    }

    fn spread(&self, get: impl Fn(&Snapshot) -> Option<i32>) -> Option<i32> {
        let list = self.every(get)?;
        list.iter().max()?.checked_sub(*list.iter().min()?)
    }

    fn pack(&self) -> Pack {
        let voltage = |s: &Snapshot| s.reading.pack.voltage.map(|it| it.0);
        let current = |s: &Snapshot| s.reading.pack.current.map(|it| it.0);
        let added = |get: &dyn Fn(&Snapshot) -> Option<i32>| {
            i32::try_from(self.sum(|s| get(s).map(i64::from))?).ok()
        };
        let (voltage, current) = match self.wiring {
            Wiring::Parallel => (self.mean(voltage), added(&current)),
            Wiring::Series => (added(&voltage), self.mean(current)),
        };
        Pack {
            voltage: voltage.map(Millivolts),
            current: current.map(Milliamps),
            power: self.sum(|s| s.derived.power.map(|it| it.0)).map(Milliwatts),
            soc: self.share(|pack| pack.soc),
            soh: self.share(|pack| pack.soh),
            remaining: self.charge(|pack| pack.remaining),
            full: self.charge(|pack| pack.full),
            design: self.charge(|pack| pack.design),
            remaining_energy: self
                .sum(|s| s.reading.pack.remaining_energy.map(|it| it.0))
                .map(MilliwattHours),
            ..Pack::default()
        }
    }

    /// Side by side charges add up; in a row the one with the least ends it for all.
    fn charge(&self, get: impl Fn(&Pack) -> Option<MilliampHours>) -> Option<MilliampHours> {
        let get = |s: &Snapshot| get(&s.reading.pack).map(|it| it.0);
        match self.wiring {
            Wiring::Parallel => self.sum(get).map(MilliampHours),
            Wiring::Series => self.every(get)?.into_iter().min().map(MilliampHours),
        }
    }

    /// Side by side a share counts as much as its battery holds; in a row the lowest decides.
    fn share(&self, get: impl Fn(&Pack) -> Option<CentiPercent>) -> Option<CentiPercent> {
        if self.wiring == Wiring::Series {
            return self.every(|s| get(&s.reading.pack))?.into_iter().min();
        }
        let parts = self.every(|s| {
            let pack = &s.reading.pack;
            let capacity = pack.full.or(pack.design)?;
            Some((i128::from(get(pack)?.0), i128::from(capacity.0)))
        })?;
        let capacity: i128 = parts.iter().map(|(_, capacity)| capacity).sum();
        let charge: i128 = parts.iter().map(|(share, capacity)| share * capacity).sum();
        let mean = (charge + capacity / 2).checked_div(capacity.max(0))?;
        i32::try_from(mean).ok().map(CentiPercent)
    }

    /// The cell for which `rank` is least, with the name of its battery.
    fn extreme(
        &self,
        get: impl Fn(&Derived) -> Option<(usize, Millivolts)>,
        rank: impl Fn(Millivolts) -> i32,
    ) -> Option<(String, (usize, Millivolts))> {
        let cells = self.every(|s| get(&s.derived))?;
        let named = self.members.iter().map(|member| &member.state.profile.name).zip(cells);
        named.min_by_key(|(_, cell)| rank(cell.1)).map(|(name, cell)| (name.clone(), cell))
    }

    /// One member with a problem is a problem; "none" needs the word of all.
    fn problem(&self, whole: &BankSummary) -> Option<bool> {
        let told = self.members.iter().filter_map(|member| member.snapshot());
        if !whole.alarms.is_empty() || told.into_iter().any(|s| s.derived.problem == Some(true)) {
            return Some(true);
        }
        self.every(|s| s.derived.problem).map(|_| false)
    }
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
