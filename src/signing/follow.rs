//! Follows the key folder of a running broker, and tends it where it may.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::change::tend;
use super::fault::FolderError;
use super::folder::{Stamp, load, stamp};
use super::manifest::{Life, Schedule, State};
use super::ring::KeyRing;
use crate::clock::{Clock, Stopwatch};
use crate::domain::resource::SigningAlgorithm;

/// A network volume sends no events, so the manifest is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long an instance that failed to change the folder leaves it to others.
const PAUSE: Duration = Duration::from_secs(60);

/// Ends the following when it is dropped.
#[derive(Debug)]
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Follower {
    pub(super) folder: PathBuf,
    pub(super) schedule: Schedule,
    pub(super) clock: Clock,
    pub(super) ring: Arc<ArcSwap<KeyRing>>,
    /// What `ring` was made of.
    pub(super) seen: Option<Stamp>,
    /// What was wrong last, so that it is logged once and not twice a second.
    refused: String,
    unwritten: String,
    failed: Option<Stopwatch>,
}

impl Follower {
    pub(super) fn new(
        (folder, schedule): (PathBuf, Schedule),
        clock: Clock,
        ring: Arc<ArcSwap<KeyRing>>,
        seen: Option<Stamp>,
    ) -> Self {
        let (refused, unwritten) = Default::default();
        Self { folder, schedule, clock, ring, seen, refused, unwritten, failed: None }
    }

    pub(super) fn start(mut self) -> Following {
        Following(tokio::spawn(async move {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // Files and key generation may take long, and must not hold up a worker.
                let looked = spawn_blocking(move || {
                    self.look();
                    self
                });
                match looked.await {
                    Ok(follower) => self = follower,
                    Err(error) => {
                        tracing::error!(%error, "the key folder is followed no more; restart this instance");
                        return;
                    }
                }
            }
        }))
    }

    /// One look: what others did, then what time asks for.
    pub(super) fn look(&mut self) {
        self.reload();
        if self.is_asked() && self.failed.is_none_or(|since| since.elapsed() >= PAUSE) {
            self.tend();
            self.reload();
        }
    }

    /// Takes over what the folder holds when it has changed; all of it or nothing.
    fn reload(&mut self) {
        // Taken first: what is written while the files are read is seen at the next look.
        let stamp = stamp(&self.folder);
        if stamp == self.seen && stamp.is_some() {
            // What was refused may have been put back.
            self.refused.clear();
            return;
        }
        match load(&self.folder) {
            Ok(ring) => {
                tracing::info!(keys = ring.0.len(), "signing keys reloaded");
                self.ring.store(Arc::new(ring));
                self.seen = stamp;
                self.refused.clear();
            }
            // Tried again at every look: the file that it lacks may come.
            Err(error) => once(&mut self.refused, &error, |error| {
                tracing::error!(%error, "the change of the signing keys is refused; the last good ones stay");
            }),
        }
    }

    /// Whether time asks for a change. From memory: a folder that is refused must not be written.
    fn is_asked(&self) -> bool {
        let (now, ring) = (self.clock.now(), self.ring.load());
        let newest = |algorithm| {
            let keys = ring.0.iter().filter(|(key, _)| key.algorithm() == algorithm);
            keys.map(|(_, life)| life.signs_from).max()
        };
        let gone = |(_, life): &(_, Life)| life.state(now) == State::Gone;
        self.refused.is_empty()
            && (self.schedule.is_due(SigningAlgorithm::ALL.map(newest), now) || ring.0.iter().any(gone))
    }

    fn tend(&mut self) {
        match tend(&self.folder, self.schedule, &self.clock) {
            Ok(_) => {
                self.unwritten.clear();
                self.failed = None;
            }
            Err(error) => {
                self.failed = Some(Stopwatch::start());
                once(&mut self.unwritten, &error, |error| {
                    tracing::warn!(%error, "this instance can't change the signing keys; another has to");
                });
            }
        }
    }
}

fn once(last: &mut String, error: &FolderError, log: impl FnOnce(&str)) {
    let text = error.to_string();
    if *last != text {
        log(&text);
        *last = text;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::signing::change::{Pace, create, revoke, rotate};

    const DAY: i64 = 86_400;

    fn follower(folder: &Path, clock: &Clock) -> Follower {
        let ring = Arc::new(ArcSwap::from_pointee(load(folder).unwrap()));
        let schedule = Schedule { every: 30 * DAY, announce: DAY };
        Follower::new((folder.to_owned(), schedule), clock.clone(), ring, stamp(folder))
    }

    fn kids(follower: &Follower) -> Vec<String> {
        follower.ring.load().list(follower.clock.now()).into_iter().map(|key| key.kid).collect()
    }

    #[test]
    fn a_good_change_is_taken_over_and_a_bad_one_refused_whole() {
        let home = tempfile::tempdir().unwrap();
        let (folder, clock) = (home.path().join("keys"), Clock::fixed(0));
        create(&folder, 0).unwrap();
        let mut follower = follower(&folder, &clock);
        rotate(&folder, Pace::Now, &clock).unwrap();
        assert_eq!(kids(&follower).len(), 2);
        follower.look();
        assert_eq!(kids(&follower).len(), 4);

        let path = folder.join("manifest.json");
        let good = fs::read(&path).unwrap();
        let mut last = kids(&follower);
        clock.set(29 * DAY);
        last.truncate(4);
        for bad in [&good[..good.len() / 2], b"", b"{\"version\":1,\"keys\":[]}"] {
            fs::write(&path, bad).unwrap();
            follower.look();
            follower.look();
            assert_eq!(fs::read(&path).unwrap(), bad, "what is refused is not written over");
        }
        fs::remove_file(&path).unwrap();
        follower.look();
        assert!(!follower.refused.is_empty());
        clock.set(0);
        assert_eq!(kids(&follower), last);
        fs::write(&path, good).unwrap();
        revoke(&folder, &last[3], &clock).unwrap();
        follower.look();
        assert_eq!(kids(&follower), last[..3]);
        assert!(follower.refused.is_empty());
    }

    #[test]
    fn of_two_that_find_a_rotation_due_one_makes_it_and_one_that_may_not_write_follows() {
        let home = tempfile::tempdir().unwrap();
        let (folder, clock) = (home.path().join("keys"), Clock::fixed(0));
        create(&folder, 0).unwrap();
        let mut followers = [follower(&folder, &clock), follower(&folder, &clock)];
        clock.set(29 * DAY);

        // Nobody can open a folder for writing, whatever rights this test has.
        fs::remove_file(folder.join("lock")).unwrap();
        fs::create_dir(folder.join("lock")).unwrap();
        followers[0].look();
        assert!(followers[0].failed.is_some() && kids(&followers[0]).len() == 2);
        fs::remove_dir(folder.join("lock")).unwrap();

        followers[1].look();
        followers[0].look();
        assert_eq!((kids(&followers[0]).len(), kids(&followers[0])), (4, kids(&followers[1])));
    }
}
