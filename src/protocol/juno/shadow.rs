//! Modules that nobody will call, because a row of the routing table sends their calls elsewhere
//! (CONTRACT, section 3).

use serde::Serialize;

use crate::route::HUB;
use crate::route::pattern::Pattern;
use crate::router::table::{Row, Table};

/// A name that a row takes from a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shadow {
    /// The module's whole name, `orders.*`, or one function's.
    pub(super) name: String,
    /// The row, counted from 1.
    pub(super) row: usize,
    /// What the row matches.
    pub(super) r#match: String,
    /// Where the row sends the calls.
    pub(super) upstream: String,
    /// Whether the row takes all of the module's functions.
    #[serde(skip)]
    pub(super) whole: bool,
}

impl Shadow {
    fn new(name: String, index: usize, row: &Row, whole: bool) -> Self {
        let (r#match, upstream) = (row.rule.pattern.to_string(), row.rule.upstream.clone());
        Self { name, row: index + 1, r#match, upstream, whole }
    }
}

/// What rows take from a module: all of it, or some of the functions.
pub(super) fn of<'a>(
    table: &Table,
    id: &str,
    functions: impl Iterator<Item = &'a str>,
) -> Vec<Shadow> {
    let all = Pattern::new(&format!("{id}.*"));
    if let Some(index) = table.covering(&all)
        && let row = &table.rows()[index]
        && leads_away(row, id)
        // An earlier row for one function would make it a matter of functions.
        && table.rows_to_hub().iter().all(|hub| *hub > index || leads_away(&table.rows()[*hub], id))
    {
        return vec![Shadow::new(all.as_str().to_owned(), index, row, true)];
    }
    let shadowed = functions.filter_map(|function| {
        let name = format!("{id}.{function}");
        let found = table.position(&name)?;
        let row = &table.rows()[found];
        leads_away(row, id).then(|| Shadow::new(name, found, row, false))
    });
    shadowed.collect()
}

fn leads_away(row: &Row, id: &str) -> bool {
    row.rule.upstream != HUB || row.rule.service.as_deref().is_some_and(|service| service != id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::route::Rule;
    use crate::router::ledger::Ledger;
    use crate::router::table::NO_ROUTE;

    fn table(rows: &[(&str, &str, Option<&str>)]) -> Table {
        let ledger = Ledger::new([]);
        let row = |(pattern, upstream, service): &(&str, &str, Option<&str>)| {
            let rule = Rule {
                service: service.map(str::to_owned),
                ..Rule::new(pattern, upstream, Duration::from_secs(1))
            };
            Row::new(rule, NO_ROUTE, None, &ledger)
        };
        Table::new(rows.iter().map(row).collect(), row(&("*", HUB, None)))
    }

    #[test]
    fn names_that_rows_take() {
        let table = table(&[
            ("orders.create", "rabbit", None),
            ("mailer.*", "nats", None),
            ("old.*", "hub", Some("new")),
            ("new.*", "hub", None),
            ("*.stop", "rabbit", None),
        ]);
        let of = |id: &str, functions: &[&str]| -> Vec<(String, usize)> {
            let shadows = super::of(&table, id, functions.iter().copied());
            shadows.into_iter().map(|shadow| (shadow.name, shadow.row)).collect()
        };
        let named = |name: &str, row: usize| vec![(name.to_owned(), row)];
        assert_eq!(of("mailer", &["send"]), named("mailer.*", 2));
        assert_eq!(of("orders", &["create", "list"]), named("orders.create", 1));
        assert_eq!(of("old", &["f"]), named("old.*", 3));
        assert_eq!(of("new", &["f", "stop"]), []);
        assert_eq!(of("billing", &["pay", "stop"]), named("billing.stop", 5));
    }
}
