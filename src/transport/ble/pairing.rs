//! Pairing with a board that asks for its passkey.

use std::time::Duration;

use bluer::agent::{Agent, AgentHandle, ReqError};
use bluer::{Device, ErrorKind, Result};
use tokio::time::sleep;
use tracing::{debug, info};

use super::Passkey;
use super::bus::Bus;

/// bluer unregisters an agent in the background, and the next one may have to wait for that.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Pairs if that was not done before. The agent exists only during this call; the caller sets the
/// time limit.
pub(super) async fn pair(bus: &Bus, device: &Device, passkey: Passkey) -> Result<()> {
    if device.is_paired().await? {
        return Ok(());
    }
    let _lock = bus.pairing.lock().await;
    let _agent = register_agent(bus, device, passkey).await?;
    debug!("{} is not paired: pairing", device.address());
    match device.pair().await {
        Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            info!("paired with {}", device.address());
            Ok(())
        }
    }
}

async fn register_agent(
    bus: &Bus,
    device: &Device,
    Passkey(passkey): Passkey,
) -> Result<AgentHandle> {
    let address = device.address();
    loop {
        let agent = Agent {
            request_passkey: Some(Box::new(move |request| {
                let reply =
                    if request.device == address { Ok(passkey) } else { Err(ReqError::Rejected) };
                Box::pin(async move { reply })
            })),
            // Makes the agent "KeyboardDisplay": boards offer a mere keyboard something else.
            display_passkey: Some(Box::new(|_| Box::pin(async { Err(ReqError::Rejected) }))),
            ..Default::default()
        };
        let session = bus.session.clone();
        match bus.detached(async move { session.register_agent(agent).await }).await {
            Err(error) if error.kind == ErrorKind::AlreadyExists => sleep(RETRY_PAUSE).await,
            other => return other,
        }
    }
}
