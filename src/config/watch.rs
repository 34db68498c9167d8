//! Notices that files have changed and come to rest.
//!
//! It looks instead of waiting for events: network volumes send none, and those of a ConfigMap mount are about links.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::files::Stamp;

/// What all watched files look like from outside; `None` for what can't be seen.
pub type Look = BTreeMap<PathBuf, Option<Stamp>>;

/// What was read, and what was seen since.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    read: Option<Look>,
    /// Whether it is to be read once more, although nothing differs.
    once_more: bool,
    seen: Option<Seen>,
}

/// The last look, while there is something to read.
#[derive(Debug, Clone)]
struct Seen {
    look: Look,
    /// Since when there is something to read.
    since: Stopwatch,
}

impl Watch {
    /// The shortest pause between two looks while nothing happens.
    const IDLE: Duration = Duration::from_millis(100);
    /// The longest, where looking takes long.
    const LONGEST: Duration = Duration::from_secs(2);
    /// In between looking takes at most this part of a core, however many files there are.
    const SHARE: u32 = 20;
    /// The pause after a look that shows a change. Files that are the same after it have come to rest.
    const REST: Duration = Duration::from_millis(200);
    /// For so long all files wait for the last one to rest. After it those that have rested wait no more.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Everything has been read in this state, and is to be read once more.
    pub fn after(read: Look) -> Self {
        Self { read: Some(read), once_more: true, seen: None }
    }

    /// The pause after a look that took this long. While something changes it is neither shorter nor longer than files
    /// have to rest.
    pub fn pause(is_restless: bool, took: Duration) -> Duration {
        if is_restless { Self::REST } else { (took * Self::SHARE).clamp(Self::IDLE, Self::LONGEST) }
    }

    /// Whether the files are to be read now: they differ from what was read, and the last look showed the same.
    pub fn is_due(&mut self, now: &Look) -> bool {
        if !self.once_more && self.read.as_ref() == Some(now) {
            self.seen = None;
            return false;
        }
        let before = self.seen.take();
        let rested = before.as_ref().is_some_and(|seen| seen.look == *now);
        let since = before.map_or_else(Stopwatch::start, |seen| seen.since);
        self.seen = Some(Seen { look: now.clone(), since });
        rested
    }

    /// Whether a change was seen that has not been read.
    pub fn is_restless(&self) -> bool {
        self.seen.is_some()
    }

    /// Whether there has been something to read for so long that what has rested need not wait for what has not.
    pub fn is_overdue(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.since.elapsed() >= Self::PATIENCE)
    }

    /// What was read last; nothing before that.
    pub fn read(&self) -> Option<&Look> {
        self.read.as_ref()
    }

    /// The last look, while there is something to read.
    pub fn seen(&self) -> Option<&Look> {
        self.seen.as_ref().map(|seen| &seen.look)
    }

    /// Whether it is to be read once more, although nothing differs.
    pub fn is_once_more(&self) -> bool {
        self.once_more
    }

    /// What was read may be otherwise by now, and no stamp would tell.
    pub fn read_once_more(&mut self) {
        self.once_more = true;
    }

    /// Notes what was read, whatever came of it: it is not read again until it changes.
    pub fn settle(&mut self, look: Look) {
        *self = Self { read: Some(look), ..Self::default() };
    }

    /// Notes that of what was seen this was read, and the rest was not.
    pub fn settle_partly(&mut self, look: Look) {
        (self.read, self.once_more) = (Some(look), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_due_once_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let look = || Look::from([(file.clone(), Stamp::of(&file).ok())]);
        let mut watch = Watch::default();
        assert_eq!([watch.is_due(&look()), watch.is_due(&look())], [false, true]);
        watch.settle(look());
        assert!(!watch.is_due(&look()) && !watch.is_restless());

        std::fs::write(&file, "1").unwrap();
        assert!(!watch.is_due(&look()) && watch.is_restless());
        std::fs::write(&file, "12").unwrap();
        assert!(!watch.is_due(&look()));
        assert!(watch.is_due(&look()));
        // Back to what was read: nothing to do.
        let settled = look();
        watch.settle(settled.clone());
        assert!(!watch.is_due(&Look::new()));
        assert!(!watch.is_due(&settled) && !watch.is_restless());
        // Once more, although nothing differs.
        watch.read_once_more();
        assert_eq!([watch.is_due(&settled), watch.is_due(&settled)], [false, true]);
        watch.settle(settled.clone());
        assert!(!watch.is_due(&settled) && !watch.is_restless());
    }

    #[test]
    fn many_files_are_looked_at_less_often_and_all_rest_as_long() {
        let pause =
            |restless, milliseconds| Watch::pause(restless, Duration::from_millis(milliseconds)).as_millis();
        assert_eq!([0, 5, 50, 500].map(|took| pause(false, took)), [100, 100, 1000, 2000]);
        assert_eq!([0, 5, 50].map(|took| pause(true, took)), [200, 200, 200]);
    }
}
