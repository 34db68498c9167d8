//! `ficus emulate`: the emulated platforms alone, for a broker or any other verifier.

mod vault;

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::samples::{self, AUDIENCE, Misfits, Sample};
use super::serve::Stop;
use super::{Failure, absolute, output, runtime, shell_quoted};
use crate::emulator::{Emulator, Settings};
use crate::files;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct EmulateArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Where the platforms are; port 0 takes a free one. Only 127.0.0.1: anybody who reaches it gets tokens.
    #[arg(long, default_value = "127.0.0.1:8444", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Folder for the CA and emulate.json, which tells scripts where everything is.
    #[arg(long, default_value = "data/emulate", value_name = "FOLDER")]
    data: PathBuf,
    /// What the platforms say their issuer is.
    #[arg(long, value_enum, default_value = "own")]
    issuers: Issuers,
}

/// In place of the platforms.
#[derive(Subcommand)]
enum What {
    /// An API that accepts the broker's tokens: the secrets of an Azure Key Vault, to be read by unmodified SDKs.
    ///
    /// It answers requests without a token with the challenge that tells Key Vault's SDKs where to get one, and takes tokens
    /// of one authority, for one audience, with one role; it knows the authority's keys from its discovery documents alone.
    /// Runs until SIGTERM or Ctrl-C. Without options it fits the `ficus dev` of the same folder.
    ///
    /// Exits 69 when the authority can't be reached.
    Vault(vault::VaultArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Issuers {
    /// Where they really are, so that a broker needs to be told no more than the CA.
    Own,
    /// The names of the real platforms, for verifiers that can be told to look elsewhere; ficus itself never takes a
    /// public issuer's keys from loopback.
    Real,
}

pub(super) fn run(args: &EmulateArgs) -> Result<(), Failure> {
    if let Some(What::Vault(args)) = &args.what {
        return vault::run(args);
    }
    prepare(args.listen, "anybody who reaches an emulated platform gets its tokens", &args.data)?;
    runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let mut settings =
            Settings { port: args.listen.port(), folder: Some(args.data.clone()), ..Settings::default() };
        if args.issuers == Issuers::Real {
            settings = settings.real_issuers();
        }
        let emulator = Emulator::start(settings).await?;
        emulator.prepare_keys();
        let samples = samples::all(&emulator);
        let jobs = Misfits::register(&emulator).description(&samples[0]);
        let ca_file = args.data.join("ca.pem");
        write_description(args, &ca_file, &samples, &jobs)?;
        output::print(&shown(args.issuers, &ca_file, &samples));
        stop.requested().await;
        emulator.shutdown().await;
        Ok(())
    })
}

/// What is emulated has loopback and a folder of its own.
fn prepare(listen: SocketAddr, why: &str, data: &Path) -> Result<(), Failure> {
    if listen.ip() != Ipv4Addr::LOCALHOST {
        let port = listen.port();
        return Err(Failure::Line(format!("--listen {listen}: {why} (hint: 127.0.0.1:{port})")));
    }
    files::make_private_folder(data).map_err(|error| {
        Failure::Line(format!("{}: {error} (hint: choose another folder with --data)", data.display()))
    })
}

/// `emulate.json`: the same facts for scripts.
fn write_description(
    args: &EmulateArgs,
    ca_file: &Path,
    samples: &[Sample],
    jobs: &Value,
) -> Result<(), Failure> {
    let issuers: Map<String, Value> =
        samples.iter().map(|sample| (sample.key.to_owned(), sample.description())).collect();
    let description = json!({ "ca_file": absolute(ca_file), "issuers": issuers, "jobs": jobs });
    let text = serde_json::to_vec_pretty(&description)?;
    files::write(&args.data.join("emulate.json"), &text, files::PRIVATE)?;
    Ok(())
}

fn shown(issuers: Issuers, ca_file: &Path, samples: &[Sample]) -> String {
    let mut text =
        String::from("\nThe emulated platforms are up. What each says its issuer is, and where it is:\n\n");
    for sample in samples {
        let _ = writeln!(text, "  {:<8}{}", sample.platform, sample.issuer);
        let _ = writeln!(text, "  {:<8}{}", "", sample.discovery_url);
    }
    let _ = write!(
        text,
        "\nTheir CA: {}\n\nA token of each, with audience {AUDIENCE}:\n",
        absolute(ca_file).display()
    );
    for sample in samples {
        let _ = write!(
            text,
            "\n# {}, {}\n# sub: {}\n{}\n",
            sample.platform,
            sample.workload,
            sample.subject,
            sample.curl(&shell_quoted(ca_file))
        );
    }
    if issuers == Issuers::Real {
        text.push_str("\nficus itself takes no public issuer's keys from loopback, whatever it is told; others may, with:\n");
    } else {
        text.push_str(
            "\nA broker trusts them with these entries, and a credential that names issuer and sub:\n",
        );
    }
    for sample in samples {
        let _ = write!(text, "\n{}", entry(issuers, ca_file, sample));
    }
    text.push_str("\nCtrl-C stops.\n");
    text
}

/// The `[[issuer]]` entry of one platform. An issuer that is its own place needs no `discovery_url`.
fn entry(issuers: Issuers, ca_file: &Path, sample: &Sample) -> String {
    // A path as a TOML string: JSON's escapes are TOML's, too.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut entry = format!("[[issuer]]\nurl = {}\n", quoted(&sample.issuer));
    if issuers == Issuers::Real {
        let _ = writeln!(entry, "discovery_url = {}", quoted(&sample.discovery_url));
    }
    let _ = writeln!(entry, "ca_file = {}", quoted(&absolute(ca_file).display().to_string()));
    entry.push_str("allow_private_network = true\n");
    entry
}
