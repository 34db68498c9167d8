//! One fixture for each rule: what was presented, the credential that was meant, and the cause that must come out first.
//! Each goes through the checks of serving, but for the signature: what they refuse is what is explained.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

use super::super::assertion::{Compact, UnverifiedAssertion};
use super::super::credential::{Credential, CredentialState, Identity, IdentityKind};
use super::super::directory::Directory;
use super::super::ids::Guid;
use super::super::matching;
use super::super::policy::IssuerPolicy;
use super::super::refusal::{Reason, Refusal};
use super::super::tenant::Tenant;
use super::*;

const NOW: i64 = 1_790_000_000;
const CLIENT: &str = "aaaaaaaa-0001-4a00-8000-000000000001";
const PRINCIPAL: &str = "bbbbbbbb-0001-4a00-8000-000000000001";
const OTHER_CLIENT: &str = "aaaaaaaa-0002-4a00-8000-000000000002";
const OTHER_PRINCIPAL: &str = "bbbbbbbb-0002-4a00-8000-000000000002";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

const AUD: &str = "api://AzureADTokenExchange";
const GH: &str = "https://token.actions.githubusercontent.com";
const MAIN: &str = "repo:octo/app:ref:refs/heads/main";
const GL: &str = "https://gitlab.com";
const BRANCH: &str = "project_path:group/app:ref_type:branch:ref:main";
const AKS: &str = "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000/";
const EKS: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9";
const GKE: &str = "https://container.googleapis.com/v1/projects/acme/locations/europe-west4/clusters/main";
const K8S: &str = "https://oidc.k8s.example.com";
const POD: &str = "system:serviceaccount:shop:cart";
const TFC: &str = "https://app.terraform.io";
const ADO: &str = "https://vstoken.dev.azure.com/5d3b0000-0000-4000-8000-000000000000";
const CIRCLE: &str = "https://oidc.circleci.com/org/7a1e0000";
const SPIFFE: &str = "https://oidc.spire.example.org";

/// Cause, issuer, subject and audience as presented, and the three as configured.
type Row = (&'static str, [&'static str; 3], [&'static str; 3]);

const ISSUERS: [Row; 24] = [
    ("I-WS", ["https://gitlab.com\n", BRANCH, AUD], [GL, BRANCH, AUD]),
    ("I-SLASH-EXTRA", [GH, MAIN, AUD], ["https://token.actions.githubusercontent.com/", MAIN, AUD]),
    (
        "I-SLASH-MISSING",
        [AKS, POD, AUD],
        [
            "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000",
            POD,
            AUD,
        ],
    ),
    (
        "I-CASE",
        [EKS, POD, AUD],
        ["https://oidc.eks.eu-west-1.amazonaws.com/id/0a1b2c3d4e5f60718293a4b5c6d7e8f9", POD, AUD],
    ),
    ("I-PCT", ["https://k.example/a%20b", POD, AUD], ["https://k.example/a b", POD, AUD]),
    ("I-SCHEME", ["gitlab.com", BRANCH, AUD], [GL, BRANCH, AUD]),
    ("I-LOOKALIKE", ["https://gitl\u{430}b.com", BRANCH, AUD], [GL, BRANCH, AUD]),
    ("I-TYPO", ["https://ci.example.com/oidc", "job/a", AUD], ["https://ci.exmaple.com/oidc", "job/a", AUD]),
    (
        "I-WELLKNOWN",
        [K8S, POD, AUD],
        ["https://oidc.k8s.example.com/.well-known/openid-configuration", POD, AUD],
    ),
    ("I-GH-SLUG", ["https://token.actions.githubusercontent.com/acme", MAIN, AUD], [GH, MAIN, AUD]),
    ("I-GH-GHES", ["https://github.acme.example/_services/token", MAIN, AUD], [GH, MAIN, AUD]),
    ("I-GITLAB-HOST", ["https://git.acme.example", BRANCH, AUD], [GL, BRANCH, AUD]),
    ("I-K8S-LOCAL", ["https://kubernetes.default.svc.cluster.local", POD, AUD], [K8S, POD, AUD]),
    (
        "I-CLUSTER-NEW",
        [
            "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/77777777-7777-8888-9999-000000000000/",
            POD,
            AUD,
        ],
        [AKS, POD, AUD],
    ),
    (
        "I-CLUSTER-NEW",
        ["https://oidc.eks.eu-west-1.amazonaws.com/id/FFFF2C3D4E5F60718293A4B5C6D7E8F9", POD, AUD],
        [EKS, POD, AUD],
    ),
    (
        "I-AKS-OLD",
        [AKS, POD, AUD],
        ["https://oidc.prod-aks.azure.com/66666666-7777-8888-9999-000000000000/", POD, AUD],
    ),
    (
        "I-ADO-OLD",
        ["https://app.vstoken.visualstudio.com", "sc://acme/shop/prod", AUD],
        [ADO, "sc://acme/shop/prod", AUD],
    ),
    (
        "I-ADO-NEW",
        ["https://login.microsoftonline.com/1111/v2.0", "/eid1/c/pub/t/AAA/a/BBB/sc/1/2", AUD],
        [ADO, "sc://acme/shop/prod", AUD],
    ),
    (
        "I-V1V2",
        ["https://sts.windows.net/1111/", "oid", AUD],
        ["https://login.microsoftonline.com/1111/v2.0", "oid", AUD],
    ),
    (
        "I-VERCEL",
        ["https://oidc.vercel.com/acme", "owner:acme:project:web:environment:production", AUD],
        ["https://oidc.vercel.com", "owner:acme:project:web:environment:production", AUD],
    ),
    (
        "I-GKE-LOC",
        [GKE, POD, AUD],
        [
            "https://container.googleapis.com/v1/projects/acme/locations/europe-west4-a/clusters/main",
            POD,
            AUD,
        ],
    ),
    (
        "I-SPIRE",
        ["https://spire-7f9c.internal.example", "spiffe://example.org/ns/a/sa/b", AUD],
        [SPIFFE, "spiffe://example.org/ns/a/sa/b", AUD],
    ),
    ("I-OTHER", ["https://ci.example.net", "job/x", AUD], ["https://oidc.example.org/a/b", "job/x", AUD]),
    ("T-WRONGTOKEN", ["https://vstoken.actions.githubusercontent.com", MAIN, "a"], [GH, MAIN, AUD]),
];

const GITHUB: [Row; 33] = [
    ("S-GH-ENV", [GH, "repo:octo/app:environment:prod", AUD], [GH, MAIN, AUD]),
    ("S-GH-ENV", [GH, "repo:octo/app:environment:prod", AUD], [GH, "repo:octo/app:pull_request", AUD]),
    (
        "S-GH-ENV",
        [GH, "repo:octo@1/app@2:environment:prod", AUD],
        [GH, "repo:octo@1/app@2:ref:refs/heads/main", AUD],
    ),
    ("S-GH-NOENV", [GH, MAIN, AUD], [GH, "repo:octo/app:environment:prod", AUD]),
    (
        "S-GH-ENVNAME",
        [GH, "repo:octo/app:environment:production", AUD],
        [GH, "repo:octo/app:environment:prod", AUD],
    ),
    ("S-GH-PR", [GH, "repo:octo/app:pull_request", AUD], [GH, MAIN, AUD]),
    ("S-GH-NOPR", [GH, MAIN, AUD], [GH, "repo:octo/app:pull_request", AUD]),
    ("S-GH-PRTYPO", [GH, "repo:octo/app:pull_request", AUD], [GH, "repo:octo/app:pull-request", AUD]),
    ("S-GH-REFKIND", [GH, "repo:octo/app:ref:refs/tags/v1", AUD], [GH, MAIN, AUD]),
    ("S-GH-REFSHORT", [GH, MAIN, AUD], [GH, "repo:octo/app:ref:main", AUD]),
    ("S-GH-REFSHORT", [GH, MAIN, AUD], [GH, "repo:octo/app:ref:refs/head/main", AUD]),
    ("S-GH-REFSHORT", [GH, MAIN, AUD], [GH, "repo:octo/app:refs/heads/main", AUD]),
    ("S-GH-BRANCH", [GH, "repo:octo/app:ref:refs/heads/master", AUD], [GH, MAIN, AUD]),
    (
        "S-GH-BRANCH",
        [GH, "repo:octo@1/app@2:ref:refs/heads/a/b", AUD],
        [GH, "repo:octo@1/app@2:ref:refs/heads/a", AUD],
    ),
    ("S-GH-BRANCH", [GH, "repo:octo/app:ref:refs/tags/v2", AUD], [GH, "repo:octo/app:ref:refs/tags/v1", AUD]),
    ("S-GH-ENVSEP", [GH, "repo:octo/app:environment:prod", AUD], [GH, "repo:octo/app:environment/prod", AUD]),
    ("S-GH-URL", [GH, MAIN, AUD], [GH, "repo:https://github.com/octo/app:ref:refs/heads/main", AUD]),
    ("S-GH-URL", [GH, MAIN, AUD], [GH, "repo:git@github.com:octo/app.git:ref:refs/heads/main", AUD]),
    ("S-GH-URL", [GH, MAIN, AUD], [GH, "octo/app:ref:refs/heads/main", AUD]),
    ("S-GH-IMMUT", [GH, "repo:octo@12/app@34:ref:refs/heads/main", AUD], [GH, MAIN, AUD]),
    (
        "S-GH-IMMUT",
        [GH, "repo:octo@12/app@34:environment:prod", AUD],
        [GH, "repo:octo/app:environment:prod", AUD],
    ),
    ("S-GH-CLASSIC", [GH, MAIN, AUD], [GH, "repo:octo@12/app@34:ref:refs/heads/main", AUD]),
    (
        "S-GH-IDDIFF",
        [GH, "repo:octo@12/app@99:ref:refs/heads/main", AUD],
        [GH, "repo:octo@12/app@34:ref:refs/heads/main", AUD],
    ),
    (
        "S-GH-RENAME",
        [GH, "repo:octo@12/shop@34:ref:refs/heads/main", AUD],
        [GH, "repo:octo@12/app@34:ref:refs/heads/main", AUD],
    ),
    ("S-GH-REPO", [GH, "repo:octo/web:ref:refs/heads/main", AUD], [GH, MAIN, AUD]),
    ("S-GH-OWNER", [GH, "repo:mona/app:ref:refs/heads/main", AUD], [GH, MAIN, AUD]),
    ("S-GH-CUSTOM", [GH, "repository_owner_id:1:repository_id:2:ref:refs/heads/main", AUD], [GH, MAIN, AUD]),
    (
        "S-GH-CUSTOM",
        [
            GH,
            "repo:octo/app:environment:prod:job_workflow_ref:octo/w/.github/workflows/f.yml@refs/heads/main",
            AUD,
        ],
        [GH, "repo:octo/app:environment:prod", AUD],
    ),
    (
        "S-GH-CUSTOM",
        [GH, MAIN, AUD],
        [GH, "repo:octo/app:job_workflow_ref:octo/w/.github/workflows/f.yml@refs/heads/main", AUD],
    ),
    ("S-GH-REUSE", [GH, MAIN, AUD], [GH, "repo:octo/workflows:ref:refs/heads/main", AUD]),
    ("S-GH-MQ", [GH, "repo:octo/app:ref:refs/heads/gh-readonly-queue/main/pr-7-3f1c", AUD], [GH, MAIN, AUD]),
    ("S-GH-STAR", [GH, "repo:octo/app:ref:refs/heads/dev", AUD], [GH, "repo:octo/app:*", AUD]),
    (
        "S-PCT",
        [GH, "repo:octo/app:environment:Production%3AV1", AUD],
        [GH, "repo:octo/app:environment:Production:V1", AUD],
    ),
];

const SUBJECTS: [Row; 34] = [
    ("S-CASE", [GH, MAIN, AUD], [GH, "repo:Octo/App:ref:refs/heads/main", AUD]),
    ("S-CASE", [GL, BRANCH, AUD], [GL, "project_path:Group/app:ref_type:branch:ref:main", AUD]),
    ("S-WS", [GH, "repo:octo/app:ref:refs/heads/main ", AUD], [GH, MAIN, AUD]),
    ("S-SLASH", [K8S, "https://ci.example.com/job/a/", AUD], [K8S, "https://ci.example.com/job/a", AUD]),
    ("S-SCHEME", [K8S, "https://ci.example.com/job/a", AUD], [K8S, "ci.example.com/job/a", AUD]),
    ("S-LOOKALIKE", [GH, "repo:octo/app:ref:refs/heads/m\u{430}in", AUD], [GH, MAIN, AUD]),
    ("S-TYPO", [K8S, "https://ci.example.com/job/shop", AUD], [K8S, "https://ci.example.com/job/shpo", AUD]),
    ("S-STAR", [GL, BRANCH, AUD], [GL, "project_path:group/*", AUD]),
    ("S-ISOBJ", [GH, MAIN, AUD], [GH, CLIENT, AUD]),
    ("S-OTHER", [GH, "repo:mona/blog:ref:refs/heads/gh-pages", AUD], [GH, MAIN, AUD]),
    ("S-GL-REF", [GL, BRANCH, AUD], [GL, "project_path:group/app:ref_type:branch:ref:refs/heads/main", AUD]),
    ("S-GL-TYPE", [GL, "project_path:group/app:ref_type:tag:ref:main", AUD], [GL, BRANCH, AUD]),
    ("S-GL-BRANCH", [GL, "project_path:group/app:ref_type:branch:ref:feature/x", AUD], [GL, BRANCH, AUD]),
    ("S-GL-PATH", [GL, "project_path:group/sub/app:ref_type:branch:ref:main", AUD], [GL, BRANCH, AUD]),
    (
        "S-GL-PROT",
        [GL, "project_path:group/app:ref_type:branch:ref:main:ref_protected:true", AUD],
        [GL, BRANCH, AUD],
    ),
    ("S-GL-OLD", [GL, "job_4711", AUD], [GL, BRANCH, AUD]),
    ("S-K8S-NS", [AKS, "system:serviceaccount:stage:cart", AUD], [AKS, POD, AUD]),
    ("S-K8S-SA", [GKE, "system:serviceaccount:shop:till", AUD], [GKE, POD, AUD]),
    ("S-K8S-DEFAULT", [K8S, "system:serviceaccount:shop:default", AUD], [K8S, POD, AUD]),
    ("S-K8S-FMT", [AKS, POD, AUD], [AKS, "shop:cart", AUD]),
    ("S-K8S-FMT", [AKS, POD, AUD], [AKS, "serviceaccount:shop/cart", AUD]),
    (
        "S-GOOG-EMAIL",
        ["https://accounts.google.com", "104729384756102938475", AUD],
        ["https://accounts.google.com", "job@acme.iam.gserviceaccount.com", AUD],
    ),
    (
        "S-TFC-PHASE",
        [TFC, "organization:acme:project:Net:workspace:prod:run_phase:apply", AUD],
        [TFC, "organization:acme:project:Net:workspace:prod:run_phase:plan", AUD],
    ),
    (
        "S-TFC-PROJ",
        [TFC, "organization:acme:project:Default Project:workspace:prod:run_phase:apply", AUD],
        [TFC, "organization:acme:workspace:prod:run_phase:apply", AUD],
    ),
    ("S-ADO-NAME", [ADO, "sc://acme/Shop Front/prod", AUD], [ADO, "sc://acme/Shop/prod", AUD]),
    (
        "S-ADO-EID",
        [ADO, "/eid1/c/pub/t/AAA/a/BBB/sc/5d3b/11", AUD],
        [ADO, "/eid1/c/pub/t/AAA/a/BCB/sc/5d3b/11", AUD],
    ),
    (
        "S-VOLATILE",
        [
            "https://agent.buildkite.com",
            "organization:acme:pipeline:api:ref:refs/heads/main:commit:9f3e:step:b",
            AUD,
        ],
        ["https://agent.buildkite.com", "organization:acme:pipeline:api:ref:refs/heads/main", AUD],
    ),
    (
        "S-VOLATILE",
        [
            "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
            "{6e1d}:{f47a}",
            AUD,
        ],
        [
            "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
            "{6e1d}:{0000}",
            AUD,
        ],
    ),
    (
        "S-VOLATILE",
        ["https://oidc.fly.io/acme", "acme:web:3d8d9014b32d89", AUD],
        ["https://oidc.fly.io/acme", "acme:web:112233445566aa", AUD],
    ),
    (
        "S-CIRCLE-USER",
        [CIRCLE, "org/7a1e0000/project/51c2/user/9d0e", AUD],
        [CIRCLE, "org/7a1e0000/project/51c2/user/1111", AUD],
    ),
    (
        "S-CIRCLE-V2",
        [
            CIRCLE,
            "org/7a1e0000/project/51c2/user/9d0e/vcs-origin/github.com/o/r/vcs-ref/refs/heads/main",
            AUD,
        ],
        [CIRCLE, "org/7a1e0000/project/51c2/user/9d0e", AUD],
    ),
    (
        "S-SPIFFE",
        [SPIFFE, "spiffe://example.org/ns/Batch", AUD],
        [SPIFFE, "spiffe://example.org/ns/batch", AUD],
    ),
    (
        "S-SPIFFE",
        [SPIFFE, "spiffe://example.org/ns/batch", AUD],
        [SPIFFE, "spiffe://example.org/ns/batch/", AUD],
    ),
    (
        "S-PCT",
        [GL, "project_path:a%20b/app:ref_type:branch:ref:x", AUD],
        [GL, "project_path:a b/app:ref_type:branch:ref:x", AUD],
    ),
];

const AUDIENCES: [Row; 17] = [
    ("A-DEFAULT-GH", [GH, MAIN, "https://github.com/octo"], [GH, MAIN, AUD]),
    ("A-DEFAULT-K8S", [K8S, POD, "https://kubernetes.default.svc"], [K8S, POD, AUD]),
    ("A-DEFAULT-K8S", [GKE, POD, GKE], [GKE, POD, AUD]),
    ("A-DEFAULT-IRSA", [EKS, POD, "sts.amazonaws.com"], [EKS, POD, AUD]),
    ("A-DEFAULT-OTHER", [GL, BRANCH, GL], [GL, BRANCH, AUD]),
    (
        "A-DEFAULT-OTHER",
        ["https://agent.buildkite.com", "0184", "https://buildkite.com/acme"],
        ["https://agent.buildkite.com", "0184", AUD],
    ),
    ("A-TYPO", [GH, MAIN, "api://AzureADTokenCredential"], [GH, MAIN, "api://AzureADTokenCredentials"]),
    ("A-TYPO", [GH, MAIN, "api://AzureADTokenExchagne"], [GH, MAIN, AUD]),
    ("A-TYPO", [GH, MAIN, "AzureADTokenExchange"], [GH, MAIN, AUD]),
    ("A-TYPO", [GH, MAIN, "api://AzureADTokenExchange/"], [GH, MAIN, AUD]),
    ("A-CLOUD", [GH, MAIN, AUD], [GH, MAIN, "api://AzureADTokenExchangeUSGov"]),
    ("A-AKSBIND", [AKS, POD, "api://AKSIdentityBinding"], [AKS, POD, AUD]),
    ("A-CASE", [GH, MAIN, "api://AzureAdTokenExchange"], [GH, MAIN, AUD]),
    ("A-ENCODED", [GH, MAIN, "api%3A%2F%2FAzureADTokenExchange"], [GH, MAIN, AUD]),
    ("A-LOOKALIKE", [GH, MAIN, "api://AzureADT\u{43e}kenExchange"], [GH, MAIN, AUD]),
    ("A-OTHER", [GH, MAIN, "sigstore"], [GH, MAIN, AUD]),
    // Of two fields that differ, the cause is that of the one that is checked first.
    ("S-GH-BRANCH", [GH, "repo:octo/app:ref:refs/heads/dev", "https://github.com/octo"], [GH, MAIN, AUD]),
];

fn guid(text: &str) -> Guid {
    Guid::parse(text).unwrap()
}

fn credential(name: &str, [issuer, subject, audience]: [&str; 3]) -> Credential {
    Credential {
        name: name.to_owned(),
        issuer: issuer.into(),
        subject: subject.to_owned(),
        audience: audience.to_owned(),
        state: CredentialState::Enabled,
        jti_once: false,
        max_token_lifetime: None,
    }
}

fn identity(client: &str, principal: &str, credentials: Vec<Credential>) -> Identity {
    Identity {
        name: format!("id-{}", &client[..13]),
        client_id: guid(client),
        principal_id: guid(principal),
        resource_id: None,
        kind: IdentityKind::Application,
        enabled: true,
        location: None,
        tags: Default::default(),
        credentials,
    }
}

/// A directory of one tenant; the first identity is the one that is asked for.
fn directory(identities: Vec<Identity>) -> Directory {
    let mut tenant =
        Tenant::new(guid(TENANT), None, ("https://sts.one/v1".into(), "https://sts.one/v2".into()));
    let mut issuers = BTreeSet::new();
    for identity in identities {
        issuers.extend(identity.credentials.iter().map(|credential| credential.issuer.clone()));
        assert!(tenant.add_identity(Arc::new(identity)));
    }
    Directory::new(vec![tenant], issuers.into_iter().map(IssuerPolicy::standard).collect())
}

fn said([issuer, subject, audience]: [&str; 3]) -> Said {
    Said {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        audiences: vec![audience.to_owned()],
        // Of no account but for a job that uses the workflow of another repository.
        workflow: Some("octo/workflows/.github/workflows/deploy.yml@refs/heads/main".to_owned()),
        ..Said::default()
    }
}

/// What serving says, all checks but the signature's.
fn verdict(directory: &Directory, said: &Said) -> Result<(), Refusal> {
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let Said { issuer, subject, audiences, .. } = said;
    let claims = json!({ "iss": issuer, "sub": subject, "aud": audiences, "iat": NOW - 60, "exp": NOW + 60 });
    let token = format!("{}.{}.c2ln", encode(json!({ "alg": "RS256", "kid": "k" })), encode(claims));
    let identity = directory.tenant(TENANT)?.identity(CLIENT, TENANT)?;
    let assertion = UnverifiedAssertion::parse(Compact::new(&token, 1 << 20)?)?;
    let policy = directory.trusted((identity, CLIENT), assertion.unverified_issuer()?)?;
    let candidate = assertion.admit(policy)?;
    let claims = candidate.without_signature(NOW)?;
    matching::fitting(identity, &claims).map(|_| ())
}

fn case<'d, 'a>(directory: &'d Directory, said: &'a Said, reason: Reason) -> Case<'d, 'a> {
    let tenant = directory.tenant(TENANT).ok();
    let identity = tenant.and_then(|tenant| tenant.named(CLIENT));
    Case { directory, tenant, identity, client: CLIENT, said, reason, now: NOW }
}

/// Refuses as serving does, and explains.
fn explained<'d>(directory: &'d Directory, said: &Said) -> NearMiss<'d> {
    let refusal = verdict(directory, said).unwrap_err();
    investigate(&case(directory, said, refusal.reason())).unwrap()
}

/// The credential that was meant stands among others that are further off.
fn crowd(meant: [&str; 3]) -> Vec<Credential> {
    let [issuer, _, audience] = meant;
    vec![
        credential("far", ["https://elsewhere.example", "nothing", "api://elsewhere"]),
        credential("other-subject", [issuer, "of:another:kind", audience]),
        credential("meant", meant),
        credential("other-audience", ["https://elsewhere.example/2", "nothing/2", audience]),
    ]
}

fn rows() -> impl Iterator<Item = &'static Row> {
    ISSUERS.iter().chain(&GITHUB).chain(&SUBJECTS).chain(&AUDIENCES)
}

#[test]
fn every_rule_finds_its_mistake_and_ranks_the_credential_that_was_meant_first() {
    let mut wrong = Vec::new();
    for (id, presented, meant) in rows() {
        let (directory, said) =
            (directory(vec![identity(CLIENT, PRINCIPAL, crowd(*meant))]), said(*presented));
        let found = explained(&directory, &said);
        let nearest = &found.ranked[0];
        if (found.cause.id(), nearest.credential.name.as_str()) != (id, "meant") {
            wrong.push(format!("{id} {presented:?} {meant:?}: {} {nearest:#?}", found.cause.id()));
        }
        assert_eq!(found.ranked.len(), 4);
        // And once it takes over what was presented, the token is accepted.
        let cured = self::directory(vec![identity(CLIENT, PRINCIPAL, vec![credential("meant", *presented)])]);
        assert_eq!(verdict(&cured, &said), Ok(()), "{id}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_have_the_class_of_their_mistake() {
    let class = |cause: &str| {
        let (_, presented, meant) = rows().find(|(id, ..)| *id == cause).unwrap();
        let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd(*meant))]);
        let found = explained(&directory, &said(*presented));
        found.ranked[0].fields().map(|(_, finding)| finding.class.label()).join(" ")
    };
    for (cause, classes) in [
        ("I-WS", "WHITESPACE EQUAL EQUAL"),
        ("I-SLASH-MISSING", "SLASH EQUAL EQUAL"),
        ("I-SCHEME", "SCHEME EQUAL EQUAL"),
        ("I-GH-SLUG", "FORM EQUAL EQUAL"),
        ("I-CLUSTER-NEW", "SIBLING EQUAL EQUAL"),
        ("S-CASE", "EQUAL CASE EQUAL"),
        ("S-PCT", "EQUAL PERCENT-ENCODING EQUAL"),
        ("S-LOOKALIKE", "EQUAL LOOKALIKE EQUAL"),
        ("S-GH-IMMUT", "EQUAL FORM EQUAL"),
        ("S-GH-ENV", "EQUAL SIBLING EQUAL"),
        ("S-OTHER", "EQUAL DIFFERENT EQUAL"),
        ("A-CLOUD", "EQUAL EQUAL SIBLING"),
        ("A-DEFAULT-GH", "EQUAL EQUAL DIFFERENT"),
    ] {
        assert_eq!(class(cause), classes, "{cause}");
    }
}

#[test]
fn the_part_that_differs_has_a_name() {
    for (subject, configured, part) in [
        ("repo:octo/app:ref:refs/heads/dev", MAIN, "branch"),
        ("repo:octo/app:ref:refs/tags/v2", "repo:octo/app:ref:refs/tags/v1", "tag"),
        ("repo:octo/web:ref:refs/heads/main", MAIN, "repository"),
        ("repo:octo/app:environment:a", "repo:octo/app:environment:b", "environment"),
        ("system:serviceaccount:a:b", "system:serviceaccount:c:b", "namespace"),
        ("project_path:g/a:ref_type:tag:ref:x", "project_path:g/a:ref_type:branch:ref:x", "ref_type"),
    ] {
        let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd([GH, configured, AUD]))]);
        assert_eq!(explained(&directory, &said([GH, subject, AUD])).part, Some(part));
    }
}

#[test]
fn several_audiences_are_told_apart_from_none_that_fits() {
    let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd([GH, MAIN, AUD]))]);
    let with = |audiences: &[&str]| Said {
        audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
        ..said([GH, MAIN, AUD])
    };
    for (audiences, cause) in [
        (&["sigstore", "vault"][..], "A-MULTI"),
        (&["sigstore", AUD], "A-SEVERAL"),
        (&["sigstore", "api://azureadtokenexchange"], "A-CASE"),
    ] {
        let found = explained(&directory, &with(audiences));
        assert_eq!((found.cause.id(), found.ranked[0].credential.name.as_str()), (cause, "meant"));
    }
}

#[test]
fn what_the_reason_alone_tells() {
    let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd([GH, MAIN, AUD]))]);
    let honest = said([GH, MAIN, AUD]);
    let timed = |expires| Said { expires: Some(expires), ..honest.clone() };
    let mismatch = Said { other_document: true, ..honest.clone() };
    for (reason, said, cause) in [
        (Reason::Time, &timed(NOW), Some("T-EXPIRED")),
        (Reason::Time, &timed(NOW + 1), Some("T-FUTURE")),
        (Reason::Lifetime, &honest, Some("T-LONG")),
        (Reason::KeyUnknown, &honest, Some("T-KID")),
        (Reason::Signature, &honest, Some("T-SIG")),
        (Reason::AlgorithmRefused, &honest, Some("T-ALG")),
        (Reason::AssertionMalformed, &honest, Some("T-FORMAT")),
        (Reason::IssuerUnavailable, &honest, Some("I-UNREACH")),
        (Reason::IssuerUnavailable, &mismatch, Some("I-DOCMISMATCH")),
        (Reason::NotAssigned, &honest, None),
        (Reason::ClientUnknown, &said(["", "", ""]), None),
    ] {
        let found = investigate(&case(&directory, said, reason));
        assert_eq!(found.map(|found| found.cause.id()), cause, "{reason:?}");
    }
}

#[test]
fn nothing_is_said_where_nothing_can_be() {
    let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd([GH, MAIN, AUD]))]);
    let said = said([GH, "repo:octo/app:pull_request", AUD]);
    for reason in Reason::ALL {
        let found = investigate(&case(&directory, &said, reason));
        // Nobody else has that client id.
        assert_eq!(found.is_some(), explains(reason) && reason != Reason::ClientUnknown, "{reason:?}");
        assert_eq!(
            found.is_some_and(|found| !found.ranked.is_empty()),
            compares(reason) && reason != Reason::ClientUnknown
        );
    }
}

#[test]
fn who_has_no_credential_that_counts_is_told_so() {
    let token = said([GH, MAIN, AUD]);
    let off = |state| Credential { state, ..credential("meant", [GH, MAIN, AUD]) };
    let far = credential("far", [K8S, POD, AUD]);
    for (credentials, cause) in [
        (vec![], "T-NOFIC"),
        (vec![Credential { state: CredentialState::Disabled, ..far.clone() }], "T-NOFIC"),
        (vec![off(CredentialState::Disabled)], "C-OFF"),
        (vec![far.clone(), off(CredentialState::Disabled)], "C-OFF"),
        (vec![far.clone(), off(CredentialState::IssuerDisabled)], "C-OFF-ISSUER"),
        (vec![off(CredentialState::Observed)], "C-OBSERVED"),
        (vec![far, off(CredentialState::Observed)], "C-OBSERVED"),
    ] {
        let directory = directory(vec![identity(CLIENT, PRINCIPAL, credentials)]);
        assert_eq!(explained(&directory, &token).cause.id(), cause);
    }
    // One that counts is nearer than one that does not and differs as little.
    let mut crowd = crowd([GH, "repo:octo/app:ref:refs/heads/dev", AUD]);
    let disabled = credential("disabled", [GH, "repo:octo/app:ref:refs/heads/mai", AUD]);
    crowd.insert(0, Credential { state: CredentialState::Disabled, ..disabled });
    let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd)]);
    assert_eq!(explained(&directory, &token).ranked[0].credential.name, "meant");
}

#[test]
fn a_token_of_another_identity_is_told_from_a_near_miss() {
    let (token, other) = (said([GH, MAIN, AUD]), vec![credential("theirs", [GH, MAIN, AUD])]);
    let ours = identity(CLIENT, PRINCIPAL, crowd([GH, "repo:octo/app:ref:refs/heads/dev", AUD]));
    let with = |other: Identity| directory(vec![ours.clone(), other]);
    let fitting = identity(OTHER_CLIENT, OTHER_PRINCIPAL, other.clone());
    let directory = with(fitting.clone());
    let found = explained(&directory, &token);
    assert_eq!((found.cause, found.elsewhere), (Cause::TWrongClient, Some(&fitting)));
    assert_eq!(found.ranked[0].credential.name, "meant");
    // Neither an identity nor a credential that is off, nor one for another audience.
    let off = Credential { state: CredentialState::Disabled, ..other[0].clone() };
    let audience = credential("theirs", [GH, MAIN, "api://other"]);
    for other in [
        Identity { enabled: false, ..fitting.clone() },
        Identity { credentials: vec![off], ..fitting.clone() },
        Identity { credentials: vec![audience], ..fitting.clone() },
    ] {
        let directory = with(other);
        let found = explained(&directory, &token);
        assert_eq!((found.cause, found.elsewhere), (Cause::SGhBranch, None));
    }
    // The client id that was asked for is the object id of an identity, or of nobody while the token fits one.
    for (client, meant) in [(OTHER_PRINCIPAL, OTHER_CLIENT), (PRINCIPAL, CLIENT), ("unknown", OTHER_CLIENT)] {
        let case = Case { client, identity: None, ..case(&directory, &token, Reason::ClientUnknown) };
        let found = investigate(&case).unwrap();
        assert_eq!(found.cause, Cause::TWrongClient);
        assert_eq!(found.elsewhere.unwrap().client_id, guid(meant), "{client}");
    }
}

#[test]
fn a_credential_that_was_overwritten_is_told_from_a_near_miss() {
    let token = said([GH, MAIN, AUD]);
    let with = |credentials: Vec<Credential>| directory(vec![identity(CLIENT, PRINCIPAL, credentials)]);
    let dev = [GH, "repo:octo/app:ref:refs/heads/dev", AUD];
    let (good, overwritten) = (|| with(crowd([GH, MAIN, AUD])), || with(crowd(dev)));
    assert_eq!(verdict(&good(), &token), Ok(()));
    assert_eq!(explained(&overwritten(), &token).cause, Cause::SGhBranch);
    let now = overwritten().succeeding(&good(), NOW - 10);
    let found = explained(&now, &token);
    assert_eq!((found.cause, found.ranked[0].credential.name.as_str()), (Cause::TDup, "meant"));
    // Another token that never fitted is a near miss still, and who decides has not changed.
    let never = said([GH, "repo:octo/app:ref:refs/heads/de", AUD]);
    assert_eq!(explained(&now, &never).cause, Cause::SGhBranch);
    assert_eq!(now.digest(), overwritten().digest());
    // Over further changes, for a day; not once it is back or disabled.
    let later = |at| with(crowd([GH, "repo:octo/app:ref:refs/heads/x", AUD])).succeeding(&now, at);
    assert_eq!(explained(&later(NOW), &token).cause, Cause::TDup);
    assert_eq!(explained(&later(NOW + 2 * 24 * 3600), &token).cause, Cause::SGhBranch);
    assert_eq!(explained(&later(NOW - 100), &token).cause, Cause::SGhBranch, "the clock was set back");
    assert_eq!(verdict(&good().succeeding(&now, NOW), &token), Ok(()));
    let off = Credential { state: CredentialState::Disabled, ..credential("meant", [GH, MAIN, AUD]) };
    assert_eq!(explained(&with(vec![off]).succeeding(&now, NOW), &token).cause, Cause::COff);
    let theirs = identity(OTHER_CLIENT, OTHER_PRINCIPAL, vec![credential("theirs", [GH, MAIN, AUD])]);
    let moved = directory(vec![identity(CLIENT, PRINCIPAL, crowd(dev)), theirs]).succeeding(&now, NOW);
    let found = explained(&moved, &token);
    assert_eq!((found.cause, found.elsewhere.is_some()), (Cause::TDup, true), "who has it now is told, too");
    // One that never counted has not been lost.
    let off = Credential { state: CredentialState::Disabled, ..credential("meant", [GH, MAIN, AUD]) };
    let never_counted = overwritten().succeeding(&with(vec![off]), NOW);
    assert_eq!(explained(&never_counted, &token).cause, Cause::SGhBranch);
}

#[test]
fn of_what_is_gone_the_newest_thousand_are_known() {
    let numbered = |n: usize| credential("c", [GH, &format!("repo:octo/app:ref:refs/heads/{n}"), AUD]);
    let with = |n| directory(vec![identity(CLIENT, PRINCIPAL, vec![numbered(n)])]);
    let mut now = with(0);
    for n in 1..=1001 {
        now = with(n).succeeding(&now, NOW);
    }
    let cause =
        |n: usize| explained(&now, &said([GH, &format!("repo:octo/app:ref:refs/heads/{n}"), AUD])).cause;
    assert_eq!([0, 1, 1000].map(cause), [Cause::SGhBranch, Cause::TDup, Cause::TDup]);
}

/// All of the project's catalogue but T-PROPAG, a credential that is not live yet: what decides is one snapshot, in which
/// nothing of it can be seen. `ficus wait` tells it from outside.
#[test]
fn every_cause_has_a_fixture() {
    let elsewhere = "I-UNREACH I-DOCMISMATCH A-MULTI A-SEVERAL T-EXPIRED T-FUTURE T-LONG T-KID T-SIG T-ALG T-FORMAT \
                     T-NOFIC T-WRONGCLIENT T-DUP C-OFF C-OFF-ISSUER C-OBSERVED";
    let with: BTreeSet<_> = rows().map(|(id, ..)| *id).chain(elsewhere.split(' ')).collect();
    let all: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
    assert_eq!(with, all);
}

#[test]
fn the_nearest_of_many_is_found_however_they_are_ordered() {
    let branch = |name: &str| credential(name, [GH, &format!("repo:octo/app:ref:refs/heads/{name}"), AUD]);
    let mut credentials: Vec<_> = (0..17).map(|n| branch(&format!("release-{n}"))).collect();
    credentials.extend([branch("feature-login"), branch("feature-logout"), branch("main")]);
    let token = said([GH, "repo:octo/app:ref:refs/heads/feature-logoff", AUD]);
    for turn in 0..credentials.len() {
        credentials.rotate_left(turn);
        let directory = directory(vec![identity(CLIENT, PRINCIPAL, credentials.clone())]);
        assert_eq!(explained(&directory, &token).ranked[0].credential.name, "feature-logout");
    }
}

#[test]
fn texts_of_any_length_cost_little_and_are_not_looked_into() {
    let long = "repo:octo/app:ref:refs/heads/".to_owned() + &"x".repeat(100_000);
    let directory = directory(vec![identity(CLIENT, PRINCIPAL, crowd([GH, MAIN, AUD]))]);
    let found = explained(&directory, &said([GH, &long, AUD]));
    assert_eq!((found.cause, found.ranked[0].subject), (Cause::SOther, Finding::DIFFERENT));
}

/// Pieces of what subjects and issuers are made of, so that chance comes near to a rule.
fn anything() -> impl Strategy<Value = String> {
    let words = proptest::sample::select(vec![
        "repo:",
        "octo",
        "/",
        "app",
        "@",
        "1",
        ":",
        "ref:",
        "refs/heads/",
        "refs/tags/",
        "main",
        "environment:",
        "*",
        "pull_request",
        "project_path:",
        "ref_type:",
        "branch",
        "system:serviceaccount:",
        "https://",
        "%3A",
        "%",
        "é",
        "\u{430}",
        " ",
        "org/",
        "/user/",
        "sc://",
        "/eid1/",
        "{",
        "}",
        "spiffe://",
        ":commit:",
        "organization:",
        "run_phase:",
        "token.actions.",
        "githubusercontent.com",
        "job_workflow_ref:",
        "gserviceaccount.com",
        "api://",
        "AzureADTokenExchange",
        "locations/",
        "v1/projects/",
        "clusters/",
        "_services/token",
        ".prod-aks.azure.com",
    ]);
    prop_oneof![proptest::collection::vec(words, 0..8).prop_map(|words| words.concat()), any::<String>()]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_disagree_with_serving(
        presented in [anything(), anything(), anything()],
        configured in proptest::collection::vec(([anything(), anything(), anything()], 0..4_u8, any::<bool>()), 0..6),
    ) {
        let text = |texts: &[String; 3]| [texts[0].clone(), texts[1].clone(), texts[2].clone()];
        let credentials: Vec<Credential> = configured
            .iter()
            .enumerate()
            .map(|(number, (texts, state, same))| {
                let [issuer, subject, audience] = if *same { text(&presented) } else { text(texts) };
                let states = [
                    CredentialState::Enabled,
                    CredentialState::Observed,
                    CredentialState::Disabled,
                    CredentialState::IssuerDisabled,
                ];
                let state = states[*state as usize];
                Credential { state, ..credential(&format!("c{number}"), [&issuer, &subject, &audience]) }
            })
            .collect();
        let directory = directory(vec![identity(CLIENT, PRINCIPAL, credentials)]);
        let said = said([&presented[0], &presented[1], &presented[2]]);
        let before = verdict(&directory, &said);
        let reasons = [Reason::SubjectUnmatched, Reason::IssuerUnnamed, Reason::ClientUnknown, Reason::Time];
        for reason in reasons {
            let Some(found) = investigate(&case(&directory, &said, reason)) else { continue };
            for one in &found.ranked {
                prop_assert_eq!(one.issuer.class == Class::Equal, *one.credential.issuer == *said.issuer);
                prop_assert_eq!(one.subject.class == Class::Equal, one.credential.subject == said.subject);
                let audience = said.audiences.contains(&one.credential.audience);
                prop_assert_eq!(one.audience.class == Class::Equal, audience);
            }
            let nearest = found.ranked.first().is_some_and(|one| one.is_equal() && one.counts());
            let any = found.ranked.iter().any(|one| one.is_equal() && one.counts());
            prop_assert_eq!(nearest, any, "what matches is nearest");
        }
        prop_assert_eq!(verdict(&directory, &said), before);
    }
}
