//! Where batches of lines end up.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{error, warn};

use super::{Durability, names};
use crate::clock::Clock;

/// How far a file grows on after it could not be rotated, before the next attempt.
const ROTATE_AGAIN: u64 = 1 << 20;

/// Takes batches of whole lines. Dropping it brings what it took to the disk.
pub(super) trait Sink: Send {
    /// Writes all of the batch, or leaves a log that parses without it and fails.
    fn append(&mut self, batch: &[u8]) -> io::Result<()>;

    /// Whether a write usually ends in the kernel's memory: a few microseconds, less than waking somebody else for it.
    fn is_quick(&self) -> bool {
        false
    }
}

/// The standard output. What it took can't be taken back, so a broken line is ended instead.
pub(super) struct StdoutSink {
    /// Not `io::Stdout`: its buffer would hold on to a failed batch and write it later.
    file: File,
    torn: bool,
}

impl StdoutSink {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { file: io::stdout().as_fd().try_clone_to_owned()?.into(), torn: false })
    }
}

impl Sink for StdoutSink {
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        let result = self.file.write_all(batch);
        self.torn = result.is_err();
        result
    }
}

/// A file that rotates by size and is opened anew when somebody else moved it away.
pub(super) struct FileSink {
    path: PathBuf,
    file: Arc<File>,
    inode: (u64, u64),
    /// The length to go back to, when a failed batch may have left a part of itself.
    torn: Option<u64>,
    rotate_size: u64,
    rotate_at: u64,
    clock: Clock,
    /// None where every batch is synced before its grants leave.
    syncer: Option<Syncer>,
}

impl FileSink {
    pub(super) fn open(
        path: &Path,
        durability: Durability,
        rotate_size: u64,
        clock: Clock,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let syncer = match durability {
            Durability::Kernel => Some(Syncer::start()?),
            Durability::Fsync => None,
        };
        let (file, inode) = open_file(path)?;
        let path = path.to_owned();
        Ok(Self { path, file, inode, torn: None, rotate_size, rotate_at: rotate_size, clock, syncer })
    }

    /// Makes sure that the path names our file and that the file ends with a whole line; gives its length.
    fn prepare(&mut self) -> io::Result<u64> {
        let repaired = self.repair();
        let length = match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.inode => {
                repaired?;
                found.len()
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return self.reopen(),
        };
        if length < self.rotate_at {
            return Ok(length);
        }
        match self.set_aside() {
            Ok(()) => self.reopen(),
            // A longer file is better than no grants.
            Err(error) => {
                warn!(path = %self.path.display(), %error, "the audit log can't be rotated; it grows on");
                self.rotate_at = length + ROTATE_AGAIN;
                Ok(length)
            }
        }
    }

    fn repair(&mut self) -> io::Result<()> {
        if let Some(good) = self.torn {
            // Somebody may have truncated the file since: never make it longer.
            if self.file.metadata()?.len() > good {
                self.file.set_len(good)?;
            }
            self.torn = None;
        }
        Ok(())
    }

    fn set_aside(&self) -> io::Result<()> {
        let target = names::free(&self.path, self.clock.now())?;
        fs::rename(&self.path, target)
    }

    fn reopen(&mut self) -> io::Result<u64> {
        let (file, inode) = open_file(&self.path)?;
        let length = file.metadata()?.len();
        if let Some(syncer) = &self.syncer {
            syncer.last(Arc::clone(&self.file));
        }
        (self.file, self.inode, self.torn) = (file, inode, None);
        self.rotate_at = self.rotate_size;
        Ok(length)
    }
}

impl Sink for FileSink {
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let length = self.prepare()?;
        let mut result = (&*self.file).write_all(batch);
        match &self.syncer {
            Some(syncer) => syncer.soon(&self.file),
            None => result = result.and_then(|()| self.file.sync_data()),
        }
        if result.is_err() {
            self.torn = Some(length);
            if let Err(error) = self.repair() {
                warn!(path = %self.path.display(), %error, "the audit log may end with a part of a line for now");
            }
        }
        result
    }

    fn is_quick(&self) -> bool {
        self.syncer.is_some() && self.file.metadata().is_ok_and(|found| found.is_file())
    }
}

fn open_file(path: &Path) -> io::Result<(Arc<File>, (u64, u64))> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.len() > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, found.len() - 1)?;
        if last != *b"\n" {
            // Evidence of a crash: it is ended, never removed.
            warn!(path = %path.display(), "the audit log ends with a part of a line; a new line is begun after it");
            file.write_all(b"\n")?;
        }
    }
    if let Some(folder) = path.parent() {
        // The name must survive as well as the lines. Some file systems can't sync a folder; then nothing is lost.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        drop(File::open(folder).and_then(|folder| folder.sync_all()));
    }
    Ok((Arc::new(file), (found.dev(), found.ino())))
}

/// Brings files to the disk about once a second, on a thread of its own.
struct Syncer {
    files: Option<Sender<Arc<File>>>,
    state: Arc<SyncerState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct SyncerState {
    queued: AtomicBool,
    closing: AtomicBool,
}

impl Syncer {
    fn start() -> io::Result<Self> {
        let (sender, files) = mpsc::channel();
        let state = Arc::new(SyncerState::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new().name("audit-sync".into()).spawn(move || sync(&files, &shared))?;
        Ok(Self { files: Some(sender), state, thread: Some(thread) })
    }

    /// Asks for one sync of the file, unless one is already to come.
    fn soon(&self, file: &Arc<File>) {
        if !self.state.queued.swap(true, Ordering::AcqRel) {
            self.send(Arc::clone(file));
        }
    }

    /// Asks for a sync of a file that will not be written again; the file that follows needs a request of its own.
    fn last(&self, file: Arc<File>) {
        self.send(file);
        self.state.queued.store(false, Ordering::Release);
    }

    fn send(&self, file: Arc<File>) {
        if let Some(files) = &self.files {
            // It fails only when the thread is gone, and that ends after its sender.
            drop(files.send(file));
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::Release);
        self.files = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

fn sync(files: &Receiver<Arc<File>>, state: &SyncerState) {
    while let Ok(file) = files.recv() {
        // Before the sync: what is written from now on asks again.
        state.queued.store(false, Ordering::Release);
        if let Err(error) = file.sync_data() {
            error!(%error, "audit lines could not be brought to the disk");
        }
        if !state.closing.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_secs(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LINE: &[u8] = b"{\"a\":1}\n";

    fn open(folder: &Path, rotate_size: u64) -> FileSink {
        let clock = Clock::fixed(1_790_000_000);
        FileSink::open(&folder.join("audit.jsonl"), Durability::Kernel, rotate_size, clock).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_owner_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("data");
        drop(open(&inner, 100));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        assert_eq!(mode(&inner.join("audit.jsonl")), 0o600);
    }

    #[test]
    fn a_full_file_is_set_aside_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), 8);
        for _ in 0..4 {
            sink.append(LINE).unwrap();
        }
        let wanted = ["audit.jsonl", "audit.jsonl.20260921T141320Z", "audit.jsonl.20260921T141320Z-1"];
        assert_eq!(names(folder.path())[..3], wanted);
        for name in names(folder.path()) {
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), LINE);
        }
    }

    #[test]
    fn a_file_that_cannot_be_set_aside_grows_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), 8);
        sink.clock = Clock::fixed(i64::MAX);
        for _ in 0..3 {
            sink.append(LINE).unwrap();
        }
        assert_eq!(fs::read(folder.path().join("audit.jsonl")).unwrap(), LINE.repeat(3));
    }

    #[test]
    fn a_file_moved_or_deleted_by_others_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("moved"));
        let mut sink = open(folder.path(), 100);
        sink.append(LINE).unwrap();
        fs::rename(&path, &moved).unwrap();
        sink.append(LINE).unwrap();
        assert_eq!(fs::read(&moved).unwrap(), LINE);
        assert_eq!(fs::read(&path).unwrap(), LINE);
        fs::remove_file(&path).unwrap();
        sink.append(LINE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), LINE);
    }

    #[test]
    fn an_incomplete_last_line_is_ended_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        fs::write(&path, "{\"cut").unwrap();
        open(folder.path(), 100).append(LINE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [b"{\"cut\n", LINE].concat());
    }

    #[test]
    fn a_part_of_a_failed_batch_is_removed_as_soon_as_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = open(folder.path(), 100);
        sink.append(LINE).unwrap();
        // The state after a write broke off: a part is there, and its removal fails on a handle that may only read.
        let writable = std::mem::replace(&mut sink.file, Arc::new(File::open(&path).unwrap()));
        (&*writable).write_all(b"{\"half").unwrap();
        sink.torn = Some(LINE.len() as u64);
        sink.append(LINE).unwrap_err();
        sink.file = writable;
        sink.append(LINE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), LINE.repeat(2));
    }

    #[test]
    fn a_repair_never_makes_the_file_longer() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(folder.path(), 100);
        sink.torn = Some(50);
        sink.append(LINE).unwrap();
        assert_eq!(fs::read(folder.path().join("audit.jsonl")).unwrap(), LINE);
    }
}
