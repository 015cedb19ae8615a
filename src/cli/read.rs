//! `read`: each battery once, one JSON object per battery on stdout.

use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::line::{Command, Flag, Takes};
use super::{FAILED, FINE, MISCONFIGURED, with_config};
use crate::app;
use crate::board::Board;
use crate::capture::Recorder;
use crate::config::{Config, Device};
use crate::poll::read_once;
use crate::raw::raw;
use crate::transport::Bluetooth;

pub(super) const COMMAND: Command = Command {
    name: "read",
    does: "Read each battery once; one JSON object per battery on stdout",
    operand: None,
    flags: &[
        Flag::new("device", Takes::One("ID"), "Only this battery"),
        Flag::new(
            "capture",
            Takes::One("FILE"),
            "Write everything that is said to this file, for a bug report",
        ),
    ],
    prepare: |given| {
        let only = given.text("device").map(str::to_owned);
        let capture = given.text("capture").map(PathBuf::from);
        Ok(Box::pin(with_config(|config| run(config, only, capture))))
    },
};

async fn run(config: Config, only: Option<String>, capture: Option<PathBuf>) -> u8 {
    let devices = match choose(config.devices, only.as_deref()) {
        Ok(devices) => devices,
        Err(complaint) => {
            eprintln!("bms-reader: {complaint}");
            return MISCONFIGURED;
        }
    };
    let (recorder, writer) = match capture.or(config.capture).map(|path| open(&path)) {
        None => (None, None),
        Some(Ok((recorder, writer))) => (Some(recorder), Some(writer)),
        Some(Err(complaint)) => {
            eprintln!("bms-reader: {complaint}");
            return FAILED;
        }
    };
    let board = read(&devices, recorder).await;
    if let Some(writer) = writer {
        // It ends when the last line has let go of it.
        let _ = writer.await;
    }
    let mut code = FINE;
    for device in &devices {
        let Some(state) = board.latest(&device.profile.id) else { continue };
        println!("{}", raw(&state));
        if state.attempt.is_none_or(|attempt| attempt.fault.is_some()) {
            code = FAILED;
        }
    }
    code
}

fn open(path: &Path) -> Result<(Recorder, JoinHandle<()>), String> {
    Recorder::open(path).map_err(|error| format!("cannot write to {}: {error}", path.display()))
}

fn choose(devices: Vec<Device>, only: Option<&str>) -> Result<Vec<Device>, String> {
    if devices.is_empty() {
        return Err("no battery is configured: set BMS_TYPE and BMS_PORT, or DEVICES; \
                    `bms-reader scan` shows what is connected"
            .to_owned());
    }
    let Some(only) = only else { return Ok(devices) };
    let names: Vec<_> = devices.iter().map(|device| device.profile.id.to_string()).collect();
    let chosen: Vec<_> =
        devices.into_iter().filter(|device| device.profile.id.as_str() == only).collect();
    if chosen.is_empty() {
        return Err(format!("no battery named {only}; configured are: {}", names.join(", ")));
    }
    Ok(chosen)
}

/// One attempt with each; lines at the same time, batteries of one line in turn.
pub(super) async fn read(devices: &[Device], recorder: Option<Recorder>) -> Board {
    let board = Board::new(devices.iter().map(|device| device.profile.clone()));
    let stop = CancellationToken::new();
    let mut lines = JoinSet::new();
    for mut line in app::lines(devices, &Bluetooth::default(), &app::SimOptions::default(), &stop) {
        line.recorder.clone_from(&recorder);
        let board = board.clone();
        lines.spawn(async move { read_once(line, &board).await }.boxed());
    }
    while lines.join_next().await.is_some() {}
    stop.cancel();
    board
}
