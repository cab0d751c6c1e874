//! Positional params by name: what a route's `params` are for, where a service takes an object
//! (CONTRACT, section 6). Pure, and the values stay the bytes that came in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{Display, Write};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::fault::{Fault, FaultKind};

/// The object that a JSON array becomes when its elements get `names` in their order; the names
/// that are left over are left out. `called` is `service.method`, for the fault where the array
/// has more elements than there are names.
pub fn by_name(called: impl Display, names: &[String], array: &str) -> Result<String, Fault> {
    let invalid = |message| Err(Fault::not_sent(FaultKind::InvalidParams, message));
    let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(array) else {
        return invalid(format!("the params of `{called}` are no JSON array"));
    };
    if values.len() > names.len() {
        return invalid(match names {
            [] => format!(
                "`{called}` takes named params: send an object, or give the [[routes]] row `params`"
            ),
            names => format!(
                "`{called}` takes at most {} positional params ({}), not {}",
                names.len(),
                names.join(", "),
                values.len()
            ),
        });
    }
    let mut object = String::with_capacity(array.len() + 16 * names.len());
    object.push('{');
    for (name, value) in names.iter().zip(values) {
        if object.len() > 1 {
            object.push(',');
        }
        // `Value`'s display is its JSON text, escapes and all.
        let written = write!(object, "{}:{}", Value::from(name.as_str()), value.get());
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    object.push('}');
    Ok(object)
}

/// The object that positional and named params become together. A name that both give is refused.
pub fn merged(
    called: impl Display,
    names: &[String],
    positional: &str,
    named: &str,
) -> Result<String, Fault> {
    let invalid = |message| Err(Fault::not_sent(FaultKind::InvalidParams, message));
    let called = called.to_string();
    if names.is_empty() {
        return invalid(format!(
            "`{called}` takes positional or named params, not both at once: send one of them, or give \
             the [[routes]] row `params`"
        ));
    }
    let mut object = by_name(&called, names, positional)?;
    let Ok(given) = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(named) else {
        return invalid(format!("the named params of `{called}` are no JSON object"));
    };
    let count = serde_json::from_str::<Vec<&RawValue>>(positional).map_or(0, |values| values.len());
    if let Some(twice) = names.iter().take(count).find(|name| given.contains_key(name.as_str())) {
        return invalid(format!("`{called}` got `{twice}` twice: by its position and by its name"));
    }
    let rest = named.trim_start().strip_prefix('{').unwrap_or_default();
    object.pop();
    if object.len() > 1 && !given.is_empty() {
        object.push(',');
    }
    object.push_str(rest);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positional_and_named_params_become_one_object() {
        let names = ["a".to_owned(), "b".to_owned()];
        let merge = |positional: &str, named: &str| {
            merged("m.f", &names, positional, named).map_err(|fault| fault.message().to_owned())
        };
        assert_eq!(merge("[1.10]", r#"{"b" : 2}"#).as_deref(), Ok(r#"{"a":1.10,"b" : 2}"#));
        assert_eq!(merge("[]", r#" {"b":2,"c":[]}"#).as_deref(), Ok(r#"{"b":2,"c":[]}"#));
        assert_eq!(merge("[1]", "{}").as_deref(), Ok(r#"{"a":1}"#));
        assert!(merge("[1]", r#"{"\u0061":2}"#).expect_err("twice").contains("`a` twice"));
        assert!(merge("[1,2,3]", r#"{"c":2}"#).expect_err("too many").contains("at most 2"));
        assert!(merged("m.f", &[], "[1]", r#"{"c":2}"#).is_err(), "no names");
    }

    fn named(names: &[&str], array: &str) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        by_name("m.f", &names, array).map_err(|fault| {
            assert_eq!(
                (fault.kind(), fault.outcome().as_str()),
                (FaultKind::InvalidParams, "not_sent")
            );
            fault.message().to_owned()
        })
    }

    #[test]
    fn elements_get_their_names_and_keep_their_bytes() {
        let cases = [
            (&["a", "b"][..], "[]", "{}"),
            (&[], " [ ] ", "{}"),
            (&["a", "b\"c", "d"], "[1.10, {\"k\" : 2}]", r#"{"a":1.10,"b\"c":{"k" : 2}}"#),
            (&["a"], r#"["\ud800"]"#, r#"{"a":"\ud800"}"#),
            (&["a"], "[1e400]", r#"{"a":1e400}"#),
        ];
        for (names, array, object) in cases {
            assert_eq!(named(names, array).as_deref(), Ok(object), "{array}");
        }
    }

    #[test]
    fn more_elements_than_names_are_refused() {
        let too_many = named(&["a", "b"], "[1,2,3]").expect_err("too many");
        assert_eq!(too_many, "`m.f` takes at most 2 positional params (a, b), not 3");
        let nameless = named(&[], "[1]").expect_err("no names");
        assert!(nameless.contains("named params"), "{nameless}");
    }
}
