//! What an engine needs of rankbit-quant, and all that is left of it without the feature `solve`: formats, storage,
//! rounding to nearest and decoding, products over slices.

use alloc::{vec, vec::Vec};
use rankbit_quant::{Error, Floats, Quantized, ScaleRule, Scales, Scheme, matmul, nearest, scheme};

/// Waves of unequal length, which no format finds easy.
fn wave(len: usize, step: u16) -> Vec<f32> {
    (0_u16..).take(len).map(|i| f32::from(i.wrapping_mul(step) % 251) / 125.0 - 1.0).collect()
}

/// The product from packed codes is that of the decoded rows, for every format; storage survives its parts; bad
/// input is refused. `None` when anything is not as it must be.
pub fn run() -> Option<()> {
    let (out, features, tokens) = (6, 512, 3);
    let (w, x) = (wave(out * features, 37), wave(tokens * features, 101));
    for (_, scheme) in scheme::NAMED {
        let stored = match nearest::quantize_rows(&w, (out, features), &scheme) {
            Ok(rounded) => through_parts(rounded.quantized, scheme)?,
            // Without linear algebra such a format can be read and multiplied with, but nobody searches its scales.
            Err(Error::InvalidScheme { .. }) if scheme.scale_rule == ScaleRule::Search => continue,
            Err(_) => return None,
        };
        let mut dense = vec![0.0; out * features];
        stored.dequantize_into(&mut dense).ok()?;
        let mut y = vec![0.0; tokens * out];
        matmul::apply_rows_into(&stored, &x, tokens, &mut y).ok()?;
        for (x, y) in x.chunks_exact(features).zip(y.chunks_exact(out)) {
            for (row, &found) in dense.chunks_exact(features).zip(y) {
                let expected: f32 = row.iter().zip(x).map(|(a, b)| a * b).sum();
                if !((found - expected).abs() < 1e-2) {
                    return None;
                }
            }
        }
    }
    let refused = nearest::quantize_rows(&[f32::NAN], (1, 1), &scheme::INT4);
    matches!(refused, Err(Error::NonFinite { row: 0, col: 0 })).then_some(())
}

fn through_parts(stored: Quantized, scheme: Scheme) -> Option<Quantized> {
    let (format, floats) = (stored.scales().format(), stored.scales().floats());
    let floats = Floats::from_bytes(&floats.to_bytes(), format, floats.len(), "scales").ok()?;
    let scales = match (stored.scales().global_scale(), scheme.nested) {
        (Some(global), _) => floats.with_global_scale(global).ok()?.into(),
        (None, None) => floats.into(),
        (None, Some(nested)) => {
            let shape = stored.grouping().scale_shape(stored.shape().0);
            let codes = stored.scales().packed_codes().to_vec();
            Scales::nested(nested, shape, codes, floats, stored.scales().offset().unwrap_or(0.0)).ok()?
        }
    };
    let scheme = scheme.with_scale_format(format);
    let again = Quantized::from_parts(
        stored.shape(),
        scheme,
        stored.codes().to_vec(),
        scales,
        stored.zeros().to_vec(),
    );
    (again.ok()? == stored).then_some(stored)
}
