//! Who may use an adapter or a battery, and who looks for one. An adapter does one thing at a time, so
//! batteries take turns in the order in which they asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bluer::Address;
use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

use super::LinkError;

/// The longest wait for the adapter. Each user has a limit as well, so it takes many unreachable
/// batteries to get there.
const ADAPTER_LIMIT: Duration = Duration::from_secs(60);

/// The longest wait for our previous connection to the same battery to end.
const BATTERY_LIMIT: Duration = Duration::from_secs(15);

/// How long a battery is sought between two attempts: a scan takes time from connections and from
/// Wi-Fi on the same antenna, and a battery may be gone for good.
const SEEK_LIMIT: Duration = Duration::from_secs(3600);

/// The right to use an adapter or a battery, until it is dropped.
pub(super) type Permit = OwnedMutexGuard<()>;

/// One lock for each adapter, by name, and one for each battery, by address.
#[derive(Debug, Default)]
pub(super) struct Locks {
    adapters: Mutex<HashMap<String, Arc<AdapterLock>>>,
    // Tokio's mutex is fair: first come, first served.
    batteries: Mutex<HashMap<String, Arc<FairMutex<()>>>>,
}

impl Locks {
    pub(super) fn adapter(&self, name: &str) -> Arc<AdapterLock> {
        Arc::clone(lock(&self.adapters).entry(name.into()).or_default())
    }

    /// Waits until our previous connection to the battery has ended. A new one would otherwise take
    /// over what the previous one is about to disconnect.
    pub(super) async fn lock_battery(&self, address: &str) -> Result<Permit, LinkError> {
        let battery = Arc::clone(lock(&self.batteries).entry(address.into()).or_default());
        acquire(&battery, address, BATTERY_LIMIT, "our last connection to it has not ended").await
    }
}

/// One adapter as all batteries on it share it.
#[derive(Debug, Default)]
pub(super) struct AdapterLock {
    permit: Arc<FairMutex<()>>,
    /// Each waiter holds a clone.
    waiters: Arc<()>,
    pub(super) seekers: Seekers,
    history: Mutex<HashMap<Address, DeviceHistory>>,
}

/// What earlier attempts revealed about a battery.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DeviceHistory {
    /// Signal strength in dBm when a scan last saw it.
    pub(super) rssi: Option<i16>,
    /// The last attempt did not reach it, so a scan has to see it before the next one.
    pub(super) unreached: bool,
    /// Consecutive attempts that reached it and failed.
    pub(super) failures: u32,
    /// The first attempt that did not see it, since it was last connected.
    unseen_since: Option<Instant>,
}

impl AdapterLock {
    /// Waits for the other users, on behalf of `endpoint`: a battery, or the adapter for a scan.
    pub(super) async fn acquire(&self, endpoint: &str) -> Result<Permit, LinkError> {
        let reason = "other batteries kept the adapter busy";
        let _waiter = Arc::clone(&self.waiters);
        acquire(&self.permit, endpoint, ADAPTER_LIMIT, reason).await
    }

    /// Whether a battery uses it.
    pub(super) fn is_taken(&self) -> bool {
        self.permit.try_lock().is_err()
    }

    /// Whether a battery waits for the adapter.
    pub(super) fn is_contended(&self) -> bool {
        Arc::strong_count(&self.waiters) > 1
    }

    pub(super) fn history(&self, battery: Address) -> DeviceHistory {
        lock(&self.history).get(&battery).copied().unwrap_or_default()
    }

    pub(super) fn update(&self, battery: Address, change: impl FnOnce(&mut DeviceHistory)) {
        change(lock(&self.history).entry(battery).or_default());
    }

    pub(super) fn note_unseen(&self, battery: Address) {
        self.update(battery, |history| {
            history.unreached = true;
            history.unseen_since.get_or_insert_with(Instant::now);
        });
    }

    pub(super) fn note_connected(&self, battery: Address) {
        self.update(battery, |history| {
            *history = DeviceHistory { rssi: history.rssi, ..DeviceHistory::default() };
        });
    }

    /// Whether there are scans for the battery between two attempts.
    pub(super) fn is_sought(&self, battery: Address) -> bool {
        self.history(battery).unseen_since.is_none_or(|since| since.elapsed() < SEEK_LIMIT)
    }
}

/// The batteries that are sought with one adapter.
#[derive(Debug, Default)]
pub(super) struct Seekers(Mutex<SeekersState>);

#[derive(Debug, Default)]
struct SeekersState {
    /// Each seeker holds a clone.
    seekers: Arc<()>,
    /// The task of the scans has not ended.
    runs: bool,
}

/// A battery is sought until this is dropped.
#[derive(Debug)]
pub(super) struct Seeker(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl Seekers {
    /// The seeker, and whether the caller has to start the task of the scans.
    pub(super) fn join(&self) -> (Seeker, bool) {
        let mut state = lock(&self.0);
        let starts = !std::mem::replace(&mut state.runs, true);
        (Seeker(Arc::clone(&state.seekers)), starts)
    }

    pub(super) fn is_empty(&self) -> bool {
        Arc::strong_count(&lock(&self.0).seekers) == 1
    }

    /// Whether the task of the scans has to go on. If not, the next seeker starts a new one.
    pub(super) fn keep_running(&self) -> bool {
        let mut state = lock(&self.0);
        state.runs = Arc::strong_count(&state.seekers) > 1;
        state.runs
    }
}

/// `reason` is what the error reports after waiting for this `limit`.
async fn acquire(
    mutex: &Arc<FairMutex<()>>,
    endpoint: &str,
    limit: Duration,
    reason: &str,
) -> Result<Permit, LinkError> {
    timeout(limit, Arc::clone(mutex).lock_owned()).await.map_err(|_| LinkError::Open {
        endpoint: endpoint.into(),
        reason: format!("{reason} for {} s", limit.as_secs()),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn adapter_serves_waiters_in_order() {
        let locks = Locks::default();
        let first = locks.adapter("hci0").acquire("A").await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..5 {
            let (adapter, served) = (locks.adapter("hci0"), Arc::clone(&served));
            waiting.push(tokio::spawn(async move {
                let _permit = adapter.acquire("A").await.unwrap();
                lock(&served).push(number);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*lock(&served), [0, 1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_for_a_busy_adapter_is_bounded() {
        let locks = Locks::default();
        let adapter = locks.adapter("hci0");
        let _kept = adapter.acquire("A").await.unwrap();
        let refused = adapter.acquire("B").await.unwrap_err().to_string();
        assert_eq!(refused, "cannot open B: other batteries kept the adapter busy for 60 s");
        let scan = adapter.acquire("hci0").await.unwrap_err();
        assert!(scan.hint().contains("the adapter is busy"), "{}", scan.hint());
        assert!(locks.adapter("hci1").acquire("B").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn battery_is_sought_for_an_hour() {
        let adapter = AdapterLock::default();
        let (gone, other) = (Address::new([1; 6]), Address::new([2; 6]));
        adapter.note_unseen(gone);
        for _ in 0..59 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(adapter.is_sought(gone));
            adapter.note_unseen(gone);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!adapter.is_sought(gone) && adapter.is_sought(other));
        adapter.note_connected(gone);
        adapter.note_unseen(gone);
        assert!(adapter.is_sought(gone));
    }

    #[tokio::test]
    async fn adapter_is_contended_while_a_battery_waits() {
        let adapter = AdapterLock::default();
        let _kept = adapter.acquire("A").await.unwrap();
        assert!(!adapter.is_contended());
        {
            let waiting = adapter.acquire("B");
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert!(adapter.is_contended());
        }
        assert!(!adapter.is_contended());
    }

    #[tokio::test(start_paused = true)]
    async fn wait_for_our_own_disconnect_is_bounded() {
        let locks = Locks::default();
        let _kept = locks.lock_battery("A").await.unwrap();
        let refused = locks.lock_battery("A").await.unwrap_err().to_string();
        assert_eq!(refused, "cannot open A: our last connection to it has not ended for 15 s");
        assert!(locks.lock_battery("B").await.is_ok());
    }

    #[test]
    fn first_seeker_starts_the_scans_and_the_last_one_ends_them() {
        let seekers = Seekers::default();
        let (first, starts) = seekers.join();
        assert!(starts && !seekers.is_empty());
        let (second, starts) = seekers.join();
        assert!(!starts);
        drop(first);
        assert!(seekers.keep_running());
        drop(second);
        assert!(seekers.is_empty() && !seekers.keep_running());
        let (_third, starts) = seekers.join();
        assert!(starts);
    }
}
