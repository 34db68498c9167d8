//! One `[[issuer]]` table: what differs from the defaults for one issuer.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::{Host, Url};

use super::egress::{PrivateHosts, check_url};
use super::fault::Cause;
use super::settings::duration;
use crate::document::Reader;
use crate::domain::algorithm::Algorithm;
use crate::domain::policy::IssuerPolicy;
use crate::domain::rules::{self, Broken, Exposure, exposure};

const OPEN: &str = "set allow_private_network = true if it is meant to be inside your network";
const NEVER: &str = "link-local, metadata, reserved and translated addresses stay shut";

/// Keys of an entry that name a file, which is read together with the entry and followed when it changes.
pub const FILE_KEYS: [&str; 1] = ["ca_file"];

/// What the configuration says about one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerEntry {
    policy: IssuerPolicy,
    allow_private_network: bool,
    source: Source,
}

/// Where an issuer's documents are fetched from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The full URL of the discovery document, where it is not below the issuer.
    pub discovery_url: Option<String>,
    /// Roots that replace the public ones; empty for the public ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// The only places inside a network that may be connected to.
    pub private_hosts: PrivateHosts,
}

impl IssuerEntry {
    /// Reads one table. Problems are noted on the reader; an entry that lacks what trust hangs on is not given at all.
    pub fn read(reader: &mut Reader<'_>, base: &Path) -> Option<Self> {
        let url = read_url(reader);
        let discovery_url: Option<String> = reader.get("discovery_url");
        let allow_private_network = reader.get_or("allow_private_network", false);
        let mut private_hosts = read_private_hosts(reader, allow_private_network);
        let roots = read_roots(reader, base);
        let policy = read_policy(reader, url.as_deref().unwrap_or_default());

        let discovery = discovery_url.as_deref();
        let places = [("url", url.as_deref()), ("discovery_url", discovery)];
        if allow_private_network {
            let urls = places.iter().filter_map(|(_, text)| Url::parse((*text)?).ok());
            urls.for_each(|url| private_hosts.add_url(&url));
        }
        for (key, text) in places {
            let checked =
                text.map_or(Ok(()), |text| check_place(text, allow_private_network, &private_hosts));
            note(reader, key, checked);
        }
        note(reader, "discovery_url", check_not_loopback(url.as_deref(), discovery));
        url?;
        let source = Source { discovery_url, roots: roots?, private_hosts };
        Some(Self { policy, allow_private_network, source })
    }

    /// The issuer, as tokens carry it.
    pub fn url(&self) -> &str {
        &self.policy.issuer
    }

    /// Whether its tokens are accepted at all.
    pub fn enabled(&self) -> bool {
        self.policy.enabled
    }

    /// Whether its host may be an IP literal or localhost.
    pub fn allows_private_network(&self) -> bool {
        self.allow_private_network
    }

    /// What is demanded of its tokens.
    pub fn policy(&self) -> IssuerPolicy {
        self.policy.clone()
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}

/// Reads every `[[issuer]]` table to its end; two for one issuer are a problem.
pub fn read_all(readers: Vec<Reader<'_>>, base: &Path) -> Vec<IssuerEntry> {
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(readers.len());
    for mut reader in readers {
        if let Some(entry) = IssuerEntry::read(&mut reader, base) {
            if !seen.insert(entry.url().to_owned()) {
                reader.problem("url", format!("{:?} has an entry already", entry.url()), "keep one of them");
            }
            entries.push(entry);
        }
        reader.finish();
    }
    entries
}

fn note(reader: &Reader<'_>, key: &str, checked: Result<(), Broken>) {
    if let Err(Broken { message, hint }) = checked {
        reader.problem(key, message, hint);
    }
}

fn read_url(reader: &mut Reader<'_>) -> Option<String> {
    let url: String = reader.need("url")?;
    match rules::issuer(&url) {
        Ok(_) => Some(url),
        Err(Broken { message, hint }) => {
            reader.problem("url", message, hint);
            None
        }
    }
}

fn read_private_hosts(reader: &mut Reader<'_>, allowed: bool) -> PrivateHosts {
    let mut hosts = PrivateHosts::default();
    let Some(places) = reader.list::<String>("private_hosts") else { return hosts };
    if !allowed {
        reader.problem("private_hosts", "has no effect without allow_private_network", OPEN);
    }
    for place in places {
        let added = hosts.add(&place);
        note(reader, "private_hosts", added);
        let literal = check_url(&format!("https://{place}"), &hosts);
        if literal == Err(Cause::Address) {
            reader.problem("private_hosts", format!("{place:?} is never connected to"), NEVER);
        }
    }
    hosts
}

/// The certificates of `ca_file`, read now so that what is wrong with it shows at the start; `None` after a problem, since
/// an empty list would mean the public roots.
fn read_roots(reader: &mut Reader<'_>, base: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let Some(path) = reader.get::<PathBuf>("ca_file") else { return Some(Vec::new()) };
    let path = base.join(path);
    let problem = |reader: &Reader<'_>, message: String| {
        reader.problem("ca_file", message, "expected a PEM file with at least one certificate");
        None
    };
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) => return problem(reader, format!("{} can't be read: {error}", path.display())),
    };
    let certificates: Vec<_> = match CertificateDer::pem_slice_iter(&pem).collect() {
        Ok(certificates) => certificates,
        Err(error) => return problem(reader, format!("{} is not valid PEM: {error}", path.display())),
    };
    if certificates.is_empty() {
        return problem(reader, format!("{} holds no certificate", path.display()));
    }
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        if store.add(certificate.clone()).is_err() {
            let message = format!("certificate {} of {} can't be used", index + 1, path.display());
            return problem(reader, message);
        }
    }
    Some(certificates)
}

fn read_policy(reader: &mut Reader<'_>, issuer: &str) -> IssuerPolicy {
    let standard = IssuerPolicy::standard(issuer);
    let algorithms = reader.list::<Algorithm>("algorithms");
    if algorithms.as_ref().is_some_and(Vec::is_empty) {
        reader.problem("algorithms", "is empty: no token would be accepted", "set enabled = false for that");
    }
    let seconds = Duration::from_secs;
    let lifetimes = seconds(60)..=seconds(366 * 24 * 3600);
    IssuerPolicy {
        enabled: reader.get_or("enabled", standard.enabled),
        algorithms: algorithms.unwrap_or(standard.algorithms),
        require_kid: reader.get_or("require_kid", standard.require_kid),
        leeway: duration(reader, "leeway", standard.leeway, seconds(0)..=seconds(300)),
        max_token_lifetime: duration(reader, "max_token_lifetime", standard.max_token_lifetime, lifetimes),
        multiple_audiences: reader.get_or("multiple_audiences", standard.multiple_audiences),
        issuer: standard.issuer,
    }
}

/// The same check as before every fetch; beyond it, a host that is an address must be meant to be one.
fn check_place(text: &str, allowed: bool, private_hosts: &PrivateHosts) -> Result<(), Broken> {
    let broken = |message, hint| Err(Broken { message, hint });
    match check_url(text, private_hosts) {
        Err(Cause::Address) if allowed => {
            broken(format!("the host of {text:?} is never connected to"), NEVER)
        }
        Err(Cause::Url(fault)) => broken(format!("{text:?} {fault}"), ""),
        Err(_) => broken(format!("the host of {text:?} is an address inside a network"), OPEN),
        Ok((url, _)) if !allowed && exposure(&url) == Exposure::Private => {
            broken(format!("the host of {text:?} is an IP address or localhost"), OPEN)
        }
        Ok(_) => Ok(()),
    }
}

/// Whoever may write to a port of this machine would speak for an issuer that others trust. Emulators are routed to in
/// memory ([`super::Overrides`]), never by a file that might reach production.
fn check_not_loopback(url: Option<&str>, discovery_url: Option<&str>) -> Result<(), Broken> {
    let parse = |text: Option<&str>| Url::parse(text?).ok();
    let (Some(url), Some(discovery)) = (parse(url), parse(discovery_url)) else { return Ok(()) };
    let loopback = match discovery.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        _ => exposure(&discovery) == Exposure::Private,
    };
    if loopback && exposure(&url) == Exposure::Public {
        return Err(Broken {
            message: format!("{:?} is on this machine, but the issuer is not", discovery.as_str()),
            hint: "`check` and `serve` refuse to take a public issuer's keys from loopback; for emulators use `ficus dev`",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, read_entries};
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read_entries(&format!("[[issuer]]\n{text}"), Path::new("/nowhere")).1
    }

    #[test]
    fn an_entry_differs_from_the_defaults_only_where_it_says_so() {
        let (entries, problems) =
            read_entries("[[issuer]]\nurl = \"https://a.example\"\n", Path::new("/nowhere"));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(entries[0].policy(), IssuerPolicy::standard("https://a.example"));
        assert_eq!(entries[0].source, Source::default());
        assert!(!entries[0].allows_private_network());
    }

    #[test]
    fn everything_can_be_said() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let text = r#"
            [[issuer]]
            url = "https://10.0.0.1:6443"
            enabled = false
            ca_file = "ca.pem"
            allow_private_network = true
            private_hosts = ["keys.internal:8443"]
            discovery_url = "https://discovery.internal/d"
            algorithms = ["ES512", "EdDSA"]
            require_kid = false
            leeway = "0s"
            max_token_lifetime = "366days"
            multiple_audiences = true
        "#;
        let (entries, problems) = read_entries(text, folder.path());
        assert!(problems.is_empty(), "{problems:?}");
        let mut private_hosts = PrivateHosts::default();
        for place in ["keys.internal:8443", "10.0.0.1:6443", "discovery.internal:443"] {
            private_hosts.add(place).unwrap();
        }
        let expected = IssuerEntry {
            policy: IssuerPolicy {
                issuer: "https://10.0.0.1:6443".into(),
                enabled: false,
                algorithms: vec![Algorithm::Es512, Algorithm::EdDsa],
                leeway: Duration::ZERO,
                max_token_lifetime: Duration::from_secs(366 * 24 * 3600),
                require_kid: false,
                multiple_audiences: true,
            },
            allow_private_network: true,
            source: Source {
                discovery_url: Some("https://discovery.internal/d".to_owned()),
                roots: vec![authority.certificate()],
                private_hosts,
            },
        };
        assert_eq!(entries, [expected]);
    }

    #[test]
    fn all_problems_of_a_table_are_reported_at_once() {
        let text = "url = \"http://a.example\"\ndiscovery_url = \"/d\"\nca_file = \"none.pem\"\n\
                    private_hosts = [\"b\"]\nalgorithms = []\nleeway = \"6m\"\nmax_token_lifetime = \"1s\"\nkid = 1\n";
        let found = problems(text);
        let keys: Vec<_> = found.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
        assert_eq!(
            keys,
            [
                "issuer[0].url",
                "issuer[0].private_hosts",
                "issuer[0].private_hosts",
                "issuer[0].ca_file",
                "issuer[0].algorithms",
                "issuer[0].leeway",
                "issuer[0].max_token_lifetime",
                "issuer[0].discovery_url",
                "issuer[0].kid",
            ],
            "{found:#?}"
        );
    }

    #[test]
    fn addresses_and_localhost_need_leave_and_forbidden_ones_get_none() {
        let allowed = |text: &str| format!("{text}allow_private_network = true\n");
        for host in ["127.0.0.1", "localhost:8443", "a.localhost", "[::1]", "10.0.0.1", "8.8.8.8"] {
            let text = format!("url = \"https://{host}/x\"\n");
            assert_eq!(problems(&text).len(), 1, "{host}");
            assert!(problems(&allowed(&text)).is_empty(), "{host}");
            let text = format!("url = \"https://a.example\"\ndiscovery_url = \"https://{host}/d\"\n");
            assert!(!problems(&text).is_empty(), "{host}");
        }
        for host in ["169.254.169.254", "[fd00:ec2::254]", "0.0.0.0", "[fe80::1]"] {
            let text = allowed(&format!("url = \"https://{host}/x\"\n"));
            assert!(problems(&text)[0].contains("never connected to"), "{host}");
            let text = allowed(&format!("url = \"https://a.example\"\nprivate_hosts = [\"{host}:443\"]\n"));
            assert!(problems(&text)[0].contains("never connected to"), "{host}");
        }
    }

    #[test]
    fn a_public_issuer_is_never_read_from_loopback() {
        for host in ["127.0.0.1:8443", "localhost:8443", "[::1]:8443", "127.9.9.9"] {
            let text = |url: &str| {
                format!("url = {url:?}\ndiscovery_url = \"https://{host}/d\"\nallow_private_network = true\n")
            };
            assert_eq!(problems(&text("https://a.example")).len(), 1, "{host}");
            assert!(problems(&text("https://localhost:6443")).is_empty(), "{host}");
        }
        let inside = "url = \"https://a.example\"\ndiscovery_url = \"https://10.0.0.1/d\"\nallow_private_network = true\n";
        assert!(problems(inside).is_empty());
    }

    #[test]
    fn a_ca_file_must_hold_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[issuer]]\nurl = \"https://a.example\"\nca_file = \"ca.pem\"\n";
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["", "no PEM", broken, "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            std::fs::write(folder.path().join("ca.pem"), content).unwrap();
            let (entries, problems) = read_entries(text, folder.path());
            assert!(entries.is_empty() && problems.len() == 1, "{content:?} {problems:?}");
        }
    }

    #[test]
    fn one_entry_for_each_issuer() {
        let text = "[[issuer]]\nurl = \"https://a.example\"\n[[issuer]]\nurl = \"https://a.example/\"\n\
                    [[issuer]]\nurl = \"https://a.example\"\n";
        let (_, problems) = read_entries(text, Path::new("/nowhere"));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("f.toml:6: issuer[2].url: "), "{problems:?}");
    }
}
