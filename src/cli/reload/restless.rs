//! Which files never rest, and saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{Stopwatch, UnixTime};
use crate::config::Look;
use crate::config::moment::{Reading, Readings};
use crate::server::Restless;

/// So many moments may fail before it counts that none came.
const MISSES: u32 = 5;
/// Lines of the log are this far apart at least.
const QUIET: Duration = Duration::from_secs(60);

/// What moves among the files.
#[derive(Debug, Default)]
pub(super) struct Movement {
    /// Files that differ from look to look, and since when.
    moving: BTreeMap<PathBuf, UnixTime>,
    /// Those of them that are read nevertheless.
    replaced: BTreeSet<PathBuf>,
    /// Looks in a row of which no moment came, of those that are overdue.
    missed: u32,
    /// Whether it is known which are read nevertheless.
    is_judged: bool,
    shown: Vec<Restless>,
    /// Since when there is quiet in the log.
    told: Option<Stopwatch>,
}

impl Movement {
    /// Holds two looks in a row against each other. Without one before, nothing has changed of late.
    pub(super) fn see(&mut self, before: Option<&Look>, now: &Look, at: UnixTime) {
        let Some(before) = before else { return self.moving.clear() };
        let differs = |path: &Path| before.get(path) != now.get(path);
        self.moving.retain(|path, _| differs(path));
        for path in before.keys().chain(now.keys()).filter(|path| differs(path)) {
            self.moving.entry(path.clone()).or_insert(at);
        }
    }

    /// Which files could be read although they do not rest. Where there are no readings time after time, none could.
    pub(super) fn judge(&mut self, readings: Option<&Readings>) {
        self.missed = if readings.is_some() { 0 } else { self.missed + 1 };
        if readings.is_none() && self.missed < MISSES {
            return;
        }
        self.is_judged = true;
        self.replaced = readings
            .into_iter()
            .flatten()
            .filter(|(_, reading)| matches!(reading, Reading::Replaced(..)))
            .map(|(path, _)| path.clone())
            .collect();
    }

    /// The files that never rest, when they are others than were shown. Before it is overdue any file may still come to rest.
    pub(super) fn news(&mut self, is_overdue: bool) -> Option<Vec<Restless>> {
        if !is_overdue {
            (self.missed, self.is_judged) = (0, false);
        }
        let moving = self.moving.iter().filter(|_| self.is_judged);
        let restless: Vec<_> = moving
            .map(|(file, since)| Restless {
                file: file.clone(),
                since: *since,
                held: !self.replaced.contains(file),
            })
            .collect();
        if restless == self.shown {
            return None;
        }
        self.tell(&restless);
        self.shown.clone_from(&restless);
        Some(restless)
    }

    fn tell(&mut self, restless: &[Restless]) {
        let new = restless.iter().filter(|file| file.held && !self.shown.contains(file));
        let Some(file) = new.clone().next() else { return };
        if self.told.is_some_and(|told| told.elapsed() < QUIET) {
            return;
        }
        self.told = Some(Stopwatch::start());
        tracing::warn!(
            file = %file.file.display(),
            others = new.count() - 1,
            "a file never rests: it counts as it was read last; see /readyz?verbose"
        );
    }
}
