//! The Bluetooth proxies of the configuration, and which of them a battery is read through.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{BleConfig, BleDevice, LinkError, ProxyInfo};
use crate::transport::EsphomeFault;
use crate::transport::esphome::radio::{IN_REACH, Radio, Received};
use crate::transport::esphome::{Device, Proxy};

/// The name of the adapter that stands for any proxy.
pub const ANY_PROXY: &str = "proxies";

/// How long the other proxies have to receive a battery that one has received.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a failure counts against a proxy, and how much in dB: another one is tried if it is not
/// much farther away, because a distant one blocks the battery in vain.
const FAILURE_LIFETIME: Duration = Duration::from_secs(600);
const FAILURE_COST: i16 = 15;
/// How much better another proxy must be than the one that worked, in dB.
const STAY_BONUS: i16 = 8;
/// From one attempt to reach a proxy that cannot be used to the next.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The number of the adapter of this machine, beside those of the proxies.
const LOCAL: usize = usize::MAX;

/// The proxies, in the order of the configuration.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    all: Vec<NamedDevice>,
    history: Mutex<History>,
    /// Connects to the proxies while no battery needs one, and when that began.
    listening: Mutex<Option<(Instant, JoinHandle<()>)>>,
}

#[derive(Debug)]
struct NamedDevice {
    /// `None`: as the device calls itself.
    name: Option<String>,
    device: Device,
}

/// By number of the proxy, or [`LOCAL`], and address of the battery.
#[derive(Debug, Default)]
struct History {
    failures: HashMap<(usize, u64), Instant>,
    /// What a battery was read through.
    last: HashMap<u64, usize>,
    /// Batteries that the adapter of this machine did not see.
    out_of_reach: HashSet<u64>,
}

/// A proxy that receives the battery.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) proxy: Proxy,
    pub(super) received: Received,
}

impl Proxies {
    pub(super) fn new(proxies: Vec<(Option<String>, Device)>) -> Self {
        let named = |(name, device)| NamedDevice { name, device };
        Proxies { all: proxies.into_iter().map(named).collect(), ..Proxies::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.all.iter().map(|it| &it.device)
    }

    /// How errors name it.
    pub(super) fn endpoint(&self, index: usize) -> &str {
        self.all.get(index).map_or(ANY_PROXY, |it| it.device.endpoint())
    }

    /// The numbers of the proxies with this name; [`ANY_PROXY`] is the name of all.
    pub(super) async fn named(&self, name: &str) -> Vec<usize> {
        if name == ANY_PROXY {
            return (0..self.all.len()).collect();
        }
        let mut found = Vec::new();
        for (index, NamedDevice { name: given, device }) in self.all.iter().enumerate() {
            let host = device.address().rsplit_once(':').map_or("", |(host, _)| host);
            let is_named = match given {
                Some(given) => given.eq_ignore_ascii_case(name),
                None => is_called(device, name).await,
            };
            if is_named || host == name {
                found.push(index);
            }
        }
        found
    }

    async fn listen(&self, index: usize) -> Result<(String, Proxy), LinkError> {
        let adapter = Some(ANY_PROXY.to_owned());
        let Some(named) = self.all.get(index) else { return Err(LinkError::NoAdapter { adapter }) };
        let proxy = listen(&named.device).await?;
        Ok((named.name.clone().unwrap_or_else(|| proxy.name.clone()), proxy))
    }

    /// The proxy that receives the battery best, of those with these numbers.
    pub(super) async fn find(
        &self,
        config: &BleConfig,
        wanted: &[usize],
        address: u64,
    ) -> Result<Candidate, LinkError> {
        let mut searches = self.searches(config, wanted, address, None);
        let (mut found, mut error, mut until) = (Vec::<Candidate>::new(), None, None);
        loop {
            let next = searches.next();
            let result = match until {
                Some(until) => timeout_at(until, next).await.unwrap_or_default(),
                None => next.await,
            };
            match result {
                None => break,
                Some(Ok(candidate)) => {
                    let settle =
                        if self.is_last(&candidate, address) { Duration::ZERO } else { SETTLE };
                    let end = Instant::now() + settle;
                    until = Some(until.map_or(end, |until: Instant| until.min(end)));
                    found.push(candidate);
                }
                // A proxy that cannot be used may be the one next to the battery.
                Some(Err(new)) => {
                    let is_seen = |error: &LinkError| matches!(error, LinkError::NotSeen { .. });
                    if error.as_ref().is_none_or(is_seen) {
                        error = Some(new);
                    }
                }
            }
        }
        let no_proxy = || LinkError::NoAdapter { adapter: Some(ANY_PROXY.to_owned()) };
        self.choose(found, address).ok_or_else(|| error.unwrap_or_else(no_proxy))
    }

    /// Waits at each proxy until it receives the battery, or has received it since then.
    fn searches<'a>(
        &'a self,
        config: &'a BleConfig,
        wanted: &[usize],
        address: u64,
        since: Option<Instant>,
    ) -> FuturesUnordered<BoxFuture<'a, Result<Candidate, LinkError>>> {
        let search = |index: &usize| self.wait_received(*index, config, address, since).boxed();
        wanted.iter().map(search).collect()
    }

    async fn wait_received(
        &self,
        index: usize,
        config: &BleConfig,
        address: u64,
        since: Option<Instant>,
    ) -> Result<Candidate, LinkError> {
        let (name, proxy) = self.listen(index).await?;
        let since = since.unwrap_or_else(|| self.received_since(index, address));
        let mut radio = proxy.radio();
        let is_received = |radio: &Radio| radio.get(address).is_some_and(|it| it.at >= since);
        let lock = config.bluetooth.locks.adapter(self.endpoint(index));
        loop {
            // A proxy that connects to a battery does not scan.
            let is_connecting = lock.is_taken();
            let received = timeout(config.scan_timeout, radio.wait_for(|it| is_received(it))).await;
            match received.map(|radio| radio.map(|radio| radio.get(address).cloned())) {
                Ok(Ok(Some(received))) => return Ok(Candidate { index, name, proxy, received }),
                Ok(Ok(None)) => break,
                Ok(Err(_)) => return Err(self.failed(index, unreachable(&proxy))),
                Err(_) if is_connecting => drop(lock.acquire(&config.address).await?),
                Err(_) => break,
            }
        }
        proxy.refresh_slots().await;
        let radio = radio.borrow();
        let endpoint = config.address.clone();
        if radio.slots.as_ref().is_some_and(|slots| slots.allocated.contains(&address)) {
            return Err(LinkError::Esphome { endpoint, fault: EsphomeFault::BatteryTaken });
        }
        Err(match radio.in_reach(Instant::now()).count() {
            0 => self.failed(index, EsphomeFault::ReceivesNothing),
            others => LinkError::NotSeen { endpoint, adapter: name, others },
        })
    }

    pub(super) fn failed(&self, index: usize, fault: EsphomeFault) -> LinkError {
        LinkError::Esphome { endpoint: self.endpoint(index).to_owned(), fault }
    }

    /// A battery that could not be connected has to be received again before the next attempt.
    fn received_since(&self, index: usize, address: u64) -> Instant {
        let now = Instant::now();
        let recent = now.checked_sub(IN_REACH).unwrap_or(now);
        let failure = self.history().failures.get(&(index, address)).copied();
        failure.map_or(recent, |failure| failure.max(recent))
    }

    fn is_last(&self, candidate: &Candidate, address: u64) -> bool {
        self.history().last.get(&address) == Some(&candidate.index)
    }

    fn choose(&self, candidates: Vec<Candidate>, address: u64) -> Option<Candidate> {
        let rank = |candidate: &Candidate| {
            let has_slot = candidate.proxy.radio().borrow().has_slot();
            (has_slot, self.history().score(candidate.index, address, candidate.received.rssi))
        };
        candidates.into_iter().max_by_key(rank)
    }

    /// What the proxies that are connected receive of this battery: numbers and dBm. Those without a free
    /// connection do not count.
    fn received(&self, address: u64) -> impl Iterator<Item = (usize, i16)> {
        let now = Instant::now();
        let rssi = move |device: &Device| {
            let radio = device.radio()?;
            let radio = radio.borrow();
            let received = radio.get(address).filter(|_| radio.has_slot())?;
            (now - received.at <= IN_REACH).then_some(received.rssi)
        };
        (0..).zip(self.devices()).filter_map(move |(index, device)| Some((index, rssi(device)?)))
    }

    /// Whether a battery that the adapter of this machine may reach is in reach of a proxy.
    pub(super) fn are_in_reach(&self, battery: &str) -> bool {
        parse_address(battery).is_some_and(|address| self.received(address).next().is_some())
    }

    /// Whether a proxy is a better choice for this battery than the adapter of this machine. `local`: the
    /// signal at the adapter in dBm, if it was measured.
    pub(super) fn are_better(&self, battery: &str, local: Option<i16>) -> bool {
        let Some(address) = parse_address(battery) else { return false };
        let received: Vec<_> = self.received(address).collect();
        let mut history = self.history();
        // The adapter comes first.
        history.last.entry(address).or_insert(LOCAL);
        let remote = received.into_iter().map(|(index, rssi)| history.score(index, address, rssi));
        let Some(remote) = remote.max() else { return false };
        match local {
            Some(rssi) => history.score(LOCAL, address, rssi) < remote,
            None => history.has_failed(LOCAL, address),
        }
    }

    /// Connects to all proxies in the background, unless that was tried a moment ago: a battery may be
    /// nearer to one of them than to the adapter that reads it.
    pub(super) fn keep_listening(&self) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |(begin, task): &(Instant, JoinHandle<()>)| {
            task.is_finished() && begin.elapsed() >= RETRY_PAUSE
        };
        if listening.as_ref().is_none_or(is_due) {
            let devices: Vec<_> = self.devices().cloned().collect();
            let all = devices.into_iter().map(|device| async move {
                let _ = device.listen().await;
            });
            *listening = Some((Instant::now(), tokio::spawn(join_all(all).map(drop).boxed())));
        }
    }

    pub(super) fn note_failure(&self, index: usize, address: u64) {
        self.history().failures.insert((index, address), Instant::now());
    }

    pub(super) fn note_connected(&self, index: usize, address: u64) {
        let mut history = self.history();
        history.failures.remove(&(index, address));
        history.last.insert(address, index);
    }

    /// How an attempt with the adapter of this machine has ended.
    pub(super) fn note_local(&self, battery: &str, opened: bool) {
        match parse_address(battery) {
            Some(address) if opened => self.note_connected(LOCAL, address),
            Some(address) => self.note_failure(LOCAL, address),
            None => {}
        }
    }

    pub(super) fn is_out_of_reach(&self, battery: &str) -> bool {
        parse_address(battery).is_some_and(|it| self.history().out_of_reach.contains(&it))
    }

    /// Whether the adapter of this machine is too far away for this battery.
    pub(super) fn set_out_of_reach(&self, battery: &str, is_out: bool) {
        let Some(address) = parse_address(battery) else { return };
        let out_of_reach = &mut self.history().out_of_reach;
        if is_out {
            out_of_reach.insert(address);
        } else {
            out_of_reach.remove(&address);
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when one of these proxies receives the battery from now on.
    pub(super) async fn received_again(&self, config: &BleConfig, wanted: &[usize], address: u64) {
        let begin = Instant::now();
        loop {
            let round = Instant::now() + RETRY_PAUSE;
            let mut searches = self.searches(config, wanted, address, Some(begin));
            while let Some(result) = searches.next().await {
                if result.is_ok() {
                    return;
                }
            }
            sleep_until(round).await;
        }
    }

    /// These proxies, after they have received for this time.
    async fn listen_for(
        &self,
        wanted: &[usize],
        time: Duration,
    ) -> Vec<Result<(String, Proxy), LinkError>> {
        let until = Instant::now() + time;
        let all = join_all(wanted.iter().map(|index| self.listen(*index).boxed())).await;
        sleep_until(until).await;
        all
    }

    pub(super) async fn infos(&self, time: Duration) -> Vec<Result<ProxyInfo, LinkError>> {
        let wanted = self.named(ANY_PROXY).await;
        let all = self.listen_for(&wanted, time).await;
        let info = |(index, listening): (usize, Result<_, _>)| {
            let (name, proxy): (String, Proxy) = listening?;
            let radio = proxy.radio();
            let radio = radio.borrow();
            let devices = radio.in_reach(Instant::now()).count();
            let slots = radio.slots.as_ref().map(|slots| (slots.free, slots.limit));
            let endpoint = self.endpoint(index).to_owned();
            Ok(ProxyInfo { name, endpoint, version: proxy.version, devices, slots })
        };
        wanted.into_iter().zip(all).map(info).collect()
    }

    /// What these proxies receive within the time; an error if none of them can be used.
    pub(super) async fn scan(
        &self,
        wanted: &[usize],
        time: Duration,
    ) -> Result<Vec<BleDevice>, LinkError> {
        let (mut devices, mut error, mut any) = (Vec::new(), None, false);
        for listening in self.listen_for(wanted, time).await {
            match listening {
                Ok((name, proxy)) => {
                    any = true;
                    let radio = proxy.radio();
                    let radio = radio.borrow();
                    let found = radio.in_reach(Instant::now());
                    devices.extend(found.map(|(address, it)| device(&name, &radio, address, it)));
                }
                Err(new) => error = Some(new),
            }
        }
        match error {
            Some(error) if !any => Err(error),
            _ => Ok(devices),
        }
    }
}

impl History {
    fn has_failed(&self, index: usize, address: u64) -> bool {
        let failure = self.failures.get(&(index, address));
        failure.is_some_and(|at| at.elapsed() < FAILURE_LIFETIME)
    }

    /// The signal in dBm, corrected by what is known from earlier.
    fn score(&self, index: usize, address: u64, rssi: i16) -> i16 {
        let failed = self.has_failed(index, address);
        score(rssi, failed, !failed && self.last.get(&address) == Some(&index))
    }
}

/// A device that was never reached may have any name that no adapter has.
async fn is_called(device: &Device, name: &str) -> bool {
    let known = match device.name().await {
        Some(known) => Some(known),
        None => listen(device).await.ok().map(|proxy| proxy.name),
    };
    match known {
        Some(known) => known.eq_ignore_ascii_case(name),
        None => !name.starts_with("hci"),
    }
}

/// Runs to its end even if the caller stops waiting, so that a slow proxy is connected some time.
async fn listen(device: &Device) -> Result<Proxy, LinkError> {
    let (endpoint, device) = (device.endpoint().to_owned(), device.clone());
    let task = tokio::spawn(async move { device.listen().await }.boxed());
    task.await.unwrap_or_else(|_| {
        let fault = EsphomeFault::Unreachable("its task has ended".to_owned());
        Err(LinkError::Esphome { endpoint, fault })
    })
}

pub(super) fn unreachable(proxy: &Proxy) -> EsphomeFault {
    EsphomeFault::Unreachable(proxy.end().to_string())
}

fn score(rssi: i16, failed: bool, is_last: bool) -> i16 {
    let cost = if failed { FAILURE_COST } else { 0 };
    let bonus = if is_last { STAY_BONUS } else { 0 };
    rssi.saturating_sub(cost).saturating_add(bonus)
}

fn device(proxy: &str, radio: &Radio, address: u64, received: &Received) -> BleDevice {
    let advertised = received.advertised.clone();
    let slots = radio.slots.as_ref();
    BleDevice {
        adapter: proxy.to_owned(),
        address: address_text(address),
        name: advertised.name,
        rssi: Some(received.rssi),
        services: advertised.services,
        manufacturer: advertised.manufacturer,
        connected: slots.is_some_and(|slots| slots.allocated.contains(&address)),
    }
}

fn address_text(address: u64) -> String {
    let [_, _, bytes @ ..] = address.to_be_bytes();
    bytes.map(|byte| format!("{byte:02X}")).join(":")
}

/// `None` if this is no Bluetooth address.
pub(super) fn parse_address(text: &str) -> Option<u64> {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let mut address = 0;
    for _ in 0..6 {
        address = address << 8 | u64::from(bytes.next()?.ok()?);
    }
    bytes.next().is_none().then_some(address)
}

#[cfg(test)]
#[path = "proxies_tests.rs"]
mod tests;
