//! Cost against nodes: the picture, and whether it is a straight line.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use drop_harness::figure::Figure;
use plotters::prelude::*;

use crate::cases::Measured;

/// Number of nodes and a value.
type Line = Vec<(f64, f64)>;

/// Writes a pair, processor time a pair and planning time from 500 to 5,000 nodes.
pub(crate) fn figures(all: &[Measured]) -> Vec<Figure> {
    let at = |nodes: usize| all.iter().find(|measured| measured.counted.scenario.nodes == nodes);
    let (Some(from), Some(to)) = (at(500), at(5000)) else { return Vec::new() };
    let writes = |measured: &Measured| measured.counted.writes_a_pair().unwrap_or(f64::NAN);
    let change = (writes(to) / writes(from) - 1.0).abs() * 100.0;
    vec![
        Figure::bounded("from 500 to 5,000 nodes: writes a pair change by", change, "%", 10.0),
        Figure::bounded(
            "from 500 to 5,000 nodes: planning time, mean",
            to.timed.plan_ms.1 / from.timed.plan_ms.1,
            "×",
            12.0,
        ),
    ]
}

/// Draws three small charts, one above the other.
pub(crate) fn write(path: &Path, all: &[Measured]) -> Result<()> {
    let line = |value: &dyn Fn(&Measured) -> f64| -> Line {
        all.iter().map(|measured| (measured.counted.scenario.nodes as f64, value(measured))).collect()
    };
    let charts = [
        ("API writes a pair", line(&|m| m.counted.writes_a_pair().unwrap_or_default())),
        ("API server CPU a pair, ms", line(&|m| m.timed.cpu_a_pair_ms())),
        ("snapshot, plan and status diff, mean, ms", line(&|m| m.timed.plan_ms.1)),
    ];
    let area = SVGBackend::new(path, (720, 780)).into_drawing_area();
    draw(&area, &charts)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("writing {}", path.display()))
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    charts: &[(&str, Line)],
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    for (part, (title, line)) in area.split_evenly((charts.len(), 1)).iter().zip(charts) {
        let most = line.iter().map(|point| point.1).fold(0.0, f64::max) * 1.2;
        let last = line.last().map_or(1.0, |point| point.0) * 1.04;
        let mut chart = ChartBuilder::on(part)
            .caption(title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..last, 0.0..most)?;
        chart
            .configure_mesh()
            .x_desc("nodes")
            .x_label_formatter(&|nodes| format!("{nodes:.0}"))
            .light_line_style(TRANSPARENT)
            .draw()?;
        chart.draw_series(LineSeries::new(line.iter().copied(), BLUE.stroke_width(2)))?;
        chart.draw_series(line.iter().map(|point| Circle::new(*point, 4, BLUE.filled())))?;
    }
    area.present()?;
    Ok(())
}
