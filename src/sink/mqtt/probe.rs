//! One connection attempt, for `check`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::tasks::Task;

use super::client::{self, Event};
use super::error::MqttError;
use super::inbound::MessageParser;
use super::{DISCONNECT_TIMEOUT, Settings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects and disconnects without publishing anything. Uses another client id than the service,
/// which may be connected at the same time.
pub async fn probe(settings: &Settings) -> Result<(), String> {
    let client_id = format!("{}-check", settings.client_id);
    let mut settings = Settings { client_id, ..settings.clone() };
    let attempt = async {
        settings.locate_broker().await?;
        timeout(CONNECT_TIMEOUT, connect(&settings)).await.unwrap_or(Err(MqttError::NoAnswer))
    };
    attempt.await.map_err(|error| error.to_string())
}

async fn connect(settings: &Settings) -> Result<(), MqttError> {
    let parser = MessageParser::new(settings, Vec::new());
    let (task, mut client) = client::open(settings, parser, Arc::default(), Task::default());
    let session = async {
        while !matches!(client.next().await?, Event::Connected(_)) {}
        // The connection works, however it ends.
        let _ = timeout(DISCONNECT_TIMEOUT, client.disconnect()).await;
        Ok(())
    };
    tokio::select! {
        biased;
        result = session => result,
        error = task.run() => Err(error),
    }
}
