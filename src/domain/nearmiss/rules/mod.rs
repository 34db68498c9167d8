//! One rule for each known mistake. A rule looks at two texts that are not equal, and knows its own mistake only.

mod audience;
mod github;
mod gitlab;
mod issuer;
mod kubernetes;
mod others;

pub(super) use audience::compare as audience;
pub(super) use issuer::compare as issuer;

use super::class::spelling;
use super::{Cause, Class, Finding, Pair};

/// Knows one mistake, or those of one platform.
type Rule = fn(&Pair<'_>) -> Option<Finding>;

const SUBJECTS: [Rule; 5] =
    [mistaken, github::subject, gitlab::subject, kubernetes::subject, others::subject];

/// Compares two subjects that are not equal.
pub(super) fn subject(pair: &Pair<'_>) -> Finding {
    let (presented, configured) = (pair.said.subject.as_str(), pair.credential.subject.as_str());
    if let Some(class) = spelling(presented, configured) {
        let spiffe = presented.starts_with("spiffe://") && configured.starts_with("spiffe://");
        let cause = match class {
            Class::Case | Class::Slash if spiffe => Cause::SSpiffe,
            Class::Whitespace => Cause::SWs,
            Class::Slash => Cause::SSlash,
            Class::Case => Cause::SCase,
            Class::PercentEncoding => Cause::SPct,
            Class::Scheme => Cause::SScheme,
            _ => Cause::SLookalike,
        };
        return Finding::of(class, cause);
    }
    first(&SUBJECTS, pair)
}

/// What the first rule says that knows something.
fn first(rules: &[Rule], pair: &Pair<'_>) -> Finding {
    let long = |text: &str| text.len() > super::class::LONGEST;
    let credential = pair.credential;
    if [&*pair.said.subject, &pair.said.issuer, &credential.issuer, &credential.subject].into_iter().any(long)
    {
        return Finding::DIFFERENT;
    }
    rules.iter().find_map(|rule| rule(pair)).unwrap_or(Finding::DIFFERENT)
}

/// Mistakes that any platform's subject may have.
fn mistaken(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = (&pair.said.subject, &pair.credential.subject);
    if configured.contains('*') && covers(configured, presented) {
        let github = configured.starts_with("repo:");
        return Some(Finding::of(Class::Form, if github { Cause::SGhStar } else { Cause::SStar }));
    }
    configured
        .eq_ignore_ascii_case(pair.client)
        .then_some(Finding { cause: Some(Cause::SIsObj), ..Finding::DIFFERENT })
}

/// Whether a pattern with `*` would fit if there were wildcards.
fn covers(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|front| text.strip_prefix(front)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(back) = pieces.pop() else { return false };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_a_shell_would_say() {
        for (pattern, text, covered) in [
            ("repo:o/*", "repo:o/r:x", true),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axbyc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*:main", "repo:x:main", true),
            ("x*", "repo", false),
        ] {
            assert_eq!(covers(pattern, text), covered, "{pattern} {text}");
        }
    }
}
