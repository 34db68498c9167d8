//! Platforms that have a rule or two each: Google, HCP Terraform, Azure DevOps, CircleCI, and those whose subject is new for
//! every run.

use super::super::grammar::components;
use super::{Cause, Class, Finding, Pair, Rule};

const RULES: [Rule; 5] = [google, terraform, azure_devops, circle, volatile];

pub(super) fn subject(pair: &Pair<'_>) -> Option<Finding> {
    RULES.iter().find_map(|rule| rule(pair))
}

fn texts<'a>(pair: &Pair<'a>) -> (&'a str, &'a str) {
    (&pair.said.subject, &pair.credential.subject)
}

fn google(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let digits = !presented.is_empty() && presented.bytes().all(|byte| byte.is_ascii_digit());
    let email = configured.contains('@') && configured.ends_with("gserviceaccount.com");
    (digits && email).then_some(Finding::of(Class::Form, Cause::SGoogEmail))
}

fn terraform(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let (presented, configured) = (components::parse(presented)?, components::parse(configured)?);
    let of = |found: &[(&str, &str)], name: &str| found.iter().any(|(other, _)| *other == name);
    if !of(&presented, "run_phase") {
        return None;
    }
    let without_project: Vec<_> = presented.iter().filter(|(name, _)| *name != "project").copied().collect();
    if without_project == configured {
        return Some(Finding::of(Class::Form, Cause::STfcProj));
    }
    Some(match components::only_difference(&presented, &configured)? {
        "run_phase" => Finding::sibling(Cause::STfcPhase, "run_phase"),
        "project" => Finding::sibling(Cause::STfcProj, "project"),
        "workspace" => Finding { class: Class::Sibling, cause: None, part: Some("workspace") },
        _ => Finding { class: Class::Sibling, cause: None, part: Some("organization") },
    })
}

fn azure_devops(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let opaque = [presented, configured].map(|subject| subject.starts_with("/eid1/"));
    if opaque != [false, false] {
        let known = opaque[0] || presented.starts_with("sc://");
        return known.then_some(Finding::of(Class::Form, Cause::SAdoEid));
    }
    let names = |subject: &str| -> Option<Vec<String>> {
        let names: Vec<_> = subject.strip_prefix("sc://")?.split('/').map(str::to_owned).collect();
        (names.len() == 3).then_some(names)
    };
    let (presented, configured) = (names(presented)?, names(configured)?);
    let parts = ["organisation", "project", "connection"];
    let mut differing = parts.iter().enumerate().filter(|(at, _)| presented[*at] != configured[*at]);
    let (_, part) = differing.next()?;
    differing.next().is_none().then_some(Finding::sibling(Cause::SAdoName, part))
}

fn circle(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let read = |subject: &str| -> Option<(String, String, bool)> {
        let (project, user) = subject.strip_prefix("org/")?.split_once("/user/")?;
        let (user, origin) =
            user.split_once("/vcs-origin/").map_or((user, None), |(user, at)| (user, Some(at)));
        Some((project.to_owned(), user.to_owned(), origin.is_some()))
    };
    let (presented, configured) = (read(presented)?, read(configured)?);
    if presented.0 != configured.0 {
        return None;
    }
    Some(match (presented.1 == configured.1, presented.2 == configured.2) {
        (_, false) => Finding::of(Class::Form, Cause::SCircleV2),
        (false, true) => Finding::sibling(Cause::SCircleUser, "user"),
        (true, true) => Finding { class: Class::Sibling, cause: None, part: Some("ref") },
    })
}

/// The subject has something that is new for every run: a commit (Buildkite), a step (Bitbucket), a machine (Fly.io).
fn volatile(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let stable = if let Some((stable, _)) = presented.split_once(":commit:") {
        presented.starts_with("organization:").then_some(stable)
    } else if presented.starts_with('{') && presented.ends_with('}') {
        presented.split_once("}:").map(|(stable, _)| stable)
    } else if pair.said.issuer.starts_with("https://oidc.fly.io/") {
        presented.rsplit_once(':').map(|(stable, _)| stable)
    } else {
        None
    }?;
    let class = if configured.starts_with(stable) { Class::Sibling } else { Class::Different };
    Some(Finding { class, cause: Some(Cause::SVolatile), part: Some("run") })
}
