//! Commands: read now, change a setting, set a switch.

use tokio::time::Instant;
use tracing::{info, warn};

use super::LineTask;
use crate::command::{Command, CommandError, ConfigChange, Request};
use crate::model::units::millis;
use crate::model::{DeviceId, Setting};
use crate::poll::battery::PolledBattery;
use crate::poll::cycle::CycleError;
use crate::protocol::CycleKind;
use crate::protocol::advertisement::address_bytes;
use crate::remedy;
use crate::transport::LinkConfig;

const PAUSED: &str = "the battery is paused";
const UNKNOWN_TYPE: &str = "the type of the battery is not known yet";

impl LineTask {
    pub(super) async fn handle(&mut self, request: Request) {
        let id = &request.device;
        let Some(index) = self.batteries.iter().position(|battery| battery.member.id == *id) else {
            return;
        };
        if request.is_abandoned() {
            // The sender has reported a failure, so a switch must not be set minutes later.
            info!("{id}: a command waited too long and was ignored");
            return;
        }
        let answer = match &request.command {
            Command::Read if self.batteries[index].paused => Err(PAUSED.to_owned()),
            Command::Read => {
                self.batteries[index].due = Instant::now();
                Ok(())
            }
            Command::Configure(change) => self.configure(index, change).await,
            Command::Switch(setting) => {
                let answer = self.set_switch(index, *setting, &request).await;
                self.connection.release(self.batteries[index].member.driver).await;
                answer
            }
        };
        let answer = answer.map_err(|reason| CommandError(format!("{id}: {reason}")));
        // The requester may have dropped its receiver.
        let _ = request.reply.send(answer);
        if self.next_due().is_none() {
            self.connection.close().await;
        }
    }

    /// Applies all of a change, or nothing.
    async fn configure(&mut self, index: usize, change: &ConfigChange) -> Result<(), String> {
        let battery = &mut self.batteries[index];
        if self.connection.ble.is_none() {
            let for_ble = change.address.is_some() || change.adapter.is_some();
            if for_ble || change.scan_timeout.is_some() {
                let refusal =
                    "address, adapter and scan_timeout_s are for Bluetooth batteries only";
                return Err(refusal.to_owned());
            }
            battery.configure(change);
            return Ok(());
        }
        let id = battery.member.id.clone();
        if let Some(address) = &change.address
            && let Some(other) =
                self.board.devices().find(|other| **other != id && self.is_at(other, address))
        {
            return Err(format!("{address} is already the address of {other}"));
        }
        self.configure_ble(index, change).await;
        Ok(())
    }

    fn is_at(&self, id: &DeviceId, address: &str) -> bool {
        let state = self.board.latest(id);
        state.is_some_and(|state| state.profile.address.as_deref() == Some(address))
    }

    async fn configure_ble(&mut self, index: usize, change: &ConfigChange) {
        if let LinkConfig::Ble(config) = &mut self.connection.endpoint {
            config.timeout = change.timeout.unwrap_or(config.timeout);
            config.scan_timeout = change.scan_timeout.unwrap_or(config.scan_timeout);
            config.adapter = change.adapter.clone().unwrap_or_else(|| config.adapter.clone());
            config.address = change.address.clone().unwrap_or_else(|| config.address.clone());
        }
        let is_new = |address: &&String| !self.is_at(&self.batteries[index].member.id, address);
        let new_address = change.address.as_ref().filter(is_new);
        let battery = &mut self.batteries[index];
        battery.configure(change);
        if let Some(timeout) = change.scan_timeout {
            battery.update_profile(|profile| profile.scan_timeout_ms = Some(millis(timeout)));
        }
        if change.address.is_none() && change.adapter.is_none() {
            return;
        }
        if let Some(address) = new_address {
            battery.member.options.mac = address_bytes(address);
            battery.change_battery();
            if let Some(search) = &mut self.search {
                search.start_over();
            }
        }
        battery.update_profile(|profile| {
            profile.address = change.address.clone().or_else(|| profile.address.take());
            profile.adapter = change.adapter.clone().unwrap_or_else(|| profile.adapter.take());
        });
        info!("{}: looking for it at {}", battery.member.id, self.connection.endpoint);
        battery.due = Instant::now();
        self.connection.start_over().await;
    }

    /// Sets a switch and reads it back.
    async fn set_switch(
        &mut self,
        index: usize,
        setting: Setting,
        request: &Request,
    ) -> Result<(), String> {
        if let Some(refusal) = refusal(&self.batteries[index], setting) {
            return Err(refusal);
        }
        if !self.connection.is_open() {
            // If this fails, the cycle below reports why.
            self.open().await;
            if request.is_abandoned() {
                return Err("the connection took too long".to_owned());
            }
        }
        let battery = &mut self.batteries[index];
        let result = self.connection.run(battery, CycleKind::Write(setting), false).await;
        if let Err(CycleError::Panicked(_)) = &result {
            battery.renew_driver();
        }
        // Whatever happened, the next read shows the state of the switch.
        battery.due = Instant::now();
        let id = &battery.member.id;
        let reason = match result.map(|reading| reading.switches.get(setting.switch)) {
            Ok(Some(on)) if on == setting.on => {
                info!("{id}: {setting} on request, confirmed by the battery");
                return Ok(());
            }
            Ok(Some(_)) => "the battery accepted it but did not change the switch; an active \
                            protection, or a setting in its app, can prevent it"
                .to_owned(),
            Ok(None) => "the battery did not report the state of the switch".to_owned(),
            Err(error) => {
                let fault = error.fault();
                format!("{}; {}", fault.message, fault.hint)
            }
        };
        warn!("{id}: {setting} was requested but is not confirmed: {reason}");
        Err(format!("{setting} is not confirmed: {reason}"))
    }
}

/// Why a switch cannot be set at all.
fn refusal(battery: &PolledBattery, setting: Setting) -> Option<String> {
    let name = setting.switch.name();
    let Some(driver) = battery.member.driver else { return Some(UNKNOWN_TYPE.to_owned()) };
    if !driver.controls_on(battery.member.options.medium).contains(&setting.switch) {
        return Some(format!("the type {} has no {name} switch that can be set here", driver.name));
    }
    if !battery.member.control {
        return Some(format!("{name} cannot be switched: {}", remedy::CONTROL_OFF.text()));
    }
    battery.paused.then(|| PAUSED.to_owned())
}
