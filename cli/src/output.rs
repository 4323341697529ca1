//! Standard output. A reader that went away (`rankbit inspect … | head`) ends the output, not the program.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::Error;

/// Prints `text`.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Machine { what: "writing to standard output".to_owned(), reason: error.to_string() })
        }
        _ => Ok(()),
    }
}

/// Prints `value` as indented JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    print(&json(value)?)
}

/// `value` as indented JSON with a final line break.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Machine { what: "writing JSON".to_owned(), reason: error.to_string() })?;
    text.push('\n');
    Ok(text)
}
