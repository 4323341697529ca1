//! Hostile storage: whatever the bytes, headers and sizes, a split is refused or it works. See `rankbit_kit::fuzz`.

use rankbit_kit::fuzz::{Source, run};
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::split::file::{
    self, Header, KeptValues, PartType, PartView, RotationHeader, SparseHeader, SparseLayout,
};
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::simd::Level;
use rankbit_quant::transform::{Hadamard, Permutation, Smooth, Transform};
use rankbit_quant::{
    Block, Code, ColumnParts, FloatFormat, Floats, Group, Lattice, Layout, MiniFloat, Outliers, PowerRule,
    Quantized, Rate, Rounder, ScaleRule, Scheme, Table, Trellis, ZeroPoint, matmul, nearest, part_lengths,
    scheme,
};
use rankbit_sparse::{NmPattern, Pattern, Scope, SparseMatrix, ValueFormat, criterion, select};

/// More bytes than this are not worth a case's time.
const MOST: usize = 1 << 18;

fn format(source: &mut Source) -> FloatFormat {
    source.pick(&[
        FloatFormat::F32,
        FloatFormat::F16,
        FloatFormat::Bf16,
        FloatFormat::E8m0,
        FloatFormat::E4m3,
    ])
}

/// A named scheme, or one with fields that need not fit together.
fn any_scheme(source: &mut Source) -> Scheme {
    let (_, mut scheme) = source.pick(&scheme::NAMED);
    if source.one_in(2) {
        return scheme;
    }
    for _ in 0..=source.below(3) {
        match source.below(6) {
            0 => {
                scheme.code = match source.below(4) {
                    0 => Code::Int {
                        bits: source.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255]),
                        signed: source.one_in(2),
                    },
                    1 => Code::Table(source.pick(&[
                        Table::Nf2,
                        Table::Nf3,
                        Table::Nf4,
                        Table::BnbFp4,
                        Table::Iq4Nl,
                        Table::Sign,
                    ])),
                    2 => Code::MiniFloat(source.pick(&MiniFloat::ALL)),
                    _ => Code::Fixed,
                }
            }
            1 => {
                scheme.group = match source.below(4) {
                    0 => Group::Row,
                    1 => Group::Tensor,
                    2 => Group::Size(source.pick(&[0, 1, 16, 32, 64, 256, u32::MAX])),
                    _ => Group::Size(u32::try_from(source.below(100)).unwrap_or(1)),
                }
            }
            2 => {
                scheme.scale_rule = source.pick(&[
                    ScaleRule::Absmax,
                    ScaleRule::Range,
                    ScaleRule::Power(PowerRule::Floor),
                    ScaleRule::Power(PowerRule::Even),
                    ScaleRule::Power(PowerRule::Ceil),
                    ScaleRule::LeastSquares,
                    ScaleRule::Block,
                ]);
            }
            3 => scheme.scale_format = format(source),
            4 => scheme.zero = source.pick(&[ZeroPoint::None, ZeroPoint::Integer, ZeroPoint::Min]),
            _ => {
                scheme.layout = match source.below(3) {
                    0 => Layout::Planar,
                    _ => Layout::Block(source.pick(&Block::ALL)),
                }
            }
        }
    }
    scheme
}

fn any_shape(source: &mut Source) -> (usize, usize) {
    let cols = if source.one_in(2) { 32 * source.below(20) } else { source.size() };
    (if source.one_in(2) { source.below(6) } else { source.size() }, cols)
}

/// Bytes of `len` floats of a format: all sensible, or any.
fn float_bytes(source: &mut Source, format: FloatFormat, len: usize) -> Vec<u8> {
    if source.one_in(3) {
        return source.bytes(len * format.bytes());
    }
    let values: Vec<f32> = (0..len).map(|_| source.float().abs().min(100.0)).collect();
    Floats::encode(&values, format).to_bytes()
}

fn damaged(source: &mut Source, mut bytes: Vec<u8>) -> Vec<u8> {
    if source.one_in(6) {
        source.damage(&mut bytes);
    }
    bytes
}

/// Everything that reading does, at every level of instructions: no panic, the same bits.
fn exercise(stored: &Quantized, source: &mut Source) {
    let (out, features) = stored.shape();
    assert!(stored.stored_bits() / 8 >= stored.codes().len() as u64);
    if out.max(features) > MOST {
        // Without rows there may be any number of columns, and the other way round.
        assert_eq!(stored.dequantize_into(&mut []).is_ok(), out == 0 || features == 0);
        return;
    }
    let tokens = source.below(4);
    let x: Vec<f32> = (0..tokens * features).map(|_| source.float()).collect();
    // The payload of a NaN is nobody's business.
    let bits = |v: f32| if v.is_nan() { u32::MAX } else { v.to_bits() };
    let read = || {
        let mut dense = vec![0.0; out * features];
        stored.dequantize_into(&mut dense).expect("its own shape");
        let mut row = vec![0.0; features];
        for (i, expected) in dense.chunks_exact(features.max(1)).enumerate() {
            stored.row_into(i, &mut row).expect("a row that exists");
            let other = row.iter().zip(expected).position(|(a, b)| bits(*a) != bits(*b));
            let values = other.map(|j| (j, row[j], expected[j]));
            assert_eq!(values, None, "row {i} of {:?} {:?}", stored.shape(), stored.scheme());
        }
        assert!(stored.row_into(out, &mut row).is_err());
        let mut y = vec![0.0; tokens * out];
        matmul::apply_rows_into(stored, &x, tokens, &mut y).expect("matching shapes");
        dense.into_iter().chain(y).map(bits).collect::<Vec<u32>>()
    };
    let expected = Level::Portable.run(read);
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        assert_eq!(level.run(read), expected, "{level:?}");
    }
}

/// Parts of about the right sizes.
fn any_quantized(source: &mut Source) -> Option<Quantized> {
    let (scheme, shape) = (any_scheme(source), any_shape(source));
    let lengths = part_lengths(shape, &scheme).ok()?;
    if lengths.codes.max(lengths.zeros).max(lengths.scales.saturating_mul(4)) > MOST {
        // Too large to try, but not too large to be claimed.
        let claimed = Quantized::from_parts(shape, scheme, Vec::new(), Floats::F32(Vec::new()), Vec::new());
        assert!(claimed.is_err());
        return None;
    }
    let format = if source.one_in(16) { format(source) } else { scheme.scale_format };
    let scales = float_bytes(source, format, lengths.scales);
    let scales = damaged(source, scales);
    let mut scales = Floats::from_bytes(&scales, format, lengths.scales, "scales").ok()?;
    if source.one_in(2) {
        scales = scales.with_global_scale(source.float()).ok()?;
    }
    let (codes, zeros) = (source.bytes(lengths.codes), source.bytes(lengths.zeros));
    let (codes, zeros) = (damaged(source, codes), damaged(source, zeros));
    Quantized::from_parts(shape, scheme, codes, scales, zeros).ok()
}

/// A scheme of vector codes, mostly one that there is.
fn vector_scheme(source: &mut Source) -> Scheme {
    let mut scheme = scheme::TRELLIS2;
    let some = source.pick(&[7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 255]);
    let window = if source.one_in(4) { some } else { source.pick(&[8, 10, 12, 16]) };
    let rate = match source.below(3) {
        0 => Rate::Uniform(source.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255])),
        1 => Rate::Uniform(source.pick(&[1, 2, 3, 4, 8])),
        _ => Rate::budget(f64::from(source.float().abs().min(10.0))),
    };
    scheme.code = match source.below(2) {
        0 => Code::Trellis(Trellis { window, rate }),
        _ => Code::Lattice(source.pick(&[Lattice::E8p, Lattice::E8p3, Lattice::E8p4])),
    };
    if source.one_in(2) {
        scheme.scale_format = format(source);
    }
    scheme
}

/// Parts of a matrix of vector codes: packed states, rates, scales and outliers of any bytes, in about the right sizes.
fn any_vector_codes(source: &mut Source) -> Option<Quantized> {
    let (scheme, shape) = (vector_scheme(source), any_shape(source));
    let (rows, cols) = shape;
    if rows.max(cols) > MOST || rows * cols > MOST {
        // Too large to try, but not too large to be claimed.
        assert!(
            ColumnParts::new(shape, &scheme, Vec::new(), Vec::new(), Outliers::none(scheme.scale_format))
                .and_then(|columns| {
                    let none = Floats::with_capacity(scheme.scale_format, 0);
                    Quantized::from_vector_parts(shape, scheme, Vec::new(), none, columns)
                })
                .is_err()
                || rows == 0
                || cols == 0
        );
        return None;
    }
    let scales = source.bytes(cols);
    let scales = damaged(source, scales);
    let rates = match scheme.code {
        Code::Trellis(Trellis { rate: Rate::Budget(_), .. }) => {
            // Now and then one that does not exist.
            let most = if source.one_in(8) { 256 } else { 9 };
            source
                .bytes(cols)
                .iter()
                .map(|byte| u8::try_from(usize::from(*byte) % most).unwrap_or(0))
                .collect()
        }
        _ => Vec::new(),
    };
    let count = source.below(5);
    let mut positions: Vec<u32> =
        (0..count).map(|_| u32::try_from(source.below(rows * cols + 1)).unwrap_or(u32::MAX)).collect();
    if !source.one_in(4) {
        positions.sort_unstable();
        positions.dedup();
    }
    let values = if source.one_in(8) { source.below(5) } else { positions.len() };
    let values = float_bytes(source, scheme.scale_format, values);
    let len = values.len() / scheme.scale_format.bytes();
    let values = Floats::from_bytes(&values, scheme.scale_format, len, "outlier_values").ok()?;
    let outliers = Outliers::new(positions, values).ok()?;
    let columns = ColumnParts::new(shape, &scheme, scales, rates, outliers).ok()?;
    let codes = match scheme.code {
        Code::Trellis(_) => columns.stream_bytes(),
        _ => part_lengths(shape, &scheme).ok()?.codes,
    };
    let codes = source.bytes(codes);
    let codes = damaged(source, codes);
    let scales = float_bytes(source, scheme.scale_format, rows);
    let scales = Floats::from_bytes(&scales, scheme.scale_format, rows, "scales").ok()?;
    Quantized::from_vector_parts(shape, scheme, codes, scales, columns).ok()
}

#[test]
fn fuzz_vector_codes() {
    run("fuzz_vector_codes", 3000, |source| {
        if let Some(stored) = any_vector_codes(source) {
            exercise(&stored, source);
        }
    });
}

#[test]
fn fuzz_parts() {
    run("fuzz_parts", 3000, |source| {
        if let Some(stored) = any_quantized(source) {
            exercise(&stored, source);
        }
    });
}

#[test]
fn fuzz_values() {
    run("fuzz_values", 3000, |source| {
        let (scheme, shape) = (any_scheme(source), any_shape(source));
        let count = shape.0.saturating_mul(shape.1);
        if count > 1 << 14 {
            assert!(nearest::quantize_rows(&[1.0; 3], shape, &scheme).is_err());
            return;
        }
        let values: Vec<f32> = (0..count).map(|_| source.float()).collect();
        let quantize = || nearest::quantize_rows(&values, shape, &scheme);
        let expected = Level::Portable.run(quantize).expect("everywhere");
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            assert_eq!(level.run(quantize).as_ref(), Some(&expected), "{level:?} {scheme:?} {shape:?}");
        }
        if let Ok(rounded) = expected {
            exercise(&rounded.quantized, source);
        }
    });
}

/// A change of basis of random parts.
fn any_transform(source: &mut Source, cols: usize) -> Option<Transform> {
    let formats = [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16];
    let smooth = match source.one_in(2) {
        true => Some(Smooth::new(Floats::encode(&vec![0.5; cols], source.pick(&formats))).ok()?),
        false => None,
    };
    let permutation = match source.one_in(2) {
        true => {
            let weights: Vec<f64> = (0..cols).map(|_| f64::from(source.float().clamp(-2.0, 2.0))).collect();
            Permutation::falling(&weights).ok()
        }
        false => None,
    };
    let rotation = match source.below(3) {
        0 => None,
        1 => Some(Hadamard::new(cols)),
        _ => Some(Hadamard::new(cols).with_signs(source.below(100) as u64)),
    };
    Transform::new(cols, smooth, permutation, rotation).ok()
}

/// A sparse term of any storage.
fn any_sparse(source: &mut Source, shape: (usize, usize)) -> Option<SparseMatrix> {
    let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| source.float().clamp(-2.0, 2.0)).collect();
    let weight = Mat::from_fn(shape.0, shape.1, |i, j| values[i * shape.1 + j]);
    let density = f64::from(source.byte()) / 255.0;
    let pattern = match source.below(3) {
        0 => Pattern::Nm(any_pattern(source)),
        1 => Pattern::Block { rows: 1 + source.below(4), cols: 1 + source.below(40), density },
        _ => Pattern::Unstructured { density, scope: Scope::Matrix },
    };
    let format = if source.one_in(2) {
        ValueFormat::Float(source.pick(&[FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16]))
    } else {
        ValueFormat::Scheme(any_scheme(source), Rounder::Nearest)
    };
    let mask = select(criterion::magnitude(weight.as_ref()).ok()?.as_ref(), &pattern).ok()?;
    Some(SparseMatrix::new(weight.as_ref(), &mask, &pattern, &format).ok()?.0)
}

fn any_pattern(source: &mut Source) -> NmPattern {
    let of = source.pick(&[2_u32, 4, 8, 16, 32]);
    NmPattern::new(u32::try_from(source.below(3)).unwrap_or(0) + 1, of).unwrap_or(NmPattern::TWO_OF_FOUR)
}

/// A header of a sparse term that need not fit anything.
fn any_sparse_header(source: &mut Source) -> SparseHeader {
    let layout = match source.below(2) {
        0 => SparseLayout::Nm(any_pattern(source)),
        _ => SparseLayout::Block { rows: source.size(), cols: source.size(), count: source.size() },
    };
    let values = match source.below(2) {
        0 => KeptValues::Float(format(source)),
        _ => KeptValues::Scheme(any_scheme(source)),
    };
    SparseHeader { layout, values }
}

/// A split that works, of random terms.
fn any_split(source: &mut Source) -> Option<Split> {
    let (rows, cols) = (1 + source.below(6), 32 * (1 + source.below(9)));
    let values: Vec<f32> = (0..rows * cols).map(|_| source.float().clamp(-2.0, 2.0)).collect();
    let base = if source.one_in(4) {
        None
    } else {
        let scheme = if source.one_in(3) { vector_scheme(source) } else { any_scheme(source) };
        Some(nearest::quantize_rows(&values, (rows, cols), &scheme).ok()?.quantized)
    };
    let factors = source.pick(&[FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16]);
    let transform = if base.is_some() && source.one_in(2) { any_transform(source, cols) } else { None };
    let rank = source.below(4);
    let low_rank = if base.is_none() || source.one_in(2) {
        let mut factor = |shape: (usize, usize)| {
            let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| source.float().clamp(-2.0, 2.0)).collect();
            Factor::new(shape, Floats::encode(&values, factors)).ok()
        };
        Some(LowRank::new(factor((rows, rank))?, factor((rank, cols))?).ok()?)
    } else {
        None
    };
    let sparse = if source.one_in(2) { any_sparse(source, (rows, cols)) } else { None };
    Split::new((rows, cols), transform, base, low_rank).ok()?.with_sparse(sparse).ok()
}

#[test]
fn fuzz_split_files() {
    run("fuzz_split_files", 2000, |source| {
        let Some(split) = any_split(source) else { return };
        let (header, mut parts) = file::write(&split);
        let mut json = header.to_json().expect("a plain value").into_bytes();
        if source.one_in(2) {
            source.damage(&mut json);
        }
        let Ok(mut header) = Header::from_json(&String::from_utf8_lossy(&json)) else { return };
        match source.below(9) {
            0 => header.scheme = Some(any_scheme(source)),
            8 => {
                header.sparse = match header.sparse {
                    Some(_) if source.one_in(3) => None,
                    Some(SparseHeader { values, .. }) if source.one_in(2) => {
                        Some(SparseHeader { values, ..any_sparse_header(source) })
                    }
                    _ => Some(any_sparse_header(source)),
                }
            }
            1 => header.shape = [source.size(), source.size()],
            2 => match source.below(3) {
                0 => header.smooth = Some(format(source)),
                1 => {
                    header.permuted = !header.permuted;
                    header.bias = !header.bias;
                }
                _ => header.rotation = Some(RotationHeader { block: source.size(), seed: Some(0) }),
            },
            3 => {
                if let Some(low_rank) = &mut header.low_rank {
                    low_rank.rank = source.size();
                    low_rank.left = format(source).into();
                    if source.one_in(2) {
                        low_rank.right = rankbit_lowrank::FactorFormat::Int4;
                    }
                }
            }
            _ => {}
        }
        for part in &mut parts {
            match source.below(16) {
                0 => source.damage(&mut part.bytes),
                1 => part.bytes = source.bytes(part.bytes.len()),
                2 => part.shape.push(source.size()),
                3 => part.shape.iter_mut().for_each(|side| *side = source.size()),
                4 => part.element = PartType::Float(format(source)),
                5 => part.name = source.pick(&file::PART_NAMES),
                _ => {}
            }
        }
        let read = file::read(&header, |name| {
            let part = parts.iter().find(|part| part.name == name)?;
            Some(PartView { element: part.element, shape: &part.shape, bytes: &part.bytes })
        });
        let Ok(split) = read else { return };
        let (rows, cols) = split.shape();
        let x = Mat::from_fn(2, cols, |_, _| source.float());
        assert_eq!(split.apply(x.as_ref()).expect("matching shapes").shape(), (2, rows));
        assert_eq!(split.reconstruct().shape(), (rows, cols));
        let (header, parts) = file::write(&split);
        let again = file::read(&header, |name| {
            let part = parts.iter().find(|part| part.name == name)?;
            Some(PartView { element: part.element, shape: &part.shape, bytes: &part.bytes })
        });
        assert_eq!(again.as_ref(), Ok(&split), "what was read can be written and read");
    });
}
