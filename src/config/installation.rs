//! Finds out how this program is installed.

use std::collections::BTreeMap;
use std::path::Path;

use super::variables::SUPERVISOR_TOKEN;
use crate::model::Installation;

/// Created by Docker and Podman.
const CONTAINER_FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Set by Podman and systemd-nspawn, and by Kubernetes.
const CONTAINER_VARIABLES: [&str; 2] = ["container", "KUBERNETES_SERVICE_HOST"];
/// In an image that contains nothing else, this program is the first process.
const FIRST_PROCESS: u32 = 1;

/// Where a program with this environment runs.
pub fn installation(environment: &BTreeMap<String, String>) -> Installation {
    let is_set = |name: &str| environment.get(name).is_some_and(|value| !value.trim().is_empty());
    let in_container = || {
        CONTAINER_VARIABLES.iter().any(|name| is_set(name))
            || CONTAINER_FILES.iter().any(|path| Path::new(path).exists())
            || std::process::id() == FIRST_PROCESS
    };
    if is_set(SUPERVISOR_TOKEN.name) {
        Installation::HomeAssistant
    } else if in_container() {
        Installation::Container
    } else {
        Installation::Host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_of_the_supervisor_wins_over_the_container() {
        let of = |names: &[&str]| {
            installation(&names.iter().map(|name| (name.to_string(), "x".to_owned())).collect())
        };
        assert_eq!(of(&["SUPERVISOR_TOKEN", "container"]), Installation::HomeAssistant);
        assert_eq!(of(&["container"]), Installation::Container);
        assert_eq!(of(&["KUBERNETES_SERVICE_HOST"]), Installation::Container);
    }
}
