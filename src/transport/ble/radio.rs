//! An adapter does one thing at a time: batteries take turns in the order in which they came.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bluer::Address;
use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::LinkError;

/// The longest wait for a turn. A turn has a limit too, so only many dead batteries reach it.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// The longest wait for the goodbye of our own last conversation with a battery.
const GOODBYE_LIMIT: Duration = Duration::from_secs(15);

static RADIOS: LazyLock<Mutex<HashMap<String, Arc<Radio>>>> = LazyLock::new(Mutex::default);

static BATTERIES: LazyLock<Mutex<HashMap<String, Arc<FairMutex<()>>>>> =
    LazyLock::new(Mutex::default);

/// The right to talk to a battery; without it a new conversation would take the connection over
/// that the last one is about to end.
pub(super) async fn alone_with(address: &str) -> Result<Turn, LinkError> {
    let battery = Arc::clone(lock(&BATTERIES).entry(address.into()).or_default());
    let limit = GOODBYE_LIMIT.as_secs();
    timeout(GOODBYE_LIMIT, battery.lock_owned()).await.map_err(|_| LinkError::Open {
        place: address.into(),
        reason: format!("our last connection to it has not ended for {limit} s"),
    })
}

/// One adapter of this machine, as all batteries on it see it.
#[derive(Debug, Default)]
pub(super) struct Radio {
    // Tokio's mutex hands out turns first come, first served.
    turn: Arc<FairMutex<()>>,
    known: Mutex<HashMap<Address, Known>>,
}

/// What earlier attempts taught about a battery.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// The last signal strength that was seen.
    pub(super) rssi: Option<i16>,
    /// The last attempt did not reach it: it must be seen before it is called again.
    pub(super) elusive: bool,
    /// Attempts in a row that reached it and failed.
    pub(super) failures: u32,
}

/// The right to use an adapter or a battery, until it is dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Radio {
    /// The adapter of that name; all callers get the same.
    pub(super) fn of(adapter: &str) -> Arc<Radio> {
        Arc::clone(lock(&RADIOS).entry(adapter.into()).or_default())
    }

    /// Waits for the others, on behalf of whoever wants to reach this place.
    pub(super) async fn turn(&self, place: &str) -> Result<Turn, LinkError> {
        let limit = TURN_LIMIT.as_secs();
        let turn = timeout(TURN_LIMIT, Arc::clone(&self.turn).lock_owned()).await;
        turn.map_err(|_| LinkError::Open {
            place: place.into(),
            reason: format!("other batteries kept the adapter busy for {limit} s"),
        })
    }

    pub(super) fn known(&self, battery: Address) -> Known {
        lock(&self.known).get(&battery).copied().unwrap_or_default()
    }

    pub(super) fn learn(&self, battery: Address, lesson: impl FnOnce(&mut Known)) {
        lesson(lock(&self.known).entry(battery).or_default());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_the_order_of_asking_and_the_wait_has_an_end() {
        let radio = Radio::of("turns");
        let first = radio.turn("A").await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for name in 0..5 {
            let (radio, order) = (Radio::of("turns"), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let _turn = radio.turn("A").await.unwrap();
                lock(&order).push(name);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*lock(&order), [0, 1, 2, 3, 4]);

        let _kept = radio.turn("A").await.unwrap();
        let refused = radio.turn("B").await.unwrap_err().to_string();
        assert_eq!(refused, "cannot open B: other batteries kept the adapter busy for 60 s");
        let scan = radio.turn("hci0").await.unwrap_err();
        assert!(scan.hint().contains("the adapter is busy"), "{}", scan.hint());
        assert!(Radio::of("another").turn("B").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_goodbye_is_no_other_program() {
        let _kept = alone_with("A").await.unwrap();
        let refused = alone_with("A").await.unwrap_err().to_string();
        assert_eq!(refused, "cannot open A: our last connection to it has not ended for 15 s");
        assert!(alone_with("B").await.is_ok());
    }
}
