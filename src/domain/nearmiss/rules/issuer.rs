//! Issuers: addresses of platforms, in the forms that they have and have had.

use super::super::class::{spelling, without_scheme};
use super::{Cause, Class, Finding, Pair, Rule, first};

const RULES: [Rule; 10] = [
    document_address,
    wrong_token,
    local_cluster,
    github,
    azure_devops,
    entra,
    clusters,
    vercel,
    gitlab,
    spire,
];

/// Compares two issuers that are not equal.
pub(in super::super) fn compare(pair: &Pair<'_>) -> Finding {
    let (presented, configured) = texts(pair);
    if let Some(class) = spelling(presented, configured) {
        let cause = match class {
            Class::Whitespace => Cause::IWs,
            Class::Slash if configured.len() > presented.len() => Cause::ISlashExtra,
            Class::Slash => Cause::ISlashMissing,
            Class::Case => Cause::ICase,
            Class::PercentEncoding => Cause::IPct,
            Class::Scheme => Cause::IScheme,
            _ => Cause::ILookalike,
        };
        return Finding::of(class, cause);
    }
    first(&RULES, pair)
}

fn texts<'a>(pair: &Pair<'a>) -> (&'a str, &'a str) {
    (&pair.said.issuer, &pair.credential.issuer)
}

/// Another form of the same.
fn form(holds: bool, cause: Cause) -> Option<Finding> {
    holds.then_some(Finding::of(Class::Form, cause))
}

/// Not alike, but known from what is presented alone.
fn known(holds: bool, cause: Cause) -> Option<Finding> {
    holds.then_some(Finding { cause: Some(cause), ..Finding::DIFFERENT })
}

/// The host, and the segments of the path that are not empty.
fn parts(issuer: &str) -> (&str, Vec<&str>) {
    let mut parts = without_scheme(issuer).split('/');
    (parts.next().unwrap_or_default(), parts.filter(|segment| !segment.is_empty()).collect())
}

fn document_address(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let documents = [
        "/.well-known/openid-configuration",
        "/.well-known/jwks",
        "/.well-known/jwks.json",
        "/oauth/discovery/keys",
        "/openid/v1/jwks",
        "/jwks",
        "/keys",
    ];
    let issuer = documents.iter().find_map(|document| configured.strip_suffix(document))?;
    form(issuer.trim_end_matches('/') == presented.trim_end_matches('/'), Cause::IWellKnown)
}

/// What GitHub's runner uses among its own services.
fn wrong_token(pair: &Pair<'_>) -> Option<Finding> {
    let (host, _) = parts(&pair.said.issuer);
    let internal = host.ends_with(".actions.githubusercontent.com") && !host.starts_with("token.");
    known(internal, Cause::TWrongToken)
}

fn local_cluster(pair: &Pair<'_>) -> Option<Finding> {
    let (host, _) = parts(&pair.said.issuer);
    let local = host.starts_with("kubernetes.default.svc") || pair.said.issuer == "kubernetes/serviceaccount";
    known(local, Cause::IK8sLocal)
}

/// Which of GitHub's products an issuer belongs to, and the slug behind it.
fn github(pair: &Pair<'_>) -> Option<Finding> {
    fn product(issuer: &str) -> Option<(&str, Vec<&str>)> {
        let (host, path) = parts(issuer);
        let hosted = host == "token.actions.githubusercontent.com"
            || (host.starts_with("token.actions.") && host.ends_with(".ghe.com"));
        (hosted || path == ["_services", "token"]).then_some((host, path))
    }
    let (presented, configured) = texts(pair);
    let (presented, configured) = (product(presented)?, product(configured)?);
    if presented.0 != configured.0 {
        return Some(Finding::sibling(Cause::IGhGhes, "product"));
    }
    Some(match (presented.1.is_empty(), configured.1.is_empty()) {
        (false, false) => Finding::sibling(Cause::IGhSlug, "enterprise"),
        _ => Finding::of(Class::Form, Cause::IGhSlug),
    })
}

fn azure_devops(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let hosts = [parts(presented).0, parts(configured).0];
    if hosts.contains(&"app.vstoken.visualstudio.com") {
        return known(true, Cause::IAdoOld);
    }
    form(
        hosts.contains(&"vstoken.dev.azure.com") && hosts.contains(&"login.microsoftonline.com"),
        Cause::IAdoNew,
    )
}

/// The two issuers of an Entra tenant.
fn entra(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let (presented, configured) = (parts(presented), parts(configured));
    let hosts = [presented.0, configured.0];
    let both = hosts.contains(&"sts.windows.net") && hosts.contains(&"login.microsoftonline.com");
    form(both && presented.1.first() == configured.1.first(), Cause::IV1V2)
}

/// Managed clusters: AKS by region, tenant and id, EKS by region and id, GKE by project, location and name.
fn clusters(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let (presented, configured) = (parts(presented), parts(configured));
    let rebuilt = Some(Finding::sibling(Cause::IClusterNew, "cluster"));
    let same_host = presented.0 == configured.0;
    let (is_aks, is_old) =
        (|host: &str| host.ends_with(".prod-aks.azure.com"), |host: &str| host == "oidc.prod-aks.azure.com");
    if is_aks(presented.0) && is_aks(configured.0) {
        if is_old(presented.0) != is_old(configured.0) {
            return form(true, Cause::IAksOld);
        }
        return rebuilt.filter(|_| same_host && presented.1.first() == configured.1.first());
    }
    if presented.0.starts_with("oidc.eks.") {
        return rebuilt.filter(|_| same_host);
    }
    let gke = |path: &[&str]| match *path {
        ["v1", "projects", project, "locations", location, "clusters", name] => {
            Some([project, location, name].map(str::to_owned))
        }
        _ => None,
    };
    let (p, c) = (gke(&presented.1)?, gke(&configured.1)?);
    match (p[0] == c[0], p[1] == c[1], p[2] == c[2]) {
        (true, false, true) => Some(Finding::sibling(Cause::IGkeLoc, "location")),
        (true, true, false) => Some(Finding { class: Class::Sibling, cause: None, part: Some("cluster") }),
        (false, true, true) => Some(Finding { class: Class::Sibling, cause: None, part: Some("project") }),
        _ => None,
    }
}

fn vercel(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let (presented, configured) = (parts(presented), parts(configured));
    let both = presented.0 == "oidc.vercel.com" && configured.0 == presented.0;
    form(both && presented.1.is_empty() != configured.1.is_empty(), Cause::IVercel)
}

/// Instances of GitLab are known by their name or by what their subjects look like.
fn gitlab(pair: &Pair<'_>) -> Option<Finding> {
    let (presented, configured) = texts(pair);
    let is_gitlab = |issuer: &str, subject: &str| {
        parts(issuer).0.split('.').any(|label| label == "gitlab") || subject.starts_with("project_path:")
    };
    let both = is_gitlab(presented, &pair.said.subject) && is_gitlab(configured, &pair.credential.subject);
    both.then_some(Finding::sibling(Cause::IGitlabHost, "host"))
}

/// The same workload by an issuer that calls itself something else.
fn spire(pair: &Pair<'_>) -> Option<Finding> {
    let same = pair.said.subject.starts_with("spiffe://") && pair.said.subject == pair.credential.subject;
    same.then_some(Finding::sibling(Cause::ISpire, "host"))
}
