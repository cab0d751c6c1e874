//! What can be called, as those tell who know it: a service itself, or a file that describes it.

pub mod openrpc;
pub mod reading;
pub mod room;
pub mod schema_file;

use serde_json::{Map, Value};

/// How many methods of one upstream are told of.
pub const MOST: usize = 10_000;

/// Methods that somebody offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offers {
    /// The methods, each with its service.
    pub methods: Vec<Offer>,
    /// The schemas that their descriptions refer to, by names that no other service has.
    pub schemas: Map<String, Value>,
}

impl Offers {
    /// What it takes in memory, in bytes, about.
    pub fn weight(&self) -> usize {
        let methods = self.methods.iter();
        let methods = methods.map(|Offer { service, method, description: Description(fields) }| {
            service.len() + method.len() + room::weight_of(fields)
        });
        methods.sum::<usize>() + room::weight_of(&self.schemas)
    }

    /// The same methods, without what is known of them.
    #[must_use]
    pub fn by_name_alone(mut self) -> Self {
        self.methods.iter_mut().for_each(|offer| offer.description = Description::unknown());
        self.schemas.clear();
        self
    }
}

/// A method that can be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its service.
    pub service: String,
    /// Its name there.
    pub method: String,
    /// What is known of it.
    pub description: Description,
}

/// What is known of a method: the fields of an OpenRPC method object but its name (OpenRPC 1.3,
/// "Method Object").
#[derive(Clone, Debug, PartialEq)]
pub struct Description(Map<String, Value>);

impl Description {
    /// Nobody tells what it takes and gives.
    pub fn unknown() -> Self {
        Self::new(None, None)
    }

    /// What schemas tell: one of all its params, which are an object, and one of its result.
    pub fn of_schemas(request: Option<&Value>, response: Option<Value>) -> Self {
        Self::new(request.and_then(params_of), response)
    }

    fn new(params: Option<Vec<Value>>, response: Option<Value>) -> Self {
        let mut fields = Map::new();
        match params {
            Some(params) => {
                fields.insert("paramStructure".into(), "by-name".into());
                fields.insert("params".into(), params.into());
            }
            None => {
                // The list is not optional, and an empty one says that there are none.
                fields.insert(UNKNOWN_PARAMS.into(), true.into());
                fields.insert("params".into(), Value::Array(Vec::new()));
            }
        }
        let schema = response.unwrap_or(Value::Bool(true));
        fields.insert("result".into(), serde_json::json!({"name": "result", "schema": schema}));
        Self(fields)
    }

    /// With a sentence on what it does, where there is one.
    #[must_use]
    pub fn with_summary(mut self, summary: Option<&str>) -> Self {
        if let Some(summary) = summary.filter(|summary| !summary.is_empty()) {
            self.0.insert("summary".into(), summary.into());
        }
        self
    }

    /// What it takes in memory, in bytes, about.
    pub fn weight(&self) -> usize {
        room::weight_of(&self.0)
    }

    /// The method object's fields but its name.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The method object.
    #[cfg(test)]
    pub fn named(&self, name: &str) -> Value {
        let mut fields = Map::with_capacity(self.0.len() + 1);
        fields.insert("name".into(), name.into());
        fields.extend(self.0.clone());
        Value::Object(fields)
    }
}

/// Says that nobody has told what a method takes.
const UNKNOWN_PARAMS: &str = "x-unknown-params";

/// The params that an object's schema tells of; `None` where it is no object's.
fn params_of(schema: &Value) -> Option<Vec<Value>> {
    let is_object = schema.get("type").is_none_or(|kind| kind == "object");
    let properties = schema.get("properties").filter(|_| is_object)?.as_object()?;
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let mut params: Vec<(bool, Value)> = Vec::new();
    for (name, schema) in properties {
        let needed = is_required(name);
        let schema = if openrpc::is_schema(schema) { schema.clone() } else { true.into() };
        let param = serde_json::json!({"name": name, "required": needed, "schema": schema});
        params.push((needed, param));
    }
    // Those that may be left out come last.
    params.sort_by_key(|(needed, _)| !needed);
    Some(params.into_iter().map(|(_, param)| param).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_objects_schema_tells_of_params() {
        let request = json!({"type": "object", "required": ["size"], "properties":
            {"note": {"type": "string"}, "odd": 7, "size": {"enum": ["S", "L"]}}});
        let description = Description::of_schemas(Some(&request), Some(json!({"type": "number"})));
        let expected = json!({"name": "orders.create", "summary": "Makes one.",
            "paramStructure": "by-name",
            "params": [
                {"name": "size", "required": true, "schema": {"enum": ["S", "L"]}},
                {"name": "note", "required": false, "schema": {"type": "string"}},
                {"name": "odd", "required": false, "schema": true}],
            "result": {"name": "result", "schema": {"type": "number"}}});
        assert_eq!(description.with_summary(Some("Makes one.")).named("orders.create"), expected);
    }

    #[test]
    fn what_nobody_tells_is_said_not_to_be_known() {
        let expected = json!({"name": "m", "params": [], "x-unknown-params": true,
            "result": {"name": "result", "schema": true}});
        for request in [None, Some(json!({"type": "array"})), Some(json!("x"))] {
            let description = Description::of_schemas(request.as_ref(), None);
            assert_eq!(description.with_summary(None).named("m"), expected, "{request:?}");
        }
    }
}
