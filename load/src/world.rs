//! The folder that a broker runs from: configuration and directory, generated.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Failure;
use crate::issuer::Issuer;
use crate::scenario::MOST_CONNECTIONS;
use crate::shape::Shape;
use crate::signer::Algorithm;

pub(crate) const TENANT: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";

/// Identities in one file.
const IDENTITIES_PER_FILE: usize = 500;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) public_url: String,
    pub(crate) ops_url: String,
    changes: AtomicU64,
}

/// What a token asked for is to look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource {
    pub(crate) uri: &'static str,
    pub(crate) client_id: &'static str,
    pub(crate) version: &'static str,
    /// Seconds.
    pub(crate) lifetime: i64,
}

/// The resource whose tokens are signed so.
pub(crate) fn resource(algorithm: Algorithm) -> Resource {
    match algorithm {
        Algorithm::Rs256 => Resource {
            uri: "https://vault.load.example",
            client_id: "cccccccc-0001-4a00-8000-000000000001",
            version: "1.0",
            lifetime: 3600,
        },
        Algorithm::Es256 => Resource {
            uri: "api://load-es256",
            client_id: "cccccccc-0002-4a00-8000-000000000002",
            version: "2.0",
            lifetime: 1800,
        },
    }
}

pub(crate) fn client_id(identity: usize) -> String {
    format!("aaaaaaaa-0000-4a00-8000-{identity:012}")
}

pub(crate) fn principal_id(identity: usize) -> String {
    format!("bbbbbbbb-0000-4a00-8000-{identity:012}")
}

/// The subject of a credential; one past the last is nobody's.
pub(crate) fn subject(identity: usize, credential: usize) -> String {
    format!("repo:load--org/service-{identity}:environment:production-{credential}")
}

impl World {
    /// What was written for a broker that runs at this URL.
    pub(crate) fn at(folder: &Path, public_url: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            public_url: public_url.trim_end_matches('/').to_owned(),
            ops_url: String::new(),
            changes: AtomicU64::new(0),
        }
    }

    /// Writes everything below the folder.
    pub(crate) fn write(folder: &Path, shape: &Shape, issuer: &Issuer) -> Result<Self, Failure> {
        // Held together, so that they differ, and let go for the broker.
        let ports = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [public, ops] = [ports[0].local_addr()?.port(), ports[1].local_addr()?.port()];
        drop(ports);
        let world = Self {
            folder: folder.to_owned(),
            public_url: format!("https://localhost:{public}"),
            ops_url: format!("http://127.0.0.1:{ops}"),
            changes: AtomicU64::new(0),
        };
        let directory = folder.join("etc/directory");
        fs::create_dir_all(&directory)?;
        fs::write(folder.join("issuer.pem"), issuer.ca_pem())?;
        fs::write(world.config_file(), config([public, ops], issuer)?)?;
        fs::write(directory.join("resources.toml"), resources(shape))?;
        for first in (0..shape.identities).step_by(IDENTITIES_PER_FILE) {
            let identities = first..(first + IDENTITIES_PER_FILE).min(shape.identities);
            let mut text = String::new();
            for identity in identities {
                record(&mut text, identity, shape, issuer)?;
            }
            fs::write(directory.join(format!("identities-{first:06}.toml")), text)?;
        }
        world.change()?;
        Ok(world)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("etc/ficus.toml")
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("data/tls/ca.pem")
    }

    pub(crate) fn audit_file(&self) -> PathBuf {
        self.folder.join("data/audit.jsonl")
    }

    /// Changes one file of the directory, in a record that nobody asks for.
    pub(crate) fn change(&self) -> Result<(), Failure> {
        let change = self.changes.fetch_add(1, Ordering::Relaxed);
        let text = format!(
            "[[identity]]\nname = \"id-changing\"\nkind = \"application\"\n\
             client_id = \"aaaaaaaa-ffff-4a00-8000-000000000000\"\n\
             principal_id = \"bbbbbbbb-ffff-4a00-8000-000000000000\"\ntags = {{ change = \"{change}\" }}\n"
        );
        let folder = self.folder.join("etc/directory");
        // Beside, under a name that is not read, and renamed: no reader sees half of it.
        let beside = folder.join("changing.new");
        fs::write(&beside, text)?;
        Ok(fs::rename(beside, folder.join("changing.toml"))?)
    }
}

fn config([public, ops]: [u16; 2], issuer: &Issuer) -> Result<String, Failure> {
    // Room for questions beside the load.
    let connections = MOST_CONNECTIONS + 1000;
    let mut text = format!(
        "# Generated by ficus-load.\npublic_url = \"https://localhost:{public}\"\n\
         [listen]\naddress = \"127.0.0.1:{public}\"\nops_address = \"127.0.0.1:{ops}\"\n\
         [[tenant]]\nid = \"{TENANT}\"\ndomain = \"load.example\"\n\
         [keys]\ncreate = true\n\
         [audit]\nrotate_size = \"64GiB\"\n\
         [limits]\nconnections = {connections}\n"
    );
    for url in issuer.urls() {
        writeln!(
            text,
            "[[issuer]]\nurl = \"{url}\"\nca_file = \"../issuer.pem\"\nallow_private_network = true"
        )?;
    }
    Ok(text)
}

fn resources(shape: &Shape) -> String {
    let [vault, api] = [resource(Algorithm::Rs256), resource(Algorithm::Es256)];
    // Who has no role is granted a token only where none is asked for.
    let assigned = shape.roles > 0;
    format!(
        "[[resource]]\nname = \"vault\"\nclient_id = \"{}\"\nidentifier_uris = [\"{}\"]\nscope = \"/apis/vault\"\n\
         token_version = 1\nsigning_algorithm = \"RS256\"\ntoken_lifetime = \"1h\"\nassignment_required = {assigned}\n\
         [[resource]]\nname = \"api\"\nclient_id = \"{}\"\nidentifier_uris = [\"{}\"]\nscope = \"/apis/api\"\n\
         token_version = 2\nsigning_algorithm = \"ES256\"\ntoken_lifetime = \"30m\"\nassignment_required = {assigned}\n",
        vault.client_id, vault.uri, api.client_id, api.uri
    )
}

/// One identity with its credentials and roles.
fn record(text: &mut String, identity: usize, shape: &Shape, issuer: &Issuer) -> Result<(), Failure> {
    let (client, principal) = (client_id(identity), principal_id(identity));
    writeln!(
        text,
        "[[identity]]\nname = \"id-{identity}\"\nkind = \"application\"\nclient_id = \"{client}\"\n\
         principal_id = \"{principal}\""
    )?;
    for credential in 0..shape.credentials {
        let subject = subject(identity, credential);
        let issuer = issuer.url(shape.issuer_of(identity, credential));
        writeln!(
            text,
            "[[identity.federated_credential]]\nname = \"c-{credential}\"\nissuer = \"{issuer}\"\n\
             subject = \"{subject}\""
        )?;
    }
    for role in 0..shape.roles {
        for scope in ["/apis/vault", "/apis/api"] {
            writeln!(
                text,
                "[[role_assignment]]\nprincipal_id = \"{principal}\"\nrole = \"Load.Role.{role}\"\nscope = \"{scope}\""
            )?;
        }
    }
    Ok(())
}
