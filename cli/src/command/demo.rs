//! `rankbit demo`: every method on embedded real weights, side by side.

mod measure;
mod page;
mod weights;

use std::path::PathBuf;

use super::Global;
use crate::container::writer::AtomicFile;
use crate::error::Error;
use crate::output::print;
use crate::report::{limit, terminal};
use measure::{Bench, Row};

/// Flags of `demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the page goes.
    #[arg(long, value_name = "FILE.html", default_value = "rankbit-demo.html")]
    report: PathBuf,
    /// Leave the GPU alone.
    #[arg(long)]
    no_gpu: bool,
}

/// Tokens of the larger of the two timed products.
const TOKENS: usize = 32;

/// Runs it.
pub(crate) fn run(args: &Args, global: Global) -> Result<(), Error> {
    let weights = weights::embedded()?;
    let bench = Bench::new(&weights, TOKENS, !args.no_gpu);
    let rows = bench.rows(global)?;
    let curves = bench.curves(global)?;
    let page = page::page(&bench, &rows, &curves)?;
    let mut file = AtomicFile::create(&args.report)?;
    file.write(page.as_bytes())?;
    file.commit()?;
    if global.quiet {
        return Ok(());
    }
    print(&text(&bench, &rows))?;
    print(&format!("\nthe same as a page, with charts: {}\n", args.report.display()))
}

/// The table on the terminal.
fn text(bench: &Bench<'_>, rows: &[Row]) -> String {
    let mut table = terminal::table(&headings(bench), 2);
    for row in rows {
        table.add_row(cells(bench, row));
    }
    let matrices =
        bench.weights.iter().map(|w| terminal::shape(&[w.rows, w.cols])).collect::<Vec<_>>().join(", ");
    format!(
        "three matrices of a sentence encoder ({matrices}); groups of 64, rank {}\n\n{table}\n{}\n",
        crate::method::RANK,
        bench.note()
    )
}

/// Column headings, the GPU's only when there is one.
fn headings(bench: &Bench<'_>) -> Vec<&'static str> {
    let mut headings = vec![
        "method",
        "format",
        "bits/weight",
        "error",
        limit::HEADING,
        "fit s",
        "CPU ms, 1 token",
        "CPU ms, 32",
    ];
    if bench.has_gpu() {
        headings.extend(["GPU ms, 1 token", "GPU ms, 32"]);
    }
    headings
}

/// One row's cells.
fn cells(bench: &Bench<'_>, row: &Row) -> Vec<String> {
    let milliseconds = |seconds: Option<f64>| terminal::optional(seconds.map(|s| s * 1e3), 3);
    let mut cells = vec![
        row.method.to_owned(),
        row.format.to_owned(),
        format!("{:.3}", row.bits),
        format!("{:.4}", row.error),
        limit::ratio(row.bits, row.error),
        terminal::optional(row.seconds, 2),
        milliseconds(Some(row.cpu[0])),
        milliseconds(Some(row.cpu[1])),
    ];
    if bench.has_gpu() {
        cells.extend(row.gpu.map(milliseconds));
    }
    cells
}
