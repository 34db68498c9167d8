//! From a match to a grant: the resource, and the roles that the assignments give there.

use std::sync::Arc;

use super::credential::{Identity, IdentityKind};
use super::ids::Guid;
use super::matching::Match;
use super::refusal::Refusal;
use super::resource::{SigningAlgorithm, Target, TokenVersion};
use super::tenant::Tenant;

/// Every input of the mint except time and randomness. Comes only from [`authorize`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub(super) issuer: Arc<str>,
    pub(super) tenant: Guid,
    pub(super) client_id: Guid,
    pub(super) principal_id: Guid,
    pub(super) managed_identity: Option<Arc<str>>,
    pub(super) audience: Arc<str>,
    pub(super) roles: Vec<Arc<str>>,
    pub(super) version: TokenVersion,
    pub(super) algorithm: SigningAlgorithm,
    pub(super) lifetime: u32,
}

impl Grant {
    /// What the token is signed with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Version of the token.
    pub fn version(&self) -> TokenVersion {
        self.version
    }

    /// Seconds from now to `exp`.
    pub fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// The `roles` claim.
    pub fn roles(&self) -> &[Arc<str>] {
        &self.roles
    }

    /// `aud`.
    pub fn audience(&self) -> &str {
        &self.audience
    }
}

/// Holds the assertion against its credential's own limit, looks the resource up and decides what the identity gets there.
/// Only who has been matched may learn of that limit, or whether a resource exists.
pub fn authorize(matched: &Match<'_, '_>, target: &Target, tenant_as_asked: &str) -> Result<Grant, Refusal> {
    matched.credential().check_lifetime(matched.claims())?;
    decide((matched.tenant(), matched.identity()), target, tenant_as_asked)
}

/// The roles of the token that an identity would get. Nothing has been matched, so no grant comes of it.
pub fn suppose(
    of: (&Tenant, &Identity),
    target: &Target,
    tenant_as_asked: &str,
) -> Result<Vec<Arc<str>>, Refusal> {
    decide(of, target, tenant_as_asked).map(|grant| grant.roles)
}

fn decide(
    (tenant, identity): (&Tenant, &Identity),
    target: &Target,
    tenant_as_asked: &str,
) -> Result<Grant, Refusal> {
    let asked = target.audience();
    let resource = tenant.resource(target).ok_or_else(|| Refusal::ResourceUnknown {
        resource: asked.to_string(),
        tenant: tenant_as_asked.to_owned(),
    })?;
    let roles = tenant.roles(identity.principal_id, &resource.scope);
    if resource.assignment_required && roles.is_empty() {
        return Err(Refusal::NotAssigned { client: identity.client_id, resource: asked.to_string() });
    }
    let (issuer, audience) = match resource.token_version {
        TokenVersion::V1 => (tenant.issuer_v1.clone(), asked),
        TokenVersion::V2 => (tenant.issuer_v2.clone(), resource.client_id.to_string().into()),
    };
    Ok(Grant {
        issuer,
        tenant: tenant.id,
        client_id: identity.client_id,
        principal_id: identity.principal_id,
        managed_identity: identity
            .resource_id
            .clone()
            .filter(|_| identity.kind == IdentityKind::UserAssigned),
        audience,
        roles,
        version: resource.token_version,
        algorithm: resource.signing_algorithm,
        lifetime: resource.token_lifetime,
    })
}
