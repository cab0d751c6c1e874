//! What a JSON-RPC service says can be called: an OpenRPC document, or what Gemstone's services up to
//! 0.11 answer to `get_service_specs` (WIRE, section 4.2).

use serde_json::Value;

use crate::offer::room::Room;
use crate::offer::{Description, MOST, Offer, Offers, openrpc};

/// The methods that services are asked by, one after the other.
pub(in crate::protocol::jsonrpc::upstream) const QUESTIONS: [&str; 2] =
    ["rpc.discover", "get_service_specs"];

/// Reads an answer to one of them; `None` where it tells nothing. A `qualified` upstream's methods
/// are told with their services, and `service` is the one that is wanted.
pub(in crate::protocol::jsonrpc::upstream) fn offers(
    answer: &[u8],
    service: Option<&str>,
    qualified: bool,
) -> Option<Offers> {
    let mut room = Room::default();
    let answer: Value = room.parse(answer)?;
    let name = service.or_else(|| answer.get("name")?.as_str());
    let (listed, schemas) = match openrpc::read(&answer, name.unwrap_or_default(), &mut room) {
        Some(document) => (document.methods, document.schemas),
        None => {
            let specs = answer.get("methods")?.as_object()?.iter();
            let read = |(name, told): (&String, &Value)| {
                let summary = told.as_str().and_then(|text| text.trim().lines().next());
                (name.clone(), Description::unknown().with_summary(summary))
            };
            (specs.map(read).take(MOST).collect(), Default::default())
        }
    };
    let methods = listed.into_iter().filter_map(|(listed, description)| {
        if QUESTIONS.contains(&listed.as_str()) {
            return None;
        }
        let (service, method) = match listed.rsplit_once('.').filter(|_| qualified) {
            Some((of, method)) if service.is_none_or(|service| service == of) => (of, method),
            Some(_) => return None,
            None => (name?, listed.as_str()),
        };
        Some(Offer { service: service.to_owned(), method: method.to_owned(), description })
    });
    Some(Offers { methods: methods.collect(), schemas })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(answer: &str, service: Option<&str>, qualified: bool) -> Option<String> {
        let found = offers(answer.as_bytes(), service, qualified)?;
        let names = found.methods.iter().map(|offer| format!("{}:{}", offer.service, offer.method));
        Some(names.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn both_kinds_of_answers() {
        let openrpc =
            r#"{"methods":[{"name":"a.b","params":[]},{"name":"c"},{"name":"rpc.discover"}]}"#;
        let gemstone = r#"{"name":"hello","methods":{"say":"Says.","get_service_specs":null}}"#;
        for (answer, service, qualified, expected) in [
            (openrpc, Some("s"), false, Some("s:a.b s:c")),
            (openrpc, None, false, Some("")),
            (openrpc, None, true, Some("a:b")),
            (openrpc, Some("x"), true, Some("x:c")),
            (gemstone, None, false, Some("hello:say")),
            (gemstone, Some("s"), false, Some("s:say")),
            ("null", Some("s"), false, None),
            ("{", Some("s"), false, None),
            ("[1e400]", Some("s"), false, None),
        ] {
            assert_eq!(names(answer, service, qualified).as_deref(), expected, "{answer}");
        }
        let said = offers(gemstone.as_bytes(), None, false).expect("specs");
        assert_eq!(said.methods[0].description.named("say")["summary"], "Says.");
    }

    /// A document of a few bytes that is a large one in memory.
    #[test]
    fn what_would_fill_the_memory_is_told_by_name_alone_or_not_at_all() {
        let zeros = |count: usize| vec!["0"; count].join(",");
        let referring = |refs: usize, zeros: &str| {
            let one = r##"{"$ref":"#/components/contentDescriptors/X"}"##;
            let params = vec![one; refs].join(",");
            format!(
                r#"{{"methods":[{{"name":"a","params":[{params}]}},{{"name":"b","params":[]}}],
                "components":{{"contentDescriptors":{{"X":{{"name":"x","schema":{{"enum":[{zeros}]}}}}}}}}}}"#
            )
        };
        let plain = offers(referring(3, "0").as_bytes(), Some("s"), false).expect("a document");
        assert_eq!(plain.methods[0].description.named("a")["params"][2]["name"], "x");
        let many = referring(1_000, &zeros(10_000));
        let found = offers(many.as_bytes(), Some("s"), false).expect("a document");
        let told: Vec<_> = found.methods.iter().map(|it| (&*it.method, &it.description)).collect();
        let unknown = Description::unknown();
        assert!(told == [("a", &unknown), ("b", &unknown)], "it is told in full");
        for other in [referring(0, &zeros(500_000)), referring(1, &" ".repeat(1 << 20))] {
            let found = offers(other.as_bytes(), Some("s"), false);
            assert!(found.is_none(), "{} bytes", other.len());
        }
    }
}
