//! What somebody has written down of a token: whom it must get something by, or why it must get nothing.

use std::collections::HashMap;
use std::fmt::{self, Display};

use super::credential::{Credential, CredentialState, Identity};
use super::directory::Directory;
use super::ids::Guid;
use super::nearmiss::{Cause, NearMiss};
use super::refusal::{Reason, Refusal};
use super::resource::Target;
use super::tenant::Tenant;
use super::verdict::{Claims, Question};

/// A token, and what must come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The identity that is asked for, by name or client id.
    pub identity: String,
    /// What the token says.
    pub claims: Claims,
    /// What is asked for; without it, roles are not looked at.
    pub target: Option<Target>,
    /// What must come of it.
    pub outcome: Outcome,
}

/// What must come of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The credential of this name grants.
    Allow(String),
    /// It is refused for this.
    Deny(Denial),
}

/// Why a token is refused, by one of the names that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// By what was found to be the cause.
    Cause(Cause),
    /// By the number after `AADSTS`.
    Code(u32),
    /// By the name in metrics and the record.
    Reason(Reason),
}

/// The refusals that records and claims alone can lead to: all others are of the request, the signature, the times or the
/// broker's state.
const REASONS: [Reason; 13] = [
    Reason::ClientNil,
    Reason::ClientUnknown,
    Reason::ClientDisabled,
    Reason::AssertionMalformed,
    Reason::ClaimAbsent,
    Reason::OwnIssuer,
    Reason::NoCredential,
    Reason::IssuerUnnamed,
    Reason::SubjectAbsent,
    Reason::SubjectUnmatched,
    Reason::AudienceUnmatched,
    Reason::ResourceUnknown,
    Reason::NotAssigned,
];

/// The causes of other refusals.
const ELSEWHERE: [Cause; 8] = [
    Cause::IUnreach,
    Cause::IDocMismatch,
    Cause::TExpired,
    Cause::TFuture,
    Cause::TLong,
    Cause::TKid,
    Cause::TSig,
    Cause::TAlg,
];

fn causes() -> impl Iterator<Item = Cause> {
    Cause::ALL.into_iter().filter(|cause| !ELSEWHERE.contains(cause))
}

impl Denial {
    /// By a cause such as `S-GH-BRANCH`, a code such as `AADSTS700213` or `700213`, or a reason such as `subject_unmatched`.
    pub fn from_name(name: &str) -> Option<Self> {
        let cause = causes().find(|cause| cause.id() == name).map(Self::Cause);
        let reason = || REASONS.into_iter().find(|reason| reason.label() == name).map(Self::Reason);
        let digits = name.strip_prefix("AADSTS").unwrap_or(name);
        let code = || REASONS.iter().map(|reason| reason.code()).find(|code| code.to_string() == digits);
        cause.or_else(reason).or_else(|| code().map(Self::Code))
    }

    /// Every name there is.
    pub fn names() -> String {
        let codes = REASONS.map(|reason| format!("AADSTS{} or {}", reason.code(), reason.label()));
        let causes: Vec<_> = causes().map(Cause::id).collect();
        format!("{}; {}", codes.join(", "), causes.join(", "))
    }

    fn is(self, reason: Reason, cause: impl FnOnce() -> Option<Cause>) -> bool {
        match self {
            Self::Cause(expected) => cause() == Some(expected),
            Self::Code(code) => reason.code() == code,
            Self::Reason(expected) => reason == expected,
        }
    }
}

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Whether it is the identity that is wrong, rather than what comes of the token.
    pub identity: bool,
    /// What happened instead.
    pub message: String,
    /// What may be the matter; may be empty.
    pub hint: String,
    /// What is switched off, where that may be why: it holds back no change then.
    pub switched_off: Option<Switch>,
}

/// Something that is switched off by `enabled = false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// By name.
    Identity(String),
    /// By the names of identity and credential.
    Credential(String, String),
    /// By its URL.
    Issuer(String),
}

impl Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => write!(f, "identity {name:?}"),
            Self::Credential(identity, name) => write!(f, "credential {name:?} of {identity:?}"),
            Self::Issuer(url) => write!(f, "issuer {url:?}"),
        }
    }
}

impl Switch {
    /// What switches an identity off, or one of those of its credentials that are looked at.
    fn off(identity: &Identity, looked_at: impl Fn(&Credential) -> bool) -> Option<Self> {
        if !identity.enabled {
            return Some(Self::Identity(identity.name.clone()));
        }
        let mut credentials = identity.credentials.iter().filter(|credential| looked_at(credential));
        credentials.find_map(|credential| match credential.state {
            CredentialState::Disabled => {
                Some(Self::Credential(identity.name.clone(), credential.name.clone()))
            }
            CredentialState::IssuerDisabled => Some(Self::Issuer(credential.issuer.to_string())),
            CredentialState::Enabled | CredentialState::Observed => None,
        })
    }
}

/// Holds expectations against one directory.
pub struct Judge<'d> {
    directory: &'d Directory,
    /// Client ids by tenant and name, which is unique in a resource group only.
    names: HashMap<(Guid, &'d str), Vec<Guid>>,
}

impl<'d> Judge<'d> {
    /// Looks every name up once.
    pub fn new(directory: &'d Directory) -> Self {
        let mut names: HashMap<_, Vec<Guid>> = HashMap::new();
        for tenant in directory.tenants() {
            for identity in tenant.identities() {
                names.entry((tenant.id, identity.name.as_str())).or_default().push(identity.client_id);
            }
        }
        Self { directory, names }
    }

    /// The client id of the identity that an expectation names, whether or not there is one of this id.
    pub fn client(&self, tenant: Guid, name: &str) -> Result<Guid, Unmet> {
        if let Some(client) = Guid::parse(name) {
            return Ok(client);
        }
        let found = self.names.get(&(tenant, name)).map(Vec::as_slice).unwrap_or_default();
        let (message, hint) = match found {
            [client] => return Ok(*client),
            [] => (format!("no identity of the tenant is called {name:?}"), "by its name or client id"),
            _ => (format!("{} identities are called {name:?}", found.len()), "name one by its client id"),
        };
        Err(Unmet { identity: true, message, hint: hint.to_owned(), switched_off: None })
    }

    /// Whether an expectation holds in its tenant.
    pub fn check(&self, tenant: &Tenant, expectation: &Expectation) -> Result<(), Unmet> {
        let Expectation { identity, claims, target, outcome } = expectation;
        let client = self.client(tenant.id, identity)?;
        let (id, asked) = (tenant.id.to_string(), client.to_string());
        let question = Question { tenant: &id, client: &asked, claims, target: target.as_ref() };
        let verdict = question.verdict(self.directory);
        let granted = verdict.is_ok();
        let (message, hint) = match (verdict, outcome) {
            (Ok(credential), Outcome::Allow(name)) if credential.name == *name => return Ok(()),
            (Ok(credential), Outcome::Allow(name)) => {
                (format!("expected {name:?} to grant, but {:?} does", credential.name), String::new())
            }
            (Ok(credential), Outcome::Deny(_)) => {
                (format!("expected a refusal, but {:?} grants", credential.name), String::new())
            }
            (Err(refusal), outcome) => {
                let near = || question.near(self.directory, refusal.reason());
                match outcome {
                    Outcome::Deny(denial)
                        if denial.is(refusal.reason(), || near().map(|near| near.cause)) =>
                    {
                        return Ok(());
                    }
                    _ => refused(&refusal, near().as_ref()),
                }
            }
        };
        let switched_off = match outcome {
            // No switch makes a grant, so none is held back by telling of it.
            Outcome::Deny(_) if granted => None,
            _ => switched_off((tenant, client), expectation),
        };
        Err(Unmet { identity: false, message, hint, switched_off })
    }
}

/// What is switched off and may be why an expectation does not hold: of a grant the credential that is named; of a refusal, which
/// is one all the same, whatever may have changed its reason.
fn switched_off((tenant, client): (&Tenant, Guid), expectation: &Expectation) -> Option<Switch> {
    let Expectation { claims, outcome, .. } = expectation;
    let asked = tenant.client(client).and_then(|identity| match outcome {
        Outcome::Allow(name) => Switch::off(identity, |credential| credential.name == *name),
        Outcome::Deny(_) => Switch::off(identity, |_| true),
    });
    // The one cause that is about other identities.
    let elsewhere = || {
        let subject =
            claims.subject().filter(|_| *outcome == Outcome::Deny(Denial::Cause(Cause::TWrongClient)))?;
        let issuer = claims.issuer();
        let fits = |one: &Credential| *one.issuer == *issuer && one.subject == subject;
        tenant.vouched_for(issuer, &subject).find_map(|identity| Switch::off(identity, fits))
    };
    asked.or_else(elsewhere)
}

fn refused(refusal: &Refusal, near: Option<&NearMiss<'_>>) -> (String, String) {
    let reason = refusal.reason();
    let cause = near.map(|near| {
        let part = near.part.map(|part| format!(" ({part})")).unwrap_or_default();
        format!(", {}{part}", near.cause.id())
    });
    let hint = match (near, reason) {
        (Some(near), _) => near.cause.hint(),
        (None, Reason::NotAssigned) => "the identity has no role at the scope of the resource or above",
        (None, Reason::ResourceUnknown) => "no resource of the tenant has this identifier URI or client id",
        _ => "",
    };
    let cause = cause.unwrap_or_default();
    (format!("it is refused: AADSTS{} {}{cause}", reason.code(), reason.label()), hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_has_three_kinds_of_names() {
        let named = Denial::from_name;
        assert_eq!(named("S-GH-BRANCH"), Some(Denial::Cause(Cause::SGhBranch)));
        assert_eq!(named("subject_unmatched"), Some(Denial::Reason(Reason::SubjectUnmatched)));
        assert_eq!(
            (named("700213"), named("AADSTS700213")),
            (Some(Denial::Code(700_213)), Some(Denial::Code(700_213)))
        );
        // Misspelled, and what claims never lead to.
        for other in
            ["S-GH-BRANHC", "s-gh-branch", "", "0", "AADSTS", "0700213", "700027", "signature", "T-EXPIRED"]
        {
            assert_eq!(named(other), None, "{other}");
        }
        let names = Denial::names();
        for name in ["S-GH-BRANCH", "C-OBSERVED", "AADSTS700213 or subject_unmatched", "not_assigned"] {
            assert!(names.contains(name), "{names}");
        }
        for name in names.split([' ', ',', ';']).filter(|name| !["", "or"].contains(name)) {
            assert!(named(name).is_some(), "{name}");
        }
    }
}
