//! Pairing with a board that wants its number typed in.

use std::time::Duration;

use bluer::agent::{Agent, AgentHandle, ReqError};
use bluer::{Device, ErrorKind, Result};
use tokio::sync::Mutex;
use tokio::time::sleep;
use tracing::{debug, info};

use super::Passkey;
use super::bus::Bus;

/// A program can have one agent at a time.
static PAIRING: Mutex<()> = Mutex::const_new(());

/// bluer takes an agent back in the background; the next one may have to wait for that.
const PAUSE: Duration = Duration::from_millis(100);

/// Pairs, if that was not done before. An agent exists only as long as this takes; the caller sets
/// the limit.
pub(super) async fn pair(bus: &Bus, device: &Device, passkey: Passkey) -> Result<()> {
    if device.is_paired().await? {
        return Ok(());
    }
    let _alone = PAIRING.lock().await;
    let _agent = agent(bus, device, passkey).await?;
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

async fn agent(bus: &Bus, device: &Device, Passkey(number): Passkey) -> Result<AgentHandle> {
    let address = device.address();
    loop {
        let agent = Agent {
            request_passkey: Some(Box::new(move |asked| {
                let answer =
                    if asked.device == address { Ok(number) } else { Err(ReqError::Rejected) };
                Box::pin(async move { answer })
            })),
            // To be "KeyboardDisplay": boards offer different things to a mere keyboard.
            display_passkey: Some(Box::new(|_| Box::pin(async { Err(ReqError::Rejected) }))),
            ..Default::default()
        };
        let session = bus.session.clone();
        match bus.to_the_end(async move { session.register_agent(agent).await }).await {
            Err(error) if error.kind == ErrorKind::AlreadyExists => sleep(PAUSE).await,
            other => return other,
        }
    }
}
