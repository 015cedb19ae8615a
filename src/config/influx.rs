//! The server for line protocol.

use super::values::Values;
use super::variables::*;
use crate::model::Secret;
use crate::sink::influx::{Address, Database, Login, Server, Settings, Tls};

/// What has no meaning without `INFLUX_URL`.
const OTHERS: [&Variable; 8] = [
    &INFLUX_TOKEN,
    &INFLUX_BUCKET,
    &INFLUX_ORG,
    &INFLUX_DATABASE,
    &INFLUX_USER,
    &INFLUX_PASSWORD,
    &INFLUX_INTERVAL,
    &INFLUX_CA_FILE,
];

/// `None` if no server is configured.
pub(super) fn settings(values: &Values) -> Option<Settings> {
    if !values.is_set(&INFLUX_URL) {
        ignore(values, &OTHERS, &INFLUX_URL, false);
        return None;
    }
    let (database, login) = (database(values), login(values));
    let address = values.explicit(&INFLUX_URL).and_then(Address::parse)?;
    let ca_file = values.explicit(&INFLUX_CA_FILE).map(str::to_owned);
    if ca_file.is_some() && !address.tls {
        // Never send in clear what was meant to be encrypted.
        let name = values.name_of(&INFLUX_CA_FILE);
        values.reject(&INFLUX_URL, format!("a URL that begins with https:// because of {name}"));
    }
    if address.tls && !cfg!(feature = "tls") {
        values.reject(&INFLUX_URL, "a URL without TLS: this program was built without it");
    }
    let tls = Tls { ca_file, ..Tls::default() };
    Some(Settings {
        server: Server::new(address, &database?, login, tls),
        interval: values.seconds(&INFLUX_INTERVAL).unwrap_or_default(),
    })
}

fn database(values: &Values) -> Option<Database> {
    let text = |variable| values.explicit(variable).map(str::to_owned);
    ignore(values, &[&INFLUX_DATABASE], &INFLUX_BUCKET, true);
    ignore(values, &[&INFLUX_ORG], &INFLUX_BUCKET, false);
    if let Some(bucket) = text(&INFLUX_BUCKET) {
        return Some(Database::Bucket { bucket, org: text(&INFLUX_ORG) });
    }
    if !values.is_set(&INFLUX_DATABASE) {
        let name = values.name_of(&INFLUX_DATABASE);
        let reason =
            format!("InfluxDB 2 and 3 need it; InfluxDB 1 and VictoriaMetrics need {name}");
        values.require(&INFLUX_BUCKET, &reason);
    }
    Some(Database::Name(text(&INFLUX_DATABASE)?))
}

fn login(values: &Values) -> Option<Login> {
    let secret = |variable| values.explicit(variable).map(Secret::new);
    ignore(values, &[&INFLUX_USER, &INFLUX_PASSWORD], &INFLUX_TOKEN, true);
    if let Some(token) = secret(&INFLUX_TOKEN) {
        return Some(Login::Token(token));
    }
    ignore(values, &[&INFLUX_PASSWORD], &INFLUX_USER, false);
    let user = values.explicit(&INFLUX_USER)?.to_owned();
    let password = secret(&INFLUX_PASSWORD).unwrap_or_else(|| Secret::new(""));
    Some(Login::Password { user, password })
}

/// Warns that variables have no effect because another one is set, or is not.
fn ignore(values: &Values, variables: &[&'static Variable], other: &Variable, is_set: bool) {
    if values.is_set(other) == is_set
        && let Some(names) = values.set_among(variables)
    {
        let (other, state) = (values.name_of(other), if is_set { "set" } else { "not set" });
        values.warn(format!("{names} has no effect, because {other} is {state}"));
    }
}
