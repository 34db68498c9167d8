//! The configuration file and the environment become one [`Config`], the sum of every room's settings, or *all* problems.

mod listen;
pub mod moment;
mod reload;
mod watch;

use std::path::{Path, PathBuf};

use crate::audit;
use crate::directory::files::{self, Tree};
use crate::directory::{Content, Surroundings, TenantEntry, compile, expectations};
use crate::document::{Document, Problems, Reader};
use crate::domain::directory::Directory;
use crate::domain::expectation::Expectation;
use crate::domain::ids::Guid;
use crate::exchange::TokenSettings;
use crate::net::Limits;
use crate::signing;
use crate::trust::{self, IssuerEntry, TrustSettings};

pub use listen::ListenSettings;
use moment::Readings;
pub use watch::{Look, Watch};

/// Everything that `ficus.toml` and its variables say.
#[derive(Debug, Clone)]
pub struct Config {
    /// The authority: scheme, host and port. Every URL and `iss` that we publish derives from it.
    pub public_url: String,
    /// Addresses and TLS.
    pub listen: ListenSettings,
    /// All tenants.
    pub tenants: Vec<TenantEntry>,
    /// Where the records are.
    pub directory: PathBuf,
    /// Our signing keys.
    pub keys: signing::Settings,
    /// Bounds on what comes in.
    pub limits: Limits,
    /// What of tokens is computed once.
    pub tokens: TokenSettings,
    /// Defaults for issuers.
    pub trust: TrustSettings,
    /// Issuers that differ from them.
    pub issuers: Vec<IssuerEntry>,
    /// The record of decisions.
    pub audit: audit::Settings,
    origin: Option<Origin>,
}

/// Where a configuration came from, to be read again.
#[derive(Debug, Clone)]
struct Origin {
    file: PathBuf,
    variables: Vec<(String, String)>,
    document: Document<'static>,
    text: String,
}

/// The text of the configuration file, or why it can't be read.
pub type Text = Result<String, String>;

/// Variables that are for `ficus` itself and name no key.
const OTHER_VARIABLES: [&str; 3] = ["FICUS_CONFIG", "FICUS_LOG", "FICUS_ID_TOKEN"];

impl Config {
    /// Reads the file and the variables over it. With any error among the problems the result must not be used.
    pub fn load(
        file: &Path,
        variables: impl Iterator<Item = (String, String)>,
        problems: &Problems,
    ) -> Option<Self> {
        // A pipe will do for commands that read it once: a shell makes one of `<(…)`.
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        Self::load_text(file, text, variables, problems)
    }

    /// The same, where the file's text, or why there is none, is known.
    fn load_text(
        file: &Path,
        text: Text,
        variables: impl Iterator<Item = (String, String)>,
        problems: &Problems,
    ) -> Option<Self> {
        let name = file.display().to_string();
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let hint = "name the file with --config or FICUS_CONFIG; `ficus dev` needs none";
                problems.file(&name, format!("can't be read: {error}"), hint);
                return None;
            }
        };
        let base = file.parent().unwrap_or(Path::new(""));
        let variables: Vec<_> = variables.filter(|(name, _)| name.starts_with("FICUS_")).collect();
        let document = parse(&name, &text, variables.iter().cloned(), problems).into_owned();
        let config = Self::interpret(document.clone(), base, problems);
        Some(Self { origin: Some(Origin { file: file.to_owned(), variables, document, text }), ..config })
    }

    /// Reads a text. Relative paths are relative to `base`, the folder of the file.
    pub fn read(
        name: &str,
        text: &str,
        base: &Path,
        variables: impl Iterator<Item = (String, String)>,
        problems: &Problems,
    ) -> Self {
        Self::interpret(parse(name, text, variables, problems), base, problems)
    }

    fn interpret(document: Document<'_>, base: &Path, problems: &Problems) -> Self {
        let mut root = document.reader(problems);
        let listen = ListenSettings::read(root.section("listen"), base);
        let public_url = listen::public_url(&mut root, &listen);
        let tenants = root.tables("tenant");
        if tenants.is_empty() {
            root.problem("tenant", "there is no [[tenant]]", "add one with an id");
        }
        let config = Self {
            tenants: TenantEntry::read_all(tenants, &public_url),
            listen,
            directory: directory(root.section("directory"), base),
            keys: section(&mut root, "keys", |reader| signing::Settings::read(reader, base)),
            limits: section(&mut root, "limits", Limits::read),
            tokens: section(&mut root, "tokens", TokenSettings::read),
            trust: section(&mut root, "trust", |reader| TrustSettings::read(reader, base)),
            issuers: trust::read_all(root.tables("issuer"), base),
            audit: section(&mut root, "audit", |reader| {
                let mut settings = audit::Settings::read(reader);
                settings.resolve(base);
                settings
            }),
            public_url,
            origin: None,
        };
        root.finish();
        config
    }

    /// Compiles records under this configuration.
    pub fn compile<'c>(
        &self,
        contents: impl IntoIterator<Item = &'c Content>,
        problems: &Problems,
    ) -> Directory {
        compile(contents, &self.surroundings(), problems)
    }

    /// Compiles the directory that this configuration names, after reading what has changed since the tree was read.
    pub fn load_directory(&self, tree: &mut Tree, problems: &Problems) -> Directory {
        tree.read(&self.directory, problems);
        self.compile(tree.contents(), problems)
    }

    /// What is expected of the records, with the tenants that it is expected in.
    pub fn expectations<'c>(
        &self,
        contents: impl IntoIterator<Item = &'c Content>,
    ) -> Vec<(Guid, &'c Expectation)> {
        expectations(contents, &self.surroundings())
    }

    /// The same directory at one moment. Files that the configuration `named` then may be below the folder of the records,
    /// and are none themselves.
    pub fn take_directory(
        &self,
        tree: &mut Tree,
        readings: &Readings,
        named: &[PathBuf],
        problems: &Problems,
    ) -> Directory {
        let is_record = |path: &PathBuf| !named.contains(path) || files::is_record(&self.directory, path);
        let below = readings.iter().filter(|(path, _)| path.starts_with(&self.directory) && is_record(path));
        tree.take_over(
            &self.directory,
            below.map(|(path, reading)| (path.clone(), reading.into())),
            problems,
        );
        self.compile(tree.contents(), problems)
    }

    fn surroundings(&self) -> Surroundings {
        let private = self.issuers.iter().filter(|entry| entry.allows_private_network());
        Surroundings {
            tenants: self.tenants.clone(),
            policies: self.issuers.iter().map(IssuerEntry::policy).collect(),
            private_issuers: private.map(|entry| entry.url().to_owned()).collect(),
        }
    }

    /// Whether the public URL names this machine alone.
    pub fn is_local(&self) -> bool {
        ["localhost", "127.0.0.1", "[::1]"].contains(&self.public_host().as_str())
    }

    /// The host in the public URL.
    pub fn public_host(&self) -> String {
        url::Url::parse(&self.public_url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_else(|| "localhost".to_owned())
    }
}

fn parse<'t>(
    name: &str,
    text: &'t str,
    variables: impl Iterator<Item = (String, String)>,
    problems: &Problems,
) -> Document<'t> {
    let mut document = Document::parse(name, text, problems);
    document.overlay(variables.filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str())), problems);
    document
}

fn section<T>(root: &mut Reader<'_>, name: &'static str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
    let mut reader = root.section(name);
    let settings = read(&mut reader);
    reader.finish();
    settings
}

fn directory(mut reader: Reader<'_>, base: &Path) -> PathBuf {
    reader.one_of_or("source", &[("files", ())], ());
    let path = base.join(reader.get_or("path", PathBuf::from("directory")));
    reader.finish();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "[[tenant]]\nid = \"11111111-1111-1111-1111-111111111111\"\n";

    fn read(text: &str, variables: &[(&str, &str)]) -> (Config, Vec<String>) {
        let problems = Problems::default();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::read("ficus.toml", text, Path::new("/etc/ficus"), variables, &problems);
        (config, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let (config, problems) = read(TENANT, &[]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(config.public_url, "https://localhost:8443");
        assert_eq!(config.listen.address.to_string(), "127.0.0.1:8443");
        assert_eq!(config.listen.ops_address.to_string(), "127.0.0.1:9464");
        assert_eq!(config.directory, Path::new("/etc/ficus/directory"));
        assert_eq!(config.keys.path, Path::new("/etc/ficus/../data/keys"));
        assert!(!config.keys.create);
        assert_eq!(
            &*config.tenants[0].issuer_v2,
            "https://localhost:8443/11111111-1111-1111-1111-111111111111/v2.0"
        );
    }

    #[test]
    fn at_one_moment_too_a_file_that_an_issuer_names_is_no_record_wherever_it_is() {
        use crate::files::Stamp;
        use moment::Reading;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let id = |letter: char| format!("a1b2c3d4-0001-4a00-8000-00000000c00{letter}");
        let identity = |name: &str, [client, principal]: [char; 2]| {
            let ids = format!("client_id = \"{}\"\nprincipal_id = \"{}\"\n", id(client), id(principal));
            format!("[[identity]]\nname = \"{name}\"\nkind = \"application\"\n{ids}")
        };
        std::fs::create_dir_all(at("records/.hidden")).unwrap();
        std::fs::create_dir_all(at("records/acme")).unwrap();
        let named = [at("records/acme/keys.json"), at("records/.hidden/ca.toml"), at("records/both.toml")];
        let texts = ["{\"keys\":[]}".to_owned(), "not = records".to_owned(), identity("both", ['1', '2'])];
        let readings = |named: &[PathBuf]| {
            let records = (at("records/acme/a.toml"), identity("aaa", ['3', '4']));
            let all = named.iter().cloned().zip(texts.clone()).chain([records]);
            let all = all.map(|(path, text)| {
                std::fs::write(&path, &text).unwrap();
                let stamp = Stamp::of(&path).ok();
                (path, Reading::New(stamp, Ok(text)))
            });
            all.collect::<Readings>()
        };
        let config = Config::read("x", TENANT, folder.path(), std::iter::empty(), &Problems::default());
        let config = Config { directory: at("records"), ..config };
        let problems = Problems::default();
        let moment = config.take_directory(&mut Tree::default(), &readings(&named), &named, &problems);
        let listed = config.load_directory(&mut Tree::default(), &problems);
        assert_eq!(problems.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(moment.digest(), listed.digest());
        // A folder that can't be read is no file that is named, and keeps its problem.
        let mut readings = readings(&named);
        readings.insert(at("records/closed"), Reading::Same(None));
        let problems = Problems::default();
        config.take_directory(&mut Tree::default(), &readings, &named, &problems);
        assert!(problems.into_vec()[0].to_string().contains("closed: can't be read"));
    }

    #[test]
    fn all_problems_of_all_sections_come_at_once() {
        let text = "public_url = \"ftp://x/y\"\n[listen]\nadress = 1\n[limits]\nbody = \"1KB\"\n[keys]\ncreate = 1\n\
            [audit]\non_overflow = \"drop\"\n[directory]\nsource = \"ldap\"\n[trust]\nfetch_deadline = \"1h\"\n[nonsense]\n";
        let (_, problems) = read(text, &[]);
        for expected in [
            "public_url",
            "listen.adress",
            "limits.body",
            "keys.create",
            "audit.on_overflow",
            "directory.source",
            "trust.fetch_deadline",
            "nonsense",
            "tenant",
        ] {
            // A hint may name it too.
            let key = format!(": {expected}: ");
            assert_eq!(problems.iter().filter(|p| p.contains(&key)).count(), 1, "{expected}: {problems:#?}");
        }
    }

    #[test]
    fn the_public_url_is_an_authority_and_http_only_where_nobody_listens_in() {
        let problem = |url: &str, extra: &str| {
            let (_, problems) = read(&format!("public_url = \"{url}\"\n{extra}{TENANT}"), &[]);
            problems.join("\n")
        };
        for good in
            ["https://sts.example", "https://sts.example:8443", "http://localhost:8443", "https://[::1]:1"]
        {
            assert_eq!(problem(good, ""), "", "{good}");
        }
        assert_eq!(problem("http://sts.example", "[listen]\ntls = \"off\"\n"), "");
        for wrong in [
            "http://sts.example",
            "https://sts.example/",
            "https://sts.example/path",
            "https://sts.example?x",
            "https://u@sts.example",
            "https://STS.example",
            "https://sts.example:443",
            "x",
        ] {
            assert!(problem(wrong, "").contains("public_url"), "{wrong}");
        }
    }

    #[test]
    fn tls_has_three_forms() {
        use crate::net::TlsSettings;
        let tls = |text: &str| {
            let (config, problems) = read(&format!("[listen]\n{text}\n{TENANT}"), &[]);
            (config.listen.tls, problems.join("\n"))
        };
        assert!(matches!(tls("tls = \"off\""), (TlsSettings::Off, p) if p.is_empty()));
        assert!(matches!(tls("tls = \"self-made\""), (TlsSettings::SelfMade { .. }, p) if p.is_empty()));
        let (files, problems) = tls("tls = { cert = \"tls/c.pem\", key = \"/k.pem\" }");
        assert!(
            matches!(files, TlsSettings::Files { cert, key }
            if cert == Path::new("/etc/ficus/tls/c.pem") && key == Path::new("/k.pem")),
            "{problems}"
        );
        assert!(tls("tls = { cert = \"c.pem\" }").1.contains("listen.tls.key"));
        assert!(tls("tls = \"on\"").1.contains("self-made"));
    }

    #[test]
    fn keys_are_announced_longer_than_they_are_cached_and_rotated_less_often() {
        let problems = |keys: &str| read(&format!("{TENANT}[keys]\n{keys}\n"), &[]).1.join("\n");
        assert_eq!(problems("rotate_every = \"1d\"\nannounce_for = \"65m\""), "");
        assert!(problems("announce_for = \"64m\"").contains("keys.announce_for"));
        assert!(problems("jwks_max_age = \"24h\"").contains("keys.announce_for"));
        assert!(problems("rotate_every = \"36h\"").contains("keys.rotate_every"));
        assert!(problems("rotate_every = \"367d\"").contains("keys.rotate_every"));
    }

    #[test]
    fn rates_are_set_by_variables_and_shown_with_their_bursts() {
        let problems = Problems::with_values();
        let variables = [
            ("FICUS_LIMITS__PER_ADDRESS__RATE", "20/s"),
            ("FICUS_LIMITS__PER_IDENTITY__BURST", "7"),
            ("FICUS_LIMITS__TRUSTED_PROXIES", "10.0.0.0/8"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = format!("{TENANT}[limits.per_identity]\nrate = \"1/h\"\nburst = 2\n");
        let config = Config::read("ficus.toml", &text, Path::new(""), variables.into_iter(), &problems);
        assert!(!problems.any_error());
        assert_eq!(config.limits.per_address.unwrap().burst_size().get(), 20);
        assert_eq!(config.limits.per_identity.unwrap().burst_size().get(), 7);
        let shown = problems.effective();
        for expected in [
            "\n[limits.per_address]\nrate = \"20/s\"\nburst = 20\n",
            "\n[limits.per_identity]\nrate = \"1/h\"\nburst = 7\n",
            "\ntrusted_proxies = [\"10.0.0.0/8\"]\n",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        let (again, problems) = read(&shown, &[]);
        assert_eq!((problems, again.limits), (vec![], config.limits));
    }

    #[test]
    fn variables_override_single_keys() {
        let (config, problems) = read(
            TENANT,
            &[("FICUS_LISTEN__ADDRESS", "0.0.0.0:443"), ("FICUS_KEYS__CREATE", "true"), ("FICUS_LOG", "x")],
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(config.listen.address.to_string(), "0.0.0.0:443");
        assert!(config.keys.create);
    }
}
