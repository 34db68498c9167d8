//! Which records are in one directory and not in another, or differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::domain::credential::{Credential, CredentialState, Identity};
use crate::domain::directory::Directory;
use crate::domain::resource::{Resource, TokenVersion};
use crate::domain::tenant::Tenant;

/// One record: its fields by the names that files have for them.
pub(super) type Fields = Map<String, Value>;

/// By what a record is known in both: tenant, kind, and ids.
type Key = (String, &'static str, String);

/// A record that is not in both, or not the same.
pub(super) struct Difference {
    pub(super) tenant: String,
    pub(super) kind: &'static str,
    /// For people.
    pub(super) name: String,
    pub(super) before: Option<Fields>,
    pub(super) after: Option<Fields>,
}

impl Difference {
    pub(super) fn change(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        }
    }

    /// Every field that differs, with both values; those of an added or removed record are on one side only.
    pub(super) fn fields<'a>(&'a self) -> Vec<(&'a String, Option<&'a Value>, Option<&'a Value>)> {
        let names = self.before.iter().chain(&self.after).flat_map(Map::keys).collect::<BTreeSet<_>>();
        let value = |side: Option<&'a Fields>, name: &str| side.and_then(|fields| fields.get(name));
        let both = names
            .into_iter()
            .map(|name| (name, value(self.before.as_ref(), name), value(self.after.as_ref(), name)));
        both.filter(|(_, before, after)| before != after).collect()
    }
}

/// All differences, by tenant, kind and id.
pub(super) fn differences(before: &Directory, after: &Directory) -> Vec<Difference> {
    let (mut before, after) = (records(before), records(after));
    let mut found = BTreeMap::new();
    for (key, (name, fields)) in after {
        let was = before.remove(&key);
        if was.as_ref().is_none_or(|(_, before)| *before != fields) {
            found.insert(key, (name, was.map(|(_, fields)| fields), Some(fields)));
        }
    }
    let removed = before.into_iter().map(|(key, (name, fields))| (key, (name, Some(fields), None)));
    found.extend(removed);
    let difference =
        |((tenant, kind, _), (name, before, after))| Difference { tenant, kind, name, before, after };
    found.into_iter().map(difference).collect()
}

fn records(directory: &Directory) -> BTreeMap<Key, (String, Fields)> {
    let mut found = BTreeMap::new();
    for tenant in directory.tenants() {
        let shown = shown(tenant);
        let mut add = |kind, id: String, name: String, fields: Value| {
            let Value::Object(mut fields) = fields else { return };
            // What a file would leave out is left out here.
            fields.retain(|_, value| !value.is_null());
            found.insert((shown.clone(), kind, id), (name, fields));
        };
        let names: BTreeMap<_, _> =
            tenant.identities().map(|one| (one.principal_id, one.name.as_str())).collect();
        for identity in tenant.identities() {
            let client = identity.client_id.to_string();
            for credential in &identity.credentials {
                let name = format!("{}/{}", identity.name, credential.name);
                add(
                    "federated_credential",
                    format!("{client}/{}", credential.name),
                    name,
                    of_credential(credential),
                );
            }
            add("identity", client, identity.name.clone(), of_identity(identity));
        }
        for resource in tenant.resources() {
            add("resource", resource.client_id.to_string(), resource.name.clone(), of_resource(resource));
        }
        for assignment in tenant.assignments() {
            let (principal, scope) = (assignment.principal_id, assignment.scope.canonical());
            let scope = format!("/{scope}");
            let id = format!("{principal} {} {scope}", assignment.role);
            let holder =
                names.get(&principal).map_or_else(|| principal.to_string(), |name| (*name).to_owned());
            let name = format!("{holder} {} {scope}", assignment.role);
            let fields =
                json!({ "principal_id": principal.to_string(), "role": &*assignment.role, "scope": scope });
            add("role_assignment", id, name, fields);
        }
    }
    found
}

/// A tenant for people: its domain, if it has one.
pub(super) fn shown(tenant: &Tenant) -> String {
    tenant.domain.clone().unwrap_or_else(|| tenant.id.to_string())
}

fn of_identity(identity: &Identity) -> Value {
    json!({
        "name": identity.name,
        "kind": identity.kind.name(),
        "client_id": identity.client_id.to_string(),
        "principal_id": identity.principal_id.to_string(),
        "resource_id": identity.resource_id.as_deref(),
        "location": identity.location,
        "enabled": identity.enabled,
        "tags": identity.tags,
    })
}

fn of_credential(credential: &Credential) -> Value {
    json!({
        "issuer": &*credential.issuer,
        "subject": credential.subject,
        "audiences": [credential.audience],
        "enabled": credential.state != CredentialState::Disabled,
        "mode": mode(credential.state),
        "jti_once": credential.jti_once,
        "max_token_lifetime": credential.max_token_lifetime.map(|longest| humantime::format_duration(longest).to_string()),
    })
}

/// As written; of a credential that does not count nobody knows.
fn mode(state: CredentialState) -> Option<&'static str> {
    match state {
        CredentialState::Enabled => Some("enforce"),
        CredentialState::Observed => Some("observe"),
        CredentialState::Disabled | CredentialState::IssuerDisabled => None,
    }
}

fn of_resource(resource: &Resource) -> Value {
    json!({
        "name": resource.name,
        "client_id": resource.client_id.to_string(),
        "identifier_uris": resource.identifier_uris,
        "scope": format!("/{}", resource.scope.canonical()),
        "token_version": match resource.token_version { TokenVersion::V1 => 1, TokenVersion::V2 => 2 },
        "signing_algorithm": resource.signing_algorithm.name(),
        "token_lifetime": humantime::format_duration(std::time::Duration::from_secs(resource.token_lifetime.into())).to_string(),
        "assignment_required": resource.assignment_required,
    })
}
