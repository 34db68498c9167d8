//! What is sent: request bodies, made before anything is measured, and handed out once where they are to be fresh.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use ficus::clock::{Clock, random};
use serde_json::{Value, json};

use crate::Failure;
use crate::issuer::{EDITIONS, Issuer};
use crate::scenario::{Scenario, Send};
use crate::world::{self, AUDIENCE};

/// Seconds from now that an assertion is good for: longer than any run.
const LIFE: i64 = 6 * 3600;
/// Different pieces of garbage.
const GARBAGE: usize = 1000;

/// Bodies by edition of the issuer's keys.
#[derive(Debug)]
pub(crate) struct Stock {
    editions: Vec<Shelf>,
    edition: AtomicUsize,
    /// Starts again at the end.
    wraps: bool,
}

#[derive(Debug)]
struct Shelf {
    bodies: Vec<Bytes>,
    next: AtomicUsize,
}

impl Stock {
    /// The same bodies again and again.
    pub(crate) fn repeated(bodies: Vec<Bytes>) -> Self {
        Self { editions: vec![Shelf::of(bodies)], edition: AtomicUsize::new(0), wraps: true }
    }

    /// Each of these bodies once, from the shelf of the current edition.
    pub(crate) fn once(editions: Vec<Vec<Bytes>>) -> Self {
        let editions = editions.into_iter().map(Shelf::of).collect();
        Self { editions, edition: AtomicUsize::new(0), wraps: false }
    }

    /// The next body, and its number; `None` when they are used up.
    pub(crate) fn take(&self) -> Option<(usize, &Bytes)> {
        let shelf = &self.editions[self.edition.load(Ordering::Acquire)];
        let number = shelf.next.fetch_add(1, Ordering::Relaxed);
        let number = if self.wraps { number % shelf.bodies.len() } else { number };
        shelf.bodies.get(number).map(|body| (number, body))
    }

    /// Hands out what the next keys have signed.
    pub(crate) fn next_edition(&self) {
        self.edition.store(self.editions.len() - 1, Ordering::Release);
    }

    /// Bytes of a body.
    pub(crate) fn body_length(&self) -> usize {
        self.editions[0].bodies.first().map_or(0, Bytes::len)
    }
}

impl Shelf {
    fn of(bodies: Vec<Bytes>) -> Self {
        Self { bodies, next: AtomicUsize::new(0) }
    }
}

/// How a server wants an assertion to be presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dialect {
    /// `client_assertion`.
    ClientCredentials,
    /// `subject_token`.
    #[default]
    Rfc8693,
    /// `assertion`, of RFC 7523.
    JwtBearer,
}

/// What another server than ours is sent.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    pub(crate) dialect: Dialect,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
    /// More parameters.
    pub(crate) parameters: Vec<(String, String)>,
}

/// Makes what a scenario sends, on all cores. `tick` is told of each.
pub(crate) fn make(
    scenario: &Scenario,
    issuer: &Issuer,
    foreign: Option<&Foreign>,
    tick: &(dyn Fn(u64) + Sync),
) -> Result<Stock, Failure> {
    let (traffic, shape) = (&scenario.traffic, &scenario.directory);
    let count = match traffic.send {
        Send::Repeated => shape.identities,
        Send::Garbage => GARBAGE,
        _ => traffic.pool,
    };
    let rotates = scenario.faults.iter().any(|fault| fault.act == crate::scenario::Act::RotateIssuer);
    let editions = if rotates { EDITIONS } else { 1 };
    let now = Clock::system().now();
    let shelves = (0..editions).map(|edition| {
        let maker = Maker { scenario, issuer, foreign, edition, now };
        on_all_cores(count / editions, &|number| {
            let body = maker.body(number);
            tick(1);
            body
        })
    });
    let shelves = shelves.collect::<Result<Vec<_>, _>>()?;
    Ok(match traffic.send {
        Send::Repeated | Send::Garbage => Stock::repeated(shelves.into_iter().flatten().collect()),
        _ => Stock::once(shelves),
    })
}

type MakeOne<'a> = dyn Fn(usize) -> Result<Bytes, Failure> + Sync + 'a;

fn on_all_cores(count: usize, make: &MakeOne<'_>) -> Result<Vec<Bytes>, Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(cores).max(1);
    thread::scope(|scope| {
        let parts: Vec<_> = (0..cores)
            .map(|core| {
                let part = (core * share).min(count)..((core + 1) * share).min(count);
                scope.spawn(move || part.map(make).collect::<Result<Vec<_>, _>>())
            })
            .collect();
        let mut bodies = Vec::with_capacity(count);
        for part in parts {
            bodies.extend(part.join().map_err(|_| "signing panicked")??);
        }
        Ok(bodies)
    })
}

struct Maker<'a> {
    scenario: &'a Scenario,
    issuer: &'a Issuer,
    foreign: Option<&'a Foreign>,
    edition: usize,
    now: i64,
}

impl Maker<'_> {
    fn body(&self, number: usize) -> Result<Bytes, Failure> {
        let shape = &self.scenario.directory;
        let (identity, credential) = shape.asked_for(number);
        // Another server knows the first issuer alone.
        let issuer = if self.foreign.is_some() { 0 } else { shape.issuer_of(identity, credential) };
        let signer = self.issuer.signer(issuer, self.scenario.traffic.assertion, self.edition);
        let claims = |credential| {
            let mut claims =
                claims(&self.issuer.url(issuer), &world::subject(identity, credential), self.now);
            if let Some(foreign) = self.foreign {
                claims["iss"] = json!(foreign.issuer);
                (claims["sub"], claims["aud"]) = (json!(foreign.subject), json!(foreign.audience));
            }
            claims
        };
        let assertion = match self.scenario.traffic.send {
            Send::Fresh | Send::Repeated => signer.token(&claims(credential))?,
            Send::RefusedSubject => signer.token(&claims(shape.credentials))?,
            Send::RefusedSignature => signer.forged(signer.kid(), &claims(credential), &noise()),
            Send::UnknownKid => signer.forged(&format!("none-{number}"), &claims(credential), &noise()),
            Send::Garbage => garbage(number, &signer.token(&claims(credential))?),
        };
        Ok(match self.foreign {
            Some(foreign) => present(foreign.dialect, &assertion, &foreign.parameters),
            None => {
                let scope = format!("{}/.default", world::resource(self.scenario.traffic.token).uri);
                let parameters = [("client_id", world::client_id(identity)), ("scope", scope)];
                let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
                present(Dialect::ClientCredentials, &assertion, &parameters)
            }
        })
    }
}

/// Not the work of any key. It begins with zeros, so that it is a number below every modulus.
fn noise() -> [u8; 256] {
    let mut bytes = random::<256>();
    bytes[0] = 0;
    bytes
}

/// What is no token, in the ways in which strangers get it wrong.
fn garbage(number: usize, sound: &str) -> String {
    match number % 4 {
        0 => "x".repeat(sound.len()),
        1 => sound.replace('.', "-"),
        2 => format!("{}.{}", &sound[1..], sound.len()),
        _ => sound.replacen('.', ".AAAA", 1),
    }
}

/// A request body.
fn present(dialect: Dialect, assertion: &str, parameters: &[(String, String)]) -> Bytes {
    let own: &[(&str, &str)] = match dialect {
        Dialect::ClientCredentials => &[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ],
        Dialect::Rfc8693 => &[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", assertion),
        ],
        Dialect::JwtBearer => {
            &[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)]
        }
    };
    let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(assertion.len() + 400));
    // A parameter that is given replaces ours: servers differ in the token types that they want.
    let ours = own.iter().filter(|(name, _)| parameters.iter().all(|(given, _)| given != name));
    form.extend_pairs(ours).extend_pairs(parameters);
    form.finish().into()
}

/// As many and as long as those of a GitHub job.
pub(crate) fn claims(issuer: &str, subject: &str, now: i64) -> Value {
    let jti = u128::from_be_bytes(random());
    json!({
        "jti": format!("{jti:032x}"),
        "sub": subject,
        "aud": AUDIENCE,
        "iss": issuer,
        "iat": now,
        "nbf": now - 300,
        "exp": now + LIFE,
        "ref": "refs/heads/main",
        "sha": "0f4c7c5b3f1a9c2d6e8b7a5d4c3b2a1908f7e6d5",
        "repository": "load--org/service",
        "repository_owner": "load--org",
        "repository_owner_id": "100200300",
        "repository_visibility": "private",
        "repository_id": "700800900",
        "run_id": "11223344556",
        "run_number": "42",
        "run_attempt": "1",
        "runner_environment": "github-hosted",
        "actor": "load--bot",
        "actor_id": "1234567",
        "workflow": "deploy",
        "workflow_ref": "load--org/service/.github/workflows/deploy.yml@refs/heads/main",
        "workflow_sha": "0f4c7c5b3f1a9c2d6e8b7a5d4c3b2a1908f7e6d5",
        "event_name": "push",
        "ref_protected": "true",
        "ref_type": "branch",
        "environment": "production",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(wraps: bool) -> Stock {
        let bodies = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        if wraps {
            Stock::repeated(bodies)
        } else {
            Stock::once(vec![bodies, vec![Bytes::from_static(b"c")]])
        }
    }

    #[test]
    fn what_is_fresh_is_handed_out_once_and_what_is_repeated_for_ever() {
        let fresh = stock(false);
        let mut taken = std::iter::from_fn(|| fresh.take().map(|(_, body)| body.clone()));
        assert_eq!(
            (taken.next().unwrap(), taken.next().unwrap(), taken.next()),
            ("a".into(), "b".into(), None)
        );
        fresh.next_edition();
        assert_eq!(fresh.take().unwrap().1, "c");
        assert_eq!(fresh.take(), None);
        let repeated = stock(true);
        let taken: Vec<_> = (0..5).map(|_| repeated.take().unwrap().0).collect();
        assert_eq!(taken, [0, 1, 0, 1, 0]);
    }

    #[tokio::test]
    async fn a_peer_is_sent_what_it_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::start(folder.path(), 1).unwrap();
        let mut scenario = Scenario::find(crate::scenario::DEFAULT).unwrap();
        scenario.traffic.pool = 1;
        let [client, audience] = ["client", "peer"].map(str::to_owned);
        let id_token = "urn:ietf:params:oauth:token-type:id_token";
        let parameters = [("scope", "all"), ("subject_token_type", id_token)];
        let foreign = Foreign {
            dialect: Dialect::Rfc8693,
            issuer: client.clone(),
            subject: client,
            audience,
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        };
        let stock = make(&scenario, &issuer, Some(&foreign), &|_| ()).unwrap();
        let body = stock.take().unwrap().1.clone();
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
        let names: Vec<_> = form.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["grant_type", "subject_token", "scope", "subject_token_type"]);
        assert_eq!((&form[2].1[..], &form[3].1[..]), ("all", id_token));
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&form[1].1).unwrap().claims;
        let said = ["iss", "sub", "aud"].map(|name| claims[name].as_str().unwrap());
        assert_eq!(said, ["client", "client", "peer"]);
    }

    #[test]
    fn no_two_assertions_are_the_same() {
        assert_ne!(claims("i", "s", 1)["jti"], claims("i", "s", 1)["jti"]);
        let made = on_all_cores(1001, &|number| Ok(number.to_string().into())).unwrap();
        assert_eq!((made.len(), &made[0][..], &made[1000][..]), (1001, &b"0"[..], &b"1000"[..]));
        assert!(on_all_cores(3, &|_| Err("no".into())).is_err());
    }
}
