//! What the modules share.

use proptest::prelude::*;
use rankbit_kit::strategy::Matrix;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{
    Code, FloatFormat, Group, Quantized, Rounded, Rounder, ScaleRule, Scheme, ZeroPoint, quantize, scheme,
};
use serde_json::Value;

/// A view of a row-major matrix.
pub(crate) fn view(matrix: &Matrix) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(&matrix.values, matrix.rows, matrix.cols)
}

/// The named schemes whose groups and scales may be any.
pub(crate) fn free() -> Vec<(&'static str, Scheme)> {
    scheme::NAMED.into_iter().filter(|(_, scheme)| !scheme.owns_scales()).collect()
}

/// The named schemes with blocks of their own.
pub(crate) fn blocks() -> Vec<(&'static str, Scheme)> {
    scheme::NAMED.into_iter().filter(|(_, scheme)| scheme.block_len().is_some()).collect()
}

/// Whether a scheme clips nothing and holds zero: not where the scale is of least squared error, the stored scale may be
/// smaller by a part of a step, or zero is between two levels.
pub(crate) fn spans(scheme: &Scheme) -> bool {
    scheme.scale_rule != ScaleRule::LeastSquares
        && scheme.nested.is_none()
        && matches!(scheme.zero, ZeroPoint::None | ZeroPoint::Integer)
}

/// Those of [`free`] that [clip nothing and hold zero](spans).
pub(crate) fn full_range() -> impl Strategy<Value = Scheme> {
    schemes().prop_filter("it clips", spans)
}

/// Every scheme of [`free`], with groups and scale formats of every kind.
pub(crate) fn schemes() -> impl Strategy<Value = Scheme> {
    let group = prop_oneof![
        (1_u32..80).prop_map(Group::Size),
        Just(Group::Size(64)),
        Just(Group::Row),
        Just(Group::Tensor),
        (1_u32..5, 1_u32..40).prop_map(|(rows, cols)| Group::Block { rows, cols }),
    ];
    let format = prop_oneof![Just(FloatFormat::F32), Just(FloatFormat::F16), Just(FloatFormat::Bf16)];
    (prop::sample::select(free()), group, format)
        .prop_map(|((_, scheme), group, format)| scheme.with_group(group).with_scale_format(format))
}

/// Quantizes a matrix that is known to be valid.
pub(crate) fn nearest(weight: MatRef<'_, f32>, scheme: &Scheme) -> Rounded {
    quantize(weight, scheme, Rounder::Nearest).expect("a finite matrix and a valid scheme")
}

/// Half of the widest gap between neighbouring values of a code, in units of the scale.
pub(crate) fn half_gap(code: Code) -> f64 {
    let mut values = values(code);
    values.sort_by(f32::total_cmp);
    values.windows(2).map(|w| f64::from(w[1]) - f64::from(w[0])).fold(0.0, f64::max) / 2.0
}

/// The numbers of a code, by code.
pub(crate) fn values(code: Code) -> Vec<f32> {
    let codes = 0..1_u16 << code.bits();
    codes.map(|c| code.value(u8::try_from(c).unwrap())).filter(|v| v.is_finite()).collect()
}

/// Decoded row `row`.
pub(crate) fn row(quantized: &Quantized, row: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; quantized.shape().1];
    quantized.row_into(row, &mut out).expect("a row that exists");
    out
}

/// Bytes of a hexadecimal string.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// f32 values of a hexadecimal string.
pub(crate) fn floats(value: &Value) -> Vec<f32> {
    bytes(value).chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// FNV-1a of 64 bits, as the scripts write it.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    format!("{:016x}", bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, step))
}
