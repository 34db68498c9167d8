//! What is known of a request as it goes through the spine, for the record and the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use super::{Call, TokenRequest};
use crate::audit::{Assertion, Outcome, Record, Status, WouldMatch};
use crate::clock::{Stopwatch, UnixTime};
use crate::domain::asked::{Asked, Resolved};
use crate::domain::assertion::{Hearsay, Told, UnverifiedAssertion};
use crate::domain::authorize::Grant;
use crate::domain::digest::hex;
use crate::domain::directory::Directory;
use crate::domain::ids::Guid;
use crate::domain::matching::Match;
use crate::domain::nearmiss::{self, Inquiry, Said};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::tenant::Tenant;
use crate::metrics::{Metrics, Stage};
use crate::signing::Token;
use crate::trust::Unavailable;

/// The record of one decision in the making, and where its time goes. It learns facts as the spine establishes them.
pub(super) struct Observed<'m> {
    record: Record,
    metrics: &'m Metrics,
    /// The stage that goes on, and since when.
    stage: Option<(Stage, Stopwatch)>,
    /// What a refusal is looked into with.
    directory: Option<Arc<Directory>>,
    client: Option<Guid>,
    told: Option<Told>,
    other_document: bool,
}

impl<'m> Observed<'m> {
    pub(super) fn new(tenant: &str, call: &Call, now: UnixTime, metrics: &'m Metrics) -> Self {
        let record = Record {
            created: now,
            trace_id: Some(call.trace.into()),
            correlation_id: Some(call.correlation.into()),
            tenant_id: Some(tenant.into()),
            ip_address: Some(call.client),
            dialect: Some(call.dialect.label()),
            ..Record::default()
        };
        let (directory, client, told) = Default::default();
        Self { record, metrics, stage: None, directory, client, told, other_document: false }
    }

    /// The stage before ends, if there was one, and this one begins.
    pub(super) fn enter(&mut self, stage: Stage) {
        match &mut self.stage {
            Some((before, watch)) => {
                let (before, time) = (std::mem::replace(before, stage), watch.lap());
                self.metrics.stage(before, time.as_secs_f64());
            }
            None => self.stage = Some((stage, Stopwatch::start())),
        }
    }

    /// The stage that goes on ends, and none begins.
    pub(super) fn leave(&mut self) {
        if let Some((stage, watch)) = self.stage.take() {
            self.metrics.stage(stage, watch.elapsed().as_secs_f64());
        }
    }

    /// As presented: the tenant may not exist.
    pub(super) fn asked(&mut self, directory: &Arc<Directory>, asked: &Asked) {
        self.directory = Some(Arc::clone(directory));
        self.record.directory_digest = Some(directory.digest().to_owned());
        self.record.resource = asked.target.as_ref().map(|target| (&*target.audience()).into());
        self.record.app_id = Some((&*asked.name()).into());
    }

    pub(super) fn resolved(&mut self, tenant: &Tenant, resolved: &Resolved<'_, '_>) {
        let identity = resolved.identity;
        self.client = Some(identity.client_id);
        self.record.resource = Some((&*resolved.target.audience()).into());
        self.record.tenant_id = Some(tenant.id.into());
        self.record.identity_name = Some(identity.name.clone());
        self.record.app_id = Some(identity.client_id.into());
        self.record.service_principal_id = Some(identity.principal_id.to_string());
    }

    /// Notes what the assertion says of itself, and the digest by which it can be found again without being kept.
    pub(super) fn assertion(&mut self, assertion: &UnverifiedAssertion<'_>) {
        let told = assertion.told();
        let audience = match told.audiences() {
            [] => None,
            [audience] => Some(audience.as_str().into()),
            audiences => Some(audiences.join(", ").as_str().into()),
        };
        self.record.assertion = Some(Assertion {
            issuer: told.issuer().map(Into::into),
            subject: told.subject().map(Into::into),
            audience,
            jwt_id: told.jwt_id().map(Into::into),
            key_id: told.key_id().map(Into::into),
            run_id: None,
            job_id: None,
            digest: Some(hex(assertion.compact().digest())),
        });
        self.told = Some(told);
    }

    /// Why an issuer's keys could not be had: for the operator, never for the caller.
    pub(super) fn issuer_fault(&mut self, unavailable: &Unavailable) {
        self.other_document = unavailable.is_of_another_issuer();
        self.record.status.additional_details = Some(unavailable.fault.to_string().as_str().into());
    }

    pub(super) fn verified(&mut self) {
        self.record.verified = true;
        // Before, anybody could write himself into somebody else's run.
        if let (Some(assertion), Some(told)) = (&mut self.record.assertion, &self.told) {
            (assertion.run_id, assertion.job_id) = (told.run().id, told.run().job);
        }
    }

    pub(super) fn matched(&mut self, matched: &Match<'_, '_>) {
        self.record.federated_credential_name = Some(matched.credential().name.clone());
    }

    /// A credential in observe mode fits: what it would have come to.
    pub(super) fn would_match(&mut self, found: WouldMatch) {
        self.metrics.observed.note(found.outcome == Outcome::Granted);
        self.record.observed = Some(found);
    }

    pub(super) fn authorized(&mut self, grant: &Grant) {
        self.record.roles = grant.roles().iter().map(ToString::to_string).collect();
    }

    pub(super) fn granted(&mut self, token: &Token, duration: Duration) -> Box<Record> {
        Box::new(Record {
            outcome: Outcome::Granted,
            unique_token_identifier: Some(token.uti.clone()),
            duration_micros: Some(micros(duration)),
            ..std::mem::take(&mut self.record)
        })
    }

    pub(super) fn refused(
        &mut self,
        refusal: &Refusal,
        request: Option<&TokenRequest>,
        duration: Duration,
    ) -> Box<Record> {
        let reason = refusal.reason();
        let inquiry = request.and_then(|request| self.inquiry(reason, request)).map(Box::new);
        let record = std::mem::take(&mut self.record);
        let additional_details = record.status.additional_details;
        Box::new(Record {
            outcome: Outcome::Refused,
            status: Status { error_code: reason.code(), reason: Some(reason.label()), additional_details },
            duration_micros: Some(micros(duration)),
            inquiry,
            ..record
        })
    }

    /// What the writer of the record looks into, away from the request.
    fn inquiry(&mut self, reason: Reason, request: &TokenRequest) -> Option<Inquiry> {
        let directory = self.directory.take().filter(|_| nearmiss::explains(reason))?;
        let told = self.told.take();
        let mut said = told.map(|told| Said::from(Hearsay::from(&told))).unwrap_or_default();
        if reason != Reason::SubjectUnmatched {
            // It explains nothing else, and equal refusals are looked into once.
            said.workflow = None;
        }
        said.other_document = self.other_document;
        // What is longer names nothing, and is not to be kept while it waits.
        let name = |name: &str| if name.len() <= 600 { name.to_owned() } else { String::new() };
        let client = self.client.map_or_else(|| name(&request.asked.name()), |id| id.to_string());
        let (tenant, now) = (name(&request.tenant), self.record.created);
        Some(Inquiry { directory, tenant, client, said, reason, now })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Lines a second that refusals may write to the log; the audit record and the metrics have them all.
const LINES_A_SECOND: u32 = 20;

/// Logs a refusal by code and correlation id, nothing of what was presented. Our own faults are warnings.
pub(super) fn log_refusal(refusal: &Refusal, call: &Call, now: UnixTime) {
    static SECOND: AtomicI64 = AtomicI64::new(0);
    static LINES: AtomicU32 = AtomicU32::new(0);
    if SECOND.swap(now, Ordering::Relaxed) != now {
        LINES.store(0, Ordering::Relaxed);
    }
    if LINES.fetch_add(1, Ordering::Relaxed) >= LINES_A_SECOND {
        return;
    }
    let reason = refusal.reason();
    let (code, reason) = (reason.code(), reason.label());
    match refusal {
        Refusal::Unavailable(_) | Refusal::IssuerUnavailable { .. } => {
            tracing::warn!(code, reason, correlation = %call.correlation, client = %call.client, "refused");
        }
        _ => tracing::info!(code, reason, correlation = %call.correlation, client = %call.client, "refused"),
    }
}
