//! F, S-05: what issuers answer in place of their documents, and what their discovery documents say.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::issuer::{Fault, Issuer, KEYS};
use crate::stage::{Case, PATIENT, Which, case, control, play};

#[test]
fn f_02_to_f_09_and_s_05_status_and_redirects() {
    play(PATIENT, statuses(Which::DISCOVERY));
    play(PATIENT, redirects(Which::DISCOVERY));
}

/// A valid document under a status that is not 200.
pub fn statuses(which: Which) -> Vec<Case> {
    let status = |status: u16| {
        let cause = format!("the server answered with status {status}");
        which.case(
            &status.to_string(),
            move |issuer| Answer::status(status, &[], (which.good)(issuer)),
            &cause,
        )
    };
    let mut cases: Vec<Case> = [201, 202, 203, 206, 400, 404, 410, 429, 500, 503].map(status).into();
    for empty in [204, 304] {
        let cause = format!("the server answered with status {empty}");
        cases.push(which.case(&empty.to_string(), move |_| Answer::head(empty, &[]), &cause));
    }
    let wait = |_: &Issuer| Answer::status(503, &["retry-after: 31536000"], "");
    cases.push(which.case("come back in a year", wait, "the server answered with status 503"));
    cases
}

/// To places where the very document would be had, and to some where nobody may go.
pub fn redirects(which: Which) -> Vec<Case> {
    let to = |name: &str, status: u16, place: fn(&Issuer, &str) -> String| {
        let answer = move |issuer: &Issuer| Answer::redirect(status, &place(issuer, which.path));
        which.case(name, answer, &format!("the server answered with status {status}"))
    };
    vec![
        to("another port", 301, |i, path| i.twin_url(path)),
        to("http", 302, |i, path| i.plain_url(path)),
        to("itself", 303, |i, path| format!("{}{path}", i.url)),
        to("itself, by its path", 302, |_, path| path.to_owned()),
        to("another path", 307, |_, path| format!("/elsewhere{path}")),
        to("its address", 308, |i, path| format!("https://127.0.0.1:{}{path}", i.server.port)),
        to("the metadata service", 302, |_, _| "https://169.254.169.254/latest".to_owned()),
        to("a file", 302, |_, _| "file:///proc/self/environ".to_owned()),
        to("several choices", 300, |i, path| i.twin_url(path)),
        which.case(
            "a page that goes elsewhere",
            move |issuer| {
                let place = issuer.twin_url(which.path);
                let headers = [format!("location: {place}"), format!("refresh: 0;url={place}")];
                let page = format!("<meta http-equiv=\"refresh\" content=\"0;url={place}\">SECRET-WORD");
                Answer::status(200, &headers.each_ref().map(String::as_str), page)
            },
            which.malformed,
        ),
    ]
}

fn named(issuer: &Issuer, name: impl Into<Value>) -> Fault {
    Fault::discovery(Answer::ok(issuer.document("issuer", name.into())))
}

#[test]
fn f_10_to_f_17_the_issuer_in_the_document() {
    const OTHER: &str = "discovery document: its issuer is not, byte for byte, the one asked for";
    const ABSENT: &str = "discovery document: its member \"issuer\" is absent or of a wrong type";
    const TWICE: &str = "discovery document: a member occurs twice";
    play(
        PATIENT,
        vec![
            case("another issuer", |i, _| named(i, "https://other.example"), OTHER),
            case("another that is up", |i, _| named(i, i.twin_url("")), OTHER),
            case("a slash more", |i, _| named(i, format!("{}/", i.url)), OTHER),
            case("upper case", |i, _| named(i, i.url.to_uppercase()), OTHER),
            case("one letter's case", |i, _| named(i, i.url.replace("https", "Https")), OTHER),
            case("longer", |i, _| named(i, format!("{}0", i.url)), OTHER),
            case("a path more", |i, _| named(i, format!("{}/x", i.url)), OTHER),
            case("shorter", |i, _| named(i, &i.url[..i.url.len() - 1]), OTHER),
            case(
                "an address in place of the name",
                |i, _| named(i, i.url.replace("localhost", "127.0.0.1")),
                OTHER,
            ),
            case("a space behind", |i, _| named(i, format!("{} ", i.url)), OTHER),
            case("empty", |i, _| named(i, ""), OTHER),
            case("absent", |i, _| named(i, Value::Null), ABSENT),
            case("a number", |i, _| named(i, 7), ABSENT),
            case("in a list", |i, _| named(i, json!([i.url])), ABSENT),
            case("twice, the right one last", |i, _| twice(i, "issuer", "https://other.example"), TWICE),
            case("twice by an escape", |i, _| twice(i, "issue\\u0072", "https://other.example"), TWICE),
            control("written with escapes", |i, _| {
                Fault::discovery(Answer::ok(i.document("x", json!(1)).replace("\"https:", "\"\\u0068ttps:")))
            }),
        ],
    );
}

/// The document with one member more in front.
fn twice(issuer: &Issuer, member: &str, value: &str) -> Fault {
    let document = issuer.discovery();
    Fault::discovery(Answer::ok(format!("{{\"{member}\":\"{value}\",{}", &document[1..])))
}

fn leads(issuer: &Issuer, to: impl Into<Value>) -> Fault {
    Fault::discovery(Answer::ok(issuer.document("jwks_uri", to.into())))
}

#[test]
fn f_18_to_f_28_and_s_03_where_the_keys_are() {
    const ABSENT: &str = "discovery document: its member \"jwks_uri\" is absent or of a wrong type";
    const SCHEME: &str = "key set: its URL is not an https URL";
    const INNER: &str = "key set: its host has no address that may be connected to";
    play(
        PATIENT,
        vec![
            case("absent", |i, _| leads(i, Value::Null), ABSENT),
            case(
                "null",
                |i, _| {
                    Fault::discovery(Answer::ok(i.document("jwks_uri", json!("x")).replace("\"x\"", "null")))
                },
                ABSENT,
            ),
            case("a number", |i, _| leads(i, 7), ABSENT),
            case("in a list", |i, _| leads(i, json!([format!("{}{KEYS}", i.url)])), ABSENT),
            case("empty", |i, _| leads(i, ""), ABSENT),
            case("a path", |i, _| leads(i, KEYS), ABSENT),
            case("a name", |i, _| leads(i, "keys"), ABSENT),
            case("without a scheme", |i, _| leads(i, format!("//localhost:{}{KEYS}", i.server.port)), ABSENT),
            case("file:", |i, _| leads(i, "file:///proc/self/environ"), SCHEME),
            case(
                "data: with valid keys",
                |i, _| leads(i, format!("data:application/json,{}", i.jwks())),
                SCHEME,
            ),
            case("http", |i, _| leads(i, i.plain_url(KEYS)), SCHEME),
            case(
                "http on the same port",
                |i, _| leads(i, format!("http://localhost:{}{KEYS}", i.server.port)),
                SCHEME,
            ),
            case("ftp", |i, _| leads(i, "ftp://localhost/keys"), SCHEME),
            case(
                "twice, the right one last",
                |i, _| twice(i, "jwks_uri", &i.twin_url(KEYS)),
                "discovery document: a member occurs twice",
            ),
            case(
                "user information",
                |i, _| leads(i, format!("https://u:p@localhost:{}{KEYS}", i.server.port)),
                "key set: its URL holds user information",
            ),
            case("no host", |i, _| leads(i, "https://"), ABSENT),
        ],
    );
    // Valid keys are at all of these that lead to a port of ours, and nobody listed it.
    play(
        PATIENT,
        vec![
            case("another port of the same name", |i, _| leads(i, i.twin_url(KEYS)), INNER),
            case(
                "the same port by its address",
                |i, _| leads(i, format!("https://127.0.0.1:{}{KEYS}", i.server.port)),
                INNER,
            ),
            case(
                "another address of loopback",
                |i, _| leads(i, format!("https://127.0.0.2:{}{KEYS}", i.twin.port)),
                INNER,
            ),
            case("shortened", |i, _| leads(i, format!("https://127.1:{}{KEYS}", i.twin.port)), INNER),
            case("hexadecimal", |i, _| leads(i, format!("https://0x7f000001:{}{KEYS}", i.twin.port)), INNER),
            case("decimal", |i, _| leads(i, format!("https://2130706433:{}{KEYS}", i.twin.port)), INNER),
            case("octal", |i, _| leads(i, format!("https://0177.0.0.1:{}{KEYS}", i.twin.port)), INNER),
            case("IPv6", |i, _| leads(i, format!("https://[::1]:{}{KEYS}", i.twin.port)), INNER),
            case(
                "mapped",
                |i, _| leads(i, format!("https://[::ffff:127.0.0.1]:{}{KEYS}", i.twin.port)),
                INNER,
            ),
            case("unspecified", |i, _| leads(i, format!("https://0.0.0.0:{}{KEYS}", i.twin.port)), INNER),
            case("metadata", |i, _| leads(i, "https://169.254.169.254/latest/meta-data"), INNER),
            case("metadata, IPv6", |i, _| leads(i, "https://[fd00:ec2::254]/latest/meta-data"), INNER),
            case("a private network", |i, _| leads(i, "https://10.0.0.1/keys"), INNER),
            case("NAT64", |i, _| leads(i, "https://[64:ff9b::7f00:1]/keys"), INNER),
            case("6to4", |i, _| leads(i, "https://[2002:7f00:1::]/keys"), INNER),
            control("another path", |i, _| leads(i, format!("{}{KEYS}", i.url))),
        ],
    );
}

#[test]
fn f_29_to_f_35_bodies_that_are_no_document() {
    let which = Which::DISCOVERY;
    let mut cases = bodies(which);
    let deep = || format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let with_deep = move |issuer: &Issuer| {
        Answer::ok(issuer.document("x", json!(0)).replace("\"x\":0", &format!("\"x\":{}", deep())))
    };
    cases.push(which.case("20,000 deep inside", with_deep, "nested too deep"));
    play(PATIENT, cases);
}

/// What is not the document, or is one and something more; and what it may be called.
pub fn bodies(which: Which) -> Vec<Case> {
    let good = which.good;
    let no = |name: &str, body: fn(String) -> Vec<u8>| {
        which.case(name, move |issuer| Answer::ok(body(good(issuer))), which.malformed)
    };
    let typed = |content_type: &str| {
        let header = format!("content-type: {content_type}");
        which.control(content_type, move |issuer| Answer::status(200, &[&header], good(issuer)))
    };
    vec![
        no("nothing", |_| Vec::new()),
        no("HTML", |_| "<!doctype html><title>SECRET-WORD</title>".into()),
        no("a list", |_| "[]".into()),
        no("the document in a list", |good| format!("[{good}]").into()),
        no("the document in a string", |good| serde_json::to_vec(&good).unwrap()),
        no("null", |_| "null".into()),
        no("a number", |_| "7".into()),
        no("something behind it", |good| format!("{good}SECRET-WORD").into()),
        no("the document twice", |good| format!("{good}{good}").into()),
        no("half of it", |good| good[..good.len() / 2].into()),
        no("a comma too many", |good| good.replace('}', ",}").into()),
        no("a byte order mark", |good| format!("\u{feff}{good}").into()),
        no("UTF-16", |good| good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        no("a guard against scripts", |good| format!(")]}}'\n{good}").into()),
        which.case(
            "30,000 deep",
            |_| Answer::ok([vec![b'['; 30_000], vec![b']'; 30_000]].concat()),
            which.too_deep,
        ),
        which.case("bytes that are no text", |_| Answer::ok(b"{\"issuer\":\"\xff\"}"), which.no_text),
        typed("text/html"),
        typed("application/octet-stream"),
        typed("nonsense"),
        which.control("white space around", move |issuer| Answer::ok(format!("\r\n\t {} \n", good(issuer)))),
    ]
}
