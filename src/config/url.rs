//! What is wrong with a broker's URL, for every protocol alike.
//!
//! A parser takes what it is given: an unescaped `/` in a password makes half of it the host's
//! path, and a key that nobody knows is passed over. Here each is an error with its mend. No
//! message repeats more of a URL than a key's name, which the URL's writer did not choose: the
//! rest may be a password.

use super::problem::did_you_mean;

/// A URL behind its `scheme://`, in the parts that it was written in.
#[derive(Debug)]
pub struct Rest<'a> {
    /// `USER:PASSWORD` or `TOKEN`, with its escapes.
    pub login: Option<&'a str>,
    /// `HOST:PORT`.
    pub place: &'a str,
    /// What follows the first `/`, with its escapes.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: &'a str,
}

/// Takes a URL apart, or says which character of it must be escaped.
pub fn split(rest: &str) -> Result<Rest<'_>, String> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains('@') {
        let raw = tail.chars().next().unwrap_or('/');
        let what = "a raw `@` behind its host: write it as %40";
        return Err(format!("holds {}, or {what}", raw_in("its credentials", raw)));
    }
    if tail.contains('#') {
        return Err("ends in `#…`, which means nothing here: a `#` is written as %23".to_owned());
    }
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    if let Some(login) = login {
        escaped(login, "its credentials")?;
    }
    if place.is_empty() || place.starts_with(':') {
        return Err(
            "names no host: write HOST or HOST:PORT behind `://` and the credentials".to_owned()
        );
    }
    if login.is_some_and(|login| login.is_empty() || login.starts_with(':')) {
        return Err(
            "has an empty user in front of its `@`: name one, or leave the `@` out".to_owned()
        );
    }
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    Ok(Rest { login, place, path: path.strip_prefix('/').unwrap_or(path), query })
}

/// Checks that a part holds nothing that must be escaped in it.
pub fn escaped(part: &str, what: &str) -> Result<(), String> {
    let raw = part.char_indices().find(|(at, c)| match c {
        '/' | '?' | '#' | ';' | ',' | ' ' => true,
        '%' => !part.get(at + 1..at + 3).is_some_and(is_hex),
        _ => false,
    });
    raw.map_or(Ok(()), |(_, raw)| Err(format!("holds {}", raw_in(what, raw))))
}

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn raw_in(what: &str, raw: char) -> String {
    format!("a raw `{raw}` in {what}: write it as %{:02X}", u32::from(raw))
}

/// A part without its escapes.
pub fn decoded(part: &str, what: &str) -> Result<String, String> {
    let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| format!("holds escapes in {what} that are not UTF-8"))
}

/// The keys of a query, each with its value and its escapes. `elsewhere` is what other programs
/// have by other names, and how to say it here; `tables` the keys of the table, which may have
/// been meant.
pub fn keys<'a>(
    query: &'a str,
    known: &[&str],
    elsewhere: &[(&str, &str)],
    tables: &[&str],
) -> Result<Vec<(&'a str, &'a str)>, String> {
    if query.contains(';') {
        return Err("has a raw `;` between its keys: write `&`".to_owned());
    }
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !known.contains(&key) {
            return Err(unknown(key, known, elsewhere, tables));
        }
        if keys.iter().any(|(other, _)| *other == key) {
            return Err(format!("has the key `{key}` twice: keep one"));
        }
        keys.push((key, value));
    }
    Ok(keys)
}

fn unknown(key: &str, known: &[&str], elsewhere: &[(&str, &str)], tables: &[&str]) -> String {
    if let Some((_, mend)) = elsewhere.iter().find(|(other, _)| *other == key) {
        return format!("has a key `{key}`: {mend}");
    }
    let is_word = key.len() <= 40 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let shown = if is_word { key } else { "…" };
    let hint = did_you_mean(shown, known.iter().copied());
    if known.is_empty() || (hint.is_empty() && tables.contains(&key)) {
        let hint = did_you_mean(shown, tables.iter().copied());
        return format!("has a key `{shown}`, and keys stand in the table, not in the URL{hint}");
    }
    format!("has an unknown key `{shown}`{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let rest = split("u:p%40@h:1/v%2f?a=b").expect("valid");
        assert_eq!((rest.login, rest.place), (Some("u:p%40"), "h:1"));
        assert_eq!((rest.path, rest.query), ("v%2f", "a=b"));
        let bare = split("h").expect("valid");
        assert_eq!((bare.login, bare.place, bare.path, bare.query), (None, "h", "", ""));
    }

    #[test]
    fn raw_characters_are_named_with_their_escapes() {
        for (url, escape) in [
            ("u:geh/eim@h", "%2F"),
            ("u:geh?eim@h", "%3F"),
            ("u:geh#eim@h", "%23"),
            ("u:geh;eim@h", "%3B"),
            ("u:geh,eim@h", "%2C"),
            ("u:geh eim@h", "%20"),
            ("u:geh%eim@h", "%25"),
            ("u:geh%é@h", "%25"),
            ("u:p@h/geh@eim", "%40"),
            ("h/v#geheim", "%23"),
        ] {
            let complaint = split(url).expect_err(url);
            assert!(complaint.contains(escape), "{url}: {complaint}");
            assert!(!complaint.contains("geh") && !complaint.contains("eim"), "{complaint}");
        }
    }

    #[test]
    fn a_url_names_a_host_and_no_empty_user() {
        for (url, words) in [
            ("", "names no host"),
            ("/v", "names no host"),
            ("u:p@:5672/v", "names no host"),
            (":@h/v", "an empty user"),
            ("@h", "an empty user"),
        ] {
            let complaint = split(url).expect_err(url);
            assert!(complaint.contains(words), "{url}: {complaint}");
        }
    }

    #[test]
    fn keys_of_a_query() {
        let read = |query| {
            keys(query, &["heartbeat"], &[("verify", "it is always checked")], &["exchange"])
        };
        assert_eq!(read("heartbeat=5&"), Ok(vec![("heartbeat", "5")]));
        for (query, words) in [
            ("heartbaet=5", "an unknown key `heartbaet`: did you mean `heartbeat`?"),
            ("verify=verify_none", "`verify`: it is always checked"),
            ("exchange=x", "`exchange`, and keys stand in the table"),
            ("heartbeat=1&heartbeat=2", "the key `heartbeat` twice"),
            ("heartbeat=1;a=2", "a raw `;` between its keys"),
            ("pass word", "unknown key `…`"),
        ] {
            let complaint = read(query).expect_err(query);
            assert!(complaint.contains(words), "{query}: {complaint}");
        }
    }
}
