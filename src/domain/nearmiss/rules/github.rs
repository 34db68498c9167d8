//! Jobs of GitHub Actions: classic and immutable subjects, and templates of organisations' own.

use super::super::grammar::github::{Context, Named, Subject, is_template};
use super::{Cause, Class, Finding, Pair};

pub(super) fn subject(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = (pair.said.subject.as_str(), pair.credential.subject.as_str());
    let Some(presented) = Subject::parse(presented) else {
        // Without the repository in front it can only be a template.
        return is_template(presented).then_some(Finding::of(Class::Form, Cause::SGhCustom));
    };
    let plain = repaired(configured);
    let Some(configured) = Subject::parse(&plain) else {
        return is_template(configured).then_some(Finding::of(Class::Form, Cause::SGhCustom));
    };
    let names = (same(presented.owner, configured.owner), same(presented.repository, configured.repository));
    let contexts = contexts(presented.context, configured.context);
    match names {
        (true, true) if plain != pair.credential.subject => Some(Finding::of(Class::Form, Cause::SGhUrl)),
        (true, true) => identified(presented, configured).or(contexts),
        _ if is_reused(pair, configured) => Some(Finding::of(Class::Form, Cause::SGhReuse)),
        _ if has_equal_ids(presented, configured) => Some(Finding::sibling(Cause::SGhRename, "name")),
        // Two parts that differ make it another thing altogether.
        _ if presented.context != configured.context => None,
        (true, false) => Some(Finding::sibling(Cause::SGhRepo, "repository")),
        (false, true) => Some(Finding::sibling(Cause::SGhOwner, "owner")),
        (false, false) => None,
    }
}

/// GitHub's names have no case, but subjects do.
fn same(presented: Named<'_>, configured: Named<'_>) -> bool {
    presented.name.eq_ignore_ascii_case(configured.name)
}

/// What somebody meant who wrote the address of a repository, or left `repo:` out.
fn repaired(configured: &str) -> String {
    let text = configured.strip_prefix("repo:").unwrap_or(configured);
    let address =
        ["https://github.com/", "http://github.com/", "git@github.com:", "git@github.com/", "github.com/"];
    let text = address.iter().find_map(|front| text.strip_prefix(front)).unwrap_or(text);
    match text.split_once(':') {
        Some((repository, context)) => {
            format!("repo:{}:{context}", repository.strip_suffix(".git").unwrap_or(repository))
        }
        None => format!("repo:{}", text.strip_suffix(".git").unwrap_or(text)),
    }
}

/// The names are the same: what about the ids?
fn identified(presented: Subject<'_>, configured: Subject<'_>) -> Option<Finding> {
    match (presented.is_immutable(), configured.is_immutable()) {
        (true, false) => Some(Finding::of(Class::Form, Cause::SGhImmut)),
        (false, true) => Some(Finding::of(Class::Form, Cause::SGhClassic)),
        (true, true) if !has_equal_ids(presented, configured) => {
            Some(Finding::sibling(Cause::SGhIdDiff, "id"))
        }
        _ => None,
    }
}

fn has_equal_ids(presented: Subject<'_>, configured: Subject<'_>) -> bool {
    presented.is_immutable()
        && presented.owner.id == configured.owner.id
        && presented.repository.id == configured.repository.id
}

/// Whether the configured repository is the one whose workflow the job uses.
fn is_reused(pair: &Pair<'_>, configured: Subject<'_>) -> bool {
    let mut path = pair.said.workflow.as_deref().unwrap_or_default().split('/');
    path.next().is_some_and(|owner| owner.eq_ignore_ascii_case(configured.owner.name))
        && path.next().is_some_and(|name| name.eq_ignore_ascii_case(configured.repository.name))
}

/// The repository is the same: what differs behind it?
fn contexts(presented: Context<'_>, configured: Context<'_>) -> Option<Finding> {
    if presented == configured {
        return None;
    }
    let written =
        if let Context::Other(written) = configured { miswritten(presented, written) } else { None };
    if written.is_some() {
        return written;
    }
    let part = presented.part();
    let sibling = |cause| Some(Finding::sibling(cause, part));
    match (presented, configured) {
        (Context::Other(_), _) | (_, Context::Other(_)) => sibling(Cause::SGhCustom),
        (Context::Environment(_), Context::Environment(_)) => sibling(Cause::SGhEnvName),
        (Context::Environment(_), _) => sibling(Cause::SGhEnv),
        (_, Context::Environment(_)) => sibling(Cause::SGhNoEnv),
        (Context::PullRequest, _) => sibling(Cause::SGhPr),
        (_, Context::PullRequest) => sibling(Cause::SGhNoPr),
        (Context::Branch(name), _) if name.starts_with("gh-readonly-queue/") => sibling(Cause::SGhMq),
        (Context::Branch(_), Context::Tag(_)) | (Context::Tag(_), Context::Branch(_)) => {
            sibling(Cause::SGhRefKind)
        }
        (Context::Branch(_), Context::Branch(_)) | (Context::Tag(_), Context::Tag(_)) => {
            sibling(Cause::SGhBranch)
        }
    }
}

/// What is configured is no context, but nearly one.
fn miswritten(presented: Context<'_>, written: &str) -> Option<Finding> {
    if is_template(written) {
        return None;
    }
    // What is right but for its form differs in nothing else.
    let form = |is_meant: bool, cause| {
        let part = presented.part();
        Some(if is_meant { Finding::of(Class::Form, cause) } else { Finding::sibling(cause, part) })
    };
    let bare: String = written.to_ascii_lowercase().chars().filter(char::is_ascii_alphabetic).collect();
    if matches!(bare.as_str(), "pullrequest" | "pullrequests") {
        return form(presented == Context::PullRequest, Cause::SGhPrTypo);
    }
    let name = written.strip_prefix("environment").filter(|name| name.starts_with(['/', '=', '-', '_']));
    if let Some(name) = name {
        return form(presented == Context::Environment(&name[1..]), Cause::SGhEnvSep);
    }
    let name = written.strip_prefix("ref:").unwrap_or(written);
    let kinds = ["refs/heads/", "refs/head/", "heads/", "refs/tags/", "refs/tag/", "tags/", "refs/"];
    let short = kinds.iter().find_map(|kind| name.strip_prefix(kind));
    if short.is_none() && name == written {
        return None;
    }
    let short = short.unwrap_or(name);
    form(matches!(presented, Context::Branch(name) | Context::Tag(name) if name == short), Cause::SGhRefShort)
}
