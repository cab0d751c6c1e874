//! The limits of all calls, of rows and of API keys. What was used of one lives over a reload that keeps it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Config;
use crate::route::Rule;
use crate::router::limits::{LimitsInForce, LimitsOfKeys};

/// Those that are in force.
#[derive(Default)]
pub(super) struct LimitsAtWork {
    rows: HashMap<Calls, Arc<LimitsInForce>>,
    pub(super) gateway: Arc<LimitsInForce>,
    pub(super) keys: Arc<LimitsOfKeys>,
}

/// Which calls a row is for: its pattern, and whether it takes names without a dot. Two rows of one pattern can
/// differ in that; of those that do not, the first takes all calls.
type Calls = (String, bool);

fn calls(rule: &Rule) -> Calls {
    (rule.pattern.as_str().to_owned(), rule.service.is_some())
}

impl LimitsAtWork {
    /// Puts those of a configuration in the place of those before. Gives each row its own, in their order.
    pub(super) fn turn_over(&mut self, config: &Config) -> Vec<Arc<LimitsInForce>> {
        self.gateway = Arc::new(LimitsInForce::new(&config.limits, Some(&self.gateway)));
        let keys = config.auth.keys.iter().map(|key| (key.name.as_str(), &key.limits));
        self.keys = Arc::new(LimitsOfKeys::new(keys, &self.keys));
        let mut before = std::mem::take(&mut self.rows);
        let rows = config.routes.iter().map(|rule| {
            // No two rows go on with those of one: each sets them as its own keys say.
            let same = before.remove(&calls(rule));
            let limits = Arc::new(LimitsInForce::new(&rule.limits, same.as_deref()));
            self.rows.entry(calls(rule)).or_insert_with(|| Arc::clone(&limits));
            limits
        });
        rows.collect()
    }
}
