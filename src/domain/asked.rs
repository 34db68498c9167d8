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

    /// How the identity was named, for the record: by the client id, else by whichever audience it may be.
    pub fn name(&self) -> Cow<'_, str> {
        self.client.as_deref().map_or_else(|| self.audiences.join(", ").into(), Cow::Borrowed)
    }

    /// Finds the identity, and what is asked for it. Whether that resource exists is not looked at here: strangers may
    /// not learn it.
    pub fn resolve<'a, 'd>(
        &'a self,
        tenant: &'d Tenant,
        tenant_as_asked: &str,
    ) -> Result<Resolved<'a, 'd>, Refusal> {
        let mut naming =
            self.audiences.iter().filter_map(|audience| Some((audience.as_str(), tenant.named(audience)?)));
        let (first, second) = (naming.next(), naming.next());
        if second.is_some() {
            return Err(Refusal::Malformed("two audiences name identities, and a token is for one"));
        }
        let (name, identity) = match (&self.client, first) {
            (Some(client), _) => (client.as_str(), tenant.identity(client, tenant_as_asked)?),
            (None, Some((name, identity))) => (name, identity.in_use(name)?),
            (None, None) => {
                let (client, tenant) = (self.name().into_owned(), tenant_as_asked.to_owned());
                return Err(Refusal::ClientUnknown { client, tenant });
            }
        };
        let rest = self.remaining(tenant, identity)?;
        let target = match (&self.target, rest) {
            (Some(target), None) => Cow::Borrowed(target),
            (Some(target), Some(other)) if *target == other => Cow::Borrowed(target),
            (Some(_), Some(_)) => {
                return Err(Refusal::Malformed("an audience names neither the identity nor the resource"));
            }
            (None, Some(target)) => Cow::Owned(target),
            (None, None) => return Err(Refusal::MissingParameter("resource")),
        };
        Ok(Resolved { name, identity, target })
    }

    /// The one audience that does not name the identity, if there is one.
    fn remaining(&self, tenant: &Tenant, identity: &Identity) -> Result<Option<Target>, Refusal> {
        let names_it = |audience: &str| {
            tenant.named(audience).is_some_and(|named| named.client_id == identity.client_id)
        };
        let mut rest = self.audiences.iter().filter(|audience| !names_it(audience));
        match (rest.next(), rest.next()) {
            (None, _) => Ok(None),
            (Some(one), None) => match Target::from_resource(one) {
                Some(target) => Ok(Some(target)),
                None => Err(Refusal::ResourceForm(one.clone())),
            },
            (Some(_), Some(_)) => {
                Err(Refusal::Malformed("two audiences name resources, and a token is for one"))
            }
        }
    }
}

/// Whom a request is for, and what for.
#[derive(Debug)]
pub struct Resolved<'a, 'd> {
    /// Enabled.
    pub identity: &'d Identity,
    /// How the caller named it: what answers may repeat.
    pub name: &'a str,
    /// The resource; it may not exist.
    pub target: Cow<'a, Target>,
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

    const OFF_PLACE: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourcegroups/rg/providers/\
        Microsoft.ManagedIdentity/userAssignedIdentities/id-off";

    fn tenant() -> Tenant {
        let mut tenant = Tenant::new(Guid::from_random([1; 16]), None, ("i1".into(), "i2".into()));
        for (client, place) in [(DEPLOY, Some(PLACE)), (OTHER, None), (OFF, Some(OFF_PLACE))] {
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
        let resolved = asked.resolve(&tenant, "t")?;
        Ok((resolved.identity.name.clone(), resolved.target.audience().to_string()))
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
        // Said twice, the same.
        assert_eq!(found(Some(DEPLOY), Some("api://x"), &["api://x", DEPLOY]), deploy("api://x"));
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
        for (target, audiences) in [
            (None, &["api://x", "api://y"][..]),
            (Some("api://x"), &["api://y"]),
            (Some("api://x"), &["api://x", "api://y"]),
            (Some("api://x"), &[OTHER]),
        ] {
            assert!(
                matches!(found(Some(DEPLOY), target, audiences), Err(Refusal::Malformed(_))),
                "{audiences:?}"
            );
        }
        assert_eq!(found(Some(DEPLOY), None, &[DEPLOY]), Err(Refusal::MissingParameter("resource")));
        // By the name that was presented, which may not be its client id.
        for (client, audiences) in [(Some(OFF), &[][..]), (None, &[OFF]), (None, &[OFF_PLACE])] {
            let off = found(client, Some("api://x"), audiences);
            let name = client.unwrap_or_else(|| audiences[0]);
            assert_eq!(off, Err(Refusal::ClientDisabled(name.to_owned())));
        }
    }
}
