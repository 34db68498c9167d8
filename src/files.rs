//! Files that hold secrets: written whole or not at all, readable by nobody else. And what tells that a file has
//! changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::clock::random;
use crate::domain::digest::hex;
use crate::secret::Secret;

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// Bytes of a file of configuration or records at most: 64 MiB, some 150,000 credentials.
pub const LARGEST: u64 = 64 << 20;
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

/// Opens a file of somebody else's without ever waiting for it: who opens a pipe waits for its writer, and some devices
/// never end.
///
/// # Errors
/// When there is none, it may not be read, or it is no regular file, links followed.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Before it is opened, since that alone starts some devices, and after, since its name may lead elsewhere by then.
    regular(&fs::metadata(path)?)?;
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn regular(data: &fs::Metadata) -> io::Result<()> {
    if data.is_file() { Ok(()) } else { Err(io::Error::other("it is no regular file")) }
}

/// Reads a regular file of at most [`LARGEST`] bytes.
///
/// # Errors
/// As those of [`open_regular`], and when it is larger.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_open(&open_regular(path)?)
}

/// The same, of text.
///
/// # Errors
/// The same, and when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    text_of(&open_regular(path)?)
}

/// The same, of a file that is open.
///
/// # Errors
/// The same.
pub fn text_of(file: &File) -> io::Result<String> {
    String::from_utf8(read_open(file)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
}

fn read_open(file: &File) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    let mut content = Vec::with_capacity(usize::try_from(size.min(LARGEST)).unwrap_or(0) + 1);
    // It may grow while it is read.
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(content)
}

/// Reads a secret, and refuses one that group or others may read. The file that is looked at is the file that is read.
pub fn read_private(path: &Path) -> io::Result<Secret<Vec<u8>>> {
    let mut file = open_regular(path)?;
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
    fn what_is_no_regular_file_or_too_large_is_told_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        let told = |name: &str| read_text(&at(name)).unwrap_err().to_string();
        for name in ["pipe", "zero", "link", ""] {
            assert_eq!(told(name), "it is no regular file", "{name}");
        }
        assert!(read_private(&at("pipe")).unwrap_err().to_string().contains("no regular file"));
        fs::write(at("text"), "text").unwrap();
        std::os::unix::fs::symlink("text", at("good")).unwrap();
        assert_eq!(read_text(&at("good")).unwrap(), "text");
        fs::write(at("bytes"), b"\xff").unwrap();
        assert_eq!(
            (read(&at("bytes")).unwrap(), told("bytes").as_str()),
            (vec![255], "it is not valid UTF-8")
        );
        // A hole takes no room on the disk.
        File::create(at("large")).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(told("large"), "it is larger than 64 MiB");
        File::create(at("large")).unwrap().set_len(LARGEST).unwrap();
        assert_eq!(read(&at("large")).unwrap().len() as u64, LARGEST);
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
