//! Finds out how this program is installed.

use std::path::Path;

use super::values::Values;
use super::variables::SUPERVISOR_TOKEN;
use crate::model::Installation;

/// Created by Docker and Podman.
const CONTAINER_FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Set by Podman and systemd-nspawn, and by Kubernetes.
const CONTAINER_VARIABLES: [&str; 2] = ["container", "KUBERNETES_SERVICE_HOST"];

pub(super) fn installation(values: &Values) -> Installation {
    if values.is_set(&SUPERVISOR_TOKEN) {
        return Installation::HomeAssistant;
    }
    let has_variable = CONTAINER_VARIABLES.iter().any(|name| std::env::var_os(name).is_some());
    let has_file = CONTAINER_FILES.iter().any(|path| Path::new(path).exists());
    if has_variable || has_file { Installation::Container } else { Installation::Host }
}
