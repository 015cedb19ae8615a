//! What the operator said about MQTT.

use super::fault::Findings;
use super::rule;
use super::values::Values;
use super::variables::{
    MQTT_BASE_TOPIC, MQTT_CA_FILE, MQTT_CLIENT_CERT_FILE, MQTT_CLIENT_ID, MQTT_CLIENT_KEY_FILE,
    MQTT_DISCOVERY, MQTT_HOST, MQTT_KEEP_ALIVE, MQTT_PASSWORD, MQTT_PORT, MQTT_PUBLISH,
    MQTT_REFRESH, MQTT_TLS, MQTT_TLS_INSECURE, MQTT_TOPIC_PREFIX, MQTT_USER, SUPERVISOR_API,
    SUPERVISOR_TOKEN, Variable,
};
use crate::model::Secret;
use crate::sink::mqtt::{Discovery, Publish, Settings, Supervisor, Tls};

/// The settings; `None` when no broker was named. `ids`: batteries and banks, in order.
pub(super) fn settings(values: &Values, ids: &[&str], findings: &mut Findings) -> Option<Settings> {
    let supervisor = supervisor(values);
    if !values.mentions(&MQTT_HOST) && supervisor.is_none() {
        findings.warn("MQTT_HOST is not set: nothing is published to MQTT");
        return None;
    }
    // The Supervisor fills in what it knows.
    let host = match supervisor {
        Some(_) => String::new(),
        None => values.given(&MQTT_HOST).and_then(rule::host)?,
    };
    let text = |variable: &Variable| values.text(variable).map(str::to_owned);
    let login = login(values, findings);
    let tls = tls(values, findings);
    let base_topic = text(&MQTT_BASE_TOPIC);
    if ids.len() > 1 && base_topic.as_ref().is_some_and(|topic| !topic.contains("{id}")) {
        let allowed = "a topic with {id} in it, as there are several batteries";
        findings.fault(values.fault(&MQTT_BASE_TOPIC, allowed));
    }
    Some(Settings {
        supervisor: supervisor.map(|it| Supervisor { tls: tls.clone().unwrap_or_default(), ..it }),
        host,
        port: values.number(&MQTT_PORT).unwrap_or(if tls.is_some() { 8883 } else { 1883 }),
        login,
        client_id: text(&MQTT_CLIENT_ID).unwrap_or_else(|| match ids.first() {
            Some(first) => format!("bms-reader-{first}"),
            None => "bms-reader".to_owned(),
        }),
        keep_alive: values.seconds(&MQTT_KEEP_ALIVE)?,
        tls,
        base_topic: base_topic?,
        discovery_prefix: text(&MQTT_TOPIC_PREFIX)?,
        discovery: match values.choice(&MQTT_DISCOVERY)? {
            "entity" => Discovery::Entity,
            "device" => Discovery::Device,
            _ => Discovery::Off,
        },
        publish: match values.choice(&MQTT_PUBLISH)? {
            "all" => Publish::All,
            _ => Publish::Changes(values.seconds(&MQTT_REFRESH)?),
        },
    })
}

/// In the Home Assistant app, unless the operator named a broker.
fn supervisor(values: &Values) -> Option<Supervisor> {
    let token = values.given(&SUPERVISOR_TOKEN).filter(|_| !values.mentions(&MQTT_HOST))?;
    let url = values.text(&SUPERVISOR_API)?;
    Some(Supervisor { url: url.to_owned(), token: Secret::new(token), tls: Tls::default() })
}

fn login(values: &Values, findings: &mut Findings) -> Option<(String, Secret)> {
    let password = values.given(&MQTT_PASSWORD);
    match values.given(&MQTT_USER) {
        Some(user) => Some((user.to_owned(), Secret::new(password.unwrap_or_default()))),
        None => {
            if password.is_some() {
                // MQTT 3.1.1, section 3.1.2.9: no password without a user name.
                let name = values.name(&MQTT_PASSWORD);
                findings.warn(format!("{name} is ignored, because MQTT_USER is not set"));
            }
            None
        }
    }
}

fn tls(values: &Values, findings: &mut Findings) -> Option<Tls> {
    if !values.switch(&MQTT_TLS) {
        let files = [&MQTT_CA_FILE, &MQTT_CLIENT_CERT_FILE, &MQTT_CLIENT_KEY_FILE];
        let mut unused = values.set_among(&files);
        if values.switch(&MQTT_TLS_INSECURE) {
            unused.push(values.name(&MQTT_TLS_INSECURE));
        }
        if !unused.is_empty() {
            findings.warn(format!("{} ignored, because MQTT_TLS is not on", unused.join(", ")));
        }
        return None;
    }
    if !cfg!(feature = "tls") {
        let allowed = "false, as this program was built without TLS";
        findings.fault(values.fault(&MQTT_TLS, allowed));
    }
    let file = |variable: &Variable| values.given(variable).map(str::to_owned);
    let client_files = match (file(&MQTT_CLIENT_CERT_FILE), file(&MQTT_CLIENT_KEY_FILE)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (certificate, _) => {
            let (set, unset) = match certificate {
                Some(_) => (&MQTT_CLIENT_CERT_FILE, &MQTT_CLIENT_KEY_FILE),
                None => (&MQTT_CLIENT_KEY_FILE, &MQTT_CLIENT_CERT_FILE),
            };
            let why = format!("{} is of no use without it", values.name(set));
            findings.faults.extend(values.missing(unset, &why));
            None
        }
    };
    let insecure = values.switch(&MQTT_TLS_INSECURE);
    if insecure {
        let name = values.name(&MQTT_TLS_INSECURE);
        findings.warn(format!("{name} is on: the broker may be anybody"));
    }
    Some(Tls { ca_file: file(&MQTT_CA_FILE), client_files, insecure })
}
