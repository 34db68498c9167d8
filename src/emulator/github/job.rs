//! What GitHub says about a job in its token.

use serde_json::{Value, json};

use crate::clock::UnixTime;

const SHA: &str = "3f1c2b7d9e8a4c5061728394a5b6c7d8e9f0a1b2";

/// Every claim that a token may have, as the discovery document lists them.
pub(super) const CLAIMS: &str = "sub aud exp iat iss jti nbf ref sha repository repository_id repository_owner \
    repository_owner_id enterprise enterprise_id run_id run_number run_attempt actor actor_id workflow workflow_ref \
    workflow_sha head_ref base_ref event_name ref_type ref_protected environment environment_node_id \
    job_workflow_ref job_workflow_sha repository_visibility runner_environment check_run_id";

/// A job of a workflow. The default pushes to the main branch and names no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// `OWNER/NAME`.
    pub repository: String,
    /// The number of the owner.
    pub owner_id: u64,
    /// The number of the repository.
    pub repository_id: u64,
    /// `refs/heads/BRANCH`, `refs/tags/TAG`, or `refs/pull/N/merge` for a pull request.
    pub git_ref: String,
    /// The environment that the job names.
    pub environment: Option<String>,
    /// What started the workflow.
    pub event: Event,
    /// How the subject names the repository.
    pub subject: SubjectStyle,
    /// Seconds from `iat` to `exp`.
    pub lifetime: i64,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            repository: "my--org/payments-service".to_owned(),
            owner_id: 1_234_567,
            repository_id: 987_654_321,
            git_ref: "refs/heads/main".to_owned(),
            environment: None,
            event: Event::Push,
            subject: SubjectStyle::Classic,
            lifetime: 300,
        }
    }
}

/// What started a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A push of a branch or tag.
    Push,
    /// A pull request.
    PullRequest {
        /// The branch it comes from.
        head: String,
        /// The branch it would go to.
        base: String,
    },
    /// By hand.
    WorkflowDispatch,
    /// By the clock.
    Schedule,
    /// A release, which runs on its tag.
    Release,
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::PullRequest { .. } => "pull_request",
            Self::WorkflowDispatch => "workflow_dispatch",
            Self::Schedule => "schedule",
            Self::Release => "release",
        }
    }
}

/// How a subject names its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectStyle {
    /// `OWNER/NAME`: who takes over a freed name takes over the subject.
    Classic,
    /// `OWNER@ID/NAME@ID`, the default of repositories made or renamed since July 2026.
    Immutable,
}

impl Job {
    /// The `sub`. An environment hides a pull request, which hides the ref.
    pub fn subject(&self) -> String {
        let repository = match self.subject {
            SubjectStyle::Classic => self.repository.clone(),
            SubjectStyle::Immutable => {
                let (owner, name) = self.names();
                format!("{owner}@{}/{name}@{}", self.owner_id, self.repository_id)
            }
        };
        let context = match (&self.environment, &self.event) {
            (Some(environment), _) => format!("environment:{}", escaped(environment)),
            (None, Event::PullRequest { .. }) => "pull_request".to_owned(),
            (None, _) => format!("ref:{}", escaped(&self.git_ref)),
        };
        format!("repo:{repository}:{context}")
    }

    /// The audience of a job that asks for none.
    pub(super) fn default_audience(&self) -> String {
        format!("https://github.com/{}", self.names().0)
    }

    /// The claims that follow from the job. All are strings, numbers and booleans too.
    pub(super) fn claims(&self) -> Value {
        let (head, base) = match &self.event {
            Event::PullRequest { head, base } => (head.as_str(), base.as_str()),
            _ => ("", ""),
        };
        let kind = if self.git_ref.starts_with("refs/tags/") { "tag" } else { "branch" };
        let workflow = format!("{}/.github/workflows/deploy.yml@{}", self.repository, self.git_ref);
        let mut claims = json!({
            "sub": self.subject(),
            "ref": self.git_ref,
            "ref_type": kind,
            "ref_protected": (self.git_ref == "refs/heads/main").to_string(),
            "sha": SHA,
            "head_ref": head,
            "base_ref": base,
            "repository": self.repository,
            "repository_id": self.repository_id.to_string(),
            "repository_owner": self.names().0,
            "repository_owner_id": self.owner_id.to_string(),
            "repository_visibility": "private",
            "actor": "mona",
            "actor_id": "555001",
            "enterprise": "my-enterprise",
            "enterprise_id": "4711",
            "run_id": "10203040506",
            "run_number": "42",
            "run_attempt": "1",
            "check_run_id": "30201000",
            "workflow": "deploy",
            "workflow_ref": workflow,
            "workflow_sha": SHA,
            "job_workflow_ref": workflow,
            "job_workflow_sha": SHA,
            "event_name": self.event.name(),
            "runner_environment": "github-hosted",
        });
        if let Some(environment) = &self.environment {
            claims["environment"] = json!(environment);
            claims["environment_node_id"] = json!("EN_kwABC");
        }
        claims
    }

    /// Owner and name of the repository.
    fn names(&self) -> (&str, &str) {
        self.repository.split_once('/').unwrap_or((&self.repository, ""))
    }
}

/// `iat` and what follows from it. GitHub's tokens begin ten minutes before they are made.
pub(super) fn times(claims: &mut Value, now: UnixTime, lifetime: i64) {
    claims["iat"] = json!(now);
    claims["nbf"] = json!(now.saturating_sub(600));
    claims["exp"] = json!(now.saturating_add(lifetime));
}

/// Only the colon is escaped: it separates the parts of a subject.
fn escaped(value: &str) -> String {
    value.replace(':', "%3A")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull_request() -> Event {
        Event::PullRequest { head: "topic".to_owned(), base: "main".to_owned() }
    }

    #[test]
    fn subjects_by_precedence() {
        let classic = SubjectStyle::Classic;
        let immutable = SubjectStyle::Immutable;
        let main = "refs/heads/main";
        let cases = [
            (None, Event::Push, main, classic, "repo:my--org/payments-service:ref:refs/heads/main"),
            (None, Event::Schedule, main, classic, "repo:my--org/payments-service:ref:refs/heads/main"),
            (
                None,
                Event::Release,
                "refs/tags/v1.0",
                classic,
                "repo:my--org/payments-service:ref:refs/tags/v1.0",
            ),
            (
                None,
                pull_request(),
                "refs/pull/7/merge",
                classic,
                "repo:my--org/payments-service:pull_request",
            ),
            (Some("prod"), pull_request(), main, classic, "repo:my--org/payments-service:environment:prod"),
            (
                Some("Production:V1 / eu"),
                Event::Push,
                main,
                classic,
                "repo:my--org/payments-service:environment:Production%3AV1 / eu",
            ),
            (
                None,
                Event::Push,
                main,
                immutable,
                "repo:my--org@1234567/payments-service@987654321:ref:refs/heads/main",
            ),
            (
                Some("a:b"),
                Event::WorkflowDispatch,
                main,
                immutable,
                "repo:my--org@1234567/payments-service@987654321:environment:a%3Ab",
            ),
        ];
        for (environment, event, git_ref, subject, expected) in cases {
            let (environment, git_ref) = (environment.map(str::to_owned), git_ref.to_owned());
            let job = Job { environment, event, git_ref, subject, ..Job::default() };
            assert_eq!(job.subject(), expected);
        }
    }

    #[test]
    fn every_claim_is_a_string_and_the_environment_shows_only_when_named() {
        let job =
            Job { environment: Some("Production:V1".to_owned()), event: pull_request(), ..Job::default() };
        let claims = job.claims();
        assert!(claims.as_object().unwrap().values().all(Value::is_string), "{claims}");
        assert_eq!(claims["environment"], "Production:V1");
        assert_eq!((&claims["head_ref"], &claims["base_ref"]), (&json!("topic"), &json!("main")));

        let claims = Job { git_ref: "refs/tags/v1".to_owned(), ..Job::default() }.claims();
        assert!(claims.get("environment").is_none() && claims.get("environment_node_id").is_none());
        assert_eq!((&claims["ref_type"], &claims["ref_protected"]), (&json!("tag"), &json!("false")));
        assert_eq!((&claims["head_ref"], &claims["base_ref"]), (&json!(""), &json!("")));
    }
}
