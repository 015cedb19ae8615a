//! One try at the broker, for `check`.

use tokio::time::timeout;

use super::client::{self, Event};
use super::error::MqttError;
use super::inbound::Router;
use super::{GOODBYE, Settings, topics};
use crate::board::QueueLength;

/// The broker has to let us in within this time.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Connects, says goodbye, and tells what hindered it. Nothing is published. A service of the same
/// configuration may be connected meanwhile: the name at the broker is another one.
pub async fn probe(settings: &Settings) -> Result<(), String> {
    let client_id = format!("{}-check", settings.client_id);
    let mut settings = Settings { client_id, ..settings.clone() };
    if let Some(supervisor) = settings.supervisor.clone() {
        supervisor.locate(&mut settings).await.map_err(|trouble| trouble.to_string())?;
    }
    let echo = topics::echo(&settings.client_id);
    let router = Router::new(Vec::new(), topics::birth(&settings.discovery_prefix), echo);
    let visit = async {
        let (pump, mut link) = client::open(&settings, router, QueueLength::default())?;
        let greeting = async {
            while !matches!(link.next().await?, Event::Connected) {}
            // We are in; how the farewell goes does not matter any more.
            let _ = timeout(GOODBYE, link.disconnect()).await;
            Ok::<(), MqttError>(())
        };
        tokio::select! {
            biased;
            greeted = greeting => greeted,
            trouble = pump.run() => Err(trouble),
        }
    };
    match timeout(PATIENCE, visit).await {
        Ok(result) => result.map_err(|trouble| trouble.to_string()),
        Err(_) => Err(MqttError::Silent.to_string()),
    }
}
