//! Decides whether a value is published: the change filter.

use std::time::Duration;

use super::Publish;
use crate::model::units::millis;
use crate::model::{Uptime, Value};

/// What was last published for a key, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSent {
    pub value: Value,
    pub at: Uptime,
}

/// Whether to publish `value` at `now`. A value that was never published is always due.
pub fn is_due(last: Option<&LastSent>, value: &Value, now: Uptime, policy: Publish) -> bool {
    let Some(last) = last else { return true };
    match policy {
        Publish::All => true,
        Publish::Changes(refresh) => last.value != *value || now.since(last.at) >= millis(refresh),
    }
}

/// How long a published value counts as current without another message: room for a few lost reads and
/// for the slowest refresh.
pub fn lifetime(interval_ms: u64, policy: Publish) -> Duration {
    let interval = Duration::from_millis(interval_ms);
    let refresh = if let Publish::Changes(refresh) = policy { refresh } else { Duration::ZERO };
    (interval * 5).max(Duration::from_secs(120)).max(refresh * 2 + interval)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unchanged_value_is_due_after_the_refresh_time() {
        let sent = LastSent { value: Value::Integer(10), at: Uptime(1000) };
        let policy = Publish::Changes(Duration::from_secs(300));
        let after = |seconds: u64| Uptime(1000 + 1000 * seconds);
        assert!(!is_due(Some(&sent), &Value::Integer(10), after(299), policy));
        assert!(is_due(Some(&sent), &Value::Integer(10), after(300), policy));
        assert!(is_due(Some(&sent), &Value::Integer(11), after(0), policy));
    }

    proptest! {
        #[test]
        fn published_value_is_never_stale(
            readings in prop::collection::vec((0u8..4, 0u64..400), 1..60),
            refresh in 1u64..600,
        ) {
            let policy = Publish::Changes(Duration::from_secs(refresh));
            let mut now = Uptime(1);
            let mut sent: Option<LastSent> = None;
            for (value, seconds) in readings {
                now = Uptime(now.0 + seconds * 1000);
                let value = Value::Integer(value.into());
                if is_due(sent.as_ref(), &value, now, policy) {
                    sent = Some(LastSent { value: value.clone(), at: now });
                }
                let last = sent.as_ref().expect("the first value is always due");
                prop_assert_eq!(&last.value, &value);
                prop_assert!(now.since(last.at) < refresh * 1000);
            }
        }

        #[test]
        fn unchanged_value_is_not_due_within_the_refresh_time(
            value in 0u8..9,
            seconds in 0u64..300,
        ) {
            let value = Value::Integer(value.into());
            let sent = LastSent { value: value.clone(), at: Uptime(1000) };
            let now = Uptime(1000 + seconds * 1000);
            let policy = Publish::Changes(Duration::from_secs(300));
            prop_assert!(!is_due(Some(&sent), &value, now, policy));
            prop_assert!(is_due(Some(&sent), &value, now, Publish::All));
        }
    }
}
