//! Which credential is nearest: classes first, then characters, and those of the nearest three only.

use std::cmp::Reverse;

use super::super::credential::Identity;
use super::super::matching;
use super::class::Class;
use super::diff::{distance, shared};
use super::{Case, Cause, Compared, Finding, Pair, rules};

/// How many credentials are compared character by character.
const NEAREST: usize = 3;
/// Texts that are further apart are just different.
const FAR: usize = 48;
/// At most so many characters are a slip.
const SLIP: usize = 3;

/// All credentials of an identity, nearest first. Those that are equally near keep the order of the record.
pub(super) fn rank<'d>(case: &Case<'d, '_>, identity: &'d Identity) -> Vec<Compared<'d>> {
    let presented = case.presented();
    let mut found: Vec<Compared<'d>> = matching::explain(identity, presented)
        .map(|(credential, held)| {
            let pair = Pair { said: case.said, client: case.client, credential };
            let unless = |equal: bool, rule: fn(&Pair<'_>) -> Finding| {
                if equal { Finding::EQUAL } else { rule(&pair) }
            };
            Compared {
                credential,
                issuer: unless(held.issuer, rules::issuer),
                subject: unless(held.subject, rules::subject),
                audience: unless(held.audience, rules::audience),
            }
        })
        .collect();
    found.sort_by_cached_key(|one| (one.unequal(), one.weight(), Reverse(one.shared(case))));
    let near = found.len().min(NEAREST);
    for one in &mut found[..near] {
        one.look_for_slips(case);
    }
    found[..near].sort_by_cached_key(|one| (one.unequal(), one.weight(), one.distance(case)));
    found
}

impl Compared<'_> {
    /// Fields that are not equal; a credential that does not count has one more.
    fn unequal(&self) -> usize {
        let fields = self.fields();
        fields.iter().filter(|(_, finding)| finding.class != Class::Equal).count()
            + usize::from(!self.counts())
    }

    fn weight(&self) -> usize {
        // What is different for a known cause is nearer than what just is.
        let weight = |finding: Finding| {
            let unknown = finding.class == Class::Different && finding.cause.is_none();
            finding.class as usize + usize::from(unknown)
        };
        self.fields().into_iter().map(|(_, finding)| weight(finding)).sum()
    }

    fn texts<'a>(&'a self, case: &'a Case<'_, '_>) -> [(&'a str, &'a str); 2] {
        let Self { credential, .. } = self;
        [(&case.said.issuer, &*credential.issuer), (&case.said.subject, credential.subject.as_str())]
    }

    fn shared(&self, case: &Case<'_, '_>) -> usize {
        self.texts(case).iter().map(|(presented, configured)| shared(presented, configured)).sum()
    }

    fn distance(&self, case: &Case<'_, '_>) -> usize {
        let apart = |(presented, configured): (&str, &str)| distance(presented, configured, FAR);
        self.texts(case).into_iter().map(|texts| apart(texts).unwrap_or(FAR + 1)).sum()
    }

    /// Gives a name to what is different by a few characters only.
    fn look_for_slips(&mut self, case: &Case<'_, '_>) {
        let slip = |presented: &str, configured: &str| {
            let shorter = presented.chars().count().min(configured.chars().count());
            // In a short text a few characters are most of it.
            shorter > 2 * SLIP && distance(presented, configured, SLIP).is_some()
        };
        let [issuer, subject] = self.texts(case).map(|(presented, configured)| slip(presented, configured));
        let mut audiences = case.said.audiences.iter();
        let audience = audiences.any(|audience| slip(audience, &self.credential.audience));
        let fields = [
            (&mut self.issuer, issuer, Cause::ITypo),
            (&mut self.subject, subject, Cause::STypo),
            (&mut self.audience, audience, Cause::ATypo),
        ];
        for (field, slipped, cause) in fields {
            if slipped && field.class == Class::Different && field.cause.is_none() {
                field.cause = Some(cause);
            }
        }
    }
}
