//! What a section measured, and the one table that all of them end up in.

use serde::{Deserialize, Serialize};

/// Which figure is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times.
    Lower,
}

/// One side of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cell {
    /// One sample a repetition; never empty (see [`Cell::samples`]).
    Samples(Vec<f64>),
    /// There is nothing to measure, and this is why.
    Absent(String),
    /// Nothing to compare with.
    None,
}

impl Cell {
    /// A measured cell; absent with a reason when no repetition succeeded.
    pub fn samples(mut samples: Vec<f64>) -> Self {
        samples.retain(|s| s.is_finite());
        if samples.is_empty() {
            return Self::Absent("no repetition succeeded".to_owned());
        }
        samples.sort_by(f64::total_cmp);
        Self::Samples(samples)
    }

    fn median(&self) -> Option<f64> {
        match self {
            Self::Samples(s) => Some(median(s)),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Samples(s) if s.len() > 1 => {
                format!("{} ({}–{})", number(median(s)), number(s[0]), number(s[s.len() - 1]))
            }
            Self::Samples(s) => number(median(s)),
            Self::Absent(why) => why.clone(),
            Self::None => String::new(),
        }
    }
}

/// The median of sorted samples.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// One measured thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// Ours.
    pub ours: Cell,
    /// The peer's.
    pub peer: Cell,
}

impl Row {
    /// A row without a peer.
    pub fn alone(what: impl Into<String>, unit: &str, better: Better, ours: Cell) -> Self {
        Self { what: what.into(), unit: unit.to_owned(), better, ours, peer: Cell::None }
    }

    /// How many times better ours is.
    fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.ours.median()?, self.peer.median()?);
        let ratio = match self.better {
            Better::Higher => ours / peer,
            Better::Lower => peer / ours,
        };
        ratio.is_finite().then_some(ratio)
    }

    fn cells(&self) -> [String; 5] {
        let ratio = self.ratio().map(|r| format!("{} ×", number(r))).unwrap_or_default();
        [self.what.clone(), self.unit.clone(), self.ours.text(), self.peer.text(), ratio]
    }
}

/// A row to be made of each result `R`: what, unit, which way is better, and how to get the figure.
pub type Figure<'a, R, F> = (&'a str, &'static str, Better, fn(&R) -> F);

/// What one section measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// The peer's name and version, empty where there is none.
    pub peer: String,
    /// The figures.
    pub rows: Vec<Row>,
    /// How it was measured and what disturbs the figures.
    pub notes: Vec<String>,
}

impl Section {
    /// An empty section.
    pub fn new(title: &str, peer: impl Into<String>) -> Self {
        Self { title: title.to_owned(), peer: peer.into(), rows: Vec::new(), notes: Vec::new() }
    }

    /// A section that could not be measured at all.
    pub fn absent(title: &str, why: impl Into<String>) -> Self {
        let mut section = Self::new(title, "");
        section.rows.push(Row::alone("everything", "", Better::Higher, Cell::Absent(why.into())));
        section
    }
}

const HEAD: [&str; 5] = ["measured", "unit", "dmux", "peer", "better by"];

/// The table for a terminal.
pub fn terminal(sections: &[Section]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(HEAD);
    for section in sections {
        let peer = if section.peer.is_empty() { String::new() } else { format!("vs {}", section.peer) };
        table.add_row([section.title.to_uppercase(), String::new(), String::new(), peer, String::new()]);
        for row in &section.rows {
            table.add_row(row.cells());
        }
    }
    for column in [2, 3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    table.to_string()
}

/// The table and the notes for `docs/benchmarks.md`.
pub fn markdown(sections: &[Section]) -> String {
    let mut out = format!("| {} |\n| --- | --- | ---: | ---: | ---: |\n", HEAD.join(" | "));
    for section in sections {
        let peer = if section.peer.is_empty() { String::new() } else { format!("*{}*", escape(&section.peer)) };
        out += &format!("| **{}** | | | {peer} | |\n", escape(&section.title));
        for row in &section.rows {
            out += &format!("| {} |\n", row.cells().map(|c| escape(&c)).join(" | "));
        }
    }
    for section in sections.iter().filter(|s| !s.notes.is_empty()) {
        out += &format!("\n### {}\n\n", section.title);
        for note in &section.notes {
            out += &format!("- {note}\n");
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Three significant digits, thousands grouped: no figure here is known more exactly than that.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let unit = 10f64.powi(digits);
    let rounded = (value * unit).round() / unit;
    if digits > 0 {
        let text = format!("{rounded:.*}", usize::try_from(digits).unwrap_or(0));
        return if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    }
    let plain = format!("{rounded:.0}");
    let (sign, plain) = plain.strip_prefix('-').map_or(("", plain.as_str()), |rest| ("-", rest));
    let groups: Vec<&str> = plain.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    format!("{sign}{}", groups.join(" "))
}

/// The `p`-th percentile (0..=100) by nearest rank; `None` without samples.
pub fn percentile(samples: &mut [f64], p: f64) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let rank = (p / 100.0 * samples.len() as f64).ceil() as usize;
    samples.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.012_345, "0.0123"),
            (3.0, "3"),
            (3.456, "3.46"),
            (34.56, "34.6"),
            (345.6, "346"),
            (999.9, "1 000"),
            (123_456.0, "123 000"),
            (-12_345.0, "-12 300"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
        assert_eq!(number(f64::NAN), "?");
    }

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        let row = |better| Row {
            what: "w".into(),
            unit: "u".into(),
            better,
            ours: Cell::samples(vec![30.0, 10.0, 20.0]),
            peer: Cell::samples(vec![5.0]),
        };
        assert_eq!(row(Better::Higher).ratio(), Some(4.0));
        assert_eq!(row(Better::Lower).ratio(), Some(0.25));
        let mut alone = row(Better::Higher);
        alone.peer = Cell::Absent("not on PATH".into());
        assert_eq!(alone.ratio(), None);
        assert_eq!(alone.cells()[3], "not on PATH");
        assert_eq!(alone.cells()[2], "20 (10–30)");
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut hundred, 50.0), Some(50.0));
        assert_eq!(percentile(&mut hundred, 99.0), Some(99.0));
        assert_eq!(percentile(&mut hundred, 100.0), Some(100.0));
        assert_eq!(percentile(&mut [7.0], 0.0), Some(7.0));
        assert_eq!(percentile(&mut [], 50.0), None);
    }

    #[test]
    fn markdown_cells_cannot_break_the_table() {
        let mut section = Section::new("a|b", "");
        section.rows.push(Row::alone("x\ny|z", "u", Better::Higher, Cell::samples(vec![1.0])));
        let text = markdown(&[section]);
        assert!(text.contains("| **a\\|b** | | |  | |"), "{text}");
        assert!(text.contains("| x y\\|z | u | 1 |  |  |"), "{text}");
    }
}
