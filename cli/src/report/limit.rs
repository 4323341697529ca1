//! The Gaussian limit, which charts draw and tables compare with.
//!
//! ```text
//! ‖W − Ŵ‖/‖W‖ ≥ 2^-b        b bits per weight, entries independent and Gaussian (Shannon's D(R) = σ²·2^-2R)
//! ```
//! Weights of a network are close to it, row by row. Where they are not independent (low rank, rows or columns of
//! different size) a method can go below the line: structure is what it paid for.

use super::svg::Series;

/// The colour of the line.
pub(crate) const COLOR: u8 = 6;

/// What a legend says of it.
pub(crate) const LEGEND: &str = "2⁻ᵇ, the limit at b bits for Gaussian weights";

/// The heading of a column of [`ratio`].
pub(crate) const HEADING: &str = "× limit";

/// What the column means, for a note under a table.
pub(crate) const NOTE: &str = "× limit: error over 2^-bits, the least for Gaussian weights";

/// The least relative error at that many bits per weight.
pub(crate) fn at(bits: f64) -> f64 {
    (-bits).exp2()
}

/// How many times the limit an error is, as text; a dash for none and for exact values.
pub(crate) fn ratio(bits: f64, error: f64) -> String {
    let ratio = error / at(bits);
    if error == 0.0 || !ratio.is_finite() {
        "–".to_owned()
    } else if ratio < 100.0 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.0}")
    }
}

/// The line over the bits of these points, at least one bit long; a series without points for none.
pub(crate) fn series(points: impl Iterator<Item = (f64, f64)>) -> Series {
    let fold = |ends: Option<(f64, f64)>, (bits, _)| {
        let (low, high) = ends.unwrap_or((bits, bits));
        Some((low.min(bits), high.max(bits)))
    };
    let ends = points.filter(|(bits, error)| bits.is_finite() && error.is_finite()).fold(None, fold);
    let line = ends.map_or_else(Vec::new, |(low, high): (f64, f64)| {
        let room = ((1.0 - (high - low)) / 2.0).max(0.0);
        [low - room, high + room].into_iter().map(|bits| (bits, at(bits))).collect()
    });
    Series {
        color: COLOR, points: line, line: true, marks: false, label: "2⁻ᵇ, Gaussian limit".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_halves_with_every_bit() {
        assert_eq!((at(0.0), at(1.0), at(4.0)), (1.0, 0.5, 0.0625));
        assert!((at(4.5) - 0.0442).abs() < 5e-5 && (at(2.63) - 0.1615).abs() < 5e-5);
    }

    #[test]
    fn ratios_are_short() {
        assert_eq!(ratio(4.0, 0.125), "2.00");
        assert_eq!(ratio(32.0, 0.0), "–");
        assert_eq!(ratio(4.0, f64::NAN), "–");
        assert_eq!(ratio(10.0, 1.0), "1024");
    }

    #[test]
    fn the_line_spans_the_points() {
        let line = series([(2.0, 0.3), (4.0, 0.1), (f64::NAN, 1.0), (9.0, f64::INFINITY)].into_iter());
        assert_eq!(line.points, [(2.0, 0.25), (4.0, 0.0625)]);
        assert_eq!(series([(4.5, 0.1)].into_iter()).points, [(4.0, 0.0625), (5.0, 0.03125)]);
        assert!(series(std::iter::empty()).points.is_empty());
    }
}
