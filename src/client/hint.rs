//! Why a broker may have refused, told from the presented token alone: what is configured is for its operator to see.

use std::fmt::Write;

use crate::clock::UnixTime;
use crate::domain::assertion::Hearsay;

/// What Entra's documentation, and every sample, has for an audience.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";
/// Clocks that differ by less are not to blame: it is the leeway that brokers give.
const LEEWAY: UnixTime = 60;

const NO_ISSUER: u32 = 700_211;
const NO_CREDENTIAL: u32 = 70_025;
const NO_AUDIENCE: u32 = 700_212;
const NO_SUBJECT: u32 = 700_213;
const TIME: u32 = 700_024;
const LIFETIME: u32 = 70_023;
const KEY_UNKNOWN: u32 = 7_000_272;
const SIGNATURE: u32 = 700_027;
const USED: u32 = 50_013;

/// Our clock, and what the broker's showed.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Ours.
    pub here: UnixTime,
    /// Theirs, where they told.
    pub there: Option<UnixTime>,
}

/// What probably is the matter; `None` where the code says all there is to say.
pub fn hint(code: u32, said: &Hearsay, clocks: Clocks) -> Option<String> {
    match code {
        NO_ISSUER | NO_CREDENTIAL => issuer(said.issuer.as_deref()?).map(str::to_owned),
        NO_SUBJECT => subject(said.subject.as_deref()?),
        NO_AUDIENCE => audience(said),
        TIME => times(said, clocks),
        LIFETIME => lifetime(said),
        KEY_UNKNOWN => Some(
            "the issuer has begun to sign with a key that the broker can't find among those it publishes, also after \
             half a minute: is this token of the issuer that it names, and is the published key set up to date?"
                .to_owned(),
        ),
        SIGNATURE => Some("the token was changed or cut off on its way: is it whole, in one line?".to_owned()),
        USED => Some("this token was exchanged before: get a new one from the platform for each exchange".to_owned()),
        _ => None,
    }
}

/// What is odd about a token before any broker has seen it.
pub fn oddities(said: &Hearsay) -> Vec<String> {
    let issuer = said.issuer.as_deref().unwrap_or_default();
    let inner = issuer.starts_with("https://kubernetes.default") || issuer == "kubernetes/serviceaccount";
    let passing = said.subject.as_deref().is_some_and(|subject| subject.contains("gh-readonly-queue/"));
    let found = [
        inner.then(|| self::issuer(issuer).map(str::to_owned)).flatten(),
        said.subject.as_deref().filter(|_| passing).and_then(subject),
        said.audiences.iter().all(|audience| audience != AUDIENCE).then(|| audience(said)).flatten(),
    ];
    found.into_iter().flatten().collect()
}

fn issuer(issuer: &str) -> Option<&'static str> {
    let host = issuer.strip_prefix("https://").unwrap_or(issuer).split('/').next().unwrap_or_default();
    let path =
        issuer.strip_prefix("https://").and_then(|rest| rest.split_once('/')).map_or("", |(_, path)| path);
    Some(match host {
        _ if issuer.trim() != issuer => "the issuer in the token has white space around it",
        "token.actions.githubusercontent.com" if !path.is_empty() => {
            "this enterprise has an issuer of its own, with its slug behind the host: the credential needs just that"
        }
        "token.actions.githubusercontent.com" => {
            "GitHub's issuer has no slash at its end: a credential with one doesn't fit"
        }
        "app.vstoken.visualstudio.com" => {
            "that is the issuer of Azure DevOps' System.AccessToken: request an OIDC token for the service connection"
        }
        "sts.windows.net" | "login.microsoftonline.com" => {
            "the token was issued by Entra: present the platform's own token, not one that was exchanged for it"
        }
        "gitlab.com" => "GitLab's issuer is the URL of the instance, without a slash at its end",
        _ if host.ends_with("oic.prod-aks.azure.com") => {
            "an AKS cluster's issuer ends in a slash, and is another one after the cluster was made anew"
        }
        _ if host.starts_with("oidc.eks.") => {
            "an EKS cluster's issuer is another one after the cluster was made anew; its id is in upper case"
        }
        _ if host.starts_with("kubernetes.default") || issuer == "kubernetes/serviceaccount" => {
            "the cluster calls its issuer by a name that is known inside only: set --service-account-issuer to one that \
             the broker can reach, and make the pods anew"
        }
        _ if !issuer.starts_with("https://") => {
            "an issuer is a whole https URL; the removed CI_JOB_JWT of GitLab had none"
        }
        _ if issuer.ends_with('/') => "the issuer ends in a slash: so must the credential's",
        _ => return None,
    })
}

fn subject(subject: &str) -> Option<String> {
    if subject.starts_with("system:serviceaccount:") {
        return service_account(subject);
    }
    if subject.starts_with("project_path:") {
        return Some(
            "GitLab's subject has project, kind of ref and its short name, without refs/heads/; a pipeline for a merge \
             request runs on the source branch, of a fork in the fork's name"
                .to_owned(),
        );
    }
    if subject.starts_with("job_") && !subject.contains(':') {
        return Some("that is the subject of the removed CI_JOB_JWT: use `id_tokens:`".to_owned());
    }
    let customised = ["job_workflow_ref:", "repository_id:", "repository_owner_id:", "repository_owner:"];
    let mut hint = match subject {
        _ if customised.iter().any(|part| subject.contains(part)) => {
            "the organisation or repository has a template of its own for subjects: the credential follows that".to_owned()
        }
        _ if subject.contains("gh-readonly-queue/") => {
            "a merge queue's branch has another name each time: give the job an environment, and the credential that"
                .to_owned()
        }
        _ if subject.contains(":environment:") => {
            "the job names an environment, which stands in the subject in place of branch and event".to_owned()
        }
        _ if subject.ends_with(":pull_request") => {
            "a pull request's run has no branch in its subject: it needs a credential of its own, or better an identity"
                .to_owned()
        }
        _ if subject.contains(":ref:refs/tags/") => {
            "the run is of a tag; a credential for a branch doesn't fit, and one for every tag there is not".to_owned()
        }
        _ if subject.contains(":ref:refs/heads/") => {
            "the run is of this very branch, and the job names no environment (in a reusable workflow the called job \
             has to name it)"
                .to_owned()
        }
        _ => return None,
    };
    if has_ids(subject) {
        hint.push_str("; this repository's subjects hold the ids of owner and repository (@ and digits)");
    }
    if subject.contains("%3A") {
        hint.push_str("; a colon within a name is %3A there");
    }
    Some(hint)
}

/// `repo:OWNER@ID/REPOSITORY@ID:…`
fn has_ids(subject: &str) -> bool {
    let repository =
        subject.strip_prefix("repo:").and_then(|rest| rest.split(':').next()).unwrap_or_default();
    let id = |part: &str| {
        let id = part.rsplit_once('@').map_or("", |(_, id)| id);
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
    };
    repository.contains('/') && repository.split('/').all(id)
}

fn service_account(subject: &str) -> Option<String> {
    let (namespace, name) = subject.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let mut hint = format!("the pod runs as service account {name} of namespace {namespace}");
    if name == "default" {
        hint.push_str(", since it sets no serviceAccountName");
    }
    Some(super::plain(&hint))
}

fn audience(said: &Hearsay) -> Option<String> {
    let [audience] = said.audiences.as_slice() else {
        return Some(format!(
            "the token is for {} audiences at once: ask the platform for one with a single audience",
            said.audiences.len()
        ));
    };
    let issuer = said.issuer.as_deref().unwrap_or_default();
    let bare = |text: &str| text.trim().trim_end_matches('/').to_ascii_lowercase();
    let hint = match audience.as_str() {
        AUDIENCE => return None,
        text if text.to_ascii_uppercase().contains("%3A%2F%2F") => {
            "the audience was percent-encoded twice on its way to the platform"
        }
        text if text.starts_with("https://github.com/") => {
            "this is GitHub's default: no audience was asked for; append &audience= to the request URL"
        }
        "sts.amazonaws.com" => "this token is for AWS: mount a projected volume of its own for the broker",
        "api://AKSIdentityBinding" => {
            "this is the token of an AKS identity binding: mount a projected volume of its own for the broker"
        }
        text if text.starts_with("https://kubernetes.default") || text == issuer => {
            "this token is for the API server or the instance itself: a pod mounts a projected volume with an audience, a \
             GitLab job sets `aud:` in `id_tokens:`"
        }
        text if text.starts_with(AUDIENCE) => "the audience is one of another Azure cloud",
        text if bare(text) == bare(AUDIENCE) => {
            "the audience differs from the usual one by case, white space or a slash, and is compared byte for byte"
        }
        text if "api://".to_owned() + text == AUDIENCE => "the audience lacks api:// in front",
        _ => {
            "the platform was asked for this audience: it must be the credential's, which is mostly \
              api://AzureADTokenExchange"
        }
    };
    Some(hint.to_owned())
}

fn times(said: &Hearsay, clocks: Clocks) -> Option<String> {
    let now = clocks.there.unwrap_or(clocks.here);
    let mut hint = String::new();
    match (said.expires, said.issued_at) {
        (Some(expires), _) if expires <= now => {
            let ago = now - expires;
            let _ =
                write!(hint, "the token ended {ago} s ago: get it right before it is used, in the same step");
        }
        (_, Some(issued)) if issued > now => {
            let ahead = issued - now;
            let _ =
                write!(hint, "the token was issued {ahead} s in the future: the platform's clock is ahead");
        }
        _ => {}
    }
    if let Some(there) = clocks.there.filter(|there| (there - clocks.here).abs() > LEEWAY) {
        let (ahead, by) = (clocks.here > there, (there - clocks.here).abs());
        let separator = if hint.is_empty() { "" } else { "; " };
        let direction = if ahead { "ahead of" } else { "behind" };
        let _ = write!(hint, "{separator}this machine's clock is {by} s {direction} the broker's");
    }
    (!hint.is_empty()).then_some(hint)
}

fn lifetime(said: &Hearsay) -> Option<String> {
    let seconds = said.expires? - said.issued_at?;
    Some(format!(
        "the token lives {} h: ask for a shorter one (expirationSeconds of a projected volume, the job's timeout in \
         GitLab); a pod's default token may live a year",
        seconds / 3600
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_790_000_000;
    const CLOCKS: Clocks = Clocks { here: NOW, there: Some(NOW) };

    fn said(issuer: &str, subject: &str, audience: &str) -> Hearsay {
        Hearsay {
            issuer: Some(issuer.to_owned()),
            subject: Some(subject.to_owned()),
            audiences: vec![audience.to_owned()],
            issued_at: Some(NOW - 10),
            expires: Some(NOW + 300),
            ..Hearsay::default()
        }
    }

    #[test]
    fn issuers_are_known_by_their_names() {
        for (issuer, word) in [
            ("https://token.actions.githubusercontent.com", "no slash"),
            ("https://token.actions.githubusercontent.com/octo", "slug"),
            ("https://westeurope.oic.prod-aks.azure.com/t/u/", "ends in a slash"),
            ("https://oidc.eks.eu-west-1.amazonaws.com/id/AB", "upper case"),
            ("https://kubernetes.default.svc.cluster.local", "--service-account-issuer"),
            ("kubernetes/serviceaccount", "--service-account-issuer"),
            ("https://sts.windows.net/t/", "Entra"),
            ("https://app.vstoken.visualstudio.com", "System.AccessToken"),
            ("gitlab.example", "CI_JOB_JWT"),
            ("https://issuer.example/", "ends in a slash"),
            (" https://issuer.example", "white space"),
        ] {
            let hint = hint(NO_ISSUER, &said(issuer, "s", AUDIENCE), CLOCKS).unwrap_or_default();
            assert!(hint.contains(word), "{issuer}: {hint}");
        }
        assert_eq!(hint(NO_CREDENTIAL, &said("https://issuer.example", "s", AUDIENCE), CLOCKS), None);
    }

    #[test]
    fn subjects_are_read_by_the_platforms_grammar() {
        for (subject, words) in [
            ("repo:o/r:environment:p%3Aq", &["environment", "%3A"][..]),
            ("repo:o@1/r@22:ref:refs/heads/main", &["branch", "@ and digits"]),
            ("repo:o@1/r:ref:refs/heads/a@2", &["branch"]),
            ("repo:o/r:ref:refs/tags/v1", &["tag"]),
            ("repo:o/r:pull_request", &["pull request"]),
            ("repo:o/r:ref:refs/heads/gh-readonly-queue/main/pr-1", &["merge queue"]),
            ("repo:o/r:job_workflow_ref:o/r/.github/workflows/x.yml@refs/heads/main", &["template"]),
            ("project_path:g/p:ref_type:branch:ref:main", &["short name"]),
            ("job_7", &["id_tokens"]),
            ("system:serviceaccount:ns:default", &["namespace ns", "serviceAccountName"]),
            ("system:serviceaccount:ns:sa", &["service account sa of namespace ns"]),
        ] {
            let hint = hint(NO_SUBJECT, &said("https://i", subject, AUDIENCE), CLOCKS).unwrap_or_default();
            assert!(words.iter().all(|word| hint.contains(word)), "{subject}: {hint}");
            assert_eq!(hint.contains("@ and digits"), words.contains(&"@ and digits"), "{subject}");
        }
        assert_eq!(hint(NO_SUBJECT, &said("https://i", "spiffe://x/y", AUDIENCE), CLOCKS), None);
    }

    #[test]
    fn audiences_tell_whom_the_token_was_for() {
        for (audience, word) in [
            ("https://github.com/my--org", "&audience="),
            ("https://kubernetes.default.svc", "projected volume"),
            ("https://issuer.example", "API server"),
            ("sts.amazonaws.com", "AWS"),
            ("api://AKSIdentityBinding", "identity binding"),
            ("api%3A%2F%2FAzureADTokenExchange", "encoded twice"),
            ("api://AzureADTokenExchangeChina", "another Azure cloud"),
            ("api://azureadtokenexchange", "case"),
            ("AzureADTokenExchange", "lacks api://"),
            ("api://other", "must be the credential's"),
        ] {
            let hint = hint(NO_AUDIENCE, &said("https://issuer.example", "s", audience), CLOCKS);
            assert!(hint.as_ref().is_some_and(|hint| hint.contains(word)), "{audience}: {hint:?}");
        }
        let several =
            Hearsay { audiences: vec!["a".to_owned(), "b".to_owned()], ..said("https://i", "s", "a") };
        assert!(hint(NO_AUDIENCE, &several, CLOCKS).unwrap().contains("2 audiences"));
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_from_a_token_that_is_old() {
        let of = |said: &Hearsay, here, there| hint(TIME, said, Clocks { here, there });
        let token = said("https://i", "s", AUDIENCE);
        let old = of(&token, NOW + 400, Some(NOW + 400)).unwrap();
        assert_eq!(old, "the token ended 100 s ago: get it right before it is used, in the same step");
        let young = of(&token, NOW - 400, None).unwrap();
        assert!(young.contains("390 s in the future"), "{young}");
        assert!(of(&token, NOW + 90, Some(NOW)).unwrap().contains("90 s ahead of the broker's"));
        assert!(of(&token, NOW - 90, Some(NOW)).unwrap().contains("90 s behind the broker's"));
        assert_eq!(of(&token, NOW + 60, Some(NOW)), None);
    }

    #[test]
    fn what_is_odd_is_seen_before_a_broker_sees_it() {
        let count = |issuer, subject, audience| oddities(&said(issuer, subject, audience)).len();
        assert_eq!(
            count("https://token.actions.githubusercontent.com", "repo:o/r:environment:p", AUDIENCE),
            0
        );
        assert_eq!(count("https://kubernetes.default.svc", "s", "https://kubernetes.default.svc"), 2);
        assert_eq!(count("https://i", "repo:o/r:ref:refs/heads/gh-readonly-queue/main/pr-1", AUDIENCE), 1);
    }
}
