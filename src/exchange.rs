//! The spine: one sequence for every dialect.
//!
//! `Exchange::decide` is the whole security argument on one screen. Each step yields a type that only it can make
//! (`UnverifiedAssertion`, `Candidate`, `Verified`, `Match`, `Grant`), so that none can be left out or put in another order.

mod lookout;
mod observed;
mod pace;
mod remembered;
mod used;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::audit::Audit;
use crate::clock::{Clock, EARLIEST, Stopwatch, UnixTime, random};
use crate::domain::asked::Asked;
use crate::domain::assertion::{Candidate, Compact, UnverifiedAssertion};
use crate::domain::authorize::{Grant, authorize};
use crate::domain::directory::Directory;
use crate::domain::ids::Guid;
use crate::domain::onetime;
use crate::domain::proof::Proof;
use crate::domain::refusal::{Outage, Refusal};
use crate::domain::verify::Verified;
use crate::metrics::{Dialect, Metrics, Shed, Stage};
use crate::secret::Secret;
use crate::signing::{Keys, Token};
use crate::trust::Issuers;

use lookout::Lookout;
use observed::Observed;
pub use pace::Pace;
use remembered::Wish;
pub use remembered::{Remembered, TokenSettings};
use used::Claim;
pub use used::Used;

/// What a dialect makes of a request: every syntax rule is kept, nothing is looked up yet.
#[derive(Debug)]
pub struct TokenRequest {
    /// The tenant as the path names it.
    pub tenant: String,
    /// The identity and the resource. Whether that exists is answered only to who has been matched.
    pub asked: Asked,
    /// The external token, trimmed.
    pub assertion: Secret<String>,
}

/// Who calls and how, for the record.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Our id of the request.
    pub trace: Guid,
    /// The caller's id of the call, or one of ours.
    pub correlation: Guid,
    /// The client's address.
    pub client: IpAddr,
    /// The dialect.
    pub dialect: Dialect,
}

/// All that a reload changes, swapped as one: a request sees records, policies and issuers of one generation.
pub struct Snapshot {
    /// Tenants, their records, and issuers' policies.
    pub directory: Arc<Directory>,
    /// External issuers' keys.
    pub issuers: Issuers,
    /// How often its identities get tokens, where that is limited.
    pub pace: Pace,
    /// Counts the snapshots of this process, from 1.
    pub generation: u64,
    /// Since when it decides.
    pub since: UnixTime,
}

/// Everything that an exchange needs.
pub struct Exchange {
    /// What decides now; each request loads it once.
    pub snapshot: ArcSwap<Snapshot>,
    /// Our keys.
    pub keys: Keys,
    /// The record of decisions.
    pub audit: Audit,
    /// Assertions good for one token only that have been used. It outlives snapshots.
    pub used: Used,
    /// What need not be computed twice. It outlives snapshots, since each use of it is checked against the one that decides.
    pub remembered: Remembered,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
    /// Longest assertion, in bytes.
    pub assertion_limit: usize,
}

impl Exchange {
    /// Decides a request, and measures and records the decision whatever it is. `request` is what the dialect made of
    /// it, so that its refusals are recorded too.
    pub async fn exchange(
        &self,
        tenant: &str,
        request: &Result<TokenRequest, Refusal>,
        call: &Call,
    ) -> Result<Token, Refusal> {
        let watch = Stopwatch::start();
        let mut seen = Observed::new(tenant, call, self.clock.now(), &self.metrics);
        let decision = match request {
            Ok(request) => self.decide(request, &mut seen).await,
            Err(refusal) => Err(refusal.clone()),
        };
        let decision = match decision {
            Ok((token, claim)) => {
                seen.enter(Stage::Audit);
                let recorded = self.audit.grant(seen.granted(&token, watch.elapsed())).await;
                seen.leave();
                recorded.map_err(|_| Refusal::Unavailable(Outage::Audit)).map(|()| {
                    claim.into_iter().for_each(Claim::keep);
                    token
                })
            }
            Err(refusal) => {
                seen.leave();
                self.audit.refusal(seen.refused(&refusal, request.as_ref().ok(), watch.elapsed()));
                Err(refusal)
            }
        };
        self.observe(&decision, call, watch);
        decision
    }

    /// The token, with the claim on its assertion where that is good for one token only: it is given back when it is
    /// dropped, so that who gets no token may try again.
    async fn decide(
        &self,
        request: &TokenRequest,
        seen: &mut Observed<'_>,
    ) -> Result<(Token, Option<Claim<'_>>), Refusal> {
        seen.enter(Stage::Parse);
        // Else every honest assertion would be called one that is not valid yet.
        self.time()?;
        let snapshot = self.snapshot.load_full();
        let directory = &snapshot.directory;
        seen.asked(directory, &request.asked);

        // Who is asked for. The resource's syntax has been checked by its type; its existence comes much later.
        let tenant = directory.tenant(&request.tenant)?;
        let resolved = request.asked.resolve(tenant, &request.tenant)?;
        seen.resolved(tenant, &resolved);

        // What the assertion looks like; of what it says, only the issuer may be used.
        let compact = Compact::new(&request.assertion, self.assertion_limit)?;
        let proof = self.remembered.proof(&compact);
        let recalled = proof.as_ref().and_then(|proof| proof.recall(compact));
        let assertion = recalled.map_or_else(|| UnverifiedAssertion::parse(compact), Ok)?;
        seen.assertion(&assertion);

        // No outbound request is ever caused by an issuer that no credential of this identity names.
        let lookout = Lookout { tenant, resolved: &resolved, as_asked: &request.tenant };
        let policy =
            match directory.trusted((resolved.identity, resolved.name), assertion.unverified_issuer()?) {
                Ok(policy) => policy,
                Err(refusal) => {
                    self.look_out(&lookout, (assertion, proof.as_deref()), &snapshot, seen).await;
                    return Err(refusal);
                }
            };
        let candidate = assertion.admit(policy)?;

        // Is it true? From here on it is a fact who is calling; before, nothing may tell what would match.
        let verified = self.verify((&candidate, proof.as_deref()), &snapshot.issuers, seen).await?;
        seen.verified();

        // Whom does it fit, and what may they have?
        seen.enter(Stage::Match);
        let matched = lookout.find(&verified, seen)?;
        seen.matched(&matched);
        let grant = authorize(&matched, &resolved.target, &request.tenant)?;
        seen.authorized(&grant);

        let now = self.time()?;
        let claim = onetime::demanded(&matched).map(|once| self.used.claim(once, now)).transpose()?;
        // Only who would get a token is counted: nobody else, not even with an assertion that has been used, takes what is
        // the identity's. Who is over its rate gets the claim back.
        snapshot.pace.take(tenant.id, resolved.identity.client_id).map_err(|seconds| {
            self.metrics.shed(Shed::IdentityRate);
            Refusal::IdentityRate(seconds)
        })?;

        seen.enter(Stage::Mint);
        let wish = claim.is_none().then(|| Wish::new(&compact, tenant, &resolved));
        Ok((self.mint(grant, wish, now)?, claim))
    }

    /// A token for a grant: the one that the same wish got before, or a new one. Where the assertion is good for one token
    /// only there is no wish to remember.
    fn mint(&self, grant: Grant, wish: Option<Wish>, now: UnixTime) -> Result<Token, Refusal> {
        let again = wish.as_ref().and_then(|wish| self.remembered.token(wish, &grant, &self.keys, now));
        self.metrics.caches.tokens.note(again.is_some());
        if let Some(token) = again {
            return Ok(token);
        }
        let minted = self.keys.mint(&grant, now, random());
        let token = minted.map_err(|_| Refusal::Unavailable(Outage::Signing))?;
        wish.into_iter().for_each(|wish| self.remembered.keep_token(wish, &grant, &token));
        Ok(token)
    }

    /// The time, if it can be one.
    fn time(&self) -> Result<UnixTime, Refusal> {
        let now = self.clock.now();
        if now < EARLIEST { Err(Refusal::Unavailable(Outage::Clock)) } else { Ok(now) }
    }

    /// Checks an assertion by its issuer's keys. The only place that may wait for the network, and it does so once: when no
    /// keys are at hand, or when those at hand may be older than the assertion.
    async fn verify<'c>(
        &self,
        (candidate, proof): (&'c Candidate<'c>, Option<&Proof>),
        issuers: &Issuers,
        seen: &mut Observed<'_>,
    ) -> Result<Verified<'c>, Refusal> {
        seen.enter(Stage::Keys);
        let issuer = &candidate.policy().issuer;
        let held = issuers.keys(issuer, self.clock.now()).await.map_err(|unavailable| {
            seen.issuer_fault(&unavailable);
            Refusal::IssuerUnavailable { issuer: issuer.to_string(), retry_after: unavailable.retry_after }
        })?;
        seen.enter(Stage::Verify);
        let now = self.clock.now();
        let verified = match candidate.verify(&held.keys, proof, now) {
            Err(refusal @ (Refusal::KeyUnknown { .. } | Refusal::Signature)) => {
                seen.enter(Stage::Keys);
                let newer = issuers.newer(issuer, &held, &refusal, now).await.ok_or(refusal)?;
                seen.enter(Stage::Verify);
                candidate.verify(&newer, None, self.clock.now())
            }
            decided => decided,
        }?;
        let proof = verified.proof();
        self.metrics.caches.assertions.note(proof.is_none());
        proof.into_iter().for_each(|proof| self.remembered.keep_proof(proof));
        Ok(verified)
    }

    /// Metrics and the log line. A grant's record is its audit line, so its log line is for debugging only.
    fn observe(&self, decision: &Result<Token, Refusal>, call: &Call, watch: Stopwatch) {
        let seconds = watch.elapsed().as_secs_f64();
        match decision {
            Ok(_) => {
                self.metrics.granted(call.dialect, seconds);
                tracing::debug!(correlation = %call.correlation, client = %call.client, "granted");
            }
            Err(refusal) => {
                let reason = refusal.reason();
                self.metrics.refused(call.dialect, reason, seconds);
                observed::log_refusal(refusal, call, self.clock.now());
            }
        }
    }
}
