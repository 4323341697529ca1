//! Writes `tests/precision.md`: the worst measured error of each routine, in units of its bound.
//!
//! `cargo run --release -p rankbit-linalg --example precision > tests/precision.md`

#[path = "../tests/precision/measure.rs"]
mod measure;

fn main() -> Result<(), rankbit_linalg::Error> {
    print!("{}", measure::document()?);
    Ok(())
}
