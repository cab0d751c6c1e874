//! Tables for a terminal, and the figures in them.

/// A ratio, its target, and whether it is reached.
pub(crate) fn verdict(ratio: f64, target: f64) -> [String; 3] {
    [format!("{ratio:.2}"), format!("≤ {target:.2}"), mark(ratio <= target)]
}

/// Whether a target is reached.
pub(crate) fn mark(good: bool) -> String {
    if good { "ok".to_owned() } else { "over".to_owned() }
}

/// The rows under their heads; nothing if there are no rows.
pub(crate) fn headed(heads: &str, rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    if rows.is_empty() {
        return rows;
    }
    let mut table = vec![heads.split('|').map(str::to_owned).collect()];
    table.extend(rows);
    table
}

/// A table under its title; nothing if it has no rows.
pub(crate) fn section(out: &mut String, title: &str, table: Vec<Vec<String>>) {
    if table.is_empty() {
        return;
    }
    out.push_str(&format!("\n{title}\n"));
    let columns = table.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &table {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let cell =
                if column == 0 { format!(" {cell:<width$}") } else { format!("  {cell:>width$}") };
            line.push_str(&cell);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The median, and the lowest and highest when there was more than one round.
pub(crate) fn spread<S>(samples: &[S], of: impl Fn(&S) -> f64) -> String {
    let values = sorted(samples, &of);
    let middle = median(samples, of);
    match values.as_slice() {
        [low, .., high] => format!("{middle:.1} ({low:.1}–{high:.1})"),
        _ => format!("{middle:.1}"),
    }
}

/// The median.
pub(crate) fn median<S>(samples: &[S], of: impl Fn(&S) -> f64) -> f64 {
    let values = sorted(samples, of);
    let middle = values.len() / 2;
    match (values.get(middle), values.get(middle.saturating_sub(1))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => (upper + lower) / 2.0,
        (Some(middle), _) => *middle,
        _ => f64::NAN,
    }
}

/// The median of what turns that followed each other make of it, one by one. Whatever else the machine did for a
/// while, it did to neighbours: so this says more than two medians do, each of its own moment.
fn paired<S>(
    one: &[S],
    others: &[&Vec<S>],
    of: impl Fn(&S) -> f64,
    compare: impl Fn(f64, f64) -> f64,
) -> f64 {
    let turns = one.iter().enumerate().filter_map(|(turn, sample)| {
        let beside: Option<f64> = others.iter().map(|other| other.get(turn).map(&of)).sum();
        Some(compare(of(sample), beside?))
    });
    median(&turns.collect::<Vec<_>>(), |value| *value)
}

/// How many times the others' sum it is.
pub(crate) fn times<S>(one: &[S], others: &[&Vec<S>], of: impl Fn(&S) -> f64) -> f64 {
    paired(one, others, of, |one, others| one / others)
}

/// How much more than the others' sum it is.
pub(crate) fn more<S>(one: &[S], others: &[&Vec<S>], of: impl Fn(&S) -> f64) -> f64 {
    paired(one, others, of, |one, others| one - others)
}

fn sorted<S>(samples: &[S], of: impl Fn(&S) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}
