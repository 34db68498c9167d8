//! What is wrong with the key folder.

use std::path::{Path, PathBuf};

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

pub(super) fn fail(path: &Path, message: impl ToString, hint: &'static str) -> FolderError {
    FolderError { path: path.to_owned(), message: message.to_string(), hint }
}
