//! Reads OpenRPC documents (1.x, <https://spec.open-rpc.org>) that somebody else has written.
//!
//! What is not as the specification has it is left out: a document that is made of several must not
//! be broken by one of them.

use serde_json::{Map, Value, json};

use super::room::{Room, weight, weight_of};
use super::{Description, MOST};

/// What a document tells of: methods by their names, and the schemas that they refer to.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The methods, in their order.
    pub methods: Vec<(String, Description)>,
    /// The schemas, by their new names.
    pub schemas: Map<String, Value>,
}

/// Whether a value can be a JSON schema.
pub fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// Reads a document; `None` where it has no methods. Its schemas get names that begin with `owner`. Of one for which
/// there is no `room` the methods are told by their names alone.
pub fn read(document: &Value, owner: &str, room: &mut Room) -> Option<Document> {
    let reader = Reader { document, owner };
    let listed = document.get("methods")?.as_array()?;
    let methods = listed.iter().filter_map(|method| reader.method(method, room)).take(MOST);
    let mut methods: Vec<_> = methods.collect();
    let mut schemas = Map::new();
    for (name, schema) in reader.components("schemas").into_iter().flatten() {
        if !room.is_spent() && is_schema(schema) {
            schemas.insert(reader.renamed(name), reader.schema(schema));
        }
    }
    if !room.take(weight_of(&schemas)) {
        // Half of what a method takes, or what refers to nothing, would be wrong.
        schemas.clear();
        methods.iter_mut().for_each(|(_, description)| *description = Description::unknown());
    }
    Some(Document { methods, schemas })
}

struct Reader<'a> {
    document: &'a Value,
    owner: &'a str,
}

/// How a reference to a schema of the same document begins.
pub const SCHEMAS: &str = "#/components/schemas/";

impl<'a> Reader<'a> {
    fn components(&self, kind: &str) -> Option<&'a Map<String, Value>> {
        self.document.get("components")?.get(kind)?.as_object()
    }

    /// A method.
    fn method(&self, method: &'a Value, room: &mut Room) -> Option<(String, Description)> {
        let name = method.get("name")?.as_str()?;
        if room.is_spent() {
            return Some((name.to_owned(), Description::unknown()));
        }
        let mut fields = Map::new();
        for key in ["summary", "description"] {
            if let Some(text) = method.get(key).filter(|text| text.is_string()) {
                fields.insert(key.into(), text.clone());
            }
        }
        if let Some(deprecated) = method.get("deprecated").filter(|flag| flag.is_boolean()) {
            fields.insert("deprecated".into(), deprecated.clone());
        }
        let structures = ["by-name", "by-position", "either"];
        let structure = method.get("paramStructure").and_then(Value::as_str);
        if let Some(structure) = structure.filter(|known| structures.contains(known)) {
            fields.insert("paramStructure".into(), structure.into());
        }
        room.take(weight_of(&fields));
        let params = method.get("params").and_then(Value::as_array);
        let params: Option<Vec<Value>> = params
            .map(|params| params.iter().filter_map(|param| self.content(param, room)).collect());
        let Description(rest) = Description::new(params, None);
        for (key, value) in rest {
            fields.entry(key).or_insert(value);
        }
        let result = method.get("result").and_then(|result| self.content(result, room));
        if let Some(result) = result {
            fields.insert("result".into(), result);
        }
        Some((name.to_owned(), Description(fields)))
    }

    /// A content descriptor, or the one that is referred to.
    fn content(&self, content: &'a Value, room: &mut Room) -> Option<Value> {
        if room.is_spent() {
            return None;
        }
        let content = match content.get("$ref").and_then(Value::as_str) {
            Some(place) => {
                let name = place.strip_prefix("#/components/contentDescriptors/")?;
                self.components("contentDescriptors")?.get(name)?
            }
            None => content,
        };
        let name = content.get("name")?.as_str()?;
        let schema = content.get("schema").filter(|schema| is_schema(schema));
        let schema = schema.map_or(Value::Bool(true), |schema| self.schema(schema));
        let mut told = json!({"name": name, "schema": schema});
        for key in ["required", "deprecated"] {
            if let Some(flag) = content.get(key).filter(|flag| flag.is_boolean()) {
                told[key] = flag.clone();
            }
        }
        for key in ["summary", "description"] {
            if let Some(text) = content.get(key).filter(|text| text.is_string()) {
                told[key] = text.clone();
            }
        }
        room.take(weight(&told)).then_some(told)
    }

    /// A schema, whose references go to the new names.
    fn schema(&self, schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| {
                    let place = value.as_str().filter(|_| key == "$ref");
                    let value = match place.and_then(|place| place.strip_prefix(SCHEMAS)) {
                        Some(name) => [SCHEMAS, &self.renamed(name)].concat().into(),
                        None => self.schema(value),
                    };
                    (key.clone(), value)
                });
                Value::Object(fields.collect())
            }
            Value::Array(items) => items.iter().map(|item| self.schema(item)).collect(),
            plain => plain.clone(),
        }
    }

    /// A schema's name among those of others: the specification allows letters, digits and `.-_`.
    fn renamed(&self, name: &str) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let all = self.owner.chars().chain(['.']).chain(name.chars());
        all.map(|c| if is_plain(c) { c } else { '_' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_taken_over_with_what_it_refers_to() {
        let document = json!({
            "openrpc": "1.2.6",
            "methods": [{
                "name": "create",
                "summary": "Makes an order.",
                "paramStructure": "by-position",
                "params": [
                    {"name": "order", "required": true, "schema": {"$ref": "#/components/schemas/Or der"}},
                    {"$ref": "#/components/contentDescriptors/Note"},
                    {"$ref": "#/components/contentDescriptors/Missing"}],
                "result": {"name": "price", "schema": {"type": "array", "items": [{"$ref": "#/components/schemas/Or der"}]}},
                "errors": "odd",
            }, {"name": 7}, {"name": "bare"}],
            "components": {
                "schemas": {"Or der": {"type": "object"}, "odd": 7},
                "contentDescriptors": {"Note": {"name": "note", "schema": 7}}},
        });
        let read = read(&document, "my.orders", &mut Room::default()).expect("methods");
        let names: Vec<_> = read.methods.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["create", "bare"]);
        let refers = json!({"$ref": "#/components/schemas/my.orders.Or_der"});
        let expected = json!({"name": "x", "summary": "Makes an order.", "paramStructure": "by-position",
            "params": [{"name": "order", "required": true, "schema": refers},
                {"name": "note", "schema": true}],
            "result": {"name": "price", "schema": {"type": "array", "items": [refers]}}});
        assert_eq!(read.methods[0].1.named("x"), expected);
        assert_eq!(read.methods[1].1, Description::unknown());
        assert_eq!(Value::Object(read.schemas), json!({"my.orders.Or_der": {"type": "object"}}));
    }

    #[test]
    fn what_has_no_methods_is_no_document() {
        for other in [json!(null), json!({}), json!({"methods": {}}), json!([])] {
            assert_eq!(read(&other, "x", &mut Room::default()), None);
        }
    }
}
