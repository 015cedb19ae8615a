//! The user's profiles: brands of battery as files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::rule::SIMULATED;
use super::values::Values;
use super::variables::{BMS_PROFILES, SUPERVISOR_TOKEN};
use crate::protocol::table::load;
use crate::protocol::table::schema::Profile;
use crate::protocol::{self, DriverInfo, detection, profiles};

/// The folder in the Home Assistant add-on, which need not exist.
const ADDON_FOLDER: &str = "/config/profiles";
/// Far more than anybody has batteries.
const MAX_FILES: usize = 100;

/// Loads the profiles, so that they are known before a type is looked up. An invalid file is a
/// warning, and the others are loaded.
pub(super) fn load(values: &Values) {
    let explicit = values.explicit(&BMS_PROFILES);
    let in_addon = values.is_set(&SUPERVISOR_TOKEN);
    let Some(path) = explicit.or(in_addon.then_some(ADDON_FOLDER)) else { return };
    let mut files = match files(Path::new(path)) {
        Ok(files) => files,
        Err(error) if explicit.is_none() && error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let allowed = format!("the path of a readable profile, or of a folder ({error})");
            values.error(values.invalid(&BMS_PROFILES, allowed));
            return;
        }
    };
    if files.len() > MAX_FILES {
        let ignored = files[MAX_FILES].display();
        values.warn(format!(
            "{path} has more than {MAX_FILES} profiles; {ignored} and those behind it are ignored"
        ));
        files.truncate(MAX_FILES);
    }
    let mut loaded: Vec<(&Path, &'static DriverInfo)> = Vec::new();
    for file in &files {
        let shown = file.display();
        match read_profile(file) {
            Err(error) => values.warn(format!("the profile {shown} is ignored: {error}")),
            Ok(profile) => match loaded.iter().find(|(_, info)| info.name == profile.name.0) {
                Some((first, _)) => values.warn(format!(
                    "the profile {shown} is ignored: {} has the name {} too; rename one of them",
                    first.display(),
                    profile.name.0
                )),
                None => {
                    if protocol::is_built_in(&profile.name.0) {
                        values.warn(format!(
                            "the profile {shown} replaces the built-in type {}",
                            profile.name.0
                        ));
                    }
                    loaded.push((file, profiles::info(profile)));
                }
            },
        }
    }
    profiles::add(loaded.into_iter().map(|(_, info)| info).collect());
}

/// The profiles of a folder by name, or the only one.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|it| ["yaml", "yml"].iter().any(|e| it.eq_ignore_ascii_case(e))) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a profile. The error names the line, the column, the key and what is allowed.
pub fn read_profile(path: &Path) -> Result<Profile, String> {
    let profile = load::parse(&read_text(path).map_err(|error| error.to_string())?)?;
    match profile.name.0.as_str() {
        detection::AUTO | SIMULATED => {
            Err(format!("name: `{}` has a meaning of its own; choose another name", profile.name.0))
        }
        _ => Ok(profile),
    }
}

/// Reads a regular file: a pipe could block forever, a device has no end.
fn read_text(path: &Path) -> io::Result<String> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    if !fs::metadata(path)?.is_file() {
        return Err(invalid("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(load::MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > load::MAX_SIZE {
        return Err(invalid(format!("a profile has at most {} kB", load::MAX_SIZE / 1024)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        invalid(format!("line {line}: the file must be text in UTF-8"))
    })
}
