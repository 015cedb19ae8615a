//! Under which path Home Assistant shows the dashboard of this app.
//!
//! Source: home-assistant/supervisor, `api/`. `/addons/self/info` contains the `slug`, `/info` the
//! version of Home Assistant. Both need no additional rights.

use std::time::Duration;

use tokio::time::timeout;

use super::Settings;
use crate::supervisor::{Supervisor, SupervisorError};

/// Only a link depends on the answers.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Since this version the path is `/app/SLUG` (home-assistant/frontend #28214).
const APP_PATHS_SINCE: [u32; 2] = [2026, 2];

impl Settings {
    /// Asks the Supervisor, if there is one, for the dashboard. After an error the next connection
    /// asks again.
    pub(super) async fn locate_dashboard(&mut self) {
        let Some(supervisor) = self.ingress.as_ref().filter(|_| self.dashboard.is_none()) else {
            return;
        };
        match timeout(TIMEOUT, url(supervisor)).await {
            Ok(Ok(url)) => self.dashboard = url,
            Ok(Err(error)) => tracing::debug!("MQTT: no link to the dashboard: {error}"),
            Err(_) => tracing::debug!("MQTT: no link to the dashboard: the Supervisor is silent"),
        }
    }
}

async fn url(supervisor: &Supervisor) -> Result<Option<String>, SupervisorError> {
    let app = supervisor.get("/addons/self/info").await?;
    let system = supervisor.get("/info").await?;
    let texts = app["slug"].as_str().zip(system["homeassistant"].as_str());
    Ok(texts.map(|(slug, version)| ingress_url(slug, version)))
}

/// Home Assistant opens a URL with this scheme as a path of its own.
fn ingress_url(slug: &str, version: &str) -> String {
    let numbers = version.split('.').map_while(|part| part.parse::<u32>().ok()).take(2);
    let has_app_paths = numbers.ge(APP_PATHS_SINCE);
    let path = if has_app_paths { "app" } else { "hassio/ingress" };
    format!("homeassistant://{path}/{slug}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_depends_on_the_version() {
        for (version, path) in [
            ("2025.10.4", "hassio/ingress"),
            ("2026.1.0", "hassio/ingress"),
            ("2026.2.0b3", "app"),
            ("2026.11.0", "app"),
            ("2027.1.0", "app"),
        ] {
            let url = ingress_url("a1_bms_reader", version);
            assert_eq!(url, format!("homeassistant://{path}/a1_bms_reader"), "{version}");
        }
    }
}
