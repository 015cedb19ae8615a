//! The settings of the MQTT connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::rule;
use super::service;
use super::values::Values;
use super::variables::*;
use crate::model::Secret;
use crate::sink::mqtt::{Backfill, Discovery, Publish, Settings, SupervisedBroker, Tls, Version};

/// `None` if no broker is configured. `ids`: batteries and banks, in order.
pub(super) fn settings(values: &Values, ids: &[&str]) -> Option<Settings> {
    // Used in the Home Assistant add-on, unless a broker is configured.
    let ingress = service::supervisor(values);
    let supervisor = ingress.clone().filter(|_| !values.is_set(&MQTT_HOST));
    if !values.is_set(&MQTT_HOST) && supervisor.is_none() {
        let name = values.name_of(&MQTT_HOST);
        values.warn(format!("{name} is not set: nothing is published to MQTT"));
        return None;
    }
    let text = |variable: &Variable| values.value(variable).map(str::to_owned);
    let tls = tls(values);
    let base_topic = text(&MQTT_BASE_TOPIC);
    if ids.len() > 1 && base_topic.as_ref().is_some_and(|topic| !topic.contains("{id}")) {
        let allowed = "a topic that contains {id}, because there are several batteries";
        values.reject(&MQTT_BASE_TOPIC, allowed);
    }
    Some(Settings {
        // The Supervisor supplies the host.
        host: match supervisor {
            Some(_) => String::new(),
            None => values.explicit(&MQTT_HOST).and_then(rule::host)?,
        },
        supervisor: supervisor.map(|supervisor| SupervisedBroker {
            supervisor,
            tls: tls.clone().unwrap_or_default(),
        }),
        port: values.number(&MQTT_PORT).unwrap_or(if tls.is_some() { 8883 } else { 1883 }),
        client_id: text(&MQTT_CLIENT_ID).unwrap_or_else(|| match ids.first() {
            Some(first) => format!("bms-reader-{first}"),
            None => "bms-reader".to_owned(),
        }),
        keep_alive: values.seconds(&MQTT_KEEP_ALIVE)?,
        version: match values.choice(&MQTT_VERSION)? {
            "5" | "5.0" => Version::V5,
            _ => Version::V311,
        },
        tls,
        base_topic: base_topic?,
        discovery_prefix: text(&MQTT_TOPIC_PREFIX)?,
        discovery: match values.choice(&MQTT_DISCOVERY)? {
            "entity" => Discovery::Entity,
            "device" => Discovery::Device,
            _ => Discovery::Off,
        },
        allow_config: values.is_on(&ALLOW_CONFIG),
        remote_config: remote_config(values),
        publish: match values.choice(&MQTT_PUBLISH)? {
            "all" => Publish::All,
            _ => Publish::Changes(values.seconds(&MQTT_REFRESH)?),
        },
        dashboard: dashboard(values),
        ingress,
        backfill: values
            .value(&MQTT_BACKFILL)
            .and_then(rule::backfill)
            .flatten()
            .map(Backfill::new)
            .map(Arc::new),
        // Each battery has its own.
        victron: BTreeMap::new(),
        // Last, because its warning only makes sense beside valid settings.
        login: login(values),
    })
}

/// What `cmd/config` must not change, no other topic may change.
fn remote_config(values: &Values) -> bool {
    let (is_on, is_allowed) = (values.is_on(&MQTT_REMOTE_CONFIG), values.is_on(&ALLOW_CONFIG));
    if is_on && !is_allowed {
        let (name, allow) = (values.name_of(&MQTT_REMOTE_CONFIG), values.name_of(&ALLOW_CONFIG));
        values.warn(format!("{name} is ignored, because {allow} is off"));
    }
    is_on && is_allowed
}

/// `HTTP_URL`, or the address of `HTTP_LISTEN` if other machines reach it.
fn dashboard(values: &Values) -> Option<String> {
    let is_reachable = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        !ip.is_loopback() && !ip.is_unspecified()
    };
    let url = values.explicit(&HTTP_URL).map(str::to_owned);
    url.or_else(|| {
        let listen = values.value(&HTTP_LISTEN).and_then(rule::listen)?;
        Some(format!("http://{}", listen.filter(is_reachable)?))
    })
}

fn login(values: &Values) -> Option<(String, Secret)> {
    let password = values.explicit(&MQTT_PASSWORD);
    let user = values.explicit(&MQTT_USER);
    if user.is_none() && password.is_some() {
        // MQTT 3.1.1, section 3.1.2.9: no password without a user name.
        let name = values.name_of(&MQTT_PASSWORD);
        let user = values.name_of(&MQTT_USER);
        values.warn(format!("{name} is ignored, because {user} is not set"));
    }
    Some((user?.to_owned(), Secret::new(password.unwrap_or_default())))
}

fn tls(values: &Values) -> Option<Tls> {
    let insecure = values.is_on(&MQTT_TLS_INSECURE);
    if !values.is_on(&MQTT_TLS) {
        let files = [&MQTT_CA_FILE, &MQTT_CLIENT_CERT_FILE, &MQTT_CLIENT_KEY_FILE];
        if let Some(names) = values.set_among(&files) {
            // Never send in clear what was meant to be encrypted.
            let allowed =
                format!("true because of {names}; to connect without TLS, remove {names}");
            values.reject(&MQTT_TLS, allowed);
        } else if insecure {
            let name = values.name_of(&MQTT_TLS_INSECURE);
            let tls = values.name_of(&MQTT_TLS);
            values.warn(format!("{name} is ignored, because {tls} is off"));
        }
        return None;
    }
    if !cfg!(feature = "tls") {
        values.reject(&MQTT_TLS, "false: this program was built without TLS");
    }
    let file = |variable: &Variable| values.explicit(variable).map(str::to_owned);
    let (certificate, key) = (file(&MQTT_CLIENT_CERT_FILE), file(&MQTT_CLIENT_KEY_FILE));
    let half = match (&certificate, &key) {
        (Some(_), None) => Some((&MQTT_CLIENT_CERT_FILE, &MQTT_CLIENT_KEY_FILE)),
        (None, Some(_)) => Some((&MQTT_CLIENT_KEY_FILE, &MQTT_CLIENT_CERT_FILE)),
        _ => None,
    };
    if let Some((set, unset)) = half {
        let reason = format!("{} needs it", values.name_of(set));
        values.require(unset, &reason);
    }
    if insecure {
        let name = values.name_of(&MQTT_TLS_INSECURE);
        values.warn(format!("{name} is on: the identity of the broker is not verified"));
    }
    Some(Tls { ca_file: file(&MQTT_CA_FILE), client_files: certificate.zip(key), insecure })
}
