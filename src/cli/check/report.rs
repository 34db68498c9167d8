//! `ficus check --report`: what is sound and may still be worth a look, by identity and record.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::super::output::plain;
use super::count;
use super::records::shown;
use super::uses::{self, Told, Uses};
use crate::domain::credential::{Credential, CredentialState, Identity};
use crate::domain::directory::Directory;
use crate::domain::ids::Guid;
use crate::domain::rules::MAX_CREDENTIALS;
use crate::domain::tenant::{Assignment, Tenant};

/// From so many credentials on, an identity is near its limit.
const MANY: usize = 15;
/// Tags that tell whom to ask.
const TAGS: [&str; 2] = ["owner", "workload"];

/// The kind of findings that needs the audit log.
const UNUSED: &str = "unused_credentials";

/// The kinds of findings, with what each means.
const SECTIONS: [(&str, &str); 13] = [
    ("near_limit", "identities near the limit of 20 credentials"),
    ("duplicate_credentials", "one token fits several identities: issuer, subject and audience are equal"),
    ("wide_role_assignments", "roles above any single resource of the tenant"),
    ("without_tags", "identities without the tag owner or workload"),
    ("unknown_principals", "role assignments of principals that no identity has"),
    ("without_roles", "identities that have no role"),
    ("without_credentials", "identities without a credential that counts"),
    ("unassigned_resources", "resources that no identity has a role at, and that demand one"),
    ("unnamed_issuers", "[[issuer]] entries that no credential that counts names"),
    (UNUSED, "credentials that count and that no grant of the audit log names"),
    ("observed_credentials", "credentials in observe mode, which grant nothing"),
    ("disabled_credentials", "credentials that are switched off, or whose issuer is"),
    ("disabled_identities", "identities that are switched off"),
];

/// A tenant that is looked through.
struct Scope<'d> {
    tenant: &'d Tenant,
    name: String,
    /// Principals that have a role somewhere.
    holders: HashSet<Guid>,
}

/// What was found, by kind.
pub(super) struct Report<'d> {
    found: BTreeMap<&'static str, Vec<Finding>>,
    uses: Told<'d>,
}

/// One line: whose record it is, which one, and what of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    tenant: String,
    name: String,
    what: String,
}

impl<'d> Report<'d> {
    /// Looks through all records.
    pub(super) fn of(directory: &Directory, uses: Told<'d>) -> Self {
        let mut report = Self { found: BTreeMap::new(), uses };
        for tenant in directory.tenants() {
            let holders = tenant.assignments().map(|assignment| assignment.principal_id).collect();
            let scope = Scope { tenant, name: shown(tenant), holders };
            tenant.identities().for_each(|identity| report.identity(&scope, identity));
            report.duplicates(&scope);
            report.assignments(&scope);
            report.resources(&scope);
        }
        let named = directory.named_issuers();
        for policy in directory.policies().filter(|policy| !named.contains(&*policy.issuer)) {
            let what = if policy.enabled { "" } else { "disabled" };
            report.add("unnamed_issuers", String::new(), &policy.issuer, what.to_owned());
        }
        report.found.values_mut().for_each(|found| found.sort_unstable());
        report
    }

    fn add(&mut self, kind: &'static str, tenant: String, name: &str, what: String) {
        self.found.entry(kind).or_default().push(Finding { tenant, name: name.to_owned(), what });
    }

    fn identity(&mut self, scope: &Scope<'_>, identity: &Identity) {
        let count = identity.credentials.len();
        let mut found = Vec::new();
        if count >= MANY {
            found.push(("near_limit", identity.name.clone(), format!("{count} of {MAX_CREDENTIALS}")));
        }
        let missing: Vec<_> =
            TAGS.into_iter().filter(|tag| identity.tags.get(*tag).is_none_or(String::is_empty)).collect();
        if !missing.is_empty() {
            found.push(("without_tags", identity.name.clone(), missing.join(", ")));
        }
        if !identity.enabled {
            found.push(("disabled_identities", identity.name.clone(), String::new()));
        }
        let counts = |credential: &Credential| credential.state == CredentialState::Enabled;
        if !identity.credentials.iter().any(counts) {
            found.push((
                "without_credentials",
                identity.name.clone(),
                match count {
                    0 => String::new(),
                    _ => format!("none of {count} counts"),
                },
            ));
        }
        if !scope.holders.contains(&identity.principal_id) {
            found.push(("without_roles", identity.name.clone(), String::new()));
        }
        for credential in &identity.credentials {
            let name = format!("{}/{}", identity.name, credential.name);
            let of = |uses: &Uses<'_>| uses.of(scope.tenant.id, identity.principal_id, &credential.name);
            let uses = self.uses.as_ref().ok();
            match credential.state {
                CredentialState::Enabled => {
                    let unused = identity.enabled && uses.is_some_and(|uses| of(uses).grants == 0);
                    found.extend(unused.then_some((UNUSED, name, String::new())));
                }
                CredentialState::Observed => {
                    let matched = uses.map(|uses| uses.matched(of(uses).matches));
                    found.push(("observed_credentials", name, matched.unwrap_or_default()));
                }
                CredentialState::Disabled => found.push(("disabled_credentials", name, String::new())),
                CredentialState::IssuerDisabled => {
                    found.push(("disabled_credentials", name, "its issuer".to_owned()));
                }
            }
        }
        found.into_iter().for_each(|(kind, name, what)| self.add(kind, scope.name.clone(), &name, what));
    }

    /// Credentials that one token fits, of different identities; those that are switched off don't count.
    fn duplicates(&mut self, scope: &Scope<'_>) {
        let mut found: HashMap<_, Vec<String>> = HashMap::new();
        for identity in scope.tenant.identities() {
            for one in identity.credentials.iter().filter(|one| one.state != CredentialState::Disabled) {
                let key = (&*one.issuer, one.subject.as_str(), one.audience.as_str());
                found.entry(key).or_default().push(format!("{}/{}", identity.name, one.name));
            }
        }
        for ((issuer, subject, audience), mut names) in found {
            if names.len() > 1 {
                names.sort_unstable();
                let what = format!("{issuer} {subject} {audience}");
                self.add("duplicate_credentials", scope.name.clone(), &names.join(", "), what);
            }
        }
    }

    /// Roles that reach further than one resource, and those of nobody.
    fn assignments(&mut self, scope: &Scope<'_>) {
        let names: HashMap<_, _> =
            scope.tenant.identities().map(|one| (one.principal_id, one.name.as_str())).collect();
        let resources = scope.tenant.resources();
        for assignment in scope.tenant.assignments() {
            let Assignment { principal_id, role, scope: at } = assignment;
            let what = format!("{role} at /{}", at.canonical());
            let Some(name) = names.get(principal_id) else {
                self.add("unknown_principals", scope.name.clone(), &principal_id.to_string(), what);
                continue;
            };
            let covered = resources.iter().filter(|resource| at.covers(&resource.scope)).count();
            if covered > 1 || is_container(at.canonical()) {
                let what = format!("{what}, over {}", count(covered, "resource"));
                self.add("wide_role_assignments", scope.name.clone(), name, what);
            }
        }
    }

    fn resources(&mut self, scope: &Scope<'_>) {
        let principals: BTreeSet<_> = scope.tenant.identities().map(|one| one.principal_id).collect();
        let known = |one: &&Assignment| principals.contains(&one.principal_id);
        let given: Vec<_> = scope.tenant.assignments().filter(known).collect();
        for resource in scope.tenant.resources().iter().filter(|resource| resource.assignment_required) {
            if !given.iter().any(|assignment| assignment.scope.covers(&resource.scope)) {
                self.add("unassigned_resources", scope.name.clone(), &resource.name, String::new());
            }
        }
    }
}

/// Whether a scope is a subscription, a resource group, a management group, or everything.
fn is_container(scope: &str) -> bool {
    let segments: Vec<_> = scope.split('/').collect();
    matches!(
        segments[..],
        [""] | ["subscriptions", _]
            | ["subscriptions", _, "resourcegroups", _]
            | ["providers", "microsoft.management", "managementgroups", _]
    )
}

impl Report<'_> {
    fn of_kind(&self, kind: &str) -> &[Finding] {
        self.found.get(kind).map(Vec::as_slice).unwrap_or_default()
    }

    /// A table for each kind of which there is something.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (kind, meaning) in SECTIONS {
            let rows: Vec<_> = self.of_kind(kind).iter().map(Finding::cells).collect();
            if rows.is_empty() {
                continue;
            }
            text.push_str(&format!("{} ({kind}, {}):\n", meaning, rows.len()));
            let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
            let (tenant, name) = (width(0), width(1));
            for row in &rows {
                let line = format!("  {:tenant$}  {:name$}  {}", row[0], row[1], row[2]);
                text.push_str(&format!("{}\n", line.trim_end()));
            }
        }
        let text = if text.is_empty() { "nothing to report\n".to_owned() } else { text };
        text + &uses::text(&self.uses)
    }

    /// Every kind, also those of which there is nothing; `null` is what can't be told.
    pub(super) fn json(&self) -> Value {
        let list = |kind| match kind == UNUSED && self.uses.is_err() {
            true => Value::Null,
            false => self.of_kind(kind).iter().map(Finding::json).collect(),
        };
        let kinds = SECTIONS.into_iter().map(|(kind, _)| (kind.to_owned(), list(kind)));
        let log = ("audit_log".to_owned(), uses::json(&self.uses));
        kinds.chain([log]).collect::<Map<_, _>>().into()
    }
}

impl Finding {
    /// An issuer belongs to no tenant.
    fn cells(&self) -> [String; 3] {
        let tenant = if self.tenant.is_empty() { "-" } else { &self.tenant };
        [tenant, &self.name, &self.what].map(plain)
    }

    fn json(&self) -> Value {
        json!({
            "tenant": (!self.tenant.is_empty()).then_some(&self.tenant),
            "name": self.name,
            "details": self.what,
        })
    }
}
