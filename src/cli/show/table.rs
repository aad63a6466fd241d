//! Tables of aligned columns, as text.
#![forbid(unsafe_code)]

/// The side of a column at which its cells are aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the left, for text.
    Left,
    /// At the right, for numbers.
    Right,
}

/// Lines of cells under headings.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table without rows. If all headings are empty, no heading line is printed.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Cells that it lacks are printed empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints the table, with `gap` blanks between columns. When it is wider than `width`, the column `elastic` is cut,
    /// down to six characters.
    pub fn render(mut self, width: usize, gap: usize, elastic: usize) -> String {
        let headed = self.columns.iter().any(|(heading, _)| !heading.is_empty());
        if headed {
            self.rows.insert(0, self.columns.iter().map(|(heading, _)| (*heading).to_string()).collect());
        }
        let cell = |row: &[String], i: usize| row.get(i).cloned().unwrap_or_default();
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|i| self.rows.iter().map(|row| cell(row, i).chars().count()).max().unwrap_or(0))
            .collect();
        let total = widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1);
        if let Some(w) = widths.get_mut(elastic) {
            *w = (*w).min(w.saturating_sub(total.saturating_sub(width)).max(6));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (&w, (_, align))) in widths.iter().zip(&self.columns).enumerate() {
                let cell = cut(&cell(row, i), w);
                let blanks = " ".repeat(w - cell.chars().count());
                line.push_str(&" ".repeat(if i > 0 { gap } else { 0 }));
                match align {
                    Align::Left => line.extend([cell, blanks]),
                    Align::Right => line.extend([blanks, cell]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints the table without its headings; text that is too wide for the last column is continued on the next line.
    pub fn wrapped(mut self, width: usize, gap: usize) -> String {
        let last = self.columns.len().saturating_sub(1);
        let widest = |i: usize| self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
        let room = width.saturating_sub((0..last).map(|i| widest(i).unwrap_or(0) + gap).sum()).max(20);
        for row in std::mem::take(&mut self.rows) {
            let mut cells = row;
            let text = if cells.len() > last { cells.remove(last) } else { String::new() };
            for line in lines(&text, room) {
                self.row(std::mem::replace(&mut cells, vec![String::new(); last]).into_iter().chain([line]));
            }
        }
        self.render(width, gap, last)
    }
}

/// Breaks a text into lines of at most `room` characters; returns at least one line.
fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['+']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_only_the_elastic_one_is_cut() {
        let mut table = Table::new(&[("PID", Align::Right), ("PROGRAM", Align::Left), ("USED", Align::Right)]);
        table.row(["7".into(), "nginx".into(), "12".into()]);
        table.row(["1234567".into(), "a-program-with-a-long-name".into(), "512".into()]);
        let text = table.render(24, 1, 1);
        assert_eq!(text, "    PID PROGRAM     USED\n      7 nginx         12\n1234567 a-program-+  512\n");
        assert!(text.lines().all(|line| line.len() <= 24));
    }

    #[test]
    fn the_last_column_goes_on_below() {
        let mut table = Table::new(&[("", Align::Left), ("", Align::Right), ("", Align::Left)]);
        table.row(["used".into(), "7".into(), "one two three four five six".into()]);
        table.row(["available".into(), "12".into(), String::new()]);
        let text = table.wrapped(36, 2);
        assert_eq!(text, "used        7  one two three four\n               five six\navailable  12\n");
        assert!(text.lines().all(|line| line.len() <= 36));
    }
}
