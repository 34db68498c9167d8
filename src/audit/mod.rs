//! The record: one JSON line for every decision, written before the decision leaves.

mod causes;
mod intake;
mod names;
pub mod reading;
mod record;
mod sink;
mod tally;
mod writer;

use std::path::{Path, PathBuf};

pub use intake::{Audit, AuditFailure};
pub use record::{Assertion, NearMiss, Outcome, Record, Status, Text, WouldMatch, drives_terminals};

use crate::document::{Reader, Size};

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file that grows, rotates and is reopened.
    File(PathBuf),
    /// The standard output, for whoever collects it.
    Stdout,
}

/// What a grant meets when its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused at once.
    Refuse,
    /// It waits.
    Block,
}

/// What a line must survive before its grant leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process; the disk follows about once a second.
    Kernel,
    /// A loss of power.
    Fsync,
}

/// The section `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the lines go.
    pub path: Destination,
    /// What a grant meets when its queue is full.
    pub on_overflow: Overflow,
    /// What a line must survive before its grant leaves.
    pub durability: Durability,
    /// A file of this many bytes is set aside before the next lines are written.
    pub rotate_size: u64,
}

impl Settings {
    /// Reads the keys of the section; the caller opens and finishes it.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let path = reader.get_or("path", PathBuf::from("../data/audit.jsonl"));
        let on_overflow = reader.one_of_or(
            "on_overflow",
            &[("refuse", Overflow::Refuse), ("block", Overflow::Block)],
            Overflow::Refuse,
        );
        let durability = reader.one_of_or(
            "durability",
            &[("kernel", Durability::Kernel), ("fsync", Durability::Fsync)],
            Durability::Kernel,
        );
        let bounds = Size(1 << 20)..=Size(64 << 30);
        let Size(rotate_size) = reader.bounded("rotate_size", Size(256 << 20), bounds, show);
        Self {
            path: if path == Path::new("stdout") { Destination::Stdout } else { Destination::File(path) },
            on_overflow,
            durability,
            rotate_size: rotate_size as u64,
        }
    }

    /// Makes a relative path relative to the configuration file's folder.
    pub fn resolve(&mut self, base: &Path) {
        if let Destination::File(path) = &mut self.path {
            *path = base.join(&*path);
        }
    }
}

/// A size in the largest unit that shows it exactly, as it would be written.
fn show(Size(bytes): Size) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(factor, _)| bytes > 0 && bytes % factor == 0);
    unit.map_or_else(|| format!("{bytes}B"), |(factor, name)| format!("{}{name}", bytes / factor))
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("audit log {place}: {action}: {source} (hint: {hint})")]
pub struct AuditError {
    place: String,
    action: &'static str,
    source: std::io::Error,
    hint: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Problems};

    fn read(text: &str) -> (Settings, Vec<String>) {
        let problems = Problems::default();
        let mut reader = Document::parse("f.toml", text, &problems).reader(&problems);
        let settings = Settings::read(&mut reader);
        reader.finish();
        (settings, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_empty_section_has_defaults() {
        let (mut settings, problems) = read("");
        assert_eq!(problems, [""; 0]);
        settings.resolve(Path::new("/etc/ficus"));
        assert_eq!(
            settings,
            Settings {
                path: Destination::File("/etc/ficus/../data/audit.jsonl".into()),
                on_overflow: Overflow::Refuse,
                durability: Durability::Kernel,
                rotate_size: 256 << 20,
            }
        );
    }

    #[test]
    fn every_key_can_be_set() {
        let text =
            "path = \"stdout\"\non_overflow = \"block\"\ndurability = \"fsync\"\nrotate_size = \"1MiB\"";
        let (mut settings, problems) = read(text);
        assert_eq!(problems, [""; 0]);
        settings.resolve(Path::new("/etc/ficus"));
        let wanted = Settings {
            path: Destination::Stdout,
            on_overflow: Overflow::Block,
            durability: Durability::Fsync,
            rotate_size: 1 << 20,
        };
        assert_eq!(settings, wanted);
    }

    #[test]
    fn wrong_values_are_all_reported() {
        let (_, problems) = read("on_overflow = \"drop\"\nrotate_size = \"512KiB\"");
        assert_eq!(
            problems,
            [
                "f.toml:1: on_overflow: expected one of \"refuse\", \"block\", found \"drop\"",
                "f.toml:2: rotate_size: 512KiB is out of range: expected 1MiB to 64GiB",
            ]
        );
    }
}
