//! The block layouts of GGUF: byte for byte with ggml through libgguf (`scripts/oracle/quant_gguf.py`).

use crate::common::{bytes, floats, fnv, nearest, row, view};
use proptest::prelude::*;
use rankbit_kit::strategy::even_matrix;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{
    Block, Error, FloatFormat, Floats, Quantized, Rounder, Scheme, matmul, quantize, scheme,
};
use serde_json::Value;

fn raw(scheme: &Scheme, shape: (usize, usize), bytes: Vec<u8>) -> Result<Quantized, Error> {
    Quantized::from_parts(shape, *scheme, bytes, Floats::with_capacity(FloatFormat::F16, 0), Vec::new())
}

fn hash(values: Vec<f32>) -> String {
    fnv(values.into_iter().flat_map(|v| (v + 0.0).to_le_bytes()))
}

#[test]
fn bytes_and_values_as_in_ggml() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/quant-gguf.json")).unwrap();
    let size = |key: &str| usize::try_from(kept[key].as_u64().unwrap()).unwrap();
    let (rows, cols) = (size("rows"), size("cols"));
    let input = floats(&kept["input"]);
    let formats = kept["formats"].as_object().unwrap();
    assert_eq!(formats.len(), Block::ALL.len());
    let mut wrong = Vec::new();
    for (name, expected) in formats {
        let scheme = Scheme::named(name).unwrap();
        let theirs = raw(&scheme, (rows, cols), bytes(&expected["bytes"])).unwrap();
        let foreign = raw(&scheme, (3, cols), bytes(&expected["foreign"])).unwrap();
        for (q, key, rows) in [(&theirs, "decoded", rows), (&foreign, "foreign_decoded", 3)] {
            for i in 0..rows {
                if hash(row(q, i)) != expected[key][i].as_str().unwrap() {
                    wrong.push(format!("{name}: {key} of row {i}"));
                }
            }
        }
        let ours = nearest(MatRef::from_row_major_slice(&input, rows, cols), &scheme).quantized;
        for i in 0..rows {
            let differ =
                ours.row_codes(i).iter().zip(theirs.row_codes(i)).enumerate().filter(|(_, (a, b))| a != b);
            let differ: Vec<usize> = differ.map(|(at, _)| at).collect();
            if !differ.is_empty() {
                wrong.push(format!("{name}: {} bytes of row {i}, first {}", differ.len(), differ[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sizes() {
    for block in Block::ALL {
        let scheme = block.scheme();
        let len = usize::try_from(block.len()).unwrap();
        let q = nearest(Mat::<f32>::full(3, 2 * len, 0.5).as_ref(), &scheme).quantized;
        assert_eq!(q.codes().len(), 6 * block.bytes());
        assert_eq!(q.stored_bits(), 48 * block.bytes() as u64);
        assert!(q.scales().is_empty() && q.zeros().is_empty());
    }
    let bits = |scheme: Scheme| {
        let q = nearest(Mat::<f32>::zeros(1, 256).as_ref(), &scheme).quantized;
        q.stored_bits() as f64 / 256.0
    };
    assert_eq!(
        [scheme::Q4_0, scheme::Q4_1, scheme::Q5_0, scheme::Q5_1, scheme::Q8_0].map(bits),
        [4.5, 5.0, 5.5, 6.0, 8.5]
    );
    let k = [scheme::Q2_K, scheme::Q3_K, scheme::Q4_K, scheme::Q5_K, scheme::Q6_K];
    assert_eq!(k.map(bits), [2.625, 3.4375, 4.5, 5.5, 6.5625]);
}

/// Scales that are no numbers, wrong lengths, and weights that f16 scales do not reach.
#[test]
fn hostile_blocks() {
    for block in Block::ALL {
        let (scheme, len) = (block.scheme(), usize::try_from(block.len()).unwrap());
        let good = nearest(Mat::<f32>::full(2, len, 0.5).as_ref(), &scheme).quantized.codes().to_vec();
        assert!(raw(&scheme, (2, len), good.clone()).is_ok());
        for short in [0, 1, good.len() - 1] {
            let found = raw(&scheme, (2, len), good[..short].to_vec());
            assert!(matches!(found, Err(Error::PartLength { part: "codes", .. })), "{block:?}");
        }
        // All ones are NaN wherever an f16 stands.
        let mut bad = good.clone();
        bad[block.bytes()..].fill(0xFF);
        let found = raw(&scheme, (2, len), bad);
        assert_eq!(found, Err(Error::StoredNonFinite { what: "block scales", index: 1 }), "{block:?}");
        let mut huge = Mat::<f32>::zeros(2, 2 * len);
        huge[(1, len)] = 1e38;
        huge[(1, len + 1)] = -1e38;
        let found = quantize(huge.as_ref(), &scheme, Rounder::Nearest);
        assert_eq!(found, Err(Error::BlockOverflow { row: 1, col: len }), "{block:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Within half a step of the range, plus what few-bit scales take; products and rows agree.
    #[test]
    fn blocks_keep_their_bound(m in even_matrix(1..=3, 256..=256), block in prop::sample::select(Block::ALL.to_vec())) {
        let scheme = block.scheme();
        let q = nearest(view(&m), &scheme).quantized;
        let levels = match block {
            Block::Q8_0 => 254.0,
            Block::Q6K => 31.0,
            Block::Q5_0 | Block::Q5_1 | Block::Q5K => 15.0,
            Block::Q4_0 | Block::Q4_1 | Block::Q4K | Block::Iq4Nl => 7.0,
            _ => 1.5,
        };
        let x = Mat::from_fn(1, m.cols, |_, j| if j == 77 { 1.0 } else { 0.0 });
        let y = matmul::apply(&q, x.as_ref()).unwrap();
        let len = q.grouping().size;
        for i in 0..m.rows {
            let decoded = row(&q, i);
            prop_assert_eq!(y[(0, i)], decoded[77]);
            let weights = &m.values[i * m.cols..(i + 1) * m.cols];
            for (decoded, weights) in decoded.chunks(len).zip(weights.chunks(len)) {
                let absmax = weights.iter().fold(0.0_f32, |a, v| a.max(v.abs()));
                // A 2⁻¹⁰ for the f16 scale, and what f16 cannot hold at all.
                let bound = absmax * (1.05 / levels + 1.0 / 1024.0) + 1e-5;
                for (value, weight) in decoded.iter().zip(weights) {
                    prop_assert!((value - weight).abs() <= bound, "{block:?}: {value} for {weight}");
                }
            }
        }
    }

    /// Any bytes with sane scales decode to finite numbers; any others are refused.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 210), block in prop::sample::select(Block::ALL.to_vec())) {
        let len = usize::try_from(block.len()).unwrap();
        match raw(&block.scheme(), (1, len), bytes[..block.bytes()].to_vec()) {
            Ok(q) => prop_assert!(row(&q, 0).iter().all(|v| v.is_finite())),
            Err(Error::StoredNonFinite { .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
