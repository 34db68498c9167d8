//! Names a directory by its content, so that replicas can be compared: the same records give the same digest,
//! whatever their files, order and comments.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::policy::IssuerPolicy;
use super::tenant::Tenant;

/// SHA-256, in hex, over the sorted canonical lines of all records, tenants and issuer policies.
pub(super) fn of<'a>(
    tenants: impl Iterator<Item = &'a Tenant>,
    policies: impl Iterator<Item = &'a IssuerPolicy>,
) -> String {
    let mut lines: Vec<String> = tenants.flat_map(tenant_lines).collect();
    lines.extend(policies.map(policy_line));
    lines.sort_unstable();
    hex(digest(&SHA256, lines.join("\n").as_bytes()).as_ref())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn tenant_lines(tenant: &Tenant) -> Vec<String> {
    let id = tenant.id.to_string();
    let mut lines =
        vec![json!(["tenant", id, tenant.domain, *tenant.issuer_v1, *tenant.issuer_v2]).to_string()];
    for identity in tenant.identities() {
        // The order of credentials decides which of two that fit is named in the record, so it is part of the content.
        let credentials: Vec<_> = identity
            .credentials
            .iter()
            .map(|c| json!([c.name, *c.issuer, c.subject, c.audience, format!("{:?}", c.state)]))
            .collect();
        lines.push(
            json!([
                "identity",
                id,
                identity.name,
                identity.client_id,
                identity.principal_id,
                identity.resource_id.as_deref(),
                identity.kind.name(),
                identity.enabled,
                identity.location,
                identity.tags,
                credentials,
            ])
            .to_string(),
        );
    }
    lines.extend(tenant.resources().iter().map(|r| {
        json!([
            "resource",
            id,
            r.name,
            r.client_id,
            r.identifier_uris,
            r.scope.canonical(),
            format!("{:?}", r.token_version),
            r.signing_algorithm.name(),
            r.token_lifetime,
            r.assignment_required,
        ])
        .to_string()
    }));
    lines.extend(
        tenant.assignments().map(|a| {
            json!(["role_assignment", id, a.principal_id, *a.role, a.scope.canonical()]).to_string()
        }),
    );
    lines
}

fn policy_line(policy: &IssuerPolicy) -> String {
    let algorithms: Vec<_> = policy.algorithms.iter().map(|algorithm| algorithm.name()).collect();
    json!([
        "issuer",
        *policy.issuer,
        policy.enabled,
        algorithms,
        policy.leeway.as_secs(),
        policy.max_token_lifetime.as_secs(),
        policy.require_kid,
        policy.multiple_audiences,
    ])
    .to_string()
}
