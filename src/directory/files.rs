//! The files source: every `*.toml` below a folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::parallel;
use crate::document::Problems;
use crate::files::{self, Stamp};

/// Paths in the order of names: a file, or a folder that can't be read, which hides files.
type Listing = BTreeMap<PathBuf, io::Result<()>>;

/// The tree as it could be read last. A copy shares what the files say.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<PathBuf, Kept>);

/// What a file said, and its stamp then.
type Kept = (Stamp, Arc<Content>);

/// Where the text of a file is to be had.
#[derive(Debug)]
pub enum Source<'t> {
    /// At its path, unless it is known by this stamp.
    Path(Option<Stamp>),
    /// Here, read under this stamp.
    Text(Option<Stamp>, &'t io::Result<String>),
    /// Nowhere: it counts as it could be read last, and if it never could, it is not there.
    Last,
}

impl Tree {
    /// Reads what has changed since the last time; what all other files say is at hand. Names that begin with a dot are
    /// left out: Kubernetes keeps the real files of a mounted ConfigMap in such folders and links to them.
    pub fn read(&mut self, folder: &Path, problems: &Problems) {
        let listing = list(folder);
        let files = listing.into_iter().map(|(path, readable)| (path, readable.map(|()| Source::Path(None))));
        self.take(folder, files.collect(), problems);
    }

    /// Takes over what these files say, and forgets all others.
    pub fn take_over<'t>(
        &mut self,
        folder: &Path,
        files: impl Iterator<Item = (PathBuf, Source<'t>)>,
        problems: &Problems,
    ) {
        self.take(folder, files.map(|(path, source)| (path, Ok(source))).collect(), problems);
    }

    fn take(&mut self, folder: &Path, files: Vec<(PathBuf, io::Result<Source<'_>>)>, problems: &Problems) {
        if files.is_empty() {
            // A volume that is not mounted looks like this, too.
            let hint = "an empty directory grants nothing";
            problems.file(&folder.display().to_string(), "holds no *.toml file", hint);
        }
        let before = std::mem::take(&mut self.0);
        let files =
            files.into_iter().map(|(path, source)| (before.get(&path).cloned(), path, source)).collect();
        let now = parallel::map(files, |(kept, path, source)| {
            let content = source.and_then(|source| read(&path, source, kept));
            (path, content)
        });
        for (path, content) in now {
            match content {
                Ok(Some(content)) => drop(self.0.insert(path, content)),
                Ok(None) => {}
                Err(error) => {
                    // It is not gone: should it never rest from now on, it counts as it could be read last, and so does all
                    // that a folder hides.
                    let hidden = before.range::<Path, _>((Bound::Included(&*path), Bound::Unbounded));
                    let hidden = hidden.take_while(|(hidden, _)| hidden.starts_with(&path));
                    self.0.extend(hidden.map(|(path, kept)| (path.clone(), kept.clone())));
                    let root = "directory.path is relative to the folder of the configuration file";
                    let hint = if path == folder { root } else { "" };
                    problems.file(&path.display().to_string(), format!("can't be read: {error}"), hint);
                }
            }
        }
    }

    /// What tells of each file whether it is as it was read.
    pub fn stamps(&self) -> impl Iterator<Item = (PathBuf, Option<Stamp>)> {
        self.0.iter().map(|(path, (stamp, _))| (path.clone(), Some(*stamp)))
    }

    /// What all files say, in the order of names.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        self.0.values().map(|(_, content)| &**content)
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
fn read(path: &Path, source: Source<'_>, kept: Option<Kept>) -> io::Result<Option<Kept>> {
    let content = |text: &str| Arc::new(Content::read(&path.display().to_string(), text));
    let (stamp, now) = match source {
        Source::Last => return Ok(kept),
        Source::Text(Some(stamp), Ok(text)) => return Ok(Some((stamp, content(text)))),
        Source::Text(_, Err(error)) => return Err(io::Error::new(error.kind(), error.to_string())),
        Source::Path(Some(stamp)) => (stamp, false),
        Source::Path(None) | Source::Text(None, Ok(_)) => (Stamp::of(path)?, true),
    };
    if let Some(kept) = kept.filter(|(before, _)| *before == stamp) {
        return Ok(Some(kept));
    }
    let text = files::read_text(path)?;
    if !now && Stamp::of(path)? != stamp {
        return Err(io::Error::other("it changed while it was read"));
    }
    Ok(Some((stamp, content(&text))))
}

/// Whether a file has a name by which it is read as records of this folder.
pub fn is_record(folder: &Path, path: &Path) -> bool {
    is_toml(path) && path.strip_prefix(folder).is_ok_and(|below| !below.iter().any(is_hidden))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn list(folder: &Path) -> Listing {
    let mut listing = Listing::new();
    collect(folder, &mut Vec::new(), &mut listing);
    listing
}

/// `above` are the folders that led here.
fn collect(folder: &Path, above: &mut Vec<(u64, u64)>, listing: &mut Listing) {
    let this = fs::metadata(folder).map(|data| (data.dev(), data.ino())).unwrap_or_default();
    if above.contains(&this) {
        let error = io::Error::other("a link leads back to a folder above it");
        listing.insert(folder.to_owned(), Err(error));
        return;
    }
    above.push(this);
    below(folder, above, listing);
    above.pop();
}

fn below(folder: &Path, above: &mut Vec<(u64, u64)>, listing: &mut Listing) {
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
        if is_hidden(&entry.file_name()) {
            continue;
        }
        // Follows links, which is how a ConfigMap is mounted.
        if path.is_dir() {
            collect(&path, above, listing);
        } else if is_toml(&path) {
            listing.insert(path, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::credential::Identity;

    fn record(name: &str) -> String {
        let ids = "client_id = \"a1b2c3d4-0001-4a00-8000-00000000c001\"\nprincipal_id = \"a1b2c3d4-0001-4a00-8000-00000000c002\"";
        format!("[[identity]]\nname = \"{name}\"\nkind = \"application\"\n{ids}\n")
    }

    /// The one identity of each file, and the problems of reading.
    fn read(tree: &mut Tree, folder: &Path) -> (Vec<Arc<Identity>>, Vec<String>) {
        let problems = Problems::default();
        tree.read(folder, &problems);
        let identity = |content: &Content| {
            content.identities[0].value.as_ref().map(|placed| Arc::clone(&placed.identity)).unwrap()
        };
        let identities = tree.contents().map(identity).collect();
        (identities, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn links_that_lead_back_end_and_are_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.toml"), record("aaa")).unwrap();
        for name in ["x", "y"] {
            std::os::unix::fs::symlink(".", folder.path().join(name)).unwrap();
        }
        let problems = read(&mut Tree::default(), folder.path()).1;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("a link leads back")), "{problems:?}");
    }

    #[test]
    fn unchanged_files_are_not_read_again_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut tree = Tree::default();
        assert!(read(&mut tree, folder.path()).1[0].contains("holds no *.toml"));
        fs::create_dir(at("..data")).unwrap();
        fs::write(at("..data/b.toml"), record("bbb")).unwrap();
        std::os::unix::fs::symlink("..data/b.toml", at("b.toml")).unwrap();
        fs::write(at("a.toml"), record("aaa")).unwrap();
        fs::write(at("readme.md"), "#").unwrap();
        let names = |read: &[Arc<Identity>]| read.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
        let (first, problems) = read(&mut tree, folder.path());
        assert_eq!((names(&first), problems), (vec!["aaa".into(), "bbb".into()], vec![]));

        // What a file says stays in memory, the same and no copy, as long as its stamp does.
        fs::write(at("..data/new"), record("ccc")).unwrap();
        fs::rename(at("..data/new"), at("..data/b.toml")).unwrap();
        let (second, problems) = read(&mut tree, folder.path());
        assert_eq!((names(&second), problems), (vec!["aaa".into(), "ccc".into()], vec![]));
        assert!(Arc::ptr_eq(&first[0], &second[0]));

        fs::remove_file(at("a.toml")).unwrap();
        assert_eq!(names(&read(&mut tree, folder.path()).0), ["ccc"]);
        fs::remove_file(at("..data/b.toml")).unwrap();
        let (identities, problems) = read(&mut tree, folder.path());
        assert!(problems.len() == 1 && problems[0].contains("b.toml: can't be read"), "{problems:?}");
        assert_eq!(names(&identities), ["ccc"], "its name is still there");
        let (_, problems) = read(&mut tree, &at("absent"));
        assert!(problems.len() == 1 && problems[0].contains("directory.path"), "{problems:?}");
    }

    #[test]
    fn what_could_not_be_read_counts_as_it_was_before_once_it_is_written_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        for name in ["a", "sub/b", "sub/c", "z"] {
            fs::write(at(&format!("{name}.toml")), record(&format!("of-{}", name.replace('/', "-"))))
                .unwrap();
        }
        let mut tree = Tree::default();
        let (before, problems) = read(&mut tree, folder.path());
        assert_eq!((before.len(), problems), (4, vec![]));
        let same = |tree: &Tree| {
            let now: Vec<_> = tree.contents().map(|content| content.identities[0].value.as_ref()).collect();
            let pairs = now.iter().zip(&before);
            now.len() == 4
                && pairs.into_iter().all(|(now, before)| Arc::ptr_eq(&now.unwrap().identity, before))
        };
        // Bytes that are no text, and a folder that leads nowhere: refused, and nothing is forgotten.
        fs::write(at("a.toml"), b"name = \"\xff\"").unwrap();
        fs::rename(at("sub"), at(".away")).unwrap();
        std::os::unix::fs::symlink(".", at("sub")).unwrap();
        let problems = read(&mut tree, folder.path()).1;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(same(&tree));
        // From now on those never rest.
        fs::remove_file(at("sub")).unwrap();
        fs::rename(at(".away"), at("sub")).unwrap();
        let held = ["a.toml", "sub/b.toml"].map(|name| (at(name), Source::Last));
        let rest = ["sub/c.toml", "z.toml"].map(|name| (at(name), Source::Path(None)));
        let problems = Problems::default();
        tree.take_over(folder.path(), held.into_iter().chain(rest), &problems);
        assert!(!problems.any_error() && !tree.0.is_empty());
        assert_eq!(tree.contents().count(), 4);
        // What is gone is gone.
        fs::remove_dir_all(at("sub")).unwrap();
        fs::remove_file(at("a.toml")).unwrap();
        assert_eq!(read(&mut tree, folder.path()).0.len(), 1);
    }
}
