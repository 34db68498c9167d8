//! Names a directory by its content, so that replicas can be compared: the same records give the same digest,
//! whatever their files, order and comments.

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

use super::credential::Identity;
use super::ids::Guid;
use super::policy::IssuerPolicy;
use super::tenant::Tenant;

/// SHA-256, in hex, over the sorted canonical lines of all records, tenants and issuer policies.
pub(super) fn of<'a>(
    tenants: impl Iterator<Item = &'a Tenant>,
    policies: impl Iterator<Item = &'a IssuerPolicy>,
) -> String {
    let mut lines: Vec<String> = tenants.flat_map(tenant_lines).collect();
    for policy in policies {
        lines.push(policy_line(policy));
        lines.extend(policy.jti_once.then(|| line(("issuer_jti_once", &policy.issuer))));
    }
    lines.sort_unstable();
    let mut content = Context::new(&SHA256);
    for (at, line) in lines.iter().enumerate() {
        content.update(if at == 0 { b"" } else { b"\n" });
        content.update(line.as_bytes());
    }
    hex(content.finish().as_ref())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from(b"0123456789abcdef"[usize::from(four & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn tenant_lines(tenant: &Tenant) -> Vec<String> {
    let id = tenant.id;
    let mut lines = vec![line(("tenant", id, &tenant.domain, &tenant.issuer_v1, &tenant.issuer_v2))];
    lines.extend(tenant.identities().map(|identity| identity_line(id, identity)));
    lines.extend(tenant.identities().flat_map(|identity| limit_lines(id, identity)));
    lines.extend(tenant.resources().iter().map(|r| {
        line((
            "resource",
            id,
            &r.name,
            r.client_id,
            &r.identifier_uris,
            r.scope.canonical(),
            format!("{:?}", r.token_version),
            r.signing_algorithm.name(),
            r.token_lifetime,
            r.assignment_required,
        ))
    }));
    lines.extend(
        tenant
            .assignments()
            .map(|a| line(("role_assignment", id, a.principal_id, &a.role, a.scope.canonical()))),
    );
    lines
}

fn identity_line(tenant: Guid, identity: &Identity) -> String {
    // The order of credentials decides which of two that fit is named in the record, so it is part of the content.
    let credentials: Vec<_> = identity
        .credentials
        .iter()
        .map(|c| (&c.name, &c.issuer, &c.subject, &c.audience, c.state.name()))
        .collect();
    line((
        "identity",
        tenant,
        &identity.name,
        identity.client_id,
        identity.principal_id,
        &identity.resource_id,
        identity.kind.name(),
        identity.enabled,
        &identity.location,
        &identity.tags,
        credentials,
    ))
}

/// What few credentials have makes lines of its own, so that all other directories keep their digests.
fn limit_lines(tenant: Guid, identity: &Identity) -> impl Iterator<Item = String> {
    let limited = identity.credentials.iter().filter(|c| c.jti_once || c.max_token_lifetime.is_some());
    limited.map(move |c| {
        let longest = c.max_token_lifetime.map(|longest| longest.as_secs());
        line(("credential_limits", tenant, identity.client_id, &c.name, c.jti_once, longest))
    })
}

fn policy_line(policy: &IssuerPolicy) -> String {
    let algorithms: Vec<_> = policy.algorithms.iter().map(|algorithm| algorithm.name()).collect();
    line((
        "issuer",
        &policy.issuer,
        policy.enabled,
        algorithms,
        policy.leeway.as_secs(),
        policy.max_token_lifetime.as_secs(),
        policy.require_kid,
        policy.multiple_audiences,
    ))
}

/// A JSON array, written without a tree in between: there may be many and long ones.
fn line(fields: impl Serialize) -> String {
    // Texts, numbers and flags can always be written.
    serde_json::to_string(&fields).unwrap_or_default()
}
