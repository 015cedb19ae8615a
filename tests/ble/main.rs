//! Bluetooth against a played bluetoothd on a D-Bus of its own: every known way in which it fails,
//! and after each test nothing may be left over: no scan, no connection, no subscription, no agent.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod battery;
mod buses;
mod hangs;
mod house;
mod known;
mod letting_go;
mod living;
mod rig;
mod seen;
mod soak;
mod turns;
mod usual;
