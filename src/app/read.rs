//! Reads batteries once, without starting the service.

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lines::{SimOptions, lines};
use crate::board::Board;
use crate::capture::Recorder;
use crate::config::Device;
use crate::model::DeviceState;
use crate::poll::{Line, read_once};
use crate::transport::Bluetooth;

/// One attempt with each battery; their states in the same order. Lines are read concurrently, the
/// batteries of one line in turn.
pub async fn read(
    devices: &[Device],
    bluetooth: &Bluetooth,
    recorder: Option<Recorder>,
) -> Vec<DeviceState> {
    read_lines(devices, bluetooth, |line| line.recorder.clone_from(&recorder)).await
}

/// The same with lines that are adjusted before they are read.
pub(super) async fn read_lines(
    devices: &[Device],
    bluetooth: &Bluetooth,
    adjust: impl Fn(&mut Line),
) -> Vec<DeviceState> {
    let board = Board::new(devices.iter().map(|device| device.profile.clone()));
    let stop = CancellationToken::new();
    let mut reads = JoinSet::new();
    for mut line in lines(devices, bluetooth, &SimOptions::default(), &stop) {
        adjust(&mut line);
        let board = board.clone();
        reads.spawn(async move { read_once(line, &board).await }.boxed());
    }
    while reads.join_next().await.is_some() {}
    stop.cancel();
    devices.iter().filter_map(|device| board.latest(&device.profile.id)).collect()
}
