//! A credential that would accept a token, as people write it down: TOML for the directory, az, Terraform.

use crate::domain::assertion::Hearsay;
use crate::domain::credential::{Credential, CredentialState, Identity, IdentityKind};
use crate::domain::nearmiss::{Class, Compared, Finding, NearMiss, Remedy};
use crate::domain::rules;

/// The credential, and the identity that it is for.
pub(super) struct Proposal<'a> {
    identity: &'a Identity,
    /// The credential that it takes the place of.
    pub(super) replaces: Option<&'a str>,
    pub(super) name: String,
    issuer: String,
    subject: String,
    audience: String,
}

impl<'a> Proposal<'a> {
    /// None where no record is the cure, or where one should not be written before somebody has looked.
    pub(super) fn new(near: &NearMiss<'a>, identity: &'a Identity, said: &Hearsay) -> Option<Self> {
        if near.cause.remedy() == Remedy::Look {
            return None;
        }
        let nearest = near.ranked.first();
        let remedy = |finding: Finding| finding.cause.map_or(Remedy::Add, |cause| cause.remedy());
        let unequal = |finding: &Finding| finding.class != Class::Equal;
        // Of the audience, a job's mistake is more likely than the record's.
        let is_mistake = |finding: Finding| finding.cause.is_none_or(|cause| cause.remedy() == Remedy::Look);
        let keeps_audience = nearest.filter(|one| unequal(&one.audience) && is_mistake(one.audience));
        let audience = match (keeps_audience, said.audiences.as_slice()) {
            (Some(nearest), _) => nearest.credential.audience.clone(),
            (None, [only]) => only.clone(),
            (None, _) => return None,
        };
        let record: Vec<Finding> = nearest.into_iter().flat_map(|one| [one.issuer, one.subject]).collect();
        if record.iter().any(|finding| unequal(finding) && remedy(*finding) == Remedy::Look) {
            return None;
        }
        let changes = record.iter().all(|finding| !unequal(finding) || remedy(*finding) == Remedy::Change);
        let counts = |one: &&Compared<'_>| one.credential.state == CredentialState::Enabled;
        let replaces = nearest.filter(counts).filter(|_| changes).map(|one| one.credential.name.as_str());
        let (issuer, subject) = (said.issuer.clone()?, said.subject.clone()?);
        let name = replaces.map_or_else(|| new_name(&subject, &identity.credentials), str::to_owned);
        let sound = rules::issuer(&issuer).is_ok()
            && [&subject, &audience].into_iter().all(|text| rules::compared_text(text).is_ok())
            && [&issuer, &subject, &audience].into_iter().all(|text| is_printable(text));
        sound.then_some(Self { identity, replaces, name, issuer, subject, audience })
    }

    /// The record, below its identity.
    pub(super) fn toml(&self) -> String {
        let Self { name, issuer, subject, audience, .. } = self;
        let [name, issuer, subject, audience] = [name, issuer, subject, audience].map(|text| quoted(text));
        format!(
            "# of identity {}\n[[identity.federated_credential]]\nname = {name}\nissuer = {issuer}\nsubject = {subject}\n\
             audiences = [{audience}]\n",
            self.identity.name
        )
    }

    /// The same for Azure's command line.
    pub(super) fn az(&self) -> String {
        let Self { identity, name, issuer, subject, audience, .. } = self;
        let verb = if self.replaces.is_some() { "update" } else { "create" };
        let [issuer_word, subject_word, audience_word] = [issuer, subject, audience].map(|text| word(text));
        if let Some((subscription, group)) = place(identity) {
            return format!(
                "az identity federated-credential {verb} --subscription {subscription} --resource-group {} \\\n  \
                 --identity-name {} --name {name} \\\n  --issuer {issuer_word} \\\n  --subject {subject_word} \\\n  \
                 --audiences {audience_word}\n",
                word(group),
                identity.name
            );
        }
        let replaced =
            self.replaces.map(|name| format!(" --federated-credential-id {name}")).unwrap_or_default();
        let parameters = serde_json::json!({
            "name": name, "issuer": issuer, "subject": subject, "audiences": [audience],
        });
        format!(
            "az ad app federated-credential {verb} --id {}{replaced} \\\n  --parameters {}\n",
            identity.client_id,
            word(&parameters.to_string())
        )
    }

    /// The same for Terraform.
    pub(super) fn terraform(&self) -> String {
        let Self { identity, name, issuer, subject, audience, .. } = self;
        let label = |text: &str| text.replace('-', "_");
        let [name_text, issuer, subject, audience] = [name, issuer, subject, audience]
            .map(|text| quoted(text).replace("${", "$${").replace("%{", "%%{"));
        let user_assigned = identity.kind == IdentityKind::UserAssigned;
        let (kind, of, called, list) = if user_assigned {
            ("azurerm_federated_identity_credential", "parent_id", "name", "audience")
        } else {
            (
                "azuread_application_federated_identity_credential",
                "application_id",
                "display_name",
                "audiences",
            )
        };
        let owner = match &identity.resource_id {
            Some(id) if user_assigned => quoted(id),
            _ => format!("azuread_application.{}.id", label(&identity.name)),
        };
        let group = place(identity).filter(|_| user_assigned);
        let group = group.map(|(_, group)| format!("  resource_group_name = {}\n", quoted(group)));
        format!(
            "resource \"{kind}\" \"{}\" {{\n  {called} = {name_text}\n{}  {of} = {owner}\n  issuer = {issuer}\n  \
             subject = {subject}\n  {list} = [{audience}]\n}}\n",
            label(name),
            group.unwrap_or_default()
        )
    }
}

/// Subscription and resource group of a user-assigned identity.
fn place(identity: &Identity) -> Option<(&str, &str)> {
    let id = identity.resource_id.as_deref().filter(|_| identity.kind == IdentityKind::UserAssigned)?;
    let mut segments = id.split('/').skip(2);
    let subscription = segments.next()?;
    Some((subscription, segments.nth(1)?))
}

/// Whoever made the token chose these characters: only what a terminal and all three notations show as it is.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One word of a shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A name made of what tells the subject from others.
fn new_name(subject: &str, beside: &[Credential]) -> String {
    const COMMON: [&str; 14] = [
        "repo",
        "ref",
        "refs",
        "heads",
        "tags",
        "environment",
        "project_path",
        "ref_type",
        "branch",
        "tag",
        "system",
        "serviceaccount",
        "https",
        "spiffe",
    ];
    let words = subject.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let words = words.filter(|word| !word.is_empty() && !COMMON.contains(word));
    let name: String = words.collect::<Vec<_>>().join("-").chars().take(60).collect();
    let name = name.trim_matches(['-', '_']);
    let name = if rules::name(name, 120).is_ok() { name.to_owned() } else { "new-credential".to_owned() };
    let taken = |name: &str| beside.iter().any(|other| other.name.eq_ignore_ascii_case(name));
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name)
}
