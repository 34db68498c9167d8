//! Projects of GitLab.

use super::super::grammar::components;
use super::{Cause, Class, Finding, Pair};

pub(super) fn subject(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = (&pair.said.subject, &pair.credential.subject);
    let of_project = |found: &Vec<(&str, &str)>| found.first().is_some_and(|(first, _)| is_project(first));
    let configured = components::parse(configured).filter(of_project)?;
    let old = presented.strip_prefix("job_");
    if old.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some(Finding { cause: Some(Cause::SGlOld), ..Finding::DIFFERENT });
    }
    let presented = components::parse(presented).filter(of_project)?;
    if !components::same_names(&presented, &configured) {
        return other_components(&presented, &configured);
    }
    if has_long_ref(&presented, &configured) {
        return Some(Finding::of(Class::Form, Cause::SGlRef));
    }
    Some(match components::only_difference(&presented, &configured)? {
        "ref_type" => Finding::sibling(Cause::SGlType, "ref_type"),
        "ref" => Finding::sibling(Cause::SGlBranch, "ref"),
        name if is_project(name) => Finding::sibling(Cause::SGlPath, "project"),
        _ => Finding { class: Class::Sibling, cause: None, part: Some("component") },
    })
}

fn is_project(name: &str) -> bool {
    [
        "project_path",
        "project_id",
        "job_project_path",
        "job_project_id",
        "source_project_path",
        "source_project_id",
    ]
    .contains(&name)
}

/// The configured ref is a full one, and everything else is equal.
fn has_long_ref(presented: &[(&str, &str)], configured: &[(&str, &str)]) -> bool {
    let mut pairs = presented.iter().zip(configured);
    pairs.all(|((_, p), (name, c))| p == c || (*name == "ref" && short(c) == *p))
}

fn short(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name)
}

/// The subjects have different components: near when those that both have are equal.
fn other_components(presented: &[(&str, &str)], configured: &[(&str, &str)]) -> Option<Finding> {
    let mut both = presented.iter().flat_map(|(name, value)| {
        let same = configured.iter().filter(move |(other, _)| other == name);
        same.map(move |(_, other)| value == other)
    });
    // One at least, and no other.
    (both.next()? && both.all(|equal| equal)).then_some(Finding::of(Class::Form, Cause::SGlProt))
}
