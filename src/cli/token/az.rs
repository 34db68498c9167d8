//! `--output az`: registers the broker's cloud with az and logs it in with the platform's token.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::super::{Failure, output};
use crate::client::plain;
use crate::client::source::Variables;
use crate::files;
use crate::secret::Secret;

/// What az asks for first.
pub(super) const MANAGER: &str = "https://management.azure.com";
/// What the cloud is called there.
const CLOUD: &str = "ficus";
/// The CAs that az is to trust, beside its own settings; they are wanted for as long as it is logged in.
const BUNDLE: &str = "ficus-ca.pem";

/// Whom to log in, and where.
pub(super) struct Login<'a> {
    pub(super) authority: String,
    pub(super) tenant: &'a str,
    pub(super) client_id: &'a str,
    pub(super) ca_file: Option<&'a Path>,
}

impl Login<'_> {
    pub(super) async fn run(
        &self,
        assertion: &Secret<String>,
        variable: Variables<'_>,
    ) -> Result<(), Failure> {
        let bundle = self.bundle(variable)?;
        let az = |arguments: &[&str]| {
            let mut command = Command::new("az");
            command.args(arguments).arg("--only-show-errors").kill_on_drop(true);
            // Else it asks login.microsoftonline.com whether this host is one of Microsoft's.
            command.env("AZURE_CORE_INSTANCE_DISCOVERY", "false");
            if let Some(bundle) = &bundle {
                command.env("REQUESTS_CA_BUNDLE", bundle).env("SSL_CERT_FILE", bundle);
            }
            command
        };
        done(az(&["config", "set", "core.instance_discovery=false"]), None).await?;
        let cloud = ["-n", CLOUD, "--endpoint-resource-manager", &self.authority];
        let registered = run(az(&[&["cloud", "register"], &cloud[..]].concat()), None).await?;
        if !registered.status.success() {
            // There since an earlier login, if not broken: it is described anew either way.
            done(az(&[&["cloud", "update"], &cloud[..]].concat()), None).await?;
        }
        done(az(&["cloud", "set", "-n", CLOUD]), None).await?;
        let who = ["login", "--service-principal", "-u", self.client_id, "--tenant", self.tenant];
        // An argument can be read by every process of the machine; az reads `@-` from its standard input.
        let token = ["--federated-token", "@-", "--allow-no-subscriptions"];
        done(az(&[&who[..], &token[..]].concat()), Some(assertion)).await?;
        if let Some(bundle) = bundle {
            output::error(&format!(
                "az is logged in. It trusts the broker while this is set: export REQUESTS_CA_BUNDLE={}",
                super::super::shell_quoted(&bundle)
            ));
        }
        Ok(())
    }

    /// The system's roots and the broker's CA in one file, since what az is told replaces what it has.
    fn bundle(&self, variable: Variables<'_>) -> Result<Option<PathBuf>, Failure> {
        let Some(ca_file) = self.ca_file else { return Ok(None) };
        let home = || Some(PathBuf::from(variable("HOME")?).join(".azure"));
        let folder = variable("AZURE_CONFIG_DIR").map(PathBuf::from).or_else(home);
        let folder =
            folder.ok_or_else(|| Failure::Line("neither HOME nor AZURE_CONFIG_DIR is set".to_owned()))?;
        let failed = |error: std::io::Error| Failure::Line(format!("{}: {error}", folder.display()));
        files::make_private_folder(&folder).map_err(failed)?;
        let mut text = std::fs::read(ca_file).map_err(failed)?;
        for root in rustls_native_certs::load_native_certs().certs {
            text.extend_from_slice(b"\n-----BEGIN CERTIFICATE-----\n");
            for line in STANDARD.encode(&root).as_bytes().chunks(64) {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
            text.extend_from_slice(b"-----END CERTIFICATE-----\n");
        }
        let bundle = super::super::absolute(&folder.join(BUNDLE));
        files::write(&bundle, &text, files::PUBLIC).map_err(failed)?;
        Ok(Some(bundle))
    }
}

/// Runs az to its end, and fails when it does.
async fn done(command: Command, input: Option<&Secret<String>>) -> Result<(), Failure> {
    let ended = run(command, input).await?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let line = said.lines().find(|line| line.contains("ERROR")).unwrap_or("it says nothing of the cause");
    Err(Failure::Line(format!("az failed: {}", plain(line.trim_start_matches("ERROR: ")))))
}

async fn run(mut command: Command, input: Option<&Secret<String>>) -> Result<Output, Failure> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => " (hint: install azure-cli, or put it on the PATH)",
            _ => "",
        };
        Failure::Line(format!("az can't be run: {error}{hint}"))
    };
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child =
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let (Some(secret), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(secret.as_str().as_bytes()).await.map_err(failed)?;
    }
    child.wait_with_output().await.map_err(failed)
}
