//! The keys on disk: one file a key, and a manifest that lists them.
//!
//! The manifest is written last, so a folder is either whole or has no manifest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RsaKeySize,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::key::SigningKey;
use crate::clock::UnixTime;
use crate::domain::resource::SigningAlgorithm;
use crate::files;

const MANIFEST: &str = "manifest.json";
/// Validity of the self-signed certificate around an RSA key. Nobody builds trust on it; it names the key.
const CERTIFICATE_DAYS: i64 = 3650;

/// What is wrong with the key folder, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("signing keys: {}: {message}{}", path.display(), hint_of(hint))]
pub struct FolderError {
    path: PathBuf,
    message: String,
    hint: &'static str,
}

fn hint_of(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" (hint: {hint})") }
}

fn fail(path: &Path, message: impl ToString, hint: &'static str) -> FolderError {
    FolderError { path: path.to_owned(), message: message.to_string(), hint }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    keys: Vec<ManifestKey>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestKey {
    kid: String,
    alg: String,
    file: String,
    created: UnixTime,
    signs_from: UnixTime,
}

/// Whether the folder is absent or holds neither manifest nor key file.
pub(super) fn is_vacant(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(entries) => !entries.flatten().any(|entry| {
            entry.file_name() == MANIFEST
                || entry.path().extension().is_some_and(|extension| extension == "pem")
        }),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Makes the first keys, one for each algorithm, and gives back their ids. Refuses a folder that has keys.
pub fn create(folder: &Path, now: UnixTime) -> Result<Vec<String>, FolderError> {
    files::make_private_folder(folder).map_err(|error| fail(folder, error, ""))?;
    // Replicas that start on one new folder: the second waits here, then finds the keys of the first.
    let lock = File::create(folder.join("lock")).and_then(|lock| lock.lock().map(|()| lock));
    let _lock =
        lock.map_err(|error| fail(folder, error, "ficus needs to write to this folder to make keys"))?;
    if !is_vacant(folder) {
        return match load(folder) {
            Ok(keys) => Err(fail(
                folder,
                format!("already holds {} keys", keys.len()),
                "nothing was changed; remove the folder to start anew, which makes every token out there invalid",
            )),
            Err(error) => Err(error),
        };
    }
    let mut manifest = Manifest { version: 1, keys: Vec::new() };
    for algorithm in SigningAlgorithm::ALL {
        let pem = generate(algorithm, now).map_err(|error| fail(folder, error, ""))?;
        let key =
            SigningKey::from_pem(pem.as_bytes(), algorithm, now).map_err(|error| fail(folder, error, ""))?;
        let file = format!("{}-{}.pem", algorithm.name().to_ascii_lowercase(), key.id());
        let path = folder.join(&file);
        files::write(&path, pem.as_bytes(), files::PRIVATE).map_err(|error| fail(&path, error, ""))?;
        manifest.keys.push(ManifestKey {
            kid: key.id().to_owned(),
            alg: algorithm.name().to_owned(),
            file,
            created: now,
            signs_from: now,
        });
    }
    let path = folder.join(MANIFEST);
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| fail(&path, error, ""))?;
    files::write(&path, text.as_bytes(), files::PRIVATE).map_err(|error| fail(&path, error, ""))?;
    Ok(manifest.keys.into_iter().map(|key| key.kid).collect())
}

/// Reads the manifest and every key that it lists.
pub(super) fn load(folder: &Path) -> Result<Vec<SigningKey>, FolderError> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if is_vacant(folder) => {
            fail(folder, "holds no keys", "run `ficus keys init`, or set create = true under [keys]")
        }
        io::ErrorKind::NotFound => fail(
            &path,
            "is missing although the folder holds key files",
            "restore it from a backup; if no key was ever used, empty the folder and run `ficus keys init`",
        ),
        _ => fail(&path, error, ""),
    })?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| fail(&path, format!("is not a manifest: {error}"), "restore it from a backup"))?;
    if manifest.version != 1 {
        return Err(fail(
            &path,
            format!("has version {}, expected 1", manifest.version),
            "a newer ficus wrote it",
        ));
    }
    let keys: Vec<_> = manifest.keys.iter().map(|entry| load_key(folder, entry)).collect::<Result<_, _>>()?;
    match SigningAlgorithm::ALL.into_iter().find(|wanted| !keys.iter().any(|key| key.algorithm() == *wanted))
    {
        Some(missing) => {
            Err(fail(&path, format!("lists no {} key", missing.name()), "restore it from a backup"))
        }
        None => Ok(keys),
    }
}

fn load_key(folder: &Path, entry: &ManifestKey) -> Result<SigningKey, FolderError> {
    let path = folder.join(&entry.file);
    let restore = "restore the key file from a backup";
    // The manifest names files of its own folder, nothing else.
    if Path::new(&entry.file).file_name() != Some(entry.file.as_ref()) {
        return Err(fail(&folder.join(MANIFEST), format!("{:?} is not a file name", entry.file), restore));
    }
    let algorithm =
        SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == entry.alg).ok_or_else(
            || fail(&folder.join(MANIFEST), format!("{:?} is not RS256 or ES256", entry.alg), restore),
        )?;
    let pem = files::read_private(&path).map_err(|error| fail(&path, error, restore))?;
    let pem = Zeroizing::new(pem);
    let key = SigningKey::from_pem(&pem, algorithm, entry.signs_from)
        .map_err(|error| fail(&path, error, restore))?;
    if key.id() != entry.kid {
        return Err(fail(&path, format!("holds key {}, the manifest says {}", key.id(), entry.kid), restore));
    }
    Ok(key)
}

/// A new private key as PEM; an RSA key with a self-signed certificate, whose SHA-1 thumbprint is the key id.
fn generate(algorithm: SigningAlgorithm, now: UnixTime) -> Result<Zeroizing<String>, rcgen::Error> {
    match algorithm {
        SigningAlgorithm::Es256 => {
            Ok(Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem()))
        }
        SigningAlgorithm::Rs256 => {
            let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "ficus token signing");
            params.not_before =
                OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            params.not_after = params.not_before + time::Duration::days(CERTIFICATE_DAYS);
            let certificate = params.self_signed(&pair)?;
            Ok(Zeroizing::new(format!("{}{}", pair.serialize_pem(), certificate.pem())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn error(folder: &Path) -> String {
        load(folder).unwrap_err().to_string()
    }

    #[test]
    fn the_folder_is_whole_or_refused_with_a_way_out() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/keys");
        assert!(is_vacant(&folder));
        assert!(error(&folder).contains("ficus keys init"));
        let ids = create(&folder, 1_790_000_000).unwrap();
        let keys = load(&folder).unwrap();
        assert_eq!(ids, keys.iter().map(|key| key.id().to_owned()).collect::<Vec<_>>());
        assert!(create(&folder, 1).unwrap_err().to_string().contains("already holds 2 keys"));
        for entry in fs::read_dir(&folder).unwrap().flatten().filter(|e| e.file_name() != "lock") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }

        let file = folder.join(format!("es256-{}.pem", ids[1]));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(error(&folder).contains("chmod 600"));
        let other = generate(SigningAlgorithm::Es256, 0).unwrap();
        files::write(&file, other.as_bytes(), files::PRIVATE).unwrap();
        assert!(error(&folder).contains("the manifest says"));
        files::write(&file, b"garbage", files::PRIVATE).unwrap();
        assert!(error(&folder).contains("holds no PKCS#8 private key"));
        fs::remove_file(&file).unwrap();
        assert!(error(&folder).contains("restore the key file"));
        fs::remove_file(folder.join(MANIFEST)).unwrap();
        assert!(error(&folder).contains("is missing although the folder holds key files"));
    }

    #[test]
    fn a_manifest_names_only_files_of_its_folder() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("keys");
        create(&folder, 0).unwrap();
        let manifest = fs::read_to_string(folder.join(MANIFEST)).unwrap();
        fs::write(folder.join(MANIFEST), manifest.replace("\"es256-", "\"../keys/es256-")).unwrap();
        assert!(error(&folder).contains("is not a file name"));
        fs::write(folder.join(MANIFEST), manifest.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(error(&folder).contains("newer ficus"));
    }
}
