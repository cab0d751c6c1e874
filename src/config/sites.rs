//! Where servers are, in a form in which two names of one place are alike: to find out whether two tables
//! mean the same server. No name is looked up.

use std::net::{IpAddr, SocketAddr};

/// A server at a host's name or address and a port. All names of this machine for itself are one.
pub fn site(host: &str, port: u16) -> String {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let is_own = |address: IpAddr| {
        let address = address.to_canonical();
        // Whoever connects to `0.0.0.0` comes to itself.
        address.is_loopback() || address.is_unspecified()
    };
    let own = host == "localhost" || host.parse().is_ok_and(is_own);
    format!("{}:{port}", if own { "localhost" } else { host })
}

/// Whether a [site] is this machine's.
pub fn is_own(site: &str) -> bool {
    site.starts_with("localhost:")
}

/// A listener's; `None` where the system chooses its port.
pub(super) fn of_listener(address: SocketAddr) -> Option<String> {
    (address.port() != 0).then(|| site(&address.ip().to_string(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_by_many_names() {
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "0.0.0.0"]
        {
            assert_eq!(site(host, 5), "localhost:5", "{host}");
        }
        assert!(is_own(&site("127.0.0.1", 5)) && !is_own(&site("localhost.example", 5)));
        assert_eq!(site("Rabbit.Example", 5), "rabbit.example:5");
        assert_ne!(site("rabbit", 5), site("rabbit", 6));
        assert_eq!(site("::ffff:127.0.0.1", 5), "localhost:5");
    }
}
