//! The one connection to the system bus that all batteries share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bluer::{Adapter, Session};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tracing::{debug, info};

use super::trouble::{BusFault, Snag};
use super::{AdapterFound, LinkError};

/// For questions that BlueZ answers from memory.
const QUICK: Duration = Duration::from_secs(4);

static BUS: Mutex<Option<Bus>> = Mutex::const_new(None);

/// A connection to the bus, and which one of those that this process had.
#[derive(Debug, Clone)]
pub(super) struct Bus {
    pub(super) session: Session,
    number: u64,
    home: Arc<Home>,
}

/// Where the tasks live that bluer starts for a connection. It has no way to end them: one waits
/// for ever, another holds the connection open for half a minute. They end with their runtime.
#[derive(Debug)]
struct Home {
    tasks: Handle,
    /// The thread ends when this is dropped.
    _open: oneshot::Sender<()>,
}

impl Home {
    fn new() -> io::Result<Home> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let (open, closed) = oneshot::channel();
        thread::Builder::new().name("bluetooth".into()).spawn(move || {
            let _ = runtime.block_on(closed);
            // Joining a bus that hangs takes libdbus 25 s, and nobody shall wait for that.
            runtime.shutdown_background();
        })?;
        Ok(Home { tasks, _open: open })
    }
}

impl Bus {
    /// For a call that must run to its end even when nobody waits for it any more: what it returns
    /// has to be dropped to be undone (bluer ends a scan or a subscription only if it saw it begin).
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        call: impl Future<Output = bluer::Result<T>> + Send + 'static,
    ) -> bluer::Result<T> {
        self.home.tasks.spawn(call).await?
    }
}

/// An adapter, reached over one connection to the bus.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) adapter: Adapter,
    pub(super) bus: Bus,
}

impl Reached {
    /// Never uses this connection again. Whoever still holds a link over it keeps it alive until
    /// he lets go; then BlueZ sees us leave and gives up what we held.
    pub(super) async fn leave_bus(&self) {
        forget(self.bus.number).await;
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
    static JOINED: AtomicU64 = AtomicU64::new(0);

    let mut slot = BUS.lock().await;
    if let Some(bus) = &*slot {
        return Ok(bus.clone());
    }
    let joined = async {
        let home = Home::new()?;
        let session = home.tasks.spawn(Session::new()).await??;
        Ok((session, home))
    };
    match ask("joining D-Bus", joined).await {
        Ok((session, home)) => {
            let number = JOINED.fetch_add(1, Ordering::Relaxed);
            if number > 0 {
                info!("joined D-Bus anew");
            }
            let bus = Bus { session, number, home: Arc::new(home) };
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
            return Ok(Reached { adapter, bus });
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
