//! Which credential fits: `find` serves, `explain` tells why each did or did not. Both run the same comparison.

use super::credential::{Comparison, Credential, Identity, Presented};
use super::refusal::Refusal;
use super::tenant::Tenant;
use super::verify::{Claimed, Verified};

/// A verified token that fits a credential of an identity. Comes only from [`find`].
#[derive(Debug, Clone, Copy)]
pub struct Match<'d, 'v> {
    tenant: &'d Tenant,
    identity: &'d Identity,
    credential: &'d Credential,
    claims: &'v Claimed<'v>,
}

impl<'d, 'v> Match<'d, 'v> {
    /// The tenant of the identity.
    pub fn tenant(&self) -> &'d Tenant {
        self.tenant
    }

    /// Whom the token will be for.
    pub fn identity(&self) -> &'d Identity {
        self.identity
    }

    /// What vouches for it.
    pub fn credential(&self) -> &'d Credential {
        self.credential
    }

    /// What has been matched.
    pub fn claims(&self) -> &'v Claimed<'v> {
        self.claims
    }
}

/// The first credential, in the order of the record, that fits in issuer, subject and audience.
pub fn find<'d, 'v>(
    tenant: &'d Tenant,
    identity: &'d Identity,
    verified: &'v Verified<'v>,
) -> Result<Match<'d, 'v>, Refusal> {
    let claims = verified.claims();
    let credential = fitting(identity, claims)?;
    Ok(Match { tenant, identity, credential, claims })
}

/// The credential that [`find`] finds once the claims are facts.
pub fn fitting<'d>(identity: &'d Identity, claims: &Claimed<'_>) -> Result<&'d Credential, Refusal> {
    fitting_presented(identity, presented(claims), claims.audiences())
}

/// The same for what was presented once, of which only the texts are left. `audiences` are all that there were.
pub fn fitting_presented<'d>(
    identity: &'d Identity,
    presented: Presented<'_>,
    audiences: &[String],
) -> Result<&'d Credential, Refusal> {
    match fit(&identity.credentials, presented) {
        Fit::Credential(credential) => Ok(credential),
        Fit::SubjectOnly => Err(Refusal::AudienceUnmatched(audiences.join(", "))),
        Fit::None => Err(Refusal::SubjectUnmatched(presented.subject.to_owned())),
    }
}

/// The credential in observe mode that would fit if it counted. It vouches for nothing: no [`Match`] comes of it.
pub fn observed<'d>(identity: &'d Identity, claims: &Claimed<'_>) -> Option<&'d Credential> {
    let mut compared = explain(identity, presented(claims));
    compared.find_map(|(credential, held)| held.would_match().then_some(credential))
}

fn presented<'v>(claims: &Claimed<'v>) -> Presented<'v> {
    Presented { issuer: claims.issuer(), subject: claims.subject(), audiences: claims.matchable_audiences() }
}

/// Every credential with its comparison, in the order of the record. The one that serves is the first that matches.
pub fn explain<'d>(
    identity: &'d Identity,
    presented: Presented<'_>,
) -> impl Iterator<Item = (&'d Credential, Comparison)> {
    identity.credentials.iter().map(move |credential| (credential, credential.compare(presented)))
}

enum Fit<'d> {
    Credential(&'d Credential),
    SubjectOnly,
    None,
}

fn fit<'d>(credentials: &'d [Credential], presented: Presented<'_>) -> Fit<'d> {
    let mut best = Fit::None;
    for credential in credentials {
        let comparison = credential.compare(presented);
        if comparison.matches() {
            return Fit::Credential(credential);
        }
        if comparison.names_subject() {
            best = Fit::SubjectOnly;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::credential::CredentialState;
    use super::*;

    fn credential(name: usize, issuer: &str, subject: &str, audience: &str) -> Credential {
        Credential {
            name: format!("c{name}"),
            issuer: issuer.into(),
            subject: subject.into(),
            audience: audience.into(),
            state: CredentialState::Enabled,
            jti_once: false,
            max_token_lifetime: None,
        }
    }

    fn fits(credentials: &[Credential], issuer: &str, subject: &str, audience: &str) -> Option<String> {
        let audiences = [audience.to_owned()];
        match fit(credentials, Presented { issuer, subject, audiences: &audiences }) {
            Fit::Credential(found) => Some(found.name.clone()),
            Fit::SubjectOnly | Fit::None => None,
        }
    }

    /// Any other string, near ones included: one byte changed, dropped or added, case, white space.
    fn altered(original: &str) -> impl Strategy<Value = String> + use<> {
        let text = original.to_owned();
        let spellings: Vec<String> = vec![
            text.to_uppercase(),
            text.to_lowercase(),
            format!("{text}/"),
            format!(" {text}"),
            format!("{text}\n"),
            format!("{text}{text}"),
            text.replace('a', "\u{430}"),
            text.replace(':', "%3A"),
            "*".to_owned(),
            String::new(),
        ];
        let bytes = text.clone().into_bytes();
        let changed = (0..bytes.len(), 1_u8..=127).prop_map(move |(at, with)| {
            let mut changed = bytes.clone();
            changed[at] ^= with;
            String::from_utf8_lossy(&changed).into_owned()
        });
        let shorter = text.clone();
        let dropped = (0..text.len()).prop_map(move |at| {
            let mut dropped = shorter.clone();
            dropped.remove(at);
            dropped
        });
        let original = original.to_owned();
        prop_oneof![proptest::sample::select(spellings), changed, dropped, any::<String>()]
            .prop_filter("must differ", move |other| *other != original)
    }

    const ISSUER: &str = "https://token.actions.githubusercontent.com";
    const SUBJECT: &str = "repo:my--org/payments-service:ref:refs/heads/main";
    const AUDIENCE: &str = "api://AzureADTokenExchange";

    #[test]
    fn a_disabled_credential_is_as_good_as_absent() {
        for state in [CredentialState::Disabled, CredentialState::IssuerDisabled, CredentialState::Observed] {
            let off = Credential { state, ..credential(0, ISSUER, SUBJECT, AUDIENCE) };
            assert_eq!(fits(&[off], ISSUER, SUBJECT, AUDIENCE), None);
        }
    }

    proptest! {
        #[test]
        fn any_change_of_any_byte_never_matches(
            issuer in altered(ISSUER), subject in altered(SUBJECT), audience in altered(AUDIENCE),
        ) {
            let one = [credential(0, ISSUER, SUBJECT, AUDIENCE)];
            prop_assert!(fits(&one, ISSUER, SUBJECT, AUDIENCE).is_some());
            prop_assert_eq!(fits(&one, &issuer, SUBJECT, AUDIENCE), None);
            prop_assert_eq!(fits(&one, ISSUER, &subject, AUDIENCE), None);
            prop_assert_eq!(fits(&one, ISSUER, SUBJECT, &audience), None);
        }

        #[test]
        fn the_order_of_credentials_never_matters(
            pairs in proptest::collection::hash_set(("[ab]", "[ab]", "[ab]"), 1..8),
            presented in ("[ab]", "[ab]", "[ab]"),
            seed in any::<u64>(),
        ) {
            // (issuer, subject) is unique in an identity, so at most one credential can fit.
            let mut seen = std::collections::HashSet::new();
            let list: Vec<Credential> = pairs
                .iter()
                .filter(|(i, s, _)| seen.insert((i.clone(), s.clone())))
                .enumerate()
                .map(|(n, (i, s, a))| credential(n, i, s, a))
                .collect();
            let mut shuffled = list.clone();
            shuffled.sort_by_key(|c| seed.wrapping_mul(31).wrapping_add(c.name.bytes().map(u64::from).sum::<u64>()) % 7);
            shuffled.reverse();
            let (i, s, a) = &presented;
            prop_assert_eq!(fits(&list, i, s, a), fits(&shuffled, i, s, a));
        }

        #[test]
        fn find_and_explain_always_agree(
            records in proptest::collection::vec(("[ab]", "[ab]", "[ab]", 0..4_u8), 0..20),
            presented in ("[ab]", "[ab]", "[ab]"),
        ) {
            let credentials: Vec<Credential> = records
                .iter()
                .enumerate()
                .map(|(n, (i, s, a, state))| Credential {
                    state: [
                        CredentialState::Enabled,
                        CredentialState::Observed,
                        CredentialState::Disabled,
                        CredentialState::IssuerDisabled,
                    ][*state as usize],
                    ..credential(n, i, s, a)
                })
                .collect();
            let identity = Identity {
                name: "id".into(),
                client_id: super::super::ids::Guid::from_random([1; 16]),
                principal_id: super::super::ids::Guid::from_random([2; 16]),
                resource_id: None,
                kind: super::super::credential::IdentityKind::Application,
                enabled: true,
                location: None,
                tags: Default::default(),
                credentials,
            };
            let (i, s, a) = &presented;
            let audiences = [a.clone()];
            let told = explain(&identity, Presented { issuer: i, subject: s, audiences: &audiences })
                .find(|(_, comparison)| comparison.matches())
                .map(|(credential, _)| credential.name.clone());
            prop_assert_eq!(fits(&identity.credentials, i, s, a), told);
        }
    }
}
