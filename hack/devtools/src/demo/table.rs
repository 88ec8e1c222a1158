//! Shows where each image stands on each node while it changes: a table that is drawn anew on a terminal, a line for
//! each change otherwise.

use super::objects::Wanted;
use super::pairs::{self, Pairs, Standing};
use super::{Error, diagnosis};
use crate::progress::elapsed;
use crate::progress::say;
use crate::state::ClusterInfo;
use std::io::{self, IsTerminal as _, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

const BETWEEN: Duration = Duration::from_millis(300);

/// Shows changes until all is cached; fails after `patience` with what is missing.
pub fn watch(info: &ClusterInfo, wanted: &[Wanted], patience: Duration) -> Result<(), Error> {
    let started = Instant::now();
    let mut screen = Screen { terminal: io::stderr().is_terminal(), drawn: 0, shown: Pairs::new() };
    loop {
        let pairs = pairs::read(info, wanted)?;
        screen.show(info, wanted, &pairs, started.elapsed());
        let missing: Vec<String> = pairs
            .iter()
            .filter(|(_, standing)| **standing != Standing::Cached)
            .map(|((image, node), standing)| format!("{image} on {node}: {standing}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if started.elapsed() > patience {
            return Err(Error::NotCached { what: missing.join(", "), diagnosis: diagnosis::of_images(info) });
        }
        sleep(BETWEEN);
    }
}

struct Screen {
    terminal: bool,
    /// Lines on the terminal that the next table replaces.
    drawn: usize,
    shown: Pairs,
}

impl Screen {
    fn show(&mut self, info: &ClusterInfo, wanted: &[Wanted], pairs: &Pairs, time: Duration) {
        if *pairs == self.shown {
            return;
        }
        if self.terminal {
            let table = table(info, wanted, pairs);
            let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
            self.drawn = table.lines().count();
            // A terminal that cannot be written to is no reason to stop.
            let _ = write!(io::stderr(), "{up}\x1b[J{table}");
        } else {
            for line in changes(&self.shown, pairs) {
                say(format!("  {:>6}  {line}", elapsed(time)));
            }
        }
        self.shown = pairs.clone();
    }
}

/// A line for each node and standing that something changed to.
fn changes(before: &Pairs, after: &Pairs) -> Vec<String> {
    let worth_a_line = |(pair, standing): &(&(String, String), &Standing)| {
        !matches!(standing, Standing::Waiting | Standing::Queued) && before.get(pair) != Some(standing)
    };
    after
        .iter()
        .filter(worth_a_line)
        .map(|((image, node), standing)| format!("{node}  {image:<14} {standing}"))
        .collect()
}

fn table(info: &ClusterInfo, wanted: &[Wanted], pairs: &Pairs) -> String {
    let mut text = format!("  {:<16}", "");
    for node in &info.nodes {
        text += &format!("{:<12}", node.name);
    }
    text.push('\n');
    for image in wanted {
        text += &format!("  {:<16}", image.name);
        for node in &info.nodes {
            let standing = pairs.get(&(image.name.clone(), node.name.clone()));
            text += &format!("{:<12}", standing.unwrap_or(&Standing::Waiting));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_gets_a_line() {
        let pair = |image: &str| (image.to_owned(), "n1".to_owned());
        let before = Pairs::from([(pair("a"), Standing::Pulling), (pair("b"), Standing::Pulling)]);
        let after = Pairs::from([(pair("a"), Standing::Cached), (pair("b"), Standing::Pulling)]);
        let lines = changes(&before, &after);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("n1") && lines[0].contains('a') && lines[0].contains("cached"));
    }
}
