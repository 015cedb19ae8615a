//! An operator turns a switch of a battery: told, read back, and believed only then.

use tokio::time::Instant;
use tracing::{info, warn};

use super::exchange::CycleError;
use super::line::Station;
use super::served::Served;
use crate::command::{CommandError, Request};
use crate::model::reading::Setting;

/// Turns a switch, reads it back, and says what came of it.
pub(super) async fn turn(
    station: &mut Station,
    index: usize,
    setting: Setting,
    request: &Request,
) -> Result<(), CommandError> {
    let Some(served) = station.served.get(index) else { return Ok(()) };
    let id = served.member.id.clone();
    let refuse = |why: String| Err(CommandError(format!("{id}: {why}")));
    if let Some(why) = forbids(served, setting) {
        return refuse(why);
    }
    if !station.wire.is_open() {
        // Why it cannot be opened is told by the order, which then fails.
        station.open().await;
        if request.is_abandoned() {
            return refuse("the connection took too long".to_owned());
        }
    }
    let limit = station.limit(index);
    let served = &mut station.served[index];
    let Some(driver) = &mut served.driver else { return refuse(UNKNOWN.to_owned()) };
    let told = station.wire.order(&mut **driver, setting, limit, &mut served.tap).await;
    if let Err(CycleError::Broken(_)) = &told {
        served.renew();
    }
    // Whatever happened, the next look shows how the battery stands now.
    served.due = Instant::now();
    let seen = told.map(|reading| reading.switches.get(setting.switch));
    let why = match seen {
        Ok(Some(on)) if on == setting.on => {
            info!("{id}: {setting} on request, read back and confirmed");
            return Ok(());
        }
        Ok(Some(_)) => "the battery accepted it, but did not do it".to_owned(),
        Ok(None) => "the battery does not say how the switch stands now".to_owned(),
        Err(error) => error.fault().message,
    };
    warn!("{id}: {setting} was asked for and not confirmed: {why}");
    refuse(format!("{setting} is not confirmed: {why}"))
}

pub(super) const PAUSED: &str = "it is paused, so it is left alone";
const UNKNOWN: &str = "nobody knows yet what it is";

/// Why an order is not carried out at all.
fn forbids(served: &Served, setting: Setting) -> Option<String> {
    let name = setting.switch.name();
    let Some(driver) = served.member.driver else { return Some(UNKNOWN.to_owned()) };
    if !driver.controls_on(served.member.options.medium).contains(&setting.switch) {
        return Some(format!(
            "the type {} has no {name} switch that we could turn here",
            driver.name
        ));
    }
    if !served.member.control {
        return Some(format!("{name} cannot be switched: set ALLOW_CONTROL=true to allow it"));
    }
    served.paused.then(|| PAUSED.to_owned())
}
