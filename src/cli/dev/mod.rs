//! `ficus dev`: the newcomer's start.
//!
//! A real broker over TLS with a self-made CA, the sample directory, and emulated GitHub, GitLab, GKE and AKS. The
//! directory keeps the real issuers' URLs; only in memory are they mapped to the emulator.

mod job;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::broker::{Broker, Listeners, Parts};
use super::samples::{self, Misfits, Sample};
use super::serve::Stop;
use super::{Failure, output, run_server, settle};
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Content;
use crate::directory::files::Tree;
use crate::document::Problems;
use crate::emulator::{self, Emulator};
use crate::files;
use crate::net::TlsSettings;
use crate::trust::{Overrides, PrivateHosts, Source};

/// The samples of `config/directory`, compiled in so that `ficus dev` needs no file.
const SAMPLES: [(&str, &str); 3] = [
    ("payments.toml", include_str!("../../../config/directory/payments.toml")),
    ("catalog.toml", include_str!("../../../config/directory/catalog.toml")),
    ("resources.toml", include_str!("../../../config/directory/resources.toml")),
];

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "a1b2c3d4-0001-4a00-8000-00000000c001";
const CATALOG: &str = "a1b2c3d4-0003-4a00-8000-00000000c003";
const SCOPE: &str = "https://vault.azure.net/.default";

/// What a workload asks the broker for: as which identity, for which resource.
#[derive(Clone, Copy)]
pub(super) struct Target {
    client_id: &'static str,
    scope: &'static str,
}

/// By platform, in the order of the samples.
const TARGETS: [Target; 4] = [
    Target { client_id: CLIENT, scope: SCOPE },
    Target { client_id: CATALOG, scope: "https://database.windows.net/.default" },
    Target { client_id: CATALOG, scope: "https://management.azure.com/.default" },
    Target { client_id: CLIENT, scope: "https://storage.azure.com/.default" },
];

#[derive(Args)]
pub(super) struct DevArgs {
    /// Where the broker listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where /metrics and health are; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    ops: SocketAddr,
    /// Folder for CA, keys, audit log and dev.json, which tells scripts where everything is.
    #[arg(long, default_value = "data/dev", value_name = "FOLDER")]
    data: PathBuf,
    /// Listen on an address that other machines reach.
    #[arg(long)]
    allow_remote: bool,
}

impl Default for DevArgs {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            ops: SocketAddr::from(([127, 0, 0, 1], 9464)),
            data: PathBuf::from("data/dev"),
            allow_remote: false,
        }
    }
}

/// Everything that is up, and where.
pub(super) struct Stage {
    broker: Broker,
    emulator: Emulator,
    data: PathBuf,
    /// Workloads that credentials name, one on each platform; the first is a GitHub job on the main branch.
    samples: [Sample; 4],
    misfits: Misfits,
}

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        return Err(Failure::Line(format!(
            "--listen {} can be reached from other machines, and anybody can get tokens of the emulated platforms \
             (hint: --allow-remote if that is meant)",
            args.listen
        )));
    }
    run_server(async {
        let mut stop = Stop::listen()?;
        let stage = start(args).await?;
        tokio::select! {
            shown = demonstrate(&stage) => {
                shown?;
                stop.requested().await;
            }
            () = stop.requested() => {}
        }
        stage.broker.stop().await;
        stage.emulator.shutdown().await;
        Ok(())
    })
}

/// An exchange of each platform and one refusal, made for real, and lines to paste.
async fn demonstrate(stage: &Stage) -> Result<(), Failure> {
    stage.write_description()?;
    output::print(&show::welcome(stage));
    for (index, (sample, target)) in stage.samples.iter().zip(TARGETS).enumerate() {
        let granted = job::exchange(stage, sample, target).await?;
        if index == 0 {
            files::write(&stage.assertion_file(), granted.assertion.as_bytes(), files::PRIVATE)?;
            output::print(&show::granted(stage, &granted));
        } else {
            output::print(&show::granted_briefly(index + 1, sample, &granted, stage));
        }
    }
    let refused = job::exchange(stage, &stage.misfits.feature, TARGETS[0]).await?;
    output::print(&show::refused(stage, &refused));
    output::print(&show::lines_to_paste(stage));
    Ok(())
}

async fn start(args: &DevArgs) -> Result<Stage, Failure> {
    files::make_private_folder(&args.data).map_err(|error| {
        Failure::Line(format!("{}: {error} (hint: choose another folder with --data)", args.data.display()))
    })?;
    let problems = Problems::default();
    let mut config = configuration(args, args.listen.port(), &problems);
    let listeners = Listeners::bind(&config.listen).map_err(|error| {
        Failure::Line(format!("{error} (hint: --listen 127.0.0.1:0 --ops 127.0.0.1:0 take free ports)"))
    })?;
    if args.listen.port() == 0 {
        config = configuration(args, listeners.public_address().port(), &problems);
    }
    config.listen.tls = TlsSettings::SelfMade { folder: args.data.join("tls") };
    let samples = SAMPLES.map(|(name, text)| Content::read(name, text));
    let directory = config.compile(&samples, &problems);
    settle(problems)?;

    let settings =
        emulator::Settings { folder: Some(args.data.join("emulator")), ..emulator::Settings::default() };
    let emulator = Emulator::start(settings.real_issuers()).await?;
    emulator.prepare_keys();
    let samples = samples::all(&emulator);
    let misfits = Misfits::register(&emulator);
    let overrides = overrides(&emulator, &samples)?;
    let (tree, clock) = (Tree::default(), Clock::system());
    let mut broker = Broker::start(listeners, Parts { config, tree, directory, overrides, clock })?;
    broker.tend_issuers();
    Ok(Stage { broker, emulator, data: args.data.clone(), samples, misfits })
}

/// The configuration of the sample, with everything below the data folder.
fn configuration(args: &DevArgs, port: u16, problems: &Problems) -> Config {
    let text = format!(
        "public_url = \"https://localhost:{port}\"\n\
         [listen]\naddress = \"{}\"\nops_address = \"{}\"\n\
         [[tenant]]\nid = \"{TENANT}\"\ndomain = \"contoso.example\"\n\
         [keys]\npath = \"keys\"\ncreate = true\n\
         [trust]\nstate_path = \"issuers\"\n\
         [audit]\npath = \"audit.jsonl\"\n",
        args.listen, args.ops
    );
    Config::read("the sample configuration", &text, &args.data, std::iter::empty(), problems)
}

/// The issuers stay what they are; their documents are fetched from the emulator.
fn overrides(emulator: &Emulator, samples: &[Sample]) -> Result<Overrides, Failure> {
    let mut private_hosts = PrivateHosts::default();
    private_hosts
        .add(emulator.host_port())
        .map_err(|broken| Failure::Line(format!("the emulator's address {}", broken.message)))?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(emulator.ca_pem().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::Line(format!("the emulator's CA: {error}")))?;
    let source = |sample: &Sample| Source {
        discovery_url: Some(sample.discovery_url.clone()),
        roots: roots.clone(),
        private_hosts: private_hosts.clone(),
        ..Source::default()
    };
    Ok(samples.iter().map(|sample| (sample.issuer.clone(), source(sample))).collect())
}

impl Stage {
    fn ca_file(&self) -> PathBuf {
        self.data.join("tls/ca.pem")
    }

    fn emulator_ca_file(&self) -> PathBuf {
        self.data.join("emulator/ca.pem")
    }

    fn assertion_file(&self) -> PathBuf {
        self.data.join("assertion.jwt")
    }

    fn audit_file(&self) -> PathBuf {
        self.data.join("audit.jsonl")
    }

    fn token_url(&self) -> String {
        format!("{}/{TENANT}/oauth2/v2.0/token", self.broker.public_url())
    }

    /// `dev.json`: the same facts for scripts.
    fn write_description(&self) -> std::io::Result<()> {
        let absolute = |path: &Path| std::path::absolute(path);
        let issuers: Map<String, Value> = self
            .samples
            .iter()
            .zip(TARGETS)
            .map(|(sample, target)| {
                let mut facts = sample.description();
                facts["client_id"] = json!(target.client_id);
                facts["scope"] = json!(target.scope);
                (sample.key.to_owned(), facts)
            })
            .collect();
        let description = json!({
            "authority": self.broker.public_url(),
            "operations": format!("http://{}", self.broker.ops_address()),
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "scope": SCOPE,
            "ca_file": absolute(&self.ca_file())?,
            "audit_file": absolute(&self.audit_file())?,
            "emulator_ca_file": absolute(&self.emulator_ca_file())?,
            "jobs": self.misfits.description(&self.samples[0]),
            "issuers": issuers,
        });
        let text = serde_json::to_vec_pretty(&description)?;
        files::write(&self.data.join("dev.json"), &text, files::PRIVATE)
    }
}
