//! The connection to the system bus that all batteries share, and the calls over it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bluer::{Adapter, Device, Session};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tracing::debug;

use super::error::BleError;
use super::locks::AdapterLock;
use super::{AdapterInfo, Bluetooth};
use crate::transport::{BusFault, LinkError};

/// For calls that BlueZ answers from memory.
const QUICK_LIMIT: Duration = Duration::from_secs(4);

/// A connection to the system bus. It closes with the last reference to it.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) session: Session,
    /// Runs the tasks that bluer starts for a connection. bluer cannot end them: one waits forever,
    /// another keeps the connection open for half a minute. They end with this runtime.
    tasks: Handle,
    /// The thread of the runtime ends when this is dropped.
    _open: oneshot::Sender<()>,
    /// Held while this connection has a pairing agent: a client of the bus can have one at a time.
    pub(super) pairing: Mutex<()>,
}

impl Bus {
    async fn connect() -> bluer::Result<Bus> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let (open, closed) = oneshot::channel();
        thread::Builder::new().name("bluetooth".into()).spawn(move || {
            let _ = runtime.block_on(closed);
            // libdbus needs 25 s to give up on a bus that hangs; do not wait for that.
            runtime.shutdown_background();
        })?;
        let session = tasks.spawn(Session::new()).await??;
        Ok(Bus { session, tasks, _open: open, pairing: Mutex::default() })
    }

    /// Runs a call to its end even if its caller stops waiting. bluer undoes a scan or a subscription
    /// when its result is dropped, so there has to be a result.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        call: impl Future<Output = bluer::Result<T>> + Send + 'static,
    ) -> bluer::Result<T> {
        self.tasks.spawn(call).await?
    }
}

/// An adapter, the connection to the bus it was reached over, and its lock.
#[derive(Debug, Clone)]
pub(super) struct AdapterHandle {
    pub(super) adapter: Adapter,
    pub(super) bus: Arc<Bus>,
    pub(super) lock: Arc<AdapterLock>,
    pub(super) bluetooth: Bluetooth,
}

impl AdapterHandle {
    pub(super) fn name(&self) -> &str {
        self.adapter.name()
    }

    /// Converts the error of a call that concerned `endpoint`: a battery or the adapter itself.
    pub(super) async fn link_error(&self, error: &BleError, endpoint: &str) -> LinkError {
        if error.bus_fault().is_some() {
            self.bluetooth.abandon(&self.bus).await;
        }
        error.link_error(endpoint, self.name())
    }
}

/// A call that BlueZ answers without asking a device. `what` names it if it gets no reply.
pub(super) async fn call_quick<T>(
    what: &'static str,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, BleError> {
    Ok(timeout(QUICK_LIMIT, call).await.map_err(|_| BleError::NoReply(what))??)
}

/// A call that needs an answer from a device.
pub(super) async fn call_within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, BleError> {
    Ok(timeout(limit, call).await.map_err(|_| BleError::TimedOut(what))??)
}

/// `None` when the object is missing: BlueZ drops devices that it has not seen for a while.
pub(super) fn unless_missing<T>(result: Result<T, BleError>) -> Result<Option<T>, BleError> {
    match result {
        Err(error) if error.is_missing() => Ok(None),
        other => other.map(Some),
    }
}

pub(super) async fn is_connected(device: &Device) -> Result<bool, BleError> {
    call_quick("checking the connection", device.is_connected()).await
}

impl Bus {
    /// The adapters in order (`hci2` before `hci10`).
    pub(super) async fn adapters(&self) -> Result<Vec<AdapterInfo>, BleError> {
        let listed = self.session.adapter_names();
        let mut names = call_quick("listing the adapters", listed).await?;
        names.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        let mut adapters = Vec::new();
        for name in names {
            let read = async {
                let adapter = self.session.adapter(&name)?;
                let address = adapter.address().await?.to_string();
                let powered = adapter.is_powered().await?;
                Ok(AdapterInfo { name, address, powered })
            };
            match call_quick("reading the state of an adapter", read).await {
                Ok(adapter) => adapters.push(adapter),
                Err(error) if error.bus_fault().is_some() => return Err(error),
                // It has just been unplugged.
                Err(_) => {}
            }
        }
        Ok(adapters)
    }
}

impl Bluetooth {
    /// The Bluetooth adapters of this machine.
    pub async fn adapters(&self) -> Result<Vec<AdapterInfo>, LinkError> {
        Ok(self.list_adapters().await?.1)
    }

    /// The adapter of that name or address, or else the first that is switched on.
    pub(super) async fn adapter(&self, wanted: Option<&str>) -> Result<AdapterHandle, LinkError> {
        let (bus, adapters) = self.list_adapters().await?;
        let info = AdapterInfo::choose(&adapters, wanted)?;
        let missing = |_| LinkError::NoAdapter { adapter: wanted.map(str::to_owned) };
        let adapter = bus.session.adapter(&info.name).map_err(missing)?;
        let lock = self.locks.adapter(&info.name);
        Ok(AdapterHandle { adapter, bus, lock, bluetooth: self.clone() })
    }

    /// A connection to the bus that does not work is replaced once.
    async fn list_adapters(&self) -> Result<(Arc<Bus>, Vec<AdapterInfo>), LinkError> {
        let mut retried = false;
        loop {
            let bus = self.connect().await?;
            let error = match bus.adapters().await {
                Ok(adapters) => return Ok((bus, adapters)),
                Err(error) => error,
            };
            let (fault, reason) =
                (error.bus_fault().unwrap_or(BusFault::Silent), error.to_string());
            if fault != BusFault::NoBluez {
                self.abandon(&bus).await;
            }
            if fault == BusFault::NoBluez || retried {
                return Err(LinkError::NoBus { fault, reason });
            }
            retried = true;
            debug!("the D-Bus connection does not work ({reason}), opening a new one");
        }
    }

    pub(super) async fn connect(&self) -> Result<Arc<Bus>, LinkError> {
        let mut current = self.bus.lock().await;
        if let Some(bus) = &*current {
            return Ok(bus.clone());
        }
        match call_quick("connecting to D-Bus", Bus::connect()).await {
            Ok(bus) => Ok(current.insert(Arc::new(bus)).clone()),
            Err(error) => {
                let fault = match error.bus_fault() {
                    // It never was a connection.
                    Some(BusFault::Lost) | None => BusFault::HungUp,
                    Some(fault) => fault,
                };
                Err(LinkError::NoBus { fault, reason: error.to_string() })
            }
        }
    }

    /// Opens a new connection to the bus next time. Links that are open keep the present one; when
    /// the last of them ends, BlueZ notices that its client is gone and gives up what it held.
    pub(super) async fn abandon(&self, bus: &Arc<Bus>) {
        self.bus.lock().await.take_if(|current| Arc::ptr_eq(current, bus));
    }
}
