//! Calls of exposed services that may run for longer than the broker waits for them.

use super::expose::ExposeConfig;
use super::route::UpstreamConfig;
use super::section::Section;
use crate::route::Rule;
use crate::units::format_duration;

/// Warns of a row whose calls may come from such a broker and outlast its patience, unless it was given more.
pub(super) fn check(
    root: &Section<'_>,
    rules: &[Option<Rule>],
    exposes: &[(usize, &ExposeConfig)],
    upstreams: &[UpstreamConfig],
) {
    let rows = || rules.iter().enumerate().filter_map(|(row, rule)| Some((row, rule.as_ref()?)));
    let mut warned = Vec::new();
    for (number, config) in exposes {
        let expose = &config.expose;
        let ons = upstreams.iter().filter(|upstream| config.is_on(&upstream.name));
        let patience = ons.filter_map(|on| Some((on, on.connector.patience_with_calls()?)));
        let Some((on, (limit, setting))) = patience.min_by_key(|(_, (limit, _))| *limit) else {
            continue;
        };
        for row in expose.ways(rows()).rows {
            let Some(Some(rule)) = rules.get(row) else { continue };
            if rule.timeout <= limit || warned.contains(&row) {
                continue;
            }
            warned.push(row);
            let message = format!(
                "[[routes]] #{} lets calls run for {}, and [[expose]] #{} \"{}\" brings such from `{}`, which \
                 waits {} for one, if nobody has told it to wait longer, and then delivers it again: raise its \
                 `{setting}` above that, or shorten `timeout`",
                row + 1,
                format_duration(rule.timeout),
                number + 1,
                expose.service,
                on.name,
                format_duration(limit),
            );
            root.warn(&format!("routes[{row}].timeout"), message);
        }
    }
}
