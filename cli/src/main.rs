//! The command `rankbit`: files in, files out.

mod calibration;
mod candidates;
mod command;
mod container;
mod describe;
mod error;
mod memory;
mod method;
mod output;
mod progress;
mod report;
mod select;
mod sparsity;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{ArgAction, Parser};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use command::{Command, Global};
use rankbit::linalg::faer;

/// Matrices as a few bits, a few ranks and a few non-zeros.
///
/// Exit codes: 0 fine, 2 wrong usage, 3 bad input, 4 the machine failed.
#[derive(Parser)]
#[command(name = "rankbit", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Tell more on stderr; twice for everything.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet", display_order = 100)]
    verbose: u8,
    /// Print nothing but errors.
    #[arg(short, long, global = true, display_order = 101)]
    quiet: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // What drivers and libraries log is no message to a user: shown only when everything is asked for.
    let others = if cli.verbose > 1 { LevelFilter::DEBUG } else { LevelFilter::OFF };
    let filter = Targets::new().with_target("rankbit", level).with_default(others);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time();
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    // Results must not depend on the number of threads: tensors run in parallel, the algebra inside does not.
    faer::set_global_parallelism(faer::Par::Seq);
    match cli.command.run(Global { quiet: cli.quiet }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rankbit: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
