//! A federated identity credential to be copied: as a record of the directory, an az command and a Terraform block.
//!
//! The values come from a token, so from whoever may name a branch: each is quoted for the language that it is put into.

use std::fmt::Write;

/// The longest name of a credential.
const NAME: usize = 120;

/// What is compared.
pub(super) struct Recipe<'a> {
    pub(super) issuer: &'a str,
    pub(super) subject: &'a str,
    pub(super) audience: &'a str,
}

impl Recipe<'_> {
    /// A name by the rules of records, from the subject.
    fn name(&self) -> String {
        let mut name = String::new();
        for c in self.subject.chars() {
            match c {
                c if c.is_ascii_alphanumeric() => name.push(c),
                _ if name.is_empty() || name.ends_with('-') => {}
                _ => name.push('-'),
            }
        }
        name.truncate(NAME);
        let name = name.trim_end_matches('-');
        if name.len() < 3 {
            format!("federated-{name}").trim_end_matches('-').to_owned()
        } else {
            name.to_owned()
        }
    }

    pub(super) fn toml(&self) -> String {
        format!(
            "  [[identity.federated_credential]]\n  name = {}\n  issuer = {}\n  subject = {}\n  audiences = [{}]\n",
            quoted(&self.name()),
            quoted(self.issuer),
            quoted(self.subject),
            quoted(self.audience),
        )
    }

    pub(super) fn az(&self) -> String {
        format!(
            "az identity federated-credential create --identity-name NAME --resource-group GROUP \\\n  --name {} \\\n  \
             --issuer {} \\\n  --subject {} \\\n  --audiences {}\n",
            word(&self.name()),
            word(self.issuer),
            word(self.subject),
            word(self.audience),
        )
    }

    pub(super) fn terraform(&self) -> String {
        // In HCL a template begins with these two.
        let value = |text: &str| quoted(text).replace("${", "$${").replace("%{", "%%{");
        format!(
            "resource \"azurerm_federated_identity_credential\" \"ficus\" {{\n  name                = {}\n  \
             resource_group_name = \"GROUP\"\n  parent_id           = azurerm_user_assigned_identity.NAME.id\n  \
             issuer              = {}\n  subject             = {}\n  audience            = [{}]\n}}\n",
            value(&self.name()),
            value(self.issuer),
            value(self.subject),
            value(self.audience),
        )
    }
}

/// A basic string of TOML, which HCL reads alike. What a terminal would act on, or two letters that look the same, are
/// spelled out.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            ' '..='~' => write!(quoted, "{c}"),
            '\u{10000}'.. => write!(quoted, "\\U{:08X}", u32::from(c)),
            _ => write!(quoted, "\\u{:04X}", u32::from(c)),
        };
    }
    quoted + "\""
}

/// One word of a shell: in single quotes, or as bash spells out what is not printable.
fn word(text: &str) -> String {
    if text.chars().all(|c| matches!(c, ' '..='~')) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = String::from("$'");
    for c in text.chars() {
        let _ = match c {
            '\'' | '\\' => write!(word, "\\{c}"),
            ' '..='~' => write!(word, "{c}"),
            _ => write!(word, "\\U{:08X}", u32::from(c)),
        };
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recipe(subject: &str) -> Recipe<'_> {
        Recipe { issuer: "https://issuer.example", subject, audience: "api://AzureADTokenExchange" }
    }

    #[test]
    fn an_honest_subject_is_written_as_people_write_it() {
        let recipe = recipe("repo:my--org/app:ref:refs/heads/main");
        assert_eq!(
            recipe.toml(),
            "  [[identity.federated_credential]]\n  name = \"repo-my-org-app-ref-refs-heads-main\"\n  \
             issuer = \"https://issuer.example\"\n  subject = \"repo:my--org/app:ref:refs/heads/main\"\n  \
             audiences = [\"api://AzureADTokenExchange\"]\n"
        );
        assert!(recipe.az().contains("--subject 'repo:my--org/app:ref:refs/heads/main' \\\n"));
    }

    #[test]
    fn names_keep_the_rules_of_records() {
        for (subject, name) in [
            ("", "federated"),
            ("a", "federated-a"),
            (":a/b:", "federated-a-b".trim_start_matches("federated-")),
            ("\u{fc}", "federated"),
        ] {
            assert_eq!(recipe(subject).name(), name, "{subject}");
        }
        assert_eq!(recipe(&"a:".repeat(600)).name().len(), NAME - 1);
    }

    #[test]
    fn a_branch_can_name_no_variable_of_another_language() {
        let recipe = recipe("a'$(touch x)`b`${var.c}%{ if d }\"\\\u{202e}");
        assert!(recipe.terraform().contains("$${var.c}%%{ if d }\\\"\\\\\\u202E\""));
        assert!(recipe.az().contains("--subject $'a\\'$(touch x)`b`${var.c}%{ if d }\"\\\\\\U0000202E'"));
    }

    proptest! {
        #[test]
        fn what_is_copied_is_what_was_presented(subject in any::<String>()) {
            #[derive(serde::Deserialize)]
            struct Read { identity: Credentials }
            #[derive(serde::Deserialize)]
            struct Credentials { federated_credential: Vec<toml::Table> }
            let read: Read = toml::from_str(&recipe(&subject).toml()).unwrap();
            prop_assert_eq!(read.identity.federated_credential[0]["subject"].as_str(), Some(subject.as_str()));
        }
    }
}
