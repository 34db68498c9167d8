//! `[[tenant]]` entries of the configuration file.

use std::sync::Arc;

use crate::document::Reader;
use crate::domain::ids::Guid;
use crate::domain::rules;

/// One tenant: its names and the issuers that its tokens carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantEntry {
    /// GUID.
    pub id: Guid,
    /// Domain, lower case.
    pub domain: Option<String>,
    /// `iss` of v1.0 tokens; default `{public_url}/{id}/`.
    pub issuer_v1: Arc<str>,
    /// `iss` of v2.0 tokens; default `{public_url}/{id}/v2.0`.
    pub issuer_v2: Arc<str>,
}

impl TenantEntry {
    /// A tenant with the issuers that follow from the public URL.
    pub fn standard(id: Guid, domain: Option<String>, public_url: &str) -> Self {
        Self {
            id,
            domain,
            issuer_v1: format!("{public_url}/{id}/").into(),
            issuer_v2: format!("{public_url}/{id}/v2.0").into(),
        }
    }

    /// Reads all entries: at least one, ids and domains each once.
    pub fn read_all(readers: Vec<Reader<'_>>, public_url: &str) -> Vec<Self> {
        let mut tenants: Vec<Self> = Vec::new();
        for mut reader in readers {
            if let Some(tenant) = Self::read(&mut reader, public_url) {
                if tenants.iter().any(|other| other.id == tenant.id) {
                    reader.problem("id", format!("{} is there twice", tenant.id), "");
                } else if tenant.domain.is_some() && tenants.iter().any(|other| other.domain == tenant.domain)
                {
                    reader.problem("domain", "is there twice", "each tenant has its own");
                } else if tenants.iter().any(|other| other.shares_issuer(&tenant)) {
                    let hint = "an API that checks iss alone could not tell the tenants apart";
                    reader.problem("", "an issuer of it is another tenant's too", hint);
                } else {
                    tenants.push(tenant);
                }
            }
            reader.finish();
        }
        tenants
    }

    fn shares_issuer(&self, other: &Self) -> bool {
        let theirs = [&other.issuer_v1, &other.issuer_v2];
        theirs.contains(&&self.issuer_v1) || theirs.contains(&&self.issuer_v2)
    }

    fn read(reader: &mut Reader<'_>, public_url: &str) -> Option<Self> {
        let id = reader.need::<Guid>("id");
        let domain = reader.get::<String>("domain").map(|domain| domain.to_ascii_lowercase());
        if let Some(domain) = domain.as_deref().filter(|domain| !rules::is_domain(domain)) {
            reader.problem("domain", format!("{domain:?} is not a domain"), "for example contoso.example");
        }
        let v1 = issuer(reader, "issuer_v1");
        let v2 = issuer(reader, "issuer_v2");
        let standard = Self::standard(id?, domain, public_url);
        Some(Self {
            issuer_v1: v1.unwrap_or(standard.issuer_v1),
            issuer_v2: v2.unwrap_or(standard.issuer_v2),
            ..standard
        })
    }
}

fn issuer(reader: &mut Reader<'_>, key: &'static str) -> Option<Arc<str>> {
    let text: String = reader.get(key)?;
    if let Err(broken) = rules::issuer(&text) {
        reader.problem(key, broken.message, "an https URL");
        return None;
    }
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Problems};

    fn problems(second: &str) -> Vec<String> {
        let text = format!(
            "[[tenant]]\nid = \"11111111-1111-1111-1111-111111111111\"\nissuer_v2 = \"https://sts.example/a\"\n\
             [[tenant]]\nid = \"22222222-2222-2222-2222-222222222222\"\n{second}"
        );
        let problems = Problems::default();
        let mut root = Document::parse("f.toml", &text, &problems).reader(&problems);
        TenantEntry::read_all(root.tables("tenant"), "https://sts.example");
        root.finish();
        problems.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_two_tenants_share_an_issuer() {
        assert!(problems("issuer_v2 = \"https://sts.example/b\"\n").is_empty());
        for key in ["issuer_v1", "issuer_v2"] {
            let found = problems(&format!("{key} = \"https://sts.example/a\"\n"));
            assert!(found.len() == 1 && found[0].contains("another tenant's"), "{found:?}");
        }
    }
}
