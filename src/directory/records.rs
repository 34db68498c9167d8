//! Single records: from a TOML table to a domain value, with every broken rule noted at its key.

use std::time::Duration;

use super::issuers::Issuers;
use crate::document::Reader;
use crate::domain::credential::{Credential, CredentialState, Identity, IdentityKind};
use crate::domain::ids::Guid;
use crate::domain::resource::{Resource, SigningAlgorithm, TokenVersion};
use crate::domain::rules::{self, Broken, DEFAULT_AUDIENCE};
use crate::domain::scope::ScopePath;
use crate::domain::tenant::Assignment;

/// Notes a broken rule; `None` then.
fn kept<T>(reader: &Reader<'_>, key: &'static str, value: T, rule: Result<(), Broken>) -> Option<T> {
    match rule {
        Ok(()) => Some(value),
        Err(broken) => {
            reader.problem(key, broken.message, broken.hint);
            None
        }
    }
}

/// A required text that keeps a rule.
fn text(
    reader: &mut Reader<'_>,
    key: &'static str,
    rule: impl Fn(&str) -> Result<(), Broken>,
) -> Option<String> {
    let value: String = reader.need(key)?;
    let outcome = rule(&value);
    kept(reader, key, value, outcome)
}

/// Reads an identity without its credentials.
pub(super) fn identity(reader: &mut Reader<'_>) -> Option<Identity> {
    let name = text(reader, "name", |name| rules::name(name, 128));
    let kinds = [IdentityKind::UserAssigned, IdentityKind::Application].map(|kind| (kind.name(), kind));
    let kind = reader.need_one_of("kind", &kinds);
    let place = place(reader, kind == Some(IdentityKind::UserAssigned));
    let client_id = reader.need::<Guid>("client_id");
    let principal_id = reader.need::<Guid>("principal_id");
    let enabled = reader.get_or("enabled", true);
    let tags = reader.texts("tags");
    for (tag, value) in &tags {
        if tag.is_empty() || tag.chars().count() > 512 || value.chars().count() > 256 {
            reader.problem(
                "tags",
                format!("{tag:?}: a tag's name has 1 to 512 characters, its value at most 256"),
                "",
            );
        }
    }
    let (name, (resource_id, location)) = (name?, place?);
    Some(Identity {
        resource_id: resource_id.map(|group| {
            format!("{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}").into()
        }),
        name,
        client_id: client_id?,
        principal_id: principal_id?,
        kind: kind?,
        enabled,
        location,
        tags,
        credentials: Vec::new(),
    })
}

/// Subscription, resource group and location: all or none, and all for a user-assigned identity. Entra writes the
/// segment `resourcegroups` in lower case in `xms_mirid`.
fn place(reader: &mut Reader<'_>, required: bool) -> Option<(Option<String>, Option<String>)> {
    let subscription = reader.get::<Guid>("subscription");
    let group: Option<String> = reader.get("resource_group");
    let location: Option<String> = reader.get("location");
    let group = match group {
        Some(group) => {
            let rule = rules::resource_group(&group);
            Some(kept(reader, "resource_group", group, rule)?)
        }
        None => None,
    };
    match (subscription, group, location) {
        (Some(subscription), Some(group), Some(location)) => {
            Some((Some(format!("/subscriptions/{subscription}/resourcegroups/{group}")), Some(location)))
        }
        (None, None, None) if !required => Some((None, None)),
        _ => {
            let hint = "a user-assigned identity needs all three; an application has all or none";
            reader.problem("", "subscription, resource_group and location are not all there", hint);
            None
        }
    }
}

/// Reads a credential.
pub(super) fn credential(reader: &mut Reader<'_>, issuers: &mut Issuers) -> Option<Credential> {
    let name = text(reader, "name", |name| rules::name(name, 120));
    let issuer = issuers.read(reader);
    let subject = text(reader, "subject", rules::compared_text);
    if subject.as_deref().is_some_and(|subject| subject.contains('*')) {
        reader.warning("subject", "'*' is compared like any other character", "there are no wildcards");
    }
    let audience = audience(reader);
    let mode = [("enforce", CredentialState::Enabled), ("observe", CredentialState::Observed)];
    let mode = reader.one_of_or("mode", &mode, CredentialState::Enabled);
    let state = if reader.get_or("enabled", true) { mode } else { CredentialState::Disabled };
    let jti_once = reader.get_or("jti_once", false);
    let max_token_lifetime = max_token_lifetime(reader);
    let (name, issuer, subject, audience) = (name?, issuer?, subject?, audience?);
    Some(Credential { name, issuer, subject, audience, state, jti_once, max_token_lifetime })
}

/// Without the key there is the issuer's limit alone, which is no default of this one.
fn max_token_lifetime(reader: &mut Reader<'_>) -> Option<Duration> {
    let lifetime: Duration = reader.get("max_token_lifetime")?;
    let (shortest, longest) = (Duration::from_secs(60), Duration::from_secs(366 * 24 * 3600));
    if !(shortest..=longest).contains(&lifetime) {
        let shown = humantime::format_duration(lifetime);
        reader.problem("max_token_lifetime", format!("{shown} is out of range: expected 1m to 366days"), "");
    }
    Some(lifetime)
}

fn audience(reader: &mut Reader<'_>) -> Option<String> {
    let mut audiences: Vec<String> =
        reader.list("audiences").unwrap_or_else(|| vec![DEFAULT_AUDIENCE.to_owned()]);
    if audiences.len() != 1 {
        let message = format!("must have exactly one audience, has {}", audiences.len());
        reader.problem("audiences", message, "write a credential for each audience");
        return None;
    }
    let audience = audiences.remove(0);
    let rule = rules::compared_text(&audience);
    kept(reader, "audiences", audience, rule)
}

/// Reads a resource.
pub(super) fn resource(reader: &mut Reader<'_>) -> Option<Resource> {
    let name = text(reader, "name", |name| rules::name(name, 128));
    let client_id = reader.need::<Guid>("client_id");
    let identifier_uris: Vec<String> = reader.list("identifier_uris").unwrap_or_default();
    let mut whole = true;
    for uri in &identifier_uris {
        if let Err(broken) = rules::identifier_uri(uri) {
            reader.problem("identifier_uris", broken.message, broken.hint);
            whole = false;
        }
    }
    let scope = scope(reader);
    if scope.as_ref().is_some_and(|scope| scope.canonical().is_empty()) {
        reader.problem(
            "scope",
            "\"/\" is no resource's scope",
            "for example /subscriptions/{id}/resourceGroups/{name}",
        );
    }
    let token_version = match reader.get_or::<u64>("token_version", 1) {
        1 => Some(TokenVersion::V1),
        2 => Some(TokenVersion::V2),
        other => {
            reader.problem("token_version", format!("expected 1 or 2, found {other}"), "");
            None
        }
    };
    let algorithms = SigningAlgorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let signing_algorithm =
        reader.one_of("signing_algorithm", &algorithms).unwrap_or(SigningAlgorithm::Rs256);
    let hour = Duration::from_secs(3600);
    let lifetime = reader.bounded("token_lifetime", hour, Duration::from_secs(600)..=24 * hour, |lifetime| {
        humantime::format_duration(lifetime).to_string()
    });
    let assignment_required = reader.get_or("assignment_required", true);
    if !assignment_required {
        let hint = "say so only where the API checks roles or identities itself";
        reader.warning(
            "assignment_required",
            "every identity of the tenant gets tokens for this resource",
            hint,
        );
    }
    whole.then_some(())?;
    Some(Resource {
        name: name?,
        client_id: client_id?,
        identifier_uris,
        scope: scope?,
        token_version: token_version?,
        signing_algorithm,
        token_lifetime: u32::try_from(lifetime.as_secs()).ok()?,
        assignment_required,
    })
}

/// Reads a role assignment.
pub(super) fn assignment(reader: &mut Reader<'_>) -> Option<Assignment> {
    let principal_id = reader.need::<Guid>("principal_id");
    let role = text(reader, "role", rules::compared_text);
    let scope = scope(reader);
    Some(Assignment { principal_id: principal_id?, role: role?.into(), scope: scope? })
}

fn scope(reader: &mut Reader<'_>) -> Option<ScopePath> {
    let text: String = reader.need("scope")?;
    let scope = ScopePath::parse(&text);
    if scope.is_none() {
        let hint = "it begins with '/', has no empty segment and no '/' at its end";
        reader.problem("scope", format!("{text:?} is not an absolute path"), hint);
    }
    scope
}
