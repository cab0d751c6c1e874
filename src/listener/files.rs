//! How many files the process may have open, and so how many connections: where all of them are taken, nothing is
//! answered any more, the admin pages neither.

use std::sync::OnceLock;

use tracing::{debug, warn};

/// What stays for all else, at the least: upstreams, pages, files that are read.
const LEAST_RESERVE: usize = 128;
/// The part of all that stays for it.
const RESERVE: usize = 16;

static LIMIT: OnceLock<usize> = OnceLock::new();

/// Takes as many as the system lets the process have: shells and containers give 1,024 to begin with, for programs that
/// know no more. For one process, once, before it listens.
pub(crate) fn raise() {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    if let Err(error) = &raised {
        debug!(%error, "the limit of open files cannot be raised");
    }
    if let Some(limit) = raised.ok().or_else(current) {
        // Whoever has asked before knows no more.
        LIMIT.set(usize::try_from(limit).unwrap_or(usize::MAX)).ok();
    }
}

fn current() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

/// So many connections as are `wanted`, or as there can be files for.
pub(super) fn connections(wanted: usize) -> usize {
    let most = LIMIT.get().map_or(usize::MAX, |limit| room(*limit));
    if wanted > most {
        warn!(
            max_connections = wanted,
            held_to = most,
            "the process may not have so many files open: raise its limit (`ulimit -n`, LimitNOFILE in \
             systemd's unit)"
        );
    }
    wanted.min(most)
}

/// How many of so many files may be a listener's connections.
fn room(limit: usize) -> usize {
    limit.saturating_sub((limit / RESERVE).max(LEAST_RESERVE)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_stays_for_all_else() {
        for (limit, connections) in [(0, 1), (100, 1), (1_024, 896), (65_536, 61_440)] {
            assert_eq!(room(limit), connections, "{limit}");
        }
    }
}
