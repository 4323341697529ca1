//! What the modules share.

use proptest::prelude::*;
use rankbit_kit::strategy::Matrix;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{Code, FloatFormat, Group, Quantized, Rounded, Rounder, Scheme, quantize, scheme};

/// A view of a row-major matrix.
pub(crate) fn view(matrix: &Matrix) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(&matrix.values, matrix.rows, matrix.cols)
}

/// Every named scheme, with groups and scale formats of every kind.
pub(crate) fn schemes() -> impl Strategy<Value = Scheme> {
    let group = prop_oneof![
        (1_u32..80).prop_map(Group::Size),
        Just(Group::Size(64)),
        Just(Group::Row),
        Just(Group::Tensor)
    ];
    let format = prop_oneof![Just(FloatFormat::F32), Just(FloatFormat::F16), Just(FloatFormat::Bf16)];
    (0..scheme::NAMED.len(), group, format)
        .prop_map(|(i, group, format)| scheme::NAMED[i].1.with_group(group).with_scale_format(format))
}

/// Quantizes a matrix that is known to be valid.
pub(crate) fn nearest(weight: MatRef<'_, f32>, scheme: &Scheme) -> Rounded {
    quantize(weight, scheme, Rounder::Nearest).expect("a finite matrix and a valid scheme")
}

/// Half of the widest gap between neighbouring values of a code, in units of the scale.
pub(crate) fn half_gap(code: Code) -> f64 {
    match code {
        Code::Int { .. } => 0.5,
        Code::Table(table) => {
            table.values().windows(2).map(|w| f64::from(w[1]) - f64::from(w[0])).fold(0.0, f64::max) / 2.0
        }
    }
}

/// Decoded row `row`.
pub(crate) fn row(quantized: &Quantized, row: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; quantized.shape().1];
    quantized.row_into(row, &mut out).expect("a row that exists");
    out
}
