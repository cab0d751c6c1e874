//! A table for a terminal: columns as wide as their widest cell, two spaces between them.

use super::output::{Paint, Role};

/// Rows of cells under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<(String, Option<Role>)>>,
}

impl Table {
    /// An empty table with the columns' titles.
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self { heading: titles.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row of plain cells. Missing cells are empty, and those beyond the last title have
    /// a column without one.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| ((*cell).to_owned(), None)).collect());
    }

    /// Adds a row of cells, each with its role.
    pub fn coloured_row(&mut self, cells: Vec<(String, Option<Role>)>) {
        self.rows.push(cells);
    }

    /// The lines of the table, without spaces at their ends. Cells hold no line breaks and one
    /// column a character, which is true of what stands in a configuration.
    pub fn render(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).chain([self.heading.len()]).max();
        let widths: Vec<usize> = (0..columns.unwrap_or_default())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let cells = cells.map(|(cell, _)| width(cell));
                cells.chain(self.heading.get(column).map(|title| width(title))).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let heading = self.heading.iter().map(|title| (title.as_str(), Some(Role::Faint)));
        line(&mut text, heading, &widths, paint);
        for row in &self.rows {
            line(&mut text, row.iter().map(|(cell, role)| (cell.as_str(), *role)), &widths, paint);
        }
        text
    }
}

fn line<'a>(
    text: &mut String,
    cells: impl Iterator<Item = (&'a str, Option<Role>)>,
    widths: &[usize],
    paint: Paint,
) {
    let mut gap = 0;
    for ((cell, role), column) in cells.zip(widths) {
        if !cell.is_empty() {
            text.extend(std::iter::repeat_n(' ', gap));
            gap = 0;
            match role {
                Some(role) => paint.push(text, role, cell),
                None => text.push_str(cell),
            }
        }
        gap += column - width(cell) + 2;
    }
    text.push('\n');
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["#", "MATCH", "UPSTREAM", "TIMEOUT"]);
        table.row(["1", "orders.*", "rabbit", "5s"]);
        table.row(["2", "é.*", "", "250ms"]);
        table.row(["12", "*"]);
        let expected = "\
#   MATCH     UPSTREAM  TIMEOUT
1   orders.*  rabbit    5s
2   é.*                 250ms
12  *
";
        assert_eq!(table.render(Paint::PLAIN), expected);
    }

    #[test]
    fn colour_takes_no_room() {
        let mut table = Table::new(["A", "B"]);
        table.coloured_row(vec![("x".to_owned(), Some(Role::Strong)), ("y".to_owned(), None)]);
        let expected = "\x1b[2mA\x1b[0m  \x1b[2mB\x1b[0m\n\x1b[1mx\x1b[0m  y\n";
        assert_eq!(table.render(Paint::COLOUR), expected);
    }
}
