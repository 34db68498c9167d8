//! The production code under `src`: which file refers to what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::rust::{Token, Use, closing, find, is_word, item_end, pieces, tokens, tree};

/// Where the load harness is.
const HARNESS: &str = "load/src";

/// Production code: what remains without tests.
pub(crate) struct Sources {
    pub(crate) files: Vec<File>,
}

/// One reference across a border: at `scope`, the child `from` uses the child `to`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) scope: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) place: String,
}

impl Sources {
    pub(crate) fn ours() -> Self {
        let sources = Self::below("src", "");
        assert!(sources.files.len() > 50, "only {} sources found", sources.files.len());
        sources
    }

    /// The load harness, which stands outside the rows.
    pub(crate) fn harness() -> Self {
        let sources = Self::below(HARNESS, HARNESS);
        assert!(sources.files.len() > 10, "only {} sources found", sources.files.len());
        sources
    }

    fn below(folder: &str, prefix: &str) -> Self {
        let (root, mut texts) = (Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), Vec::new());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("src can be listed") {
                let path = entry.expect("src can be listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str) {
                    let name = Path::new(prefix).join(name).to_string_lossy().into_owned();
                    texts.push((name, fs::read_to_string(&path).expect("sources are UTF-8")));
                }
            }
        }
        texts.sort();
        Self::of(texts.iter().map(|(path, text)| (path.as_str(), text.as_str())))
    }

    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut files, mut tests) = (Vec::new(), BTreeSet::new());
        for (path, text) in texts {
            files.push(File::of(path, text, &mut tests));
        }
        files.retain(|file| !tests.iter().any(|test| file.module.starts_with(test)));
        Self { files }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// Every reference across a border, where it really leads when the path is a re-export.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let modules: BTreeSet<&[String]> =
            self.files.iter().flat_map(|file| (0..=file.module.len()).map(|n| &file.module[..n])).collect();
        let uses: Vec<_> = self.files.iter().map(|file| (file, file.uses(&modules))).collect();
        // What a module calls by a shorter name than its child does.
        let mut exported = BTreeMap::new();
        for (file, uses) in &uses {
            for Use { path, alias, .. } in uses {
                if let Some([_, .., last]) = path.strip_prefix(file.module.as_slice()) {
                    let name = alias.as_ref().unwrap_or(last);
                    exported
                        .insert([file.module.as_slice(), std::slice::from_ref(name)].concat(), path.clone());
                }
            }
        }
        let mut edges = BTreeSet::new();
        for (file, uses) in &uses {
            for found in uses {
                let mut to = found.path.clone();
                let renamed = |n: &usize| !modules.contains(&to[..*n]) && exported.contains_key(&to[..*n]);
                if let Some(length) = (1..=to.len()).find(renamed) {
                    to.splice(..length, exported[&to[..length]].iter().cloned());
                }
                let shared = file.module.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(child)) = (file.module.get(shared), to.get(shared))
                    && modules.contains(&to[..=shared])
                {
                    let (scope, place) = (to[..shared].to_vec(), file.at(found.line));
                    edges.insert(Edge { scope, from: from.clone(), to: child.clone(), place });
                }
            }
        }
        edges.into_iter().collect()
    }
}

/// One file; only its production code has tokens.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) module: Vec<String>,
    pub(crate) lines: usize,
    tokens: Vec<Token>,
}

pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    pub(crate) parameters: usize,
}

impl File {
    /// Takes the tests out. Modules in files of their own that are tests only are added to `tests`.
    fn of(path: &str, text: &str, tests: &mut BTreeSet<Vec<String>>) -> Self {
        let module: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        let module = match module.split_last() {
            Some((last, folder)) if last == "mod" || last == "lib" => folder.to_vec(),
            _ => module,
        };
        let (mut tokens, mut lines) = (tokens(text), text.lines().count());
        let marker: Vec<_> = self::tokens("#[cfg(test)]").into_iter().map(|token| token.text).collect();
        while let Some(start) = find(&tokens, &marker).first().copied() {
            let end = item_end(&tokens, start);
            let item = &tokens[start..=end];
            if let Some(at) = item.iter().position(|token| token.text == "mod")
                && item.get(at + 2).is_some_and(|token| token.text == ";")
            {
                tests.insert([module.as_slice(), &[item[at + 1].text.clone()]].concat());
            }
            lines -= item[item.len() - 1].line - item[0].line + 1;
            tokens.drain(start..=end);
        }
        Self { path: path.to_owned(), module, lines, tokens }
    }

    pub(crate) fn at(&self, line: usize) -> String {
        match self.path.starts_with(HARNESS) {
            true => format!("{}:{line}", self.path),
            false => format!("src/{}:{line}", self.path),
        }
    }

    /// Where these pieces of code stand; imports in groups are seen as well.
    pub(crate) fn offences(&self, patterns: &[&str]) -> Vec<String> {
        let (mut found, paths) = (Vec::new(), self.paths());
        for pattern in patterns {
            let words: Vec<_> = tokens(pattern).into_iter().map(|token| token.text).collect();
            let path: Vec<_> = words.iter().filter(|word| *word != "::").cloned().collect();
            let mut lines: Vec<_> =
                find(&self.tokens, &words).iter().map(|at| self.tokens[*at].line).collect();
            for (_, Use { line, path: named, .. }) in &paths {
                if named.starts_with(&path) && !lines.contains(line) {
                    lines.push(*line);
                }
            }
            found.extend(lines.into_iter().map(|line| format!("{}: {pattern}", self.at(line))));
        }
        found
    }

    /// Paths after `use`, and those that begin with `crate`, `super`, `self` or the crate's name; the flag says which.
    fn paths(&self) -> Vec<(bool, Use)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < self.tokens.len() {
            let text = |at: usize| self.tokens.get(at).map_or("", |token| token.text.as_str());
            let import = text(at) == "use" && is_word(text(at + 1));
            let rooted = matches!(text(at), "crate" | "super" | "self" | "ficus") && text(at + 1) == "::";
            if import || rooted {
                let mut uses = Vec::new();
                at += usize::from(import);
                tree(&self.tokens, &mut at, &[], &mut uses);
                found.extend(uses.into_iter().map(|found| (import, found)));
            } else {
                at += 1;
            }
        }
        found
    }

    /// The paths that lead into the crate.
    fn uses(&self, modules: &BTreeSet<&[String]>) -> Vec<Use> {
        let absolute = |(import, found): (bool, Use)| {
            let ups = found.path.iter().take_while(|word| *word == "super" || *word == "self").count();
            let supers = found.path[..ups].iter().filter(|word| *word == "super").count();
            let path = match found.path.first()?.as_str() {
                "crate" | "ficus" => found.path[1..].to_vec(),
                "self" | "super" => {
                    let above = self.module.len().checked_sub(supers)?;
                    [&self.module[..above], &found.path[ups..]].concat()
                }
                _ => {
                    let child = [&self.module, &found.path[..]].concat();
                    (import && modules.contains(&child[..=self.module.len()])).then_some(child)?
                }
            };
            Some(Use { path, ..found })
        };
        self.paths().into_iter().filter_map(absolute).collect()
    }

    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let tokens = &self.tokens;
        let starts = (1..tokens.len()).filter(|at| tokens[at - 1].text == "fn" && is_word(&tokens[*at].text));
        let function = |at: usize| {
            let generic = tokens[at + 1].text == "<";
            let open = if generic { closing(tokens, at + 1) + 1 } else { at + 1 };
            let close = closing(tokens, open);
            let line = tokens[at].line;
            Function {
                name: &tokens[at].text,
                line,
                lines: tokens[item_end(tokens, close)].line - line + 1,
                parameters: pieces(&tokens[open + 1..close]),
            }
        };
        starts.map(function).collect()
    }
}
