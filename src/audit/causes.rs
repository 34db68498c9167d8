//! Why refusals happened, looked into by the writer. Strangers can cause as many refusals as they like; what looking into
//! them costs is bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::{NearMiss, Record};
use crate::clock::UnixTime;
use crate::domain::nearmiss::{self, Cause, Inquiry, Key};

/// Refusals of one second whose texts are compared; those beyond are only counted.
const A_SECOND: usize = 200;
/// For how many seconds an answer is good for refusals that are equal in identity, issuer, subject and audience.
const KEPT: i64 = 60;
/// How many answers are kept.
const ANSWERS: usize = 1024;
/// The name that refusals are counted under that nobody looked into.
const NOT_EXAMINED: &str = "not_examined";

/// How often each cause was found, since the start.
pub(super) struct Counts {
    causes: [AtomicU64; Cause::ALL.len()],
    not_examined: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { causes: [const { AtomicU64::new(0) }; Cause::ALL.len()], not_examined: AtomicU64::new(0) }
    }
}

impl Counts {
    /// By name; every name is there.
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let causes = Cause::ALL.iter().zip(&self.causes).map(|(cause, count)| (cause.id(), count));
        let all = causes.chain([(NOT_EXAMINED, &self.not_examined)]);
        all.map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }

    /// Counts a refusal that gets no line of its own, if there was something to look into.
    pub(super) fn pass_over(&self, record: &Record) {
        if record.inquiry.is_some() {
            self.not_examined.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note(&self, cause: Cause) {
        self.causes[cause as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// What was found, shared by all records that it is true of.
type Answer = Option<(Cause, Arc<NearMiss>)>;

/// Looks into refusals.
pub(super) struct Examiner {
    counts: Arc<Counts>,
    /// The second that `left` is for.
    second: UnixTime,
    left: usize,
    /// Answers, and until when they are good.
    answers: HashMap<Key, (UnixTime, Answer)>,
}

impl Examiner {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self { counts, second: UnixTime::MIN, left: 0, answers: HashMap::new() }
    }

    /// Puts the cause into a record that waits for it; says whether texts had to be compared for that.
    pub(super) fn examine(&mut self, record: &mut Record, now: UnixTime) -> bool {
        let Some(inquiry) = record.inquiry.take() else { return false };
        if now != self.second {
            (self.second, self.left) = (now, A_SECOND);
        }
        let before = self.left;
        let answer = match nearmiss::compares(inquiry.reason) {
            true => self.compared(&inquiry, now),
            false => Some(answer(&inquiry)),
        };
        match answer {
            Some(Some((cause, found))) => {
                self.counts.note(cause);
                record.near_miss = Some(found);
            }
            Some(None) => {}
            None => drop(self.counts.not_examined.fetch_add(1, Ordering::Relaxed)),
        }
        self.left < before
    }

    /// What is known already, or what there is to find as long as there is time for it.
    fn compared(&mut self, inquiry: &Inquiry, now: UnixTime) -> Option<Answer> {
        let key = inquiry.key();
        // A clock that is set back makes nothing last longer.
        let good = |until: UnixTime| (now + 1..=now + KEPT).contains(&until);
        if let Some((_, known)) = self.answers.get(&key).filter(|(until, _)| good(*until)) {
            return Some(known.clone());
        }
        self.left = self.left.checked_sub(1)?;
        if self.answers.len() >= ANSWERS {
            self.answers.retain(|_, (until, _)| good(*until));
        }
        if self.answers.len() >= ANSWERS {
            self.answers.clear();
        }
        let found = answer(inquiry);
        self.answers.insert(key, (now + KEPT, found.clone()));
        Some(found)
    }
}

fn answer(inquiry: &Inquiry) -> Answer {
    let case = inquiry.case();
    nearmiss::investigate(&case).map(|found| (found.cause, Arc::new(NearMiss::of(&found))))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::credential::{Credential, CredentialState, Identity, IdentityKind};
    use crate::domain::directory::Directory;
    use crate::domain::ids::Guid;
    use crate::domain::nearmiss::Said;
    use crate::domain::policy::IssuerPolicy;
    use crate::domain::refusal::Reason;
    use crate::domain::tenant::Tenant;

    const TENANT: &str = "11111111-1111-1111-1111-111111111111";
    const CLIENT: &str = "aaaaaaaa-0001-4a00-8000-000000000001";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    pub(in super::super) fn directory() -> Arc<Directory> {
        let id = |text| Guid::parse(text).unwrap();
        let mut tenant = Tenant::new(id(TENANT), None, ("https://a".into(), "https://b".into()));
        tenant.add_identity(Arc::new(Identity {
            name: "id-a".into(),
            client_id: id(CLIENT),
            principal_id: id("bbbbbbbb-0001-4a00-8000-000000000001"),
            resource_id: None,
            kind: IdentityKind::Application,
            enabled: true,
            location: None,
            tags: Default::default(),
            credentials: vec![Credential {
                name: "main".into(),
                issuer: ISSUER.into(),
                subject: "repo:octo/app:ref:refs/heads/main".into(),
                audience: "api://x".into(),
                state: CredentialState::Enabled,
                jti_once: false,
                max_token_lifetime: None,
            }],
        }));
        Arc::new(Directory::new(vec![tenant], vec![IssuerPolicy::standard(ISSUER)]))
    }

    pub(in super::super) fn record(directory: &Arc<Directory>, branch: usize, reason: Reason) -> Record {
        let said = Said {
            issuer: ISSUER.into(),
            subject: format!("repo:octo/app:ref:refs/heads/b{branch}"),
            audiences: vec!["api://x".into()],
            ..Said::default()
        };
        let (directory, tenant, client) = (Arc::clone(directory), TENANT.into(), CLIENT.into());
        Record {
            inquiry: Some(Box::new(Inquiry { directory, tenant, client, said, reason, now: 0 })),
            ..Record::default()
        }
    }

    fn count(counts: &Counts, name: &str) -> u64 {
        counts.read().into_iter().find(|(other, _)| *other == name).unwrap().1
    }

    #[test]
    fn a_flood_costs_the_budget_of_each_second_and_is_counted_whole() {
        let (counts, directory) = (Arc::new(Counts::default()), directory());
        let mut examiner = Examiner::new(Arc::clone(&counts));
        for (second, first) in [(1, 1000), (2, 2000), (3, 3000)] {
            let mut compared = 0;
            for number in 0..A_SECOND + 50 {
                let mut record = record(&directory, first + number, Reason::SubjectUnmatched);
                compared += usize::from(examiner.examine(&mut record, second));
                assert_eq!(record.near_miss.is_some(), number < A_SECOND);
            }
            assert_eq!(compared, A_SECOND);
        }
        assert_eq!(count(&counts, "S-GH-BRANCH"), 3 * A_SECOND as u64);
        assert_eq!(count(&counts, "not_examined"), 150);
        // What compares nothing needs no budget.
        let mut late = record(&directory, 0, Reason::Signature);
        assert!(!examiner.examine(&mut late, 3));
        assert_eq!(late.near_miss.unwrap().cause, "T-SIG");
    }

    #[test]
    fn equal_refusals_are_looked_into_once_a_minute_and_under_the_same_records() {
        let (counts, directory) = (Arc::new(Counts::default()), directory());
        let mut examiner = Examiner::new(Arc::clone(&counts));
        let mut examine = |directory: &_, branch, reason, now| {
            let mut record = record(directory, branch, reason);
            let compared = examiner.examine(&mut record, now);
            assert_eq!(record.near_miss.unwrap().cause, "S-GH-BRANCH");
            assert!(record.inquiry.is_none());
            compared
        };
        let subject = Reason::SubjectUnmatched;
        assert!(examine(&directory, 1, subject, 100));
        for now in [100, 101, 159] {
            assert!(!examine(&directory, 1, subject, now), "{now}");
        }
        assert!(examine(&directory, 2, subject, 159));
        assert!(examine(&directory, 1, Reason::IssuerUnnamed, 159));
        assert!(examine(&directory, 1, subject, 160));
        assert!(examine(&directory, 1, subject, 60), "the clock was set back");
        assert_eq!(count(&counts, "S-GH-BRANCH"), 8);
    }

    #[test]
    fn no_more_answers_are_kept_than_there_is_room_for() {
        let directory = directory();
        let mut examiner = Examiner::new(Arc::default());
        for now in 0..16 {
            for number in 0..A_SECOND {
                let branch = number + A_SECOND * usize::try_from(now).unwrap();
                examiner.examine(&mut record(&directory, branch, Reason::SubjectUnmatched), now);
                assert!(examiner.answers.len() <= ANSWERS);
            }
        }
        assert!(examiner.answers.len() > 1);
    }

    #[test]
    fn other_records_are_left_alone() {
        let counts = Arc::new(Counts::default());
        let mut record = Record::default();
        assert!(!Examiner::new(Arc::clone(&counts)).examine(&mut record, 1));
        counts.pass_over(&record);
        assert!(record.near_miss.is_none() && counts.read().iter().all(|(_, count)| *count == 0));
    }
}
