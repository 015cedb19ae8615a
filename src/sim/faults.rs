//! Faults of a simulated bus.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rng::Rng;
use crate::model::Alarm;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The battery does not reply; noise, echo and foreign replies still occur.
    Silence,
    /// Random bytes before and after the reply.
    Noise,
    /// A wrong checksum.
    Checksum,
    /// The reply is cut off.
    Cut,
    /// The request is returned before the reply, as with some half-duplex adapters.
    Echo,
    /// A reply from another address precedes the right one.
    Foreign,
    /// The battery rejects the request with this code.
    Refuse(u8),
    /// The battery reports this alarm.
    Alarm(Alarm),
    /// One cell is worn out: under load its voltage falls, and while charging it rises, until alarms
    /// start.
    WeakCell,
    /// The battery accepts switch commands, but its switches do not change.
    Stuck,
    /// The battery has another number of cells.
    Cells(usize),
    /// The stack has another number of modules.
    Modules(usize),
    /// The console rejects every log-in.
    Login,
    /// The console rejects `tbar`.
    Tbar,
    /// The console logs out before every command.
    Logout,
}

/// The faults without a value, by name.
const WITHOUT_VALUE: &[(&str, Fault)] = &[
    ("silence", Fault::Silence),
    ("noise", Fault::Noise),
    ("checksum", Fault::Checksum),
    ("cut", Fault::Cut),
    ("echo", Fault::Echo),
    ("foreign", Fault::Foreign),
    ("login", Fault::Login),
    ("tbar", Fault::Tbar),
    ("logout", Fault::Logout),
    ("weak_cell", Fault::WeakCell),
    ("stuck", Fault::Stuck),
];

impl Fault {
    /// Conditions change the state of the battery; the other faults change its replies.
    fn is_condition(self) -> bool {
        matches!(
            self,
            Fault::Alarm(_)
                | Fault::WeakCell
                | Fault::Stuck
                | Fault::Cells(_)
                | Fault::Modules(_)
                | Fault::Login
                | Fault::Tbar
                | Fault::Logout
        )
    }
}

/// How often a fault occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frequency {
    Always,
    Probability(u32),
    /// This many times from now on.
    Count(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub fault: Fault,
    pub frequency: Frequency,
    /// Limits the fault to one battery.
    pub address: Option<u8>,
}

impl Rule {
    pub fn always(fault: Fault) -> Self {
        Rule { fault, frequency: Frequency::Always, address: None }
    }

    pub fn next(fault: Fault, times: u32) -> Self {
        Rule { fault, frequency: Frequency::Count(times), address: None }
    }

    /// Limits the fault to the battery with this address.
    pub fn at(self, address: u8) -> Self {
        Rule { address: Some(address), ..self }
    }

    fn applies_to(&self, address: u8) -> bool {
        self.address.is_none_or(|only| only == address)
    }

    /// Whether the fault occurs now; decrements a count.
    fn triggers(&mut self, rng: &mut Rng) -> bool {
        match &mut self.frequency {
            Frequency::Always => true,
            Frequency::Probability(millionths) => rng.below(1_000_000) < *millionths as usize,
            Frequency::Count(0) => false,
            Frequency::Count(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// The faults of a bus. Clones share them, so they can be switched while the bus is in use.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

impl Faults {
    pub fn new(rules: Vec<Rule>) -> Self {
        Faults(Arc::new(Mutex::new(rules)))
    }

    pub fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    pub fn set(&self, rules: Vec<Rule>) {
        *self.rules() = rules;
    }

    pub fn clear(&self) {
        self.rules().clear();
    }

    /// The conditions of this battery.
    pub fn conditions(&self, address: u8) -> Vec<Fault> {
        let rules = self.rules();
        let conditions =
            rules.iter().filter(|rule| rule.fault.is_condition() && rule.applies_to(address));
        conditions.map(|rule| rule.fault).collect()
    }

    /// The faults of the next reply of this battery.
    pub(super) fn faults_for_reply(&self, address: u8, rng: &mut Rng) -> Vec<Fault> {
        self.triggered(rng, |rule| rule.applies_to(address))
    }

    /// The faults of a request without a reply.
    pub(super) fn faults_for_line(&self, rng: &mut Rng) -> Vec<Fault> {
        let affects_line = |fault| matches!(fault, Fault::Noise | Fault::Echo);
        self.triggered(rng, |rule| rule.address.is_none() && affects_line(rule.fault))
    }

    fn triggered(&self, rng: &mut Rng, applies_to: impl Fn(&Rule) -> bool) -> Vec<Fault> {
        let mut rules = self.rules();
        let active = rules
            .iter_mut()
            .filter(|rule| !rule.fault.is_condition() && applies_to(rule))
            .filter_map(|rule| rule.triggers(rng).then_some(rule.fault))
            .collect();
        rules.retain(|rule| rule.frequency != Frequency::Count(0));
        active
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        // Each change is a single operation, so the list is valid even after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For help and error messages.
pub const SYNTAX: &str = "a comma list of silence, noise, checksum, cut, echo, foreign \
    (each with =PROBABILITY from 0 to 1 or *COUNT), rtn=CODE in hex (with *COUNT), alarm=NAME, \
    weak_cell, stuck, cells=1..32, modules=1..8, login, tbar, logout; @ADDRESS at the end limits one to that battery";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}; allowed: {SYNTAX}; example: silence@2,noise=0.2,cut*3")]
pub struct FaultError {
    text: String,
    reason: &'static str,
}

/// Parses a comma list such as `silence@2,noise=0.2,cut*3,alarm=cell_overvoltage`.
pub fn parse(list: &str) -> Result<Vec<Rule>, FaultError> {
    let parse = |text: &str| rule(text).map_err(|reason| FaultError { text: text.into(), reason });
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(parse).collect()
}

fn rule(text: &str) -> Result<Rule, &'static str> {
    let (text, address) = split(text, '@');
    let (text, times) = split(text, '*');
    let (name, value) = split(text, '=');
    let address = number(address, "the address is not a number up to 255")?;
    let times = number(times, "the count is not a number")?;
    let (fault, probability) = fault(name, value)?;
    let frequency = match (times, probability) {
        (Some(_), _) if fault.is_condition() => return Err("a condition cannot have a count"),
        (Some(_), Some(_)) => return Err("either a probability or a count"),
        (Some(times), None) => Frequency::Count(times),
        (None, Some(probability)) => Frequency::Probability(millionths(probability)?),
        (None, None) => Frequency::Always,
    };
    Ok(Rule { fault, frequency, address })
}

/// Parses the fault, and returns the probability if its value is one.
fn fault<'a>(name: &str, value: Option<&'a str>) -> Result<(Fault, Option<&'a str>), &'static str> {
    if let Some((_, fault)) = WITHOUT_VALUE.iter().find(|(known, _)| *known == name) {
        return Ok((*fault, value.filter(|_| !fault.is_condition())));
    }
    let required = |missing: &'static str| value.ok_or(missing);
    let count = |max: usize, missing, invalid| {
        required(missing)?.parse().ok().filter(|count| (1..=max).contains(count)).ok_or(invalid)
    };
    let fault = match name {
        "rtn" => {
            let code = required("which code?")?;
            Fault::Refuse(u8::from_str_radix(code, 16).map_err(|_| "the code is not a hex number")?)
        }
        "alarm" => {
            let name = required("which alarm?")?;
            Fault::Alarm(Alarm::from_name(name).ok_or("no alarm has this name")?)
        }
        "cells" => {
            Fault::Cells(count(32, "how many cells?", "the number of cells is not 1 to 32")?)
        }
        "modules" => {
            Fault::Modules(count(8, "how many modules?", "the number of modules is not 1 to 8")?)
        }
        _ => return Err("no fault has this name"),
    };
    Ok((fault, None))
}

fn millionths(probability: &str) -> Result<u32, &'static str> {
    match probability.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok((p * 1e6).round() as u32),
        _ => Err("the probability is not 0 to 1"),
    }
}

fn number<T: FromStr>(
    text: Option<&str>,
    invalid: &'static str,
) -> Result<Option<T>, &'static str> {
    text.map(|text| text.parse().map_err(|_| invalid)).transpose()
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(head, tail)| (head.trim(), Some(tail.trim())))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Refuse(code) => write!(f, "rtn={code:02X}")?,
            Fault::Alarm(alarm) => write!(f, "alarm={}", alarm.name())?,
            Fault::Cells(count) => write!(f, "cells={count}")?,
            Fault::Modules(count) => write!(f, "modules={count}")?,
            fault => {
                let name = WITHOUT_VALUE.iter().find(|(_, known)| *known == fault);
                f.write_str(name.map_or("", |(name, _)| *name))?;
            }
        }
        match self.frequency {
            Frequency::Always => {}
            Frequency::Probability(millionths) => write!(f, "={}", f64::from(millionths) / 1e6)?,
            Frequency::Count(times) => write!(f, "*{times}")?,
        }
        self.address.map_or(Ok(()), |address| write!(f, "@{address}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed_and_formatted() {
        let list = "silence,noise=0.2,checksum*3@2,cut@15,echo,foreign=1,rtn=0A*1,\
                    alarm=cell_overvoltage@1,weak_cell@2,stuck,cells=15,modules=8,login,tbar,logout@1";
        let rules = parse(list).unwrap();
        assert_eq!(rules[1].frequency, Frequency::Probability(200_000));
        assert_eq!(rules[2], Rule::next(Fault::Checksum, 3).at(2));
        assert_eq!(rules[7], Rule::always(Fault::Alarm(Alarm::CellOvervoltage)).at(1));
        let written: Vec<_> = rules.iter().map(Rule::to_string).collect();
        assert_eq!(written.join(","), list);
        assert_eq!(parse(" cut * 3 @ 2 , ").unwrap(), [Rule::next(Fault::Cut, 3).at(2)]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn invalid_text_is_reported_with_the_reason() {
        let cases = [
            ("smoke", "no fault has this name"),
            ("noise=1.5", "the probability is not 0 to 1"),
            ("noise=NaN", "the probability is not 0 to 1"),
            ("cut*many", "the count is not a number"),
            ("cut=0.5*2", "either a probability or a count"),
            ("silence@256", "the address is not a number up to 255"),
            ("alarm", "which alarm?"),
            ("alarm=rain", "no alarm has this name"),
            ("alarm=fuse_blown*2", "a condition cannot have a count"),
            ("cells=0", "the number of cells is not 1 to 32"),
            ("cells=33", "the number of cells is not 1 to 32"),
            ("modules=9", "the number of modules is not 1 to 8"),
            ("rtn=xyz", "the code is not a hex number"),
        ];
        for (text, reason) in cases {
            let error = parse(&format!("echo,{text}")).unwrap_err();
            assert_eq!(error, FaultError { text: text.into(), reason });
            let shown = error.to_string();
            assert!(shown.contains(text) && shown.contains("example"), "{shown}");
        }
    }

    #[test]
    fn counts_run_out_and_probabilities_hold() {
        let mut rng = Rng::new(1);
        let faults = Faults::new(parse("cut*2,noise=0.25").unwrap());
        let active: Vec<_> = (0..4000).flat_map(|_| faults.faults_for_reply(1, &mut rng)).collect();
        let count = |fault| active.iter().filter(|active| **active == fault).count();
        assert_eq!(count(Fault::Cut), 2);
        assert!((900..1100).contains(&count(Fault::Noise)), "{}", count(Fault::Noise));
    }

    #[test]
    fn clones_share_their_faults() {
        let mut rng = Rng::new(1);
        let faults = Faults::default();
        let switch = faults.clone();
        switch.add(Rule::always(Fault::Silence).at(2));
        assert_eq!(faults.faults_for_reply(1, &mut rng), []);
        assert_eq!(faults.faults_for_reply(2, &mut rng), [Fault::Silence]);
        switch.set(parse("cells=8,echo").unwrap());
        assert_eq!(faults.conditions(2), [Fault::Cells(8)]);
        assert_eq!(faults.faults_for_reply(2, &mut rng), [Fault::Echo]);
        switch.clear();
        assert_eq!(faults.faults_for_reply(2, &mut rng), []);
    }
}
