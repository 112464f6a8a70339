//! What is printed and what is written: the same Markdown.

use std::path::Path;

use super::Outcome;

/// One bench's result.
pub struct Section {
    pub title: &'static str,
    /// How to read the table.
    pub reading: String,
    pub table: Table,
    /// A file beside the document, and what it shows.
    pub plot: Option<(&'static str, &'static str, String)>,
}

/// Cells as they are shown; the first column holds words, the others numbers.
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        Self { columns: columns.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn markdown(&self) -> String {
        let lines = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let shown = |line: &Vec<String>| {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 {
                    format!(" {cell:<width$} |")
                } else {
                    format!(" {cell:>width$} |")
                }
            });
            format!("|{}\n", cells.collect::<String>())
        };
        let rule = widths.iter().enumerate().map(|(column, width)| {
            let dashes = "-".repeat(*width);
            if column == 0 { format!(" {dashes} |") } else { format!(" {dashes}:|") }
        });
        let rule = format!("|{}\n", rule.collect::<String>());
        let rows: String = self.rows.iter().map(shown).collect();
        shown(&self.columns) + &rule + &rows
    }
}

/// `docs/performance.md`, printed while it grows.
pub struct Document {
    text: String,
    plots: Vec<(&'static str, String)>,
}

impl Document {
    pub fn new(machine: &str) -> Self {
        let mut document = Self { text: String::new(), plots: Vec::new() };
        document.push(&format!(
            "# Performance\n\n`./benches/run` measured this and wrote this page. Clients and \
             server shared one machine: {machine}. Ratios to what was measured in the same run \
             carry over to other machines; the figures themselves do not.\n"
        ));
        document
    }

    pub fn add(&mut self, section: Section) {
        let Section { title, reading, table, plot } = section;
        self.push(&format!("\n## {title}\n\n{reading}\n\n{}", table.markdown()));
        if let Some((file, alternative, drawing)) = plot {
            self.push(&format!("\n![{alternative}]({file})\n"));
            self.plots.push((file, drawing));
        }
    }

    pub fn note(&mut self, text: &str) {
        self.push(&format!("\n{text}\n"));
    }

    pub fn write(&self, folder: &Path) -> Outcome<()> {
        std::fs::write(folder.join("performance.md"), &self.text)?;
        for (file, drawing) in &self.plots {
            std::fs::write(folder.join(file), drawing)?;
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        print!("{text}");
        self.text += text;
    }
}

/// With thousands apart.
pub fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

pub fn ratio(part: f64, floor: f64) -> String {
    if floor > 0.0 { format!("{:.2}", part / floor) } else { "-".to_owned() }
}

pub fn megabytes(bytes: u64) -> String {
    count(bytes as f64 / 1e6)
}
