//! The files source: every `*.toml` below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::document::Problems;

/// A file's name for people, and its content.
pub type Text = (String, String);

/// Reads the tree in the order of names. Names that begin with a dot are left out: Kubernetes keeps the real files of a
/// mounted ConfigMap in such folders and links to them.
pub fn read(folder: &Path, problems: &Problems) -> Vec<Text> {
    let mut paths = Vec::new();
    collect(folder, &mut paths, problems);
    paths.sort();
    if paths.is_empty() && !problems.any_error() {
        problems.file(
            &folder.display().to_string(),
            "holds no *.toml file",
            "an empty directory grants nothing",
        );
    }
    paths
        .into_iter()
        .filter_map(|path| {
            let name = path.display().to_string();
            match fs::read_to_string(&path) {
                Ok(text) => Some((name, text)),
                Err(error) => {
                    problems.file(&name, format!("can't be read: {error}"), "");
                    None
                }
            }
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>, problems: &Problems) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let hint = "directory.path is relative to the folder of the configuration file";
            problems.file(&folder.display().to_string(), format!("can't be read: {error}"), hint);
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Follows links, which is how a ConfigMap is mounted.
        if path.is_dir() {
            collect(&path, paths, problems);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
}
