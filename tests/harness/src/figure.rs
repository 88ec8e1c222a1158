//! One measured figure and the bound it has to keep.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// A measured value with its bound.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// The value, in `unit`.
    pub value: f64,
    /// Unit of value and bound.
    pub unit: &'static str,
    /// The value must not exceed this; `None`: shown for information.
    pub at_most: Option<f64>,
    /// It counts something, so a busy machine is no excuse.
    pub count: bool,
}

/// How far a count may exceed its bound before a run that is not strict fails.
const TOLERANCE: f64 = 1.5;

impl Figure {
    /// A measured time, ratio or size that must stay at or below `at_most`.
    pub fn bounded(what: impl Into<String>, value: f64, unit: &'static str, at_most: f64) -> Self {
        Self { what: what.into(), value, unit, at_most: Some(at_most), count: false }
    }

    /// A count that must stay at or below `at_most`.
    pub fn counted(what: impl Into<String>, value: f64, unit: &'static str, at_most: f64) -> Self {
        Self { count: true, ..Self::bounded(what, value, unit, at_most) }
    }

    /// A figure for information.
    pub fn shown(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, at_most: None, count: false }
    }

    /// Whether the bound is kept.
    pub fn holds(&self) -> bool {
        self.at_most.is_none_or(|bound| self.value <= bound)
    }

    /// Whether the figure fails a run: any missed bound if `strict`, else a count that exceeds its bound by half.
    pub fn fails(&self, strict: bool) -> bool {
        if strict {
            !self.holds()
        } else {
            self.count && self.at_most.is_some_and(|b| self.value > b * TOLERANCE)
        }
    }

    /// All figures as a Markdown table.
    pub fn table(figures: &[Self]) -> String {
        let mut text = String::from("| figure | measured | must be | |\n|---|---|---|---|\n");
        for figure in figures {
            let bound = figure.at_most.map_or_else(String::new, |b| format!("≤ {b} {}", figure.unit));
            let verdict = match figure.at_most {
                None => "",
                Some(_) if figure.holds() => "ok",
                Some(_) => "MISSED",
            };
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "| {} | {:.3} {} | {bound} | {verdict} |",
                figure.what, figure.value, figure.unit
            );
        }
        text
    }
}

/// Prints the figures as a table and fails if one of them does.
///
/// # Errors
/// If a figure [fails](Figure::fails).
#[allow(clippy::print_stdout, reason = "it is what a benchmark is run for")]
pub fn conclude(figures: &[Figure], strict: bool) -> Result<()> {
    if !figures.is_empty() {
        println!("\n{}", Figure::table(figures));
    }
    let failed = figures.iter().filter(|figure| figure.fails(strict)).count();
    ensure!(failed == 0, "{failed} of {} figures miss their bound", figures.len());
    Ok(())
}

/// Writes what was measured as JSON, if there is a file to write it to.
///
/// # Errors
/// If it can't be written.
pub fn write_json(path: Option<&Path>, measured: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, serde_json::to_string_pretty(measured)?)
        .with_context(|| format!("writing {}", path.display()))
}

/// The median of `values`; 0 for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
