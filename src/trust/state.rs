//! Last good key sets on disk: what a restart during an issuer's outage begins with.
//!
//! One file an issuer, named by a digest. It counts only for the source that it came from: keys of another address or
//! authority are keys of somebody else.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::documents::Published;
use super::entry::Source;
use super::freshness::has_passed;
use crate::clock::UnixTime;
use crate::domain::digest::hex;
use crate::domain::keyset::Unusable;
use crate::files;

/// A key set of 512 KiB and what is said beside it.
const MAX_FILE: u64 = 520 << 10;
const VERSION: u32 = 1;

/// Where one issuer's set is kept, and of which source it is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
    issuer: String,
    source: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    issuer: String,
    /// Digest of URLs and authorities.
    source: String,
    fetched_at: UnixTime,
    /// Seconds that the issuer advised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<u64>,
    /// The document as it came.
    keys: Box<RawValue>,
}

/// Why a file is left alone.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damaged {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    #[error("it is not what was written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is of another version or issuer")]
    Other,
    #[error("its key set is unusable: {0}")]
    Keys(#[from] Unusable),
}

impl Place {
    pub(super) fn new(folder: &Path, issuer: &str, source: &Source) -> Self {
        Self { folder: folder.to_owned(), issuer: issuer.to_owned(), source: fingerprint(source) }
    }

    /// Named by a digest: an issuer's URL is no file name, and must not become a path.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.json", hex(digest(&SHA256, self.issuer.as_bytes()).as_ref())))
    }

    /// Writes the set in place of the one before. Waits for the disk.
    pub(super) fn save(&self, published: &Published, fetched_at: UnixTime) -> io::Result<()> {
        let text = std::str::from_utf8(published.text()).map_err(io::Error::other)?;
        let saved = Saved {
            version: VERSION,
            issuer: self.issuer.clone(),
            source: self.source.clone(),
            fetched_at,
            max_age: published.advised().map(|advised| advised.as_secs()),
            keys: RawValue::from_string(text.to_owned())?,
        };
        files::make_private_folder(&self.folder)?;
        files::write(&self.file(), &serde_json::to_vec(&saved)?, files::PRIVATE)
    }

    /// What was written last, read as strictly as a document that was fetched. `None` when there is nothing, or it is
    /// of another source.
    pub(super) fn load(&self) -> Result<Option<(Published, UnixTime)>, Damaged> {
        let file = self.file();
        match fs::metadata(&file) {
            Ok(data) if data.len() > MAX_FILE => return Err(Damaged::TooLarge),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let saved: Saved = serde_json::from_slice(&files::read_private(&file)?)?;
        if saved.version != VERSION || saved.issuer != self.issuer {
            return Err(Damaged::Other);
        }
        if saved.source != self.source {
            return Ok(None);
        }
        let text = Bytes::copy_from_slice(saved.keys.get().as_bytes());
        let published = Published::kept(text, saved.max_age.map(Duration::from_secs))?;
        Ok(Some((published, saved.fetched_at)))
    }
}

/// Removes the sets, and what a crash left of them, that were written so long ago that nobody may use them; those of named
/// issuers stay until there are newer ones. How many went.
pub(super) fn sweep(
    folder: &Path,
    named: &HashSet<PathBuf>,
    hard_ttl: Duration,
    now: UnixTime,
) -> io::Result<usize> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        files => files?,
    };
    let mut removed = 0;
    for file in files {
        let file = file?;
        if !is_ours(&file.file_name()) || named.contains(&file.path()) {
            continue;
        }
        let data = file.metadata()?;
        let written = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = UnixTime::try_from(written.as_secs()).unwrap_or(UnixTime::MAX);
        if data.is_file() && has_passed(hard_ttl, written, now) {
            match fs::remove_file(file.path()) {
                // Another replica was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => removed += done.map(|()| 1)?,
            }
        }
    }
    Ok(removed)
}

/// Whether a file's name is one that `save` makes. Whatever else is in the folder is not ours to remove.
fn is_ours(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.split_once(".json"));
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.is_some_and(|(digest, rest)| {
        is_digest(digest) && (rest.is_empty() || rest.ends_with(files::TEMPORARY))
    })
}

/// Each part with its length in front: no two sources write the same.
fn fingerprint(source: &Source) -> String {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    for url in [&source.discovery_url, &source.jwks_url] {
        part(url.as_deref().unwrap_or_default().as_bytes());
    }
    source.roots.iter().for_each(|root| part(root));
    hex(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::{Authority, GOOD_KEYS};
    use super::*;

    const ISSUER: &str = "https://issuer.example";
    const AT: UnixTime = 1_800_000_000;

    fn saved() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(&folder.path().join("issuers"), ISSUER, &Source::default());
        let advised = Some(Duration::from_secs(700));
        place.save(&Published::kept(GOOD_KEYS.into(), advised).unwrap(), AT).unwrap();
        (folder, place)
    }

    #[test]
    fn what_is_saved_is_private_and_comes_back() {
        let (_folder, place) = saved();
        assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&place.folder).unwrap().permissions().mode() & 0o777, 0o700);
        let (published, at) = place.load().unwrap().unwrap();
        assert_eq!((published.keys().len(), published.text().as_ref(), at), (1, GOOD_KEYS.as_bytes(), AT));
        assert_eq!(published.advised(), Some(Duration::from_secs(700)));
    }

    #[test]
    fn it_counts_for_the_same_source_alone() {
        let (_folder, place) = saved();
        let url = || Some("https://a.example".to_owned());
        let roots = vec![Authority::new().certificate()];
        for source in [
            Source { discovery_url: url(), ..Source::default() },
            Source { jwks_url: url(), ..Source::default() },
            Source { roots, ..Source::default() },
        ] {
            assert!(Place::new(&place.folder, ISSUER, &source).load().unwrap().is_none());
        }
        let other = Place::new(&place.folder, "https://other.example", &Source::default());
        assert!(other.load().unwrap().is_none());
        // Under the other's name it is a fault.
        fs::rename(place.file(), other.file()).unwrap();
        assert!(matches!(other.load(), Err(Damaged::Other)));
    }

    #[test]
    fn what_is_damaged_is_told_and_not_used() {
        let (_folder, place) = saved();
        let good = fs::read_to_string(place.file()).unwrap();
        let write = |text: &str| files::write(&place.file(), text.as_bytes(), files::PRIVATE).unwrap();
        for text in [
            "",
            "{}",
            &good[..good.len() - 2],
            &good.replace("\"version\":1", "\"version\":2"),
            &good.replace("\"version\":1", "\"version\":1,\"more\":1"),
            &good.replace("\"EC\"", "\"AKP\""),
            &good.replace("\"kty\"", "\"kty\":\"EC\",\"kty\""),
            &format!("{good}{}", " ".repeat(520 << 10)),
        ] {
            write(text);
            assert!(place.load().is_err(), "{text}");
        }
        write(&good);
        assert!(place.load().unwrap().is_some());
        fs::set_permissions(place.file(), fs::Permissions::from_mode(0o620)).unwrap();
        assert!(matches!(place.load(), Err(Damaged::Io(_))));
    }

    #[test]
    fn only_sets_of_nobody_that_are_too_old_are_removed() {
        let (_folder, place) = saved();
        let folder = place.folder.clone();
        let other = Place::new(&folder, "https://other.example", &Source::default());
        other.save(&Published::kept(GOOD_KEYS.into(), None).unwrap(), AT).unwrap();
        let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", other.file().display()));
        let (broken_off, kept) = (beside(".0123456789abcdef.tmp"), beside(".bak"));
        let foreign = folder.join("notes.json");
        for file in [&broken_off, &kept, &foreign] {
            fs::write(file, "").unwrap();
        }
        let written = fs::metadata(other.file()).unwrap().modified().unwrap();
        let written = i64::try_from(written.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        for file in [&place.file(), &broken_off, &kept, &foreign] {
            fs::File::open(file).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
        }

        let (day, named) = (Duration::from_secs(24 * 3600), HashSet::from([place.file()]));
        let swept = |now| sweep(&folder, &named, day, now).unwrap();
        assert_eq!(
            (swept(written + 24 * 3600 - 1), broken_off.exists(), other.file().exists()),
            (1, false, true)
        );
        assert_eq!((swept(written + 24 * 3600), other.file().exists()), (1, false));
        assert!(place.file().exists() && kept.exists() && foreign.exists());
        assert_eq!(swept(written + 48 * 3600), 0);
        assert_eq!(sweep(&folder.join("nowhere"), &named, day, written).unwrap(), 0);
    }
}
