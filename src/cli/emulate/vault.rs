//! `ficus emulate vault`: an API to try the broker's tokens on.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::super::serve::Stop;
use super::super::{Failure, UNAVAILABLE, absolute, output, runtime, shell_quoted};
use super::prepare;
use crate::emulator::vault::{Secret, Settings, StartError, Tenant, Vault};
use crate::files;

#[derive(Args)]
pub(super) struct VaultArgs {
    /// Where the vault is; port 0 takes a free one. Only 127.0.0.1.
    #[arg(long, default_value = "127.0.0.1:8445", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Folder for the vault's own CA and vault.json, which tells scripts where everything is.
    #[arg(long, default_value = "data/vault", value_name = "FOLDER")]
    data: PathBuf,
    /// Whose tokens are accepted: the broker's public URL and the tenant's GUID. Its discovery documents tell the rest.
    #[arg(
        long,
        default_value = "https://localhost:8443/11111111-1111-1111-1111-111111111111",
        value_name = "URL"
    )]
    authority: Tenant,
    /// The CA, or several, that the authority's server must be under.
    #[arg(long, default_value = "data/dev/tls/ca.pem", value_name = "FILE")]
    ca_file: PathBuf,
    /// The audience that tokens must have, compared byte for byte.
    #[arg(long, default_value = "https://vault.azure.net", value_name = "URI")]
    resource: String,
    /// The role that tokens must have among their `roles`: the broker puts those there that are assigned at the scope of
    /// the resource or above.
    #[arg(long, default_value = "Key Vault Secrets User", value_name = "NAME")]
    role: String,
    /// What there is to read; may be given several times. Only for samples: command lines can be read by others.
    #[arg(
        long = "secret",
        default_value = "sample-secret=a sample, not a secret",
        value_name = "NAME=VALUE"
    )]
    secrets: Vec<Secret>,
}

pub(super) fn run(args: &VaultArgs) -> Result<(), Failure> {
    prepare(args.listen, "an emulated vault is for this machine alone", &args.data)?;
    let authority_ca = fs::read(&args.ca_file).map_err(|error| {
        Failure::Line(format!(
            "--ca-file {}: {error} (hint: `ficus dev` makes its own in data/dev/tls; of a broker it is the CA that its \
             clients trust)",
            args.ca_file.display()
        ))
    })?;
    runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let settings = Settings {
            port: args.listen.port(),
            folder: args.data.clone(),
            authority: args.authority.clone(),
            authority_ca,
            resource: args.resource.clone(),
            role: args.role.clone(),
            secrets: args.secrets.clone(),
        };
        let vault = tokio::select! {
            started = Vault::start(settings) => started.map_err(|error| failure(args, error))?,
            () = stop.requested() => return Ok(()),
        };
        write_description(args, &vault)?;
        output::print(&shown(args, &vault));
        stop.requested().await;
        vault.shutdown().await;
        Ok(())
    })
}

fn failure(args: &VaultArgs, error: StartError) -> Failure {
    match error {
        StartError::Trust(error) => {
            output::error(&format!(
                "the authority's documents can't be had: {error} (hint: is the broker up, is --authority its public URL and \
                 a tenant of it, and is its server under the CA in {}?)",
                args.ca_file.display()
            ));
            Failure::Code(UNAVAILABLE)
        }
        error => error.into(),
    }
}

/// `vault.json`: the same facts for scripts, and no values of secrets.
fn write_description(args: &VaultArgs, vault: &Vault) -> Result<(), Failure> {
    let description = json!({
        "url": vault.url(),
        "ca_file": absolute(&ca_file(args)),
        "authority": args.authority.url(),
        "resource": args.resource,
        "role": args.role,
        "secrets": names(args),
    });
    let text = serde_json::to_vec_pretty(&description)?;
    files::write(&args.data.join("vault.json"), &text, files::PRIVATE)?;
    Ok(())
}

fn ca_file(args: &VaultArgs) -> PathBuf {
    args.data.join("ca.pem")
}

fn names(args: &VaultArgs) -> Vec<&str> {
    args.secrets.iter().map(|secret| secret.name.as_str()).collect()
}

fn shown(args: &VaultArgs, vault: &Vault) -> String {
    let quoted = |path: &Path| shell_quoted(path);
    let (url, ca, both) = (vault.url(), ca_file(args), args.data.join("both.pem"));
    let names = names(args);
    let name = names.first().copied().unwrap_or_default();
    format!(
        "\nThe emulated vault is up: {url}\n\n  \
         tokens of  {}\n  \
         for        {}\n  \
         with role  {}\n  \
         secrets    {}\n  \
         its CA     {}\n\n\
         Without a token it says where tokens come from and what for:\n\n\
         curl -sS -i --cacert {} '{url}/secrets/{name}?api-version=7.6'\n\n\
         With azure-identity's environment of a workload (`ficus dev` prints one), and both CAs in one file\n\
         (pip install azure-identity azure-keyvault-secrets):\n\n\
         cat {} {} > {}\nexport REQUESTS_CA_BUNDLE={}\n\
         python3 -c 'from azure.identity import DefaultAzureCredential as C; from azure.keyvault.secrets import SecretClient as S; \
         print(S(\"{url}\", C(), verify_challenge_resource=False).get_secret(\"{name}\").value)'\n\n\
         Ctrl-C stops.\n",
        args.authority.url(),
        args.resource,
        args.role,
        names.join(", "),
        absolute(&ca).display(),
        quoted(&ca),
        quoted(&args.ca_file),
        quoted(&ca),
        quoted(&both),
        quoted(&both),
    )
}
