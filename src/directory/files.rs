//! The files source: every `*.toml` below a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::document::Problems;
use crate::files::Stamp;

/// A file's name for people, and its content.
pub type Text = (String, String);

/// Paths in the order of names: a file, or a folder that can't be read, which hides files.
type Listing = BTreeMap<PathBuf, io::Result<()>>;

/// The tree as it was read last.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, (Stamp, Text)>);

impl Tree {
    /// Reads what has changed since the last time; of all else the text is at hand. Names that begin with a dot are left
    /// out: Kubernetes keeps the real files of a mounted ConfigMap in such folders and links to them.
    pub fn read(&mut self, folder: &Path, problems: &Problems) {
        let listing = list(folder);
        if listing.is_empty() {
            // A volume that is not mounted looks like this, too.
            let hint = "an empty directory grants nothing";
            problems.file(&folder.display().to_string(), "holds no *.toml file", hint);
        }
        let mut before = std::mem::take(&mut self.0);
        for (path, readable) in listing {
            let name = path.display().to_string();
            let kept = before.remove(&path);
            match readable.and_then(|()| read(&path, kept)) {
                Ok((stamp, text)) => drop(self.0.insert(path, (stamp, (name, text)))),
                Err(error) => {
                    let root = "directory.path is relative to the folder of the configuration file";
                    let hint = if path == folder { root } else { "" };
                    problems.file(&name, format!("can't be read: {error}"), hint);
                }
            }
        }
    }

    /// All texts in the order of names.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.0.values().map(|(_, text)| text)
    }
}

/// What tells that something in the tree has changed, without reading it.
pub fn stamps(folder: &Path) -> impl Iterator<Item = (PathBuf, Option<Stamp>)> {
    list(folder).into_iter().map(|(path, readable)| {
        let stamp = readable.and_then(|()| Stamp::of(&path)).ok();
        (path, stamp)
    })
}

/// The stamp is taken before the text: a text that is newer than its stamp is read again, one that is older never stays.
fn read(path: &Path, kept: Option<(Stamp, Text)>) -> io::Result<(Stamp, String)> {
    let stamp = Stamp::of(path)?;
    match kept.filter(|(before, _)| *before == stamp) {
        Some((_, (_, text))) => Ok((stamp, text)),
        None => Ok((stamp, fs::read_to_string(path)?)),
    }
}

fn list(folder: &Path) -> Listing {
    let mut listing = Listing::new();
    collect(folder, &mut listing);
    listing
}

fn collect(folder: &Path, listing: &mut Listing) {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            listing.insert(folder.to_owned(), Err(error));
            return;
        }
    };
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Follows links, which is how a ConfigMap is mounted.
        if path.is_dir() {
            collect(&path, listing);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            listing.insert(path, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tree: &mut Tree, folder: &Path) -> (Vec<String>, Vec<String>) {
        let problems = Problems::default();
        tree.read(folder, &problems);
        let texts = tree.texts().map(|(_, text)| text.clone()).collect();
        (texts, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn unchanged_files_are_not_read_again_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut tree = Tree::default();
        assert!(read(&mut tree, folder.path()).1[0].contains("holds no *.toml"));
        fs::create_dir(at("..data")).unwrap();
        fs::write(at("..data/b.toml"), "b").unwrap();
        std::os::unix::fs::symlink("..data/b.toml", at("b.toml")).unwrap();
        fs::write(at("a.toml"), "a").unwrap();
        fs::write(at("readme.md"), "#").unwrap();
        assert_eq!(read(&mut tree, folder.path()), (vec!["a".into(), "b".into()], vec![]));

        // What is in memory stays as long as the stamps say so.
        tree.0.get_mut(&at("a.toml")).unwrap().1.1 = "kept".into();
        fs::write(at("..data/new"), "c").unwrap();
        fs::rename(at("..data/new"), at("..data/b.toml")).unwrap();
        assert_eq!(read(&mut tree, folder.path()), (vec!["kept".into(), "c".into()], vec![]));

        fs::remove_file(at("a.toml")).unwrap();
        assert_eq!(read(&mut tree, folder.path()), (vec!["c".into()], vec![]));
        fs::remove_file(at("..data/b.toml")).unwrap();
        let (texts, problems) = read(&mut tree, folder.path());
        assert!(texts.is_empty() && problems[0].contains("b.toml: can't be read"), "{problems:?}");
        let (_, problems) = read(&mut tree, &at("absent"));
        assert!(problems.len() == 1 && problems[0].contains("directory.path"), "{problems:?}");
    }
}
