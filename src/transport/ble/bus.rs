//! The one connection to the system bus that all batteries share.

use std::time::Duration;

use bluer::{Adapter, Session};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, info};

use super::trouble::{BusFault, Snag};
use super::{AdapterFound, LinkError};

/// For questions that BlueZ answers from memory.
const QUICK: Duration = Duration::from_secs(4);

static BUS: Mutex<Option<Bus>> = Mutex::const_new(None);

/// A connection to the bus, and which one of those that this process had.
#[derive(Debug, Clone)]
struct Bus {
    session: Session,
    number: u64,
}

/// An adapter, reached over one connection to the bus.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) adapter: Adapter,
    number: u64,
}

impl Reached {
    /// The connection to the bus that the adapter is reached over, for what concerns no adapter.
    pub(super) async fn session(&self) -> Option<Session> {
        let slot = BUS.lock().await;
        slot.as_ref().filter(|bus| bus.number == self.number).map(|bus| bus.session.clone())
    }

    /// Never uses this connection again. Whoever still holds a link over it keeps it alive until
    /// he lets go; then BlueZ sees us leave and gives up what we held.
    pub(super) async fn leave_bus(&self) {
        forget(self.number).await;
    }
}

async fn forget(number: u64) {
    let mut slot = BUS.lock().await;
    if slot.as_ref().is_some_and(|bus| bus.number == number) {
        *slot = None;
    }
}

/// A call that BlueZ answers by itself; `what` names it when it does not.
pub(super) async fn ask<T>(
    what: &'static str,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, Snag> {
    match timeout(QUICK, call).await {
        Ok(answer) => answer.map_err(Snag::Said),
        Err(_) => Err(Snag::Silent(what)),
    }
}

/// A call that takes a device to answer.
pub(super) async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, Snag> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(Snag::Said),
        Err(_) => Err(Snag::Late(what)),
    }
}

/// For a call that must run to its end even when nobody waits for it any more: what it returns has
/// to be dropped to be undone (bluer ends a scan or a subscription only if it saw it begin).
pub(super) async fn to_the_end<T: Send + 'static>(
    call: impl Future<Output = bluer::Result<T>> + Send + 'static,
) -> bluer::Result<T> {
    tokio::spawn(call).await?
}

/// The names of the adapters, over a connection that works: one that does not is replaced once.
async fn names() -> Result<(Bus, Vec<String>), LinkError> {
    let mut again = true;
    loop {
        let bus = join().await?;
        let snag = match ask("listing the adapters", bus.session.adapter_names()).await {
            Ok(mut names) => {
                names.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
                return Ok((bus, names));
            }
            Err(snag) => snag,
        };
        let fault = snag.bus().unwrap_or(BusFault::Silent);
        if fault == BusFault::NoBluez {
            return Err(LinkError::NoBus { fault, reason: snag.reason() });
        }
        forget(bus.number).await;
        if !again {
            return Err(LinkError::NoBus { fault, reason: snag.reason() });
        }
        again = false;
        debug!("the connection to D-Bus does not work ({}), trying a new one", snag.reason());
    }
}

async fn join() -> Result<Bus, LinkError> {
    static JOINED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

    let mut slot = BUS.lock().await;
    if let Some(bus) = &*slot {
        return Ok(bus.clone());
    }
    match ask("joining D-Bus", Session::new()).await {
        Ok(session) => {
            let number = JOINED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number > 0 {
                info!("joined D-Bus anew");
            }
            let bus = Bus { session, number };
            *slot = Some(bus.clone());
            Ok(bus)
        }
        Err(snag) => {
            let fault = snag.bus().unwrap_or(BusFault::HungUp);
            Err(LinkError::NoBus { fault, reason: snag.reason() })
        }
    }
}

/// The adapter of that name or address, or the first that is switched on.
pub(super) async fn adapter(wanted: Option<&str>) -> Result<Reached, LinkError> {
    let (bus, names) = names().await?;
    let mut off = None;
    for name in names {
        let Some((adapter, found)) = look_at(&bus, &name).await? else { continue };
        let fits = wanted.is_none_or(|wanted| {
            wanted == found.name || wanted.eq_ignore_ascii_case(&found.address)
        });
        if fits && found.powered {
            return Ok(Reached { adapter, number: bus.number });
        }
        if fits && off.is_none() {
            off = Some(name);
        }
    }
    Err(match off {
        Some(place) => LinkError::AdapterOff { place },
        None => LinkError::NoAdapter { place: wanted.unwrap_or("Bluetooth adapter").into() },
    })
}

/// `None` when it has just gone.
async fn look_at(bus: &Bus, name: &str) -> Result<Option<(Adapter, AdapterFound)>, LinkError> {
    let looked = async {
        let adapter = bus.session.adapter(name)?;
        let address = adapter.address().await?.to_string();
        let powered = adapter.is_powered().await?;
        Ok((adapter, AdapterFound { name: name.into(), address, powered }))
    };
    match ask("looking at the adapter", looked).await {
        Ok(found) => Ok(Some(found)),
        Err(snag) => match snag.bus() {
            Some(fault) => {
                forget(bus.number).await;
                Err(LinkError::NoBus { fault, reason: snag.reason() })
            }
            None => Ok(None),
        },
    }
}

/// The Bluetooth adapters of this machine.
pub async fn adapters() -> Result<Vec<AdapterFound>, LinkError> {
    let (bus, names) = names().await?;
    let mut adapters = Vec::new();
    for name in names {
        adapters.extend(look_at(&bus, &name).await?.map(|(_, found)| found));
    }
    Ok(adapters)
}
