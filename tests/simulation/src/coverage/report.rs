//! All tables, for people and for programs.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::possible::{not_on_image, not_on_set, not_with_leader};
use super::table::Table;
use super::{Coverage, ImageState, LeaderState, NodeState, SetState};
use crate::faults::Fault;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Text,
    /// Markdown tables.
    Markdown,
    /// One JSON object.
    Json,
}

/// One table with its words.
struct Section {
    name: &'static str,
    about: &'static str,
    states: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    fault: Fault,
    /// Counts, and why there can be none.
    cells: Vec<(u64, Option<&'static str>)>,
}

impl Coverage {
    fn sections(&self) -> [Section; 4] {
        [
            section(
                ("node", "the grant of the node that was struck; of every node, if none was"),
                &self.nodes,
                NodeState::ALL.map(|state| (state.text(), state)),
                |_, _| None,
            ),
            section(
                ("leader", "the replica that was struck; the leadership, if none was"),
                &self.leaders,
                LeaderState::ALL.map(|state| (state.text(), state)),
                not_with_leader,
            ),
            section(
                ("image", "status of the CachedImage that was edited or deleted"),
                &self.images,
                ImageState::ALL.map(|state| (state.text(), state)),
                not_on_image,
            ),
            section(
                ("set", "status of the CachedImageSet that was edited or deleted"),
                &self.sets,
                SetState::ALL.map(|state| (state.text(), state)),
                not_on_set,
            ),
        ]
    }

    /// Possible combinations that never occurred, as `fault × state`.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.combinations(|count, impossible| count == 0 && impossible.is_none())
    }

    /// Combinations that occurred and are said to be impossible.
    #[must_use]
    pub fn surprising(&self) -> Vec<String> {
        self.combinations(|count, impossible| count > 0 && impossible.is_some())
    }

    fn combinations(&self, which: impl Fn(u64, Option<&str>) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for section in self.sections() {
            for row in &section.rows {
                for (state, (count, impossible)) in section.states.iter().zip(&row.cells) {
                    if which(*count, *impossible) {
                        found.push(format!("{} × {}: {state}", row.fault.text(), section.name));
                    }
                }
            }
        }
        found
    }

    /// Everything in this format.
    #[must_use]
    pub fn report(&self, format: Format) -> String {
        match format {
            Format::Text => self.tables(false),
            Format::Markdown => self.tables(true),
            Format::Json => format!("{:#}\n", self.json()),
        }
    }

    fn tables(&self, markdown: bool) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} seeds, {} steps, {} faults", self.seeds, self.steps, self.faults);
        for section in self.sections() {
            section.write(&mut text, markdown);
        }
        let missing = self.missing();
        if missing.is_empty() {
            text.push_str("\nEvery possible combination occurred. A dash marks one that can't be.\n");
        } else {
            let _ = writeln!(text, "\nPossible, and never occurred ({}):", missing.len());
            for combination in missing {
                let _ = writeln!(text, "{} {combination}", if markdown { "-" } else { " " });
            }
        }
        text
    }

    fn json(&self) -> Value {
        let mut impossible = Map::new();
        let mut tables = Map::new();
        for section in self.sections() {
            let mut table = Map::new();
            for row in &section.rows {
                let mut counts = Map::new();
                for (state, (count, why)) in section.states.iter().zip(&row.cells) {
                    counts.insert((*state).to_owned(), json!(count));
                    if let Some(why) = why {
                        let name = format!("{} × {}: {state}", row.fault.text(), section.name);
                        impossible.insert(name, json!(why));
                    }
                }
                table.insert(row.fault.text().to_owned(), Value::Object(counts));
            }
            tables.insert(section.name.to_owned(), Value::Object(table));
        }
        json!({
            "seeds": self.seeds,
            "steps": self.steps,
            "faults": self.faults,
            "tables": tables,
            "missing": self.missing(),
            "impossible": impossible,
        })
    }
}

fn section<S: Copy, const N: usize>(
    (name, about): (&'static str, &'static str),
    table: &Table<N>,
    states: [(&'static str, S); N],
    impossible: impl Fn(Fault, S) -> Option<&'static str>,
) -> Section {
    let rows = Fault::ALL.into_iter().map(|fault| {
        let cells = states.iter().enumerate();
        let cells = cells.map(|(n, (_, state))| (table.of(fault, n), impossible(fault, *state))).collect();
        Row { fault, cells }
    });
    // What has nothing to do with these states at all is left out.
    let rows = rows.filter(|row| row.cells.iter().any(|(count, why)| *count > 0 || why.is_none())).collect();
    Section { name, about, states: states.iter().map(|(text, _)| *text).collect(), rows }
}

impl Section {
    fn write(&self, text: &mut String, markdown: bool) {
        let _ = if markdown {
            writeln!(text, "\n### {}\n\nBy {}.\n", self.name, self.about)
        } else {
            writeln!(text, "\nFaults by {}\n", self.about)
        };
        let (open, between, close) = if markdown { ("| ", " | ", " |") } else { ("  ", "  ", "") };
        let line = |text: &mut String, first: &str, cells: &[String]| {
            let _ = write!(text, "{open}{first:24}");
            for (cell, state) in cells.iter().zip(&self.states) {
                let _ = write!(text, "{between}{cell:>width$}", width = state.len().max(8));
            }
            let _ = writeln!(text, "{close}");
        };
        let heads: Vec<String> = self.states.iter().map(|state| (*state).to_owned()).collect();
        line(text, "fault", &heads);
        if markdown {
            let rule = vec!["---:".to_owned(); self.states.len()];
            line(text, "---", &rule);
        }
        for row in &self.rows {
            let cell = |(count, why): &(u64, Option<&str>)| match (count, why) {
                (0, Some(_)) => "-".to_owned(),
                (0, None) => "never".to_owned(),
                (count, _) => count.to_string(),
            };
            let cells: Vec<String> = row.cells.iter().map(cell).collect();
            line(text, row.fault.text(), &cells);
        }
    }
}
