//! The process: its signals and its limits.

use std::fs;

use futures_util::FutureExt;
use nix::sys::resource::{Resource, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM, SIGINT and SIGHUP cancel. In an empty image this process is number 1, for
/// which the kernel ignores signals without a handler. `nohup` has the hang-up ignored, and it stays so.
pub fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = match is_ignored(SignalKind::hangup()) {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let wait = async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hung_up => {}
        }
        cancel.cancel();
    };
    tokio::spawn(wait.boxed());
    Ok(stop)
}

/// Whether the parent process has this signal ignored. The system call for it needs `unsafe`.
fn is_ignored(signal: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_in_mask(&status, signal.as_raw_value())
}

/// `SigIgn:` is a hexadecimal mask, in which signal 1 is the lowest bit.
fn is_in_mask(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A core dump would contain the passwords. The unit of systemd sets this limit itself and forbids
/// the call.
pub fn disable_core_dumps() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_counts_signals_from_one() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert_eq!(
            [1, 2, 13, 15].map(|signal| is_in_mask(status, signal)),
            [true, false, true, false]
        );
        assert!(!is_in_mask("", 1));
    }
}
