//! The rules that hold between records, and the snapshot that comes out.

use std::collections::{HashMap, HashSet};

use super::files::Text;
use super::{Surroundings, TenantEntry, records};
use crate::document::{Document, Problems, Reader};
use crate::domain::credential::{CredentialState, Identity};
use crate::domain::directory::Directory;
use crate::domain::ids::Guid;
use crate::domain::policy::IssuerPolicy;
use crate::domain::rules::{Exposure, MAX_CREDENTIALS};
use crate::domain::tenant::Tenant;

/// Compiles all texts into one snapshot. With any error among the problems the snapshot must not be used: what could
/// not be read is not in it.
pub fn compile<'t>(
    texts: impl IntoIterator<Item = &'t Text>,
    surroundings: &Surroundings,
    problems: &Problems,
) -> Directory {
    let mut compiler = Compiler::new(surroundings);
    let mut assignments = Vec::new();
    for (file, text) in texts {
        let mut root = Document::parse(file, text, problems).reader(problems);
        for reader in root.tables("identity") {
            compiler.identity(reader);
        }
        for reader in root.tables("resource") {
            compiler.resource(reader);
        }
        assignments.extend(root.tables("role_assignment"));
        root.finish();
    }
    // After all identities: an assignment may stand in a file before its principal.
    for reader in assignments {
        compiler.assignment(reader);
    }
    compiler.into_directory()
}

struct Compiler<'s> {
    surroundings: &'s Surroundings,
    tenants: Vec<Tenant>,
    /// Which issuers have been named, with their policies.
    policies: HashMap<String, IssuerPolicy>,
    principals: HashSet<(Guid, Guid)>,
    resource_ids: HashSet<String>,
}

impl<'s> Compiler<'s> {
    fn new(surroundings: &'s Surroundings) -> Self {
        let tenant =
            |t: &TenantEntry| Tenant::new(t.id, t.domain.clone(), (t.issuer_v1.clone(), t.issuer_v2.clone()));
        Self {
            surroundings,
            tenants: surroundings.tenants.iter().map(tenant).collect(),
            policies: surroundings.policies.iter().map(|p| (p.issuer.to_string(), p.clone())).collect(),
            principals: HashSet::new(),
            resource_ids: HashSet::new(),
        }
    }

    fn identity(&mut self, mut reader: Reader<'_>) {
        let tenant = self.tenant_of(&mut reader);
        let identity = records::identity(&mut reader);
        let credentials = reader.tables("federated_credential");
        if credentials.len() > MAX_CREDENTIALS {
            let message =
                format!("{} credentials: an identity has at most {MAX_CREDENTIALS}", credentials.len());
            reader.problem("federated_credential", message, "nothing is truncated; use a second identity");
        }
        // A record that can't be read still has its credentials checked, so that all problems come at once.
        let mut read = Vec::new();
        for credential in credentials {
            self.credential(credential, &mut read);
        }
        if let (Some(index), Some(identity)) = (tenant, identity) {
            self.add_identity(index, Identity { credentials: read, ..identity }, &reader);
        }
        reader.finish();
    }

    fn credential(&mut self, mut reader: Reader<'_>, read: &mut Vec<crate::domain::credential::Credential>) {
        if let Some((mut credential, exposure)) = records::credential(&mut reader) {
            let issuer = &*credential.issuer;
            if exposure == Exposure::Private && !self.surroundings.private_issuers.contains(issuer) {
                let hint = "add an [[issuer]] entry with this url and allow_private_network = true";
                reader.problem(
                    "issuer",
                    format!("{issuer:?} has an IP address or a name inside a network as its host"),
                    hint,
                );
            }
            let own = |t: &TenantEntry| *t.issuer_v1 == *issuer || *t.issuer_v2 == *issuer;
            if self.surroundings.tenants.iter().any(own) {
                let hint = "our own tokens can't be exchanged for others";
                reader.problem("issuer", format!("{issuer:?} is an issuer of this broker"), hint);
            }
            if read.iter().any(|other| other.name.eq_ignore_ascii_case(&credential.name)) {
                reader.problem("name", format!("{:?} is there twice in this identity", credential.name), "");
            }
            if read
                .iter()
                .any(|other| other.issuer == credential.issuer && other.subject == credential.subject)
            {
                let hint = "issuer and subject together are unique in an identity";
                reader.problem(
                    "subject",
                    format!("{:?} is there twice for this issuer", credential.subject),
                    hint,
                );
            }
            let policy = self
                .policies
                .entry(issuer.to_owned())
                .or_insert_with(|| IssuerPolicy::standard(credential.issuer.clone()));
            if !policy.enabled && credential.state == CredentialState::Enabled {
                credential.state = CredentialState::IssuerDisabled;
            }
            read.push(credential);
        }
        reader.finish();
    }

    fn add_identity(&mut self, tenant: usize, identity: Identity, reader: &Reader<'_>) {
        let id = self.tenants[tenant].id;
        if !self.principals.insert((id, identity.principal_id)) {
            reader.problem(
                "principal_id",
                format!("{} belongs to another identity too", identity.principal_id),
                "",
            );
        }
        if let Some(resource_id) = &identity.resource_id
            && !self.resource_ids.insert(resource_id.to_ascii_lowercase())
        {
            let hint = "names are unique in a resource group";
            reader.problem("name", format!("{:?} is there twice in its resource group", identity.name), hint);
        }
        let client_id = identity.client_id;
        if !self.tenants[tenant].add_identity(identity) {
            reader.problem(
                "client_id",
                format!("{client_id} belongs to another identity of the tenant too"),
                "",
            );
        }
    }

    fn resource(&mut self, mut reader: Reader<'_>) {
        let tenant = self.tenant_of(&mut reader);
        let resource = records::resource(&mut reader);
        if let (Some(index), Some(resource)) = (tenant, resource)
            && let Err(taken) = self.tenants[index].add_resource(resource)
        {
            let hint = "a request must name one resource alone";
            reader.problem("", format!("{taken:?} belongs to another resource of the tenant too"), hint);
        }
        reader.finish();
    }

    fn assignment(&mut self, mut reader: Reader<'_>) {
        let tenant = self.tenant_of(&mut reader);
        if let (Some(index), Some(assignment)) = (tenant, records::assignment(&mut reader)) {
            if !self.principals.contains(&(self.tenants[index].id, assignment.principal_id)) {
                let hint = "it is the principal_id of an identity, not its client_id";
                let message =
                    format!("no identity of the tenant has the principal id {}", assignment.principal_id);
                reader.warning("principal_id", message, hint);
            }
            self.tenants[index].add_assignment(assignment);
        }
        reader.finish();
    }

    /// The tenant that a record belongs to: the one it names, or the only one there is.
    fn tenant_of(&self, reader: &mut Reader<'_>) -> Option<usize> {
        let name: Option<String> = reader.get("tenant");
        let found = match &name {
            Some(name) => {
                let guid = Guid::parse(name);
                let named = |t: &Tenant| {
                    Some(t.id) == guid || t.domain.as_deref() == Some(&name.to_ascii_lowercase())
                };
                self.tenants.iter().position(named)
            }
            None => (self.tenants.len() == 1).then_some(0),
        };
        if found.is_none() {
            let (message, hint) = match name {
                Some(name) => (format!("no tenant {name:?}"), "it is the id or domain of a [[tenant]]"),
                None => ("is missing".to_owned(), "with more than one tenant every record names its own"),
            };
            // Without any tenant the configuration file has its own problem, which says enough.
            if !self.tenants.is_empty() {
                reader.problem("tenant", message, hint);
            }
        }
        found
    }

    fn into_directory(self) -> Directory {
        Directory::new(self.tenants, self.policies.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-1111-1111-1111-111111111111";

    fn surroundings() -> Surroundings {
        let id = Guid::parse(TENANT).unwrap();
        let tenants = vec![TenantEntry::standard(id, Some("contoso.example".into()), "https://sts.example")];
        Surroundings { tenants, ..Surroundings::default() }
    }

    fn compiled(text: &str, surroundings: &Surroundings) -> (Directory, Vec<String>) {
        let problems = Problems::default();
        let directory = compile(&[("d.toml".to_owned(), text.to_owned())], surroundings, &problems);
        (directory, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    fn guid(n: usize) -> String {
        format!("{n:08x}-0000-4000-8000-000000000000")
    }

    fn identity(n: usize, extra: &str) -> String {
        format!(
            "[[identity]]\nname = \"id-{n}\"\nkind = \"application\"\nclient_id = \"{}\"\nprincipal_id = \"{}\"\n{extra}\n",
            guid(n),
            guid(n + 1000),
        )
    }

    fn credential(n: usize) -> String {
        format!(
            "[[identity.federated_credential]]\nname = \"cred-{n}\"\nissuer = \"https://i.example\"\nsubject = \"s{n}\"\n"
        )
    }

    /// One problem, which names this key and says this.
    fn refused(text: &str, key: &str, says: &str) {
        let (_, problems) = compiled(text, &surroundings());
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(key) && problems[0].contains(says), "{problems:?}");
        assert!(problems[0].starts_with("d.toml:"), "{problems:?}");
    }

    #[test]
    fn twenty_credentials_are_read_and_twenty_one_refused_whole() {
        let list = |n: usize| (0..n).map(credential).collect::<String>();
        let (directory, problems) = compiled(&identity(1, &list(20)), &surroundings());
        assert!(problems.is_empty(), "{problems:?}");
        let tenant = directory.tenant("CONTOSO.example").unwrap();
        assert_eq!(tenant.identity(&guid(1), "").unwrap().credentials.len(), 20);
        refused(&identity(1, &list(21)), "federated_credential", "at most 20");
    }

    #[test]
    fn each_rule_of_records_is_kept() {
        let c = credential(1);
        refused(&identity(1, &format!("{c}audiences = []")), "audiences", "exactly one audience, has 0");
        refused(
            &identity(1, &format!("{c}audiences = [\"a\", \"b\"]")),
            "audiences",
            "exactly one audience, has 2",
        );
        refused(&identity(1, &format!("{c}{}", c.replace("cred-1", "cred-2"))), "subject", "twice");
        refused(
            &identity(1, &format!("{c}{}", c.replace("s1", "s2").replace("cred-1", "CRED-1"))),
            "name",
            "twice",
        );
        refused(&identity(1, &c.replace("https://i", "http://i")), "issuer", "not an https URL");
        refused(&identity(1, &c.replace("https://i.example", "https://127.0.0.1")), "issuer", "IP address");
        let own = format!("https://sts.example/{TENANT}/v2.0");
        refused(&identity(1, &c.replace("https://i.example", &own)), "issuer", "issuer of this broker");
        refused(
            &identity(1, &c.replace("\"s1\"", &format!("{:?}", "s".repeat(601)))),
            "subject",
            "longer than 600",
        );
        refused(&identity(1, &c.replace("\"s1\"", "\"s1 \"")), "subject", "white space");
        refused(&identity(1, &c.replace("cred-1", "-x1")), "name", "not a name");
        refused(&identity(1, "kin = 1"), "identity[0].kin", "unknown key");
        refused(&identity(1, "tenant = \"fabrikam.example\""), "tenant", "no tenant");
        refused(&identity(1, "").replace("application", "user-assigned"), "identity[0]", "subscription");
        refused(&identity(1, "").replace("application", "robot"), "kind", "expected one of");
        refused(
            &format!("{}{}", identity(1, ""), identity(1, "").replace(&guid(1001), &guid(7))),
            "client_id",
            "another",
        );
        refused(
            &format!("{}{}", identity(1, ""), identity(2, "").replace(&guid(1002), &guid(1001))),
            "principal_id",
            "another",
        );
        refused(
            &identity(1, "subscription = \"x\"\nresource_group = \"rg\"\nlocation = \"l\"")
                .replace("application", "user-assigned")
                .replace("\"x\"", "\"11111111-1111-1111-1111-111111111111\"")
                .replace("\"rg\"", "\"rg.\""),
            "resource_group",
            "not a resource group",
        );
    }

    #[test]
    fn resources_and_assignments_keep_theirs() {
        let resource = format!(
            "[[resource]]\nname = \"res\"\nclient_id = \"{}\"\nidentifier_uris = [\"https://r.example\"]\nscope = \"/a/b\"\n",
            guid(50)
        );
        assert!(compiled(&resource, &surroundings()).1.is_empty());
        refused(&format!("{resource}token_version = 3"), "token_version", "expected 1 or 2");
        refused(&format!("{resource}token_lifetime = \"9m\""), "token_lifetime", "out of range");
        refused(&format!("{resource}token_lifetime = \"25h\""), "token_lifetime", "out of range");
        refused(&format!("{resource}signing_algorithm = \"HS256\""), "signing_algorithm", "expected one of");
        refused(&format!("{resource}assignment_required = false"), "assignment_required", "warning");
        refused(&resource.replace("/a/b", "a/b"), "scope", "not an absolute path");
        refused(&resource.replace("https://r.example", "r"), "identifier_uris", "not an absolute URI");
        refused(
            &format!("{resource}{}", resource.replace(&guid(50), &guid(51))),
            "resource[1]",
            "another resource",
        );
        let assignment = format!(
            "[[role_assignment]]\nprincipal_id = \"{}\"\nrole = \"Reader\"\nscope = \"/a\"\n",
            guid(1001)
        );
        refused(&assignment, "principal_id", "warning");
        assert!(compiled(&format!("{assignment}{}", identity(1, "")), &surroundings()).1.is_empty());
    }

    #[test]
    fn all_problems_come_at_once() {
        let text =
            format!("{}{}", identity(1, &credential(1).replace("https", "http")), identity(2, "x = 1"));
        let (_, problems) = compiled(&format!("{text}[[thing]]\n"), &surroundings());
        assert_eq!(problems.len(), 3, "{problems:#?}");
    }

    #[test]
    fn the_digest_follows_content_not_files_order_or_comments() {
        let (one, two) = (identity(1, &credential(1)), identity(2, ""));
        let digest = |text: &str| compiled(text, &surroundings()).0.digest().to_owned();
        assert_eq!(digest(&format!("{one}{two}")), digest(&format!("# x\n{two}{one}")));
        assert_ne!(digest(&one), digest(&one.replace("s1", "s2")));
        assert_ne!(digest(&one), digest(&format!("{one}enabled = false")));
        assert_eq!(digest(&one).len(), 64);
    }

    #[test]
    fn a_disabled_issuer_takes_its_credentials_out() {
        let mut around = surroundings();
        around.policies =
            vec![IssuerPolicy { enabled: false, ..IssuerPolicy::standard("https://i.example") }];
        let (directory, _) = compiled(&identity(1, &credential(1)), &around);
        let identity = directory.tenant(TENANT).unwrap().identity(&guid(1), "").unwrap();
        assert_eq!(identity.credentials[0].state, CredentialState::IssuerDisabled);
    }
}
