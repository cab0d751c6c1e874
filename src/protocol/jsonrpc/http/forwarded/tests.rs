//! Whom the headers tell of, as texts.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::networks::Network;

const PROXY: &str = "10.0.0.1";

fn trusted() -> Networks {
    let list = ["10.0.0.0/8", "2001:db8:a::/48"];
    Networks::new(list.iter().map(|text| Network::parse(text).expect(text)))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn headers(lines: &[(&HeaderName, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    headers
}

/// Whom lines of one header tell of; none: the proxy itself.
fn told(name: &HeaderName, lines: &[&str]) -> Option<String> {
    let lines: Vec<_> = lines.iter().map(|line| (name, line.as_bytes())).collect();
    let client = client(&trusted(), address(PROXY), &headers(&lines));
    client.map(|address| address.to_string())
}

#[test]
fn x_forwarded_for_is_read_from_the_right() {
    for (lines, expected) in [
        (&["192.0.2.1"][..], Some("192.0.2.1")),
        (&["192.0.2.9, 192.0.2.1"], Some("192.0.2.1")),
        (&["192.0.2.9,192.0.2.1, 10.0.0.2,10.0.0.3"], Some("192.0.2.1")),
        // Several lines are one list.
        (&["192.0.2.9", "192.0.2.1, 10.0.0.2", "10.0.0.3"], Some("192.0.2.1")),
        (&["192.0.2.1", ""], Some("192.0.2.1")),
        (&["192.0.2.1, , ,"], Some("192.0.2.1")),
        // All are trusted: the first of them asked.
        (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
        (&[PROXY], None),
        (&[""], None),
        (&["192.0.2.1:5060"], Some("192.0.2.1")),
        (&["2001:db8::1"], Some("2001:db8::1")),
        (&["[2001:db8::1]"], Some("2001:db8::1")),
        (&["[2001:db8::1]:443"], Some("2001:db8::1")),
        (&["\"[2001:db8::1]:443\""], Some("2001:db8::1")),
        (&["192.0.2.1, 2001:db8:a::7"], Some("192.0.2.1")),
        (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
        (&["192.0.2.1, ::ffff:10.0.0.2"], Some("192.0.2.1")),
        // What cannot be read ends it, at the last proxy that could.
        (&["unknown"], None),
        (&["192.0.2.1, unknown"], None),
        (&["192.0.2.1, unknown, 10.0.0.3"], Some("10.0.0.3")),
        (&["192.0.2.1, _hidden"], None),
        (&["192.0.2.1, 192.0.2"], None),
        (&["192.0.2.1, 010.0.0.3"], None),
        (&["192.0.2.1, 10.0.0.3:"], None),
        (&["192.0.2.1, 10.0.0.3:x"], None),
        (&["192.0.2.1, [::1"], None),
        (&["192.0.2.1, [::1]x"], None),
        (&["192.0.2.1, fe80::1%eth0"], None),
        (&["192.0.2.1 10.0.0.3"], None),
        // What a client leaves open swallows nothing.
        (&["\"192.0.2.9, 192.0.2.1"], Some("192.0.2.1")),
        (&["192.0.2.9\\\", 192.0.2.1"], Some("192.0.2.1")),
    ] {
        assert_eq!(told(&X_FORWARDED_FOR, lines).as_deref(), expected, "{lines:?}");
    }
}

#[test]
fn forwarded_is_read_from_the_right() {
    for (lines, expected) in [
        (&["for=192.0.2.1"][..], Some("192.0.2.1")),
        (&["For=192.0.2.1;proto=https; by=10.0.0.1"], Some("192.0.2.1")),
        (&["proto=https;FOR=\"192.0.2.1:47011\""], Some("192.0.2.1")),
        (&["for=\"[2001:db8::1]\""], Some("2001:db8::1")),
        (&["for=\"[2001:db8::1]:_port\""], Some("2001:db8::1")),
        (&["for=192.0.2.9, for=192.0.2.1, for=10.0.0.3"], Some("192.0.2.1")),
        (&["for=192.0.2.9", "for=192.0.2.1;host=\"a,b\"", "for=10.0.0.3"], Some("192.0.2.1")),
        (&["for=192.0.2.1;host=\"a\\\",for=192.0.2.7\""], Some("192.0.2.1")),
        (&["for=192.0.2.1;host=\"a;for=192.0.2.7\\\";for=192.0.2.8\";by=x"], Some("192.0.2.1")),
        (&["host=\"a;for=192.0.2.7;\""], None),
        (&["for=unknown"], None),
        (&["for=192.0.2.1, for=unknown"], None),
        (&["for=_secret, for=10.0.0.3"], Some("10.0.0.3")),
        (&["for=192.0.2.1, proto=https"], None),
        (&["for=192.0.2.1;for=192.0.2.2"], None),
        (&["192.0.2.1"], None),
        (&["for = 192.0.2.1"], None),
        (&["for="], None),
        // What a client leaves open swallows nothing.
        (&["for=\"192.0.2.9, for=192.0.2.1"], Some("192.0.2.1")),
        (&["for=\"192.0.2.9", "for=192.0.2.1"], Some("192.0.2.1")),
        (&["for=192.0.2.9\\, for=\"192.0.2.1\""], Some("192.0.2.1")),
    ] {
        assert_eq!(told(&FORWARDED, lines).as_deref(), expected, "{lines:?}");
    }
}

#[test]
fn nobody_who_is_not_trusted_is_believed() {
    let made_up = headers(&[(&X_FORWARDED_FOR, b"192.0.2.1"), (&FORWARDED, b"for=192.0.2.1")]);
    for peer in ["203.0.113.5", "11.0.0.1", "::1", "2001:db8:b::1"] {
        assert_eq!(client(&trusted(), address(peer), &made_up), None, "{peer}");
    }
    assert_eq!(client(&Networks::default(), address(PROXY), &made_up), None);
    assert_eq!(client(&trusted(), address(PROXY), &HeaderMap::new()), None);
    let mapped = address("::ffff:10.0.0.1");
    assert_eq!(client(&trusted(), mapped, &made_up), Some(address("192.0.2.1")));
}

#[test]
fn of_two_headers_that_differ_neither_is_believed() {
    for (one, other, expected) in [
        ("for=192.0.2.1", "192.0.2.1", Some("192.0.2.1")),
        ("for=192.0.2.9, for=192.0.2.1", "192.0.2.1, 10.0.0.3", Some("192.0.2.1")),
        ("for=192.0.2.9", "192.0.2.1", None),
        ("for=192.0.2.1", "unknown", None),
        ("rubbish", "192.0.2.1", None),
    ] {
        let both = [(&FORWARDED, one.as_bytes()), (&X_FORWARDED_FOR, other.as_bytes())];
        let client = client(&trusted(), address(PROXY), &headers(&both));
        assert_eq!(client, expected.map(address), "{one} {other}");
    }
}

#[test]
fn a_list_of_proxies_is_not_read_for_ever() {
    let many = format!("192.0.2.1{}", ", 10.0.0.2".repeat(6_000));
    assert_eq!(told(&X_FORWARDED_FOR, &[&many]).as_deref(), Some("10.0.0.2"));
    let few = format!("192.0.2.1{}", ", 10.0.0.2".repeat(MOST_PROXIES - 1));
    assert_eq!(told(&X_FORWARDED_FOR, &[&few]).as_deref(), Some("192.0.2.1"));
    let lines = vec![""; 1_000];
    assert_eq!(told(&X_FORWARDED_FOR, &lines), None);
}

proptest! {
    /// Whatever a client sends: what its proxy appends is what counts.
    #[test]
    fn what_a_client_makes_up_changes_nothing(
        made_up in proptest::collection::vec("[ -~]{0,40}", 0..4),
        joined in any::<bool>(),
    ) {
        for (name, own) in [(&X_FORWARDED_FOR, "192.0.2.1"), (&FORWARDED, "for=\"192.0.2.1:80\"")] {
            let mut lines: Vec<String> = made_up.clone();
            match lines.last_mut() {
                Some(last) if joined => *last = format!("{last}, {own}"),
                _ => lines.push(own.to_owned()),
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let told = told(name, &lines);
            prop_assert_eq!(told.as_deref(), Some("192.0.2.1"));
        }
    }

    /// Any bytes at all have an answer.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        for name in [&X_FORWARDED_FOR, &FORWARDED] {
            let mut headers = HeaderMap::new();
            headers.append(name, value.clone());
            client(&trusted(), address(PROXY), &headers);
        }
    }
}
