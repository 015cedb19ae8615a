//! Alarms in the log: without a broker, it is all that tells of them.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::model::DeviceState;

/// Which alarms of a battery were told.
#[derive(Debug, Default)]
pub(super) struct AlarmLog {
    /// Name, and what it was told as.
    told: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Started(String),
    Ended(String),
}

impl AlarmLog {
    /// Tells what has started and what has ended; the state is that of a good read.
    pub(super) fn tell(&mut self, state: &DeviceState) {
        let id = &state.profile.id;
        for news in self.news(state) {
            match news {
                News::Started(words) => warn!("{id}: alarm: {words}"),
                News::Ended(words) => info!("{id}: no longer: {words}"),
            }
        }
    }

    fn news(&mut self, state: &DeviceState) -> Vec<News> {
        let id = state.profile.id.as_str();
        let worries = state.active_alarms();
        let mut news = Vec::new();
        self.told.retain(|name, words| {
            // What the battery is silent about has not ended.
            let ended = worries.iter().all(|it| it.name != *name) && state.knows_about(id, name);
            if ended {
                news.push(News::Ended(std::mem::take(words)));
            }
            !ended
        });
        for worry in worries {
            if !self.told.contains_key(&*worry.name) {
                self.told.insert(worry.name.into_owned(), worry.message.clone());
                news.push(News::Started(worry.message));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::derive::derive;
    use crate::model::reading::Reading;
    use crate::model::units::Millis;
    use crate::model::{Alarm, Profile};

    fn state(alarms: &[(Alarm, bool)]) -> DeviceState {
        let mut reading = Reading::default();
        for (alarm, active) in alarms {
            reading.alarms.note(*alarm, *active);
        }
        let mut state = DeviceState::new(Profile::sample("rack"));
        let derived = derive(&reading);
        state.accept(Millis(1), 0, reading, derived);
        state
    }

    #[test]
    fn an_alarm_is_told_when_it_starts_and_when_it_ends_and_not_between() {
        let mut told = AlarmLog::default();
        let words = || "Fuse blown: rack".to_owned();
        assert_eq!(told.news(&state(&[(Alarm::FuseBlown, false)])), []);
        assert_eq!(told.news(&state(&[(Alarm::FuseBlown, true)])), [News::Started(words())]);
        assert_eq!(told.news(&state(&[(Alarm::FuseBlown, true)])), []);
        assert_eq!(told.news(&state(&[])), [], "nobody says that it is over");
        assert_eq!(told.news(&state(&[(Alarm::FuseBlown, false)])), [News::Ended(words())]);
    }
}
