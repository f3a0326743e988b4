//! What a scenario found out, as an aligned table for people or as JSON.

use serde_json::{Map, Value, json};

/// One fact in a row.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Text(String),
    /// A number and how many digits after the point a person wants to see.
    Number(f64, usize),
    /// Not measured, or the peer does not say.
    Absent,
}

impl Cell {
    /// A whole number.
    pub(crate) fn whole(number: f64) -> Self {
        Self::Number(number, 0)
    }

    /// `number` if there is one.
    pub(crate) fn maybe(number: Option<f64>, digits: usize) -> Self {
        number.map_or(Self::Absent, |number| Self::Number(number, digits))
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number, 0) => grouped(*number),
            Self::Number(number, digits) => format!("{number:.digits$}"),
            Self::Absent => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number, _) => json!(number),
            Self::Absent => Value::Null,
        }
    }
}

/// One scenario's table with its title and what to make of it.
pub(crate) struct Report {
    /// The scenario, as `--only` names it.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// Column heads; with spaces as `_` they are the keys of the JSON form.
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Peers left out and why, and aims and whether they are met.
    pub(crate) notes: Vec<String>,
    /// What went wrong: each makes the program fail once all scenarios ran.
    pub(crate) errors: Vec<String>,
}

impl Report {
    /// An empty table.
    pub(crate) fn new(name: &'static str, title: impl Into<String>, columns: &'static [&'static str]) -> Self {
        Self { name, title: title.into(), columns, rows: Vec::new(), notes: Vec::new(), errors: Vec::new() }
    }

    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        let heads = self.columns.iter().map(|head| (*head).to_owned()).collect();
        let mut lines: Vec<Vec<String>> = vec![heads];
        lines.extend(self.rows.iter().map(|row| row.iter().map(Cell::text).collect()));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = format!("\n{}: {}\n", self.name, self.title);
        for line in &lines {
            text.push_str("  ");
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 {
                    text.push_str(&format!("{cell:<width$}"));
                } else {
                    text.push_str(&format!("  {cell:>width$}"));
                }
            }
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("  {note}\n"));
        }
        for error in &self.errors {
            text.push_str(&format!("  error: {error}\n"));
        }
        text
    }

    /// The same as one JSON object.
    pub(crate) fn json(&self) -> Value {
        let row = |cells: &Vec<Cell>| {
            let keyed = self.columns.iter().zip(cells);
            keyed.map(|(head, cell)| (head.replace(' ', "_"), cell.json())).collect::<Map<_, _>>()
        };
        json!({
            "scenario": self.name,
            "title": self.title,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "notes": self.notes,
            "errors": self.errors,
        })
    }
}

/// `met` or `missed`, for the line that says what the aim was.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// `1234567.8` as `1 234 568`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
