//! Measured choices, and the file that keeps them.
//!
//! ```text
//! rankbit-gpu choices 1        the format's version
//! crate 0.1.0                  the crate's: its kernels may have changed
//! adapter NAME
//! driver DRIVER                name and version
//! KEY = CHOICE                 one line a product, sorted
//! ```
//! A file of another version, crate, adapter or driver says nothing about this one and is passed over.

use super::GpuLinear;
use super::choice::{Choice, Shape};
use crate::pipeline::Inputs;
use crate::{Error, Gpu};
use rankbit_linalg::faer::Mat;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

/// Largest file that is read.
const LARGEST: u64 = 1 << 20;
/// A choice this many times slower than the best so far is not measured again.
const HOPELESS: f64 = 3.0;
/// What another choice must gain over the rule's to be taken: less is within the noise of a clock.
const GAIN: f64 = 0.98;

impl GpuLinear {
    /// What the tuner's table calls a product: all that its time depends on, tokens to the next power of two.
    fn key(&self, tokens: usize) -> String {
        let ((out, features), format) = (self.shape, self.format);
        let inputs = match self.inputs() {
            Inputs::Float => "float",
            Inputs::Int8 => "int8",
            Inputs::Int4 => "int4",
        };
        let bucket = tokens.checked_next_power_of_two().unwrap_or(usize::MAX);
        format!(
            "{format:?} {inputs} [{out}, {features}] groups {} rank {} tokens {bucket}",
            self.groups, self.rank
        )
    }

    /// What multiplies `tokens` here: what was measured or loaded, else the rule's.
    pub fn choice(&self, tokens: usize) -> Choice {
        let tuned = self.gpu.tuned().get(&self.key(tokens)).copied();
        let usable = tuned.filter(|choice| self.coded.is_none() && self.allows(choice.shape));
        usable.unwrap_or_else(|| self.default_choice(tokens))
    }

    /// Times every choice for `tokens`, in `rounds` alternating rounds, and keeps the fastest for this device's later
    /// workspaces of products like it; the rule's choice unless another is 2 % faster. Results of different choices
    /// differ in the last bits.
    ///
    /// # Errors
    /// As [`GpuLinear::workspace`]. A choice that a driver refuses is left out.
    pub fn tune(&self, tokens: usize, rounds: usize) -> Result<Choice, Error> {
        let choices = self.choices(tokens);
        let mut best = self.default_choice(tokens);
        if tokens == 0 || choices.len() < 2 {
            return Ok(best);
        }
        let x = Mat::from_fn(tokens, self.shape.1, |t, j| ((t * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
        let mut workspaces = Vec::new();
        for &choice in &choices {
            // The first run compiles.
            let workspace = self.workspace_with(tokens, choice).and_then(|workspace| {
                workspace.write(x.as_ref())?;
                workspace.run()?;
                Ok(workspace)
            });
            match workspace {
                Ok(workspace) => workspaces.push((choice, workspace, f64::INFINITY)),
                Err(Error::Rejected { .. }) if choice != best => {}
                Err(error) => return Err(error),
            }
        }
        let mut least = f64::INFINITY;
        for round in 0..rounds.max(1) {
            for (_, workspace, time) in &mut workspaces {
                if round > 0 && *time > HOPELESS * least {
                    continue;
                }
                let start = Instant::now();
                workspace.run()?;
                *time = time.min(start.elapsed().as_secs_f64());
                least = least.min(*time);
            }
        }
        // The rule's is the first.
        let mut bar = workspaces.first().map_or(f64::INFINITY, |(_, _, time)| time * GAIN);
        for (choice, _, time) in &workspaces {
            if *time < bar {
                (best, bar) = (*choice, *time);
            }
        }
        self.gpu.tuned().insert(self.key(tokens), best);
        Ok(best)
    }
}

impl Gpu {
    /// Forgets what was measured or loaded: every product is the rule's again.
    pub fn forget_choices(&self) {
        self.tuned().clear();
    }

    fn heading(&self) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let info = self.adapter();
        format!(
            "rankbit-gpu choices 1\ncrate {}\nadapter {} ({})\ndriver {}\n",
            env!("CARGO_PKG_VERSION"),
            one_line(&info.name),
            info.backend,
            one_line(&info.driver)
        )
    }

    /// Writes what was measured to a file: under another name beside it first, then renamed, so that a reader sees the
    /// old or the new one whole.
    ///
    /// # Errors
    /// [`Error::ChoicesFile`] when it cannot be written.
    pub fn save_choices(&self, path: &Path) -> Result<(), Error> {
        let mut text = self.heading();
        for (key, choice) in self.tuned().iter() {
            text += &format!("{key} = {choice}\n");
        }
        let failed = |error: std::io::Error| refused(path, 0, error.to_string());
        let name = path.file_name().ok_or_else(|| refused(path, 0, "not the name of a file".to_owned()))?;
        let mut beside = name.to_owned();
        beside.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(beside);
        let written = fs::File::create(&beside).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&beside, path)).map_err(|error| {
            // What is left of it; the first error is the one to report.
            drop(fs::remove_file(&beside));
            failed(error)
        })
    }

    /// Adds what [`Gpu::save_choices`] wrote to this device's choices, and says how many. A file that is not there, or is
    /// of another version, crate, adapter or driver, adds none.
    ///
    /// # Errors
    /// [`Error::ChoicesFile`] for one that cannot be read, is larger than 1 MiB, or has a line that is not `KEY = CHOICE`
    /// with a choice there is; then none is added.
    pub fn load_choices(&self, path: &Path) -> Result<usize, Error> {
        let failed = |error: std::io::Error| refused(path, 0, error.to_string());
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            other => other.map_err(failed)?,
        };
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > LARGEST {
            return Err(refused(path, 0, format!("more than {LARGEST} bytes")));
        }
        if !text.starts_with("rankbit-gpu choices ") {
            return Err(refused(path, 1, "not a file of choices".to_owned()));
        }
        let heading = self.heading();
        let Some(lines) = text.strip_prefix(&heading) else { return Ok(0) };
        let mut found = Vec::new();
        for (line, number) in lines.lines().zip(heading.lines().count() + 1..) {
            let (key, choice) = line
                .split_once(" = ")
                .ok_or_else(|| refused(path, number, "not 'KEY = CHOICE'".to_owned()))?;
            let choice: Choice = choice.parse().map_err(|reason| refused(path, number, reason))?;
            if !choice.shape.exists() {
                return Err(refused(path, number, format!("no kernel is '{choice}'")));
            }
            found.push((key.to_owned(), choice));
        }
        let count = found.len();
        self.tuned().extend(found);
        Ok(count)
    }
}

impl Shape {
    /// Whether there is such a kernel, on whatever device.
    fn exists(self) -> bool {
        match self {
            Self::Vector { threads, .. } => crate::pipeline::THREADS.contains(&threads),
            Self::Matrix { wide } => matches!(wide, 1 | 2),
            Self::Tile => true,
        }
    }
}

#[cold]
fn refused(path: &Path, line: usize, reason: String) -> Error {
    Error::ChoicesFile { path: path.to_owned(), line, reason }
}
