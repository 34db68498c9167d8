//! What a workload does: ask its platform for a token, present it to the broker. Over TLS, through the front door.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::super::Failure;
use super::super::samples::Sample;
use super::{Stage, Target};

/// A finished exchange.
pub(super) struct Answer {
    pub(super) assertion: String,
    pub(super) status: u16,
    pub(super) body: Value,
}

/// Fetches a workload's token and exchanges it.
pub(super) async fn exchange(stage: &Stage, sample: &Sample, target: Target) -> Result<Answer, Failure> {
    let assertion = sample.fetch(&client(&stage.emulator_ca_file())?).await?;
    let form = json!({
        "grant_type": "client_credentials",
        "client_id": target.client_id,
        "scope": target.scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    });
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in form.as_object().into_iter().flatten() {
        body.append_pair(name, value.as_str().unwrap_or_default());
    }
    let request = client(&stage.ca_file())?
        .post(stage.token_url())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish());
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok(Answer { assertion, status, body: serde_json::from_slice(&response.bytes().await?)? })
}

/// A client that trusts one CA and nothing else.
fn client(ca_file: &Path) -> Result<reqwest::Client, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(ca_file).map_err(|error| Failure::Line(error.to_string()))?
    {
        roots.add(certificate.map_err(|error| Failure::Line(error.to_string()))?)?;
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?)
}
