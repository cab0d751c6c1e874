//! What is fuzzed of HTTP beside the bodies: headers that mean something here.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue};

pub(in super::super) use super::websocket::fuzzing::frame;
use super::{forwarded, headers};
use crate::caller::Caller;
use crate::networks::{Network, Networks};

/// `name: value` in lines.
pub(in super::super) fn headers(data: &[u8]) {
    let mut map = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line[colon + 1..])) {
            map.append(name, value);
        }
    }
    let context = headers::read_context(&map, &Caller::NOBODY, true, None);
    assert!(context.user_id.is_none(), "nobody is known by what he says");
    drop((headers::read_timeout(&map), headers::check_content_type(&map)));
    drop(headers::check_content_encoding(&map));
    black_box(headers::is_gemstone(&map));
    let trusted = Networks::new(Network::parse("10.0.0.0/8").ok());
    let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(forwarded::client(&trusted, peer, &map), None, "the peer is no proxy");
    black_box(forwarded::client(&trusted, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), &map));
}
