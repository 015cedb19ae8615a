//! What the user can do about an error, in the words of the place where the program runs: options
//! and menus in Home Assistant, flags of Docker in a container, else commands of a shell.

use std::sync::OnceLock;

use crate::model::Installation;

/// Set once at the start. Errors occur in modules that know nothing about the configuration.
static INSTALLATION: OnceLock<Installation> = OnceLock::new();

/// Sets where the program runs; only the first call counts.
pub fn set_installation(installation: Installation) {
    let _ = INSTALLATION.set(installation);
}

/// Where the program runs.
pub fn installation() -> Installation {
    INSTALLATION.get().copied().unwrap_or(Installation::Host)
}

/// How messages name this variable: in Home Assistant it is an option.
pub fn setting(variable: &str) -> String {
    setting_at(installation(), variable)
}

fn setting_at(installation: Installation, variable: &str) -> String {
    match installation {
        Installation::HomeAssistant => format!("option {}", variable.to_lowercase()),
        Installation::Container | Installation::Host => variable.to_owned(),
    }
}

/// How messages say which value to set, after "set".
pub fn assignment(variable: &str, value: &str) -> String {
    assignment_at(installation(), variable, value)
}

fn assignment_at(installation: Installation, variable: &str, value: &str) -> String {
    let name = setting_at(installation, variable);
    match installation {
        Installation::HomeAssistant => format!("{name} to {value}"),
        Installation::Container | Installation::Host => format!("{name}={value}"),
    }
}

/// Whether options and menus are what the user can change.
pub fn is_home_assistant() -> bool {
    installation() == Installation::HomeAssistant
}

/// A remedy in the words of each installation.
#[derive(Debug)]
pub struct Remedy {
    home_assistant: &'static str,
    container: &'static str,
    host: &'static str,
}

impl Remedy {
    /// In the words of this installation.
    pub fn text(&self) -> &'static str {
        self.at(installation())
    }

    pub fn at(&self, installation: Installation) -> &'static str {
        match installation {
            Installation::HomeAssistant => self.home_assistant,
            Installation::Container => self.container,
            Installation::Host => self.host,
        }
    }
}

macro_rules! remedies {
    ($($name:ident { home_assistant: $ha:literal, container: $container:literal, host: $host:literal, })*) => {
        $(pub static $name: Remedy =
            Remedy { home_assistant: $ha, container: $container, host: $host };)*

        /// Every remedy and its name.
        pub static REMEDIES: &[(&str, &Remedy)] = &[$((stringify!($name), &$name),)*];
    };
}

remedies! {
    PORT_MISSING {
        home_assistant: "is the adapter plugged in? Settings > System > Hardware > All hardware lists \
            the serial ports of this machine; choose one of them in the configuration of the app",
        container: "is the adapter plugged in? `ls -l /dev/serial/by-id` on the host lists the ports; \
            pass the port with --device PORT:PORT, or under `devices:` in the compose file",
        host: "is the adapter plugged in? `bms-reader scan` lists the ports",
    }
    WRONG_PORT {
        home_assistant: "check that this is the right port: the set-up page of the app lists all ports",
        container: "check that this is the right port: `ls -l /dev/serial/by-id` on the host lists them",
        host: "check that this is the right path; `bms-reader scan` lists the ports",
    }
    PORT_DENIED {
        home_assistant: "restart the app; if that does not help, restart the machine (Settings > System \
            > power button): an adapter that was plugged in later may lack its permissions",
        container: "pass the port with --device, and the number of its group with --group-add (in a \
            compose file `group_add:`)",
        host: "add the user to the group of the device, usually dialout: sudo usermod -aG dialout USER, \
            then log in again; a systemd service needs SupplementaryGroups=dialout",
    }
    PORT_BUSY {
        home_assistant: "only one program can use a port: remove it from other apps and integrations \
            (Modbus, Zigbee, other BMS programs), or choose another port in the configuration of the app",
        container: "only one program can use a port: is another container or a program of the host \
            reading it?",
        host: "is another reader running? Only one program can use the port",
    }
    BATTERY_BUSY {
        home_assistant: "only one program can be connected to a battery: does a Bluetooth integration of \
            Home Assistant use it? Disable it under Settings > Devices & services",
        container: "another program on this host is connected to it by Bluetooth, and only one can be: \
            does the Bluetooth integration of Home Assistant use this battery?",
        host: "another program on this host is connected to it by Bluetooth, and only one can be: does \
            the Bluetooth integration of Home Assistant use this battery?",
    }
    ADAPTER_HANGS {
        home_assistant: "the adapter is busy or hangs: unplug it and plug it in again; if that does not \
            help, restart the machine (Settings > System > power button)",
        container: "the adapter is busy or hangs: try again; if that does not help, unplug it and plug it \
            in again, or run `systemctl restart bluetooth` on the host",
        host: "the adapter is busy or hangs: try again; if that does not help, unplug it and plug it in \
            again, or run `systemctl restart bluetooth`",
    }
    ADAPTER_MISSING {
        home_assistant: "is the Bluetooth adapter plugged in? Settings > Devices & services shows it \
            under Bluetooth",
        container: "is the adapter plugged in? `bluetoothctl list` on the host shows working adapters",
        host: "is the adapter plugged in? `bluetoothctl list` shows working adapters",
    }
    ADAPTER_OFF {
        home_assistant: "restart the machine (Settings > System > power button), which switches the \
            adapter on",
        container: "switch it on: `bluetoothctl power on` or `rfkill unblock bluetooth` on the host",
        host: "switch it on: `bluetoothctl power on` or `rfkill unblock bluetooth`",
    }
    NOTHING_IN_RANGE {
        home_assistant: "the adapter may hang (unplug it and plug it in again, or restart the machine) \
            or lack an antenna; or no Bluetooth device is near",
        container: "the adapter may hang (unplug it and plug it in again, or run `systemctl restart \
            bluetooth` on the host) or lack an antenna; or no Bluetooth device is near",
        host: "the adapter may hang (unplug it and plug it in again, or run `systemctl restart \
            bluetooth`) or lack an antenna; or no Bluetooth device is near",
    }
    BATTERY_OUT_OF_RANGE {
        home_assistant: "is the address right (the set-up page of the app lists the devices in reach), \
            the battery awake and near enough? While a phone app is connected to it, it is invisible",
        container: "is the address right (`bms-reader scan` lists the devices in reach), the battery \
            awake and near enough? While a phone app is connected to it, it is invisible",
        host: "is the address right (`bms-reader scan` lists the devices in reach), the battery awake \
            and near enough? While a phone app is connected to it, it is invisible",
    }
    NO_SERVICE {
        home_assistant: "is the type right? If it is, restart the machine (Settings > System > power \
            button): its memory of the battery's services is outdated",
        container: "is the type right? If it is, the cache of BlueZ is outdated: on the host run \
            `bluetoothctl remove ADDRESS`, delete its file under /var/lib/bluetooth/*/cache, and restart \
            bluetooth",
        host: "is the type right? If it is, the cache of BlueZ is outdated: run `bluetoothctl remove \
            ADDRESS`, delete its file under /var/lib/bluetooth/*/cache, and restart bluetooth",
    }
    NO_DBUS {
        home_assistant: "Bluetooth needs the host's D-Bus: restart the app; if that does not help, \
            install it again from the store",
        container: "Bluetooth needs the host's D-Bus: mount it with -v /run/dbus:/run/dbus:ro, and \
            install dbus and bluez on the host",
        host: "Bluetooth needs D-Bus: install and start dbus and bluez",
    }
    DBUS_DENIED {
        home_assistant: "restart the app; if that does not help, install it again from the store",
        container: "the D-Bus policy of the host must let this user call org.bluez: run the container \
            as root (user: \"0:0\")",
        host: "the D-Bus policy must let this user call org.bluez: add the user to the group bluetooth, \
            or run as root",
    }
    APPARMOR {
        home_assistant: "the AppArmor profile of the app forbids it: install the app again from the store",
        container: "add --security-opt apparmor=unconfined (in a compose file `security_opt:`)",
        host: "allow org.bluez in the AppArmor profile of the program",
    }
    SELINUX {
        home_assistant: "please report this: Home Assistant OS has no SELinux",
        container: "add --security-opt label=disable (in a compose file `security_opt:`)",
        host: "allow D-Bus for this program in the policy of SELinux",
    }
    UNKNOWN_USER {
        home_assistant: "restart the app; if that does not help, install it again from the store",
        container: "D-Bus refuses users that the host does not know: run the container as root (user: \
            \"0:0\") or as 65534:65534",
        host: "D-Bus refuses users that it does not know: run the program as a user of this machine",
    }
    NO_BLUEZ {
        home_assistant: "restart the machine (Settings > System > power button); if that does not help, \
            it has no Bluetooth",
        container: "install bluez on the host and start it: systemctl start bluetooth",
        host: "install bluez and start it: systemctl start bluetooth",
    }
    BLUEZ_SILENT {
        home_assistant: "unplug the Bluetooth adapter and plug it in again, or restart the machine \
            (Settings > System > power button)",
        container: "restart Bluetooth on the host: systemctl restart bluetooth; if that does not help, \
            unplug the adapter or restart the host",
        host: "restart Bluetooth: systemctl restart bluetooth; if that does not help, unplug the \
            adapter or restart the machine",
    }
    SILENT_BATTERY {
        home_assistant: "check that the battery is awake, its type, address and baud rate, and the wiring \
            (A and B may be swapped); the type `auto` in the configuration of the app detects the type",
        container: "check that the battery is awake, its type, address and baud rate, and the wiring (A \
            and B may be swapped); BMS_TYPE=auto detects the type",
        host: "check that the battery is awake, its type, address and baud rate, and the wiring (A and B \
            may be swapped); BMS_TYPE=auto detects the type",
    }
    UNEXPECTED_REPLY {
        home_assistant: "check the battery's type, the baud rate and the wiring; if they are right, set \
            the log level of the app to TRACE and report the frame that its log shows",
        container: "check the battery's type, the baud rate and the wiring; if they are right, report \
            the frame that the log shows with LOG_LEVEL=TRACE",
        host: "check the battery's type, the baud rate and the wiring; if they are right, report the \
            frame that the log shows with LOG_LEVEL=TRACE",
    }
    WRONG_LOGIN {
        home_assistant: "check the password or barcode of the battery in the configuration of the app, \
            whichever this type uses",
        container: "check BMS_PASSWORD or BMS_BARCODE, whichever this type of battery uses",
        host: "check BMS_PASSWORD or BMS_BARCODE, whichever this type of battery uses",
    }
    UNRECOGNISED {
        home_assistant: "check that the battery is awake and of a supported type, and check the wiring \
            or the distance; set its type in the configuration of the app if you know it",
        container: "check that the battery is awake and of a supported type, and check the wiring or the \
            distance; set the type if you know it. `bms-reader scan --probe` repeats the search; a \
            profile adds a brand",
        host: "check that the battery is awake and of a supported type, and check the wiring or the \
            distance; set the type if you know it. `bms-reader scan --probe` repeats the search; a \
            profile adds a brand",
    }
    NO_KNOWN_SERVICE {
        home_assistant: "is the address that of a battery (the set-up page of the app lists the devices \
            in reach)? Set the type if you know it; a profile adds a brand",
        container: "is the address that of a battery (`bms-reader scan` lists the devices in reach)? Set \
            the type if you know it; a profile adds a brand",
        host: "is the address that of a battery (`bms-reader scan` lists the devices in reach)? Set the \
            type if you know it; a profile adds a brand",
    }
    CRASH {
        home_assistant: "this is a bug in bms-reader: please report it with the log at the log level TRACE",
        container: "this is a bug in bms-reader: please report it with a log of LOG_LEVEL=TRACE",
        host: "this is a bug in bms-reader: please report it with a log of LOG_LEVEL=TRACE",
    }
    STALLED {
        home_assistant: "restart the app; this is a bug in bms-reader, unless its disk hangs: please \
            report it with the log",
        container: "restart the container; this is a bug in bms-reader, unless its disk hangs: please \
            report it with the log",
        host: "restart bms-reader; this is a bug in it, unless its disk hangs: please report it with the \
            log",
    }
    CONTROL_OFF {
        home_assistant: "switch on `allow_control` in the configuration of the app to allow it",
        container: "set ALLOW_CONTROL=true to allow it",
        host: "set ALLOW_CONTROL=true to allow it",
    }
    NOT_CONFIGURED {
        home_assistant: "no battery is configured: open the page of the app, which finds and adds \
            batteries, or enter one in its configuration",
        container: "no battery is configured: pass BMS_PORT or BMS_ADDRESS (one battery) or DEVICES \
            (several) with -e or in the compose file; the set-up page shows what to write",
        host: "no battery is configured: set BMS_PORT or BMS_ADDRESS (one battery) or DEVICES (several); \
            `bms-reader scan` lists what is connected",
    }
    BROKER_REFUSES {
        home_assistant: "is the broker running? Settings > Apps > Mosquitto broker starts it",
        container: "is the broker running?",
        host: "is the broker running?",
    }
    BROKER_ON_LOCALHOST {
        home_assistant: "localhost is this app itself: leave `mqtt_host` empty to use the Mosquitto \
            broker app",
        container: "localhost is this container itself, unless it uses the network of the host: set \
            MQTT_HOST to the address of the machine with the broker, or to the name of the broker's \
            container",
        host: "is the broker running?",
    }
    BROKER_UNKNOWN {
        home_assistant: "check `mqtt_host` in the configuration of the app",
        container: "check MQTT_HOST; the name of another container is known only in the same network \
            of Docker",
        host: "check MQTT_HOST and your DNS",
    }
    BROKER_LOGIN {
        home_assistant: "check `mqtt_user` and `mqtt_password` in the configuration of the app",
        container: "check MQTT_USER and MQTT_PASSWORD",
        host: "check MQTT_USER and MQTT_PASSWORD",
    }
    NOTIFY_SERVER {
        home_assistant: "check the host, the port and the scheme in `notify_url` in the configuration of \
            the app, and whether the server runs; localhost is this app itself",
        container: "check the host, the port and the scheme in NOTIFY_URL, and whether the server runs; \
            localhost is this container itself",
        host: "check the host, the port and the scheme in NOTIFY_URL, and whether the server runs",
    }
    NOTIFY_CERTIFICATE {
        home_assistant: "check the host in `notify_url` in the configuration of the app; a self-signed \
            certificate is not accepted",
        container: "check the host in NOTIFY_URL; for a self-signed certificate set NOTIFY_CA_FILE to it",
        host: "check the host in NOTIFY_URL; for a self-signed certificate set NOTIFY_CA_FILE to it",
    }
    NOTIFY_REFUSED {
        home_assistant: "check the token, the login, and the topic or chat in `notify_url` in the \
            configuration of the app",
        container: "check the token, the login, and the topic or chat in NOTIFY_URL",
        host: "check the token, the login, and the topic or chat in NOTIFY_URL",
    }
    NOTIFY_REDIRECT {
        home_assistant: "write the new address in `notify_url` in the configuration of the app; a \
            redirection to https means the scheme that ends with s",
        container: "write the new address in NOTIFY_URL; a redirection to https means the scheme that \
            ends with s",
        host: "write the new address in NOTIFY_URL; a redirection to https means the scheme that ends \
            with s",
    }
    INFLUX_SERVER {
        home_assistant: "check the host, the port and the scheme in `influx_url` in the configuration of \
            the app, and whether the server runs; localhost is this app itself",
        container: "check the host, the port and the scheme in INFLUX_URL, and whether the server runs; \
            localhost is this container itself",
        host: "check the host, the port and the scheme in INFLUX_URL, and whether the server runs",
    }
    INFLUX_CERTIFICATE {
        home_assistant: "check the host in `influx_url` in the configuration of the app; a self-signed \
            certificate is not accepted",
        container: "check the host in INFLUX_URL; for a self-signed certificate set INFLUX_CA_FILE to it",
        host: "check the host in INFLUX_URL; for a self-signed certificate set INFLUX_CA_FILE to it",
    }
    INFLUX_LOGIN {
        home_assistant: "check `influx_token`, or `influx_user` and `influx_password`, and whether they may \
            write to this database",
        container: "check INFLUX_TOKEN, or INFLUX_USER and INFLUX_PASSWORD, and whether they may write to \
            this database",
        host: "check INFLUX_TOKEN, or INFLUX_USER and INFLUX_PASSWORD, and whether they may write to this \
            database",
    }
    INFLUX_DATABASE {
        home_assistant: "check `influx_bucket` and `influx_org`, or `influx_database`, and whether it exists",
        container: "check INFLUX_BUCKET and INFLUX_ORG, or INFLUX_DATABASE, and whether it exists",
        host: "check INFLUX_BUCKET and INFLUX_ORG, or INFLUX_DATABASE, and whether it exists",
    }
    SERVER_BUSY {
        home_assistant: "look at the log of the server if this lasts",
        container: "look at the log of the server if this lasts",
        host: "look at the log of the server if this lasts",
    }
    BROKER_HUNG_UP {
        home_assistant: "check `mqtt_port` and `mqtt_tls` in the configuration of the app",
        container: "check MQTT_PORT and MQTT_TLS",
        host: "check MQTT_PORT and MQTT_TLS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_assistant_reads_no_words_of_a_shell() {
        let shell = [
            "Docker",
            "--",
            " -v ",
            "`bms-reader",
            "systemctl",
            "bluetoothctl",
            "sudo",
            "BMS_",
            "MQTT_",
            "DEVICES",
            "=",
            "compose",
            "/dev/",
        ];
        for (name, remedy) in REMEDIES {
            let text = remedy.at(Installation::HomeAssistant);
            assert!(shell.iter().all(|word| !text.contains(word)), "{name}: {text}");
        }
    }

    #[test]
    fn variable_is_an_option_in_home_assistant() {
        let name = |installation| setting_at(installation, "MQTT_CLIENT_ID");
        assert_eq!(name(Installation::HomeAssistant), "option mqtt_client_id");
        assert_eq!(name(Installation::Container), "MQTT_CLIENT_ID");
        let off = |installation| assignment_at(installation, "MQTT_TLS", "false");
        assert_eq!(off(Installation::HomeAssistant), "option mqtt_tls to false");
        assert_eq!(off(Installation::Host), "MQTT_TLS=false");
    }

    #[test]
    fn host_reads_no_words_of_a_container() {
        for (name, remedy) in REMEDIES {
            let text = remedy.at(Installation::Host);
            let of_container =
                ["Docker", "container", "compose", "--device", "on the host", "the app"];
            assert!(of_container.iter().all(|word| !text.contains(word)), "{name}: {text}");
        }
    }

    #[test]
    fn container_reads_no_menus() {
        for (name, remedy) in REMEDIES {
            let text = remedy.at(Installation::Container);
            assert!(!text.contains("Settings >") && !text.contains("the app"), "{name}: {text}");
        }
    }
}
