//! The directory that a broker is given: how much there is of everything, and whom each credential trusts.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shape {
    /// 1 to 100000.
    pub(crate) identities: usize,
    /// Of each identity, 1 to 20.
    pub(crate) credentials: usize,
    /// 1 to 200, and no more than there are credentials, over which they are spread.
    pub(crate) issuers: usize,
    /// That each identity has at each resource, 0 to 200. Without any, the resources ask for none.
    pub(crate) roles: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { identities: 10, credentials: 1, issuers: 1, roles: 1 }
    }
}

impl Shape {
    /// The first thing that makes no sense.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { identities, credentials, issuers, roles } = *self;
        let bounds = [
            ("identities", identities, 1, 100_000),
            ("credentials", credentials, 1, 20),
            ("issuers", issuers, 1, 200),
            ("roles", roles, 0, 200),
        ];
        for (name, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Some(format!("directory.{name} is to be {least} to {most}"));
            }
        }
        let all = identities * credentials;
        (issuers > all).then(|| format!("directory.issuers: {issuers} issuers, but only {all} credentials"))
    }

    /// What request number so many is sent for: an identity, and one of its credentials. All have their turn.
    pub(crate) fn asked_for(&self, number: usize) -> (usize, usize) {
        (number % self.identities, number / self.identities % self.credentials)
    }

    /// The number of the issuer that this credential trusts: each issuer has as many credentials as any other, but one.
    pub(crate) fn issuer_of(&self, identity: usize, credential: usize) -> usize {
        (identity * self.credentials + credential) % self.issuers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Shape = Shape { identities: 100, credentials: 2, issuers: 50, roles: 3 };

    #[test]
    fn every_bound_is_kept_and_named() {
        assert_eq!((SOUND.fault(), Shape::default().fault()), (None, None));
        let least = Shape { identities: 1, credentials: 1, issuers: 1, roles: 0 };
        let most = Shape { identities: 100_000, credentials: 20, issuers: 200, roles: 200 };
        assert_eq!((least.fault(), most.fault()), (None, None));
        for (shape, fault) in [
            (Shape { identities: 0, ..SOUND }, "directory.identities is to be 1 to 100000"),
            (Shape { identities: 100_001, ..SOUND }, "directory.identities is to be 1 to 100000"),
            (Shape { credentials: 0, ..SOUND }, "directory.credentials is to be 1 to 20"),
            (Shape { credentials: 21, ..SOUND }, "directory.credentials is to be 1 to 20"),
            (Shape { issuers: 0, ..SOUND }, "directory.issuers is to be 1 to 200"),
            (Shape { issuers: 201, ..SOUND }, "directory.issuers is to be 1 to 200"),
            (Shape { roles: 201, ..SOUND }, "directory.roles is to be 0 to 200"),
            (Shape { identities: 24, ..SOUND }, "directory.issuers: 50 issuers, but only 48 credentials"),
        ] {
            assert_eq!(shape.fault().as_deref(), Some(fault), "{shape:?}");
        }
    }

    #[test]
    fn requests_are_spread_evenly_over_credentials_and_issuers() {
        for shape in [SOUND, Shape { issuers: 200, ..SOUND }, Shape { credentials: 20, issuers: 7, ..SOUND }]
        {
            let all = shape.identities * shape.credentials;
            let mut asked: Vec<_> = (0..all).map(|number| shape.asked_for(number)).collect();
            let mut by_issuer = vec![0; shape.issuers];
            for (identity, credential) in &asked {
                by_issuer[shape.issuer_of(*identity, *credential)] += 1;
            }
            let (least, most) = (by_issuer.iter().min().unwrap(), by_issuer.iter().max().unwrap());
            assert!(most - least <= 1, "{shape:?}: {by_issuer:?}");
            assert_eq!(shape.asked_for(all), asked[0], "{shape:?}");
            asked.sort_unstable();
            asked.dedup();
            assert_eq!(asked.len(), all, "{shape:?}");
        }
    }
}
