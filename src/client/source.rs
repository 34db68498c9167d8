//! Where a platform keeps the OIDC token of a job or pod.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::assertion::{Assertion, LARGEST};
use super::http::Http;
use super::patience::Patience;
use super::{Fault, github};
use crate::secret::Secret;

/// What workload identity of Azure's SDKs reads, and where AKS puts the file.
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AKS_FILE: &str = "/var/run/secrets/azure/tokens/azure-identity-token";
/// What a GitLab job's `id_tokens:` are called, ours first; the others are in GitLab's own guides.
const GITLAB_NAMES: [&str; 3] = ["FICUS_ID_TOKEN", "GITLAB_OIDC_TOKEN", "ID_TOKEN"];

/// Looks variables up; empty ones are as good as absent.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A place to take a platform's token from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// GitHub Actions: asked for over the network.
    GitHub,
    /// GitLab: the variable of an `id_tokens:` block, by name or the first of the usual ones.
    GitLab(Option<String>),
    /// A file that a kubelet keeps up to date; else the one that Azure's SDKs read.
    Kubernetes(Option<PathBuf>),
    /// Any variable.
    Variable(String),
    /// Any file.
    File(PathBuf),
    /// The standard input.
    Stdin,
    /// What a command prints, by `sh -c`.
    Command(String),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, detail) = text.split_once(':').map_or((text, None), |(kind, detail)| (kind, Some(detail)));
        match (kind, detail) {
            (_, Some("")) => Err(format!("there is nothing behind {kind}:")),
            ("github", None) => Ok(Self::GitHub),
            ("gitlab", name) => Ok(Self::GitLab(name.map(str::to_owned))),
            ("kubernetes", path) => Ok(Self::Kubernetes(path.map(PathBuf::from))),
            ("env", Some(name)) => Ok(Self::Variable(name.to_owned())),
            ("file", Some(path)) => Ok(Self::File(path.into())),
            ("stdin", None) => Ok(Self::Stdin),
            ("exec", Some(command)) => Ok(Self::Command(command.to_owned())),
            _ => Err("it is one of github, gitlab, gitlab:NAME, kubernetes, kubernetes:PATH, env:NAME, file:PATH, \
                      stdin, exec:COMMAND"
                .to_owned()),
        }
    }
}

impl Source {
    /// The platform that these variables are of. A job's own token comes before that of the machine which runs it, also
    /// when the job lacks the permission: to take the other one silently would be to act as somebody else.
    pub fn detect(variable: Variables<'_>) -> Option<Self> {
        let is = |name| variable(name).is_some_and(|value| value == "true");
        if is("GITHUB_ACTIONS") || variable(github::URL).is_some() {
            return Some(Self::GitHub);
        }
        if is("GITLAB_CI") || variable(GITLAB_NAMES[0]).is_some() {
            return Some(Self::GitLab(None));
        }
        let pod = variable(TOKEN_FILE).is_some() || variable("KUBERNETES_SERVICE_HOST").is_some();
        pod.then_some(Self::Kubernetes(None))
    }

    /// The platform's token.
    ///
    /// # Errors
    /// When it can't be had, or isn't one; the text says how that probably came, and holds no part of it.
    pub async fn fetch(&self, asked: &Asked<'_>, patience: &mut Patience) -> Result<Assertion, Fault> {
        let (place, token) = self.read(asked, patience).await?;
        let again = |name| (asked.variable)(name).is_some_and(|value| value == token.as_str().trim());
        if again(github::TOKEN) {
            return Err(Fault::Refused(format!(
                "{place} is {}, the token to ask for a token, not the answer (hint: take the member `value` of the \
                 answer; --from github does both)",
                github::TOKEN
            )));
        }
        Assertion::new(&token).map_err(|why| Fault::Refused(format!("{place} {why}")))
    }

    /// What was read, and from where, in words.
    async fn read(
        &self,
        asked: &Asked<'_>,
        patience: &mut Patience,
    ) -> Result<(String, Secret<String>), Fault> {
        let variable = asked.variable;
        match self {
            Self::GitHub => {
                let request = github::Request::of(variable, asked.audience)?;
                Ok(("GitHub's answer".to_owned(), request.send(asked.http, patience).await?))
            }
            Self::GitLab(name) => of_gitlab(name.as_deref(), asked),
            Self::Kubernetes(path) => {
                let path = path.clone().or_else(|| variable(TOKEN_FILE).map(PathBuf::from));
                of_pod(path, asked.audience)
            }
            Self::Variable(name) => match variable(name) {
                Some(value) => Ok((format!("the variable {name}"), Secret::from(value))),
                None => Err(Fault::Refused(format!("the variable {name} is not set, or empty"))),
            },
            Self::File(path) => read_file(path),
            Self::Stdin => {
                let place = "the standard input".to_owned();
                bounded(&place, io::stdin().lock()).map(|secret| (place, secret))
            }
            Self::Command(command) => run(command, patience).await,
        }
    }
}

/// What a source goes by.
pub struct Asked<'a> {
    /// The environment.
    pub variable: Variables<'a>,
    /// The audience, where the platform lets us choose it.
    pub audience: &'a str,
    /// The network.
    pub http: &'a Http,
}

fn of_gitlab(name: Option<&str>, asked: &Asked<'_>) -> Result<(String, Secret<String>), Fault> {
    let names = name.map_or(GITLAB_NAMES.to_vec(), |name| vec![name]);
    let found = names.iter().find_map(|name| Some((*name, (asked.variable)(name)?)));
    if let Some((name, value)) = found {
        return Ok((format!("the variable {name}"), Secret::from(value)));
    }
    Err(Fault::Refused(format!(
        "this job has no OIDC token of GitLab: {} is not set (hint: add to the job in .gitlab-ci.yml:\n\n\
         id_tokens:\n  {}:\n    aud: {}\n\n\
         With another name for it: --from gitlab:NAME)",
        names.join(" or "),
        names[0],
        super::plain(asked.audience)
    )))
}

fn of_pod(path: Option<PathBuf>, audience: &str) -> Result<(String, Secret<String>), Fault> {
    let named = path.is_some();
    let path = path.unwrap_or_else(|| AKS_FILE.into());
    if named || path.exists() {
        return read_file(&path);
    }
    Err(Fault::Refused(format!(
        "this pod has no token for a broker: {TOKEN_FILE} is not set and {AKS_FILE} is not there (hint: add to the pod:\n\n\
         spec:\n  volumes:\n    - name: ficus\n      projected:\n        sources:\n          - serviceAccountToken:\n              \
         path: token\n              audience: {}\n              expirationSeconds: 3600\n\n\
         and mount it; --from kubernetes:PATH names the file. The token in \
         /var/run/secrets/kubernetes.io is for the API server)",
        super::plain(audience)
    )))
}

fn read_file(path: &Path) -> Result<(String, Secret<String>), Fault> {
    let place = path.display().to_string();
    let open = std::fs::File::open(path)
        .map_err(|error| Fault::Refused(format!("{place} can't be read: {error}")))?;
    bounded(&place, open).map(|secret| (place, secret))
}

fn bounded(place: &str, from: impl Read) -> Result<Secret<String>, Fault> {
    // Room from the start, so that no copies are left behind by growing.
    let mut bytes = Vec::with_capacity(LARGEST + 1);
    let read = from.take(LARGEST as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Fault::Refused(format!("{place} can't be read: {error}")))?;
    secret(place, bytes)
}

fn secret(place: &str, bytes: Vec<u8>) -> Result<Secret<String>, Fault> {
    if bytes.len() > LARGEST {
        drop(Zeroizing::new(bytes));
        return Err(Fault::Refused(format!(
            "{place} is larger than {} KiB: that is no token",
            LARGEST >> 10
        )));
    }
    String::from_utf8(bytes).map(Secret::from).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        Fault::Refused(format!("{place} is not text (hint: a token is ASCII; was it saved as UTF-16?)"))
    })
}

/// Its errors go where ours go; they may be all that tells why there is no token.
async fn run(command: &str, patience: &Patience) -> Result<(String, Secret<String>), Fault> {
    let place = "what --from exec: printed".to_owned();
    let failed = |why: String| Fault::Refused(format!("the command of --from exec: {why}"));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    // In a group of its own, so that it can be ended with all that it has started: whoever reads our errors would wait for
    // the last of them.
    shell.process_group(0).kill_on_drop(true);
    let mut child = shell.spawn().map_err(|error| failed(format!("can't be started: {error}")))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let mut output = child.stdout.take();
    let mut bytes = Vec::with_capacity(LARGEST + 1);
    let ended = tokio::time::timeout(patience.left(), async {
        if let Some(output) = &mut output {
            output.take(LARGEST as u64 + 1).read_to_end(&mut bytes).await?;
        }
        // A command that goes on printing would wait for a reader.
        drop(output.take());
        child.wait().await
    });
    let status = match ended.await {
        Ok(status) => status.map_err(|error| failed(error.to_string()))?,
        Err(_) => {
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            return Err(failed(format!("did not end within {} s", patience.limit().as_secs())));
        }
    };
    // One that was cut off has failed for no other reason.
    if !status.success() && bytes.len() <= LARGEST {
        drop(Zeroizing::new(bytes));
        return Err(failed(match status.code() {
            Some(code) => format!("ended with exit code {code}"),
            None => "was killed".to_owned(),
        }));
    }
    secret(&place, bytes).map(|secret| (place, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(variables: &[(&str, &str)]) -> Option<Source> {
        Source::detect(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_platform_is_told_by_its_variables_and_the_job_comes_before_its_machine() {
        let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), (TOKEN_FILE, "/x")];
        assert_eq!(detected(&[]), None);
        assert_eq!(detected(&pod[..1]), Some(Source::Kubernetes(None)));
        assert_eq!(detected(&pod[1..]), Some(Source::Kubernetes(None)));
        assert_eq!(detected(&[&pod[..], &[("GITLAB_CI", "true")]].concat()), Some(Source::GitLab(None)));
        assert_eq!(detected(&[("FICUS_ID_TOKEN", "x")]), Some(Source::GitLab(None)));
        assert_eq!(detected(&[&pod[..], &[("GITHUB_ACTIONS", "true")]].concat()), Some(Source::GitHub));
        assert_eq!(detected(&[(github::URL, "https://x")]), Some(Source::GitHub));
        assert_eq!(detected(&[("GITHUB_ACTIONS", "false")]), None);
    }

    #[test]
    fn sources_are_written_as_the_help_says() {
        for (text, source) in [
            ("github", Source::GitHub),
            ("gitlab", Source::GitLab(None)),
            ("gitlab:T", Source::GitLab(Some("T".to_owned()))),
            ("kubernetes", Source::Kubernetes(None)),
            ("kubernetes:/a:b", Source::Kubernetes(Some("/a:b".into()))),
            ("env:T", Source::Variable("T".to_owned())),
            ("file:/x", Source::File("/x".into())),
            ("stdin", Source::Stdin),
            ("exec:a b:c", Source::Command("a b:c".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(source), "{text}");
        }
        for wrong in ["", "env", "env:", "file:", "exec", "github:x", "stdin:x", "GitHub", "azure"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_no_token_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = |content: &[u8]| {
            let path = folder.path().join("token");
            std::fs::write(&path, content).unwrap();
            read_file(&path).map(|_| ()).unwrap_err().to_string()
        };
        assert!(told(&vec![b'a'; LARGEST + 1]).contains("64 KiB"));
        assert!(told(&[0xff, 0xfe, b'e', 0]).contains("UTF-16"));
        assert!(read_file(folder.path()).is_err() && read_file(&folder.path().join("absent")).is_err());
    }
}
