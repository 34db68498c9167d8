//! P: what the broker shows of itself while strangers write to it: nothing secret, and no more than so much.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use ficus::clock::{Stopwatch, random};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::audit::{Home, Server, lines};
use crate::support::*;

/// Secrets by what they are, in every form in which one could be written.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// A text as it is.
    fn text(&mut self, what: &str, text: &str) {
        assert!(text.len() >= 16, "{what} is too short to be looked for");
        self.0.push((what.to_owned(), text.as_bytes().to_vec()));
    }

    /// A token, and each of its parts that nobody else has: the header of a minted one is in all of them.
    fn token(&mut self, what: &str, token: &str) {
        self.text(what, token);
        let parts: Vec<&str> = token.split('.').collect();
        self.text(&format!("{what}: claims"), parts[1]);
        self.bytes(&format!("{what}: signature"), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap());
    }

    /// Bytes as they are, in hexadecimal, and in both alphabets of base64 at every alignment.
    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 16, "{what} is too short to be looked for");
        let mut note = |form: &str, text: Vec<u8>| self.0.push((format!("{what} as {form}"), text));
        note("bytes", bytes.to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        note("hex", hex.to_uppercase().into_bytes());
        note("hex", hex.into_bytes());
        note("a list", format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec());
        for skip in 0..3 {
            // Whole groups alone are the same whatever comes before and after.
            let whole = &bytes[skip..skip + (bytes.len() - skip) / 3 * 3];
            note("base64", STANDARD.encode(whole).into_bytes());
            note("base64url", URL_SAFE.encode(whole).into_bytes());
        }
    }

    /// A private key of a PEM file: its body, line by line, and the numbers in it.
    fn key(&mut self, what: &str, pem: &str) {
        let private: Vec<&str> = pem
            .lines()
            .skip_while(|line| *line != "-----BEGIN PRIVATE KEY-----")
            .skip(1)
            .take_while(|line| *line != "-----END PRIVATE KEY-----")
            .collect();
        assert!(private.len() >= 2, "{what} has no key");
        let der = STANDARD.decode(private.concat()).unwrap();
        // Of a curve the one secret number, behind which is the public point; of RSA half of what is behind the modulus.
        let secret = if der.len() < 200 { 36..68 } else { der.len() - 256..der.len() };
        self.bytes(&format!("{what}: number"), &der[secret]);
        for line in private.iter().filter(|line| line.len() == 64).skip(1) {
            self.text(&format!("{what}: a line"), line);
        }
    }

    /// What of it is in there.
    fn found_in(&self, output: &[u8]) -> Vec<&str> {
        // As texts, of a character for each byte: those are searched fast.
        let text = |bytes: &[u8]| -> String { bytes.iter().map(|byte| char::from(*byte)).collect() };
        let output = text(output);
        let held = |secret: &&(String, Vec<u8>)| output.contains(&text(&secret.1));
        self.0.iter().filter(held).map(|(what, _)| what.as_str()).collect()
    }
}

#[test]
fn p_02_the_scanner_finds_what_is_planted() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let token = home.emulator.github().assertion(&Default::default(), AUDIENCE);
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let mut secrets = Secrets::default();
        secrets.token("token", &token);
        secrets.key("key", &pem);
        assert_eq!(secrets.found_in(b"{\"message\":\"ready\"}"), Vec::<&str>::new());
        let signature = token.rsplit('.').next().unwrap();
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let der =
            STANDARD.decode(pem.lines().filter(|line| !line.contains('-')).collect::<String>()).unwrap();
        for (planted, expected) in [
            (token.clone().into_bytes(), "token"),
            (format!("xx{}xx", token.split('.').nth(1).unwrap()).into_bytes(), "token: claims"),
            (format!("x{signature}").into_bytes(), "token: signature as base64url"),
            (raw.clone(), "token: signature as bytes"),
            (format!("{raw:?}").into_bytes(), "token: signature as a list"),
            (STANDARD.encode([b"x", &raw[..]].concat()).into_bytes(), "token: signature as base64"),
            (format!("{raw:02x?}").replace(", ", "").into_bytes(), "token: signature as hex"),
            (pem.clone().into_bytes(), "key: a line"),
            (format!("{der:?}").into_bytes(), "key: number as a list"),
            (der[30..80].to_vec(), "key: number as bytes"),
        ] {
            let found = secrets.found_in(&planted);
            assert!(found.contains(&expected), "{expected}: {found:?}");
        }
    });
}

/// Every file below a folder, by its path.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// An honest token and all that can be wrong with a request that holds it; each as a form.
fn requests(home: &Home, secrets: &mut Secrets) -> Vec<Form> {
    let github = home.emulator.github();
    let (key, claims) = (&github.keys()[0], github.claims(&Default::default(), AUDIENCE));
    let honest = home.form();
    let assertion = github.assertion(&Default::default(), AUDIENCE);
    let with_claim = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        key.sign(&key.header(), &claims)
    };
    let with_header = |name: &str, value: Value| {
        let mut header = key.header();
        header[name] = value;
        key.sign(&header, &claims)
    };
    let assertions = [
        assertion.clone(),
        with_claim("sub", json!("somebody else")),
        with_claim("sub", json!("line\r\n{\"level\":\"INFO\",\"forged\":true}\u{85}")),
        with_claim("aud", json!("api://other")),
        with_claim("iss", json!("https://other.example")),
        with_claim("iss", json!("https://issuer.invalid")),
        with_claim("exp", json!(1)),
        with_claim("exp", json!("soon")),
        with_claim("nbf", json!(4_102_444_800_u64)),
        with_claim("sub", json!("repo:my--org/payments-service:environment:once")),
        with_claim("jti", json!(assertion)),
        with_header("kid", json!("unknown")),
        with_header("kid", json!("line\r\n{\"forged\":true}")),
        with_header("kid", json!(assertion)),
        with_header("alg", json!("none")),
        with_header("crit", json!(["exp"])),
        with_header("typ", json!("at+jwt")),
        github.keys()[1].sign(&key.header(), &claims),
    ];
    let mut forms = Vec::new();
    for (number, assertion) in assertions.iter().enumerate() {
        secrets.token(&format!("assertion {number}"), assertion);
        let form = honest.clone().with("client_assertion", assertion);
        // Twice: what may be used once is refused the second time.
        forms.extend([form.clone(), form]);
    }
    // Where it does not belong, and cut, and in pieces.
    let bare = honest.clone().without("client_assertion");
    for name in ["grant_type", "client_id", "scope", "client_assertion_type", "client_secret", "x"] {
        forms.push(honest.clone().with(name, &assertion));
        forms.push(bare.clone().with(name, &assertion));
    }
    forms.extend([
        honest.clone().with("scope", &format!("api://{assertion}/.default")),
        honest.clone().with("scope", &format!("{assertion}/.default")),
        honest.clone().tenant(&assertion),
        honest.clone().with("client_assertion", &format!("{assertion}.{assertion}")),
        honest.clone().with("client_assertion", &format!("{assertion}=")),
        honest.clone().with("client_assertion", assertion.rsplit_once('.').unwrap().0),
        honest.clone().with(&assertion, "x"),
        honest.clone().header("authorization", &format!("Bearer {assertion}")),
        honest
            .clone()
            .header("authorization", &format!("Basic {}", STANDARD.encode(format!("u:{assertion}")))),
        honest.clone().header("client-request-id", &assertion),
        honest.clone().header("user-agent", &assertion),
        honest.clone().header("cookie", &assertion),
        honest.clone().header("content-encoding", "gzip"),
        honest.clone().with("x", &"y".repeat(70_000)),
    ]);
    forms
}

#[test]
fn p_02_no_token_and_no_key_is_in_any_output_at_any_level() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let (root, mut secrets) = (home.folder.path().to_owned(), Secrets::default());
        // An issuer that wants a bearer token of its own.
        let bearer = format!("bearer-{}", "0123456789abcdef".repeat(4));
        std::fs::write(root.join("bearer"), &bearer).unwrap();
        secrets.text("bearer token", &bearer);
        let config = std::fs::read_to_string(root.join("etc/ficus.toml")).unwrap();
        std::fs::write(root.join("etc/ficus.toml"), config + "bearer_token_file = \"../bearer\"\n").unwrap();

        let server = Server::start_at("trace", &root);
        let (url, mut shown) = (server.url.clone(), Vec::new());
        for form in requests(&home, &mut secrets) {
            let url = url.replace(TENANT, &form.tenant);
            for url in [url.clone(), url.replace("oauth2/v2.0/token", "oauth2/token")] {
                let mut request = server.client.post(url).body(form.body());
                request = request.header("content-type", "application/x-www-form-urlencoded");
                for (name, value) in &form.headers {
                    request = request.header(name, value);
                }
                let reply = Reply::of(request.send().await.unwrap()).await;
                if reply.status == 200 {
                    // The one place where a token may be.
                    secrets.token("minted", reply.token());
                } else {
                    shown.extend(format!("{:?} {}", reply.headers, reply.body).into_bytes());
                }
            }
        }
        assert!(secrets.0.iter().any(|(what, _)| what == "minted"));
        // A token of ours as a bearer, where one is asked for; and what never was a request of this protocol.
        let origin = url.split(TENANT).next().unwrap().to_owned();
        let ours = server.post(&home.form()).await.unwrap();
        secrets.token("minted", ours.token());
        for path in ["subscriptions?api-version=2022-12-01", "tenants?api-version=2022-12-01", ours.token()] {
            let request = server.client.get(format!("{origin}{path}")).bearer_auth(ours.token());
            shown.extend(request.send().await.unwrap().bytes().await.unwrap());
        }
        for path in ["metrics", "healthz", "readyz", "readyz?verbose", "nothing"] {
            let text = server.client.get(server.ops.replace("readyz", path)).send().await.unwrap();
            shown.extend(text.bytes().await.unwrap());
        }
        // A change that is refused, with what people paste where it does not belong; and keys that are rotated.
        std::fs::write(root.join("etc/directory/zz.toml"), format!("client_secret = {:?}\n", ours.token()))
            .unwrap();
        let page = eventually("the change is refused", || async {
            let page = server.client.get(format!("{}?verbose", server.ops)).send().await.unwrap();
            let page = page.text().await.unwrap();
            page.contains("zz.toml").then_some(page)
        })
        .await;
        shown.extend(page.into_bytes());
        let rotated = crate::audit::ficus("", &root).args(["keys", "rotate", "--now"]).output().unwrap();
        shown.extend([rotated.stdout, rotated.stderr].concat());
        for arguments in [&["check", "--print"][..], &["keys", "list"]] {
            let output = crate::audit::ficus("", &root).args(arguments).output().unwrap();
            shown.extend([output.stdout, output.stderr].concat());
        }

        let keys: Vec<_> = files(&root.join("data"))
            .into_iter()
            .filter(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains("PRIVATE KEY")))
            .collect();
        assert!(keys.len() >= 5, "{keys:?}");
        for file in &keys {
            secrets.key(&file.display().to_string(), &std::fs::read_to_string(file).unwrap());
        }
        kill_process(server.process(), Signal::TERM).unwrap();
        eventually("the end", || async { server.post(&home.form()).await.is_none().then_some(()) }).await;
        let log = server.log.lock().unwrap().clone();
        assert!(log.contains("\"TRACE\"") && log.contains("\"DEBUG\""), "{}", log.len());
        assert!(
            !log.lines().any(|line| line.contains("\"forged\":true") && !line.contains("\\\"forged")),
            "{log}"
        );
        shown.extend(log.into_bytes());
        let written: Vec<_> =
            files(&root.join("data")).into_iter().filter(|file| !keys.contains(file)).collect();
        assert!(written.contains(&home.audit()));
        for file in written {
            shown.extend(std::fs::read(file).unwrap());
        }
        assert_eq!(secrets.found_in(&shown), Vec::<&str>::new());
    });
}

/// Garbage of every kind that a stranger can choose freely, never the same twice.
fn garbage(home: &Home) -> [Form; 5] {
    let github = home.emulator.github();
    let unsigned = |header: Value, claims: Value| {
        let parts =
            [header.to_string().into_bytes(), claims.to_string().into_bytes(), random::<256>().to_vec()];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    };
    let fresh = || URL_SAFE_NO_PAD.encode(random::<24>());
    let (mut header, mut claims) = (github.keys()[0].header(), github.claims(&Default::default(), AUDIENCE));
    let of_issuer = {
        claims["iss"] = json!(format!("https://{}.example", fresh()));
        unsigned(header.clone(), claims.clone())
    };
    claims["iss"] = json!(github.issuer());
    header["kid"] = json!(fresh());
    let form = home.form();
    [
        form.clone().with("client_assertion", &fresh().repeat(100)),
        form.clone().with("client_assertion", &unsigned(header, claims)),
        form.clone().with("client_assertion", &of_issuer),
        form.clone().tenant(&format!("{}.example", fresh().replace(['_', '-'], "x"))),
        form.with("client_id", &fresh()),
    ]
}

/// A number of the process's memory, in KiB.
fn memory(server: &Server, name: &str) -> u64 {
    let path = format!("/proc/{}/status", server.process().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

#[test]
fn p_01_p_03_floods_of_made_up_names_leave_memory_series_and_lines_as_they_are() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 250;
    RUNTIME.block_on(async {
        let home = Arc::new(Home::new().await);
        let server = Arc::new(Server::start(home.folder.path()));
        server.post(&home.form()).await.unwrap().token();
        let began = Stopwatch::start();
        let flood = async || {
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                let (home, server) = (home.clone(), server.clone());
                clients.spawn(async move {
                    for _ in 0..ROUNDS {
                        for form in garbage(&home) {
                            let url = server.url.replace(TENANT, &form.tenant);
                            let request = server.client.post(url).body(form.body());
                            let request = request.header("content-type", "application/x-www-form-urlencoded");
                            let status = request.send().await.unwrap().status().as_u16();
                            assert!((400..500).contains(&status), "{status}");
                        }
                    }
                });
            }
            clients.join_all().await;
            server.post(&home.form()).await.unwrap().token();
            let page = server.client.get(server.ops.replace("readyz", "metrics")).send().await.unwrap();
            let page = page.text().await.unwrap();
            page.lines().filter(|line| !line.starts_with('#')).count()
        };
        let series = flood().await;
        let before = memory(&server, "VmRSS:");
        // As much again leaves nothing behind.
        assert_eq!(flood().await, series);
        let (after, peak) = (memory(&server, "VmRSS:"), memory(&server, "VmHWM:"));
        println!(
            "{series} series; {before} KiB, then {after} KiB, at most {peak} KiB; {:?}",
            began.elapsed()
        );
        assert!(series < 3000, "{series} series");
        assert!(after < before + (32 << 10), "{before} KiB, then {after} KiB");
        assert!(peak < 512 << 10, "{peak} KiB");

        // Lines of the log are few a second, and of the record few a second of each kind.
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
        let said = server.log.lock().unwrap().lines().count();
        assert!(said <= 25 * seconds, "{said} lines in {seconds} s");
        let mut kinds: HashMap<(String, String), usize> = HashMap::new();
        let (mut counted, sent) = (0, 2 * (CLIENTS * ROUNDS * 5) as u64);
        for line in lines(&home.audit(), 0).iter().filter(|line| line["outcome"] == "refused") {
            let text = |value: &Value| value.to_string();
            *kinds.entry((text(&line["createdDateTime"]), text(&line["status"]["reason"]))).or_default() += 1;
            counted += line["count"].as_u64().unwrap_or(1);
        }
        let most = kinds.values().max().unwrap();
        assert!(*most <= 250, "{most} lines of one kind in a second");
        assert!(counted <= sent, "{counted} of {sent}");
    });
}

/// Whether a process that is aborted leaves a core dump, on a machine and with limits that let it.
fn dumps_core(process: rustix::process::Pid, end: impl FnOnce() -> std::process::ExitStatus) -> bool {
    let limit =
        Rlimit { current: getrlimit(Resource::Core).maximum, maximum: getrlimit(Resource::Core).maximum };
    prlimit(Some(process), Resource::Core, limit).unwrap();
    kill_process(process, Signal::ABORT).unwrap();
    end().core_dumped()
}

#[test]
fn p_02_a_broker_that_crashes_leaves_no_core() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let mut other = Command::new("sleep");
        let mut other =
            other.arg("600").current_dir(home.folder.path()).stdin(Stdio::null()).spawn().unwrap();
        let process = rustix::process::Pid::from_child(&other);
        let expected = dumps_core(process, || other.wait().unwrap());
        let mut server = Server::start(home.folder.path());
        server.post(&home.form()).await.unwrap().token();
        let process = server.process();
        assert!(!dumps_core(process, || server.wait()));
        assert!(expected, "this machine lets no process leave a core: the test shows nothing");
    });
}
