//! `status`: the batteries of a running service.

use serde_json::Value as Json;

use super::args::FlagValue::{self, One};
use super::args::{Command, Flag};
use super::http::Service;
use super::{CommandError, FAILED, Outcome, SUCCESS, load_config, misconfigured, table, terminal};

/// For a table that is not printed on a terminal.
const WIDTH: usize = 120;

pub(super) const COMMAND: Command = Command {
    name: "status",
    about: "Show the batteries of the running service; exit code 1 if one is offline, 2 if the \
            service does not answer",
    positional: None,
    flags: &[
        Flag::new("url", One("URL"), "Service to ask, instead of that at HTTP_LISTEN"),
        Flag::new("json", FlagValue::None, "Print one JSON object per battery"),
    ],
    prepare: |matches| {
        let url = matches.value("url").map(Service::check).transpose()?;
        Ok(Box::pin(run(url, matches.has("json"))))
    },
};

async fn run(url: Option<String>, json: bool) -> Outcome {
    let service = service(url)?;
    let overview = get(&service, "/api/overview").await?;
    let batteries = overview["batteries"].as_array();
    let batteries = batteries.ok_or_else(|| not_ours(&service))?;
    if json {
        let objects = get(&service, "/api/devices").await?;
        let objects = objects.as_array().ok_or_else(|| not_ours(&service))?;
        objects.iter().for_each(|object| println!("{object}"));
    } else if batteries.is_empty() {
        println!("{}: no battery is configured", service.url);
    } else {
        let width = terminal::size().map_or(WIDTH, |size| size.columns);
        println!("{}", table::text(batteries, width));
    }
    let all_online = batteries.iter().all(|battery| battery["link"] == "online");
    Ok(if all_online { SUCCESS } else { FAILED })
}

fn service(url: Option<String>) -> Result<Service, CommandError> {
    let config = load_config();
    if let Some(url) = url {
        // Only the token is needed, so a wrong configuration does not matter.
        let token = config.ok().and_then(|config| config.http?.access.token);
        return Ok(Service { url, token });
    }
    let http = config?.http.ok_or_else(|| {
        misconfigured("HTTP_LISTEN is off; set it to the address of the service, or use --url")
    })?;
    Ok(Service::local(http.listen, http.access.token))
}

async fn get(service: &Service, path: &str) -> Result<Json, CommandError> {
    let remedy = "is bms-reader running? --url names another address";
    let answer = service.get(path).await;
    let (status, json) = answer.map_err(|error| misconfigured(format!("{error}; {remedy}")))?;
    if status.is_success() { Ok(json) } else { Err(not_ours(service)) }
}

fn not_ours(service: &Service) -> CommandError {
    misconfigured(format!("{}: the answer is not that of bms-reader", service.url))
}
