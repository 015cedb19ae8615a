//! What holds for every transport: each law is written once and checked on BlueZ, on a Bluetooth proxy, on a
//! serial port, on TCP and on a serial port of an ESPHome device, always with the same simulated batteries.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "../common/attempts.rs"]
mod attempts;
#[path = "../common/bluez.rs"]
mod bluez;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/esphome/mod.rs"]
mod esphome_device;
#[path = "../common/faulty_bridge/mod.rs"]
mod faulty_bridge;
#[allow(dead_code, reason = "only a part of it is needed")]
#[path = "../poll/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "only a part of it is needed")]
#[path = "../ble/rig.rs"]
mod rig;

mod lines;
mod links;
mod transport;
mod wired;
mod wireless;

use transport::Transport;

/// Checks laws on a transport, as `MODULE::LAW`.
macro_rules! check {
    ($module:ident, $transport:ty: $($laws:ident::$law:ident)*) => {
        mod $module {
            use super::*;

            $(#[test]
            fn $law() {
                let name = concat!(stringify!($module), "::", stringify!($law));
                <$transport>::run(name, async |transport| $laws::$law(transport).await);
            })*
        }
    };
}

/// Checks laws on all transports.
macro_rules! check_all {
    ($($laws:ident::$law:ident)*) => {
        check!(over_bluez, rig::Rig: $($laws::$law)*);
        check!(over_proxy, wireless::Proxy: $($laws::$law)*);
        check!(over_serial, wired::Wired<wired::Serial>: $($laws::$law)*);
        check!(over_tcp, wired::Wired<wired::Tcp>: $($laws::$law)*);
        check!(over_esphome, wired::Wired<wired::Esphome>: $($laws::$law)*);
    };
}

check_all! {
    links::reply_in_pieces_is_put_together
    links::cancelled_receive_loses_nothing
    links::drain_discards_only_what_has_arrived
    links::chunks_before_the_end_are_delivered
    links::link_ends_with_its_transport_and_can_be_opened_again
    links::battery_has_one_connection
    links::closed_and_dropped_links_disconnect
    links::opening_that_is_cancelled_leaves_nothing
    links::write_that_is_not_accepted_has_a_limit
    lines::values_are_those_of_the_battery
    lines::lost_reply_costs_one_read
    lines::silent_battery_delays_no_other
    lines::stopped_and_aborted_lines_disconnect
    lines::outage_ends_with_the_transport
}

/// Checks laws on all transports but BlueZ: bluetoothd of the tests is a script, which drowns in its own flood.
macro_rules! check_floods {
    ($($laws:ident::$law:ident)*) => {
        check!(floods_over_proxy, wireless::Proxy: $($laws::$law)*);
        check!(floods_over_serial, wired::Wired<wired::Serial>: $($laws::$law)*);
        check!(floods_over_tcp, wired::Wired<wired::Tcp>: $($laws::$law)*);
        check!(floods_over_esphome, wired::Wired<wired::Esphome>: $($laws::$law)*);
    };
}

check_floods! {
    links::unread_flood_is_bounded
    lines::flood_before_a_reply_ends_in_time
}
