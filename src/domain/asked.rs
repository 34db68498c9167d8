//! Whom a request asks for, and what for, as far as it can be told before the tenant's records are looked at.

use std::borrow::Cow;

use super::credential::Identity;
use super::refusal::Refusal;
use super::resource::Target;
use super::tenant::Tenant;

/// What a request names. Entra's clients name both by parameters of their own; those of RFC 8693 may name either by an
/// `audience`, and only the tenant's records tell which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The identity by its client id, as presented.
    pub client: Option<String>,
    /// The resource.
    pub target: Option<Target>,
    /// What names the identity or the resource.
    pub audiences: Vec<String>,
}

impl Asked {
    /// Both by parameters of their own.
    pub fn plainly(client: String, target: Target) -> Self {
        Self { client: Some(client), target: Some(target), audiences: Vec::new() }
    }

    /// Finds the identity, and what is asked for it. Whether that resource exists is not looked at here: strangers may
    /// not learn it.
    pub fn resolve<'a, 'd>(
        &'a self,
        tenant: &'d Tenant,
        tenant_as_asked: &str,
    ) -> Result<(&'d Identity, Cow<'a, Target>), Refusal> {
        let naming: Vec<&Identity> =
            self.audiences.iter().filter_map(|audience| tenant.named(audience)).collect();
        if naming.len() > 1 {
            return Err(Refusal::Malformed("two audiences name identities, and a token is for one"));
        }
        let identity = match (&self.client, naming.first()) {
            (Some(client), _) => tenant.identity(client, tenant_as_asked),
            (None, Some(identity)) => identity.in_use(),
            (None, None) => Err(Refusal::ClientUnknown {
                client: self.audiences.join(", "),
                tenant: tenant_as_asked.to_owned(),
            }),
        }?;
        let target = match &self.target {
            Some(target) => Cow::Borrowed(target),
            None => Cow::Owned(self.remaining(tenant, identity)?),
        };
        Ok((identity, target))
    }

    /// The audience that does not name the identity.
    fn remaining(&self, tenant: &Tenant, identity: &Identity) -> Result<Target, Refusal> {
        let names_it = |audience: &str| {
            tenant.named(audience).is_some_and(|named| named.client_id == identity.client_id)
        };
        let mut rest = self.audiences.iter().filter(|audience| !names_it(audience));
        match (rest.next(), rest.next()) {
            (Some(one), None) => Target::from_resource(one).ok_or_else(|| Refusal::ResourceForm(one.clone())),
            (Some(_), Some(_)) => {
                Err(Refusal::Malformed("two audiences name resources, and a token is for one"))
            }
            (None, _) => Err(Refusal::MissingParameter("resource")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::credential::IdentityKind;
    use super::super::ids::Guid;
    use super::*;

    const DEPLOY: &str = "aaaaaaaa-0001-4a00-8000-000000000001";
    const OTHER: &str = "aaaaaaaa-0002-4a00-8000-000000000002";
    const OFF: &str = "aaaaaaaa-0003-4a00-8000-000000000003";
    const PLACE: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourcegroups/rg/providers/\
        Microsoft.ManagedIdentity/userAssignedIdentities/id-deploy";

    fn tenant() -> Tenant {
        let mut tenant = Tenant::new(Guid::from_random([1; 16]), None, ("i1".into(), "i2".into()));
        for (client, place) in [(DEPLOY, Some(PLACE)), (OTHER, None), (OFF, None)] {
            tenant.add_identity(Arc::new(Identity {
                name: client.to_owned(),
                client_id: Guid::parse(client).unwrap(),
                principal_id: Guid::from_random([2; 16]),
                resource_id: place.map(Into::into),
                kind: IdentityKind::Application,
                enabled: client != OFF,
                location: None,
                tags: BTreeMap::new(),
                credentials: Vec::new(),
            }));
        }
        tenant
    }

    /// The identity's name and the resource that are found.
    fn found(
        client: Option<&str>,
        target: Option<&str>,
        audiences: &[&str],
    ) -> Result<(String, String), Refusal> {
        let asked = Asked {
            client: client.map(str::to_owned),
            target: target.and_then(Target::from_resource),
            audiences: audiences.iter().map(ToString::to_string).collect(),
        };
        let tenant = tenant();
        let (identity, target) = asked.resolve(&tenant, "t")?;
        Ok((identity.name.clone(), target.audience().to_string()))
    }

    #[test]
    fn an_audience_names_the_identity_or_the_resource() {
        let deploy = |resource: &str| Ok((DEPLOY.to_owned(), resource.to_owned()));
        assert_eq!(found(Some(DEPLOY), Some("api://x"), &[]), deploy("api://x"));
        assert_eq!(found(None, Some("api://x"), &[DEPLOY]), deploy("api://x"));
        assert_eq!(found(None, Some("api://x"), &[&DEPLOY.to_uppercase()]), deploy("api://x"));
        // ARM's ids have no case.
        assert_eq!(found(None, Some("api://x"), &[PLACE]), deploy("api://x"));
        assert_eq!(found(None, Some("api://x"), &[&PLACE.replace("groups", "Groups")]), deploy("api://x"));
        for pair in [[DEPLOY, "api://x"], ["api://x", DEPLOY]] {
            assert_eq!(found(None, None, &pair), deploy("api://x"));
            assert_eq!(found(Some(DEPLOY), None, &pair), deploy("api://x"));
        }
        assert_eq!(found(Some(DEPLOY), None, &["api://x"]), deploy("api://x"));
        // An identity may be an API, too.
        assert_eq!(found(Some(DEPLOY), None, &[OTHER]), deploy(OTHER));
        // What has a parameter of its own is not taken from an audience.
        assert_eq!(found(Some(DEPLOY), Some("api://x"), &["api://y"]), deploy("api://x"));
    }

    #[test]
    fn what_is_ambiguous_or_unknown_is_refused() {
        let unknown =
            |client: &str| Err(Refusal::ClientUnknown { client: client.to_owned(), tenant: "t".to_owned() });
        assert_eq!(found(None, Some("api://x"), &["api://y"]), unknown("api://y"));
        assert_eq!(found(None, None, &["api://x", "api://y"]), unknown("api://x, api://y"));
        assert_eq!(found(None, Some("api://x"), &[&format!("{PLACE}/x")]), unknown(&format!("{PLACE}/x")));
        assert_eq!(found(Some("api://x"), None, &[DEPLOY]), unknown("api://x"));
        for audiences in [[DEPLOY, OTHER], [DEPLOY, PLACE], [DEPLOY, DEPLOY]] {
            for client in [None, Some(DEPLOY)] {
                for target in [None, Some("api://x")] {
                    assert!(matches!(found(client, target, &audiences), Err(Refusal::Malformed(_))));
                }
            }
        }
        assert!(matches!(found(Some(DEPLOY), None, &["api://x", "api://y"]), Err(Refusal::Malformed(_))));
        assert_eq!(found(Some(DEPLOY), None, &[DEPLOY]), Err(Refusal::MissingParameter("resource")));
        for (client, audiences) in [(Some(OFF), &[][..]), (None, &[OFF][..])] {
            let off = found(client, Some("api://x"), audiences);
            assert_eq!(off, Err(Refusal::ClientDisabled(Guid::parse(OFF).unwrap())));
        }
    }
}
