//! Positional params by name: what a route's `params` are for, where a service takes an object
//! (CONTRACT, section 6). Pure, and the values stay the bytes that came in.

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

#[cfg(test)]
mod tests {
    use super::*;

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
