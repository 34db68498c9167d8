//! Everything that brokers connect to, as the kernel sees it, while all tests of this program run once more.
//!
//! `strace` writes down each connection and datagram of each thread. Threads of tests are known by their names; whatever
//! another thread does is a broker's doing, and must go to the host and port of an issuer that its configuration lists.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use url::{Host, Url};

use crate::support::LISTED;

/// One line of the trace that matters.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    /// A connection or a datagram.
    To(SocketAddr),
    /// A socket of this machine.
    Local(String),
    /// The name in a question to a name server.
    Asked(String),
}

/// Who did what.
struct Trace(Vec<(String, Act)>);

impl Trace {
    fn read(text: &str) -> Self {
        // Which sockets lead to name servers: what is sent there are questions.
        let mut questions = HashSet::new();
        let mut acts = Vec::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once("> ") else { continue };
            let (id, name) = thread.split_once('<').unwrap_or((thread, ""));
            let Some((call, arguments)) = call.split_once('(') else { continue };
            let socket = (id, arguments.split(',').next());
            let mut add = |act| acts.push((readable(name), act));
            if let Some(to) = address(arguments) {
                match call == "connect" && to.port() == 53 {
                    true => questions.insert(socket),
                    false => questions.remove(&socket),
                };
                add(Act::To(to));
            }
            if arguments.contains("AF_UNIX") {
                add(Act::Local(quoted(arguments).next().map(readable).unwrap_or_default()));
            }
            if call.starts_with("send") && questions.contains(&socket) {
                quoted(arguments).for_each(|packet| add(Act::Asked(asked(packet))));
            }
        }
        Self(acts)
    }

    /// What was done by threads that are not the tests' own: those of their runtime, and those that the test harness names
    /// after its tests.
    fn of_brokers(&self) -> impl Iterator<Item = &Act> {
        let by_others = self.0.iter().filter(|(thread, _)| thread != "tester" && !thread.contains("::"));
        by_others.map(|(_, act)| act)
    }
}

/// Where a call goes, if it says so. Port 0 is no destination: the resolver asks so, with no packet, which of several
/// addresses is near.
fn address(arguments: &str) -> Option<SocketAddr> {
    let ip = match arguments.split_once("sa_family=AF_INET")?.1 {
        v6 if v6.starts_with('6') => readable(quoted(v6).next()?).parse::<Ipv6Addr>().ok()?.into(),
        v4 => IpAddr::V4(readable(quoted(v4).next()?).parse::<Ipv4Addr>().ok()?),
    };
    let port = arguments.split_once("htons(")?.1.split(')').next()?.parse().ok()?;
    (port != 0).then_some(SocketAddr::new(ip, port))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// Strings in the trace are hexadecimal throughout.
fn bytes(hex: &str) -> Vec<u8> {
    hex.split("\\x").filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

fn readable(hex: &str) -> String {
    String::from_utf8_lossy(&bytes(hex)).into_owned()
}

/// The name in a question (RFC 1035 section 4.1.2): labels with their lengths in front, behind a head of 12 bytes.
fn asked(packet: &str) -> String {
    let (packet, mut labels) = (bytes(packet), Vec::new());
    let mut rest = packet.get(12..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, after) = after.split_at(after.len().min(usize::from(*length)));
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = after;
    }
    labels.join(".")
}

/// What brokers may connect to.
struct Allowed {
    places: HashSet<SocketAddr>,
    names: HashSet<String>,
    name_servers: HashSet<IpAddr>,
}

impl Allowed {
    fn new(listed: &str, resolver: &str) -> Self {
        let (mut places, mut names) = (HashSet::new(), HashSet::new());
        for url in listed.lines().map(|url| Url::parse(url).unwrap()) {
            let port = url.port_or_known_default().unwrap();
            let mut add = |ip: IpAddr| places.insert(SocketAddr::new(ip, port));
            match url.host().unwrap() {
                Host::Ipv4(ip) => _ = add(ip.into()),
                Host::Ipv6(ip) => _ = add(ip.into()),
                Host::Domain("localhost") => {
                    add(Ipv4Addr::LOCALHOST.into());
                    add(Ipv6Addr::LOCALHOST.into());
                }
                // No test has such a server: it may be looked up, and no more.
                Host::Domain(name) => _ = names.insert(name.to_owned()),
            }
        }
        let name_servers =
            resolver.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
        let mut name_servers: HashSet<IpAddr> = name_servers.collect();
        if name_servers.is_empty() {
            name_servers.insert(Ipv4Addr::LOCALHOST.into());
        }
        Self { places, names, name_servers }
    }

    fn permits(&self, act: &Act) -> bool {
        match act {
            Act::To(to) if to.port() == 53 => self.name_servers.contains(&to.ip()),
            Act::To(to) => self.places.contains(to),
            // The name service's cache, where there is one, is a way to look names up.
            Act::Local(path) => path == "/var/run/nscd/socket",
            // A resolver may put domains of its own behind a name.
            Act::Asked(name) => {
                let mut names = self.names.iter();
                names.any(|listed| {
                    name.strip_prefix(listed.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
            }
        }
    }
}

#[test]
fn brokers_connect_to_nothing_but_listed_issuers() {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    if !traced.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "strace is missing, or may not trace");
        let told = "SKIPPED: what brokers connect to is not watched: install strace, and let it trace\n";
        // Not by a macro, whose text nobody would see.
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (trace, listed) = (folder.path().join("trace"), folder.path().join("listed"));
    let ran = Command::new("strace")
        .args(["-f", "-q", "-Y", "-xx", "-s", "300", "--seccomp-bpf", "-e", "signal=none"])
        .args(["-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--skip", "watch::"])
        .env(LISTED, &listed)
        // Should a proxy of the environment be heeded, it would be seen here.
        .envs(
            ["http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"]
                .map(|name| (name, "http://127.0.0.1:9")),
        )
        .output()
        .unwrap();

    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let trace = Trace::read(&read(&trace));
    let allowed =
        Allowed::new(&read(&listed), &std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut strays: HashMap<String, usize> = HashMap::new();
    for act in trace.of_brokers().filter(|act| !allowed.permits(act)) {
        *strays.entry(format!("{act:?}")).or_default() += 1;
    }
    assert!(strays.is_empty(), "brokers went where no listed issuer is: {strays:#?}");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    // It was watched: brokers did reach issuers, and were themselves reached by tests.
    let reached = |act: &&Act| matches!(act, Act::To(to) if allowed.places.contains(to));
    assert!(trace.of_brokers().filter(reached).count() > 0);
    assert!(trace.0.len() > trace.of_brokers().count());
}

#[test]
fn a_stray_is_told_from_what_is_allowed() {
    let hex = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let v4 = |ip, port: u16| {
        format!("{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"{}\")}}", hex(ip))
    };
    let v6 = |ip, port: u16| {
        let ip = hex(ip);
        format!(
            "{{sa_family=AF_INET6, sin6_port=htons({port}), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, \"{ip}\", &sin6_addr), sin6_scope_id=0}}"
        )
    };
    let question = |name: &str| {
        let labels =
            name.split('.').map(|label| format!("{}{label}", char::from(u8::try_from(label.len()).unwrap())));
        hex(&format!("{}{}\0", "\0".repeat(12), labels.collect::<String>()))
    };
    let allowed = Allowed::new(
        "https://localhost:8443/x\nhttps://127.0.0.2\nhttps://issuer.invalid\n",
        "search example\nnameserver 10.0.0.53\n",
    );
    let strays = |thread: &str, call: &str| {
        let line = format!("4242<{}> connect(9, {}, 16) = 0\n", hex("broker"), v4("10.0.0.53", 53));
        let trace = Trace::read(&format!("{line}4242<{}> {call} = 0\n", hex(thread)));
        trace.of_brokers().filter(|act| !allowed.permits(act)).count()
    };
    let connect = |to: String| format!("connect(7, {to}, 28)");
    let send = |name: &str| {
        format!(
            "sendmmsg(9, [{{msg_hdr={{msg_name=NULL, msg_iov=[{{iov_base=\"{}\", iov_len=33}}]}}}}], 2, MSG_NOSIGNAL)",
            question(name)
        )
    };
    for fine in [
        connect(v4("127.0.0.1", 8443)),
        connect(v6("::1", 8443)),
        connect(v4("127.0.0.2", 443)),
        connect(v4("169.254.169.254", 0)),
        connect("{sa_family=AF_UNSPEC, sa_data=\"\"}".to_owned()),
        connect(format!("{{sa_family=AF_UNIX, sun_path=\"{}\"}}", hex("/var/run/nscd/socket"))),
        send("issuer.invalid"),
        send("issuer.invalid.example"),
        // A connection's own data.
        format!("sendto(11, \"{}\", 5, MSG_NOSIGNAL, NULL, 0)", hex("hello")),
    ] {
        assert_eq!(strays("broker", &fine), 0, "{fine}");
    }
    for stray in [
        connect(v4("127.0.0.1", 8444)),
        connect(v4("127.0.0.3", 443)),
        connect(v6("::2", 8443)),
        connect(v4("10.0.0.54", 53)),
        format!("sendto(11, \"{}\", 5, 0, {}, 16)", hex("hello"), v4("10.0.0.1", 9)),
        connect(format!("{{sa_family=AF_UNIX, sun_path=\"{}\"}}", hex("/run/docker.sock"))),
        send("other.invalid"),
        send("issuer.invalid2"),
        send("x.issuer.invalid"),
    ] {
        assert_eq!(strays("broker", &stray), 1, "{stray}");
        assert_eq!(strays("tokio-rt-worker", &stray), 1, "{stray}");
        for own in ["tester", "keys::g_01_to_g"] {
            assert_eq!(strays(own, &stray), 0, "{stray}");
        }
    }
}
