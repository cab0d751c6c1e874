//! Where an address that somebody else named may not lead: to a cloud's metadata service, to
//! link-local and other addresses at which no service lives, and to Genkan itself.
//!
//! A name says nothing before it is resolved, and may resolve to something else the next time: so
//! every address is looked at when it is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Metadata services that are at no link-local address: Amazon's over IPv6, Alibaba's, Azure's wire
/// server, Oracle's at its old address.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Names under which clouds have theirs.
const METADATA_NAMES: [&str; 5] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Knows where Genkan itself listens.
#[derive(Debug, Default)]
pub(super) struct Guard {
    own: ArcSwap<Vec<SocketAddr>>,
}

impl Guard {
    /// Genkan listens there from now on.
    pub(super) fn set_own(&self, own: Vec<SocketAddr>) {
        self.own.store(Arc::new(own));
    }

    /// Why nobody who named it is taken there; `None` where he is.
    pub(super) fn objects_to(&self, address: SocketAddr) -> Option<&'static str> {
        let ip = plain(address.ip());
        let own = self.own.load();
        let is_own = |own: &SocketAddr| {
            own.port() == address.port() && (plain(own.ip()) == ip || reaches(*own, ip))
        };
        if own.iter().any(is_own) {
            return Some("that is where Genkan itself listens");
        }
        objection(ip)
    }

    /// The same for a host as a URL writes it, as far as that can be told without resolving it.
    pub(super) fn objects_to_host(&self, host: &str, port: u16) -> Option<&'static str> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.objects_to(SocketAddr::new(ip, port));
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        // RFC 6761, section 6.3: every host has it, and it is loopback.
        if name == "localhost" {
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return loopback.iter().find_map(|ip| self.objects_to(SocketAddr::new(*ip, port)));
        }
        METADATA_NAMES.contains(&name.as_str()).then_some(METADATA)
    }
}

const METADATA: &str = "that is a cloud's metadata service";
const LINK_LOCAL: &str = "no service is at a link-local address: clouds have their metadata there";
const NOWHERE: &str = "that is no address of one host that others could reach";

fn objection(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) if METADATA_V4.contains(&ip) => Some(METADATA),
        IpAddr::V4(ip) if ip.is_link_local() => Some(LINK_LOCAL),
        // All of 0.0.0.0/8 means this host.
        IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast() => {
            Some(NOWHERE)
        }
        IpAddr::V6(METADATA_V6) => Some(METADATA),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(LINK_LOCAL),
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() => Some(NOWHERE),
        _ => None,
    }
}

/// An IPv4 address in any of the ways in which IPv6 can write one: mapped, compatible (RFC 4291,
/// section 2.5.5), through a NAT64 (RFC 6052) or by 6to4 (RFC 3056).
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        // `::` and `::1` are IPv6's own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

/// Whether a listener at all of a host's addresses is reached at `ip`: then it is one of them, and
/// can be bound.
fn reaches(own: SocketAddr, ip: IpAddr) -> bool {
    let family = own.ip().is_ipv6() || ip.is_ipv4();
    own.ip().is_unspecified() && family && (ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(own: &[&str]) -> Guard {
        let guard = Guard::default();
        guard.set_own(own.iter().map(|own| own.parse().expect("an address")).collect());
        guard
    }

    #[test]
    fn genkans_own_place_by_the_name_that_every_host_has() {
        let guard = guard(&["127.0.0.1:8080", "192.0.2.1:9000"]);
        for name in ["localhost", "LOCALHOST."] {
            assert!(guard.objects_to_host(name, 8080).is_some(), "{name}");
            assert_eq!(guard.objects_to_host(name, 8081), None);
            assert_eq!(guard.objects_to_host(name, 9000), None, "it listens elsewhere");
        }
    }

    #[test]
    fn addresses_at_which_no_service_lives() {
        let guard = guard(&[]);
        for (host, refused) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("10.1.2.3", false),
            ("fd00::1", false),
            ("reports.internal", false),
            ("169.254.169.254", true),
            ("169.254.170.2", true),
            ("::ffff:169.254.169.254", true),
            ("::ffff:a9fe:a9fe", true),
            ("::169.254.169.254", true),
            ("64:ff9b::169.254.169.254", true),
            ("2002:a9fe:a9fe::1", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("100.100.100.200", true),
            ("168.63.129.16", true),
            ("192.0.0.192", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("::", true),
            ("224.0.0.1", true),
            ("ff02::1", true),
            ("255.255.255.255", true),
            ("Metadata.Google.Internal.", true),
            ("instance-data", true),
        ] {
            assert_eq!(guard.objects_to_host(host, 80).is_some(), refused, "{host}");
        }
    }

    #[test]
    fn genkan_itself() {
        let guard = guard(&["127.0.0.1:8080", "[::]:8081", "0.0.0.0:9000", "10.9.9.9:1"]);
        for (address, own) in [
            ("127.0.0.1:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8082", false),
            ("127.0.0.2:8080", false),
            ("[::1]:8081", true),
            ("127.0.0.1:8081", true),
            ("127.3.4.5:9000", true),
            ("192.0.2.7:9000", false),
            ("[::1]:9000", false),
            ("10.9.9.9:1", true),
        ] {
            let refused = guard.objects_to(address.parse().expect("an address"));
            assert_eq!(refused.is_some(), own, "{address}");
        }
    }
}
