//! What the files were at one moment, for files of which some never rest.
//!
//! Where somebody goes on writing, there is no time at which all files rest together. So a moment is taken: which file each
//! name leads to, looked up twice with the same result, and the files that have changed held open. One look later those
//! that nobody has written since have rested, also where their names lead elsewhere by then. Hence files that are only
//! ever replaced whole are read as they were at one time, however often that is. A file that is written in place
//! never was a whole with others, and is left as it was read last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Look;
use crate::directory::files::Source;
use crate::files::{self, Stamp};

/// Files held open at most: fewer than are kept of descriptors for all but the public listener.
const MOST_OPEN: usize = 64;

/// One moment, which may turn out to be none.
#[derive(Debug)]
pub struct Moment {
    look: Look,
    open: BTreeMap<PathBuf, (Stamp, File)>,
}

/// A file at that moment.
#[derive(Debug)]
pub enum Reading {
    /// As it was read last, when this was its stamp.
    Same(Option<Stamp>),
    /// It has changed, and this is its text.
    New(Option<Stamp>, io::Result<String>),
    /// The same, of a file whose name leads elsewhere by now.
    Replaced(Stamp, io::Result<String>),
    /// It does not rest, and counts as it was read last.
    Held(Option<Stamp>),
}

impl Reading {
    /// Whether it says what has not been read.
    pub fn is_news(&self) -> bool {
        matches!(self, Self::New(..) | Self::Replaced(..))
    }
}

impl<'r> From<&'r Reading> for Source<'r> {
    fn from(reading: &'r Reading) -> Self {
        match reading {
            Reading::Same(stamp) => Source::Path(*stamp),
            Reading::New(stamp, text) => Source::Text(*stamp, text),
            Reading::Replaced(stamp, text) => Source::Text(Some(*stamp), text),
            Reading::Held(_) => Source::Last,
        }
    }
}

/// All files at that moment. Those that are gone are not among them.
pub type Readings = BTreeMap<PathBuf, Reading>;

impl Moment {
    /// Takes the moment of this look; `None` when the names changed meanwhile, which may be half of a swap.
    pub fn take(mut look: Look, read: Option<&Look>, again: impl FnOnce() -> Look) -> Option<Self> {
        let changed = look.iter().filter(|(path, stamp)| was(read, path) != Some(**stamp));
        let paths: Vec<_> = changed.take(MOST_OPEN).map(|(path, _)| path.clone()).collect();
        let mut open = BTreeMap::new();
        for path in paths {
            let Ok(file) = files::open_regular(&path) else { continue };
            let Ok(stamp) = Stamp::of_open(&file) else { continue };
            look.insert(path.clone(), Some(stamp));
            open.insert(path, (stamp, file));
        }
        let again = again();
        let same = |(path, before): (&PathBuf, &Option<Stamp>)| match (before, again.get(path)) {
            (Some(before), Some(Some(now))) => before.is_same_file(now),
            (before, now) => Some(before) == now,
        };
        (again.len() == look.len() && look.iter().all(same)).then_some(Self { look, open })
    }

    /// What the files were, when this is the next look; `None` when it can't be told for all of them.
    pub fn readings(self, read: Option<&Look>, now: &Look) -> Option<Readings> {
        let mut readings = Readings::new();
        for (path, stamp) in &self.look {
            readings.insert(path.clone(), self.reading(path, *stamp, read, now)?);
        }
        // A name that comes and goes: somebody removes the file to write it anew.
        for (path, stamp) in read.into_iter().flatten() {
            if !self.look.contains_key(path) && now.contains_key(path) {
                readings.insert(path.clone(), Reading::Held(*stamp));
            }
        }
        Some(readings)
    }

    fn reading(&self, path: &Path, stamp: Option<Stamp>, read: Option<&Look>, now: &Look) -> Option<Reading> {
        let before = was(read, path);
        if before == Some(stamp) {
            return Some(Reading::Same(stamp));
        }
        let rests = now.get(path) == Some(&stamp);
        match self.open.get(path) {
            Some((stamp, file)) => {
                let text = files::text_of(file);
                // After reading: what was written meanwhile is half read.
                Some(match (stamp.still_describes(file), rests) {
                    (true, true) => Reading::New(Some(*stamp), text),
                    (true, false) => Reading::Replaced(*stamp, text),
                    (false, _) => Reading::Held(before.flatten()),
                })
            }
            None if rests => {
                let text = files::read_text(path);
                (Stamp::of(path).ok() == stamp).then_some(Reading::New(stamp, text))
            }
            // It can't be seen, or can be by now.
            None if stamp.is_none() => Some(Reading::Held(before.flatten())),
            None => None,
        }
    }
}

/// The stamp with which a file was read.
fn was(read: Option<&Look>, path: &Path) -> Option<Option<Stamp>> {
    read.and_then(|read| read.get(path)).copied()
}

/// What is read once these readings are.
pub fn look_of(readings: &Readings) -> Look {
    let stamp = |reading: &Reading| match reading {
        Reading::Same(stamp) | Reading::New(stamp, _) => Some(*stamp),
        Reading::Replaced(stamp, _) => Some(Some(*stamp)),
        // One that never was read stays unread.
        Reading::Held(stamp) => stamp.map(Some),
    };
    readings.iter().filter_map(|(path, reading)| Some((path.clone(), stamp(reading)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Stage(tempfile::TempDir);

    impl Stage {
        fn new(names: &[&str]) -> Self {
            let stage = Self(tempfile::tempdir().unwrap());
            names.iter().for_each(|name| stage.write(name, "first"));
            stage
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn replace(&self, name: &str, text: &str) {
            self.write("beside", text);
            fs::rename(self.path("beside"), self.path(name)).unwrap();
        }

        /// All but what is beside.
        fn look(&self) -> Look {
            let paths = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
            paths.filter(|p| !p.ends_with("beside")).map(|p| (p.clone(), Stamp::of(&p).ok())).collect()
        }

        /// What was read, a moment, what happens until the next look, and the readings in short.
        fn readings(&self, read: &Look, meanwhile: impl FnOnce()) -> Option<(Vec<String>, Look)> {
            let moment = Moment::take(self.look(), Some(read), || self.look()).unwrap();
            meanwhile();
            let readings = moment.readings(Some(read), &self.look())?;
            let short = readings.iter().map(|(path, reading)| {
                let name = path.file_name().unwrap().to_string_lossy();
                match reading {
                    Reading::Same(_) => format!("{name} same"),
                    Reading::New(_, text) => format!("{name} {}", text.as_ref().unwrap()),
                    Reading::Replaced(_, text) => format!("{name} was {}", text.as_ref().unwrap()),
                    Reading::Held(_) => format!("{name} held"),
                }
            });
            Some((short.collect(), look_of(&readings)))
        }
    }

    #[test]
    fn what_is_replaced_is_read_as_it_was_and_what_is_written_in_place_is_held() {
        let stage = Stage::new(&["gone", "new", "place", "replaced", "same"]);
        let read = stage.look();
        fs::remove_file(stage.path("gone")).unwrap();
        ["new", "replaced"].iter().for_each(|name| stage.replace(name, "second"));
        ["place", "unknown"].iter().for_each(|name| stage.write(name, "second"));
        let (readings, now) = stage
            .readings(&read, || {
                stage.replace("replaced", "third");
                ["place", "unknown"].iter().for_each(|name| stage.write(name, "third, longer"));
            })
            .unwrap();
        let expected = ["new second", "place held", "replaced was second", "same same", "unknown held"];
        assert_eq!(readings, expected);
        // What is held counts as it was read, or not at all.
        assert_eq!(now[&stage.path("place")], read[&stage.path("place")]);
        assert!(!now.contains_key(&stage.path("unknown")) && !now.contains_key(&stage.path("gone")));
        assert_eq!(now[&stage.path("new")], stage.look()[&stage.path("new")]);
        assert_ne!(now[&stage.path("replaced")], stage.look()[&stage.path("replaced")]);
    }

    #[test]
    fn a_pipe_is_told_and_not_waited_for() {
        let stage = Stage::new(&["file"]);
        let read = stage.look();
        stage.replace("file", "second");
        rustix::fs::mkfifoat(rustix::fs::CWD, stage.path("pipe"), rustix::fs::Mode::RWXU).unwrap();
        let moment = Moment::take(stage.look(), Some(&read), || stage.look()).unwrap();
        let readings = moment.readings(Some(&read), &stage.look()).unwrap();
        assert!(matches!(&readings[&stage.path("file")], Reading::New(_, Ok(text)) if text == "second"));
        assert!(matches!(&readings[&stage.path("pipe")], Reading::New(_, Err(error))
            if error.to_string() == "it is no regular file"));
    }

    #[test]
    fn a_file_that_is_written_and_then_replaced_is_held() {
        let stage = Stage::new(&["file"]);
        let read = stage.look();
        stage.replace("file", "enabled = fal");
        let (readings, _) = stage
            .readings(&read, || {
                stage.write("file", "enabled = false");
                stage.replace("file", "other");
            })
            .unwrap();
        assert_eq!(readings, ["file held"]);
    }

    #[test]
    fn a_name_that_comes_and_goes_is_held() {
        let stage = Stage::new(&["file", "other"]);
        let read = stage.look();
        fs::remove_file(stage.path("file")).unwrap();
        let (readings, _) = stage.readings(&read, || stage.write("file", "second")).unwrap();
        assert_eq!(readings, ["file held", "other same"]);
    }

    #[test]
    fn half_of_a_swap_is_no_moment() {
        let stage = Stage::new(&["a", "b"]);
        let read = stage.look();
        stage.replace("a", "second");
        let look = stage.look();
        let moment = Moment::take(look.clone(), Some(&read), || {
            stage.replace("b", "second");
            stage.look()
        });
        assert!(moment.is_none());
        let moment = Moment::take(look, Some(&read), || {
            stage.write("c", "new");
            stage.look()
        });
        assert!(moment.is_none());
        // Writing in place changes no name.
        let moment = Moment::take(stage.look(), Some(&read), || {
            stage.write("a", "third");
            stage.look()
        });
        assert!(moment.is_some());
    }

    #[test]
    fn more_files_than_are_held_open_are_read_when_they_rest() {
        let names: Vec<_> = (0..=MOST_OPEN).map(|n| format!("{n:03}")).collect();
        let stage = Stage::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let read = stage.look();
        names.iter().for_each(|name| stage.replace(name, "second"));
        let (readings, _) = stage.readings(&read, || ()).unwrap();
        assert!(readings.iter().all(|reading| reading.ends_with(" second")), "{readings:?}");
        let last = names.last().unwrap();
        assert!(stage.readings(&read, || stage.replace(last, "third")).is_none());
        assert!(stage.readings(&read, || stage.replace(&names[0], "third")).is_some());
    }
}
