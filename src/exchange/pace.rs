//! How often each identity gets tokens.
//!
//! A table for the identities of one snapshot, which is never changed: a request finds its identity in it without a lock. The
//! next snapshot's table takes over the buckets of those that stay, so that a reload gives nobody a full one, and who is
//! gone is forgotten with the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::directory::Directory;
use crate::domain::ids::Guid;
use crate::net::{Bucket, Quota};

/// What is left of the quotas of a directory's identities. Without a limit it is empty.
#[derive(Debug, Default)]
pub struct Pace {
    quota: Option<Quota>,
    /// By tenant and client id.
    buckets: HashMap<(Guid, Guid), Arc<Bucket>>,
}

impl Pace {
    /// Full buckets for all.
    pub fn new(quota: Option<Quota>, directory: &Directory) -> Self {
        Self { quota, ..Self::default() }.renewed(directory)
    }

    /// The same buckets for the identities of another directory, and full ones for those that are new.
    pub fn renewed(&self, directory: &Directory) -> Self {
        let Some(quota) = self.quota else { return Self::default() };
        let identities = directory
            .tenants()
            .flat_map(|tenant| tenant.identities().map(|identity| (tenant.id, identity.client_id)));
        let bucket = |key| self.buckets.get(&key).cloned().unwrap_or_else(|| Arc::new(Bucket::new(quota)));
        Self { quota: self.quota, buckets: identities.map(|key| (key, bucket(key))).collect() }
    }

    /// Counts a token.
    ///
    /// # Errors
    /// When it is one too many: whole seconds after which to try again, 1 to 60.
    pub fn take(&self, tenant: Guid, client: Guid) -> Result<(), u32> {
        self.buckets.get(&(tenant, client)).map_or(Ok(()), |bucket| bucket.take())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use super::*;
    use crate::domain::credential::{Identity, IdentityKind};
    use crate::domain::tenant::Tenant;

    const BURST: u32 = 3;

    fn guid(number: u8) -> Guid {
        Guid::from_random([number; 16])
    }

    /// Tenants with identities.
    fn directory(tenants: &[(u8, &[u8])]) -> Directory {
        let tenant = |(id, identities): &(u8, &[u8])| {
            let mut tenant =
                Tenant::new(guid(*id), None, (format!("{id}/1").into(), format!("{id}/2").into()));
            for number in *identities {
                tenant.add_identity(Arc::new(Identity {
                    name: number.to_string(),
                    client_id: guid(*number),
                    principal_id: guid(*number),
                    resource_id: None,
                    kind: IdentityKind::Application,
                    enabled: true,
                    location: None,
                    tags: BTreeMap::new(),
                    credentials: Vec::new(),
                }));
            }
            tenant
        };
        Directory::new(tenants.iter().map(tenant).collect(), Vec::new())
    }

    fn pace(tenants: &[(u8, &[u8])]) -> Pace {
        let quota = Quota::per_hour(NonZeroU32::MIN).allow_burst(NonZeroU32::new(BURST).unwrap());
        Pace::new(Some(quota), &directory(tenants))
    }

    /// How many an identity may have now; then it may have none.
    fn left(pace: &Pace, tenant: u8, client: u8) -> u32 {
        let mut count = 0;
        while pace.take(guid(tenant), guid(client)).is_ok() {
            count += 1;
        }
        count
    }

    #[test]
    fn each_identity_of_each_tenant_has_a_quota_of_its_own() {
        let pace = pace(&[(1, &[10, 11]), (2, &[10])]);
        for (tenant, client) in [(1, 10), (1, 11), (2, 10)] {
            assert_eq!(left(&pace, tenant, client), BURST);
            assert_eq!(pace.take(guid(tenant), guid(client)), Err(60));
        }
    }

    #[test]
    fn who_stays_keeps_what_is_left_and_who_is_gone_is_forgotten() {
        let before = pace(&[(1, &[10, 11])]);
        before.take(guid(1), guid(10)).unwrap();
        let after = before.renewed(&directory(&[(1, &[10, 12])]));
        assert_eq!(after.buckets.len(), 2);
        assert_eq!(left(&after, 1, 12), BURST);
        // A request that still sees the snapshot before takes from the same.
        before.take(guid(1), guid(10)).unwrap();
        assert_eq!(left(&after, 1, 10), BURST - 2);
        // A thousand reloads leave as many as there are.
        let mut pace = after;
        for _ in 0..1_000 {
            pace = pace.renewed(&directory(&[(1, &[10, 13])]));
        }
        assert_eq!((pace.buckets.len(), left(&pace, 1, 10)), (2, 0));
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let pace = Pace::new(None, &directory(&[(1, &[10])]));
        assert!(pace.buckets.is_empty());
        assert!((0..1_000).all(|_| pace.take(guid(1), guid(10)).is_ok()));
        assert!(pace.renewed(&directory(&[(1, &[10, 11])])).buckets.is_empty());
    }
}
