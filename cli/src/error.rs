//! What ends a run early, and the exit code that tells why.

use std::borrow::Cow;
use std::io;
use std::path::Path;

/// `text` on one line and harmless to a terminal: names of tensors come from files, and a line break or an escape
/// sequence in one must not pass for a message of this program.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// Why a command stopped. The first line of its `Display` is the one clear line on stderr.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What was asked for follows from activations, and none are given.
    #[error("{0}")]
    Uncalibrated(String),
    /// A file holds something that cannot be taken: the file is named, and the tensor or offset in the reason.
    #[error("{path}: {reason}")]
    Input {
        /// The file.
        path: String,
        /// What is wrong, where.
        reason: String,
    },
    /// The machine failed: disk, permission, memory.
    #[error("{what}: {reason}")]
    Machine {
        /// What was being done.
        what: String,
        /// The system's words.
        reason: String,
    },
}

impl Error {
    /// 2 wrong usage, 3 bad input, 4 the machine failed.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Uncalibrated(_) | Self::Input { .. } => 3,
            Self::Machine { .. } => 4,
        }
    }

    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Calibration is missing.
    pub(crate) fn uncalibrated(message: impl Into<String>) -> Self {
        Self::Uncalibrated(message.into())
    }

    /// Bad input in `path`.
    pub(crate) fn input(path: &Path, reason: impl Into<String>) -> Self {
        let (path, reason) = (path.display().to_string(), reason.into());
        Self::Input { path: printable(&path).into_owned(), reason: printable(&reason).into_owned() }
    }

    /// Bad input in one tensor of `path`.
    pub(crate) fn tensor(path: &Path, tensor: &str, reason: impl std::fmt::Display) -> Self {
        Self::input(path, format!("tensor '{tensor}': {reason}"))
    }

    /// Reading `path` failed: a file that is not there or ends early is bad input, all else is the machine.
    pub(crate) fn read(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => Self::input(path, "no such file"),
            Kind::UnexpectedEof => Self::input(path, "the file ends before its data"),
            Kind::IsADirectory | Kind::NotADirectory => Self::input(path, "not a file"),
            _ => Self::Machine { what: format!("reading {}", path.display()), reason: error.to_string() },
        }
    }

    /// Writing `path` failed.
    pub(crate) fn write(path: &Path, error: &io::Error) -> Self {
        Self::Machine { what: format!("writing {}", path.display()), reason: error.to_string() }
    }

    /// No memory for `what`.
    pub(crate) fn memory(what: impl std::fmt::Display, bytes: u64) -> Self {
        Self::Machine { what: what.to_string(), reason: format!("no memory for {bytes} bytes") }
    }
}
