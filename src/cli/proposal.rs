//! A credential that would accept a token, as people write it down: TOML for the directory, az, Terraform.
//!
//! The values come from a token, so from whoever may name a branch: each is quoted for the language that it is put into,
//! and what can't be quoted there is not put into it.

use crate::client::plain;
use crate::domain::assertion::Hearsay;
use crate::domain::credential::{Credential, CredentialState, Identity, IdentityKind};
use crate::domain::nearmiss::{Class, Compared, Finding, NearMiss, Remedy};
use crate::domain::rules;

/// The credential, and the identity that it is for, where that is known.
pub(super) struct Proposal<'a> {
    identity: Option<&'a Identity>,
    /// The credential that it takes the place of.
    pub(super) replaces: Option<&'a str>,
    pub(super) name: String,
    issuer: String,
    subject: String,
    audience: String,
}

impl<'a> Proposal<'a> {
    /// None where no record is the cure, or where one should not be written before somebody has looked.
    pub(super) fn cure(near: &NearMiss<'a>, identity: &'a Identity, said: &Hearsay) -> Option<Self> {
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
        let compared = [said.issuer.as_deref()?, said.subject.as_deref()?, &audience];
        let proposal = Self::sound(compared, &identity.credentials).ok()?;
        let name = replaces.map_or(proposal.name, str::to_owned);
        Some(Self { identity: Some(identity), replaces, name, ..proposal })
    }

    /// The credential of an identity that is not known yet, for a token of this issuer, subject and audience.
    ///
    /// # Errors
    /// Why there is none that could be copied.
    pub(super) fn anew(compared: [&str; 3]) -> Result<Self, String> {
        Self::sound(compared, &[])
    }

    /// By the rules of records, and nothing else.
    fn sound(compared: [&str; 3], beside: &[Credential]) -> Result<Self, String> {
        let [issuer, subject, audience] = compared;
        rules::issuer(issuer).map_err(|broken| format!("issuer: {}", broken.message))?;
        for (what, text) in [("subject", subject), ("audience", audience)] {
            rules::compared_text(text).map_err(|broken| format!("{what}: {}", broken.message))?;
        }
        if let Some(text) = compared.into_iter().find(|text| !is_printable(text)) {
            return Err(format!(
                "{} has more than printable ASCII: look twice, and write it yourself",
                plain(text)
            ));
        }
        let name = new_name(subject, beside);
        let [issuer, subject, audience] = compared.map(str::to_owned);
        Ok(Self { identity: None, replaces: None, name, issuer, subject, audience })
    }

    /// The record, below its identity.
    pub(super) fn toml(&self) -> String {
        let Self { name, issuer, subject, audience, .. } = self;
        let [name, issuer, subject, audience] = [name, issuer, subject, audience].map(|text| quoted(text));
        let whose = self.identity.map(|identity| format!("# of identity {}\n", identity.name));
        format!(
            "{}[[identity.federated_credential]]\nname = {name}\nissuer = {issuer}\nsubject = {subject}\n\
             audiences = [{audience}]\n",
            whose.unwrap_or_default()
        )
    }

    /// The same for Azure's command line; none where az would take a value for something else.
    pub(super) fn az(&self) -> Option<String> {
        let Self { name, issuer, subject, audience, .. } = self;
        let verb = if self.replaces.is_some() { "update" } else { "create" };
        let whose = match self.identity {
            None => "--identity-name NAME --resource-group GROUP".to_owned(),
            Some(identity) => match place(identity) {
                Some((subscription, group)) => format!(
                    "--subscription {subscription} --resource-group {} \\\n  --identity-name {}",
                    word(group),
                    identity.name
                ),
                None => return Some(self.az_of_application(identity, verb)),
            },
        };
        // What begins with it is the name of a file whose content az takes instead. Behind the first equals sign of a word
        // it means the same, so the value has to be one with its option.
        if [subject, audience].into_iter().any(|text| text.starts_with('@')) {
            return None;
        }
        let [issuer, subject, audience] = [issuer, subject, audience].map(|text| word(text));
        Some(format!(
            "az identity federated-credential {verb} {whose} --name {name} \\\n  --issuer={issuer} \\\n  \
             --subject={subject} \\\n  --audiences={audience}\n"
        ))
    }

    fn az_of_application(&self, identity: &Identity, verb: &str) -> String {
        let Self { name, issuer, subject, audience, .. } = self;
        let replaced =
            self.replaces.map(|name| format!(" --federated-credential-id {name}")).unwrap_or_default();
        let parameters = serde_json::json!({
            "name": name, "issuer": issuer, "subject": subject, "audiences": [audience],
        });
        format!(
            "az ad app federated-credential {verb} --id {}{replaced} \\\n  --parameters={}\n",
            identity.client_id,
            word(&parameters.to_string())
        )
    }

    /// The same for Terraform.
    pub(super) fn terraform(&self) -> String {
        let Self { identity, name, issuer, subject, audience, .. } = self;
        // A template begins with these two.
        let [name_text, issuer, subject, audience] = [name, issuer, subject, audience]
            .map(|text| quoted(text).replace("${", "$${").replace("%{", "%%{"));
        let application = identity.filter(|identity| identity.kind == IdentityKind::Application);
        let (kind, called, list) = match application {
            None => ("azurerm_federated_identity_credential", "name", "audience"),
            Some(_) => ("azuread_application_federated_identity_credential", "display_name", "audiences"),
        };
        let owner = match (application, identity) {
            (Some(identity), _) => {
                format!("  application_id = azuread_application.{}.id\n", label(&identity.name))
            }
            (None, Some(identity)) => {
                let group = place(identity).map_or("GROUP", |(_, group)| group);
                let id = identity.resource_id.as_deref().unwrap_or("ID");
                format!("  resource_group_name = {}\n  parent_id = {}\n", quoted(group), quoted(id))
            }
            (None, None) => "  resource_group_name = \"GROUP\"\n  \
                             parent_id = azurerm_user_assigned_identity.NAME.id\n"
                .to_owned(),
        };
        format!(
            "resource \"{kind}\" \"{}\" {{\n  {called} = {name_text}\n{owner}  issuer = {issuer}\n  \
             subject = {subject}\n  {list} = [{audience}]\n}}\n",
            label(name)
        )
    }
}

/// A name in Terraform, which begins with no digit.
fn label(name: &str) -> String {
    let label = name.replace('-', "_");
    if label.starts_with(|c: char| c.is_ascii_digit()) { format!("_{label}") } else { label }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::Guid;

    const ISSUER: &str = "https://issuer.example";
    const AUDIENCE: &str = "api://AzureADTokenExchange";

    fn proposal(subject: &str) -> Proposal<'static> {
        Proposal::anew([ISSUER, subject, AUDIENCE]).unwrap()
    }

    fn application() -> Identity {
        Identity {
            name: "7-of-nine".to_owned(),
            client_id: Guid::parse("aaaaaaaa-0001-4a00-8000-000000000001").unwrap(),
            principal_id: Guid::parse("bbbbbbbb-0001-4a00-8000-000000000001").unwrap(),
            resource_id: None,
            kind: IdentityKind::Application,
            enabled: true,
            location: None,
            tags: BTreeMap::new(),
            credentials: Vec::new(),
        }
    }

    /// What a shell makes of a command, word by word.
    fn words(command: &str) -> Vec<String> {
        let script = format!("az() {{ printf '%s\\0' \"$@\"; }}\n{command}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// The attributes of the one resource in a Terraform file, as Terraform reads them.
    fn attributes(file: &str) -> serde_json::Value {
        let value: serde_json::Value = hcl::eval::from_str(file, &hcl::eval::Context::new()).unwrap();
        let kinds = value["resource"].as_object().unwrap().values().next().unwrap();
        kinds.as_object().unwrap().values().next().unwrap().clone()
    }

    #[test]
    fn an_honest_subject_is_written_as_people_write_it() {
        let proposal = proposal("repo:my--org/app:ref:refs/heads/main");
        assert_eq!(
            proposal.toml(),
            "[[identity.federated_credential]]\nname = \"my-org-app-main\"\nissuer = \"https://issuer.example\"\n\
             subject = \"repo:my--org/app:ref:refs/heads/main\"\naudiences = [\"api://AzureADTokenExchange\"]\n"
        );
        let az = proposal.az().unwrap();
        assert!(az.contains("--subject='repo:my--org/app:ref:refs/heads/main' \\\n"), "{az}");
    }

    #[test]
    fn what_can_not_be_copied_is_not_proposed() {
        let refused = |compared| Proposal::anew(compared).err().unwrap_or_default();
        for subject in ["a\nb", "a\u{1b}[2J", "m\u{430}in", "\u{202e}x", "a\0", ""] {
            assert_ne!(refused([ISSUER, subject, AUDIENCE]), "", "{subject:?}");
        }
        assert!(refused(["http://issuer.example", "s", AUDIENCE]).contains("https"));
        assert!(refused([ISSUER, &"x".repeat(601), AUDIENCE]).contains("600"));
        // az would read the file, and only az.
        let proposal = proposal("@/etc/passwd");
        assert_eq!(proposal.az(), None);
        assert!(proposal.toml().contains("\"@/etc/passwd\""));
    }

    #[test]
    fn names_begin_with_no_digit_where_terraform_allows_none() {
        let identity = application();
        let proposal = Proposal { identity: Some(&identity), ..proposal("4711") };
        let file = proposal.terraform();
        assert!(
            file.contains(" \"_4711\" {") && file.contains("azuread_application._7_of_nine.id"),
            "{file}"
        );
    }

    proptest! {
        #[test]
        fn what_is_copied_is_what_was_presented(subject in "[ -~]{1,80}", hostile in prop::sample::select(vec![
            "", "'", "\"", "\\", "$(exit 1)", "`exit 1`", "${x}", "$${x}", "%{ if x }", "%%{", "=@/etc/passwd", "-x", "\\\n",
        ])) {
            let subject = format!("{}{subject}", hostile.trim_end_matches('\n'));
            let Ok(proposal) = Proposal::anew([ISSUER, &subject, AUDIENCE]) else { return Ok(()) };

            let toml: toml::Table = toml::from_str(&proposal.toml()).unwrap();
            let record = &toml["identity"]["federated_credential"][0];
            prop_assert_eq!(record["subject"].as_str(), Some(subject.as_str()));

            if let Some(az) = proposal.az() {
                let expected = format!("--subject={subject}");
                prop_assert!(words(&az).contains(&expected), "{}", az);
            }
            let identity = application();
            let of_application = Proposal { identity: Some(&identity), ..proposal };
            let words = words(&of_application.az().unwrap());
            let parameters = words.last().unwrap().strip_prefix("--parameters=").unwrap();
            let parameters: serde_json::Value = serde_json::from_str(parameters).unwrap();
            prop_assert_eq!(parameters["subject"].as_str(), Some(subject.as_str()));

            let proposal = Proposal { identity: None, ..of_application };
            let file = proposal.terraform().replace("azurerm_user_assigned_identity.NAME.id", "\"ID\"");
            let read = attributes(&file);
            prop_assert_eq!(read["subject"].as_str(), Some(subject.as_str()), "{}", file);
            prop_assert_eq!(read["issuer"].as_str(), Some(ISSUER));
            prop_assert_eq!(&read["audience"], &serde_json::json!([AUDIENCE]));
        }
    }
}
