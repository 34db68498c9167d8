//! The rules that hold between records, and the snapshot that comes out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::content::{Content, PlacedIdentity, Record};
use super::expectations::{self, Placed};
use super::issuers::Named;
use super::{Surroundings, TenantEntry};
use crate::document::{Problems, Spot};
use crate::domain::credential::{CredentialState, Identity};
use crate::domain::directory::Directory;
use crate::domain::expectation::Expectation;
use crate::domain::ids::Guid;
use crate::domain::policy::IssuerPolicy;
use crate::domain::resource::Resource;
use crate::domain::rules::Exposure;
use crate::domain::tenant::{Assignment, Tenant};

/// Compiles what all files say into one snapshot. With any error among the problems the snapshot must not be used: what
/// could not be read is not in it. Problems come by file, then line.
pub fn compile<'c>(
    contents: impl IntoIterator<Item = &'c Content>,
    surroundings: &Surroundings,
    problems: &Problems,
) -> Directory {
    let contents: Vec<_> = contents.into_iter().collect();
    let found = Problems::default();
    let mut compiler = Compiler::new(surroundings, &found);
    for content in &contents {
        content.problems.iter().for_each(|problem| found.add(problem.clone()));
        content.issuers.iter().for_each(|named| compiler.issuer(named));
        content.identities.iter().for_each(|record| compiler.identity(record));
        content.resources.iter().for_each(|record| compiler.resource(record));
    }
    // After all identities: an assignment may stand in a file before its principal.
    for record in contents.iter().flat_map(|content| &content.assignments) {
        compiler.assignment(record);
    }
    let expected = contents.iter().flat_map(|content| &content.expectations);
    let expected: Vec<_> = expected.filter_map(|record| compiler.expectation(record)).collect();
    let directory = compiler.into_directory();
    // What is missing of the records would be missed once more by every expectation of it.
    if !found.any_error() {
        expectations::check(expected, &directory, &found);
    }
    let mut found = found.into_vec();
    found.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    found.into_iter().for_each(|problem| problems.add(problem));
    directory
}

/// All expectations with the tenants that they are for. Those of no tenant are left out, which is a problem of its own.
pub fn expectations<'c>(
    contents: impl IntoIterator<Item = &'c Content>,
    surroundings: &Surroundings,
) -> Vec<(Guid, &'c Expectation)> {
    let records = contents.into_iter().flat_map(|content| &content.expectations);
    let placed = |record: &'c Record<Placed>| {
        let tenant = surroundings.tenant(record.tenant.as_deref())?;
        Some((surroundings.tenants[tenant].id, &record.value.as_ref()?.expectation))
    };
    records.filter_map(placed).collect()
}

struct Compiler<'s> {
    surroundings: &'s Surroundings,
    problems: &'s Problems,
    tenants: Vec<Tenant>,
    /// Which issuers have been named, with their policies.
    policies: HashMap<Arc<str>, IssuerPolicy>,
    disabled_issuers: HashSet<&'s str>,
    principals: HashSet<(Guid, Guid)>,
    resource_ids: HashSet<String>,
}

impl<'s> Compiler<'s> {
    fn new(surroundings: &'s Surroundings, problems: &'s Problems) -> Self {
        let tenant =
            |t: &TenantEntry| Tenant::new(t.id, t.domain.clone(), (t.issuer_v1.clone(), t.issuer_v2.clone()));
        let policies = &surroundings.policies;
        Self {
            surroundings,
            problems,
            tenants: surroundings.tenants.iter().map(tenant).collect(),
            policies: policies.iter().map(|policy| (policy.issuer.clone(), policy.clone())).collect(),
            disabled_issuers: policies.iter().filter(|p| !p.enabled).map(|p| &*p.issuer).collect(),
            principals: HashSet::new(),
            resource_ids: HashSet::new(),
        }
    }

    fn issuer(&mut self, named: &Named) {
        let issuer = &*named.issuer;
        let refuse = |message: String, hint| {
            named.spots.iter().for_each(|spot| spot.problem(self.problems, &message, hint));
        };
        if named.exposure == Exposure::Private && !self.surroundings.private_issuers.contains(issuer) {
            let message = format!("{issuer:?} has an IP address or a name inside a network as its host");
            refuse(message, "add an [[issuer]] entry with this url and allow_private_network = true");
        }
        let own = |t: &TenantEntry| *t.issuer_v1 == *issuer || *t.issuer_v2 == *issuer;
        if self.surroundings.tenants.iter().any(own) {
            let message = format!("{issuer:?} is an issuer of this broker");
            refuse(message, "our own tokens can't be exchanged for others");
        }
        if !self.policies.contains_key(issuer) {
            self.policies.insert(named.issuer.clone(), IssuerPolicy::standard(named.issuer.clone()));
        }
    }

    fn identity(&mut self, record: &Record<PlacedIdentity>) {
        let (Some(tenant), Some(placed)) = (self.tenant_of(record), &record.value) else { return };
        let identity = &placed.identity;
        if !self.principals.insert((self.tenants[tenant].id, identity.principal_id)) {
            let message = format!("{} belongs to another identity too", identity.principal_id);
            placed.principal_id.problem(self.problems, message, "");
        }
        if let Some(resource_id) = &identity.resource_id
            && !self.resource_ids.insert(resource_id.to_ascii_lowercase())
        {
            let message = format!("{:?} is there twice in its resource group", identity.name);
            placed.name.problem(self.problems, message, "names are unique in a resource group");
        }
        let in_force = self.in_force(identity);
        if !self.tenants[tenant].add_identity(in_force) {
            let message = format!("{} belongs to another identity of the tenant too", identity.client_id);
            placed.client_id.problem(self.problems, message, "");
        }
    }

    /// The identity as its file has it, or a copy in which the credentials of disabled issuers are so marked.
    fn in_force(&self, identity: &Arc<Identity>) -> Arc<Identity> {
        let mut identity = Arc::clone(identity);
        for at in 0..identity.credentials.len() {
            let credential = &identity.credentials[at];
            if credential.state != CredentialState::Disabled
                && self.disabled_issuers.contains(&*credential.issuer)
            {
                Arc::make_mut(&mut identity).credentials[at].state = CredentialState::IssuerDisabled;
            }
        }
        identity
    }

    fn resource(&mut self, record: &Record<(Resource, Spot)>) {
        let (Some(tenant), Some((resource, spot))) = (self.tenant_of(record), &record.value) else { return };
        if let Err(taken) = self.tenants[tenant].add_resource(resource.clone()) {
            let message = format!("{taken:?} belongs to another resource of the tenant too");
            spot.problem(self.problems, message, "a request must name one resource alone");
        }
    }

    fn assignment(&mut self, record: &Record<(Assignment, Spot)>) {
        let (Some(tenant), Some((assignment, spot))) = (self.tenant_of(record), &record.value) else {
            return;
        };
        let principal = assignment.principal_id;
        if !self.principals.contains(&(self.tenants[tenant].id, principal)) {
            let message = format!("no identity of the tenant has the principal id {principal}");
            let hint = "it is the principal_id of an identity, not its client_id";
            spot.warning(self.problems, message, hint);
        }
        self.tenants[tenant].add_assignment(assignment.clone());
    }

    fn expectation<'r>(&self, record: &'r Record<Placed>) -> Option<(Guid, &'r Placed)> {
        let tenant = self.tenant_of(record)?;
        Some((self.tenants[tenant].id, record.value.as_ref()?))
    }

    /// The tenant that a record belongs to: the one it names, or the only one there is.
    fn tenant_of<T>(&self, record: &Record<T>) -> Option<usize> {
        let found = self.surroundings.tenant(record.tenant.as_deref());
        // Without any tenant the configuration file has its own problem, which says enough.
        if found.is_none() && !self.tenants.is_empty() {
            let (message, hint) = match &record.tenant {
                Some(name) => (format!("no tenant {name:?}"), "it is the id or domain of a [[tenant]]"),
                None => ("is missing".to_owned(), "with more than one tenant every record names its own"),
            };
            record.tenant_spot.problem(self.problems, message, hint);
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
        let directory = compile(&[Content::read("d.toml", text)], surroundings, &problems);
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
        let limited = |lifetime| identity(1, &format!("{c}max_token_lifetime = \"{lifetime}\""));
        refused(&limited("59s"), "max_token_lifetime", "59s is out of range");
        refused(&limited("367d"), "max_token_lifetime", "out of range: expected 1m to 366days");
        refused(
            &identity(1, &format!("{c}mode = \"watch\"")),
            "mode",
            "expected one of \"enforce\", \"observe\"",
        );
        let observed = format!("{}mode = \"observe\"\n", c.replace("cred-1", "cred-2"));
        refused(&identity(1, &format!("{c}{observed}")), "subject", "twice");
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
        // What is not limited says no more than what says so.
        assert_eq!(digest(&one), digest(&format!("{one}jti_once = false")));
        let limits = ["jti_once = true", "max_token_lifetime = \"1h\"", "max_token_lifetime = \"2h\""];
        let digests: HashSet<_> = limits.iter().map(|limit| digest(&format!("{one}{limit}"))).collect();
        assert_eq!((digests.len(), digests.contains(&digest(&one))), (3, false));
        let mut once = surroundings();
        once.policies = vec![IssuerPolicy { jti_once: true, ..IssuerPolicy::standard("https://i.example") }];
        assert_ne!(digest(&one), compiled(&one, &once).0.digest());
        once.policies[0].jti_once = false;
        assert_eq!(digest(&one), compiled(&one, &once).0.digest());
    }

    #[test]
    fn a_credential_in_observe_mode_is_evaluated_and_trusted_by_nobody() {
        let one = identity(1, &credential(1));
        let with = |mode: &str| compiled(&format!("{one}mode = \"{mode}\"\n"), &surroundings()).0;
        let (enforced, observed) = (with("enforce"), with("observe"));
        assert_eq!(enforced.digest(), compiled(&one, &surroundings()).0.digest());
        assert_ne!(enforced.digest(), observed.digest());
        assert_eq!((enforced.inventory().observed, observed.inventory().observed), (0, 1));
        let issuer = "https://i.example";
        for (directory, trusted) in [(&enforced, true), (&observed, false)] {
            let identity = directory.tenant(TENANT).unwrap().identity(&guid(1), "").unwrap();
            assert_eq!(directory.trusted((identity, "id"), issuer).is_ok(), trusted);
            assert_eq!(directory.observable(identity, issuer).is_some(), !trusted);
            assert!(directory.named_issuers().contains(issuer));
            assert!(directory.observable(identity, "https://other.example").is_none());
        }
        // Twenty are twenty, in whatever mode.
        let list: String = (0..21).map(|n| format!("{}mode = \"observe\"\n", credential(n))).collect();
        refused(&identity(1, &list), "federated_credential", "at most 20");
        // Of an issuer that is switched off nothing is asked for.
        let mut around = surroundings();
        around.policies = vec![IssuerPolicy { enabled: false, ..IssuerPolicy::standard(issuer) }];
        let (directory, _) = compiled(&format!("{one}mode = \"observe\"\n"), &around);
        let identity = directory.tenant(TENANT).unwrap().identity(&guid(1), "").unwrap();
        assert!(directory.observable(identity, issuer).is_none());
        assert!(!directory.named_issuers().contains(issuer));
    }

    #[test]
    fn the_digest_is_the_same_in_every_version() {
        let tags = "tags = { b = \"\u{fc}\", a = \"\\\"\\n\" }\nlocation = \"l\"\nresource_group = \"rg\"\n\
                    subscription = \"22222222-2222-2222-2222-222222222222\"\n";
        let records = [
            identity(1, &format!("{tags}{}{}enabled = false", credential(1), credential(2))),
            identity(2, ""),
            format!("[[resource]]\nname = \"res\"\nclient_id = \"{}\"\nscope = \"/A/b\"\n", guid(50)),
            "identifier_uris = [\"https://r.example\", \"api://r\"]\n".to_owned(),
            format!("[[role_assignment]]\nprincipal_id = \"{}\"\nrole = \"R\"\nscope = \"/a\"\n", guid(1001)),
        ];
        let (directory, problems) = compiled(&records.concat(), &surroundings());
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(directory.digest(), "e17e42b7cd9dce48299a75124f7c158a9896df46027d5d1f6745f7a4cec5f76d");
    }

    #[test]
    fn problems_come_by_file_and_line() {
        let contents = [
            Content::read("b.toml", &identity(2, "x = 1")),
            Content::read("a.toml", &format!("{}{}", identity(1, ""), identity(2, "tenant = \"t\"\ny = 1"))),
        ];
        let problems = Problems::default();
        compile(&contents, &surroundings(), &problems);
        let found: Vec<_> = problems.into_vec().into_iter().map(|p| (p.file, p.line, p.key)).collect();
        let expected = [
            ("a.toml", 12, "identity[1].tenant"),
            ("a.toml", 13, "identity[1].y"),
            ("b.toml", 6, "identity[0].x"),
        ];
        assert_eq!(found, expected.map(|(file, line, key)| (file.to_owned(), Some(line), key.to_owned())));
    }

    #[test]
    fn snapshots_share_the_identities_that_a_file_says() {
        let content = Content::read("d.toml", &identity(1, &credential(1)));
        let compile = |around: &Surroundings| compile([&content], around, &Problems::default());
        let found = |directory: &Directory| -> *const Identity {
            directory.tenant(TENANT).unwrap().identity(&guid(1), "").unwrap()
        };
        let one = compile(&surroundings());
        assert_eq!(found(&one), found(&compile(&surroundings())));
        // A copy is made where something outside the file takes a credential away.
        let mut around = surroundings();
        around.policies =
            vec![IssuerPolicy { enabled: false, ..IssuerPolicy::standard("https://i.example") }];
        assert_ne!(found(&one), found(&compile(&around)));
        assert_eq!(one.digest(), compile(&surroundings()).digest());
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
