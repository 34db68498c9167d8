//! A program that knows the Rust SDK's credentials and a scope. A request and assertions come on stdin; the outcomes go to stdout.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientMethodOptions, ClientOptions, ExponentialRetryOptions, RetryOptions};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct Input {
    credential: String,
    tenant: String,
    client_id: String,
    scope: String,
    assertions: Vec<String>,
}

#[derive(Serialize)]
struct Outcome {
    token: Option<String>,
    error: String,
}

/// Assertions in their order, one for each request.
#[derive(Debug)]
struct Assertions(Mutex<VecDeque<String>>);

#[async_trait::async_trait]
impl ClientAssertion for Assertions {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.lock().unwrap().pop_front().unwrap_or_default())
    }
}

/// With the SDK's own options it asks an issuer that is down for more than a minute.
fn options() -> ClientAssertionCredentialOptions {
    let retry = ExponentialRetryOptions { max_retries: 2, ..Default::default() };
    let client_options = ClientOptions { retry: RetryOptions::exponential(retry), ..Default::default() };
    ClientAssertionCredentialOptions { client_options }
}

impl Input {
    /// From the environment alone, as in a pod. A new one for each assertion: it keeps the file's content for ten minutes.
    fn workload_identity(assertion: &str) -> Result<Arc<dyn TokenCredential>, AnyError> {
        fs::write(std::env::var("AZURE_FEDERATED_TOKEN_FILE")?, assertion)?;
        Ok(WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
            credential_options: options(),
            ..Default::default()
        }))?)
    }

    fn client_assertion(&self) -> Result<Arc<dyn TokenCredential>, AnyError> {
        let assertions = Assertions(Mutex::new(self.assertions.clone().into()));
        let (tenant, client) = (self.tenant.clone(), self.client_id.clone());
        Ok(ClientAssertionCredential::new(tenant, client, assertions, Some(options()))?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let input: Input = serde_json::from_reader(std::io::stdin())?;
    let shared = input.client_assertion()?;
    let mut outcomes = Vec::new();
    for assertion in &input.assertions {
        let credential = match input.credential.as_str() {
            "workload_identity" => Input::workload_identity(assertion)?,
            _ => shared.clone(),
        };
        outcomes.push(match credential.get_token(&[&input.scope], None).await {
            Ok(token) => Outcome { token: Some(token.token.secret().to_owned()), error: String::new() },
            Err(error) => Outcome { token: None, error: error.to_string() },
        });
    }
    serde_json::to_writer(std::io::stdout(), &outcomes)?;
    Ok(())
}
