//! `ficus check --against`: what another directory says otherwise, and who would get a token by one of them only.

use std::path::Path;

use serde_json::{Value, json};

use super::super::{Failure, output::plain};
use super::count;
use super::flips::{Flip, Side, flips};
use super::records::{Difference, differences};
use crate::config::Config;
use crate::directory::files::Tree;
use crate::document::Problems;
use crate::domain::directory::Directory;

/// What differs.
pub(super) struct Comparison {
    digests: [String; 2],
    records: Vec<Difference>,
    flips: Vec<Flip>,
}

impl Comparison {
    /// Reads the other directory under the same configuration, and compares. Its problems end the command; its warnings were
    /// told when it went live.
    pub(super) fn with(
        other: &Path,
        config: &Config,
        (tree, directory): (&Tree, &Directory),
    ) -> Result<Self, Failure> {
        let (problems, mut before) = (Problems::default(), Tree::default());
        let mut there = config.clone();
        other.clone_into(&mut there.directory);
        let was = there.load_directory(&mut before, &problems);
        if problems.any_error() {
            return Err(Failure::Problems(problems.into_vec()));
        }
        let sides = [(&was, &before), (directory, tree)]
            .map(|(directory, tree)| Side { directory, expectations: config.expectations(tree.contents()) });
        Ok(Self {
            digests: [was.digest(), directory.digest()].map(str::to_owned),
            records: differences(&was, directory),
            flips: flips(&sides[0], &sides[1]),
        })
    }

    pub(super) fn flips(&self) -> bool {
        !self.flips.is_empty()
    }

    fn counts(&self) -> [usize; 3] {
        ["added", "removed", "changed"]
            .map(|change| self.records.iter().filter(|record| record.change() == change).count())
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for record in &self.records {
            let (sign, name) = (record.change(), plain(&record.name));
            text.push_str(&format!("{sign:<8} {} {} {name}\n", record.tenant, record.kind));
            for (field, before, after) in record.fields() {
                let line = match (before, after) {
                    (Some(before), Some(after)) => format!("{} -> {}", said(before), said(after)),
                    (Some(before), None) if record.after.is_some() => format!("{} -> none", said(before)),
                    (None, Some(after)) if record.before.is_some() => format!("none -> {}", said(after)),
                    (one, other) => one.or(other).map(said).unwrap_or_default(),
                };
                text.push_str(&format!("           {field}: {line}\n"));
            }
        }
        for flip in &self.flips {
            text.push_str(&flip_text(flip));
        }
        let [added, removed, changed] = self.counts();
        let verdicts = match self.flips.len() {
            1 => "1 verdict flips".to_owned(),
            n => format!("{n} verdicts flip"),
        };
        text.push_str(&format!(
            "{} added, {removed} removed, {changed} changed; {verdicts}\n",
            count(added, "record")
        ));
        text
    }

    pub(super) fn json(&self) -> Value {
        let record = |record: &Difference| {
            let fields = record
                .fields()
                .into_iter()
                .map(|(name, before, after)| (name.clone(), json!({ "before": before, "after": after })));
            json!({
                "change": record.change(), "tenant": record.tenant, "kind": record.kind, "name": record.name,
                "fields": fields.collect::<serde_json::Map<_, _>>(),
            })
        };
        let [added, removed, changed] = self.counts();
        json!({
            "digest": { "before": self.digests[0], "after": self.digests[1] },
            "counts": { "added": added, "removed": removed, "changed": changed, "flips": self.flips.len() },
            "records": self.records.iter().map(record).collect::<Vec<_>>(),
            "flips": self.flips.iter().map(Flip::json).collect::<Vec<_>>(),
        })
    }
}

fn said(value: &Value) -> String {
    plain(&value.to_string())
}

fn flip_text(flip: &Flip) -> String {
    let resource =
        flip.resource.as_ref().map(|resource| format!(" for {}", plain(resource))).unwrap_or_default();
    let mut text = format!("{}: {} {}{resource}\n", flip.what(), flip.tenant, plain(&flip.identity));
    if let Some(claims) = &flip.claims {
        text.push_str(&format!("           claims: {}\n", said(claims)));
    }
    text + &format!("           {} -> {}\n", plain(&flip.before.text()), plain(&flip.after.text()))
}
