//! What goes wrong on a simulated bus, on request.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rng::Rng;
use crate::model::Alarm;

/// One way in which a bus or a battery misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The battery says nothing of its own. What others add (noise, echo, foreign) is still heard.
    Silence,
    /// Random bytes before and after the answer.
    Noise,
    /// The checksum does not fit.
    Checksum,
    /// The answer ends early.
    Cut,
    /// The question comes back before the answer, as some half-duplex adapters do.
    Echo,
    /// An answer from another address comes before the right one.
    Foreign,
    /// The battery refuses, with this code.
    Refuse(u8),
    /// The battery reports this alarm.
    Alarm(Alarm),
    /// The battery has another number of cells.
    Cells(usize),
    /// The stack has another number of modules.
    Modules(usize),
    /// The console lets nobody log in.
    Login,
    /// The console refuses the number that `tbar` brings.
    Tbar,
    /// The console falls back to the user's prompt before every command.
    Logout,
}

impl Fault {
    /// A condition is part of what the battery is; everything else befalls an answer.
    fn is_condition(self) -> bool {
        matches!(
            self,
            Fault::Alarm(_)
                | Fault::Cells(_)
                | Fault::Modules(_)
                | Fault::Login
                | Fault::Tbar
                | Fault::Logout
        )
    }

    /// The line itself does it, whether or not a battery answers.
    fn affects_line(self) -> bool {
        matches!(self, Fault::Noise | Fault::Echo)
    }
}

/// How often a fault triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frequency {
    /// Every time.
    Always,
    /// So many times in a million.
    Probability(u32),
    /// The next so many times.
    Count(u32),
}

/// A fault, how often, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What.
    pub fault: Fault,
    /// How often.
    pub frequency: Frequency,
    /// Only for the battery with this address.
    pub address: Option<u8>,
}

impl Rule {
    /// Every time, for everybody.
    pub fn always(fault: Fault) -> Self {
        Rule { fault, frequency: Frequency::Always, address: None }
    }

    /// The next so many times, for everybody.
    pub fn next(fault: Fault, times: u32) -> Self {
        Rule { fault, frequency: Frequency::Count(times), address: None }
    }

    /// The same, only for the battery with this address.
    pub fn at(self, address: u8) -> Self {
        Rule { address: Some(address), ..self }
    }

    fn applies_to(&self, address: u8) -> bool {
        self.address.is_none_or(|only| only == address)
    }

    /// Whether it triggers now; a counted one is used up by it.
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
    /// These faults.
    pub fn new(rules: Vec<Rule>) -> Self {
        Faults(Arc::new(Mutex::new(rules)))
    }

    /// Adds one.
    pub fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// Replaces all of them.
    pub fn set(&self, rules: Vec<Rule>) {
        *self.rules() = rules;
    }

    /// Everything works again.
    pub fn clear(&self) {
        self.rules().clear();
    }

    /// The alarms and cell counts that hold for this battery.
    pub fn conditions(&self, address: u8) -> Vec<Fault> {
        let rules = self.rules();
        let conditions =
            rules.iter().filter(|rule| rule.fault.is_condition() && rule.applies_to(address));
        conditions.map(|rule| rule.fault).collect()
    }

    /// The faults that faults_for_reply this battery's next answer.
    pub(super) fn faults_for_reply(&self, address: u8, rng: &mut Rng) -> Vec<Fault> {
        self.triggered(rng, |rule| rule.applies_to(address))
    }

    /// The faults that are heard when nobody answers.
    pub(super) fn faults_for_line(&self, rng: &mut Rng) -> Vec<Fault> {
        self.triggered(rng, |rule| rule.address.is_none() && rule.fault.affects_line())
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
        // The list is whole at every moment, so a panic elsewhere cannot have spoiled it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be asked for, for messages and help.
pub const SYNTAX: &str = "a comma list of silence, noise, checksum, cut, echo, foreign \
    (each with =PROBABILITY from 0 to 1 or *COUNT), rtn=CODE in hex (with *COUNT), alarm=NAME, \
    cells=1..32, modules=1..8, login, tbar, logout; @ADDRESS at the end limits one to that battery";

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}; allowed: {SYNTAX}; example: silence@2,noise=0.2,cut*3")]
pub struct FaultError {
    text: String,
    reason: &'static str,
}

/// Reads a comma list such as `silence@2,noise=0.2,cut*3,alarm=cell_overvoltage`.
pub fn parse(list: &str) -> Result<Vec<Rule>, FaultError> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Rule::from_str).collect()
}

impl FromStr for Rule {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        rule(text).map_err(|reason| FaultError { text: text.into(), reason })
    }
}

fn rule(text: &str) -> Result<Rule, &'static str> {
    let (text, address) = match split(text, '@') {
        (text, None) => (text, None),
        (text, Some(address)) => {
            (text, Some(address.parse().map_err(|_| "the address is no number up to 255")?))
        }
    };
    let (text, times) = match split(text, '*') {
        (text, None) => (text, None),
        (text, Some(count)) => (text, Some(count.parse().map_err(|_| "the count is no number")?)),
    };
    let (name, value) = split(text, '=');
    let (fault, probability) = fault(name, value)?;
    let frequency = match (times, probability) {
        (Some(_), _) if fault.is_condition() => return Err("this one cannot be counted"),
        (Some(_), Some(_)) => return Err("either a probability or a count"),
        (Some(times), None) => Frequency::Count(times),
        (None, Some(probability)) => Frequency::Probability(millionths(probability)?),
        (None, None) => Frequency::Always,
    };
    Ok(Rule { fault, frequency, address })
}

/// The fault of that name, and the probability where its value is one.
fn fault<'a>(name: &str, value: Option<&'a str>) -> Result<(Fault, Option<&'a str>), &'static str> {
    let befalls = |fault| Ok((fault, value));
    let needed = |missing: &'static str| value.ok_or(missing);
    match name {
        "silence" => befalls(Fault::Silence),
        "noise" => befalls(Fault::Noise),
        "checksum" => befalls(Fault::Checksum),
        "cut" => befalls(Fault::Cut),
        "echo" => befalls(Fault::Echo),
        "foreign" => befalls(Fault::Foreign),
        "rtn" => {
            let code = needed("which code?")?;
            let code = u8::from_str_radix(code, 16).map_err(|_| "the code is no hex number")?;
            Ok((Fault::Refuse(code), None))
        }
        "alarm" => {
            let alarm =
                Alarm::from_name(needed("which alarm?")?).ok_or("no alarm has this name")?;
            Ok((Fault::Alarm(alarm), None))
        }
        "cells" => match needed("how many cells?")?.parse() {
            Ok(count @ 1..=32) => Ok((Fault::Cells(count), None)),
            _ => Err("the number of cells is not 1 to 32"),
        },
        "modules" => match needed("how many modules?")?.parse() {
            Ok(count @ 1..=8) => Ok((Fault::Modules(count), None)),
            _ => Err("the number of modules is not 1 to 8"),
        },
        "login" => Ok((Fault::Login, None)),
        "tbar" => Ok((Fault::Tbar, None)),
        "logout" => Ok((Fault::Logout, None)),
        _ => Err("no fault has this name"),
    }
}

fn millionths(probability: &str) -> Result<u32, &'static str> {
    match probability.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok((p * 1e6).round() as u32),
        _ => Err("the probability is not 0 to 1"),
    }
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(head, tail)| (head.trim(), Some(tail.trim())))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Silence => f.write_str("silence")?,
            Fault::Noise => f.write_str("noise")?,
            Fault::Checksum => f.write_str("checksum")?,
            Fault::Cut => f.write_str("cut")?,
            Fault::Echo => f.write_str("echo")?,
            Fault::Foreign => f.write_str("foreign")?,
            Fault::Refuse(code) => write!(f, "rtn={code:02X}")?,
            Fault::Alarm(alarm) => write!(f, "alarm={}", alarm.name())?,
            Fault::Cells(count) => write!(f, "cells={count}")?,
            Fault::Modules(count) => write!(f, "modules={count}")?,
            Fault::Login => f.write_str("login")?,
            Fault::Tbar => f.write_str("tbar")?,
            Fault::Logout => f.write_str("logout")?,
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
    fn every_form_is_understood_and_written_back() {
        let list = "silence,noise=0.2,checksum*3@2,cut@15,echo,foreign=1,rtn=0A*1,\
                    alarm=cell_overvoltage@1,cells=15,modules=8,login,tbar,logout@1";
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
    fn bad_texts_are_named_with_the_reason() {
        let cases = [
            ("smoke", "no fault has this name"),
            ("noise=1.5", "the probability is not 0 to 1"),
            ("noise=NaN", "the probability is not 0 to 1"),
            ("cut*many", "the count is no number"),
            ("cut=0.5*2", "either a probability or a count"),
            ("silence@256", "the address is no number up to 255"),
            ("alarm", "which alarm?"),
            ("alarm=rain", "no alarm has this name"),
            ("alarm=fuse_blown*2", "this one cannot be counted"),
            ("cells=0", "the number of cells is not 1 to 32"),
            ("cells=33", "the number of cells is not 1 to 32"),
            ("modules=9", "the number of modules is not 1 to 8"),
            ("rtn=xyz", "the code is no hex number"),
        ];
        for (text, reason) in cases {
            let error = parse(&format!("echo,{text}")).unwrap_err();
            assert_eq!(error, FaultError { text: text.into(), reason });
            let shown = error.to_string();
            assert!(shown.contains(text) && shown.contains("example"), "{shown}");
        }
    }

    #[test]
    fn counted_faults_run_out_and_probable_ones_come_as_often_as_said() {
        let mut rng = Rng::new(1);
        let faults = Faults::new(parse("cut*2,noise=0.25").unwrap());
        let active: Vec<_> = (0..4000).flat_map(|_| faults.faults_for_reply(1, &mut rng)).collect();
        let count = |fault| active.iter().filter(|active| **active == fault).count();
        assert_eq!(count(Fault::Cut), 2);
        assert!((900..1100).contains(&count(Fault::Noise)), "{}", count(Fault::Noise));
    }

    #[test]
    fn clones_share_the_faults() {
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
