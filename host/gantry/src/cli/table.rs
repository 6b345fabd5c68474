//! Tables for people: columns as wide as their widest cell, two spaces between them, no lines.

use std::fmt;

use super::ui::printable;

/// A table.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row. An empty cell shows as a dash, so that columns can be cut by programs too.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        // A line feed in a cell would look like another row.
        let cells = cells.into_iter().map(|cell| match cell.as_str() {
            "" => "-".to_owned(),
            text => printable(text).replace(['\n', '\t'], "\u{fffd}"),
        });
        self.rows.push(cells.collect());
    }

    /// Whether there is nothing below the headings.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "UNITS", "IMAGE"]);
        table.row(["web".into(), "3".into(), "acme/web:2".into()]);
        table.row(["a-long-name".into(), "0".into(), String::new()]);
        insta::assert_snapshot!(table, @r"
        NAME         UNITS  IMAGE
        web          3      acme/web:2
        a-long-name  0      -
        ");
    }
}
