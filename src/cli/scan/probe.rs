//! Identifies the battery at a port or Bluetooth address, as the type `auto` does.

use crate::cli::read::read;
use crate::config::Device;
use crate::model::{Fault, FaultKind};
use crate::protocol::{self, DriverInfo};
use crate::transport::Bluetooth;

pub(super) type ProbeResult = Result<Identified, Fault>;

#[derive(Debug, Clone)]
pub(super) struct Identified {
    pub driver: &'static DriverInfo,
    /// As the battery reports it.
    pub model: Option<String>,
}

/// Reads the battery that these variables configure, with their names in lower case.
pub(super) async fn probe(variables: &[(&str, &str)], bluetooth: &Bluetooth) -> ProbeResult {
    let not_probed = || Fault::new(FaultKind::Timeout, "not probed", "please report this");
    let device = Device::from_variables(variables).ok_or_else(not_probed)?;
    let state = read(&[device], bluetooth, None).await.pop().ok_or_else(not_probed)?;
    match protocol::find(&state.profile.brand).zip(state.snapshot) {
        Some((driver, snapshot)) => {
            Ok(Identified { driver, model: snapshot.reading.identity.model.clone() })
        }
        None => Err(state.attempt.and_then(|attempt| attempt.fault).unwrap_or_else(not_probed)),
    }
}
