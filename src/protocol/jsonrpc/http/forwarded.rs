//! From where a request comes that a proxy hands on: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends the address of whoever asked it. So what counts is read from the right, as long
//! as trusted proxies have written it: what stands further left may be made up. What cannot be read
//! ends that: then it is the last proxy that could.
//!
//! Must not: read any of it where nobody is trusted, or the peer is not.

use std::net::{IpAddr, Ipv6Addr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

use crate::networks::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The most proxies, one behind the other. A list is not read further.
const MOST_PROXIES: usize = 32;

/// The address of a client that is not the connection's peer: the last that is no trusted proxy's.
/// None where the peer is the client, or nobody trusts it.
pub(super) fn client(trusted: &Networks, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    if trusted.is_empty() || !trusted.contains(peer) {
        return None;
    }
    let of = |name: &HeaderName, read: Read| {
        let mut lines = headers.get_all(name).into_iter().rev().peekable();
        lines.peek()?;
        Some(walk(trusted, peer, lines.flat_map(|line| Elements(Some(line.as_bytes()))), read))
    };
    let address = match (of(&FORWARDED, forwarded_for), of(&X_FORWARDED_FOR, node)) {
        (None, None) => return None,
        (Some(address), None) | (None, Some(address)) => address,
        (Some(one), Some(other)) if one == other => one,
        // Most proxies write one of the two, and hand the other on as it came: which of them the
        // client has made up, nobody can say.
        _ => return None,
    };
    (address != peer).then_some(address)
}

/// What reads the address in an element.
type Read = fn(&[u8]) -> Option<IpAddr>;

/// Walks from the right to the first that is no trusted proxy.
fn walk<'a>(
    trusted: &Networks,
    peer: IpAddr,
    elements: impl Iterator<Item = &'a [u8]>,
    read: Read,
) -> IpAddr {
    let mut known = peer;
    for element in elements.take(MOST_PROXIES) {
        // A list may have empty elements (RFC 9110, section 5.6.1).
        if element.is_empty() {
            continue;
        }
        let Some(address) = read(element) else { break };
        known = address;
        if !trusted.contains(address) {
            break;
        }
    }
    known
}

/// The elements of a list, the last one first. A comma in quotes is none: read from the right, what a
/// client has left open does not swallow what was appended to it.
struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.0?;
        let (rest, element) = match last_comma(list) {
            Some(at) => (Some(&list[..at]), &list[at + 1..]),
            None => (None, list),
        };
        self.0 = rest;
        Some(element.trim_ascii())
    }
}

fn last_comma(list: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut at = list.len();
    while let Some(found) = memchr::memrchr2(b',', b'"', &list[..at]) {
        at = found;
        match list[found] {
            b',' if !quoted => return Some(found),
            b',' => {}
            _ => {
                let escapes = list[..found].iter().rev().take_while(|byte| **byte == b'\\').count();
                // `\"` stands for a quote within one.
                if escapes.is_multiple_of(2) {
                    quoted = !quoted;
                }
                at -= escapes;
            }
        }
    }
    None
}

/// The address behind `for` in an element of `Forwarded`; `None` where it has none, or two.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    // A semicolon in quotes is none.
    let (mut quoted, mut escaped) = (false, false);
    let pairs = element.split(|byte| {
        let ends = *byte == b';' && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && quoted && !escaped;
        ends
    });
    for pair in pairs {
        let pair = pair.trim_ascii();
        let Some((name, value)) = pair.split_at_checked(4) else { continue };
        if name.eq_ignore_ascii_case(b"for=") {
            if found.is_some() {
                return None;
            }
            found = Some(node(value)?);
        }
    }
    found
}

/// The address of a node, with a port or without (RFC 7239, section 6), in quotes or not. `unknown` and
/// what hides an address (`_hidden`) are none.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = match text {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    let text = std::str::from_utf8(text).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = inner.parse().ok()?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (IpAddr::from(address), port)
        }
        // `X-Forwarded-For` has IPv6 without brackets, which leaves no room for a port.
        None => match text.parse() {
            Ok(address) => (address, None),
            Err(_) => {
                let (address, port) = text.split_once(':')?;
                (IpAddr::V4(address.parse().ok()?), Some(port))
            }
        },
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

fn is_port(port: &str) -> bool {
    let hidden = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match port.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(hidden),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests;
