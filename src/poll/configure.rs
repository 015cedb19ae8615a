//! What an operator changes about a battery while the program runs.

use tracing::info;

use super::line::Station;
use super::radio::answer_limit;
use crate::board::Board;
use crate::command::{CommandError, ConfigChange};
use crate::model::DeviceId;
use crate::protocol::advertisement::address_bytes;
use crate::transport::Endpoint;

/// Takes a change over, all of it or nothing.
pub(super) async fn configure(
    station: &mut Station,
    index: usize,
    change: &ConfigChange,
) -> Result<(), CommandError> {
    let Some(id) = station.served.get(index).map(|served| served.member.id.clone()) else {
        return Ok(());
    };
    if station.radio.is_none() {
        let radio_only = change.address.is_some() || change.adapter.is_some();
        if radio_only || change.scan_timeout.is_some() {
            let text = "is wired: address, adapter and scan_timeout_s are for Bluetooth batteries";
            return Err(CommandError(format!("{id} {text}")));
        }
        station.served[index].configure(change);
        return Ok(());
    }
    if let Some(address) = &change.address
        && let Some(other) = holder(station, &id, address)
    {
        return Err(CommandError(format!("{id}: {address} is the address of {other}")));
    }
    on_radio(station, index, change).await;
    Ok(())
}

/// Another battery that has this address already.
fn holder(station: &Station, id: &DeviceId, address: &str) -> Option<DeviceId> {
    let board = &station.board;
    board.devices().filter(|other| *other != id).find(|other| is_at(board, other, address)).cloned()
}

fn is_at(board: &Board, id: &DeviceId, address: &str) -> bool {
    board.latest(id).is_some_and(|state| state.profile.address.as_deref() == Some(address))
}

async fn on_radio(station: &mut Station, index: usize, change: &ConfigChange) {
    if let Endpoint::Ble(config) = &mut station.wire.endpoint {
        config.timeout = change.timeout.unwrap_or(config.timeout);
        config.scan_timeout = change.scan_timeout.unwrap_or(config.scan_timeout);
        config.adapter = change.adapter.clone().unwrap_or_else(|| config.adapter.clone());
        config.address = change.address.clone().unwrap_or_else(|| config.address.clone());
    }
    if let (Some(radio), Some(limit)) = (&mut station.radio, change.timeout) {
        radio.limit = limit;
    }
    let served = &mut station.served[index];
    served.configure(&ConfigChange { timeout: change.timeout.map(answer_limit), ..change.clone() });
    if change.address.is_none() && change.adapter.is_none() {
        return;
    }
    let moved = |address: &&String| !is_at(&station.board, &served.member.id, address);
    if let Some(address) = change.address.as_ref().filter(moved) {
        served.member.options.mac = address_bytes(address);
        served.change_battery();
    }
    served.profile(|profile| {
        profile.address = change.address.clone().or_else(|| profile.address.take());
        profile.adapter = change.adapter.clone().unwrap_or_else(|| profile.adapter.take());
    });
    info!("{}: looked for at {} from now on", served.member.id, station.wire.endpoint);
    served.due = tokio::time::Instant::now();
    station.wire.start_over().await;
}
