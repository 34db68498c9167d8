//! `ficus health`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, Failure, output, variables};
use crate::config::Config;
use crate::document::Problems;

#[derive(Args)]
pub(super) struct HealthArgs {
    /// The operations listener, as in http://127.0.0.1:9464. Without, the one of the configuration file, else of
    /// FICUS_LISTEN__OPS_ADDRESS, else the default.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &HealthArgs) -> Result<(), Failure> {
    let base = args.url.clone().unwrap_or_else(|| format!("http://{}", address(args)));
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(ask(&url)).map_err(|why| Failure::Line(format!("{url}: {why}")))?;
    output::print(&format!("{answer}\n"));
    Ok(())
}

/// Nobody listens on the unspecified address; who listens there hears on loopback.
fn address(args: &HealthArgs) -> SocketAddr {
    // What else may be wrong with the file is for `check` to tell.
    let configured = Config::load(&args.config.config, variables(), &Problems::default())
        .map(|config| config.listen.ops_address)
        .or_else(|| std::env::var("FICUS_LISTEN__OPS_ADDRESS").ok()?.parse().ok());
    let mut address = configured.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9464)));
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The first line of a good answer, or why there is none.
async fn ask(url: &str) -> Result<String, String> {
    // The listener speaks plain HTTP: no roots are needed, nor wanted in a container that may have none.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(3))
        .build();
    let sent = client.map_err(|error| error.to_string())?.get(url).send().await;
    let response = sent.map_err(|error| match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer within 3 s".to_owned(),
        (_, true) => {
            "nobody listens there (hint: is the broker running, and is this its ops_address?)".to_owned()
        }
        _ => error.to_string(),
    })?;
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().to_owned();
    if status == http::StatusCode::OK { Ok(line) } else { Err(format!("{} {line}", status.as_u16())) }
}
