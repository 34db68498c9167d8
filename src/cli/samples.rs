//! A workload on each emulated platform: those that the sample directory names, and how each gets its token.

use serde_json::{Value, json};

use super::Failure;
use crate::emulator::{Emulator, ServiceAccount, TokenRequest, github, gitlab};

/// What the sample directory's credentials expect.
pub(super) const AUDIENCE: &str = "api://AzureADTokenExchange";

/// One workload.
pub(super) struct Sample {
    /// One word, for files.
    pub(super) key: &'static str,
    /// The platform's name, for people.
    pub(super) platform: &'static str,
    /// What the workload is, for people.
    pub(super) workload: &'static str,
    pub(super) issuer: String,
    pub(super) discovery_url: String,
    pub(super) subject: String,
    pub(super) request: TokenRequest,
    /// What asks for the audience: the end of the URL, or what is posted.
    asking: Asking,
}

enum Asking {
    /// A GET of the URL with this behind it; the answer's member `value` is the token.
    Query(&'static str),
    /// A POST of this; the token is `status.token`.
    Body(String),
}

/// All four, GitHub first.
pub(super) fn all(emulator: &Emulator) -> [Sample; 4] {
    let (github_job, gitlab_job) = (github::Job::default(), gitlab::Job::default());
    let (github, gitlab) = (emulator.github(), emulator.gitlab());
    let on_github = of_github(emulator, github.register("main", github_job.clone()), &github_job);
    let on_gitlab = Sample {
        key: "gitlab",
        platform: "GitLab",
        workload: "a CI job of my--group/catalog-api on main",
        issuer: gitlab.issuer().to_owned(),
        discovery_url: gitlab.discovery_url(),
        subject: gitlab_job.subject(),
        request: gitlab.register("main", gitlab_job),
        asking: Asking::Query("?audience=api%3A%2F%2FAzureADTokenExchange"),
    };
    [on_github, on_gitlab, of_gke(emulator), of_aks(emulator)]
}

/// Two more jobs of GitHub Actions, which no credential of the samples fits.
pub(super) struct Misfits {
    /// On another branch.
    pub(super) feature: Sample,
    /// With a token that has expired.
    pub(super) expired: TokenRequest,
}

impl Misfits {
    pub(super) fn register(emulator: &Emulator) -> Self {
        let feature =
            github::Job { git_ref: "refs/heads/feature/login".to_owned(), ..github::Job::default() };
        let expired = github::Job { lifetime: -600, ..github::Job::default() };
        let github = emulator.github();
        Self {
            feature: of_github(emulator, github.register("feature", feature.clone()), &feature),
            expired: github.register("expired", expired),
        }
    }

    /// The jobs of GitHub for scripts, which have to append the audience: `main` is the first of the samples.
    pub(super) fn description(&self, main: &Sample) -> Value {
        let job = |job: &TokenRequest| json!({ "url": job.url, "token": job.token });
        json!({
            "main": job(&main.request),
            "feature": job(&self.feature.request),
            "expired": job(&self.expired),
        })
    }
}

/// A job of GitHub Actions that was registered already.
fn of_github(emulator: &Emulator, request: TokenRequest, job: &github::Job) -> Sample {
    let github = emulator.github();
    Sample {
        key: "github",
        platform: "GitHub",
        workload: "a job of my--org/payments-service on main",
        issuer: github.issuer(),
        discovery_url: github.discovery_url(),
        subject: job.subject(),
        request,
        asking: Asking::Query("&audience=api%3A%2F%2FAzureADTokenExchange"),
    }
}

fn of_gke(emulator: &Emulator) -> Sample {
    let gke = emulator.gke();
    Sample {
        key: "gke",
        platform: "GKE",
        workload: "a pod of service account catalog/catalog-api",
        issuer: gke.issuer().to_owned(),
        discovery_url: gke.discovery_url(),
        subject: ServiceAccount::new("catalog", "catalog-api").subject(),
        request: gke.token_request("catalog", "catalog-api"),
        asking: Asking::Body(spec()),
    }
}

fn of_aks(emulator: &Emulator) -> Sample {
    let aks = emulator.aks();
    Sample {
        key: "aks",
        platform: "AKS",
        workload: "a pod of service account payments/payments-service",
        issuer: aks.issuer().to_owned(),
        discovery_url: aks.discovery_url(),
        subject: ServiceAccount::new("payments", "payments-service").subject(),
        request: aks.token_request("payments", "payments-service"),
        asking: Asking::Body(spec()),
    }
}

/// As a kubelet asks for the token of a projected volume.
fn spec() -> String {
    json!({ "spec": { "audiences": [AUDIENCE], "expirationSeconds": 3600 } }).to_string()
}

impl Sample {
    /// Asks for a token, as the workload or its kubelet does.
    pub(super) async fn fetch(&self, client: &reqwest::Client) -> Result<String, Failure> {
        let request = match &self.asking {
            Asking::Query(_) => client.get(self.url()),
            Asking::Body(body) => {
                client.post(self.url()).header("content-type", "application/json").body(body.clone())
            }
        };
        let reply = request.bearer_auth(&self.request.token).send().await?.bytes().await?;
        let reply: Value = serde_json::from_slice(&reply)?;
        let found = reply["value"].as_str().or_else(|| reply["status"]["token"].as_str());
        Ok(found.unwrap_or_default().to_owned())
    }

    /// The same as a line to paste that prints the token.
    pub(super) fn curl(&self, ca_file: &str) -> String {
        let (body, member) = match &self.asking {
            Asking::Query(_) => (String::new(), "value"),
            Asking::Body(body) => {
                (format!(" \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"), "token")
            }
        };
        format!(
            "curl -sS --cacert {ca_file} \\\n  -H 'Authorization: Bearer {}'{body} \\\n  '{}' \\\n  \
             | sed 's/.*\"{member}\":\"\\([^\"]*\\)\".*/\\1/'",
            self.request.token,
            self.url(),
        )
    }

    /// The same for scripts; with a `body`, it is posted.
    pub(super) fn description(&self) -> Value {
        let body = match &self.asking {
            Asking::Query(_) => None,
            Asking::Body(body) => Some(body),
        };
        json!({
            "issuer": self.issuer,
            "discovery_url": self.discovery_url,
            "subject": self.subject,
            "audience": AUDIENCE,
            "url": self.url(),
            "token": self.request.token,
            "body": body,
        })
    }

    fn url(&self) -> String {
        match &self.asking {
            Asking::Query(query) => format!("{}{query}", self.request.url),
            Asking::Body(_) => self.request.url.clone(),
        }
    }
}
