//! Who a client is: the other end of the socket, or whom a trusted proxy there names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::document::Reader;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks of proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Reads the list of addresses and networks.
    pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Self {
        let mut networks = Vec::new();
        for text in reader.list::<String>(key).unwrap_or_default() {
            match network(&text) {
                Ok(network) => networks.push(network),
                Err((wrong, hint)) => reader.problem(key, format!("{text:?} {wrong}"), &hint),
            }
        }
        Self(networks)
    }

    /// The client's address. Each proxy writes whom it has its request from behind what it was sent, so the list is read
    /// from its end for as long as those who wrote it are trusted: what a client sends itself is never reached.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trust(client) {
            return client;
        }
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            let Some(address) = address(hop) else { break };
            client = address;
            if !self.trust(client) {
                break;
            }
        }
        client
    }

    #[cfg(test)]
    pub(super) fn of(networks: &[&str]) -> Self {
        Self(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address, with or without a port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bracketed = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inside) => inside.parse::<Ipv6Addr>().ok()?.into(),
        None => hop.parse().or_else(|_| hop.parse().map(|with_port: SocketAddr| with_port.ip())).ok()?,
    };
    Some(address.to_canonical())
}

/// One network, or what is wrong with it and a hint.
fn network(text: &str) -> Result<IpNet, (&'static str, String)> {
    let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network: IpNet = parsed.map_err(|_| {
        ("is no address or network", "such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32".to_owned())
    })?;
    if network.trunc() != network {
        return Err(("names an address inside a network", format!("the network is {}", network.trunc())));
    }
    let network = canonical(network);
    if network.prefix_len() == 0 {
        let hint = "then any client could choose its address; name your proxies' networks".to_owned();
        return Err(("is everybody", hint));
    }
    Ok(network)
}

/// Clients' addresses are never in the mapped form.
fn canonical(network: IpNet) -> IpNet {
    let mapped = network.addr().to_canonical();
    match (mapped, network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if network.addr() != mapped => {
            Ipv4Net::new(address, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::document::{Document, Problems};

    fn read(list: &str) -> (Proxies, Vec<String>) {
        let problems = Problems::default();
        let text = format!("trusted_proxies = {list}\n");
        let mut reader = Document::parse("f.toml", &text, &problems).reader(&problems);
        let proxies = Proxies::read(&mut reader, "trusted_proxies");
        reader.finish();
        (proxies, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    fn proxies() -> Proxies {
        let (proxies, problems) =
            read(r#"["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1", "::ffff:172.16.0.0/108"]"#);
        assert_eq!(problems, [""; 0]);
        proxies
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        proxies().client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn what_is_no_network_is_told() {
        for (list, expected) in [
            (
                r#"["proxy.example"]"#,
                r#""proxy.example" is no address or network (hint: such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32)"#,
            ),
            (
                r#"["10.0.0.0/33"]"#,
                r#""10.0.0.0/33" is no address or network (hint: such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32)"#,
            ),
            (
                r#"["10.1.2.3/8"]"#,
                r#""10.1.2.3/8" names an address inside a network (hint: the network is 10.0.0.0/8)"#,
            ),
            (
                r#"["0.0.0.0/0"]"#,
                r#""0.0.0.0/0" is everybody (hint: then any client could choose its address; name your proxies' networks)"#,
            ),
            (
                r#"["::/0"]"#,
                r#""::/0" is everybody (hint: then any client could choose its address; name your proxies' networks)"#,
            ),
            (r#""10.0.0.0/8""#, r#"expected a list of a text in quotes, found "10.0.0.0/8""#),
        ] {
            let (proxies, problems) = read(list);
            assert_eq!(proxies, Proxies::default());
            assert_eq!(problems, [format!("f.toml:1: trusted_proxies: {expected}")]);
        }
        // Also of the mapped form that is all of IPv4.
        assert_eq!(read(r#"["::ffff:0:0/96"]"#).1.len(), 1);
    }

    #[test]
    fn the_client_is_the_last_who_is_no_trusted_proxy() {
        for (peer, lines, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("172.31.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("172.32.0.1", &["198.51.100.1"], "172.32.0.1"),
            // What the client sent itself stands before what the proxy wrote.
            ("10.0.0.1", &["10.9.9.9, 127.0.0.1,198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.1", "198.51.100.1"], "198.51.100.1"),
            // Through several proxies.
            ("::1", &["203.0.113.1, 198.51.100.1 ,\t192.0.2.7", "fd00::5, 10.2.2.2"], "198.51.100.1"),
            // All are proxies: the first of them asks for itself.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn hops_may_have_ports_and_brackets() {
        for (hop, expected) in [
            ("198.51.100.1:443", "198.51.100.1"),
            ("2001:db8::9", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("[2001:db8::9]:443", "2001:db8::9"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("[::ffff:198.51.100.1]:443", "198.51.100.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[hop]), expected, "{hop}");
        }
    }

    #[test]
    fn a_malformed_hop_ends_the_walk() {
        for hop in [
            "",
            " ",
            "unknown",
            "_hidden",
            "198.51.100.1:",
            "198.51.100.1:x",
            "198.51.100",
            "[198.51.100.1]",
            "\u{ff}",
        ] {
            assert_eq!(client("10.0.0.1", &[hop]), "10.0.0.1", "{hop}");
            let line = format!("203.0.113.1,{hop},10.0.0.2");
            assert_eq!(client("10.0.0.1", &[&line]), "10.0.0.2", "{hop}");
            assert_eq!(client("10.0.0.1", &["203.0.113.1", hop, "10.0.0.2"]), "10.0.0.2", "{hop}");
        }
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()))
        ]
    }

    fn any_line() -> impl Strategy<Value = String> {
        let hop = prop_oneof![any_address().prop_map(|address| address.to_string()), "[ -~]{0,20}"];
        proptest::collection::vec(hop, 0..4).prop_map(|hops| hops.join(", "))
    }

    proptest! {
        #[test]
        fn a_stranger_can_not_choose_its_address(peer in any_address(), lines in proptest::collection::vec(any_line(), 0..4)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let stranger = !proxies().trust(peer.to_canonical());
            prop_assume!(stranger);
            prop_assert_eq!(client(&peer.to_string(), &lines), peer.to_canonical().to_string());
        }

        /// Nor does it help to come through a proxy, which adds whom it has the request from.
        #[test]
        fn nor_behind_a_proxy(peer in any_address(), lines in proptest::collection::vec(any_line(), 0..4), port in any::<Option<u16>>()) {
            prop_assume!(!proxies().trust(peer.to_canonical()));
            let added = port.map_or_else(|| peer.to_string(), |port| SocketAddr::new(peer, port).to_string());
            let mut joined: Vec<_> = lines.iter().map(String::as_str).collect();
            joined.push(&added);
            prop_assert_eq!(client("10.0.0.1", &joined), peer.to_canonical().to_string());
            let one = joined.join(",");
            prop_assert_eq!(client("10.0.0.1", &[&one]), peer.to_canonical().to_string());
        }
    }
}
