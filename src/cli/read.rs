//! `read`: reads each battery once; a table on a terminal, otherwise one JSON object per battery.

use std::path::PathBuf;

use super::args::FlagValue::{self, One};
use super::args::{Command, Flag};
use super::{
    CommandError, FAILED, Outcome, SUCCESS, failed, load_config, log, misconfigured, print, table,
    terminal,
};
use crate::app::{self, read};
use crate::capture::Recorder;
use crate::config::Device;
use crate::model::Attempt;
use crate::raw::raw;
use crate::remedy;
use crate::sink::http;

pub(super) const COMMAND: Command = Command {
    name: "read",
    about: "Read each battery once; prints a table on a terminal, otherwise one JSON object per \
            battery",
    positional: None,
    flags: &[
        Flag::new("device", One("ID"), "Read this battery only"),
        Flag::new("capture", One("FILE"), "Record all traffic in this file, for a bug report"),
        Flag::new("json", FlagValue::None, "Print JSON on a terminal, too"),
    ],
    prepare: |matches| {
        let only = matches.value("device").map(str::to_owned);
        let capture = matches.value("capture").map(PathBuf::from);
        Ok(Box::pin(run(only, capture, matches.has("json"))))
    },
};

async fn run(only: Option<String>, capture: Option<PathBuf>, json: bool) -> Outcome {
    let table_size = terminal::size().filter(|_| !json);
    let config = load_config()?;
    // The table shows the results that would be logged.
    if table_size.is_none() || !config.log.is_default {
        log::start(&config.log)?;
    }
    let bluetooth = app::bluetooth(&config.proxies);
    let devices = select(config.devices, only.as_deref())?;
    let open = |path: PathBuf| {
        Recorder::open(&path)
            .map_err(|error| failed(format!("cannot write to {}: {error}", path.display())))
    };
    let (recorder, writer) = capture.or(config.capture).map(open).transpose()?.unzip();
    let states = read(&devices, &bluetooth, recorder).await;
    if let Some(writer) = writer {
        // It ends after the last line has dropped its recorder.
        let _ = writer.await;
    }
    match table_size {
        Some(size) => {
            let batteries: Vec<_> = states.iter().map(http::battery_json).collect();
            print(table::text(&batteries, size.columns))?;
        }
        None => states.iter().try_for_each(|state| print(raw(state)))?,
    }
    let is_read = |attempt: &Attempt| attempt.fault.is_none();
    let all_read = states.iter().all(|state| state.attempt.as_ref().is_some_and(is_read));
    Ok(if all_read { SUCCESS } else { FAILED })
}

fn select(devices: Vec<Device>, only: Option<&str>) -> Result<Vec<Device>, CommandError> {
    if devices.is_empty() {
        return Err(misconfigured(remedy::NOT_CONFIGURED.text()));
    }
    let Some(only) = only else { return Ok(devices) };
    let ids: Vec<_> = devices.iter().map(|device| device.profile.id.to_string()).collect();
    let device = devices.into_iter().find(|device| device.profile.id.as_str() == only);
    let device = device.ok_or_else(|| {
        misconfigured(format!("unknown battery {only}; configured: {}", ids.join(", ")))
    })?;
    Ok(vec![device])
}
