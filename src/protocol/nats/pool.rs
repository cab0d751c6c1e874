//! Which server is tried next: those of the configuration in turns, then those of which a server of
//! theirs has told. No I/O.

use std::sync::Arc;

use super::config::Server;

/// How many servers are learnt of.
const MOST: usize = 64;

/// The servers.
pub(super) struct Pool {
    configured: Vec<Arc<Server>>,
    /// What the last server that has told of any has told.
    learnt: Vec<Arc<Server>>,
    /// Whether to learn of any.
    discovers: bool,
    /// The configured one that is the next.
    next: usize,
}

impl Pool {
    /// Begins with any of them.
    pub(super) fn new(configured: Vec<Arc<Server>>, discovers: bool) -> Self {
        let next = fastrand::usize(..configured.len().max(1));
        Self { configured, learnt: Vec::new(), discovers, next }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.configured.is_empty()
    }

    /// The `nth` server of a round; `None` where the round is over.
    pub(super) fn turn(&mut self, nth: usize) -> Option<Arc<Server>> {
        let count = self.configured.len();
        if nth >= count {
            return self.learnt.get(nth - count).cloned();
        }
        let server = self.configured.get(self.next).cloned();
        self.next = (self.next + 1) % count;
        server
    }

    /// Takes in what `server` tells of its cluster, reached over TLS or not. What it does not tell
    /// of any more is forgotten; one that tells nothing changes nothing. Gives what is known now, if
    /// that is news.
    pub(super) fn learn(&mut self, server: &Server, told: &[String], tls: bool) -> Option<String> {
        if !self.discovers || told.is_empty() {
            return None;
        }
        let mut learnt: Vec<Arc<Server>> = Vec::new();
        for sibling in told.iter().filter_map(|address| server.sibling(address, tls)) {
            let is_known = |one: &Arc<Server>| one.is_at_place_of(&sibling);
            if learnt.len() < MOST && !self.configured.iter().chain(&learnt).any(is_known) {
                learnt.push(Arc::new(sibling));
            }
        }
        let show = |servers: &[Arc<Server>]| {
            let mut shown: Vec<_> = servers.iter().map(ToString::to_string).collect();
            shown.sort_unstable();
            shown.join(", ")
        };
        let (before, now) = (show(&self.learnt), show(&learnt));
        self.learnt = learnt;
        (before != now).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(urls: &[&str], discovers: bool) -> Pool {
        let servers = urls.iter().map(|url| Arc::new(Server::parse(url).expect(url)));
        Pool { next: 0, ..Pool::new(servers.collect(), discovers) }
    }

    fn round(pool: &mut Pool) -> Vec<String> {
        (0..).map_while(|nth| pool.turn(nth)).map(|server| server.to_string()).collect()
    }

    fn told(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_configured_ones_go_first_in_turns() {
        let mut pool = pool(&["nats://a:1", "nats://b:1"], true);
        let first = pool.turn(0).expect("a server");
        assert_eq!(first.to_string(), "nats://a:1");
        let news =
            pool.learn(&first, &told(&["10.0.0.3:1", "A:1", "[::1]:7", "10.0.0.3:1"]), false);
        assert_eq!(news.as_deref(), Some("nats://10.0.0.3:1, nats://[::1]:7"));
        let expected = ["nats://b:1", "nats://a:1", "nats://10.0.0.3:1", "nats://[::1]:7"];
        assert_eq!(round(&mut pool), expected);
    }

    #[test]
    fn what_is_not_told_any_more_is_forgotten() {
        let mut pool = pool(&["nats://a:1"], true);
        let server = pool.turn(0).expect("a server");
        assert!(pool.learn(&server, &told(&["b:1", "c:1"]), false).is_some());
        assert_eq!(pool.learn(&server, &told(&["c:1", "b:1"]), false), None, "no news");
        assert_eq!(pool.learn(&server, &[], false), None);
        assert_eq!(round(&mut pool), ["nats://a:1", "nats://c:1", "nats://b:1"]);
        assert_eq!(pool.learn(&server, &told(&["c:1"]), false).as_deref(), Some("nats://c:1"));
        assert_eq!(round(&mut pool), ["nats://a:1", "nats://c:1"]);
        let many: Vec<_> = (1..1000).map(|port| format!("h:{port}")).collect();
        assert!(pool.learn(&server, &many, false).is_some());
        assert_eq!(round(&mut pool).len(), 1 + MOST);
    }

    #[test]
    fn nothing_is_learnt_where_it_is_not_wanted() {
        let mut pool = pool(&["nats://a:1"], false);
        let server = pool.turn(0).expect("a server");
        assert_eq!(pool.learn(&server, &told(&["b:1"]), false), None);
        assert_eq!(round(&mut pool), ["nats://a:1"]);
    }
}
