//! Finds identities by what nobody asks for them by: for explaining refusals.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::credential::Identity;
use super::ids::Guid;

/// Where to look. Made of records alone, so that nobody else can choose what collides.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// Digests of issuer and subject, and whose credential that is: sorted.
    vouched: Vec<(u64, Guid)>,
    /// Principal ids and client ids: sorted.
    principals: Vec<(Guid, Guid)>,
}

fn known_by(issuer: &str, subject: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (issuer, subject).hash(&mut hasher);
    hasher.finish()
}

impl Whereabouts {
    pub(super) fn of<'a>(identities: impl Iterator<Item = &'a Identity>) -> Self {
        let mut found = Self::default();
        for identity in identities {
            let client = identity.client_id;
            found.principals.push((identity.principal_id, client));
            let credentials = identity.credentials.iter();
            found.vouched.extend(credentials.map(|one| (known_by(&one.issuer, &one.subject), client)));
        }
        found.vouched.sort_unstable();
        found.vouched.dedup();
        found.principals.sort_unstable();
        found
    }

    /// Client ids of identities that may have a credential for this; few others among them.
    pub(super) fn vouched(&self, issuer: &str, subject: &str) -> impl Iterator<Item = Guid> {
        let digest = known_by(issuer, subject);
        let start = self.vouched.partition_point(|(other, _)| *other < digest);
        let same = self.vouched[start..].iter().take_while(move |(other, _)| *other == digest);
        same.map(|(_, client)| *client)
    }

    /// The client id of a principal.
    pub(super) fn principal(&self, principal: Guid) -> Option<Guid> {
        let at = self.principals.partition_point(|(other, _)| *other < principal);
        self.principals.get(at).filter(|(found, _)| *found == principal).map(|(_, client)| *client)
    }
}
