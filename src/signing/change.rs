//! Changes of the keys: the first ones, rotation, revocation. Each holds the folder's lock from its first look to its last
//! write, so that of many instances one makes it and the others find it made.

use std::path::Path;

use super::fault::{FolderError, fail};
use super::folder::{Locked, is_vacant, load};
use super::manifest::{Entry, Manifest, Schedule, State};
use crate::clock::{Clock, UnixTime};
use crate::domain::resource::SigningAlgorithm;
use crate::files;

/// Seconds from a hurried rotation until its keys sign: every replica looks at the folder many times before.
const HURRY: i64 = 5;

/// When the keys of a rotation begin to sign.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Once every resource has had time to read them: after this many seconds.
    Announced(i64),
    /// As soon as every replica publishes them.
    Now,
}

/// What a rotation did.
#[derive(Debug)]
pub enum Rotated {
    /// Made keys.
    Made {
        /// Their ids.
        kids: Vec<String>,
        /// When they begin to sign.
        signs_from: UnixTime,
    },
    /// Nothing: keys are announced already.
    AlreadyAnnounced {
        /// When they begin to sign.
        signs_from: UnixTime,
    },
}

/// Makes the first keys, one for each algorithm, and gives back their ids. Refuses a folder that has keys.
pub fn create(folder: &Path, now: UnixTime) -> Result<Vec<String>, FolderError> {
    files::make_private_folder(folder).map_err(|error| fail(folder, error, ""))?;
    // Replicas that start on one new folder: the second waits here, then finds the keys of the first.
    let locked = Locked::wait(folder)?;
    if !is_vacant(folder) {
        let message = format!("already holds {} keys", load(folder)?.0.len());
        let hint =
            "nothing was changed; remove the folder to start anew, which makes every token out there invalid";
        return Err(fail(folder, message, hint));
    }
    // Key files without a manifest are keys whose manifest was lost. An empty one tells that these never were in use.
    let mut manifest = Manifest::new();
    locked.publish(&manifest)?;
    for algorithm in SigningAlgorithm::ALL {
        manifest.keys.push(locked.make_key(algorithm, now)?);
    }
    locked.publish(&manifest)?;
    Ok(manifest.keys.into_iter().map(|key| key.kid).collect())
}

/// Makes new keys, one for each algorithm. Where one is announced already, another is made only in a hurry.
pub fn rotate(folder: &Path, pace: Pace, clock: &Clock) -> Result<Rotated, FolderError> {
    let locked = Locked::wait(folder)?;
    renew(&locked, locked.manifest()?, pace, clock)
}

fn renew(
    locked: &Locked<'_>,
    mut manifest: Manifest,
    pace: Pace,
    clock: &Clock,
) -> Result<Rotated, FolderError> {
    let mut made = Vec::new();
    for algorithm in SigningAlgorithm::ALL {
        if matches!(pace, Pace::Now) || manifest.announced(algorithm, clock.now()).is_none() {
            made.push(locked.make_key(algorithm, clock.now())?);
        }
    }
    // Making an RSA key may take longer than a hurry: time counts from here.
    let now = clock.now();
    if made.is_empty() {
        let announced = SigningAlgorithm::ALL.map(|algorithm| manifest.announced(algorithm, now));
        return Ok(Rotated::AlreadyAnnounced {
            signs_from: announced.into_iter().flatten().max().unwrap_or(now),
        });
    }
    let signs_from = now.saturating_add(match pace {
        Pace::Announced(seconds) => seconds,
        Pace::Now => HURRY,
    });
    let gone = manifest.prune(now);
    let kids = made.iter().map(|entry| entry.kid.clone()).collect();
    manifest.keys.extend(made.into_iter().map(|entry| Entry { created: now, signs_from, ..entry }));
    locked.publish(&manifest)?;
    locked.discard(&gone);
    Ok(Rotated::Made { kids, signs_from })
}

/// Takes a key out of JWKS and signing at once. If it was signing, a new one signs from now, in the same write; its id
/// is the answer.
pub fn revoke(folder: &Path, kid: &str, clock: &Clock) -> Result<Option<String>, FolderError> {
    let locked = Locked::wait(folder)?;
    let mut manifest = locked.manifest()?;
    let Some((entry, life)) = manifest.find(kid) else {
        let known: Vec<_> = manifest.keys.iter().map(|entry| entry.kid.as_str()).collect();
        let message = format!("holds no key {kid:?}; its keys are {}", known.join(", "));
        return Err(fail(folder, message, "`ficus keys list` tells more of them"));
    };
    let algorithm = entry.alg;
    // The last key of an algorithm is replaced even if it doesn't sign yet: a folder without one is refused.
    let last = manifest.keys.iter().filter(|entry| entry.alg == algorithm).count() == 1;
    let replaced = last || life.state(clock.now()) == State::Signing;
    let replacement = if replaced { Some(locked.make_key(algorithm, clock.now())?) } else { None };
    let now = clock.now();
    // First, while the revoked key still tells how long ago its predecessors retired.
    let mut removed = manifest.prune(now);
    removed.extend(manifest.keys.extract_if(.., |entry| entry.kid == kid));
    let replacement = replacement.map(|entry| Entry { created: now, signs_from: now, ..entry });
    let new = replacement.as_ref().map(|entry| entry.kid.clone());
    manifest.keys.extend(replacement);
    locked.publish(&manifest)?;
    locked.discard(&removed);
    Ok(new)
}

/// Does what time asks for: announces keys, removes those whose last token has expired. `false` while another instance
/// has the folder.
pub(super) fn tend(folder: &Path, schedule: Schedule, clock: &Clock) -> Result<bool, FolderError> {
    let Some(locked) = Locked::now(folder)? else { return Ok(false) };
    // Another instance may have done it since this one looked.
    let mut manifest = locked.manifest()?;
    if manifest.is_due(clock.now(), schedule) {
        if let Rotated::Made { kids, signs_from } =
            renew(&locked, manifest, Pace::Announced(schedule.announce), clock)?
        {
            tracing::info!(keys = kids.join(" "), signs_from, "announced new signing keys");
        }
        return Ok(true);
    }
    let gone = manifest.prune(clock.now());
    if !gone.is_empty() {
        locked.publish(&manifest)?;
        locked.discard(&gone);
        let kids: Vec<_> = gone.iter().map(|entry| entry.kid.as_str()).collect();
        tracing::info!(keys = kids.join(" "), "removed signing keys whose last token has expired");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const DAY: i64 = 86_400;
    const SCHEDULE: Schedule = Schedule { every: 30 * DAY, announce: DAY };
    const START: i64 = 1_790_000_000;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with_keys() -> (Self, PathBuf, Clock) {
            let home = Self::new();
            let folder = home.0.path().join("a/keys");
            create(&folder, START).unwrap();
            (home, folder, Clock::fixed(START))
        }
    }

    fn error(folder: &Path) -> String {
        load(folder).unwrap_err().to_string()
    }

    fn pem_files(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "pem")).count()
    }

    fn states(folder: &Path, now: i64) -> Vec<String> {
        let keys = load(folder).unwrap().list(now);
        keys.iter().map(|key| format!("{} {}", key.alg, key.state)).collect()
    }

    #[test]
    fn the_folder_is_whole_or_refused_with_a_way_out() {
        let home = Home::new();
        let folder = home.0.path().join("a/keys");
        assert!(is_vacant(&folder));
        assert!(error(&folder).contains("ficus keys init"));
        let ids = create(&folder, START).unwrap();
        let keys = load(&folder).unwrap().list(START);
        assert_eq!(ids, keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>());
        assert!(create(&folder, 1).unwrap_err().to_string().contains("already holds 2 keys"));
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }

        let file = folder.join(format!("es256-{}.pem", ids[1]));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(error(&folder).contains("chmod 600"));
        let other = Locked::wait(&folder).unwrap().make_key(SigningAlgorithm::Es256, 0).unwrap();
        fs::copy(folder.join(other.file), &file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(error(&folder).contains("the manifest says"));
        files::write(&file, b"garbage", files::PRIVATE).unwrap();
        assert!(error(&folder).contains("holds no PKCS#8 private key"));
        fs::remove_file(&file).unwrap();
        assert!(error(&folder).contains("restore the key file"));
        fs::remove_file(folder.join("manifest.json")).unwrap();
        assert!(error(&folder).contains("is missing although the folder holds key files"));
    }

    #[test]
    fn first_keys_whose_making_broke_off_are_made_anew() {
        let home = Home::new();
        let folder = home.0.path().join("keys");
        files::make_private_folder(&folder).unwrap();
        let locked = Locked::wait(&folder).unwrap();
        locked.publish(&Manifest::new()).unwrap();
        locked.make_key(SigningAlgorithm::Es256, START).unwrap();
        drop(locked);
        assert!(is_vacant(&folder) && error(&folder).contains("holds no keys"));
        create(&folder, START).unwrap();
        assert_eq!((load(&folder).unwrap().0.len(), pem_files(&folder)), (2, 3), "the orphan is ignored");
    }

    #[test]
    fn a_rotation_announces_and_a_second_one_finds_it_announced() {
        let (_home, folder, clock) = Home::with_keys();
        let Rotated::Made { kids, signs_from } = rotate(&folder, Pace::Announced(DAY), &clock).unwrap()
        else {
            panic!("nothing made")
        };
        assert_eq!((kids.len(), signs_from), (2, START + DAY));
        let announced = ["RS256 signing", "ES256 signing", "RS256 announced", "ES256 announced"];
        assert_eq!(states(&folder, START), announced);
        assert!(matches!(
            rotate(&folder, Pace::Announced(DAY), &clock).unwrap(),
            Rotated::AlreadyAnnounced { signs_from } if signs_from == START + DAY
        ));
        assert_eq!(states(&folder, START), announced);
        // A hurry makes others, which sign until the announced ones do.
        assert!(matches!(
            rotate(&folder, Pace::Now, &clock).unwrap(),
            Rotated::Made { signs_from, .. } if signs_from == START + HURRY
        ));
        let (retired, announced, signing) =
            (["RS256 retired", "ES256 retired"], &announced[2..], &announced[..2]);
        assert_eq!(states(&folder, START + HURRY), [&retired, announced, signing].concat());
    }

    #[test]
    fn what_is_revoked_is_gone_and_what_signed_is_replaced() {
        let (_home, folder, clock) = Home::with_keys();
        rotate(&folder, Pace::Announced(DAY), &clock).unwrap();
        let keys = load(&folder).unwrap().list(START);
        assert_eq!(revoke(&folder, &keys[2].kid, &clock).unwrap(), None, "it was announced");
        assert_eq!(states(&folder, START), ["RS256 signing", "ES256 signing", "ES256 announced"]);
        let new = revoke(&folder, &keys[0].kid, &clock).unwrap().unwrap();
        assert_eq!(states(&folder, START), ["ES256 signing", "ES256 announced", "RS256 signing"]);
        assert_eq!(load(&folder).unwrap().list(START)[2].kid, new);
        assert_eq!(pem_files(&folder), 3);
        // Only what is missing is announced.
        assert!(
            matches!(rotate(&folder, Pace::Announced(DAY), &clock).unwrap(), Rotated::Made { kids, .. } if kids.len() == 1)
        );
        let unknown = revoke(&folder, "-nobody", &clock).unwrap_err().to_string();
        assert!(
            unknown.contains("\"-nobody\"") && unknown.contains(&new) && !unknown.contains('\n'),
            "{unknown}"
        );
    }

    #[test]
    fn time_announces_and_removes_once() {
        let (_home, folder, clock) = Home::with_keys();
        let tend = |now: i64| {
            clock.set(now);
            assert!(super::tend(&folder, SCHEDULE, &clock).unwrap());
            states(&folder, now).len()
        };
        assert_eq!(tend(START + 29 * DAY - 1), 2);
        assert_eq!(tend(START + 29 * DAY), 4);
        assert_eq!(tend(START + 29 * DAY), 4);
        let gone = START + 30 * DAY + crate::signing::manifest::KEPT;
        assert_eq!(tend(gone - 1), 4);
        assert_eq!(pem_files(&folder), 4);
        assert_eq!(tend(gone), 2);
        assert_eq!(pem_files(&folder), 2);
        // While another instance has the folder, nothing happens and nobody waits.
        clock.set(START + 90 * DAY);
        let other = Locked::wait(&folder).unwrap();
        assert!(!super::tend(&folder, SCHEDULE, &clock).unwrap());
        drop(other);
        assert!(super::tend(&folder, SCHEDULE, &clock).unwrap());
    }
}
