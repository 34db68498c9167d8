//! Files that hold secrets: written whole or not at all, readable by nobody else. And what tells that a file has
//! changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::clock::random;
use crate::domain::digest::hex;
use crate::secret::Secret;

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// How the names of files end that are being written. One that stays was left by a crash.
pub const TEMPORARY: &str = ".tmp";

/// Makes a folder, and those above it, that only its owner may enter; an existing one is left as it is.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file whole: beside its place, flushed to the disk, then renamed into it. The mode is set when the file is
/// made, so that there is no moment at which a secret can be read by others.
///
/// The name beside it is nobody else's: replicas share folders, and in containers each of them is process 1.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}{TEMPORARY}", hex(&random::<8>())));
    let beside = Path::new(&beside);
    let written = write_through(beside, content, mode).and_then(|()| fs::rename(beside, path));
    if written.is_err() {
        let _ = fs::remove_file(beside);
        return written;
    }
    // Without this a crash can lose the rename although the file itself is safe.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_through(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A link planted in its place would be followed, so only a new file will do.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads a secret, and refuses one that group or others may read. The file that is looked at is the file that is read.
pub fn read_private(path: &Path) -> io::Result<Secret<Vec<u8>>> {
    let mut file = File::open(path)?;
    let data = file.metadata()?;
    let mode = data.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("its mode is {mode:04o}, so others can read it; run chmod 600 on it"),
        ));
    }
    // Room for all of it and for the look whether there is more: a buffer that grows leaves copies behind.
    let room = usize::try_from(data.len()).unwrap_or(0) + 64;
    let mut content = Secret::from(Vec::with_capacity(room));
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Which file this is and when it was written, of the file that a link leads to: two equal stamps are the same content.
/// The time of the last change of the inode is in it, because tools that keep a file's time may write it in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what the path leads to now.
    ///
    /// # Errors
    /// When there is nothing, or it may not be seen.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|data| Self::from(&data))
    }

    /// The stamp of an open file, wherever it may be by now.
    ///
    /// # Errors
    /// When the system has no answer.
    pub fn of_open(file: &File) -> io::Result<Self> {
        file.metadata().map(|data| Self::from(&data))
    }

    /// Whether it is the same file, which may have been written meanwhile.
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }

    /// Whether an open file has been left alone since this was its stamp. That its name leads elsewhere by now is no change
    /// of what is in it, though it is one of the inode.
    pub fn still_describes(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|data| {
            let now = Self::from(&data);
            let renamed_over = Self { changed: self.changed, ..now };
            now == *self || (data.nlink() == 0 && renamed_over == *self)
        })
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(data: &fs::Metadata) -> Self {
        Self {
            file: (data.dev(), data.ino()),
            size: data.size(),
            written: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_from_the_start_and_read_back_only_while_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"secret", PRIVATE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*read_private(&path).unwrap(), b"secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("0640"));
        write(&path, b"other", PRIVATE).unwrap();
        assert_eq!(*read_private(&path).unwrap(), b"other");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn writers_of_one_file_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set");
        // As long as no single call of the system writes, so that writers overlap.
        let contents: Vec<Vec<u8>> = (0..4).map(|writer| vec![writer; 1 << 20]).collect();
        std::thread::scope(|scope| {
            for content in &contents {
                scope.spawn(|| (0..20).for_each(|_| write(&path, content, PRIVATE).unwrap()));
            }
        });
        assert!(contents.contains(&fs::read(&path).unwrap()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
