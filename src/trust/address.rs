//! Which IP addresses may be connected to.
//!
//! One table for each family, first hit wins, so that an exception stands above the range it is taken from.
//! Ranges: IANA special-purpose registries (RFC 6890); metadata addresses: the clouds' own documentation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use Class::{Forbidden, Private, Public};

/// What an address is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// An address of the internet.
    Public,
    /// Loopback or inside a network: only for hosts that an entry with `allow_private_network` names.
    Private,
    /// Never connected to, whatever is configured: metadata services, link-local, unroutable or translated addresses.
    Forbidden,
}

/// Anything not listed is public.
const V4: [(Ipv4Addr, u32, Class); 20] = [
    (Ipv4Addr::new(100, 100, 100, 200), 32, Forbidden), // Alibaba Cloud metadata, inside CGNAT
    (Ipv4Addr::new(168, 63, 129, 16), 32, Forbidden),   // Azure WireServer
    (Ipv4Addr::new(127, 0, 0, 0), 8, Private),          // loopback
    (Ipv4Addr::new(10, 0, 0, 0), 8, Private),           // RFC 1918
    (Ipv4Addr::new(172, 16, 0, 0), 12, Private),        // RFC 1918
    (Ipv4Addr::new(192, 168, 0, 0), 16, Private),       // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10, Private),        // CGNAT
    (Ipv4Addr::new(0, 0, 0, 0), 8, Forbidden),          // this network; 0.0.0.0 reaches loopback on Linux
    (Ipv4Addr::new(169, 254, 0, 0), 16, Forbidden),     // link-local, metadata of most clouds
    (Ipv4Addr::new(192, 0, 0, 0), 24, Forbidden),       // protocol assignments, Oracle Cloud metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24, Forbidden),       // documentation
    (Ipv4Addr::new(198, 51, 100, 0), 24, Forbidden),    // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24, Forbidden),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24, Forbidden),     // 6to4 relays
    (Ipv4Addr::new(198, 18, 0, 0), 15, Forbidden),      // benchmarks
    (Ipv4Addr::new(224, 0, 0, 0), 4, Forbidden),        // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4, Forbidden),        // reserved, broadcast
    (Ipv4Addr::new(192, 31, 196, 0), 24, Forbidden),    // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24, Forbidden),    // AMT
    (Ipv4Addr::new(192, 175, 48, 0), 24, Forbidden),    // AS112
];

/// Anything not listed is forbidden: outside global unicast, 2000::/3, nothing is of use. That covers unspecified,
/// link-local, site-local, multicast, discard (100::/64), segment routing (5f00::/16), and every spelling of an IPv4
/// address: mapped (::ffff:0:0/96), compatible (::/96) and NAT64 (64:ff9b::/96, 64:ff9b:1::/48). A name that has an IPv4
/// address says so with an A record; one that hides it in an AAAA record wants to get around a filter.
const V6: [(Ipv6Addr, u32, Class); 10] = [
    (Ipv6Addr::LOCALHOST, 128, Private),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, Forbidden), // AWS: metadata, pod credentials, DNS
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, Forbidden), // Google Cloud metadata
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128, Forbidden), // Scaleway metadata
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Private),        // unique local
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Forbidden),     // protocol assignments, Teredo, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Forbidden), // documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Forbidden),     // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Forbidden),     // 6to4: an IPv4 address in disguise
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Public),         // global unicast
];

/// Classifies an address.
pub(super) fn class(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => V4
            .iter()
            .find(|(network, length, _)| (ip.to_bits() ^ network.to_bits()).leading_zeros() >= *length)
            .map_or(Public, |(_, _, class)| *class),
        IpAddr::V6(ip) => V6
            .iter()
            .find(|(network, length, _)| (ip.to_bits() ^ network.to_bits()).leading_zeros() >= *length)
            .map_or(Forbidden, |(_, _, class)| *class),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Addresses that `allow_private_network` opens: first and last of each range.
    pub(in super::super) const PRIVATE: [&str; 13] = [
        "127.0.0.1",
        "127.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "::1",
        "fc00::",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    /// Addresses that nothing opens.
    pub(in super::super) const FORBIDDEN: [&str; 63] = [
        "0.0.0.0",
        "0.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.255.255",
        "100.100.100.200",
        "192.0.0.0",
        "192.0.0.192",
        "192.0.0.255",
        "168.63.129.16",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.255",
        "192.88.99.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.175.48.1",
        "198.18.0.0",
        "198.19.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::7f00:1",
        "::169.254.169.254",
        "::2",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:808:808::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:10::1",
        "2001:20::1",
        "2001:2::1",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "100::1",
        "5f00::1",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "febf:ffff::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "ffff::1",
        "4000::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:42::42",
    ];

    /// Addresses of the internet, among them the neighbours of the ranges above.
    const PUBLIC: [&str; 26] = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db9::1",
        "2003::1",
        "2606:4700::1111",
        "3fff:1000::1",
    ];

    #[test]
    fn each_range_is_in_its_class_up_to_its_edges() {
        for (list, expected) in [(&PRIVATE[..], Private), (&FORBIDDEN[..], Forbidden), (&PUBLIC[..], Public)]
        {
            for address in list {
                assert_eq!(class(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
