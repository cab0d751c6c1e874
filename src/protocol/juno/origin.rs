//! Who is at the other end of a connection, before a module says who it is: an address, or by a Unix
//! socket the user whose process it is, which the system vouches for.

use std::fs;
use std::sync::Arc;

use super::halves::ReadEnd;
use crate::caller::{Caller, Identity, Scheme};
use crate::config::socket::USERS;

/// Who is at the other end.
pub(super) fn of(read: &ReadEnd) -> Caller {
    // Whoever cannot be told has left already.
    match read {
        ReadEnd::Tcp(half) => half.peer_addr().map_or(Caller::NOBODY, |peer| Caller::at(peer.ip())),
        ReadEnd::Unix(half) => {
            let Ok(credentials) = half.as_ref().peer_cred() else { return Caller::NOBODY };
            Caller::NOBODY.connected_as(Arc::new(owner(credentials.uid())))
        }
    }
}

fn owner(number: u32) -> Identity {
    let users = fs::read_to_string(USERS).unwrap_or_default();
    let name = name_of(number, &users).map_or_else(|| number.to_string(), str::to_owned);
    Identity { user_id: Some(format!("unix:{name}")), ..Identity::new(Scheme::SystemUser, name) }
}

/// The name of a user, by what the system's file says.
fn name_of(number: u32, users: &str) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_that_the_system_gives_it() {
        let users = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nbilling:x:998:998::/:/bin/false\n";
        assert_eq!(name_of(998, users), Some("billing"));
        assert_eq!(name_of(0, users), Some("root"));
        assert_eq!(name_of(7, users), None);
    }
}
