//! The immutable snapshot of all tenants and issuer policies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::credential::{Credential, CredentialState, Identity};
use super::ids::Guid;
use super::past::Past;
use super::policy::IssuerPolicy;
use super::refusal::Refusal;
use super::rules::is_domain;
use super::tenant::Tenant;

/// All tenants, and what is demanded of every issuer that a credential names.
#[derive(Debug, Default)]
pub struct Directory {
    tenants: HashMap<Guid, Tenant>,
    domains: HashMap<String, Guid>,
    own_issuers: HashSet<Arc<str>>,
    policies: HashMap<Arc<str>, IssuerPolicy>,
    digest: String,
    past: Past,
}

/// How many records of each kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each counts the records that it names")]
pub struct Inventory {
    pub tenants: usize,
    pub identities: usize,
    pub credentials: usize,
    pub resources: usize,
    pub role_assignments: usize,
    /// Credentials in observe mode, which are among the credentials.
    pub observed: usize,
    /// Of one identity.
    pub most_credentials: usize,
}

impl Directory {
    /// Counts the records.
    pub fn inventory(&self) -> Inventory {
        let mut found = Inventory { tenants: self.tenants.len(), ..Inventory::default() };
        for tenant in self.tenants() {
            for identity in tenant.identities() {
                found.identities += 1;
                found.credentials += identity.credentials.len();
                let states = identity.credentials.iter().map(|credential| credential.state);
                found.observed += states.filter(|state| *state == CredentialState::Observed).count();
                found.most_credentials = found.most_credentials.max(identity.credentials.len());
            }
            found.resources += tenant.resources().len();
            found.role_assignments += tenant.assignments().count();
        }
        found
    }

    /// Puts a snapshot together from tenants of different ids and domains.
    pub fn new(tenants: Vec<Tenant>, policies: Vec<IssuerPolicy>) -> Self {
        let mut directory = Self {
            domains: tenants.iter().filter_map(|t| Some((t.domain.clone()?, t.id))).collect(),
            own_issuers: tenants.iter().flat_map(|t| [t.issuer_v1.clone(), t.issuer_v2.clone()]).collect(),
            tenants: tenants.into_iter().map(|tenant| (tenant.id, tenant)).collect(),
            policies: policies.into_iter().map(|policy| (policy.issuer.clone(), policy)).collect(),
            digest: String::new(),
            past: Past::default(),
        };
        directory.digest = super::digest::of(directory.tenants(), directory.policies());
        directory
    }

    /// Takes the place of another snapshot now, and remembers what of that one's credentials is gone. Nothing is decided
    /// by that, and the digest does not tell it.
    pub fn succeeding(mut self, before: &Self, now: i64) -> Self {
        let mut past = before.past.clone();
        past.forget(now);
        for tenant in before.tenants() {
            let Some(successor) = self.tenants.get(&tenant.id) else { continue };
            for identity in tenant.identities() {
                let kept = successor.client(identity.client_id);
                // Unchanged files share their identities with the snapshot before.
                if let Some(kept) = kept.filter(|kept| !std::ptr::eq(*kept, identity)) {
                    past.note(tenant.id, identity, kept, now);
                }
            }
        }
        self.past = past;
        self
    }

    /// Makes what only looking into refusals needs, which takes a while where there are many credentials. Without it, the
    /// first refusal does, and whoever looks into that one waits.
    pub fn prepare(&self) {
        self.tenants().for_each(Tenant::prepare);
    }

    /// Whether that is made.
    pub fn is_prepared(&self) -> bool {
        self.tenants().all(Tenant::is_prepared)
    }

    /// What was in the records until lately.
    pub(super) fn past(&self) -> &Past {
        &self.past
    }

    /// Names this snapshot by its content.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Looks a tenant up as a path names it: by GUID or domain, without regard to case.
    pub fn tenant(&self, name: &str) -> Result<&Tenant, Refusal> {
        if ["common", "organizations", "consumers"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
            return Err(Refusal::TenantAbsent);
        }
        let id = match Guid::parse(name) {
            Some(id) if id.is_nil() => return Err(Refusal::TenantNil),
            Some(id) => Some(id),
            None if is_domain(name) => self.domains.get(&name.to_ascii_lowercase()).copied(),
            None => return Err(Refusal::TenantForm(name.to_owned())),
        };
        id.and_then(|id| self.tenants.get(&id)).ok_or_else(|| Refusal::TenantUnknown(name.to_owned()))
    }

    /// The policy of an issuer that an enabled credential of this identity names; the identity comes by the name that it
    /// was asked for. Everything that could cause an
    /// outbound request comes after this.
    pub fn trusted(
        &self,
        (identity, name): (&Identity, &str),
        issuer: &str,
    ) -> Result<&IssuerPolicy, Refusal> {
        if self.own_issuers.contains(issuer) {
            return Err(Refusal::OwnIssuer(issuer.to_owned()));
        }
        let credentials = &identity.credentials;
        let mut enabled = credentials.iter().filter(|c| c.state == CredentialState::Enabled);
        if enabled.clone().next().is_none() {
            return Err(Refusal::NoCredential(name.to_owned()));
        }
        let named = enabled.any(|credential| credential.names_issuer(issuer));
        self.policies
            .get(issuer)
            .filter(|policy| named && policy.enabled)
            .ok_or_else(|| Refusal::IssuerUnnamed(issuer.to_owned()))
    }

    /// The policy of an issuer that a credential of this identity in observe mode names. Its keys may be fetched, too: without
    /// them nobody could say what the credential would do. It is good for nothing that grants.
    pub fn observable(&self, identity: &Identity, issuer: &str) -> Option<&IssuerPolicy> {
        let observes = |credential: &Credential| {
            credential.state == CredentialState::Observed && *credential.issuer == *issuer
        };
        let named = !self.own_issuers.contains(issuer) && identity.credentials.iter().any(observes);
        self.policies.get(issuer).filter(|policy| named && policy.enabled)
    }

    /// All tenants, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// The issuers that may be asked for keys: those that an enabled credential of an enabled identity names, in observe mode
    /// or not.
    pub fn named_issuers(&self) -> HashSet<&str> {
        let identities = self.tenants().flat_map(Tenant::identities).filter(|identity| identity.enabled);
        let credentials = identities.flat_map(|identity| &identity.credentials);
        let asks = [CredentialState::Enabled, CredentialState::Observed];
        let asking = credentials.filter(|credential| asks.contains(&credential.state));
        asking.map(|credential| &*credential.issuer).collect()
    }

    /// The policy of an issuer, whoever names it.
    pub fn policy(&self, issuer: &str) -> Option<&IssuerPolicy> {
        self.policies.get(issuer)
    }

    /// The policies of all issuers that credentials name or that have an entry, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &IssuerPolicy> {
        self.policies.values()
    }
}
