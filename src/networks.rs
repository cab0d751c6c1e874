//! Networks of IP addresses, as an operator lists them. Pure.
//!
//! An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address, in the list as in
//! what is looked for.

use std::net::{IpAddr, Ipv6Addr};

/// Addresses, by the networks that they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last of each, in order and apart from each other: to look one up costs the same for
    /// any number of networks, almost.
    ranges: Vec<(u128, u128)>,
}

/// Where the IPv4 addresses begin among those of IPv6.
const IPV4: u128 = 0xffff << 32;

/// What one machine has all of: an address, of IPv6 its /64.
pub fn of_one_machine(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(number(address.into()) & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// A network: an address, and how many of its bits all others in it share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: u128,
    /// Of 128 bits.
    prefix: u8,
}

impl Network {
    /// Reads an address, or a network in CIDR notation. The complaint says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            "write an address, \"192.0.2.1\" or \"2001:db8::1\", or a network, \"10.0.0.0/8\" or \
             \"2001:db8::/32\""
                .to_owned()
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| malformed())?
            }
            Some(_) => return Err(malformed()),
        };
        if prefix > bits {
            return Err(format!("its prefix is longer than {address} has bits: {bits} at most"));
        }
        let network = Self { first: number(address), prefix: prefix + (128 - bits) };
        let first = network.first & network.mask();
        if first != network.first {
            let first = Ipv6Addr::from(first);
            let first = if address.is_ipv4() { first.to_canonical() } else { first.into() };
            return Err(format!(
                "{address} is an address in that network: write \"{first}/{prefix}\", or \
                 \"{address}\" for it alone"
            ));
        }
        Ok(network)
    }

    /// Whether it holds every address of IPv4, or of IPv6.
    pub fn is_everything(self) -> bool {
        self.prefix == 0 || (self.prefix == 96 && self.first == IPV4)
    }

    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl Networks {
    /// Those of a list.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        let range = |network: Network| (network.first, network.first | !network.mask());
        let mut all: Vec<_> = networks.into_iter().map(range).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// The addresses at which those begin that hold more of the internet than proxies that one person runs: of IPv4
    /// more than a /8, of IPv6 more than a /16. Networks that are nobody's out there may be as large as they are.
    pub fn wide(&self) -> Vec<IpAddr> {
        const LARGEST: [u128; 2] = [1 << 24, 1 << 112];
        // Unique local addresses (RFC 4193), and those of a link.
        const LOCAL: [(u128, u8); 2] = [(0xfc << 120, 7), (0xfe80 << 112, 10)];
        let is_local = |first: u128, last: u128| {
            let within = |(network, prefix): (u128, u8)| {
                let network = Network { first: network, prefix };
                first >= network.first && last <= network.first | !network.mask()
            };
            LOCAL.into_iter().any(within)
        };
        let is_wide = |&&(first, last): &&(u128, u128)| {
            let is_ipv4 = first >> 32 == IPV4 >> 32 && last >> 32 == IPV4 >> 32;
            last - first >= LARGEST[usize::from(!is_ipv4)] && !is_local(first, last)
        };
        let wide = self.ranges.iter().filter(is_wide);
        wide.map(|(first, _)| IpAddr::V6(Ipv6Addr::from(*first)).to_canonical()).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).is_some_and(|at| number <= self.ranges[at].1)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => IPV4 | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Networks {
        Networks::new(list.iter().map(|text| Network::parse(text).expect(text)))
    }

    #[test]
    fn networks_that_hold_much_of_the_internet_are_wide() {
        let wide = |text: &str| {
            let networks = Networks::new([Network::parse(text).expect(text)]);
            networks.wide().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for text in ["0.0.0.0/1", "128.0.0.0/1", "4.0.0.0/7", "2000::/3", "2400::/12", "::/0"] {
            let first = text.split('/').next().unwrap_or_default();
            assert_eq!(wide(text), [first], "{text}");
        }
        let apart = ["10.0.0.0/8", "104.16.0.0/13", "172.16.0.0/12", "fc00::/7", "fd00::/8"];
        for text in apart.into_iter().chain(["fe80::/10", "2606:4700::/32", "::1", "192.0.2.1"]) {
            assert!(wide(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_address_is_in_a_network_or_not() {
        let list = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "10.1.0.0/16", "10.0.0.0/8"];
        let known = networks(&list);
        assert_eq!(known.ranges.len(), 4, "those that overlap are one");
        for (address, is_in) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.1", true),
            ("192.0.2.0", false),
            ("192.0.2.2", false),
            ("::ffff:10.1.2.3", true),
            ("::10.1.2.3", false),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::", false),
        ] {
            assert_eq!(known.contains(address.parse().expect(address)), is_in, "{address}");
        }
        let nothing = networks(&[]);
        assert!(nothing.is_empty() && !nothing.contains([127, 0, 0, 1].into()));
        let mapped = networks(&["::ffff:10.0.0.0/104"]);
        assert!(mapped.contains([10, 9, 8, 7].into()) && !mapped.contains([11, 0, 0, 0].into()));
    }

    #[test]
    fn everybody_is_a_network_too() {
        for (text, inside, outside) in [
            ("0.0.0.0/0", "255.255.255.255", Some("::1")),
            ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
        ] {
            assert!(Network::parse(text).expect(text).is_everything(), "{text}");
            let all = networks(&[text]);
            assert!(all.contains(inside.parse().expect(inside)), "{text}");
            let outside = outside.map(|address| address.parse().expect(address));
            assert!(outside.is_none_or(|address| !all.contains(address)), "{text}");
        }
        assert!(!Network::parse("::/96").expect("a network").is_everything());
    }

    #[test]
    fn what_is_no_network() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "::1/129",
            "10.0.0",
            "10.0.0.0/8/8",
            "proxy.example",
            "[::1]",
            "127.0.0.1:80",
            "010.0.0.1",
            "10.0.0.0/256",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
        let mend = |text: &str| Network::parse(text).expect_err(text);
        assert!(mend("10.1.2.3/8").contains("write \"10.0.0.0/8\", or \"10.1.2.3\""));
        assert!(mend("2001:db8::1/32").contains("write \"2001:db8::/32\""));
        assert!(mend("10.0.0.0/40").contains("32 at most"));
    }
}
