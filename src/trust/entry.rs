//! One `[[issuer]]` table: what differs from the defaults for one issuer.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::{Host, Url};

use super::bearer::Bearer;
use super::egress::{PrivateHosts, check_url};
use super::fault::Cause;
use super::settings::duration;
use crate::document::Reader;
use crate::domain::algorithm::Algorithm;
use crate::domain::keyset::KeySet;
use crate::domain::policy::{IssuerPolicy, MAX_LEEWAY};
use crate::domain::rules::{self, Broken, Exposure, exposure};
use crate::files;

const OPEN: &str = "set allow_private_network = true if it is meant to be inside your network";
const NEVER: &str = "link-local, metadata, reserved and translated addresses stay shut";

/// Keys of an entry that name a file, which is read together with the entry and followed when it changes.
pub const FILE_KEYS: [&str; 2] = ["ca_file", "jwks_file"];

/// What the configuration says about one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerEntry {
    policy: IssuerPolicy,
    allow_private_network: bool,
    source: Source,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The full URL of the discovery document, where it is not below the issuer.
    pub discovery_url: Option<String>,
    /// The full URL of the key set; no discovery document is read then.
    pub jwks_url: Option<String>,
    /// The key set itself; nothing is fetched then.
    pub jwks: Option<Bytes>,
    /// What the servers ask of those who read.
    pub bearer: Option<Bearer>,
    /// Roots that replace the public ones; empty for the public ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// The only places inside a network that may be connected to.
    pub private_hosts: PrivateHosts,
}

impl Source {
    /// Whether it may not share connections with others.
    pub(super) fn needs_egress(&self) -> bool {
        !self.roots.is_empty() || !self.private_hosts.is_empty() || self.bearer.is_some()
    }
}

impl IssuerEntry {
    /// Reads one table. Problems are noted on the reader; an entry that lacks what trust hangs on is not given at all.
    pub fn read(reader: &mut Reader<'_>, base: &Path) -> Option<Self> {
        let url = read_url(reader);
        let discovery_url: Option<String> = reader.get("discovery_url");
        let jwks_url: Option<String> = reader.get("jwks_url");
        let token_file = reader.get::<PathBuf>("bearer_token_file").map(|path| base.join(path));
        let jwks = read_jwks(reader, base);
        let allow_private_network = reader.get_or("allow_private_network", false);
        let mut private_hosts = read_private_hosts(reader, allow_private_network);
        let roots = read_roots(reader, base);
        let policy = read_policy(reader, url.as_deref().unwrap_or_default());

        let (discovery, keys) = (discovery_url.as_deref(), jwks_url.as_deref());
        let places = [("url", url.as_deref()), ("discovery_url", discovery), ("jwks_url", keys)];
        let urls = || places.iter().filter_map(|(_, text)| Url::parse((*text)?).ok());
        if allow_private_network {
            urls().for_each(|url| private_hosts.add_url(&url));
        }
        for (key, text) in places {
            let checked =
                text.map_or(Ok(()), |text| check_place(text, allow_private_network, &private_hosts));
            note(reader, key, checked);
        }
        note(reader, "discovery_url", check_not_loopback(url.as_deref(), discovery));
        note(reader, "jwks_url", check_not_loopback(url.as_deref(), keys));
        check_combination(reader);
        let bearer = token_file.map(|file| Bearer::new(file, urls()));
        if let Some(Err(error)) = bearer.as_ref().map(Bearer::read) {
            let hint =
                "it is read again at every fetch; without a token there the issuer's keys can't be had";
            reader.warning("bearer_token_file", error, hint);
        }
        url?;
        let source = Source { discovery_url, jwks_url, jwks: jwks?, bearer, roots: roots?, private_hosts };
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

fn note(reader: &Reader<'_>, key: &'static str, checked: Result<(), Broken>) {
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

/// Two answers to the question where the keys come from; whichever counted, somebody meant the other.
fn check_combination(reader: &Reader<'_>) {
    let exclusive = [
        ("jwks_url", "jwks_file"),
        ("discovery_url", "jwks_file"),
        ("bearer_token_file", "jwks_file"),
        ("discovery_url", "jwks_url"),
    ];
    for (key, other) in exclusive {
        if reader.has(key) && reader.has(other) {
            reader.problem(key, format!("has no effect beside {other}"), "keep one of them");
        }
    }
}

/// The key set of `jwks_file`, read now; the inner `None` when there is no such key, the outer after a problem, since
/// the issuer must not be fetched in its place.
fn read_jwks(reader: &mut Reader<'_>, base: &Path) -> Option<Option<Bytes>> {
    let Some(path) = reader.get::<PathBuf>("jwks_file") else { return Some(None) };
    let path = base.join(path);
    let read = files::read(&path).map_err(|error| format!("can't be read: {error}"));
    let checked = read.and_then(|text| match KeySet::parse(&text) {
        Ok((_, skipped)) => Ok((text, skipped)),
        Err(unusable) => Err(unusable.to_string()),
    });
    match checked {
        Ok((text, skipped)) => {
            for reason in skipped {
                reader.warning("jwks_file", format!("a key of {} is not used: {reason}", path.display()), "");
            }
            Some(Some(text.into()))
        }
        Err(message) => {
            let hint = "expected a JWK set: a JSON object with a list \"keys\"";
            reader.problem("jwks_file", format!("{}: {message}", path.display()), hint);
            None
        }
    }
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
    let pem = match files::read(&path) {
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
        leeway: duration(reader, "leeway", standard.leeway, seconds(0)..=MAX_LEEWAY),
        max_token_lifetime: duration(reader, "max_token_lifetime", standard.max_token_lifetime, lifetimes),
        multiple_audiences: reader.get_or("multiple_audiences", standard.multiple_audiences),
        jti_once: reader.get_or("jti_once", standard.jti_once),
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
fn check_not_loopback(url: Option<&str>, place: Option<&str>) -> Result<(), Broken> {
    let parse = |text: Option<&str>| Url::parse(text?).ok();
    let (Some(url), Some(place)) = (parse(url), parse(place)) else { return Ok(()) };
    let loopback = match place.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        _ => exposure(&place) == Exposure::Private,
    };
    if loopback && exposure(&url) == Exposure::Public {
        return Err(Broken {
            message: format!("{:?} is on this machine, but the issuer is not", place.as_str()),
            hint: "`check` and `serve` refuse to take a public issuer's keys from loopback; for emulators use `ficus dev`",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, GOOD_KEYS, read_entries};
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
        std::fs::write(folder.path().join("token"), "secret\n").unwrap();
        let text = r#"
            [[issuer]]
            url = "https://10.0.0.1:6443"
            enabled = false
            ca_file = "ca.pem"
            allow_private_network = true
            private_hosts = ["keys.internal:8443"]
            discovery_url = "https://discovery.internal/d"
            bearer_token_file = "token"
            algorithms = ["ES512", "EdDSA"]
            require_kid = false
            leeway = "0s"
            max_token_lifetime = "366days"
            multiple_audiences = true
            jti_once = true
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
                jti_once: true,
            },
            allow_private_network: true,
            source: Source {
                discovery_url: Some("https://discovery.internal/d".to_owned()),
                bearer: Some(Bearer::new(
                    folder.path().join("token"),
                    ["https://10.0.0.1:6443", "https://discovery.internal"]
                        .map(|url| Url::parse(url).unwrap()),
                )),
                roots: vec![authority.certificate()],
                private_hosts,
                ..Source::default()
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
    fn a_jwks_url_is_held_to_the_rules_of_a_discovery_url() {
        let text = |rest: &str| format!("url = \"https://a.example\"\n{rest}");
        assert!(problems(&text("jwks_url = \"https://keys.example/k\"\n")).is_empty());
        for wrong in ["http://keys.example", "/k", "https://127.0.0.1/k", "https://169.254.169.254/k"] {
            let found = problems(&text(&format!("jwks_url = {wrong:?}\n")));
            assert!(found[0].contains("issuer[0].jwks_url"), "{wrong}: {found:?}");
        }
        for host in ["127.0.0.1:8443", "localhost", "[::1]"] {
            let rest = format!("jwks_url = \"https://{host}/k\"\nallow_private_network = true\n");
            let found = problems(&text(&rest));
            assert!(found.len() == 1 && found[0].contains("on this machine"), "{host}: {found:?}");
        }
    }

    #[test]
    fn keys_come_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys.json"), GOOD_KEYS).unwrap();
        std::fs::write(folder.path().join("token"), "secret").unwrap();
        let all = [
            ("jwks_file", "keys.json"),
            ("jwks_url", "https://a.example/k"),
            ("discovery_url", "https://a.example/d"),
            ("bearer_token_file", "token"),
        ];
        for (one, other, conflict) in
            [(0, 1, true), (0, 2, true), (0, 3, true), (1, 2, true), (1, 3, false), (2, 3, false)]
        {
            let line = |(key, value): (&str, &str)| format!("{key} = {value:?}\n");
            let text =
                format!("[[issuer]]\nurl = \"https://a.example\"\n{}{}", line(all[one]), line(all[other]));
            let (_, problems) = read_entries(&text, folder.path());
            assert_eq!(problems.len(), usize::from(conflict), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_jwks_file_is_read_at_the_start_and_must_hold_a_usable_key() {
        let folder = tempfile::tempdir().unwrap();
        let read = |content: Option<&str>| {
            match content {
                Some(content) => std::fs::write(folder.path().join("keys.json"), content).unwrap(),
                None => drop(std::fs::remove_file(folder.path().join("keys.json"))),
            }
            read_entries(
                "[[issuer]]\nurl = \"https://a.example\"\njwks_file = \"keys.json\"\n",
                folder.path(),
            )
        };
        let (entries, problems) = read(Some(GOOD_KEYS));
        assert!(problems.is_empty() && entries[0].source.jwks.as_deref() == Some(GOOD_KEYS.as_bytes()));
        let (entries, problems) =
            read(Some(&GOOD_KEYS.replace("[", "[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"},")));
        assert!(entries.len() == 1 && problems.len() == 1 && problems[0].contains("warning"), "{problems:?}");
        for broken in [None, Some(""), Some("{}"), Some("{\"keys\":[]}"), Some("[]")] {
            let (entries, problems) = read(broken);
            assert!(entries.is_empty() && problems.len() == 1, "{broken:?} {problems:?}");
        }
    }

    #[test]
    fn a_token_file_that_is_not_there_yet_is_a_warning() {
        let found = problems("url = \"https://a.example\"\nbearer_token_file = \"none\"\n");
        assert!(found.len() == 1 && found[0].contains("warning"), "{found:?}");
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
