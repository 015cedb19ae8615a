//! Who owns a device: the group that may open it, and the program that has it open.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processes that are looked at; a machine with a serial port has far fewer.
const MAX_PROCESSES: usize = 4096;
/// Open files of one process that are looked at.
const MAX_FILES: usize = 1024;

/// `group dialout, number 20`; without a name where this system has none for the number, as in a
/// container.
pub(super) fn group(device: &str) -> Option<String> {
    let number = fs::metadata(device).ok()?.gid();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Some(match group_name(&groups, number) {
        Some(name) => format!("group {name}, number {number}"),
        None => format!("group number {number}"),
    })
}

/// Each line of `/etc/group` is `dialout:x:20:user`.
fn group_name(groups: &str, number: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(number)).then_some(name)
    })
}

/// `mbusd, process 812`; `None` if it belongs to another user or runs outside of this container.
pub(super) fn program(device: &str) -> Option<String> {
    program_under(Path::new("/proc"), device)
}

fn program_under(proc: &Path, device: &str) -> Option<String> {
    let device = fs::canonicalize(device).ok()?;
    let own = std::process::id().to_string();
    for process in fs::read_dir(proc).ok()?.flatten().take(MAX_PROCESSES) {
        let Some(id) = process.file_name().to_str().map(str::to_owned) else { continue };
        if id == own || id.parse::<u32>().is_err() {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut files = files.flatten().take(MAX_FILES);
        if files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == device)) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            // A process chooses its name itself.
            let name = name.trim().replace(char::is_control, " ");
            return Some(format!("{name}, process {id}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn group_has_a_name_where_the_system_knows_one() {
        let groups = "root:x:0:\ndialout:x:20:pi\n";
        assert_eq!(group_name(groups, 20), Some("dialout"));
        assert_eq!(group_name(groups, 2), None);
        assert!(group("/dev/null").is_some_and(|text| text.starts_with("group ")));
        assert_eq!(group("/nonexistent"), None);
    }

    #[test]
    fn program_with_the_open_device_is_named() {
        let root = std::env::temp_dir().join(format!("bms-reader-owner-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let files = root.join("4711/fd");
        fs::create_dir_all(&files).unwrap();
        fs::create_dir_all(root.join("self")).unwrap();
        symlink("/dev/null", files.join("3")).unwrap();
        fs::write(root.join("4711/comm"), "mbusd\n").unwrap();
        let found = program_under(&root, "/dev/null");
        assert_eq!(found.as_deref(), Some("mbusd, process 4711"));
        assert_eq!(program_under(&root, "/dev/zero"), None);
        fs::remove_dir_all(root).unwrap();
    }
}
