//! T: servers that don't prove to be the issuer's. Their documents are valid.

use crate::issuer::{Authority, Fault, Leaf, self_signed};
use crate::stage::{Case, PATIENT, case, play};

fn proves(name: &str, leaf: fn(&Authority) -> Leaf, cause: &str) -> Case {
    case(name, move |_, authority| Fault::leaf(leaf(authority)), &format!("discovery document: {cause}"))
}

#[test]
fn t_01_to_t_05_servers_must_prove_who_they_are() {
    const UNKNOWN: &str = "the server's certificate is not signed by a trusted authority";
    const NAME: &str = "the server's certificate is for another name";
    play(
        PATIENT,
        vec![
            proves(
                "of another authority of the same name",
                |_| Authority::new("authority").leaf("localhost"),
                "the server's certificate has a bad signature",
            ),
            proves("of another authority", |_| Authority::new("other").leaf("localhost"), UNKNOWN),
            proves("signed by itself", |_| self_signed("localhost"), UNKNOWN),
            proves(
                "expired",
                |authority| {
                    authority
                        .leaf_with("localhost", |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1))
                },
                "the server's certificate has expired",
            ),
            proves(
                "not valid yet",
                |authority| {
                    authority
                        .leaf_with("localhost", |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1))
                },
                "the server's certificate is not valid yet",
            ),
            proves("another name", |authority| authority.leaf("issuer.example"), NAME),
            proves("a longer name", |authority| authority.leaf("localhost.example"), NAME),
            proves("a name below", |authority| authority.leaf("a.localhost"), NAME),
            proves("the address in place of the name", |authority| authority.leaf("127.0.0.1"), NAME),
            proves(
                "the name as a common name alone",
                |authority| {
                    authority.leaf_with("issuer.example", |params| {
                        params.subject_alt_names.clear();
                        params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
                    })
                },
                NAME,
            ),
            proves(
                "for clients",
                |authority| {
                    authority.leaf_with("localhost", |params| {
                        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
                    })
                },
                "the server's certificate is not valid",
            ),
            proves(
                "HTTP on the port",
                |_| Leaf::Says("HTTP/1.1 400 Bad Request\r\n\r\n"),
                "the TLS handshake failed",
            ),
            proves("noise on the port", |_| Leaf::Says("SECRET-WORD"), "the TLS handshake failed"),
            proves("closed at once", |_| Leaf::Says(""), "the connection failed: unexpected end of file"),
        ],
    );
}
