//! Why a token fits no credential: the nearest one, which part differs, a cause by name. For operators alone; nothing of it
//! may reach a caller, since it tells what is configured.
//!
//! It decides nothing. [`super::matching`] has refused already, and the same comparison tells here what is equal; what is
//! not is held against the catalogue: how texts are misspelled (`class`), what platforms' subjects are made of
//! (`grammar`), and one rule for each known mistake (`rules`). Texts of more than 600 bytes are not looked into.

mod case;
mod cause;
mod class;
mod diff;
#[cfg(test)]
mod fixtures;
mod grammar;
mod ranking;
mod rules;

pub use case::{Case, Inquiry, Key, Said, compares, explains};
pub use cause::{Cause, Remedy};
pub use class::Class;
pub use diff::{Piece, pieces};
pub use grammar::repository;

use super::credential::{Credential, CredentialState, Identity};
use super::refusal::Reason;

/// Why a token fits nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss<'d> {
    /// The cause, by name.
    pub cause: Cause,
    /// The part that differs, in a word, such as `branch`.
    pub part: Option<&'static str>,
    /// The credentials of the identity, nearest first; none where it never came to comparing.
    pub ranked: Vec<Compared<'d>>,
    /// Another identity of the tenant, which the token fits or which the client id is the object id of.
    pub elsewhere: Option<&'d Identity>,
}

/// One credential held against what was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared<'d> {
    /// The credential.
    pub credential: &'d Credential,
    /// The issuers.
    pub issuer: Finding,
    /// The subjects.
    pub subject: Finding,
    /// The audience, and the nearest of those presented.
    pub audience: Finding,
}

/// How one field relates, and why it is not equal as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// How near it is.
    pub class: Class,
    /// The mistake, where it is a known one.
    pub cause: Option<Cause>,
    /// The part that differs, where it has a name.
    pub part: Option<&'static str>,
}

impl Finding {
    const EQUAL: Self = Self { class: Class::Equal, cause: None, part: None };
    const DIFFERENT: Self = Self { class: Class::Different, cause: None, part: None };

    const fn of(class: Class, cause: Cause) -> Self {
        Self { class, cause: Some(cause), part: None }
    }

    /// One part differs.
    const fn sibling(cause: Cause, part: &'static str) -> Self {
        Self { class: Class::Sibling, cause: Some(cause), part: Some(part) }
    }
}

impl<'d> Compared<'d> {
    /// The three fields by name, in the order in which they are checked.
    pub fn fields(&self) -> [(&'static str, Finding); 3] {
        [("issuer", self.issuer), ("subject", self.subject), ("audience", self.audience)]
    }

    fn is_equal(&self) -> bool {
        self.fields().iter().all(|(_, finding)| finding.class == Class::Equal)
    }

    fn counts(&self) -> bool {
        self.credential.state == CredentialState::Enabled
    }
}

/// A presented value beside a credential.
struct Pair<'a> {
    said: &'a Said,
    client: &'a str,
    credential: &'a Credential,
}

/// Looks into a refusal; `None` where there is nothing to say beyond its reason.
pub fn investigate<'d>(case: &Case<'d, '_>) -> Option<NearMiss<'d>> {
    let plain = |cause| Some(NearMiss { cause, part: None, ranked: Vec::new(), elsewhere: None });
    match case.reason {
        Reason::NoCredential
        | Reason::IssuerUnnamed
        | Reason::SubjectUnmatched
        | Reason::AudienceUnmatched => among_credentials(case),
        Reason::ClientUnknown => {
            let elsewhere = case.meant().or_else(|| case.elsewhere())?;
            plain(Cause::TWrongClient).map(|found| NearMiss { elsewhere: Some(elsewhere), ..found })
        }
        Reason::Time if case.said.expires.is_some_and(|expires| expires <= case.now) => {
            plain(Cause::TExpired)
        }
        Reason::Time => plain(Cause::TFuture),
        Reason::Lifetime => plain(Cause::TLong),
        Reason::KeyUnknown => plain(Cause::TKid),
        Reason::Signature => plain(Cause::TSig),
        Reason::AlgorithmRefused => plain(Cause::TAlg),
        Reason::AssertionMalformed | Reason::AssertionKind => plain(Cause::TFormat),
        Reason::IssuerUnavailable if case.said.other_document => plain(Cause::IDocMismatch),
        Reason::IssuerUnavailable => plain(Cause::IUnreach),
        _ => None,
    }
}

fn among_credentials<'d>(case: &Case<'d, '_>) -> Option<NearMiss<'d>> {
    let ranked = ranking::rank(case, case.identity?);
    let elsewhere = case.elsewhere();
    let (cause, part) = cause(case, ranked.first(), elsewhere.is_some());
    Some(NearMiss { cause, part, ranked, elsewhere })
}

/// The cause is that of the first field that is not equal, in the order of the checks.
fn cause(
    case: &Case<'_, '_>,
    nearest: Option<&Compared<'_>>,
    fits_elsewhere: bool,
) -> (Cause, Option<&'static str>) {
    match nearest {
        Some(equal) if equal.is_equal() => match equal.credential.state {
            CredentialState::IssuerDisabled => return (Cause::COffIssuer, None),
            CredentialState::Disabled => return (Cause::COff, None),
            CredentialState::Observed => return (Cause::CObserved, None),
            CredentialState::Enabled => {}
        },
        _ => {}
    }
    // Whatever is near now: this very token was good for this very client.
    if case.fitted() {
        return (Cause::TDup, None);
    }
    if fits_elsewhere {
        return (Cause::TWrongClient, None);
    }
    let Some(nearest) = nearest.filter(|nearest| nearest.counts() || case.reason != Reason::NoCredential)
    else {
        return (Cause::TNoFic, None);
    };
    let others = [Cause::IOther, Cause::SOther, Cause::AOther];
    let mut unequal = nearest.fields().into_iter().zip(others);
    let first = unequal.find(|((_, finding), _)| finding.class != Class::Equal);
    first
        .map_or((Cause::SOther, None), |((_, finding), other)| (finding.cause.unwrap_or(other), finding.part))
}
