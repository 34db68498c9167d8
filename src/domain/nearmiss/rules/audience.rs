//! Audiences: those that platforms put in when nobody asks for one, and misspellings of the one that was meant.

use super::super::class::{percent_decoded, spelling};
use super::super::{Cause, Class, Finding, Pair, Said};

/// Compares what was presented with an audience that may not match, nearest first.
pub(in super::super) fn compare(pair: &Pair<'_>) -> Finding {
    let (audiences, configured) = (&pair.said.audiences, &pair.credential.audience);
    // Equal, and refused all the same: several may not match.
    if audiences.contains(configured) {
        return Finding::of(Class::Form, Cause::ASeveral);
    }
    let each = audiences.iter().map(|presented| one(presented, configured, pair.said));
    let nearest = each.min_by_key(|found| (found.class, found.cause.is_none()));
    match nearest.unwrap_or(Finding::DIFFERENT) {
        found if found.class == Class::Different && audiences.len() > 1 => {
            Finding { cause: Some(Cause::AMulti), ..Finding::DIFFERENT }
        }
        found => found,
    }
}

fn one(presented: &str, configured: &str, said: &Said) -> Finding {
    if presented.to_ascii_lowercase().contains("%3a%2f%2f") && percent_decoded(presented) == configured {
        return Finding::of(Class::PercentEncoding, Cause::AEncoded);
    }
    if let Some(class) = spelling(presented, configured) {
        let cause = match class {
            Class::Case => Cause::ACase,
            Class::Lookalike => Cause::ALookalike,
            Class::PercentEncoding => Cause::AEncoded,
            _ => Cause::ATypo,
        };
        return Finding::of(class, cause);
    }
    let api = |longer: &str, shorter: &str| longer.strip_prefix("api://") == Some(shorter);
    if api(configured, presented) || api(presented, configured) {
        return Finding::of(Class::Form, Cause::ATypo);
    }
    if is_cloud(presented) && is_cloud(configured) {
        return Finding::sibling(Cause::ACloud, "cloud");
    }
    Finding { cause: standard(presented, said), ..Finding::DIFFERENT }
}

/// Whether it is the audience of token exchange in one of Azure's clouds.
fn is_cloud(audience: &str) -> bool {
    let cloud = audience.strip_prefix("api://AzureADTokenExchange");
    cloud.is_some_and(|cloud| matches!(cloud, "" | "China" | "USGov" | "USNat" | "USSec" | "Germany"))
}

/// Which platform puts this audience in by itself.
fn standard(presented: &str, said: &Said) -> Option<Cause> {
    let issuer = said.issuer.trim_end_matches('/');
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| presented.starts_with(prefix));
    let is_issuer = presented.trim_end_matches('/') == issuer && !issuer.is_empty();
    if presented.starts_with("api://AKSIdentityBinding") {
        return Some(Cause::AAksBind);
    }
    if presented == "sts.amazonaws.com" {
        return Some(Cause::ADefaultIrsa);
    }
    let server = issuer.strip_suffix("/_services/token").is_some_and(|host| presented.starts_with(host));
    if presented.starts_with("https://github.com/") || server {
        return Some(Cause::ADefaultGh);
    }
    let of_pod = said.subject.starts_with("system:serviceaccount:");
    if presented.starts_with("https://kubernetes.default.svc") || (is_issuer && of_pod) {
        return Some(Cause::ADefaultK8s);
    }
    let others =
        ["https://buildkite.com/", "https://fly.io/", "https://vercel.com/", "ari:cloud:bitbucket::"];
    let circle = issuer.strip_prefix("https://oidc.circleci.com/org/") == Some(presented);
    (is_issuer || circle || begins(&others)).then_some(Cause::ADefaultOther)
}
