//! Which call a request names.

use super::discovery;
use crate::call::CallName;
use crate::fault::{Fault, FaultKind};

/// The longest name. Every protocol's limit is lower, and faults and the log repeat it.
const LONGEST: usize = 1024;
/// How much of a name that is none is repeated to whoever sent it.
const LONGEST_ECHO: usize = 100;

/// Reads what is called: `service.method`, or a method alone that a row may give to a service; at a
/// service's own address its method, whose dots are its own.
pub(super) fn read(service: Option<&str>, method: String) -> Result<CallName, Fault> {
    if service.map_or(0, str::len) + method.len() >= LONGEST {
        let (what, name) = match service {
            Some(service) if service.len() > method.len() => ("service", service),
            _ => ("method", &*method),
        };
        let start = excerpt(name);
        return Err(unknown(format!(
            "`{start}` is longer than any {what}'s name: {LONGEST} bytes"
        )));
    }
    match service {
        Some(service) => CallName::of(service, &method).ok_or_else(|| {
            unknown(format!("`{method}` is no method's name at the address of `{service}`"))
        }),
        None if method.starts_with("rpc.") && method != discovery::METHOD => Err(unknown(format!(
            "`{}` is none of JSON-RPC's own methods, to which names that begin with `rpc.` belong",
            excerpt(&method)
        ))),
        None => CallName::parse_bare(method).map_err(|method| {
            unknown(format!("`{}` is not of the form `service.method`", excerpt(&method)))
        }),
    }
}

/// What a request is for that comes to a path of the HTTP listener; `None` where that takes none.
pub(super) fn called_at(path: &str, method: &str) -> Option<String> {
    let rest = path.strip_suffix('/').unwrap_or(path).strip_prefix("/api")?;
    match rest.strip_prefix('/') {
        None => rest.is_empty().then(|| method.to_owned()),
        Some(service) => (!service.contains('/')).then(|| format!("{service}.{method}")),
    }
}

fn unknown(why: String) -> Fault {
    Fault::not_sent(FaultKind::UnknownMethod, format!("Method not found: {why}"))
}

fn excerpt(name: &str) -> String {
    match name.char_indices().nth(LONGEST_ECHO) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_at_its_services_address_keeps_its_dots() {
        let name = read(Some("a.b"), "c.d".to_owned()).expect("a name");
        assert_eq!((name.service(), name.method()), ("a.b", "c.d"));
        let name = read(None, "a.b.c".to_owned()).expect("a name");
        assert_eq!((name.service(), name.method()), ("a.b", "c"));
    }

    #[test]
    fn what_names_nothing_is_repeated_in_part() {
        for (service, method) in [
            (None, "nodot.".to_owned()),
            (None, "rpc.x".to_owned()),
            (Some("a"), String::new()),
            (None, "é".repeat(100_000)),
            (Some("a"), "x".repeat(1023)),
            (None, format!("a.{}", "x".repeat(1022))),
        ] {
            let fault = read(service, method).expect_err("a fault");
            assert_eq!(fault.kind(), FaultKind::UnknownMethod);
            assert!(fault.message().len() < 400, "{}", fault.message());
        }
        assert!(read(Some("a"), "x".repeat(1022)).is_ok());
    }

    #[test]
    fn what_is_too_long_is_called_by_what_it_is() {
        for (service, method, what) in [
            (Some("s".repeat(20_000)), "m".to_owned(), "`sss"),
            (Some("s".to_owned()), "m".repeat(20_000), "`mmm"),
            (None, "m".repeat(20_000), "`mmm"),
        ] {
            let fault = read(service.as_deref(), method).expect_err("a fault");
            let name = if what == "`sss" { "any service's name" } else { "any method's name" };
            assert!(fault.message().contains(what), "{}", fault.message());
            assert!(fault.message().contains(name), "{}", fault.message());
        }
    }
}
