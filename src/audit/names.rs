//! What files are called that were set aside.

use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::clock::UnixTime;

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// The name beside the log that is free at this time.
pub(super) fn free(path: &Path, now: UnixTime) -> std::io::Result<PathBuf> {
    let now = OffsetDateTime::from_unix_timestamp(now).map_err(std::io::Error::other)?;
    let stamp = now.format(STAMP).map_err(std::io::Error::other)?;
    let name = |suffix: &str| {
        let mut name = path.to_owned().into_os_string();
        name.push(format!(".{stamp}{suffix}"));
        PathBuf::from(name)
    };
    let mut target = name("");
    let mut number = 1;
    while target.symlink_metadata().is_ok() {
        target = name(&format!("-{number}"));
        number += 1;
    }
    Ok(target)
}

/// What tells the order of two files that were set aside, by what their names have behind the log's; `None` for any other.
pub(super) fn order(behind: &str) -> Option<(String, u64)> {
    let (stamp, number) = behind.strip_prefix('.')?.split_once('Z')?;
    let number = match number.strip_prefix('-') {
        None if number.is_empty() => 0,
        None => return None,
        Some(digits) => digits.parse().ok().filter(|number| *number > 0)?,
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, second) = stamp.split_once('T')?;
    (day.len() == 8 && second.len() == 6 && digits(day) && digits(second)).then(|| (stamp.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_given_are_known_again_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.jsonl");
        let mut given = Vec::new();
        for now in [1_790_000_000, 1_790_000_000, 1_790_000_000, 1_790_000_001, 1_800_000_000] {
            let path = free(&log, now).unwrap();
            std::fs::write(&path, "").unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            given.push(order(name.strip_prefix("audit.jsonl").unwrap()).expect(&name));
        }
        assert!(given.is_sorted() && given.len() == 5, "{given:?}");
        for other in [
            "",
            ".1",
            ".gz",
            ".20260921T141320Z.gz",
            ".20260921T141320Z-0",
            ".20260921T141320Zx",
            "-20260921",
        ] {
            assert_eq!(order(other), None, "{other}");
        }
    }
}
