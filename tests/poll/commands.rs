//! Commands to a line.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_reader::command::{Command, ConfigChange};
use bms_reader::model::LinkState;
use bms_reader::model::reading::Switch;
use tokio::time::timeout;

use crate::fixture::{LOCKED, TestLine, wait_seconds};

#[tokio::test(start_paused = true)]
async fn read_command_reads_at_once() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    line.command(1, Command::Read).await.unwrap();
    wait_seconds(1).await;
    assert_eq!(line.bus.request_count(1), 2);
}

#[tokio::test(start_paused = true)]
async fn interval_change_takes_effect_at_once() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    let interval = Some(Duration::from_secs(1));
    line.configure(1, ConfigChange { interval, ..ConfigChange::default() }).await.unwrap();
    assert_eq!(line.state(1).profile.interval_ms, 1000);
    wait_seconds(10).await;
    assert!(line.bus.request_count(1) >= 10);
}

#[tokio::test(start_paused = true)]
async fn paused_battery_is_offline_until_resumed() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    line.pause(1, true).await;
    let before = line.bus.request_count(1);
    wait_seconds(60).await;
    assert_eq!(line.bus.request_count(1), before);
    assert!(matches!(line.state(1).link, LinkState::Offline { .. }));
    assert!(line.state(1).paused);
    let error = line.command(1, Command::Read).await.unwrap_err();
    assert!(error.0.contains("paused"), "{error}");

    line.pause(1, false).await;
    wait_seconds(1).await;
    assert!(!line.state(1).paused);
    assert_eq!(line.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn bluetooth_settings_of_a_wired_battery_are_refused() {
    let line = TestLine::start(&[1]);
    let change = ConfigChange { adapter: Some(None), ..ConfigChange::default() };
    let error = line.configure(1, change).await.unwrap_err();
    assert!(error.0.contains("Bluetooth"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn command_for_an_unknown_battery_is_refused() {
    let line = TestLine::start(&[1]);
    assert!(line.command(2, Command::Read).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn switch_is_set_and_read_back() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    line.switch(1, Switch::Charging, false).await.unwrap();
    wait_seconds(1).await;
    let charging = line.state(1).snapshot.unwrap().reading.switches.charging;
    assert_eq!(charging, Some(false), "the next read follows at once");
    assert_eq!(*line.bus.switch_commands.lock().unwrap(), [0]);
}

#[tokio::test(start_paused = true)]
async fn switch_that_does_not_change_is_reported() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    line.switch(1, Switch::Charging, false).await.unwrap();
    line.bus.ignores_switch_commands.store(true, Ordering::Relaxed);
    let error = line.switch(1, Switch::Charging, true).await.unwrap_err();
    assert!(error.0.contains("did not change the switch"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn switch_command_without_reply_is_not_confirmed() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    line.bus.silence(1);
    let error = line.switch(1, Switch::Charging, true).await.unwrap_err();
    assert!(error.0.contains("not confirmed"), "{error}");
    assert_eq!(*line.bus.switch_commands.lock().unwrap(), [1], "it is not repeated");
}

#[tokio::test(start_paused = true)]
async fn abandoned_switch_command_is_not_sent() {
    let line = TestLine::start(&[1]);
    line.bus.silence(1);
    // The line is busy with a read that gets no reply.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let command = line.switch(1, Switch::Charging, false);
    assert!(timeout(Duration::from_millis(100), command).await.is_err());
    wait_seconds(30).await;
    assert!(line.bus.switch_commands.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn switch_without_permission_is_refused() {
    let line = TestLine::start(&[LOCKED]);
    let error = line.switch(LOCKED, Switch::Charging, false).await.unwrap_err();
    assert!(error.0.contains("ALLOW_CONTROL"), "{error}");
    assert!(line.bus.switch_commands.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn switch_that_the_brand_lacks_is_refused() {
    let line = TestLine::start(&[1]);
    let error = line.switch(1, Switch::Balancing, false).await.unwrap_err();
    assert!(error.0.contains("has no balancing switch"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn switch_of_a_paused_battery_is_refused() {
    let line = TestLine::start(&[1]);
    line.pause(1, true).await;
    let error = line.switch(1, Switch::Charging, false).await.unwrap_err();
    assert!(error.0.contains("paused"), "{error}");
    assert!(line.bus.switch_commands.lock().unwrap().is_empty());
}
