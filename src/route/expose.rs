//! A service that is made callable elsewhere, as an `[[expose]]` row means it. Plain data.

use crate::call::CallName;

/// A service, and what it is over there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// The service, as the routing table knows it.
    pub service: String,
    /// Its name over there.
    pub name: String,
    /// The methods that can be called; empty for all.
    pub methods: Vec<String>,
    /// How many of its calls are taken at once, where the row says so.
    pub prefetch: Option<u16>,
    /// The dialect that it is called in, where the row says so.
    pub dialect: Option<String>,
}

impl Expose {
    /// What a call of `method` is called in the routing table; `None` where the method is not
    /// exposed, or is no name.
    pub fn call_name(&self, method: &str) -> Option<CallName> {
        let exposed = self.methods.is_empty() || self.methods.iter().any(|known| known == method);
        if exposed { CallName::of(&self.service, method) } else { None }
    }
}
