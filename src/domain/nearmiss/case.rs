//! What is looked into: a refused request, as far as it is known.

use std::sync::Arc;

use super::super::assertion::Hearsay;
use super::super::credential::{Identity, Presented};
use super::super::directory::Directory;
use super::super::ids::Guid;
use super::super::policy::IssuerPolicy;
use super::super::refusal::Reason;
use super::super::tenant::Tenant;

/// Longest text that a credential can be equal to, in bytes: 600 characters.
const LONGEST: usize = 2400;

/// What a token said, as far as it tells why it was refused. Texts that no credential can equal are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// The elements of `aud`; none when they are too long together.
    pub audiences: Vec<String>,
    /// `exp`.
    pub expires: Option<i64>,
    /// GitHub's `job_workflow_ref`, where it is known: the workflow's file, also of a reusable one.
    pub workflow: Option<String>,
    /// Whether the issuer's keys could not be had because its document names another issuer.
    pub other_document: bool,
}

impl From<Hearsay> for Said {
    fn from(said: Hearsay) -> Self {
        let fits = |text: &String| text.len() <= LONGEST;
        let text = |claim: Option<String>| claim.filter(fits).unwrap_or_default();
        let length: usize = said.audiences.iter().map(String::len).sum();
        Self {
            issuer: text(said.issuer),
            subject: text(said.subject),
            audiences: if length <= LONGEST { said.audiences } else { Vec::new() },
            expires: said.expires,
            workflow: said.workflow,
            other_document: false,
        }
    }
}

/// A refusal with everything that may explain it. `'d` is the directory's, `'a` the request's.
pub struct Case<'d, 'a> {
    /// The directory that decided.
    pub directory: &'d Directory,
    /// The tenant that was asked, if there is one.
    pub tenant: Option<&'d Tenant>,
    /// The identity that was asked for, if there is one.
    pub identity: Option<&'d Identity>,
    /// The client as it was asked for.
    pub client: &'a str,
    /// What the token said.
    pub said: &'a Said,
    /// Why it was refused.
    pub reason: Reason,
    /// Seconds since 1970.
    pub now: i64,
}

impl<'d> Case<'d, '_> {
    /// What serving has compared.
    pub(super) fn presented(&self) -> Presented<'_> {
        let Said { issuer, subject, audiences, .. } = self.said;
        // An issuer that nobody names has no policy of its own.
        let only = || IssuerPolicy::only(audiences);
        let audiences = self.directory.policy(issuer).map_or_else(only, |policy| policy.matchable(audiences));
        Presented { issuer, subject, audiences }
    }

    /// Another identity of the tenant that the token fits.
    pub(super) fn elsewhere(&self) -> Option<&'d Identity> {
        let presented = self.presented();
        let asked = self.identity.map(|identity| identity.client_id);
        let fits = |identity: &&Identity| {
            let mut credentials = identity.credentials.iter();
            credentials.any(|credential| credential.compare(presented).matches())
        };
        self.tenant?
            .vouched_for(presented.issuer, presented.subject)
            .filter(|identity| identity.enabled && Some(identity.client_id) != asked)
            .find(fits)
    }

    /// Whether the identity had a credential that the token would have fitted.
    pub(super) fn fitted(&self) -> bool {
        let asked = self.tenant.zip(self.identity).map(|(tenant, identity)| (tenant.id, identity.client_id));
        asked.is_some_and(|asked| self.directory.past().fitted(asked, self.presented()))
    }

    /// The identity whose object id was given as client id.
    pub(super) fn meant(&self) -> Option<&'d Identity> {
        self.tenant?.principal(Guid::parse(self.client)?)
    }
}

/// A case that waits to be looked into, away from the request that it is about.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// The directory that decided.
    pub directory: Arc<Directory>,
    /// The tenant as it was asked for.
    pub tenant: String,
    /// The client as it was asked for, or the identity's client id.
    pub client: String,
    /// What the token said.
    pub said: Said,
    /// Why it was refused.
    pub reason: Reason,
    /// When, in seconds since 1970.
    pub now: i64,
}

/// What makes two inquiries one: the same token presented to the same identity under the same records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    texts: [String; 6],
    audiences: Vec<String>,
    reason: Reason,
}

impl Inquiry {
    /// The case, ready to be looked into.
    pub fn case(&self) -> Case<'_, '_> {
        let tenant = self.directory.tenant(&self.tenant).ok();
        let identity = tenant.and_then(|tenant| tenant.named(&self.client));
        let Self { directory, client, said, reason, now, .. } = self;
        Case { directory, tenant, identity, client, said, reason: *reason, now: *now }
    }

    /// By what an answer can be found again.
    pub fn key(&self) -> Key {
        let Said { issuer, subject, audiences, workflow, .. } = &self.said;
        let workflow = workflow.as_deref().unwrap_or_default();
        let texts = [self.directory.digest(), &self.tenant, &self.client, issuer, subject, workflow];
        Key { texts: texts.map(str::to_owned), audiences: audiences.clone(), reason: self.reason }
    }
}

/// Whether looking into such a refusal means comparing texts.
pub fn compares(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoCredential
            | Reason::IssuerUnnamed
            | Reason::SubjectUnmatched
            | Reason::AudienceUnmatched
            | Reason::ClientUnknown
    )
}

/// Whether there may be something to say of such a refusal. What does not compare texts is told by the reason and the times
/// alone.
pub fn explains(reason: Reason) -> bool {
    compares(reason)
        || matches!(
            reason,
            Reason::Time
                | Reason::Lifetime
                | Reason::KeyUnknown
                | Reason::Signature
                | Reason::AlgorithmRefused
                | Reason::AssertionMalformed
                | Reason::AssertionKind
                | Reason::IssuerUnavailable
        )
}
