//! The server without a connection, for `fuzz/`.

use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
pub use axum::Router;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Client, Guard};
use super::control::Control;
use super::setup::{BatteryOptions, Options, SetupPage, SetupSettings};
use super::{AppState, History, routes};
use crate::board::Board;
use crate::command::CommandBus;
use crate::model::Installation;
use crate::setup::Setup;
use crate::tasks::Tasks;

/// The routes for a client on this machine, with a set-up page whose task never runs.
pub fn router(board: Board, history: History, stop: CancellationToken) -> Router {
    let settings = SetupSettings {
        installation: Installation::Container,
        supervisor: None,
        options: Options::new(),
        battery_options: BatteryOptions::new(),
        brands: Vec::new(),
        check: |_| Vec::new(),
    };
    let page = SetupPage::new(settings, Setup::new().0);
    let client = Client(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (guard, tasks) = (Guard::new(Access::default()), Tasks::default());
    let shared = (board, history);
    let control = Control::new(CommandBus::default(), true);
    let app = AppState::new(shared, control, guard, page, tasks, stop);
    routes(app).layer(Extension(client))
}
