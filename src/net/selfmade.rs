//! A certificate authority of our own, for newcomers and laboratories.
//!
//! Clients are given `ca.pem` once. The authority may only vouch for the public host, `localhost` and loopback
//! addresses, so that trusting it opens nothing else, even if its key leaks. What the server shows is a leaf that is
//! made anew at every start and never touches the disk: an authority's own certificate is no server certificate, and
//! several TLS stacks refuse it as one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use super::certificate::{TlsError, pair};
use crate::clock::{EARLIEST, UnixTime};
use crate::files;
use crate::secret::Secret;

const DAY: UnixTime = 24 * 3600;
/// Ten years: clients import `ca.pem` by hand.
const AUTHORITY_LIFE: UnixTime = 3650 * DAY;
/// The longest life that all TLS clients accept of a server's certificate.
const LEAF_LIFE: UnixTime = 397 * DAY;
/// Certificates begin this long ago, for clients whose clock is behind.
const SKEW: UnixTime = DAY;

const PUBLIC: &str = "ca.pem";
const SECRET: &str = "ca-key.pem";
const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";
const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

/// Signs leaves for the names that it is constrained to.
#[derive(Debug)]
pub struct Authority {
    key: Secret<KeyPair>,
    made: UnixTime,
    pem: String,
    path: Option<PathBuf>,
    host: String,
    now: UnixTime,
}

/// The authority kept in this folder for this host, made when there is none, or none that lives long enough.
///
/// `ca-key.pem` holds everything and is written in one step; `ca.pem` is a copy of its public part and is put back
/// whenever it differs. An authority for another host is replaced: clients must then be given the new `ca.pem`.
///
/// # Errors
/// When the folder can't be used, when others may read the key, or when the key file is damaged.
pub fn authority(folder: &Path, host: &str, now: UnixTime) -> Result<Authority, TlsError> {
    const HINT: &str = "the folder of the self-made authority must be ours to read and write";
    let unusable =
        |path: &Path, error: io::Error| TlsError::new(path, format!("can't be used: {error}"), HINT);
    files::make_private_folder(folder).map_err(|error| unusable(folder, error))?;
    // Two processes that start at once must not each make one: the loser would show a leaf that ca.pem can't verify.
    let lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    let _lock = lock.map_err(|error| unusable(folder, error))?;

    let secret = folder.join(SECRET);
    let fits = |kept: &Kept| kept.host == bare(host) && now < kept.made + AUTHORITY_LIFE - LEAF_LIFE;
    let kept = match Kept::read(&secret)?.filter(fits) {
        Some(kept) => kept,
        // An authority of 1970 would end before its first client looks at it.
        None if now < EARLIEST => {
            let message = "can't have an authority made: the clock tells a time before 2020";
            return Err(TlsError::new(folder, message, "set the clock of the machine"));
        }
        None => {
            let kept = Kept::make(host, now)?;
            files::write(&secret, kept.text().as_bytes(), files::PRIVATE)
                .map_err(|error| unusable(&secret, error))?;
            kept
        }
    };
    let public = folder.join(PUBLIC);
    if fs::read_to_string(&public).ok().as_ref() != Some(&kept.pem) {
        files::write(&public, kept.pem.as_bytes(), files::PUBLIC)
            .map_err(|error| unusable(&public, error))?;
    }
    kept.authority(Some(public), now)
}

impl Authority {
    /// An authority that is gone with the process.
    ///
    /// # Errors
    /// When the host is neither a DNS name nor an address.
    pub fn in_memory(host: &str, now: UnixTime) -> Result<Self, TlsError> {
        Kept::make(host, now)?.authority(None, now)
    }

    /// The certificate that clients must trust, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file with that certificate; `None` for one in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The public host, `localhost` and the loopback addresses: the names of the server's own leaf.
    pub fn names(&self) -> Vec<String> {
        let names = [self.host.as_str(), "localhost", "127.0.0.1", "::1"];
        BTreeSet::from(names).into_iter().map(str::to_owned).collect()
    }

    /// A new key and its certificate for these DNS names and addresses, valid for 397 days.
    ///
    /// Names outside the authority's constraints are signed all the same; no client accepts them.
    ///
    /// # Errors
    /// When a name can't be written into a certificate.
    pub fn leaf(&self, names: &[String]) -> Result<CertifiedKey, TlsError> {
        let mut params = CertificateParams::new(names).map_err(unmade)?;
        (params.not_before, params.not_after) = validity(self.now, LEAF_LIFE)?;
        // Has a space: a common name that could be a DNS name is held against the constraints by some clients.
        params.distinguished_name.push(DnType::CommonName, "ficus server");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
        let issuer = Issuer::new(self::params(&self.host, self.made)?, &*self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(unmade)?;
        pair(vec![certificate.into()], key.into()).map_err(unmade)
    }
}

/// What `ca-key.pem` holds: two lines of text, the certificate, the key.
struct Kept {
    host: String,
    made: UnixTime,
    pem: String,
    key: Secret<KeyPair>,
}

impl Kept {
    fn make(host: &str, now: UnixTime) -> Result<Self, TlsError> {
        let key = Secret::from(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?);
        let pem = params(bare(host), now)?.self_signed(&*key).map_err(unmade)?.pem();
        Ok(Self { host: bare(host).to_owned(), made: now, pem, key })
    }

    fn read(file: &Path) -> Result<Option<Self>, TlsError> {
        const HINT: &str = "delete it to have a new authority made, then give clients the new ca.pem";
        let text = match files::read_private(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TlsError::new(file, error, HINT)),
            Ok(text) => text,
        };
        let kept = std::str::from_utf8(&text).ok().and_then(Self::parse);
        kept.map(Some).ok_or_else(|| TlsError::new(file, "is damaged", HINT))
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_at(text.find(CERTIFICATE_BEGINS)?);
        let (pem, key) = rest.split_at(rest.find(KEY_BEGINS)?);
        let line = |name| head.lines().find_map(|line| line.strip_prefix(name));
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = Secret::from(PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?);
        pair(vec![certificate], key.clone_key()).ok()?;
        Some(Self {
            host: line("host: ")?.to_owned(),
            made: line("made: ")?.parse().ok()?,
            pem: pem.to_owned(),
            key: KeyPair::try_from(&*key).ok()?.into(),
        })
    }

    fn text(&self) -> Secret<String> {
        let key = Secret::from(self.key.serialize_pem());
        Secret::from(format!(
            "The key of an authority that ficus made for its own server. Keep it here; clients need {PUBLIC} only.\n\
             host: {}\nmade: {}\n{}{}",
            self.host, self.made, self.pem, *key
        ))
    }

    fn authority(self, path: Option<PathBuf>, now: UnixTime) -> Result<Authority, TlsError> {
        // Else the first leaf would find out that no certificate can be made for the host.
        params(&self.host, self.made)?;
        Ok(Authority { key: self.key, made: self.made, pem: self.pem, path, host: self.host, now })
    }
}

/// What the authority's certificate says. Leaves name its subject as their issuer, so a change of the subject here
/// orphans the authorities that were kept before.
fn params(host: &str, made: UnixTime) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(made, AUTHORITY_LIFE)?;
    params.distinguished_name.push(DnType::OrganizationName, "ficus");
    // X.520 ends a common name after 64 characters.
    let name = format!("ficus authority for {host}").chars().take(64).collect::<String>();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut permitted = vec![
        GeneralSubtree::DnsName("localhost".to_owned()),
        GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv6Addr::LOCALHOST.into(), 128)),
    ];
    match host.parse::<IpAddr>() {
        Ok(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits)));
        }
        Err(_) => {
            DnsName::try_from(host).map_err(|error| unmade(format!("{host:?}: {error}")))?;
            permitted.push(GeneralSubtree::DnsName(host.to_owned()));
        }
    }
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    Ok(params)
}

fn validity(now: UnixTime, life: UnixTime) -> Result<(OffsetDateTime, OffsetDateTime), TlsError> {
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(unmade);
    Ok((at(now - SKEW)?, at(now - SKEW + life)?))
}

/// URLs write IPv6 addresses in brackets, certificates without.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn unmade(error: impl std::fmt::Display) -> TlsError {
    TlsError {
        place: "self-made certificate".to_owned(),
        message: error.to_string(),
        hint: "the host of public_url must be a DNS name or an address, and the clock right",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime as PkiTime};
    use rustls::{CertificateError, Error, RootCertStore};

    use super::super::certificate::provider;
    use super::*;

    const NOW: UnixTime = 1_800_000_000;

    /// Whether a client that trusts only `pem` accepts this leaf for this name, this long after `NOW`.
    fn verify(pem: &str, leaf: &CertifiedKey, name: &str, later: UnixTime) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let at = PkiTime::since_unix_epoch(Duration::from_secs((NOW + later).unsigned_abs()));
        verifier.verify_server_cert(&leaf.cert[0], &[], &name, &[], at).map(drop)
    }

    #[test]
    fn the_leaf_serves_host_and_loopback() {
        for host in ["ficus.example", "localhost", "10.1.2.3", "[fd00::1]"] {
            let authority = Authority::in_memory(host, NOW).unwrap();
            let leaf = authority.leaf(&authority.names()).unwrap();
            for name in [bare(host), "localhost", "127.0.0.1", "::1"] {
                verify(authority.pem(), &leaf, name, 0).unwrap();
            }
            assert!(verify(authority.pem(), &leaf, "other.example", 0).is_err());
            assert!(verify(authority.pem(), &leaf, "localhost", LEAF_LIFE).is_err());
        }
    }

    #[test]
    fn names_outside_the_constraints_are_worthless() {
        let authority = Authority::in_memory("ficus.example", NOW).unwrap();
        for name in ["login.microsoftonline.com", "example", "10.0.0.1", "2001:db8::1"] {
            let leaf = authority.leaf(&[name.to_owned()]).unwrap();
            let refused = verify(authority.pem(), &leaf, name, 0).unwrap_err();
            assert!(matches!(refused, Error::InvalidCertificate(CertificateError::Other(_))), "{refused}");
        }
    }

    #[test]
    fn it_is_kept_for_its_host_and_replaced_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/anew");
        let first = authority(&folder, "localhost", NOW).unwrap();
        let second = authority(&folder, "localhost", NOW + 5 * DAY).unwrap();
        assert_eq!(first.pem(), second.pem());
        assert_eq!(fs::read_to_string(first.path().unwrap()).unwrap(), first.pem());
        // A leaf of the second start is good for whoever trusts the first.
        verify(first.pem(), &second.leaf(&second.names()).unwrap(), "localhost", 5 * DAY).unwrap();

        let other = authority(&folder, "ficus.example", NOW).unwrap();
        assert_ne!(other.pem(), first.pem());
        let old = authority(&folder, "ficus.example", NOW + AUTHORITY_LIFE - LEAF_LIFE).unwrap();
        assert_ne!(old.pem(), other.pem(), "a leaf would outlive it");
    }

    #[test]
    fn modes_are_tight_and_checked() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("tls");
        authority(&folder, "localhost", NOW).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(SECRET)), 0o600);
        assert_eq!(mode(&folder.join(PUBLIC)) & 0o133, 0);

        fs::set_permissions(folder.join(SECRET), fs::Permissions::from_mode(0o640)).unwrap();
        let message = authority(&folder, "localhost", NOW).unwrap_err().to_string();
        assert!(message.contains("ca-key.pem: its mode is 0640, so others can read it"), "{message}");
    }

    #[test]
    fn damage_is_told_and_the_copy_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let first = authority(folder.path(), "localhost", NOW).unwrap();
        fs::write(folder.path().join(PUBLIC), "something else").unwrap();
        let second = authority(folder.path(), "localhost", NOW).unwrap();
        assert_eq!(fs::read_to_string(second.path().unwrap()).unwrap(), first.pem());

        fs::write(folder.path().join(SECRET), "nonsense").unwrap();
        let message = authority(folder.path(), "localhost", NOW).unwrap_err().to_string();
        assert!(message.contains("ca-key.pem: is damaged (hint: delete it"), "{message}");
    }

    #[test]
    fn a_host_that_is_no_name_is_refused() {
        assert!(Authority::in_memory("no host", NOW).is_err());
        assert!(Authority::in_memory("caf\u{e9}.example", NOW).is_err());
    }
}
