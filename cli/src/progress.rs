//! Progress on stderr: the tensor's name, the rate and the time left. Silent when stderr is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::printable;

/// A bar over the bytes of a run.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that ends at `bytes`; hidden when `quiet` or when stderr is no terminal.
    pub(crate) fn new(bytes: u64, quiet: bool) -> Self {
        // indicatif itself draws nothing when stderr is no terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let template = "{bar:24.cyan/dim} {percent:>3}% {binary_bytes_per_sec:>12} {eta:>5} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━╌"));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Work on `name` begins.
    pub(crate) fn start(&self, name: &str) {
        self.bar.set_message(printable(name).into_owned());
    }

    /// `bytes` more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
