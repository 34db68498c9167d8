//! The keys on disk: one file a key, and a manifest that lists them.
//!
//! A key file is written before the manifest that names it and removed after the one that doesn't, so a folder is whole at
//! every moment, whatever breaks off. What that leaves behind is a key file that nothing names: never read, only logged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RsaKeySize,
};
use time::OffsetDateTime;

use super::fault::{FolderError, fail};
use super::key::SigningKey;
use super::manifest::{Entry, Manifest};
use super::ring::KeyRing;
use crate::clock::UnixTime;
use crate::domain::resource::SigningAlgorithm;
use crate::files;
use crate::secret::Secret;

const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
/// Validity of the self-signed certificate around an RSA key. Nobody builds trust on it; it names the key.
const CERTIFICATE_DAYS: i64 = 3650;

/// Tells one content of the manifest from another: time, size and inode.
pub(super) type Stamp = (i64, i64, u64, u64);

/// The manifest's stamp; none while there is no manifest.
pub(super) fn stamp(folder: &Path) -> Option<Stamp> {
    let meta = fs::metadata(folder.join(MANIFEST)).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}

/// Whether the folder is absent or holds no keys: neither manifest nor key file, or the manifest without keys that is
/// written before the first keys are.
pub(super) fn is_vacant(folder: &Path) -> bool {
    match fs::read(folder.join(MANIFEST)) {
        Ok(text) => Manifest::parse(&text).is_ok_and(|manifest| manifest.keys.is_empty()),
        Err(error) => {
            error.kind() == io::ErrorKind::NotFound && key_files(folder).is_ok_and(|f| f.is_empty())
        }
    }
}

fn key_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let paths = entries.flatten().map(|entry| entry.path());
            Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "pem")).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reads the manifest and every key that it lists.
pub(super) fn load(folder: &Path) -> Result<KeyRing, FolderError> {
    let manifest = read_manifest(folder)?;
    let keys: Result<_, _> =
        manifest.lives().map(|(entry, life)| Ok((load_key(folder, entry)?, life))).collect();
    Ok(KeyRing(keys?))
}

/// Logs the key files that nothing names: of a change that broke off.
pub(super) fn note_orphans(folder: &Path) {
    let (Ok(manifest), Ok(files)) = (read_manifest(folder), key_files(folder)) else { return };
    let named = |path: &PathBuf| manifest.keys.iter().any(|entry| path.ends_with(&entry.file));
    for orphan in files.iter().filter(|path| !named(path)) {
        tracing::warn!(file = %orphan.display(), "the manifest names no such key; the file is ignored and can be removed");
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, FolderError> {
    let path = folder.join(MANIFEST);
    let none = || fail(folder, "holds no keys", "run `ficus keys init`, or set create = true under [keys]");
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if is_vacant(folder) => none(),
        io::ErrorKind::NotFound => fail(
            &path,
            "is missing although the folder holds key files",
            "restore it from a backup; if no key was ever used, empty the folder and run `ficus keys init`",
        ),
        _ => fail(&path, error, ""),
    })?;
    let manifest = Manifest::parse(&text).map_err(|(message, hint)| fail(&path, message, hint))?;
    if manifest.keys.is_empty() {
        return Err(none());
    }
    let listed = |algorithm| manifest.keys.iter().any(|entry| entry.alg == algorithm);
    match SigningAlgorithm::ALL.into_iter().find(|algorithm| !listed(*algorithm)) {
        Some(missing) => {
            Err(fail(&path, format!("lists no {} key", missing.name()), "restore it from a backup"))
        }
        None => Ok(manifest),
    }
}

fn load_key(folder: &Path, entry: &Entry) -> Result<SigningKey, FolderError> {
    let path = folder.join(&entry.file);
    let restore = "restore the key file from a backup";
    let pem = files::read_private(&path).map_err(|error| fail(&path, error, restore))?;
    let key = SigningKey::from_pem(&pem, entry.alg).map_err(|error| fail(&path, error, restore))?;
    if key.id() != entry.kid {
        return Err(fail(&path, format!("holds key {}, the manifest says {}", key.id(), entry.kid), restore));
    }
    Ok(key)
}

/// A folder that nobody else changes until this is dropped.
pub(super) struct Locked<'f> {
    folder: &'f Path,
    _lock: File,
}

impl<'f> Locked<'f> {
    /// Waits until it is this one's turn.
    pub(super) fn wait(folder: &'f Path) -> Result<Self, FolderError> {
        let lock = open_lock(folder)?;
        lock.lock().map_err(|error| fail(&folder.join(LOCK), error, ""))?;
        Ok(Self { folder, _lock: lock })
    }

    /// `None` while another has it.
    pub(super) fn now(folder: &'f Path) -> Result<Option<Self>, FolderError> {
        let lock = open_lock(folder)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { folder, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(fail(&folder.join(LOCK), error, "")),
        }
    }

    pub(super) fn manifest(&self) -> Result<Manifest, FolderError> {
        read_manifest(self.folder)
    }

    /// Makes a key and writes its file. Its times are for the caller to set when all keys are made: making them takes long.
    pub(super) fn make_key(&self, alg: SigningAlgorithm, now: UnixTime) -> Result<Entry, FolderError> {
        let folder = self.folder;
        let pem = generate(alg, now).map_err(|error| fail(folder, error, ""))?;
        let key = SigningKey::from_pem(pem.as_bytes(), alg).map_err(|error| fail(folder, error, ""))?;
        let kid = key.id().to_owned();
        let file = format!("{}-{kid}.pem", alg.name().to_ascii_lowercase());
        let path = folder.join(&file);
        files::write(&path, pem.as_bytes(), files::PRIVATE).map_err(|error| fail(&path, error, ""))?;
        Ok(Entry { kid, alg, file, created: now, signs_from: now })
    }

    /// Writes the manifest: from here on the change is made.
    pub(super) fn publish(&self, manifest: &Manifest) -> Result<(), FolderError> {
        let path = self.folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(manifest).map_err(|error| fail(&path, error, ""))?;
        files::write(&path, text.as_bytes(), files::PRIVATE).map_err(|error| fail(&path, error, ""))
    }

    /// Removes the files of keys that the manifest no longer names.
    pub(super) fn discard(&self, entries: &[Entry]) {
        for entry in entries {
            let path = self.folder.join(&entry.file);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "a key that is not used any more can't be removed");
            }
        }
    }
}

fn open_lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(files::PRIVATE).open(&path);
    opened.map_err(|error| fail(&path, error, "who changes keys needs to write to this folder"))
}

/// A new private key as PEM; an RSA key with a self-signed certificate, whose SHA-1 thumbprint is the key id.
pub(super) fn generate(algorithm: SigningAlgorithm, now: UnixTime) -> Result<Secret<String>, rcgen::Error> {
    match algorithm {
        SigningAlgorithm::Es256 => {
            let pair = Secret::from(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
            Ok(Secret::from(pair.serialize_pem()))
        }
        SigningAlgorithm::Rs256 => {
            let pair = Secret::from(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?);
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "ficus token signing");
            params.not_before =
                OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            params.not_after = params.not_before + time::Duration::days(CERTIFICATE_DAYS);
            let certificate = params.self_signed(&*pair)?.pem();
            let key = Secret::from(pair.serialize_pem());
            Ok(Secret::from([key.as_str(), &certificate].concat()))
        }
    }
}
