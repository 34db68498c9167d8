//! The replicas of a broker, as their operations listeners tell of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use rustls::ClientConfig;
use tokio::task::JoinSet;
use url::{Host, Url};

use super::http::{self, told};
use super::plain;

/// Time for one answer: it is made from memory.
const ANSWER: Duration = Duration::from_secs(3);
/// Largest answer that is looked at. A change may be refused for thousands of reasons.
const BODY: usize = 1 << 20;
/// So many lines of what is not well are kept.
const NOTES: usize = 20;

/// Where operations listeners are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Url);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !["http", "https"].contains(&url.scheme()) || !plain || url.fragment().is_some() {
            return Err("it has the form http://HOST:PORT (hint: listen.ops_address)".to_owned());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// One replica: a place, and the address where its name stands for several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// As it was asked for.
    pub place: Place,
    /// None where the host is an address or this machine, and where the name has no address.
    pub address: Option<SocketAddr>,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} ({})", self.place, address.ip()),
            None => write!(f, "{}", self.place),
        }
    }
}

/// What a replica says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What decides there.
    Serves(Serving),
    /// Nothing that is understood, and why.
    Silent(String),
}

/// What decides at a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Of its directory.
    pub digest: String,
    /// Changes that have gone live there since its start, and one.
    pub generation: u64,
    /// What is not well there, in its own words: changes that are refused, files that never rest.
    pub notes: Vec<String>,
}

impl Serving {
    /// Whether it says that some change was refused.
    pub fn refuses(&self) -> bool {
        self.notes.iter().any(|note| note.starts_with("refused "))
    }
}

/// Asks replicas. A proxy is none of them, so none is used.
pub struct Replicas {
    tls: ClientConfig,
    /// Connections are kept, so that asking often costs a broker little.
    clients: BTreeMap<Replica, Client>,
}

impl Replicas {
    /// Trusts the system's roots and these PEM certificates.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub fn new(beside: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self { tls: http::tls(beside)?, clients: BTreeMap::new() })
    }

    /// What all of them say now. Names are looked up anew each time: replicas come and go.
    pub async fn ask(&mut self, places: &[Place]) -> BTreeMap<Replica, Answer> {
        let (mut answers, mut asking) = (BTreeMap::new(), JoinSet::new());
        for place in BTreeSet::from_iter(places) {
            let addresses = match addresses(place).await {
                Ok(addresses) => addresses,
                Err(why) => {
                    answers.insert(Replica { place: place.clone(), address: None }, Answer::Silent(why));
                    continue;
                }
            };
            for address in addresses {
                let replica = Replica { place: place.clone(), address };
                match self.client(&replica) {
                    Ok(client) => drop(asking.spawn(async move {
                        let answer = answer(&client, &replica.place).await;
                        (replica, answer.map_or_else(Answer::Silent, Answer::Serves))
                    })),
                    Err(why) => drop(answers.insert(replica, Answer::Silent(why))),
                }
            }
        }
        answers.extend(asking.join_all().await);
        self.clients.retain(|replica, _| answers.contains_key(replica));
        answers
    }

    fn client(&mut self, replica: &Replica) -> Result<Client, String> {
        if let Some(client) = self.clients.get(replica) {
            return Ok(client.clone());
        }
        let mut client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(ANSWER)
            .http1_only();
        if let (Some(address), Some(name)) = (replica.address, replica.place.0.host_str()) {
            client = client.resolve(name, address);
        }
        let client = client.build().map_err(|error| error.to_string())?;
        self.clients.insert(replica.clone(), client.clone());
        Ok(client)
    }
}

/// Every address of a name is a replica. This machine is one, whatever addresses it calls itself by.
async fn addresses(place: &Place) -> Result<BTreeSet<Option<SocketAddr>>, String> {
    let name = match place.0.host() {
        Some(Host::Domain(name)) if name != "localhost" => name,
        _ => return Ok(BTreeSet::from([None])),
    };
    let port = place.0.port_or_known_default().unwrap_or(0);
    let looked_up = tokio::time::timeout(ANSWER, tokio::net::lookup_host((name, port))).await;
    let found: BTreeSet<_> = match looked_up {
        Ok(Ok(found)) => found.map(Some).collect(),
        Ok(Err(error)) => return Err(format!("its name can't be looked up: {}", plain(&error.to_string()))),
        Err(_) => return Err(format!("its name could not be looked up within {} s", ANSWER.as_secs())),
    };
    if found.is_empty() { Err("its name has no address".to_owned()) } else { Ok(found) }
}

async fn answer(client: &Client, place: &Place) -> Result<Serving, String> {
    let why = |error: &reqwest::Error| {
        if error.is_timeout() {
            return format!("no answer within {} s", ANSWER.as_secs());
        }
        told(error).0
    };
    let sent = client.get(format!("{place}/readyz?verbose")).send().await;
    let mut response = sent.map_err(|error| why(&error))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY {
            break;
        }
    }
    // A replica that is not ready still says what decides.
    let understood = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let serving = Some(String::from_utf8_lossy(&body)).filter(|_| understood).and_then(|text| read(&text));
    let hint = "is this an operations listener, listen.ops_address?";
    serving.ok_or_else(|| format!("{} without a digest (hint: {hint})", status.as_u16()))
}

/// Reads what `/readyz?verbose` says.
fn read(text: &str) -> Option<Serving> {
    let (mut digest, mut generation, mut notes) = (None, None, Vec::new());
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("digest", value)) if digest.is_none() => digest = Some(plain(value)),
            Some(("generation", value)) if generation.is_none() => generation = value.parse().ok(),
            Some(("since", _)) => {}
            _ if line == "ready" => {}
            _ => notes.push(plain(line)),
        }
    }
    let more = notes.len().saturating_sub(NOTES);
    notes.truncate(NOTES);
    if more > 0 {
        notes.push(format!("  and {more} lines more"));
    }
    Some(Serving { digest: digest?, generation: generation?, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_urls_of_a_host() {
        for good in ["http://127.0.0.1:9464", "https://ficus.example/", "http://[::1]:1/behind/a/path"] {
            assert_eq!(good.parse::<Place>().unwrap().to_string(), good.trim_end_matches('/'));
        }
        for wrong in
            ["ficus:9464", "127.0.0.1:9464", "ftp://x", "http://u@x", "http://x?verbose", "http://x#y"]
        {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_well_is_kept_in_bounds_and_printable() {
        let text = "not ready: the audit log can't be written\ngeneration 3\ndigest abc\nsince 2026-01-01T00:00:00Z\n\
                    refused change of 2026-01-01T00:00:00Z; the state before it serves:\n  a\u{1b}[31m.toml: digest x\n";
        let serving = read(text).unwrap();
        assert_eq!((serving.digest.as_str(), serving.generation), ("abc", 3));
        assert_eq!(serving.notes.len(), 3);
        assert_eq!(serving.notes[2], "  a\\u{1b}[31m.toml: digest x");
        let many = format!("{text}{}", "  one more\n".repeat(100));
        assert_eq!(read(&many).unwrap().notes.last().unwrap(), "  and 83 lines more");
        for wrong in ["", "ready\n", "generation x\ndigest abc\n", "generation 1\n"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
