//! What became of changed files, for `/readyz?verbose`.

use std::fmt::Write;
use std::path::PathBuf;

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::UnixTime;
use crate::document::Problem;
use crate::exchange::Snapshot;

/// Changes of files that are not live.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    /// The last change of directory and configuration, while it is refused.
    pub refused: Option<Refused>,
    /// The last change of the TLS certificate, while it is refused.
    pub certificate: Option<Refused>,
    /// Keys that differ from the start and wait for a restart.
    pub restart: Vec<String>,
    /// Files that never rest.
    pub restless: Vec<Restless>,
}

/// A file that is written again before it has rested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restless {
    /// Its path.
    pub file: PathBuf,
    /// When it was seen to change first, of the changes that go on.
    pub since: UnixTime,
    /// Whether it counts as it was read last; else it is replaced whole, and read a look later.
    pub held: bool,
}

/// A change that was refused whole.
#[derive(Debug, Clone)]
pub struct Refused {
    /// When it was read.
    pub at: UnixTime,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

/// Shared between whoever follows the files and the operations listener.
pub type Changes = ArcSwap<Pending>;

/// Lines for people: what decides, and what does not.
pub(super) fn describe(snapshot: &Snapshot, pending: &Pending) -> String {
    let (generation, digest) = (snapshot.generation, snapshot.directory.digest());
    let mut text = format!("generation {generation}\ndigest {digest}\nsince {}\n", date(snapshot.since));
    let refusals = [("change", &pending.refused), ("change of the certificate", &pending.certificate)];
    for (what, refused) in refusals.into_iter().filter_map(|(what, refused)| Some((what, refused.as_ref()?)))
    {
        let _ = writeln!(text, "refused {what} of {}; the state before it serves:", date(refused.at));
        for problem in &refused.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    for Restless { file, since, held } in &pending.restless {
        let (file, since) = (file.display(), date(*since));
        let counts = if *held {
            "never rests: it counts as it was read last"
        } else {
            "is replaced all the time: read late"
        };
        let _ = writeln!(text, "{file} {counts}, since {since}");
    }
    if !pending.restart.is_empty() {
        let _ = writeln!(text, "waiting for a restart: {}", pending.restart.join(", "));
    }
    text
}

fn date(seconds: UnixTime) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
