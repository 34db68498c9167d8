//! The log on disk: the file that grows and those that were set aside, read once each, and followed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::names;
use super::lines::Reading;
use crate::clock::UnixTime;

/// Records may be this much older than their clock said when the file was written for the last time.
const SLACK: UnixTime = 3600;

/// A log: the file of that name and what was set aside of it.
pub struct Log {
    path: PathBuf,
    /// The file that grows, opened before the others were looked for: what is set aside meanwhile is not missed.
    file: Option<File>,
    /// Those that were set aside, oldest first.
    aside: Vec<PathBuf>,
    /// All that were ever seen set aside.
    known: BTreeSet<PathBuf>,
    /// Files whose names begin with the log's, and which nobody knows how to read or to order.
    strange: Vec<PathBuf>,
}

impl Log {
    /// Finds the files. The one that grows need not be there.
    ///
    /// # Errors
    /// When the file or its folder can't be read.
    pub fn find(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let (aside, strange) = beside(path)?;
        let known = aside.iter().cloned().collect();
        Ok(Self { path: path.to_owned(), file, aside, known, strange })
    }

    /// Whether there is nothing to read.
    pub fn is_absent(&self) -> bool {
        self.file.is_none() && self.aside.is_empty()
    }

    /// The files that will be read, oldest first.
    pub fn files(&self) -> Vec<&Path> {
        let growing = self.file.as_ref().map(|_| self.path.as_path());
        self.aside.iter().map(PathBuf::as_path).chain(growing).collect()
    }

    /// Files that look like older parts of this log and are not read: others set them aside, or packed them.
    pub fn strange(&self) -> &[PathBuf] {
        &self.strange
    }

    /// Leaves out what was set aside.
    pub fn only_growing(&mut self) {
        self.aside.clear();
    }

    /// Leaves out what was set aside and last written well before this time.
    pub fn begin(&mut self, since: UnixTime) {
        let recent =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.mtime() >= since.saturating_sub(SLACK));
        self.aside.retain(recent);
    }

    /// Reads all files to their ends, oldest first. A line that the growing file ends within waits for
    /// [`Self::follow`] or [`Reading::end`].
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(&mut self, reading: &mut Reading<'_>) -> io::Result<ControlFlow<()>> {
        for path in std::mem::take(&mut self.aside) {
            // What was removed meanwhile is as if it had been removed before.
            let Some(mut file) = open(&path)? else { continue };
            // It was set aside after it had been opened as the one that grows.
            if self.file.as_ref().map(identity).transpose()? == Some(identity(&file)?) {
                continue;
            }
            if reading.pull(&mut file)?.is_break() || reading.end().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        match &mut self.file {
            Some(file) => reading.pull(file),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// Reads what has come since, through files that were set aside or moved away meanwhile.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn follow(&mut self, reading: &mut Reading<'_>) -> io::Result<ControlFlow<()>> {
        let next = open(&self.path)?;
        let same = match (&self.file, &next) {
            // While a new one is not there yet, the old one may still be written.
            (_, None) => true,
            (Some(file), Some(next)) => identity(file)? == identity(next)?,
            (None, Some(_)) => false,
        };
        if let Some(file) = &mut self.file {
            // Somebody has emptied it: what it holds now is new.
            if file.metadata()?.len() < file.stream_position()? {
                file.seek(SeekFrom::Start(0))?;
                if reading.end().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if reading.pull(file)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if same {
            return Ok(ControlFlow::Continue(()));
        }
        // The writer opens the new file after its last word to the old one, whose end this was.
        if reading.end().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let (now, _) = beside(&self.path)?;
        let passed = now.into_iter().filter(|path| !self.known.contains(path)).collect::<Vec<_>>();
        self.known.extend(passed.iter().cloned());
        // The old file is among them if the broker set it aside: it is told by what it is.
        self.aside = passed;
        let old = std::mem::replace(&mut self.file, next);
        self.aside.retain(|path| !is(path, old.as_ref()));
        self.read(reading)
    }
}

/// The file, if it is there.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|data| (data.dev(), data.ino()))
}

fn is(path: &Path, file: Option<&File>) -> bool {
    let found = fs::metadata(path).map(|data| (data.dev(), data.ino()));
    file.is_some_and(|file| matches!((identity(file), found), (Ok(one), Ok(other)) if one == other))
}

/// Files beside the log whose names begin with its own: those that were set aside, oldest first, and all others.
fn beside(path: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Default::default()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    let (mut aside, mut strange) = (Vec::new(), Vec::new());
    for entry in entries {
        let found = entry?.file_name();
        let Some(behind) = found.to_str().and_then(|found| found.strip_prefix(name)) else { continue };
        match names::order(behind) {
            Some(order) => aside.push((order, path.with_file_name(&found))),
            None if behind.starts_with(['.', '-']) => strange.push(path.with_file_name(&found)),
            None => {}
        }
    }
    aside.sort();
    strange.sort();
    Ok((aside.into_iter().map(|(_, path)| path).collect(), strange))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::super::Durability;
    use super::super::super::sink::{FileSink, Sink};
    use super::super::lines::Line;
    use super::*;
    use crate::clock::Clock;

    fn record(trace: usize) -> Vec<u8> {
        format!(
            "{{\"createdDateTime\":\"2026-09-21T14:13:20Z\",\"traceId\":\"{trace}\",\"status\":{{\"errorCode\":0}},\
             \"outcome\":\"granted\"}}\n"
        )
        .into_bytes()
    }

    fn write(sink: &mut FileSink, traces: std::ops::Range<usize>) {
        traces.for_each(|trace| sink.append(&record(trace)).unwrap());
    }

    /// Rotates after every `lines` lines.
    fn sink(path: &Path, lines: usize) -> FileSink {
        let size = (record(10).len() * lines) as u64;
        FileSink::open(path, Durability::Kernel, size, Clock::fixed(1_790_000_000)).unwrap()
    }

    /// Traces that a step reads, and how many lines were broken.
    fn traces(step: impl FnOnce(&mut Reading<'_>)) -> (Vec<usize>, u64) {
        let mut found = Vec::new();
        let mut visit = |line: &Line<'_>| {
            found.push(line.entry.trace_id.as_ref().unwrap().parse().unwrap());
            ControlFlow::Continue(())
        };
        let mut reading = Reading::new(&mut visit);
        step(&mut reading);
        let broken = reading.broken + reading.cut;
        (found, broken)
    }

    fn all(log: &mut Log) -> (Vec<usize>, u64) {
        traces(|reading| {
            let _ = log.read(reading).unwrap();
            let _ = reading.end();
        })
    }

    #[test]
    fn what_was_set_aside_is_read_first_and_everything_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        write(&mut sink(&path, 2), 10..35);
        for name in ["audit.jsonl.1", "audit.jsonl-20260921", "audit.jsonlx", "other"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut log = Log::find(&path).unwrap();
        assert_eq!(log.files().len(), 13);
        let strange = ["audit.jsonl-20260921", "audit.jsonl.1"].map(|name| folder.path().join(name));
        assert_eq!(log.strange(), strange);
        assert_eq!(all(&mut log), ((10..35).collect(), 0));
    }

    #[test]
    fn what_is_set_aside_while_files_are_looked_for_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = sink(&path, 2);
        write(&mut sink, 10..12);
        let mut log = Log::find(&path).unwrap();
        write(&mut sink, 12..13);
        // As if it had been seen after the growing file was opened.
        log.aside = beside(&path).unwrap().0;
        assert_eq!(log.aside.len(), 1);
        assert_eq!(all(&mut log).0, [10, 11]);
    }

    #[test]
    fn files_that_end_before_a_time_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        write(&mut sink(&path, 1), 10..12);
        let now = Clock::system().now();
        for (since, files) in [(now, 2), (now + 2 * SLACK, 1)] {
            let mut log = Log::find(&path).unwrap();
            log.begin(since);
            assert_eq!(log.files().len(), files);
        }
    }

    #[test]
    fn following_misses_and_repeats_nothing_however_the_file_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut sink, mut next) = (sink(&path, 3), 10);
        let mut log = Log::find(&path).unwrap();
        let (found, broken) = traces(|reading| {
            let _ = log.read(reading).unwrap();
            for round in 0..40 {
                // None, one or several files are set aside between two looks.
                let more = [0, 1, 2, 3, 7, 12][round % 6];
                write(&mut sink, next..next + more);
                next += more;
                if round % 7 == 3 {
                    // Who moves a file to a name of his own moves one that has been seen: nobody could find another.
                    let _ = log.follow(reading).unwrap();
                    fs::rename(&path, folder.path().join(format!("moved-{round}"))).unwrap();
                }
                let _ = log.follow(reading).unwrap();
            }
            let _ = log.follow(reading).unwrap();
        });
        assert_eq!((found, broken), ((10..next).collect(), 0));
    }

    #[test]
    fn half_a_line_waits_for_its_end_and_an_emptied_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = Log::find(&path).unwrap();
        assert!(log.is_absent());
        let (found, broken) = traces(|reading| {
            let _ = log.follow(reading).unwrap();
            let mut file = File::create(&path).unwrap();
            let line = record(10);
            for byte in line.chunks(30) {
                file.write_all(byte).unwrap();
                let _ = log.follow(reading).unwrap();
            }
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let _ = log.follow(reading).unwrap();
            file.write_all(&record(11)).unwrap();
            let _ = log.follow(reading).unwrap();
        });
        assert_eq!((found, broken), (vec![10, 11], 0));
    }
}
