//! `notify`: sends a test message to every service.

use super::args::Command;
use super::{FAILED, Outcome, SUCCESS, load_config, misconfigured};
use crate::sink::notify;

pub(super) const COMMAND: Command = Command {
    name: "notify",
    about: "Send a test message to every service of NOTIFY_URL",
    positional: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

async fn run() -> Outcome {
    let config = load_config()?;
    let settings = config.notify.as_ref().ok_or_else(|| {
        misconfigured(
            "NOTIFY_URL is not set; for example: NOTIFY_URL=ntfys://ntfy.sh/my-secret-topic",
        )
    })?;
    let mut exit_code = SUCCESS;
    for target in &settings.targets {
        let label = target.label();
        match notify::send_test(target, &settings.tls).await {
            Ok(()) => println!("OK    {label}: accepted the test message"),
            Err(reason) => {
                exit_code = FAILED;
                println!("FAIL  {label}: {reason}");
            }
        }
    }
    Ok(exit_code)
}
